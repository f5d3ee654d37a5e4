//! One request as it reached the plugin, and its JSON: written by the plugin, read by the run.
//!
//! Invariant: no secret is in it. Of tokens and cookies only the length is kept, of everything else
//! the beginning.

use serde_json::{Value, json};

/// A value is kept to here: every canary stands at its value's beginning.
const VALUE_MOST: usize = 256;
/// A target may be as long as doors let them be.
const TARGET_MOST: usize = 1024;

/// How the request's body was framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// Not at all.
    #[default]
    None,
    /// By one length.
    Length,
    /// In chunks.
    Chunked,
    /// In more than one way at a time.
    Both,
}

/// What reached the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The mark it bore.
    pub(super) mark: String,
    pub(super) method: String,
    pub(super) target: String,
    /// In their order, names as they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) framing: Framing,
    /// Whether all of its body came.
    pub(super) complete: bool,
}

impl Framing {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Length => "length",
            Self::Chunked => "chunked",
            Self::Both => "both",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Length, Self::Chunked, Self::Both]
            .into_iter()
            .find(|framing| framing.as_str() == text)
    }
}

impl Seen {
    /// Every value of `name`, spelled exactly so but for case.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The memory it takes, about.
    pub(super) fn size(&self) -> usize {
        let texts = self.headers.iter().chain(&self.trailers);
        let fields: usize = texts
            .map(|(name, value)| name.len() + value.len() + 64)
            .sum();
        fields + self.target.len() + 256
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "mark": self.mark, "method": self.method, "target": self.target, "headers": self.headers,
            "trailers": self.trailers, "framing": self.framing.as_str(), "complete": self.complete,
        })
    }

    /// `None` if it is not what [`Seen::to_json`] writes.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let fields = |name: &str| {
            let pairs = value[name].as_array()?.iter();
            pairs
                .map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())))
                .collect::<Option<Vec<_>>>()
        };
        Some(Self {
            mark: text("mark")?,
            method: text("method")?,
            target: text("target")?,
            headers: fields("headers")?,
            trailers: fields("trailers")?,
            framing: Framing::parse(value["framing"].as_str()?)?,
            complete: value["complete"].as_bool()?,
        })
    }
}

/// A field as it may be kept: the values of credentials are only counted.
pub(super) fn kept(name: &[u8], value: &[u8]) -> (String, String) {
    let name = text(name, VALUE_MOST);
    let secret = ["authorization", "cookie", "proxy-authorization"];
    let value = if secret
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret))
    {
        format!("({} bytes)", value.len())
    } else {
        text(value, VALUE_MOST)
    };
    (name, value)
}

/// A target as it may be kept.
pub(super) fn kept_target(target: &[u8]) -> String {
    text(target, TARGET_MOST)
}

/// Bytes outside ASCII become `?`: they are judged by being there, not by what they are.
fn text(bytes: &[u8], most: usize) -> String {
    let bytes = &bytes[..bytes.len().min(most)];
    bytes
        .iter()
        .map(|byte| {
            if byte.is_ascii() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_token_is_in_it() {
        let seen = Seen {
            mark: "pv0-1".to_owned(),
            method: "GET".to_owned(),
            target: kept_target("/é".as_bytes()),
            headers: vec![
                kept(b"Authorization", b"Bearer abc"),
                kept(b"A", &[b'a'; 900]),
            ],
            trailers: vec![kept(b"b", b"\xff")],
            framing: Framing::Chunked,
            complete: true,
        };
        assert_eq!(Seen::from_json(&seen.to_json()), Some(seen.clone()));
        assert_eq!(seen.all("authorization"), ["(10 bytes)"]);
        assert_eq!(seen.headers[1].1.len(), VALUE_MOST);
        assert_eq!(Seen::from_json(&json!({"mark": 1})), None);
    }
}
