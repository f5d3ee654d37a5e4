//! The fields `cors` and `ws_token`: which pages in browsers may read a plugin's answers.
//!
//! In: the fields of a file. Out: a [`Cors`] whose headers are written once, when the file loads,
//! or faults. What becomes of a request or an answer is decided in `crate::cors`.

use gapura_settings::json::Fields;
use http::{HeaderName, HeaderValue};

use super::access::unknown_method;
use super::fields::{CORS, CORS_LIST_MAX, MAX_AGE_MAX, names};
use super::origin::OriginSet;

/// Which pages may read a plugin's answers, and what they may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cors {
    /// Whose pages.
    pub origins: OriginSet,
    /// Whether a browser may send its own credentials along.
    pub credentials: bool,
    /// The methods of a preflight's answer.
    pub methods: HeaderValue,
    /// The request headers of a preflight's answer.
    pub headers: HeaderValue,
    /// What scripts may read of an answer; `None` for nothing beyond what they always may.
    pub expose: Option<HeaderValue>,
    /// How long a browser may remember a preflight.
    pub max_age: HeaderValue,
}

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

const HEADERS: &str = "Authorization, Content-Type, X-Request-Id";

/// `RateLimit*` written out: the browser's list knows no beginnings of names.
const EXPOSE: &str = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset";

impl Cors {
    /// Reads the field `cors`.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let node = fields.node("cors")?;
        let mut fields = Fields::open(node, "cors", &names(CORS), fields.faults())?;
        fields.require("origins");
        let credentials = fields.flag("credentials").unwrap_or(false);
        let origins = read_origins(&mut fields, "origins", true);
        if credentials && origins.as_ref().is_some_and(OriginSet::is_any) {
            fields.fault(
                "credentials",
                "can't be true where origins hold \"*\": any page could act as its visitor; name the origins",
            );
        }
        let methods = read_names(&mut fields, "methods", METHODS, unknown_method);
        let headers = read_names(&mut fields, "headers", HEADERS, wrong_header);
        let expose = if fields.list("expose").is_some_and(<[_]>::is_empty) {
            None
        } else {
            Some(read_names(&mut fields, "expose", EXPOSE, wrong_header))
        };
        let max_age = fields.whole("max_age_s", 0..=MAX_AGE_MAX).unwrap_or(600);
        Some(Self {
            origins: origins?,
            credentials,
            methods: methods?,
            headers: headers?,
            expose: match expose {
                None => None,
                Some(expose) => Some(expose?),
            },
            max_age: HeaderValue::from(max_age),
        })
    }

    /// What this lets pages do that `before` did not, in a clause.
    pub(super) fn weaker_than(now: Option<&Self>, before: Option<&Self>) -> Option<&'static str> {
        let now = now?;
        let Some(before) = before else {
            return Some("cors is new: pages of other origins may read its answers now");
        };
        let has_more = |now: &HeaderValue, before: &HeaderValue| {
            let list = |value: &HeaderValue| -> Vec<Box<[u8]>> {
                let parts = value.as_bytes().split(|byte| *byte == b',');
                parts
                    .map(|part| part.trim_ascii().to_ascii_lowercase().into())
                    .collect()
            };
            let before = list(before);
            list(now).iter().any(|part| !before.contains(part))
        };
        let is_wider = !before.origins.covers(&now.origins)
            || (now.credentials && !before.credentials)
            || has_more(&now.methods, &before.methods)
            || has_more(&now.headers, &before.headers);
        is_wider.then_some("cors became wider: pages may do what they could not")
    }
}

/// Reads a list of origins that must hold something; `None` where it is not there or something is
/// wrong.
pub(crate) fn read_origins(
    fields: &mut Fields<'_, '_>,
    name: &str,
    any: bool,
) -> Option<OriginSet> {
    if fields.list(name)?.is_empty() {
        fields.fault(
            name,
            "is an empty list, which would take no page; fill it, or leave the field out",
        );
        return None;
    }
    let texts = fields.texts(name);
    match OriginSet::read(texts, any) {
        Ok(origins) => Some(origins),
        Err(faults) => {
            for (position, message) in faults {
                fields.fault_at(position, name, message);
            }
            None
        }
    }
}

