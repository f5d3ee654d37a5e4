//! What a token was granted: `scope` (RFC 8693, section 4.2: words parted by blanks) or `scp`,
//! which some issuers write instead, each as a text or a list.
//!
//! In: the two claims. Out: [`Scopes`], or a refusal: a rule may deny by a scope, so one that can't
//! be read is never left out.

use super::error::Reason;
use super::json::Json;

/// The scopes of a token, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(Box<[Box<str>]>);

impl Scopes {
    /// Each scope by itself.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Bytes held, for the sum of what is remembered.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|scope| scope.len() + 24).sum()
    }

    pub(super) fn read(claims: &Json<'_>) -> Result<Self, Reason> {
        let mut scopes = Vec::new();
        for name in ["scope", "scp"] {
            match claims.get(name) {
                None | Some(Json::Null) => {}
                Some(Json::Text(text)) => {
                    let mut words = text.split(' ').filter(|word| !word.is_empty());
                    words.try_for_each(|word| push(word, &mut scopes))?;
                }
                Some(Json::List(entries)) => {
                    for entry in entries {
                        let word = entry.text().ok_or(Reason::Scope)?;
                        push(word, &mut scopes)?;
                    }
                }
                Some(_) => return Err(Reason::Scope),
            }
        }
        Ok(Self(scopes.into()))
    }
}

/// RFC 6749, section 3.3: visible ASCII without `"` and `\`.
fn push(word: &str, scopes: &mut Vec<Box<str>>) -> Result<(), Reason> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if word.is_empty() || !word.bytes().all(fits) {
        return Err(Reason::Scope);
    }
    scopes.push(word.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Result<Vec<String>, Reason> {
        let json = Json::parse(claims.as_bytes()).unwrap();
        Scopes::read(&json).map(|scopes| scopes.iter().map(str::to_owned).collect())
    }

    #[test]
    fn scopes_are_words_or_a_list() {
        for (claims, wanted) in [
            ("{}", &[][..]),
            (r#"{"scope":""}"#, &[]),
            (r#"{"scope":"a b:c"}"#, &["a", "b:c"]),
            (r#"{"scp":["a","b"]}"#, &["a", "b"]),
            (r#"{"scp":"a b"}"#, &["a", "b"]),
            (r#"{"scope":["a"],"scp":["b"]}"#, &["a", "b"]),
            (r#"{"scope":null}"#, &[]),
        ] {
            assert_eq!(read(claims).unwrap(), wanted, "{claims}");
        }
    }

    #[test]
    fn what_cannot_be_read_refuses_the_token() {
        for bad in [
            r#"{"scope":1}"#,
            r#"{"scope":{"a":1}}"#,
            r#"{"scp":["a",1]}"#,
            r#"{"scp":["a b"]}"#,
            r#"{"scp":[""]}"#,
            r#"{"scope":"a\tb"}"#,
            r#"{"scope":"é"}"#,
        ] {
            assert_eq!(read(bad), Err(Reason::Scope), "{bad}");
        }
    }
}
