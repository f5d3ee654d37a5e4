//! JSON of somebody else's making, with bounds: bytes, depth, and how many values it may become.
//!
//! In: bytes. Out: a value, or the one sentence why not. A member that is named twice is refused,
//! since two readers could differ.
//! Invariant: what is read takes no more memory than [`MAX_VALUES`] values and the text of
//! [`MAX_BYTES`].

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::fault::{Fault, short};

/// A longer document is left out: nobody reads a contract of this size, and each plugin's is kept.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Values of any kind in one document. A byte of JSON can become a value of thirty.
pub(crate) const MAX_VALUES: usize = 250_000;

/// Deeper than any schema that a person can read; every walk of ours goes as deep as this and no
/// deeper.
pub(crate) const MAX_DEPTH: usize = 64;

/// Reads a whole document.
///
/// # Errors
/// A sentence that says what is wrong, and where.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.len() > MAX_BYTES {
        let mib = MAX_BYTES >> 20;
        return Err(Fault::whole(format!("is longer than {mib} MiB")));
    }
    let mut left = MAX_VALUES;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Bounded {
        left: &mut left,
        depth: MAX_DEPTH,
    };
    let read = seed.deserialize(&mut reader);
    read.and_then(|value| reader.end().map(|()| value))
        .map_err(|error| {
            Fault::whole(format!(
                "can't be read as JSON: {}",
                short(&error.to_string())
            ))
        })
}

struct Bounded<'b> {
    left: &'b mut usize,
    depth: usize,
}

impl Bounded<'_> {
    fn inner(&mut self) -> Bounded<'_> {
        Bounded {
            left: self.left,
            depth: self.depth.saturating_sub(1),
        }
    }

    fn goes_deeper<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom(format!("it is nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        match self.left.checked_sub(1) {
            Some(left) => *self.left = left,
            None => {
                let why = format!("it holds more than {MAX_VALUES} values");
                return Err(D::Error::custom(why));
            }
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.goes_deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        self.goes_deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.inner())?;
            if object.contains_key(&name) {
                let name = short(&name);
                return Err(A::Error::custom(format!(
                    "{name:?} stands twice in one object"
                )));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(bytes: &[u8]) -> String {
        json(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_end_or_no_bottom_is_refused_and_its_twin_is_read() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(json(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(why(deep(MAX_DEPTH + 1).as_bytes()).contains("nested deeper than 64"));
        assert!(why(deep(1_000_000).as_bytes()).contains("deeper"));
        let wide = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        assert!(json(wide(MAX_VALUES).as_bytes()).is_ok());
        assert!(why(wide(MAX_VALUES + 1).as_bytes()).contains("more than 250000 values"));
        let long = |length: usize| format!("\"{}\"", "a".repeat(length - 2));
        assert!(json(long(MAX_BYTES).as_bytes()).is_ok());
        assert!(why(long(MAX_BYTES + 1).as_bytes()).contains("longer than 4 MiB"));
    }

    #[test]
    fn what_is_no_json_or_means_two_things_is_refused() {
        for (bytes, says) in [
            (&b"<html>"[..], "can't be read as JSON"),
            (b"", "can't be read as JSON"),
            (b"{} {}", "trailing"),
            (br#"{"a": 1, "a": 2}"#, "\"a\" stands twice"),
            (b"\xff", "can't be read as JSON"),
            (br#"{"a": "#, "EOF"),
        ] {
            assert!(why(bytes).contains(says), "{}", why(bytes));
        }
        assert!(json(br#"{"a": [1, -2, 2.5, null, true, "x"]}"#).is_ok());
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(text in r#"[\[\]{}":,0-9a-z \\]{0,24}"#) {
            let theirs = serde_json::from_slice::<Value>(text.as_bytes()).ok();
            if let Ok(ours) = json(text.as_bytes()) {
                prop_assert_eq!(Some(ours), theirs);
            }
        }
    }
}
