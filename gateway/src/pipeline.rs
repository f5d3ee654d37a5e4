//! The life of a request. Read `try_handle` first; each line is a file.

use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::{Code, with_id};
use gapura_protocol::framing::{self, DOOR};
use gapura_protocol::headers::{
    Kind, TRACEPARENT, X_GAPURA_MADE, X_REQUEST_ID, announced_by_response, scrub_response,
};
use gapura_protocol::path::CanonicalPath;
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_runtime::worker::Core;
use gapura_telemetry::access::{LoggedPath, Record};
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::PluginMeters;
use gapura_transport::body::{Body, Moment, Trailers, Upload};
use gapura_transport::caught::caught;
use gapura_transport::inbound::UnderWay;
use gapura_transport::shutdown::Phase;
use gapura_transport::timers::Sleep;
use gapura_transport::tunnel::{self, Upgraded};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRAILER};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::authenticate::{self, Authenticator, VerifiedCaller};
use crate::authorise;
use crate::client::Client;
use crate::cors::Page;
use crate::forward::outgoing::{self, Facts, Outgoing, is_grpc};
use crate::forward::{self, Forward};
use crate::limits::{ANSWER_IDLE, BODY_IDLE};
use crate::own::Own;
use crate::registry::{Plugin, Refusal, Registry};
use crate::rejection::Rejection;
use crate::respond;
use crate::route::{self, Target};
use crate::settings::DoorSettings;
use crate::standing::Standing;
use crate::ws_token::{self, Offered};

/// What all requests of a worker share.
pub(crate) struct Pipeline {
    /// The worker.
    pub(crate) core: Rc<Core>,
    /// The plugins in force.
    pub(crate) registry: Registry,
    /// Who is who.
    pub(crate) authenticator: Authenticator,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// The way to the plugins.
    pub(crate) forward: Forward,
    /// The gateway's own paths.
    pub(crate) own: Own,
    /// What the operator has set for the door.
    pub(crate) settings: Arc<DoorSettings>,
    /// Where requests are counted that no plugin takes.
    pub(crate) unrouted: Arc<PluginMeters>,
}

/// A request that has passed every check and goes on.
struct Admitted {
    outgoing: Outgoing,
    plugin: Arc<Plugin>,
    /// Whether it asks for a WebSocket, and the client's end of one.
    upgrade: Option<OnUpgrade>,
    /// The name that a 101 answers with where the plugin's names none.
    offered: Option<Offered>,
    until: Until,
}

/// For how long a stream may last.
struct Until {
    /// What is left of the caller's token; `None` where that does not matter.
    token_holds: Option<Duration>,
    caller: Option<Rc<VerifiedCaller>>,
    client: IpAddr,
}

