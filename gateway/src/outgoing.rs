//! Makes of a client's request the one that goes on: our headers in, everything of its kind out.
//!
//! In: a [`Permit`] and the head as the client wrote it. Out: an [`Outgoing`], the only thing that
//! `upstream` sends. The client's head stays as it is until the answer comes, so that what has to
//! be sent once more is made once more: a copy kept for that would cost every request, and hardly
//! any needs it.
//! Invariant: `Outgoing` is built in `prepare` and nowhere else, and `prepare` needs a permit; so a
//! request that has not passed authentication, authorisation and the header rule cannot be sent on,
//! it does not compile.

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
use gapura_transport::body::Body;
use gapura_transport::tunnel;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TE, TRAILER};
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};

use crate::authorise::Permit;
use crate::registry::Plugin;
use crate::sign::{Context, Signer};
use crate::upstream::carrier::Carrier;
use crate::upstream::error::Error;

/// A request as its plugin may see it.
pub(crate) struct Outgoing {
    pub(crate) plugin: Arc<Plugin>,
    /// Boxed, since it is handed on through many futures, and would have room in each of them.
    pub(crate) request: Box<Request<Body>>,
    pub(crate) carrier: Carrier,
    /// Where it is told how it went, if the request is sampled.
    pub(crate) spans: Option<Rc<Spans>>,
}

/// What an [`Outgoing`] is made of.
pub(crate) struct Origin<'a> {
    pub(crate) permit: &'a Permit,
    /// As the client wrote it.
    pub(crate) head: &'a Parts,
    pub(crate) facts: Facts<'a>,
    /// For a plugin that has no sidecar.
    pub(crate) signer: Option<&'a Signer>,
}

/// What is known of a request beside its head.
#[derive(Clone)]
pub(crate) struct Facts<'a> {
    /// Its name everywhere.
    pub(crate) request_id: RequestId,
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

/// A body from here on goes on a connection of its own: two copies of it through a shared one cost
/// more, and stall others.
const BULK: u64 = 1024 * 1024;

/// Room for the fields that are added: with it the map grows for hardly any request.
const ADDED: usize = 16;

impl Origin<'_> {
    /// Makes the request that goes on, and counts what of the client's does not.
    ///
    /// # Errors
    /// If the host or the path cannot be written in the next protocol.
    pub(crate) fn prepare(&self) -> Result<(Outgoing, Stripped), Error> {
        let Self {
            permit,
            head,
            facts,
            signer,
        } = self;
        let plugin = permit.plugin();
        let (mut sent, stripped) = self.passed();
        if head.version == Version::HTTP_2 {
            headers::join_cookies(&mut sent);
        }
        // Both are for one connection only: where nothing of that kind was, neither is looked for.
        let of_connection = stripped.of(Kind::HopByHop) > 0;
        let takes_trailers = of_connection && takes_trailers(&head.headers);
        if of_connection && let Some(names) = announced(&head.headers, plugin) {
            sent.insert(TRAILER, names);
        }
        let sidecar = !plugin.upstream.is_plaintext();
        if sidecar {
            vouch(&mut sent, plugin);
            sent.insert(X_GAPURA_AUTH, permit.auth().header());
        }
        insert_facts(&mut sent, plugin, facts);
        insert_context(&mut sent, permit);
        for (name, value) in &plugin.inject_headers {
            sent.insert(name, value.clone());
        }
        let carrier = carrier(&sent, facts, || is_grpc(&head.headers));
        let shared = sidecar && carrier == Carrier::Shared;
        let mut next = Box::new(Request::new(Body::empty()));
        *next.method_mut() = head.method.clone();
        *next.uri_mut() = target(&head.uri, facts, shared.then_some(&facts.host))?;
        if let (Some(signer), true) = (signer, plugin.signed)
            && let Some(proof) = sign(&next, permit, facts, signer)
        {
            sent.insert(X_INTERNAL_SIGNATURE, proof);
        }
        if shared {
            *next.version_mut() = Version::HTTP_2;
        } else {
            sent.insert(HOST, facts.host.clone());
            *next.version_mut() = Version::HTTP_11;
        }
        if sidecar && takes_trailers {
            // On the hop over either protocol: an HTTP/1.1 sidecar would keep the trailers of an
            // answer otherwise.
            sent.insert(TE, HeaderValue::from_static("trailers"));
        }
        if facts.websocket {
            tunnel::set_headers(&mut sent);
        }
        *next.headers_mut() = sent;
        let outgoing = Outgoing {
            plugin: plugin.clone(),
            request: next,
            carrier,
            spans: None,
        };
        Ok((outgoing, stripped))
    }

    /// The head once more, as it was made.
    pub(crate) fn again(&self) -> Option<Request<()>> {
        let (outgoing, _) = self.prepare().ok()?;
        Some((*outgoing.request).map(|_| ()))
    }

    /// The client's fields that go on, with room for ours.
    fn passed(&self) -> (HeaderMap, Stripped) {
        let (head, facts, plugin) = (self.head, &self.facts, self.permit.plugin());
        let mut passed = HeaderMap::with_capacity(head.headers.len() + ADDED);
        let mut named = 0;
        let asked_for = |name: &HeaderName| plugin.forward_headers.takes_from(name, facts.is_proxy);
        let mut stripped = headers::pass_client_request(&head.headers, asked_for, |name, value| {
            if plugin.strip_headers.names_it(name.as_str()) {
                named += 1;
            } else if !self.is_replaced(name) {
                passed.append(name.clone(), value.clone());
            }
        });
        stripped.add(Kind::X, named);
        if stripped.of(Kind::Identity) > 0
            && head.headers.get(X_REQUEST_ID) == Some(facts.request_id.header())
        {
            // The client's own id was kept: it is set anew, and nothing was taken.
            stripped.pardon(Kind::Identity);
        }
        (passed, stripped)
    }

    /// Whether we write this field ourselves, or leave it out, without counting it as taken.
    fn is_replaced(&self, name: &HeaderName) -> bool {
        *name == HOST
            || *name == TRACEPARENT
            || (*name == AUTHORIZATION && !self.permit.passes_token())
            // A state without a valid parent belongs to no trace of ours.
            || (*name == TRACESTATE && self.facts.trace.parent().is_none())
    }
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let said = headers.get(TE);
    said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

