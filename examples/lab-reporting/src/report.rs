//! What a report is, and which input is one.
//!
//! In: the bytes of a request's body or query. Out: a [`NewReport`] or [`Page`] that the store
//! takes as it is. All faults of an input are told at once, each under the name of its field.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::envelope::Errors;

/// A report as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) id: i64,
    pub(crate) number: Option<String>,
    pub(crate) title: String,
    pub(crate) patient: String,
    pub(crate) body: String,
    pub(crate) created_at: String,
    pub(crate) created_by: Option<String>,
}

/// A line of the list: a report without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: i64,
    pub(crate) number: Option<String>,
    pub(crate) title: String,
    pub(crate) patient: String,
    pub(crate) created_at: String,
}

/// A report that may be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewReport {
    /// The laboratory's own number; unique within a company.
    pub(crate) number: Option<String>,
    pub(crate) title: String,
    pub(crate) patient: String,
    pub(crate) body: String,
}

/// Which part of the list: at most `limit` reports, those whose id is above `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: u32,
    pub(crate) after: i64,
}

/// Why an input is no report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not JSON; where and why.
    Syntax(String),
    /// It is JSON, but these fields are wrong.
    Fields(Errors),
}

const FIELDS: [&str; 4] = ["body", "number", "patient", "title"];

impl NewReport {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Unfit> {
        let value: Value =
            serde_json::from_slice(json).map_err(|err| Unfit::Syntax(err.to_string()))?;
        let Value::Object(fields) = value else {
            return Err(Unfit::Fields(Errors::from([(
                "body".to_owned(),
                "must be one JSON object".to_owned(),
            )])));
        };
        let mut errors = Errors::new();
        for name in fields
            .keys()
            .filter(|name| !FIELDS.contains(&name.as_str()))
        {
            errors.insert(
                name.chars().take(64).collect(),
                format!(
                    "is not a field of a report; these are: {}",
                    FIELDS.join(", ")
                ),
            );
        }
        let title = text(&fields, "title", 200, &mut errors);
        let patient = text(&fields, "patient", 200, &mut errors);
        let body = text(&fields, "body", 50_000, &mut errors);
        let number = match fields.get("number") {
            None | Some(Value::Null) => None,
            Some(Value::String(number)) if is_number(number) => Some(number.clone()),
            Some(_) => {
                errors.insert(
                    "number".to_owned(),
                    "must be 1 to 64 of A-Z a-z 0-9 . _ / -".to_owned(),
                );
                None
            }
        };
        match (title, patient, body) {
            (Some(title), Some(patient), Some(body)) if errors.is_empty() => Ok(Self {
                number,
                title,
                patient,
                body,
            }),
            _ => Err(Unfit::Fields(errors)),
        }
    }
}

impl Page {
    /// Reads `limit` (1 to 100, else 20) and `after` from a query; other names are passed over.
    pub(crate) fn parse(query: &str) -> Result<Self, Errors> {
        let mut page = Self {
            limit: 20,
            after: 0,
        };
        let mut errors = Errors::new();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "limit" => match value.parse() {
                    Ok(limit @ 1..=100) => page.limit = limit,
                    _ => drop(errors.insert(
                        name.to_owned(),
                        "must be a whole number from 1 to 100".to_owned(),
                    )),
                },
                "after" => match value.parse() {
                    Ok(after @ 0..) => page.after = after,
                    _ => drop(errors.insert(
                        name.to_owned(),
                        "must be the id of the last report seen".to_owned(),
                    )),
                },
                _ => {}
            }
        }
        if errors.is_empty() {
            Ok(page)
        } else {
            Err(errors)
        }
    }
}

/// A required text of 1 to `most` characters that is not all blank.
fn text(
    fields: &Map<String, Value>,
    name: &str,
    most: usize,
    errors: &mut Errors,
) -> Option<String> {
    let why = match fields.get(name) {
        None | Some(Value::Null) => "is required".to_owned(),
        Some(Value::String(text)) if text.trim().is_empty() => "must not be empty".to_owned(),
        Some(Value::String(text)) if text.chars().count() > most => {
            format!("must be at most {most} characters")
        }
        Some(Value::String(text)) => return Some(text.clone()),
        Some(_) => "must be a text".to_owned(),
    };
    errors.insert(name.to_owned(), why);
    None
}

fn is_number(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> Vec<String> {
        match NewReport::parse(json.as_bytes()) {
            Err(Unfit::Fields(errors)) => errors.into_keys().collect(),
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn takes_a_report_with_and_without_a_number() {
        let report = NewReport::parse(
            br#"{"title":"Blood count","patient":"P-1","body":"ok","number":"LAB-2026/1"}"#,
        )
        .unwrap();
        assert_eq!(
            (report.title.as_str(), report.number.as_deref()),
            ("Blood count", Some("LAB-2026/1"))
        );
        assert_eq!(
            NewReport::parse(br#"{"title":"t","patient":"p","body":"b","number":null}"#)
                .unwrap()
                .number,
            None
        );
    }

    #[test]
    fn tells_every_fault_under_its_field() {
        assert_eq!(faults("{}"), ["body", "patient", "title"]);
        assert_eq!(
            faults(r#"{"title":" ","patient":7,"body":null,"number":"a b","tittle":"t"}"#),
            ["body", "number", "patient", "title", "tittle"]
        );
        assert_eq!(faults("[]"), ["body"]);
        let long = "x".repeat(201);
        assert_eq!(
            faults(&format!(r#"{{"title":"{long}","patient":"p","body":"b"}}"#)),
            ["title"]
        );
        assert!(matches!(
            NewReport::parse(b"{\"title\":"),
            Err(Unfit::Syntax(_))
        ));
        assert!(matches!(NewReport::parse(b"\xff"), Err(Unfit::Syntax(_))));
    }

    #[test]
    fn reads_a_page_and_refuses_what_is_no_number() {
        assert_eq!(
            Page::parse(""),
            Ok(Page {
                limit: 20,
                after: 0
            })
        );
        assert_eq!(
            Page::parse("after=3&limit=2&x=1"),
            Ok(Page { limit: 2, after: 3 })
        );
        for query in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=1;DROP",
            "limit=",
            "after=-1",
            "after=1%20OR%201=1",
            "after=9223372036854775808",
        ] {
            assert_eq!(Page::parse(query).unwrap_err().len(), 1, "{query}");
        }
    }
}