impl Pipeline {
    /// Answers one request; whatever happens, with one answer and one record. `ambiguous` tells that another
    /// reader than hyper could have read the head in another way.
    pub(crate) async fn handle(
        &self,
        client: &Client,
        request: Request<Incoming>,
        ambiguous: bool,
        upgraded: &Upgraded,
        mut exchange: Box<Exchange>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let http1 = head.version != Version::HTTP_2;
        let bodiless = http_body::Body::is_end_stream(&body);
        let mut page = Page::of(&head);
        let target = page.is_known().then(|| head.uri.clone());
        exchange.record.belongs_to(&self.unrouted);
        let result = if ambiguous {
            Err(Rejection::Framing(Code::BadRequest))
        } else {
            let tried = self.try_handle(client, head, body, upgraded, &mut page, &mut exchange);
            caught(pin!(tried)).await.unwrap_or(Err(Rejection::Panic))
        };
        if let (Err(Rejection::Framing(_)), Some(target)) = (&result, &target) {
            self.find_page(&mut page, target);
        }
        let mut response = match result {
            Ok(answer) => answer.map(|body| body.with(exchange)),
            Err(rejection) => {
                let mut refusal = respond::refuse(&rejection, exchange, &self.core.seed.log);
                // Nobody has read its body: whatever comes next on the connection may still belong to it.
                if http1 && !bodiless {
                    refusal
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                refusal
            }
        };
        page.mark(response.headers_mut(), &self.standing); // cors.rs: what browsers are told
        if http1
            && self.core.seed.stopping.phase() != Phase::Run
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Begins an exchange, whose record carries the request's id: the client's where it is one (rule 4 of CONTRACT section 4).
    #[must_use]
    pub(crate) fn begin(
        &self,
        client: &Client,
        request: &Request<Incoming>,
        under_way: UnderWay,
    ) -> Box<Exchange> {
        let mut given = request.headers().get_all(X_REQUEST_ID).into_iter();
        let kept = given
            .next()
            .filter(|_| given.next().is_none())
            .and_then(|value| RequestId::of_header(value).ok());
        let request_id = kept.unwrap_or_else(|| self.new_request_id());
        let peer = client
            .address(request.headers(), |ip| self.settings.is_proxy(ip))
            .text;
        Exchange::begin(
            &self.core.sink,
            request_id,
            request.method().clone(),
            peer,
            Some(under_way),
        )
    }

    /// A request that was refused before its path was looked up still reached a mount, and its page may read why.
    fn find_page(&self, page: &mut Page, target: &http::Uri) {
        let table = self.registry.load();
        if let Ok(path) = CanonicalPath::parse(target.path().as_bytes())
            && let Ok(Target::Plugin(route)) = route::find(&table, &path)
        {
            page.reaches(route.plugin);
        }
    }

    async fn try_handle(
        &self,
        client: &Client,
        head: Parts,
        body: Incoming,
        upgraded: &Upgraded,
        page: &mut Page,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Rejection> {
        let admitted = match self
            .admit(client, head, &body, page, &mut exchange.record)
            .await?
        {
            Ok(admitted) => admitted,
            Err(own) => return Ok(own),
        };
        let Admitted {
            outgoing,
            plugin,
            upgrade,
            offered,
            until,
        } = admitted;
        let (body, upload) = self.body(body, &plugin);
        exchange.upload = Some(upload.clone());
        let sent = Instant::now();
        let answer = self
            .forward
            .send(outgoing, body, &upload)
            .await
            .map_err(Rejection::Forward)?; // forward.rs: mTLS to the sidecar
        exchange.record.upstream = Some(sent.elapsed());
        if !framing::is_sound_answer(answer.headers()) {
            return Err(Rejection::Forward(forward::Error::Protocol));
        }
        let answer = if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let mut answer = answer;
            if plugin.ws_token {
                ws_token::answer(answer.headers_mut(), offered.as_ref())
                    .map_err(Rejection::Switched)?;
            }
            upgraded
                .switch(answer, upgrade, self.end_of(until))
                .map_err(Rejection::Switched)?
        } else {
            self.scrubbed(
                answer,
                !plugin.upstream.is_plaintext(),
                until,
                &mut exchange.record,
            )
        };
        exchange.record.status = answer.status().as_u16();
        Ok(with_id(answer, &exchange.record.request_id))
    }

    /// Every check a request meets before a byte of it goes on, in this order.
    async fn admit(
        &self,
        client: &Client,
        mut head: Parts,
        body: &Incoming,
        page: &mut Page,
        record: &mut Record,
    ) -> Result<Result<Admitted, Response<Body>>, Rejection> {
        let uri = head.uri.clone();
        let target = framing::check(&head, &uri, &DOOR).map_err(Rejection::Framing)?; // mesh/protocol: one message, one target
        record.path = logged(&uri, target.path.as_str(), self.core.sink.logs());
        let table = self.registry.load();
        let route = match route::find(&table, &target.path).map_err(Rejection::Route)? {
            // route.rs: who answers
            Target::Own(path) => {
                let answer = self
                    .own
                    .answer(path)
                    .ok_or(Rejection::Route(route::Error::NoRoute))?;
                if head.method != Method::GET && head.method != Method::HEAD {
                    return Err(Rejection::ReadOnly);
                }
                record.status = answer.status().as_u16();
                return Ok(Err(with_id(answer, &record.request_id)));
            }
            Target::Plugin(route) => route,
        };
        record.belongs_to(&self.forward.meters(route.plugin));
        page.reaches(route.plugin);
        if !self.settings.serves(target.host.as_bytes()) {
            return Err(Rejection::Misdirected);
        }
        if let Some(answer) = page.preflight() {
            record.status = answer.status().as_u16();
            return Ok(Err(with_id(answer, &record.request_id)));
        }
        if !route.plugin.enabled {
            return Err(Rejection::Route(route::Error::Disabled));
        }
        let upgrade = head
            .extensions
            .remove::<OnUpgrade>()
            .filter(|_| tunnel::is_asked_for(&head));
        let mut offered = None;
        if route.plugin.ws_token && upgrade.is_some() {
            offered =
                ws_token::take(route.plugin, &mut head.headers).map_err(Rejection::WsToken)?; // ws_token.rs: a page's WebSocket
        }
        let now = self.core.seed.clock.unix();
        let address = client.address(&head.headers, |ip| self.settings.is_proxy(ip));
        let caller = self
            .authenticator
            .verify(route.plugin.auth, &head.headers, client.certificate(), now)
            .await
            .map_err(|error| self.unauthenticated(error))?; // authenticate/: who asks
        if let authenticate::Caller::Verified(caller) = &caller {
            record.tenant = Some(caller.tenant().clone());
            page.acts_for(caller.tenant());
            self.standing
                .check(caller, address.ip)
                .map_err(Rejection::Standing)?; // standing/: are they still welcome
            record.actor = caller.actor().is_some();
            self.tell_actor(caller, record);
        }
        let permit = authorise::admit(route.plugin, caller, &head.method, target.path.as_str())
            .map_err(Rejection::Authorise)?; // authorise.rs: may they
        if let Some(refusal) = permit.shadowed() {
            self.passed_in_shadow(refusal, record);
        }
        let length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if permit
            .plugin()
            .max_body
            .is_some_and(|most| length.is_some_and(|length| length > most))
        {
            return Err(Rejection::TooLarge);
        }
        let trace = head
            .headers
            .get(TRACEPARENT)
            .and_then(|value| Trace::parse(value.as_bytes()));
        let trace = trace.unwrap_or_else(|| Trace::begin(self.core.random.next_wide()));
        record.trace_id = Some(trace.id);
        let facts = Facts {
            request_id: &record.request_id,
            trace: &trace,
            span: self.core.random.next(),
            client: address.header,
            is_proxy: client.is_proxy(),
            proto: client.proto(&head.headers),
            host: target.host,
            rest: route.path,
            websocket: upgrade.is_some(),
            bodiless: http_body::Body::is_end_stream(body),
            now,
        };
        let plugin = route.plugin.clone();
        let until = Until {
            token_holds: permit
                .caller()
                .filter(|_| !plugin.outlive_token)
                .map(|caller| Duration::from_secs(caller.expires().saturating_sub(now))),
            caller: permit.kept_caller(),
            client: address.ip,
        };
        let (outgoing, stripped) = outgoing::prepare(&permit, head, &facts, self.forward.signer())
            .map_err(Rejection::Forward)?; // forward/outgoing.rs: headers
        record.stripped = stripped;
        Ok(Ok(Admitted {
            outgoing,
            plugin,
            upgrade,
            offered,
            until,
        }))
    }

    /// When the caller's token ends.
    fn expiry_of(&self, until: &Until) -> Option<Sleep> {
        let holds = until.token_holds?;
        Some(self.core.timers.sleep(holds))
    }

    /// When the caller is no longer welcome.
    fn denial_of(&self, until: Until) -> Option<Moment> {
        self.standing.end_of(until.caller?, until.client)
    }

    /// Whichever of the two comes first.
    fn end_of(&self, until: Until) -> Option<Moment> {
        match (self.expiry_of(&until), self.denial_of(until)) {
            (None, denial) => denial,
            (Some(expiry), None) => Some(Box::pin(expiry)),
            (Some(expiry), Some(denial)) => Some(Box::pin(async move {
                tokio::select! {
                    () = expiry => {}
                    () = denial => {}
                }
            })),
        }
    }

    /// Counts and tells of a request that the plugin's rules would refuse if they did more than watch.
    fn passed_in_shadow(&self, refusal: Refusal, record: &Record) {
        let Some(plugin) = &record.plugin else {
            return;
        };
        plugin.slot(self.core.seed.index).shadow_refusals.add(1);
        let fields = [
            ("request_id", record.request_id.as_str().into()),
            ("plugin", plugin.name().into()),
        ];
        let message = format!("passed in the shadow of rules that refuse it: {refusal}");
        self.core
            .seed
            .log
            .event(Level::Info, "shadow_refusal", &message, &fields);
    }

    fn body(&self, body: Incoming, plugin: &Arc<Plugin>) -> (Body, Rc<Upload>) {
        if http_body::Body::is_end_stream(&body) {
            return (Body::empty(), Rc::new(Upload::finished()));
        }
        let upload = Rc::new(Upload::default());
        let owner = plugin.clone();
        let body = Body::incoming(body)
            .limited(plugin.max_body)
            .idle_after(&self.core.timers, BODY_IDLE)
            .trailers(Trailers::Request(Rc::new(move |name| {
                // Nobody tells who somebody is behind a body.
                owner.forward_headers.takes_from(name, false)
                    && !owner.strip_headers.names_it(name.as_str())
            })))
            .watched(upload.clone());
        (body, upload)
    }

    /// Where the operator wants it, who acts for whom; an access line never says that.
    fn tell_actor(&self, caller: &authenticate::VerifiedCaller, record: &Record) {
        let Some(actor) = caller.actor().filter(|_| self.settings.log_actors) else {
            return;
        };
        let fields = [
            ("request_id", record.request_id.as_str().into()),
            ("company_id", caller.tenant().as_str().into()),
            ("user_id", caller.user().as_str().into()),
            ("actor_id", actor.as_str().into()),
        ];
        let message = "somebody acts for a user";
        self.core
            .seed
            .log
            .event(Level::Info, "actor", message, &fields);
    }

    fn unauthenticated(&self, error: authenticate::Error) -> Rejection {
        let label = error.label();
        if let Some(index) = authenticate::Error::LABELS
            .iter()
            .position(|known| *known == label)
        {
            self.core.meters().token_rejected(index);
        }
        Rejection::Authenticate(error)
    }

    /// A plugin's answer on its way out, or one that the sidecar made: a plugin without a sidecar cannot pass its own off as one.
    fn scrubbed(
        &self,
        answer: Response<Body>,
        sidecar: bool,
        until: Until,
        record: &mut Record,
    ) -> Response<Body> {
        let (mut head, mut body) = answer.into_parts();
        let made = head.headers.get(X_GAPURA_MADE).filter(|_| sidecar);
        record.code = made.and_then(|word| Code::from_word(word.as_bytes()));
        let trailer = announced_by_response(&head.headers);
        let stripped = scrub_response(&mut head.headers);
        if let Some(names) = trailer {
            head.headers.insert(TRAILER, names);
        }
        // Ours: the id that every answer on the hop carries, and the mark of the sidecar's own.
        let ours = u32::from(sidecar) + u32::from(record.code.is_some());
        for kind in Kind::ALL {
            let count = stripped.of(kind);
            record.stripped.add(
                kind,
                if kind == Kind::Identity {
                    count.saturating_sub(ours)
                } else {
                    count
                },
            );
        }
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let events = kind
            .get(..17)
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        let grpc = is_grpc(&head.headers);
        if !events && !grpc {
            body = body.idle_after(&self.core.timers, ANSWER_IDLE);
        }
        if body.is_ended() {
            return Response::from_parts(head, body);
        }
        if let Some(expiry) = self.expiry_of(&until).filter(|_| events) {
            body = body.ending_when(Box::pin(expiry));
        }
        // An answer that says how long it is is no stream.
        if (events || grpc || !head.headers.contains_key(CONTENT_LENGTH))
            && let Some(denial) = self.denial_of(until)
        {
            body = body.cut_when(denial);
        }
        Response::from_parts(head, body)
    }

    fn new_request_id(&self) -> RequestId {
        RequestId::new_v7(
            self.core.seed.clock.unix_millis(),
            self.core.random.next_wide(),
        )
    }
}

fn logged(uri: &http::Uri, path: &str, wanted: bool) -> LoggedPath {
    match uri.path_and_query() {
        _ if !wanted => LoggedPath::None,
        Some(known) if known.path() == path => LoggedPath::Same(known.clone()),
        _ => LoggedPath::Changed(path.into()),
    }
}
