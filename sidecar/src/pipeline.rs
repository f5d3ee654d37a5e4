//! The life of a request in the sidecar. Read `try_handle` first; each line is a file.

mod arrival;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_http::http1::{Incoming, Interim};
use gapura_http2::Owner;
use gapura_protocol::envelope::with_id;
use gapura_protocol::framing;
use gapura_protocol::headers::{X_REQUEST_ID, announced_by_response, scrub_response};
use gapura_runtime::exchange::Exchange;
use gapura_runtime::worker::Worker;
use gapura_telemetry::access::{LoggedPath, Record};
use gapura_telemetry::metrics::PluginMeters;
use gapura_transport::body::{Body, Trailers, Upload};
use gapura_transport::catch_panic::catch_panic;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::Tunnel;
use gapura_transport::upstream::{Answer, Hint};
use http::header::TRAILER;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version};

use crate::authorise::{Denied, PermittedPeer};
use crate::forward::{Error, Plugin};
use crate::rejection::Rejection;
use crate::respond;
use crate::sanitise::{self, Seen, TenantRule, Trusted};

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
        let trusted = self.trusted(permitted, head, &body, &mut exchange.record)?; // sanitise.rs: framing, headers, tenant
        let websocket = trusted.websocket;
        let (body, upload) = watched(body);
        exchange.upload = Some(upload.clone());
        let mut hint = |status, headers| pass_on(interim.as_ref(), status, headers);
        let by = (owner, &mut hint as &mut Hint<'_>);
        let answer = self
            .send(trusted, (body, &upload), by, &mut exchange.record)
            .await?; // forward.rs: loopback or a socket
        answered(answer, websocket, tunnel, &mut exchange.record) // what may leave
    }

    /// The request as its plugin may see it; what was taken from it is recorded either way.
    fn trusted(
        &self,
        permitted: &PermittedPeer,
        head: Parts,
        body: &Body,
        record: &mut Record,
    ) -> Result<Trusted, Rejection> {
        let mut seen = Seen::default();
        let trusted = sanitise::check(permitted, head, !body.is_ended(), &self.rule, &mut seen);
        (record.tenant, record.stripped) = (seen.tenant, seen.stripped);
        record.actor = seen.actor;
        trusted.map_err(Rejection::Sanitise)
    }

    /// The plugin's answer, as it comes; its call has a span of its own where the request is
    /// sampled.
    async fn send(
        &self,
        mut trusted: Trusted,
        (body, upload): (Body, &Rc<Upload>),
        by: (&Rc<Owner>, &mut Hint<'_>),
        record: &mut Record,
    ) -> Result<Answer, Rejection> {
        let mut call = record.spans.as_ref().map(|spans| {
            let callee = self.plugin.callee();
            let call = spans.call(callee, trusted.path(), Version::HTTP_11);
            trusted.belongs_to(call.header());
            call
        });
        let sent = Instant::now();
        let sending = pin!(self.plugin.send(trusted, body, upload, by));
        let answer = self.worker.timers.within(LONGEST, sending).await;
        let answer = answer
            .unwrap_or(Err(Error::Timeout))
            .map_err(Rejection::Forward);
        if let Some(mut call) = call.take() {
            match &answer {
                Ok(Answer { response, .. }) => call.answered(response.status(), response.version()),
                Err(rejection) => call.failed(rejection.code().as_str()),
            }
        }
        if answer.is_ok() {
            record.upstream = Some(sent.elapsed());
        }
        answer
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

/// What of the plugin's answer may leave; behind a 101 there is a tunnel.
fn answered(
    answer: Answer,
    websocket: bool,
    tunnel: &RefCell<Option<Tunnel>>,
    record: &mut Record,
) -> Result<Response<Body>, Rejection> {
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
