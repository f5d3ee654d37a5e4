//! Makes of a client's request the one that goes on: our headers in, everything of its kind out.
//!
//! In: a [`Permit`] and the head as the client wrote it. Out: an [`Outgoing`], the only thing that `upstream` sends.
//! Invariant: `Outgoing` is built in `prepare` and nowhere else, and `prepare` needs a permit; so a request that has not passed
//! authentication, authorisation and the header rule cannot be sent on, it does not compile.

use std::rc::Rc;
use std::sync::Arc;

use gapura_protocol::context::{RequestId, Roles, TenantId, UserId};
use gapura_protocol::grpc::is_grpc;
use gapura_protocol::headers::{
    self, Kind, Stripped, TRACEPARENT, TRACESTATE, X_ACTOR_ID, X_COMPANY_ID,
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PREFIX,
    X_FORWARDED_PROTO, X_GAPURA_AUTH, X_GAPURA_VOUCHED, X_INTERNAL_SIGNATURE, X_REQUEST_ID, X_ROLE,
    X_USER_ID,
};
use gapura_protocol::trace::{SpanId, Trace};
use gapura_telemetry::span::Spans;
use gapura_transport::tunnel;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TE, TRAILER};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};

use crate::authorise::Permit;
use crate::registry::Plugin;
use crate::sign::{Context, Signer};
use crate::upstream::carrier::Carrier;
use crate::upstream::error::Error;

/// A request as its plugin may see it.
pub(crate) struct Outgoing {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) head: Parts,
    pub(crate) carrier: Carrier,
    /// Where it is told how it went, if the request is sampled.
    pub(crate) spans: Option<Rc<Spans>>,
}

/// What is known of a request beside its head.
pub(crate) struct Facts<'a> {
    /// Its name everywhere.
    pub(crate) request_id: &'a RequestId,
    /// Its trace.
    pub(crate) trace: Trace,
    /// Our own part of the trace.
    pub(crate) span: SpanId,
    /// The client's address, as text.
    pub(crate) client: HeaderValue,
    /// Whether it came from a proxy to believe.
    pub(crate) is_proxy: bool,
    /// `http` or `https`.
    pub(crate) proto: HeaderValue,
    /// The one host it is for.
    pub(crate) host: HeaderValue,
    /// The path below the mount.
    pub(crate) rest: &'a str,
    /// The client asks for a WebSocket.
    pub(crate) websocket: bool,
    /// Not a byte of body.
    pub(crate) bodiless: bool,
    /// The body says no length and has proven to be large.
    pub(crate) large: bool,
    /// Unix seconds.
    pub(crate) now: u64,
}

/// A body from here on goes on a connection of its own: two copies of it through a shared one cost more, and stall others.
const BULK: u64 = 1024 * 1024;