/// A list of names as the value of a header, each judged by `wrong`.
fn read_names(
    fields: &mut Fields<'_, '_>,
    name: &str,
    default: &'static str,
    wrong: fn(&str) -> Option<String>,
) -> Option<HeaderValue> {
    if fields.node(name).is_none() {
        return Some(HeaderValue::from_static(default));
    }
    let list = fields.list(name)?;
    if list.is_empty() || list.len() > CORS_LIST_MAX {
        let message = if list.is_empty() {
            format!(
                "is an empty list, which would allow nothing; fill it, or leave it out for {default}"
            )
        } else {
            format!("holds more than {CORS_LIST_MAX} names")
        };
        fields.fault(name, message);
        return None;
    }
    let before = fields.faults().len();
    let texts = fields.texts(name);
    for (text, position) in &texts {
        if let Some(message) = wrong(text) {
            fields.fault_at(*position, name, message);
        }
    }
    if fields.faults().len() > before {
        return None;
    }
    let joined: Vec<&str> = texts.iter().map(|(text, _)| *text).collect();
    HeaderValue::from_str(&joined.join(", ")).ok()
}

fn wrong_header(text: &str) -> Option<String> {
    if text == "*" {
        return Some(
            "can't hold \"*\": browsers would still leave Authorization out; name the headers"
                .to_owned(),
        );
    }
    let is_name = HeaderName::from_bytes(text.as_bytes()).is_ok() && text.len() <= 128;
    (!is_name).then(|| "holds what is no header's name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Cors, Vec<String>> {
        let mut faults = Vec::new();
        let text = format!("{{\"cors\": {json}}}");
        let node = gapura_settings::json::parse(text.as_bytes(), &mut faults).unwrap();
        let cors = Cors::read(&mut Fields::open(&node, "", &["cors"], &mut faults).unwrap());
        if faults.is_empty() {
            Ok(cors.unwrap())
        } else {
            Err(faults.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn origins_alone_are_enough() {
        let cors = read(r#"{"origins": ["https://app.example.com"]}"#).unwrap();
        assert_eq!(cors.methods, METHODS);
        assert_eq!(cors.headers, HEADERS);
        assert_eq!(cors.expose.unwrap(), EXPOSE);
        assert_eq!(cors.max_age, "600");
        assert!(!cors.credentials);
        let more = read(
            r#"{"origins": ["*"], "methods": ["GET"], "headers": ["X-A", "X-B"], "expose": [], "max_age_s": 5}"#,
        )
        .unwrap();
        assert_eq!(
            (more.methods, more.headers),
            (
                HeaderValue::from_static("GET"),
                HeaderValue::from_static("X-A, X-B")
            )
        );
        assert_eq!((more.expose, more.max_age), (None, HeaderValue::from(5)));
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        for (json, says) in [
            ("{}", "the field \"cors.origins\" is missing"),
            (r#"{"origins": []}"#, "\"cors.origins\" is an empty list"),
            (r#"{"origins": ["null"]}"#, "can't hold null"),
            (
                r#"{"origins": ["*"], "credentials": true}"#,
                "can't be true where origins hold",
            ),
            (
                r#"{"origins": ["*"], "methods": []}"#,
                "\"cors.methods\" is an empty list",
            ),
            (
                r#"{"origins": ["*"], "methods": ["get"]}"#,
                "the nearest is GET",
            ),
            (
                r#"{"origins": ["*"], "headers": ["*"]}"#,
                "name the headers",
            ),
            (
                r#"{"origins": ["*"], "headers": ["a b"]}"#,
                "no header's name",
            ),
            (
                r#"{"origins": ["*"], "max_age_s": 86401}"#,
                "from 0 to 86400",
            ),
            (
                r#"{"origin": ["*"]}"#,
                "the nearest valid name is \"cors.origins\"",
            ),
        ] {
            let said = read(json).unwrap_err().join("; ");
            assert!(said.contains(says), "{json}: {said}");
        }
    }

    #[test]
    fn what_becomes_wider_is_told() {
        let one = read(r#"{"origins": ["https://a.b"]}"#).unwrap();
        let two = read(r#"{"origins": ["https://a.b", "https://c.d"]}"#).unwrap();
        let more = read(r#"{"origins": ["https://a.b"], "methods": ["GET", "REPORT"]}"#).unwrap();
        let less = read(r#"{"origins": ["https://a.b"], "methods": ["GET"]}"#).unwrap();
        let weaker =
            |now: &Cors, before: Option<&Cors>| Cors::weaker_than(Some(now), before).is_some();
        assert!(weaker(&one, None) && weaker(&two, Some(&one)) && weaker(&more, Some(&one)));
        assert!(
            !weaker(&one, Some(&two)) && !weaker(&less, Some(&one)) && !weaker(&one, Some(&one))
        );
        assert!(Cors::weaker_than(None, Some(&one)).is_none());
    }
}
