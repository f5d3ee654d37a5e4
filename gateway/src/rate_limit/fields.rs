//! What a client is told of its limits: `RateLimit` and `RateLimit-Policy`, as
//! draft-ietf-httpapi-ratelimit-headers has them.
//!
//! In: a limit and what is left of its bucket. Out: one member of each list, on a line of its own,
//! so that what a plugin says of limits of its own stands beside it. `t` is the time until one more
//! request may pass, which is what `Retry-After` says where none may now.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::quota::Left;
use crate::registry::RateLimit;

/// Where a request stands with one limit.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    pub(super) limit: Arc<RateLimit>,
    pub(super) left: Left,
}

/// Where a request stands with each limit that tells its client: two at most, the plugin's and the
/// company's, so that a limit costs no allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stands([Option<Stand>; 2]);

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Stands {
    pub(super) fn add(&mut self, stand: Stand) {
        if let Some(free) = self.0.iter_mut().find(|one| one.is_none()) {
            *free = Some(stand);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stand> {
        self.0.iter().flatten()
    }
}

/// Tells a client where it stands.
pub(crate) fn mark<'a>(stands: impl IntoIterator<Item = &'a Stand>, headers: &mut HeaderMap) {
    for Stand { limit, left } in stands {
        let (name, requests, seconds) = (limit.policy(), left.requests, left.more_in_seconds());
        let now = format!("\"{name}\";r={requests};t={seconds}");
        if let Ok(now) = HeaderValue::try_from(now) {
            headers.append(RATELIMIT, now);
        }
        headers.append(RATELIMIT_POLICY, limit.policy_item().clone());
    }
}
