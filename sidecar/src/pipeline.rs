//! The life of a request in the sidecar. Read `try_handle` first; each line is a file.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::{Code, with_id};
use gapura_protocol::framing;
use gapura_protocol::headers::{TRACEPARENT, X_REQUEST_ID, announced_by_response, scrub_response};
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_runtime::worker::Core;
use gapura_telemetry::access::{LoggedPath, Record};
use gapura_telemetry::metrics::PluginMeters;
use gapura_transport::body::{Body, Trailers, Upload};
use gapura_transport::caught::caught;
use gapura_transport::inbound::UnderWay;
use gapura_transport::tunnel::Upgraded;
use http::header::TRAILER;
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use crate::authorise::{Denied, PermittedPeer};
use crate::forward::Plugin;
use crate::rejection::Rejection;
use crate::respond;
use crate::sanitise::{self, Seen, TenantRule};

/// What all requests of a worker share.
pub(crate) struct Pipeline {
    /// The worker.
    pub(crate) core: Rc<Core>,
    /// The way to the plugin.
    pub(crate) plugin: Plugin,
    /// Who needs no tenant.
    pub(crate) rule: TenantRule,
    /// The plugin's counters.
    pub(crate) meters: Arc<PluginMeters>,
}

/// What its connection knows of a request beside what hyper read.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Its place on the connection.
    pub(crate) under_way: Option<UnderWay>,
    /// Another reader could have read its head in another way.
    pub(crate) ambiguous: bool,
}

impl Pipeline {
    /// Answers one request; whatever happens, with one answer and one record.
    pub(crate) async fn handle(
        &self,
        peer: &Result<PermittedPeer, Denied>,
        name: &Rc<str>,
        request: Request<Body>,
        arrived: Arrived,
        upgraded: &Upgraded,
    ) -> Response<Body> {
        let given = request
            .headers()
            .get(X_REQUEST_ID)
            .and_then(|value| RequestId::of_header(value).ok());
        let request_id = given.unwrap_or_else(|| self.new_request_id());
        let mut exchange = Exchange::begin(
            &self.core.sink,
            request_id,
            request.method().clone(),
            name.clone(),
            arrived.under_way,
        );
        let record = &mut exchange.record;
        record.belongs_to(&self.meters);
        if self.core.sink.logs() {
            record.path = request
                .uri()
                .path_and_query()
                .cloned()
                .map_or(LoggedPath::None, LoggedPath::Same);
            record.trace_id = request
                .headers()
                .get(TRACEPARENT)
                .and_then(|value| Trace::parse(value.as_bytes()))
                .map(|trace| trace.id);
        }
        let result = caught(pin!(self.try_handle(
            peer,
            request,
            arrived.ambiguous,
            &mut exchange,
            upgraded
        )))
        .await
        .unwrap_or(Err(Rejection::Panic));
        match result {
            Ok(response) => response.map(|body| body.with(exchange)),
            Err(rejection) => respond::refuse(&rejection, exchange, &self.core.seed.log),
        }
    }

    async fn try_handle(
        &self,
        peer: &Result<PermittedPeer, Denied>,
        request: Request<Body>,
        ambiguous: bool,
        exchange: &mut Exchange,
        upgraded: &Upgraded,
    ) -> Result<Response<Body>, Rejection> {
        if ambiguous {
            return Err(Rejection::Sanitise(Code::BadRequest));
        }
        let (mut head, body) = request.into_parts();
        let permitted = peer.as_ref().map_err(|denied| Rejection::Denied(*denied))?; // authorise.rs: what the certificate proved
        let on_upgrade = head.extensions.remove::<OnUpgrade>();
        let mut seen = Seen::default();
        let trusted = sanitise::check(permitted, head, !body.is_ended(), &self.rule, &mut seen); // sanitise.rs: framing, headers, tenant
        let record = &mut exchange.record;
        (record.tenant, record.stripped) = (seen.tenant, seen.stripped);
        record.actor = seen.actor;
        let trusted = trusted.map_err(Rejection::Sanitise)?;
        let websocket = trusted.websocket;
        let (body, upload) = watched(body);
        exchange.upload = Some(upload.clone());
        let sent = Instant::now();
        let answer = self
            .plugin
            .send(trusted, body, &upload)
            .await
            .map_err(Rejection::Forward)?; // forward.rs: loopback or a socket
        record.upstream = Some(sent.elapsed());
        if !framing::is_sound_answer(answer.headers()) {
            return Err(Rejection::Unsound);
        }
        let answer = if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            upgraded
                .switch(answer, on_upgrade.filter(|_| websocket), None)
                .map_err(Rejection::Switched)?
        } else {
            scrubbed(answer, record)
        };
        record.status = answer.status().as_u16();
        Ok(with_id(answer, &record.request_id))
    }

    fn new_request_id(&self) -> RequestId {
        RequestId::new_v7(
            self.core.seed.clock.unix_millis(),
            self.core.random.next_wide(),
        )
    }
}

/// The gateway has let through the trailers that may pass; the same rule holds here for what calls itself a request's.
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
