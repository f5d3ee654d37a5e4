//! Asks a running program on this machine whether it is ready, for containers that have no shell.

use crate::ask;
use gapura_settings::AdminSide;

/// Asks the admin side at `admin` for `/readyz`.
///
/// # Errors
/// A sentence: it cannot be reached, or it is not ready and why.
pub fn ask(admin: &AdminSide) -> Result<(), String> {
    match ask::answer(admin, "/readyz")? {
        (200, _) => Ok(()),
        (_, body) => Err(format!("not ready: {}", body.trim())),
    }
}
