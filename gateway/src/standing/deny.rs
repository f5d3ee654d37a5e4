//! The file `--deny`: tokens, users, sessions and companies that no longer count.
//!
//! In: the file's text, read anew at each change; then what a verified token says of itself. Out:
//! whether an entry names it. An entry that is a text holds for every issuer, one with `iss` for
//! that issuer alone, and with `issued_before` for tokens that were issued earlier; one that does
//! not say when it was issued counts as earlier.

use std::collections::HashMap;

use gapura_settings::json::{self, Fields, JsonFault, Node, Value};

use crate::authenticate::VerifiedCaller;

/// What no longer counts.
#[derive(Debug, Default)]
pub(super) struct DenyList {
    ids: Entries,
    subjects: Entries,
    sessions: Entries,
    companies: Entries,
}

/// The entries of one list, by their value.
#[derive(Debug, Default)]
struct Entries(HashMap<Box<str>, Vec<Limits>>);

/// For which tokens of this value an entry holds.
#[derive(Debug)]
struct Limits {
    issuer: Option<Box<str>>,
    issued_before: Option<u64>,
}

const LISTS: [&str; 4] = ["jti", "sub", "sid", "company_id"];

const VALUE_MAX: usize = 8 * 1024;

impl DenyList {
    /// Reads the file's text.
    pub(super) fn read(text: &[u8]) -> Result<Self, Vec<JsonFault>> {
        let mut faults = Vec::new();
        let mut list = Self::default();
        if let Some(root) = json::parse(text, &mut faults) {
            let known = [&LISTS[..], &["$schema"]].concat();
            if let Some(mut fields) = Fields::open(&root, "", &known, &mut faults) {
                list = Self {
                    ids: Entries::read(&mut fields, "jti"),
                    subjects: Entries::read(&mut fields, "sub"),
                    sessions: Entries::read(&mut fields, "sid"),
                    companies: Entries::read(&mut fields, "company_id"),
                };
            }
        }
        if faults.is_empty() {
            return Ok(list);
        }
        faults.sort_by_key(|fault| fault.position);
        Err(faults)
    }

    /// Whether an entry names a caller's token.
    pub(super) fn names(&self, caller: &VerifiedCaller) -> bool {
        let token = caller.token();
        let issuer = token.issuer.as_deref();
        let named = |entries: &Entries, value: Option<&str>| {
            value.is_some_and(|value| entries.name(value, issuer, token.issued_at))
        };
        // Where a token has no subject its user is the only name there is.
        let subject = token
            .subject
            .as_deref()
            .unwrap_or_else(|| caller.user().as_str());
        named(&self.ids, token.id.as_deref())
            || named(&self.subjects, Some(subject))
            || named(&self.sessions, token.session.as_deref())
            || named(&self.companies, Some(caller.tenant().as_str()))
    }
}

impl Entries {
    fn read(fields: &mut Fields<'_, '_>, name: &str) -> Self {
        let mut entries = Self::default();
        for (at, node) in fields.list(name).unwrap_or_default().iter().enumerate() {
            if let Some((value, limits)) = read_entry(fields, name, at, node) {
                entries.0.entry(value).or_default().push(limits);
            }
        }
        entries
    }

    fn name(&self, value: &str, issuer: Option<&str>, issued_at: Option<u64>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let holds = |limits: &Limits| {
            let of_issuer = limits
                .issuer
                .as_deref()
                .is_none_or(|wanted| issuer == Some(wanted));
            let in_time = limits
                .issued_before
                .is_none_or(|before| issued_at.is_none_or(|at| at < before));
            of_issuer && in_time
        };
        self.0
            .get(value)
            .is_some_and(|entries| entries.iter().any(holds))
    }
}

