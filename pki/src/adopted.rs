//! What our own CA signed and the inventory did not know, once it was met and taken in.

use std::path::PathBuf;

use serde::Serialize;

/// One thing that was met and that no line knew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// `leaf`, `revocation` or `crl`.
    pub what: &'static str,
    /// Which one, for people.
    pub which: String,
    /// Where it was met.
    pub found_in: PathBuf,
    /// Whether a backup was restored since: then it is what that backup did not have. If not,
    /// another copy of this CA is at work.
    pub expected: bool,
}
