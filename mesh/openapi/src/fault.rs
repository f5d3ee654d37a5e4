//! Why a document can't be used.

use std::fmt;

use crate::pointer::At;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A JSON pointer as a URI fragment; empty where the place has none.
    pub pointer: String,
    /// A clause about what stands there.
    pub message: String,
}

/// A document may quote a whole book in the place of a name.
const SHOWN_MAX: usize = 200;

impl Fault {
    /// A fault of the document as a whole.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            pointer: String::new(),
            message: message.into(),
        }
    }

    pub(crate) fn at(at: &At<'_>, message: impl Into<String>) -> Self {
        Self {
            pointer: short(&at.to_string()),
            message: message.into(),
        }
    }
}

/// What a document says, fit to be quoted in a sentence.
pub(crate) fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "at {}: {}", self.pointer, self.message)
        }
    }
}

impl std::error::Error for Fault {}