fn read_entry(
    fields: &mut Fields<'_, '_>,
    name: &str,
    at: usize,
    node: &Node,
) -> Option<(Box<str>, Limits)> {
    if !matches!(node.value, Value::Object(_)) {
        let Some(value) = value_of(node) else {
            fields.fault_at(
                node.position,
                name,
                "must hold texts, or objects with \"iss\" and \"value\"",
            );
            return None;
        };
        let limits = Limits {
            issuer: None,
            issued_before: None,
        };
        return Some((value, limits));
    }
    let known = ["iss", "value", "issued_before"];
    let mut entry = Fields::open(node, &format!("{name}[{at}]"), &known, fields.faults())?;
    entry.require("iss");
    entry.require("value");
    let issuer = entry.text("iss").map(Box::from);
    let value = entry.node("value").and_then(|node| {
        let value = value_of(node);
        if value.is_none() {
            entry.fault("value", "must be a text that is not empty");
        }
        value
    });
    let issued_before = match entry.node("issued_before") {
        None => None,
        Some(_) => Some(entry.whole("issued_before", 0..=253_402_300_799)?),
    };
    let limits = Limits {
        issuer: Some(issuer?),
        issued_before,
    };
    Some((value?, limits))
}

/// A claim's value: a text, or a number as a token may write it.
fn value_of(node: &Node) -> Option<Box<str>> {
    match &node.value {
        Value::Text(text) if !text.is_empty() && text.len() <= VALUE_MAX => {
            Some(text.as_str().into())
        }
        Value::Number(number) => number.as_u64().map(|number| number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DenyList, Vec<String>> {
        DenyList::read(text.as_bytes())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    fn names(entry: &str, issuer: Option<&str>, issued_at: Option<u64>) -> bool {
        let list = read(&format!("{{\"jti\": [{entry}]}}")).unwrap();
        list.ids.name("x", issuer, issued_at)
    }

    #[test]
    fn a_text_holds_for_every_issuer_and_an_object_for_its_own() {
        for (entry, issuer, issued_at, is_named) in [
            (r#""x""#, None, None, true),
            (r#""x""#, Some("a"), Some(5), true),
            (r#""y""#, Some("a"), None, false),
            (r#"{"iss": "a", "value": "x"}"#, Some("a"), Some(5), true),
            (r#"{"iss": "a", "value": "x"}"#, Some("b"), Some(5), false),
            (r#"{"iss": "a", "value": "x"}"#, None, Some(5), false),
            (
                r#"{"iss": "a", "value": "x", "issued_before": 5}"#,
                Some("a"),
                Some(4),
                true,
            ),
            (
                r#"{"iss": "a", "value": "x", "issued_before": 5}"#,
                Some("a"),
                Some(5),
                false,
            ),
            (
                r#"{"iss": "a", "value": "x", "issued_before": 5}"#,
                Some("a"),
                None,
                true,
            ),
            (
                r#"{"iss": "b", "value": "x"}, {"iss": "a", "value": "x"}"#,
                Some("a"),
                None,
                true,
            ),
        ] {
            assert_eq!(
                names(entry, issuer, issued_at),
                is_named,
                "{entry} {issuer:?} {issued_at:?}"
            );
        }
    }

    #[test]
    fn an_empty_list_is_a_list() {
        assert!(read("{}").is_ok() && read(r#"{"jti": [], "company_id": []}"#).is_ok());
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        for (text, says) in [
            ("", "1:1: the file is empty"),
            ("[]", "1:1: expected an object, found a list"),
            (
                r#"{"jit": []}"#,
                "1:2: unknown field \"jit\"; the nearest valid name is \"jti\"",
            ),
            (r#"{"jti": "x"}"#, "\"jti\" must be a list, found a string"),
            (r#"{"jti": [true]}"#, "1:10: \"jti\" must hold texts"),
            (r#"{"jti": [""]}"#, "\"jti\" must hold texts"),
            (
                r#"{"sub": [{"value": "x"}]}"#,
                "the field \"sub[0].iss\" is missing",
            ),
            (
                r#"{"sub": [{"iss": "x"}]}"#,
                "the field \"sub[0].value\" is missing",
            ),
            (
                r#"{"sub": [{"iss": "x", "value": "y", "issued_befor": 1}]}"#,
                "\"sub[0].issued_before\"",
            ),
            (
                r#"{"sub": [{"iss": "x", "value": "y", "issued_before": "1"}]}"#,
                "a whole number",
            ),
        ] {
            let said = read(text).unwrap_err().join("; ");
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
