//! The join token in `--token-file`: read when it is needed, and never kept.

use std::path::Path;

use gapura_enrol::token::JoinToken;
use gapura_files::secret;

/// Reads it.
///
/// # Errors
/// A sentence that says what is wrong and what to do, without any part of it.
pub(crate) fn read(file: &Path) -> Result<JoinToken, String> {
    let bytes = secret::read(file, "--token-file", 1)?;
    JoinToken::parse(&bytes).map_err(|why| format!("--token-file {}: {why}", file.display()))
}
