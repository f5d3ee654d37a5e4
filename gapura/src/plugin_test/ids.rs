//! The ids of what was made, and the targets they stand in.

use std::collections::VecDeque;

use http::header::LOCATION;
use serde_json::Value;

use super::client::Answer;

/// A target with more of a query.
pub(super) fn with_query(target: &str, query: &str) -> String {
    match query {
        "" => target.to_owned(),
        query if target.contains('?') => format!("{target}&{query}"),
        query => format!("{target}?{query}"),
    }
}

/// Percent-encoded but for what every part of a target may have (RFC 3986, section 2.3).
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

/// The id of what was made, as its answer names it: by the path's own word, by a usual one, or in
/// `Location`.
pub(super) fn id_in(answer: &Answer, name: &str) -> Option<String> {
    let json = answer.json();
    let usual = [name, "id", "uuid", "key", "slug"];
    let found = json.and_then(|json| usual.iter().find_map(|key| find(&json, key)));
    found.or_else(|| {
        let location = answer.headers.get(LOCATION)?.to_str().ok()?;
        let bare = location.split('?').next()?.trim_end_matches('/');
        bare.rsplit('/').next().map(str::to_owned)
    })
}

/// The value under a name, the one nearest to the top.
pub(super) fn find(json: &Value, name: &str) -> Option<String> {
    let mut left = VecDeque::from([json]);
    while let Some(value) = left.pop_front() {
        match value {
            Value::Object(fields) => {
                match fields.get(name) {
                    Some(Value::String(id)) => return Some(id.clone()),
                    Some(Value::Number(id)) => return Some(id.to_string()),
                    _ => {}
                }
                left.extend(fields.values());
            }
            Value::Array(entries) => left.extend(entries),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(text: &str, location: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert(LOCATION, http::HeaderValue::from_static(location));
        }
        Answer {
            status: StatusCode::CREATED,
            headers,
            text: text.to_owned(),
        }
    }

    #[test]
    fn an_id_is_found_by_its_name_or_a_usual_one_or_where_it_lies() {
        for (text, location, id) in [
            (r#"{"id": 5}"#, None, Some("5")),
            (
                r#"{"ok": true, "data": {"id": "a", "other": {"id": 7}}}"#,
                None,
                Some("a"),
            ),
            (r#"{"data": {"note_id": "n", "id": 7}}"#, None, Some("n")),
            (r#"{"uuid": "u"}"#, None, Some("u")),
            ("", Some("/notes/9?x"), Some("9")),
            ("{}", Some("https://h/notes/9/"), Some("9")),
            ("[]", None, None),
        ] {
            assert_eq!(
                id_in(&answer(text, location), "note_id").as_deref(),
                id,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_plain_character_is_escaped() {
        assert_eq!(escaped("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(with_query("/a?b", "c"), "/a?b&c");
    }
}
