//! The life of a request in the sidecar. Read `try_handle` first; each line is a file.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_http::http1::{Incoming, Interim, Refusal};
use gapura_http2::Owner;
use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::with_id;
use gapura_protocol::framing;
use gapura_protocol::headers::{TRACEPARENT, X_REQUEST_ID, announced_by_response, scrub_response};
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_runtime::worker::Worker;
use gapura_telemetry::access::{LoggedPath, Record};
use gapura_telemetry::metrics::PluginMeters;
use gapura_telemetry::span::Asked;
use gapura_transport::body::{Body, Trailers, Upload};
use gapura_transport::catch_panic::catch_panic;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::Tunnel;
use gapura_transport::upstream::{Answer, Hint};
use http::header::TRAILER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};

use crate::authorise::{Denied, PermittedPeer};
use crate::forward::{Error, Plugin};
use crate::rejection::Rejection;
use crate::respond;
use crate::sanitise::{self, Seen, TenantRule};

/// What all requests of a worker share.
pub(crate) struct Pipeline {
    /// The worker.
    pub(crate) worker: Rc<Worker>,
    /// The way to the plugin.
    pub(crate) plugin: Plugin,
    /// Who needs no tenant.
    pub(crate) rule: TenantRule,
    /// The plugin's counters.
    pub(crate) meters: Arc<PluginMeters>,
}

/// No gateway waits longer for an answer, whatever its `timeout_ms`.
const LONGEST: Duration = Duration::from_secs(86_400);

impl Pipeline {
    /// Answers one request; whatever happens, with one answer and one record.
    pub(crate) async fn handle(
        &self,
        peer: &Result<PermittedPeer, Denied>,
        name: &Rc<str>,
        owner: &Rc<Owner>,
        request: Request<Incoming>,
        tunnel: &RefCell<Option<Tunnel>>,
    ) -> Response<Body> {
        let (mut head, incoming) = request.into_parts();
        let given = head.headers.get(X_REQUEST_ID);
        let mut exchange = self.begin(name, head.method.clone(), given);
        exchange.answers_as_asked(&head);
        self.trace(&mut head, &mut exchange.record);
        if self.worker.sink.logs() || exchange.record.spans.is_some() {
            exchange.record.path = head
                .uri
                .path_and_query()
                .cloned()
                .map_or(LoggedPath::None, LoggedPath::Same);
        }
        let request = (head, incoming);
        let result = catch_panic(pin!(self.try_handle(
            peer,
            owner,
            request,
            &mut exchange,
            tunnel
        )))
        .await
        .unwrap_or(Err(Rejection::Panic));
        match result {
            Ok(response) => exchange.carried(response, tunnel.borrow_mut().as_mut()),
            Err(rejection) => {
                let rejection = match self.worker.spec.stopping.phase() {
                    Phase::Cut => rejection.at_the_end(),
                    _ => rejection,
                };
                respond::refuse(&rejection, exchange, &self.worker.spec.log)
            }
        }
    }

    /// Answers a head that is no request, as any request is: with one answer and one record.
    pub(crate) fn refuse(&self, name: &Rc<str>, refusal: Refusal) -> Response<Body> {
        let Refusal { kind, reason, seen } = refusal;
        // Without a readable request line there is no method either, and the log must not tell of
        // one.
        let method = seen.method.or_else(|| Method::from_bytes(b"-").ok());
        let given = seen.request_id.as_ref();
        let mut exchange = self.begin(name, method.unwrap_or_default(), given);
        exchange.record.reason = Some(reason);
        let path = seen.target.as_deref().map(LoggedPath::of_target);
        exchange.record.path = path.unwrap_or_default();
        respond::refuse(&Rejection::Head(kind), exchange, &self.worker.spec.log)
    }

    fn begin(&self, name: &Rc<str>, method: Method, given: Option<&HeaderValue>) -> Box<Exchange> {
        let given = given.and_then(|value| RequestId::of_header(value).ok());
        let request_id = given.unwrap_or_else(|| self.new_request_id());
        let sink = &self.worker.sink;
        let mut exchange = Exchange::begin(sink, request_id, method, name.clone());
        exchange.record.belongs_to(&self.meters);
        exchange
    }