/// Makes the request that goes on, and counts what was taken from the client's.
///
/// # Errors
/// If the host or the path cannot be written in the next protocol.
pub(crate) fn prepare(
    permit: &Permit,
    mut head: Parts,
    facts: &Facts<'_>,
    signer: Option<&Signer>,
) -> Result<(Outgoing, Stripped), Error> {
    let plugin = permit.plugin();
    let takes_trailers = head
        .headers
        .get(TE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let grpc = is_grpc(&head.headers);
    let trailer = headers::announced_by_request(&head.headers, |name| {
        plugin.forward_headers.takes_from(name, false)
            && !plugin.strip_headers.names_it(name.as_str())
    });
    if head.headers.get(X_REQUEST_ID) == Some(facts.request_id.header()) {
        // The client's own id was kept: it is set anew below, and nothing was taken.
        head.headers.remove(X_REQUEST_ID);
    }
    let mut stripped = headers::scrub_client_request(&mut head.headers, |name| {
        plugin.forward_headers.takes_from(name, facts.is_proxy)
    });
    strip(&mut head.headers, plugin, &mut stripped);
    if head.version == Version::HTTP_2 {
        headers::join_cookies(&mut head.headers);
    }
    if !permit.passes_token() {
        head.headers.remove(AUTHORIZATION);
    }
    head.headers.reserve(16);
    if let Some(names) = trailer {
        head.headers.insert(TRAILER, names);
    }
    let sidecar = !plugin.upstream.is_plaintext();
    if sidecar {
        vouch(&mut head.headers, plugin);
        head.headers.insert(X_GAPURA_AUTH, permit.auth().header());
    }
    insert_facts(&mut head.headers, plugin, facts);
    insert_context(&mut head.headers, permit);
    for (name, value) in &plugin.inject_headers {
        head.headers.insert(name, value.clone());
    }
    let carrier = carrier(&head.headers, facts, grpc);
    let shared = sidecar && carrier == Carrier::Shared;
    head.uri = target(head.uri, facts, shared.then_some(&facts.host))?;
    if let (Some(signer), true) = (signer, plugin.signed) {
        sign(&mut head, permit, facts, signer);
    }
    if shared {
        head.headers.remove(HOST);
        head.version = Version::HTTP_2;
    } else {
        head.headers.insert(HOST, facts.host.clone());
        head.version = Version::HTTP_11;
    }
    if sidecar && takes_trailers {
        // On the hop over either protocol: an HTTP/1.1 sidecar would keep the trailers of an answer otherwise.
        head.headers
            .insert(TE, HeaderValue::from_static("trailers"));
    }
    if facts.websocket {
        tunnel::set_headers(&mut head.headers);
    }
    head.extensions.clear();
    Ok((
        Outgoing {
            plugin: plugin.clone(),
            head,
            carrier,
            spans: None,
        },
        stripped,
    ))
}

/// Takes what the plugin's file names, a token that would go on too.
fn strip(headers: &mut HeaderMap, plugin: &Plugin, stripped: &mut Stripped) {
    if plugin.strip_headers.is_empty() {
        return;
    }
    let named: Vec<HeaderName> = headers
        .keys()
        .filter(|name| plugin.strip_headers.names_it(name.as_str()))
        .cloned()
        .collect();
    for name in named {
        let count = headers.get_all(&name).iter().count();
        headers.remove(&name);
        stripped.add(Kind::X, u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// Names the `X-*` headers that passed, and those that will be injected: the sidecar drops every other.
fn vouch(sent: &mut HeaderMap, plugin: &Plugin) {
    let injected = plugin.inject_headers.iter().map(|(name, _)| name);
    let mut names: Vec<&str> = sent
        .keys()
        .chain(injected)
        .map(HeaderName::as_str)
        .filter(|name| name.starts_with("x-") || headers::tells_who(name))
        .collect();
    if names.is_empty() {
        return;
    }
    names.sort_unstable();
    names.dedup();
    if let Ok(value) = HeaderValue::from_str(&names.join(",")) {
        sent.insert(X_GAPURA_VOUCHED, value);
    }
}

fn insert_facts(sent: &mut HeaderMap, plugin: &Plugin, facts: &Facts<'_>) {
    let id = headers::unindexed(facts.request_id.header().clone());
    sent.insert(X_REQUEST_ID, id);
    sent.insert(X_FORWARDED_FOR, facts.client.clone());
    sent.insert(X_FORWARDED_PROTO, facts.proto.clone());
    sent.insert(X_FORWARDED_HOST, facts.host.clone());
    // The rest of its way takes next to nothing; where it is tried again there is less left.
    sent.insert(
        X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
        plugin.timeout_header.clone(),
    );
    if let Some(prefix) = &plugin.prefix_header {
        sent.insert(X_FORWARDED_PREFIX, prefix.clone());
    }
    // A state without a valid parent belongs to no trace of ours.
    if facts.trace.parent().is_none() {
        sent.remove(TRACESTATE);
    }
    sent.insert(TRACEPARENT, headers::unindexed(facts.trace.header(facts.span)));
}

/// Sets what was proven; what was not is gone already.
fn insert_context(headers: &mut HeaderMap, permit: &Permit) {
    let Some(caller) = permit.caller().filter(|_| permit.plugin().gets_context()) else {
        return;
    };
    headers.insert(X_USER_ID, caller.user().header().clone());
    headers.insert(X_COMPANY_ID, caller.tenant().header().clone());
    if let Some(roles) = caller.roles() {
        headers.insert(X_ROLE, roles.header().clone());
    }
    if let Some(actor) = caller.actor() {
        headers.insert(X_ACTOR_ID, actor.header().clone());
    }
}

/// Bulk keeps off the shared connection, whether it says so or proves to be; gRPC is many small messages, and needs trailers.
fn carrier(headers: &HeaderMap, facts: &Facts<'_>, grpc: bool) -> Carrier {
    if facts.websocket {
        return Carrier::Alone;
    }
    if facts.bodiless || grpc {
        return Carrier::Shared;
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if facts.large || length.is_some_and(|length| length >= BULK) {
        Carrier::Alone
    } else {
        Carrier::Shared
    }
}

/// The target below the mount, the query as it came.
fn target(uri: Uri, facts: &Facts<'_>, authority: Option<&HeaderValue>) -> Result<Uri, Error> {
    let mut parts = uri.into_parts();
    let untouched = parts
        .path_and_query
        .as_ref()
        .is_some_and(|known| known.path() == facts.rest);
    if !untouched {
        let query = parts.path_and_query.as_ref().and_then(PathAndQuery::query);
        let text = match query {
            Some(query) => format!("{}?{query}", facts.rest),
            None => facts.rest.to_owned(),
        };
        parts.path_and_query = Some(
            PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
                .map_err(|_| Error::Unwritable)?,
        );
    }
    (parts.scheme, parts.authority) = match authority {
        Some(host) => (
            Some(Scheme::HTTPS),
            Some(Authority::try_from(host.as_bytes()).map_err(|_| Error::Unwritable)?),
        ),
        None => (None, None),
    };
    Uri::from_parts(parts).map_err(|_| Error::Unwritable)
}

fn sign(head: &mut Parts, permit: &Permit, facts: &Facts<'_>, signer: &Signer) {
    let caller = permit.caller();
    let context = Context {
        plugin: &permit.plugin().name,
        seconds: facts.now,
        method: head.method.as_str(),
        target: head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        request_id: facts.request_id.as_str(),
        user: caller.map_or("", |caller| UserId::as_str(caller.user())),
        company: caller.map_or("", |caller| TenantId::as_str(caller.tenant())),
        role: caller
            .and_then(|caller| caller.roles())
            .map_or("", Roles::as_str),
        actor: caller
            .and_then(|caller| caller.actor())
            .map_or("", UserId::as_str),
    };
    if let Some(value) = signer.sign(&context) {
        head.headers.insert(X_INTERNAL_SIGNATURE, value);
    }
}
