//! The answer on its way out: a plugin's, without what is inside the mesh only and with an end, or
//! a rejection's envelope.
//!
//! In: what the pipeline came to. Out: a response that may leave. Knows nothing of connections:
//! whether one goes on is said by the pipeline.

use gapura_http::http1::Interim;
use gapura_protocol::envelope::{By, Code};
use gapura_protocol::grpc;
use gapura_protocol::headers::{
    self, X_GAPURA_MADE, announced_by_response, scrub_hop_response, scrub_response,
};
use gapura_runtime::exchange::Exchange;
use gapura_telemetry::access::Record;
use gapura_telemetry::log::{Level, Log, chain};
use gapura_transport::body::Body;
use gapura_transport::timers::Timers;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRAILER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode};

use crate::cors;
use crate::limits::ANSWER_IDLE;
use crate::rate_limit;
use crate::registry::Plugin;
use crate::rejection::Rejection;
use crate::standing::Standing;
use crate::until::Until;
use crate::upstream::admission::InFlight;
use crate::upstream::holding::Holdings;

/// Answers in the envelope, or as gRPC's clients read it.
#[must_use]
pub(crate) fn refuse(
    rejection: &Rejection,
    mut exchange: Box<Exchange>,
    log: &Log,
) -> Response<Body> {
    let code = rejection.code();
    if let Some(reason) = rejection.reason() {
        exchange.record.reason = Some(reason);
    }
    if let Some(why) = rejection.turned_away() {
        let plugin = exchange
            .record
            .plugin
            .as_ref()
            .map(|plugin| plugin.name().to_owned());
        let fields = [
            ("request_id", exchange.record.request_id.as_str().into()),
            ("plugin", plugin.into()),
            ("code", code.as_str().into()),
        ];
        log.event(Level::Info, "turned_away", &why, &fields);
    }
    if let Some(error) = rejection.worth_a_line() {
        let record = &exchange.record;
        let plugin = record
            .plugin
            .as_ref()
            .map(|plugin| plugin.name().to_owned());
        let fields = [
            ("request_id", record.request_id.as_str().into()),
            ("plugin", plugin.into()),
            ("code", code.as_str().into()),
        ];
        log.event(Level::Warn, "upstream_failed", &chain(error), &fields);
    }
    let mut response = exchange.refuse(code, By::Gateway);
    let headers = response.headers_mut();
    if let Rejection::Authenticate(error) = rejection
        && let Some(challenge) = error.www_authenticate()
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if code == Code::TokenRevoked {
        let challenge = r#"Bearer realm="gapura", error="invalid_token", error_description="the token no longer counts""#;
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Rejection::Route(error) = rejection
        && let Some(after) = error.retry_after()
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
    }
    if matches!(rejection, Rejection::Logout(_)) && code == Code::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if let Rejection::RateLimit(exceeded) = rejection {
        headers.insert(RETRY_AFTER, HeaderValue::from(exceeded.retry_after()));
        rate_limit::mark([&exceeded.stand], headers);
    }
    if matches!(rejection, Rejection::ReadOnly) {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// A plugin's answer on its way out, or one that the sidecar made, and what its body is: a plugin
/// without a sidecar cannot pass its own off as one.
#[must_use]
pub(crate) fn pass_on(
    answer: Response<Body>,
    sidecar: bool,
    until: Until,
    standing: &Standing,
    timers: &Timers,
    record: &mut Record,
) -> (Response<Body>, Kind) {
    let (mut head, mut body) = answer.into_parts();
    scrub(&mut head.headers, sidecar, record);
    let stream = Kind::of(&head.headers);
    if stream == Kind::Bytes {
        body = body.idle_after(timers, ANSWER_IDLE);
    }
    if body.is_ended() {
        return (Response::from_parts(head, body), stream);
    }
    if let Some(expiry) = until.expiry(timers).filter(|_| stream == Kind::Events) {
        body = body.ending_when(Box::pin(expiry));
    }
    // An answer that says how long it is is no stream.
    if (stream != Kind::Bytes || !head.headers.contains_key(CONTENT_LENGTH))
        && let Some(denial) = until.denial(standing)
    {
        body = body.cut_when(denial);
    }
    (Response::from_parts(head, body), stream)
}

/// Hands on a hint of the plugin's (RFC 8297), without what is inside the mesh only. Other interim
/// answers tell of the hop's own connection, and end here (CONTRACT section 5). To a client of
/// HTTP/1.0, or after the answer, nothing is said.
pub(crate) fn hint(
    client: Option<&Interim>,
    plugin: &Plugin,
    status: StatusCode,
    mut headers: HeaderMap,
) {
    if status == StatusCode::EARLY_HINTS
        && let Some(client) = client
    {
        scrub_response(&mut headers);
        if plugin.cors.is_some() {
            cors::scrub(&mut headers);
        }
        let _ = client.send(status, &headers);
    }
}

/// The answer counts as in flight until its body has gone out, or waits for its reader while others
/// wait for their turn. An event stream does so until its head has, as an upgraded one, which does
/// not come here: it lasts for as long as its reader likes, and a few hundred of them would shut
/// the plugin to everybody.
#[must_use]
pub(crate) fn holding(
    in_flight: InFlight,
    (answer, kind): (Response<Body>, Kind),
    holdings: &Holdings,
) -> Response<Body> {
    if kind == Kind::Events || answer.body().is_ended() {
        return answer;
    }
    holdings.hold(in_flight, answer)
}

/// What an answer's body is, as far as its end is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Events,
    Grpc,
    Bytes,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let Some(kind) = headers.get(CONTENT_TYPE) else {
            return Self::Bytes;
        };
        let events = kind
            .as_bytes()
            .get(..17)
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        match events {
            true => Self::Events,
            false if grpc::is_type(kind) => Self::Grpc,
            false => Self::Bytes,
        }
    }
}

/// Takes out what is for inside only, and counts what the plugin had no right to say.
fn scrub(headers: &mut HeaderMap, sidecar: bool, record: &mut Record) {
    let made = headers.get(X_GAPURA_MADE).filter(|_| sidecar);
    record.code = made.and_then(|word| Code::from_word(word.as_bytes()));
    let trailer = announced_by_response(headers);
    let stripped = if sidecar {
        scrub_hop_response(headers)
    } else {
        scrub_response(headers)
    };
    if let Some(names) = trailer {
        headers.insert(TRAILER, names);
    }
    // The mark of the sidecar's own is ours.
    let ours = u32::from(record.code.is_some());
    for kind in headers::Kind::ALL {
        let count = stripped.of(kind);
        record.stripped.add(
            kind,
            if kind == headers::Kind::Identity {
                count.saturating_sub(ours)
            } else {
                count
            },
        );
    }
}
