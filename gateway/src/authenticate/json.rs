//! Reads JSON so that no name can be said twice.
//!
//! In: bytes that came from outside, a token's header or claims or a set of keys. Out: a [`Json`]
//! tree that borrows from them. `serde_json::Value` keeps the last of two members of one name,
//! other readers the first: a plugin that reads a token again could see another tenant than we did
//! (RFC 7519, section 4, RFC 8725, section 2.4). So a repeated name is refused at any depth,
//! compared after escapes are resolved. Nesting is bounded by serde_json, at 128.
//! `gapura_settings::json` is for files that a person wrote: it owns every text and places every
//! value, which a token does not need.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A value, its texts borrowed where they hold no escape.
#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0 to 2^64-1, written without fraction or exponent.
    Whole(u64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object, each name once, in the order written.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Why bytes are not JSON that we take, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    /// What is wrong.
    pub(super) kind: Kind,
    /// The line of the fault, from 1.
    pub(super) line: usize,
    /// The column of the fault, from 1.
    pub(super) column: usize,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not JSON, not UTF-8, too deep, or a number no 64-bit float can hold.
    Malformed,
    /// An object names a member twice.
    DuplicateName,
}

impl<'a> Json<'a> {
    /// Reads one value and nothing after it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, SyntaxFault> {
        serde_json::from_slice(bytes).map_err(|err| SyntaxFault {
            // The visitor below takes every type, so the only data error is the one it raises
            // itself.
            kind: if err.is_data() {
                Kind::DuplicateName
            } else {
                Kind::Malformed
            },
            line: err.line(),
            column: err.column(),
        })
    }

    /// The member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value one step of a JSON pointer leads to (RFC 6901, section 4).
    pub(super) fn step(&self, token: &str) -> Option<&Self> {
        match self {
            Self::Object(_) => self.get(token),
            Self::List(items) => {
                let canonical = token == "0"
                    || (!token.starts_with('0')
                        && !token.is_empty()
                        && token.bytes().all(|b| b.is_ascii_digit()));
                if canonical {
                    token
                        .parse::<usize>()
                        .ok()
                        .and_then(|index| items.get(index))
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

impl fmt::Display for SyntaxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Malformed => "not valid JSON",
            Kind::DuplicateName => "a member is named twice",
        };
        write!(f, "{what}, at line {} column {}", self.line, self.column)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Whole(value))
    }

    // Only negative numbers come this way; no rule of ours tells one from another, so rounding
    // loses nothing.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some(Name(name)) = entries.next_key()? {
            members.push((name, entries.next_value()?));
        }
        if names_one_twice(&members) {
            Err(A::Error::custom("a member is named twice"))
        } else {
            Ok(Json::Object(members))
        }
    }
}

/// A member's name; a type of its own since serde's `Cow<str>` never borrows.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyName)
    }
}

struct AnyName;

impl<'de> Visitor<'de> for AnyName {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(text.to_owned())))
    }
}

/// Compares in pairs while that is the cheapest, then by sorting: anyone can send a header of a
/// thousand members.
fn names_one_twice(members: &[(Cow<'_, str>, Json<'_>)]) -> bool {
    if members.len() <= 12 {
        return members
            .iter()
            .enumerate()
            .any(|(at, (name, _))| members[..at].iter().any(|(other, _)| other == name));
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> Result<(), Kind> {
        Json::parse(text.as_bytes())
            .map(drop)
            .map_err(|fault| fault.kind)
    }

    #[test]
    fn a_name_said_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"[[{"":1,"":2}]]"#,
        ] {
            assert_eq!(kind(twice), Err(Kind::DuplicateName), "{twice}");
        }
        for once in [
            r#"{"a":1,"A":1}"#,
            r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#,
            "{}",
        ] {
            assert_eq!(kind(once), Ok(()), "{once}");
        }
        let many = (0..500)
            .map(|n| format!("\"n{n}\":0"))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(kind(&format!("{{{many}}}")), Ok(()));
        assert_eq!(
            kind(&format!("{{{many},\"n17\":0}}")),
            Err(Kind::DuplicateName)
        );
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for bad in [
            "",
            "{",
            "{'a':1}",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "NaN",
            "1e999",
            "01",
            "\u{feff}{}",
            "\"\\ud800\"",
            "{a:1}",
        ] {
            assert_eq!(kind(bad), Err(Kind::Malformed), "{bad}");
        }
        assert_eq!(Json::parse(b"\"\xff\"").unwrap_err().kind, Kind::Malformed);
        assert_eq!(kind(&"[".repeat(100_000)), Err(Kind::Malformed));
        let fault = Json::parse(b"{\n  \"a\": x}").unwrap_err();
        assert_eq!(fault.to_string(), "not valid JSON, at line 2 column 8");
    }

    #[test]
    fn whole_numbers_are_told_from_all_others() {
        assert_eq!(
            Json::parse(b"18446744073709551615"),
            Ok(Json::Whole(u64::MAX))
        );
        for other in ["18446744073709551616", "1.0", "1e3", "-1", "-0"] {
            assert!(
                matches!(Json::parse(other.as_bytes()), Ok(Json::Number(_))),
                "{other}"
            );
        }
    }

    #[test]
    fn a_pointer_steps_into_objects_and_lists() {
        let json = Json::parse(br#"{"a":["x",{"0":"y"}]}"#).unwrap();
        let list = json.step("a").unwrap();
        assert_eq!(list.step("0").and_then(Json::text), Some("x"));
        assert_eq!(
            list.step("1")
                .and_then(|item| item.step("0"))
                .and_then(Json::text),
            Some("y")
        );
        for nowhere in ["2", "00", "01", "-", "", "+1", "99999999999999999999999"] {
            assert_eq!(list.step(nowhere), None, "{nowhere}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_is_json(text in r#"[\[\]{}:,"a1e. \\u0-]{0,24}"#) {
            let ours = Json::parse(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match ours {
                Ok(_) => prop_assert!(theirs.is_ok()),
                Err(SyntaxFault { kind: Kind::DuplicateName, .. }) => {}
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }
}