/// The trailers that a request announces and that its plugin may see.
fn announced(headers: &HeaderMap, plugin: &Plugin) -> Option<HeaderValue> {
    headers::announced_by_request(headers, |name| {
        plugin.forward_headers.takes_from(name, false)
            && !plugin.strip_headers.names_it(name.as_str())
    })
}

/// Names the `X-*` headers that passed, and those that will be injected: the sidecar drops every
/// other.
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
    sent.insert(
        X_REQUEST_ID,
        headers::unindexed(facts.request_id.header().clone()),
    );
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
    sent.insert(
        TRACEPARENT,
        headers::unindexed(facts.trace.header(facts.span)),
    );
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

/// Bulk keeps off the shared connection, whether it says so or proves to be; gRPC is many small
/// messages, and needs trailers.
fn carrier(headers: &HeaderMap, facts: &Facts<'_>, grpc: impl FnOnce() -> bool) -> Carrier {
    if facts.websocket {
        return Carrier::Alone;
    }
    if facts.bodiless || grpc() {
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
fn target(uri: &Uri, facts: &Facts<'_>, authority: Option<&HeaderValue>) -> Result<Uri, Error> {
    let mut parts = uri::Parts::default();
    let path_and_query = match uri.path_and_query() {
        Some(known) if known.path() == facts.rest => known.clone(),
        known => {
            let text = match known.and_then(PathAndQuery::query) {
                Some(query) => format!("{}?{query}", facts.rest),
                None => facts.rest.to_owned(),
            };
            PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
                .map_err(|_| Error::Unwritable)?
        }
    };
    parts.path_and_query = Some(path_and_query);
    if let Some(host) = authority {
        parts.scheme = Some(Scheme::HTTPS);
        let authority = Authority::try_from(host.as_bytes()).map_err(|_| Error::Unwritable)?;
        parts.authority = Some(authority);
    }
    Uri::from_parts(parts).map_err(|_| Error::Unwritable)
}

/// The proof of what `next` says of its caller.
fn sign(
    next: &Request<Body>,
    permit: &Permit,
    facts: &Facts<'_>,
    signer: &Signer,
) -> Option<HeaderValue> {
    let caller = permit.caller();
    let context = Context {
        plugin: &permit.plugin().name,
        seconds: facts.now,
        method: next.method().as_str(),
        target: next
            .uri()
            .path_and_query()
            .map_or("/", PathAndQuery::as_str),
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
    signer.sign(&context)
}
