//! One mistake in the folder, as it is told to the operator.
//!
//! In: where and what. Out: one line of text. Who finds mistakes is not known here.
//! Invariant: no value of `inject_headers` is in it.

use std::fmt;

use gapura_settings::json::Position;

/// One mistake in the folder: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileFault {
    /// The file, or the folder itself.
    pub file: String,
    /// Where in the file; `None` for the file or folder as a whole.
    pub position: Option<Position>,
    /// What is wrong; never a value of `inject_headers`.
    pub message: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        write!(f, ": {}", self.message)
    }
}
