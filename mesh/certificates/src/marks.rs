//! How far each issuer's CRLs have come, so that none goes back: over reloads, and over restarts
//! for whoever keeps the text.
//!
//! In: the lists that are in force. Out: [`Marks`], one a list, that only ever go on; and their
//! text. A mark knows its issuer by a hash of name, key and distribution point; the name beside it
//! is for people. Nothing here reads a CRL or a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use gapura_protocol::text::{hex, unhex};

/// The newest list of one issuer that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The issuer's name for people.
    pub(super) issuer: String,
    /// Its list's number, big-endian without leading zeros, if it had one.
    pub(super) number: Option<Box<[u8]>>,
    /// When the list was made, Unix time.
    pub(super) this_update: u64,
}

/// What names an issuer's list: a hash over its name, its key and the list's distribution point.
pub(super) type ListId = [u8; 32];

/// The marks of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<ListId, Mark>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    marks: Vec<MarkText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkText {
    issuer: String,
    list: String,
    number: Option<String>,
    this_update: u64,
}

impl Mark {
    /// Whether this list is newer than one of `number` made at `this_update`. The same number twice
    /// is not going back, since a CA may sign one list again.
    pub(super) fn is_newer_than(&self, number: Option<&[u8]>, this_update: u64) -> bool {
        match (self.number.as_deref(), number) {
            (Some(seen), Some(new)) => less(new, seen),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => this_update < self.this_update,
        }
    }
}

/// Compares two numbers without leading zeros.
pub(super) fn less(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) < (b.len(), b)
}

impl Marks {
    pub(super) fn of(&self, list: &ListId) -> Option<&Mark> {
        self.0.get(list)
    }

    /// Takes a mark that is not older than the one there is.
    pub(super) fn advance(&mut self, list: ListId, mark: Mark) {
        match self.0.get(&list) {
            Some(known) if known.is_newer_than(mark.number.as_deref(), mark.this_update) => {}
            _ => drop(self.0.insert(list, mark)),
        }
    }

    /// The same with all marks of `other`, each where it is the newer one.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        for (list, mark) in &other.0 {
            self.advance(*list, mark.clone());
        }
        self
    }

    /// Forgets how far the lists of this issuer have come, and says how many there were.
    pub fn forget(&mut self, issuer: &str) -> usize {
        let before = self.0.len();
        self.0.retain(|_, mark| mark.issuer != issuer);
        before - self.0.len()
    }

    /// The issuers that have a mark.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|mark| mark.issuer.as_str())
    }

    /// Their text.
    ///
    /// # Errors
    /// None that is known: all of it is numbers and texts.
    pub fn to_text(&self) -> serde_json::Result<String> {
        let marks = self.0.iter().map(|(list, mark)| MarkText {
            issuer: mark.issuer.clone(),
            list: hex(list),
            number: mark.number.as_deref().map(hex),
            this_update: mark.this_update,
        });
        let text = Text {
            version: 1,
            marks: marks.collect(),
        };
        Ok(serde_json::to_string_pretty(&text)? + "\n")
    }

    /// Reads their text; `None` if it is another.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let text: Text = serde_json::from_slice(text).ok()?;
        if text.version != 1 {
            return None;
        }
        let mut marks = Self::default();
        for mark in text.marks {
            let list: ListId = unhex(&mark.list)?.try_into().ok()?;
            let number = match mark.number {
                Some(number) => Some(unhex(&number)?.into()),
                None => None,
            };
            marks.0.insert(
                list,
                Mark {
                    issuer: mark.issuer,
                    number,
                    this_update: mark.this_update,
                },
            );
        }
        Some(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(entries: &[(u8, &str, &[u8], u64)]) -> Marks {
        let mut marks = Marks::default();
        for (list, issuer, number, this_update) in entries {
            let mark = Mark {
                issuer: (*issuer).to_owned(),
                number: Some((*number).into()),
                this_update: *this_update,
            };
            marks.advance([*list; 32], mark);
        }
        marks
    }

    #[test]
    fn marks_only_go_on() {
        let mut some = marks(&[(1, "a", &[5], 10), (1, "a", &[4], 20)]);
        assert_eq!(some, marks(&[(1, "a", &[5], 10)]));
        some = some.joined(&marks(&[(1, "a", &[1, 0], 5), (2, "b", &[1], 1)]));
        assert_eq!(some, marks(&[(1, "a", &[1, 0], 5), (2, "b", &[1], 1)]));
        assert_eq!((some.forget("a"), some.forget("a")), (1, 0));
        assert_eq!(some.issuers().collect::<Vec<_>>(), ["b"]);
    }
}
