//! Places in a document: JSON pointers (RFC 6901) as URI fragments, such as `#/paths/~1a/get`.

use std::fmt;

use serde_json::Value;

/// A place, as the way to it from the root; written out only where somebody asks.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Root,
    Field(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("#"),
            Self::Field(parent, name) => {
                parent.fmt(f)?;
                write!(f, "/{}", escaped(name))
            }
            Self::Index(parent, at) => {
                parent.fmt(f)?;
                write!(f, "/{at}")
            }
        }
    }
}

/// A token as a pointer in a fragment spells it.
pub(crate) fn escaped(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    for byte in token.bytes() {
        match byte {
            b'~' => out.push_str("~0"),
            b'/' => out.push_str("~1"),
            _ if is_plain(byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What may stand in a fragment as it is (RFC 3986, section 3.5).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@?".contains(&byte)
}

/// The tokens of a reference within the document; `None` where it is none.
pub(crate) fn tokens(reference: &str) -> Option<Vec<String>> {
    let pointer = reference.strip_prefix("#/")?;
    pointer.split('/').map(unescaped).collect()
}

fn unescaped(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten();
        match escape {
            Some((digits, after)) => {
                let digits = std::str::from_utf8(digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            None if *first == b'%' => return None,
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(text.replace("~1", "/").replace("~0", "~"))
}

/// What these tokens lead to.
pub(crate) fn find<'v>(root: &'v Value, tokens: &[String]) -> Option<&'v Value> {
    tokens.iter().try_fold(root, |at, token| match at {
        Value::Object(members) => members.get(token),
        Value::Array(items) => items.get(token.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_pointer_leads_where_it_says() {
        let root = json!({"paths": {"/a/{b}": {"get": [1, {"x~y": 2}]}}});
        let tokens = tokens("#/paths/~1a~1%7Bb%7D/get/1/x~0y").unwrap();
        assert_eq!(find(&root, &tokens), Some(&json!(2)));
        for none in ["#", "", "a.json#/a", "#a", "#/%", "#/%zz"] {
            assert_eq!(super::tokens(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_back(token in ".{0,12}") {
            let pointer = At::Field(&At::Root, &token).to_string();
            prop_assert_eq!(tokens(&pointer), Some(vec![token]));
        }
    }
}
