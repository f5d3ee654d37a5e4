//! Makes of a request on the hop one that a plugin may trust.
//!
//! In: a request's head, from a peer that is permitted. Out: a [`Trusted`] request with the path it
//! is for, or the code of its refusal. The gateway has done all of this already; it is done again
//! so that no fault of the door reaches a plugin.
//! Invariant: `Trusted` is built in `check` and nowhere else, so that nothing reaches a plugin
//! unchecked.

use gapura_protocol::context::TenantId;
use gapura_protocol::envelope::Code;
use gapura_protocol::framing;
use gapura_protocol::headers::{
    Auth, HopContext, Stripped, TRACEPARENT, announced_by_request, hop_context, join_cookies,
    scrub_hop_request,
};
use gapura_transport::tunnel;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};

use crate::authorise::PermittedPeer;

/// What excuses a request from having a tenant (rule 5 of CONTRACT section 4).
#[derive(Clone, Debug, Default)]
pub(crate) struct TenantRule {
    /// Requests that the gateway marked `unverified` or `public`.
    pub(crate) allow_none: bool,
    /// Where there are any, only below these.
    pub(crate) public_paths: Vec<String>,
    /// The gateway's own probes, to exactly these.
    pub(crate) probe_paths: Vec<String>,
}

/// A request that may reach the plugin.
#[derive(Debug)]
pub(crate) struct Trusted {
    head: Parts,
    /// The client asks for a WebSocket.
    pub(crate) websocket: bool,
    /// The client takes trailers.
    pub(crate) trailers: bool,
}

/// What the record of a request learns here.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Whom it acts for.
    pub(crate) tenant: Option<TenantId>,
    /// Whether somebody acts for its user.
    pub(crate) actor: bool,
    /// What was taken from it.
    pub(crate) stripped: Stripped,
}

/// Checks a head and takes from it what may not pass.
///
/// # Errors
/// The code of the refusal.
pub(crate) fn check(
    _peer: &PermittedPeer,
    mut head: Parts,
    has_body: bool,
    rule: &TenantRule,
    seen: &mut Seen,
) -> Result<Trusted, Code> {
    if !framing::check_on_hop(&head)?.came_so() {
        return Err(Code::BadRequest);
    }
    let context = hop_context(&head.headers).map_err(|_| Code::BadRequest)?;
    seen.tenant.clone_from(&context.tenant);
    seen.actor = context.actor.is_some();
    if context.tenant.is_none() && !rule.excuses(&head, has_body, &context) {
        return Err(Code::TenantMissing);
    }
    let websocket = tunnel::is_asked_for(&head);
    let trailers = takes_trailers(&head.headers);
    let trailer = announced_by_request(&head.headers, |_| true);
    seen.stripped = scrub_hop_request(&mut head.headers);
    if let Some(names) = trailer {
        head.headers.insert(TRAILER, names);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    Ok(Trusted {
        head,
        websocket,
        trailers,
    })
}

impl TenantRule {
    fn excuses(&self, head: &Parts, has_body: bool, context: &HopContext) -> bool {
        let path = head.uri.path();
        if context.probe {
            let bare = !has_body && head.uri.query().is_none() && !has_any(&head.headers);
            return head.method == Method::GET
                && bare
                && self.probe_paths.iter().any(|probe| probe == path);
        }
        let unproven = matches!(context.auth, Some(Auth::Unverified | Auth::Public));
        let below = self.public_paths.is_empty()
            || self
                .public_paths
                .iter()
                .any(|prefix| is_below(path, prefix));
        self.allow_none && unproven && below
    }
}

impl Trusted {
    /// Its path and query.
    pub(crate) fn path(&self) -> Option<&PathAndQuery> {
        self.head.uri.path_and_query()
    }

    /// Which call of ours it is, as `traceparent` says it.
    pub(crate) fn belongs_to(&mut self, call: HeaderValue) {
        self.head.headers.insert(TRACEPARENT, call);
    }

    /// The request for the plugin, with `body`.
    #[must_use]
    pub(crate) fn into_parts(self) -> Parts {
        self.head
    }
}

/// A probe carries nothing that could speak for somebody.
fn has_any(headers: &HeaderMap) -> bool {
    [AUTHORIZATION, COOKIE, CONTENT_LENGTH, TRANSFER_ENCODING]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// Whether `path` is `prefix` or lies below it, by whole segments.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get(TE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests;