    /// Gives the request its place in its trace. None begins here: what comes without one is a
    /// gateway's own question.
    fn trace(&self, head: &mut Parts, record: &mut Record) {
        if !self.worker.sink.logs() && !self.worker.sink.traces() {
            return;
        }
        let given = head.headers.get(TRACEPARENT);
        let Some(given) = given.and_then(|value| Trace::parse(value.as_bytes())) else {
            return;
        };
        let asked = || Asked {
            scheme: "https",
            version: head.version,
        };
        let trace = record.traced(Some(given), &self.worker.random, asked);
        // The plugin is told what was decided here; where that is to record, its call says so.
        if let Some(parent) = given.parent()
            && given.is_sampled()
            && !trace.is_sampled()
        {
            head.headers.insert(TRACEPARENT, trace.header(parent));
        }
    }

    async fn try_handle(
        &self,
        peer: &Result<PermittedPeer, Denied>,
        owner: &Rc<Owner>,
        (head, incoming): (Parts, Incoming),
        exchange: &mut Exchange,
        tunnel: &RefCell<Option<Tunnel>>,
    ) -> Result<Response<Body>, Rejection> {
        let interim = incoming.interim();
        let body = Body::message(incoming);
        let permitted = peer.as_ref().map_err(|denied| Rejection::Denied(*denied))?; // authorise.rs: what the certificate proved
        let mut seen = Seen::default();
        let trusted = sanitise::check(permitted, head, !body.is_ended(), &self.rule, &mut seen); // sanitise.rs: framing, headers, tenant
        let record = &mut exchange.record;
        (record.tenant, record.stripped) = (seen.tenant, seen.stripped);
        record.actor = seen.actor;
        let mut trusted = trusted.map_err(Rejection::Sanitise)?;
        let websocket = trusted.websocket;
        let (body, upload) = watched(body);
        exchange.upload = Some(upload.clone());
        let mut call = record.spans.as_ref().map(|spans| {
            let callee = self.plugin.callee();
            let call = spans.call(callee, trusted.path(), Version::HTTP_11);
            trusted.belongs_to(call.header());
            call
        });
        let sent = Instant::now();
        let mut hint = |status, headers| pass_on(interim.as_ref(), status, headers);
        let by = (owner, &mut hint as &mut Hint<'_>);
        let sending = pin!(self.plugin.send(trusted, body, &upload, by));
        let answer = self.worker.timers.within(LONGEST, sending).await;
        let answer = answer
            .unwrap_or(Err(Error::Timeout))
            .map_err(Rejection::Forward); // forward.rs: loopback or a socket
        if let Some(mut call) = call.take() {
            match &answer {
                Ok(Answer { response, .. }) => call.answered(response.status(), response.version()),
                Err(rejection) => call.failed(rejection.code().as_str()),
            }
        }
        let answer = answer?;
        record.upstream = Some(sent.elapsed());
        let Answer {
            response: mut answer,
            switched,
        } = answer;
        if !framing::settle_answer(answer.headers_mut()) {
            return Err(Rejection::Unsound);
        }
        let answer = if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let granted = Tunnel::grant(answer, websocket, switched, None);
            let (answer, granted) = granted.map_err(Rejection::Switched)?;
            *tunnel.borrow_mut() = Some(granted);
            answer
        } else {
            scrubbed(answer, record)
        };
        record.status = answer.status().as_u16();
        Ok(with_id(answer, &record.request_id))
    }

    fn new_request_id(&self) -> RequestId {
        RequestId::new_v7(
            self.worker.spec.clock.unix_millis(),
            self.worker.random.next_wide(),
        )
    }
}

/// The gateway has let through the trailers that may pass; the same rule holds here for what calls
/// itself a request's.
fn watched(body: Body) -> (Body, Rc<Upload>) {
    if body.is_ended() {
        return (Body::empty(), Rc::new(Upload::finished()));
    }
    let upload = Rc::new(Upload::default());
    (
        body.trailers(Trailers::Request(Rc::new(|_| true)))
            .watched(upload.clone()),
        upload,
    )
}

/// Hands on an interim answer, without what is inside the mesh only.
fn pass_on(interim: Option<&Interim>, status: StatusCode, mut headers: HeaderMap) {
    // Others tell of the plugin's own connection, and end here (CONTRACT section 5).
    if status == StatusCode::EARLY_HINTS
        && let Some(interim) = interim
    {
        scrub_response(&mut headers);
        let _ = interim.send(status, &headers);
    }
}

fn scrubbed(mut answer: Response<Body>, record: &mut Record) -> Response<Body> {
    let trailer = announced_by_response(answer.headers());
    let stripped = scrub_response(answer.headers_mut());
    if let Some(names) = trailer {
        answer.headers_mut().insert(TRAILER, names);
    }
    for kind in gapura_protocol::headers::Kind::ALL {
        record.stripped.add(kind, stripped.of(kind));
    }
    answer
}
