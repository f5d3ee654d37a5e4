//! One breaking change, as people and programs are told of it.

use std::fmt;

/// A breaking change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind it is, in a word.
    pub kind: &'static str,
    /// Where, as a JSON pointer in a fragment.
    pub pointer: String,
    /// What it means, in a clause.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, at {})", self.message, self.kind, self.pointer)
    }
}

/// Who has read as many needs no more.
pub(super) const FINDINGS_MAX: usize = 100;
