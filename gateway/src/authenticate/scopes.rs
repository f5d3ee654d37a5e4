//! What a token was granted: `scope`, words parted by blanks, or `scp`, a text or a list.
//!
//! In: the two claims. Out: [`Scopes`], or a refusal: a rule may deny by a scope, so one that can't be read is never left out.

use super::error::Reason;
use super::json::Json;

/// The scopes of a token, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Box<[Box<str>]>);

impl Scopes {
    /// Each scope by itself.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    pub(super) fn read(claims: &Json<'_>) -> Result<Self, Reason> {
        let mut scopes: Vec<Box<str>> = Vec::new();
        for name in ["scope", "scp"] {
            match claims.get(name) {
                None | Some(Json::Null) => {}
                Some(Json::Text(text)) => {
                    let words = text.split(' ').filter(|word| !word.is_empty());
                    scopes.extend(words.map(Box::from));
                }
                Some(Json::List(entries)) => {
                    for entry in entries {
                        scopes.push(entry.text().ok_or(Reason::Role)?.into());
                    }
                }
                Some(_) => return Err(Reason::Role),
            }
        }
        Ok(Self(scopes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Result<Vec<String>, Reason> {
        let json = Json::parse(claims.as_bytes()).unwrap();
        Scopes::read(&json).map(|scopes| scopes.iter().map(str::to_owned).collect())
    }

    #[test]
    fn scopes_are_words_or_a_list_and_never_left_out() {
        assert_eq!(
            read(r#"{"scope":"a b:c","scp":["d"]}"#).unwrap(),
            ["a", "b:c", "d"]
        );
        assert_eq!(read("{}").unwrap(), [""; 0]);
        assert!(read(r#"{"scope":1}"#).is_err() && read(r#"{"scp":[1]}"#).is_err());
    }
}
