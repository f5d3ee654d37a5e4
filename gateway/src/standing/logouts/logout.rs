//! One logout as it is kept.

use std::sync::Arc;

/// One logout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logout {
    pub(super) issuer: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) subject: Option<Arc<str>>,
    pub(super) session: Option<Arc<str>>,
    pub(super) issued_at: u64,
    /// Until when it counts, Unix seconds.
    pub(super) until: u64,
}
