//! The life of a request. Read `try_handle` first; each line is a file.
//!
//! In: a request, or a head that is none, and the connection it came on. Out: one answer and one record, whatever happens on the way.
//! What each step decides is its own file's; here stands their order, and nothing goes on before all of them have agreed.

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gapura_http::http1::{Incoming, Refusal};
use gapura_http2::Owner;
use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::{Code, with_id};
use gapura_protocol::framing::{self, CLIENT_LIMITS};
use gapura_protocol::grpc::is_grpc;
use gapura_protocol::headers::{TRACEPARENT, X_REQUEST_ID};
use gapura_protocol::path::CanonicalPath;
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_runtime::worker::Worker;
use gapura_telemetry::access::LoggedPath;
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::PluginMeters;
use gapura_transport::body::{Body, Trailers, Upload};
use gapura_transport::catch_panic::catch_panic;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::{self, Tunnel};
use gapura_transport::upstream::{Answer, Hint};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};

use crate::ahead;
use crate::authenticate::{self, Authenticator, Caller, VerifiedCaller};
use crate::authorise::{self, Permit};
use crate::client::{Client, Named};
use crate::cors::Page;
use crate::docs::Docs;
use crate::endpoints::Endpoints;
use crate::envelope;
use crate::grpc;
use crate::limits::TURN_WITHIN;
use crate::logout;
use crate::openapi::{Mode, Portal, Who};
use crate::outgoing::{self, Facts, Outgoing};
use crate::rate_limit::{self, Asks, Limiter, Stand};
use crate::registry::{AuthMode, Plugin, Registry};
use crate::rejection::Rejection;
use crate::respond;
use crate::route::{self, Endpoint, Route, Target};
use crate::settings::Downstream;
use crate::sign::Signer;
use crate::standing::Standing;
use crate::until::Until;
use crate::upstream::admission::{InFlight, Overloaded, Party};
use crate::upstream::cluster::{Cluster, Running};
use crate::upstream::mirror::{self, Mirroring};
use crate::upstream::{self, Upstreams};
use crate::ws_token::{self, Offered};

/// What all requests of a worker share.
pub(crate) struct Pipeline {
    /// The worker.
    pub(crate) core: Rc<Worker>,
    /// The plugins in force.
    pub(crate) registry: Registry,
    /// Who is who.
    pub(crate) authenticator: Authenticator,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// Who has sent how much.
    pub(crate) limiter: Limiter,
    /// The way to the plugins.
    pub(crate) upstreams: Rc<Upstreams>,
    /// Signs the context for plugins that have no sidecar.
    pub(crate) signer: Option<Arc<Signer>>,
    /// The gateway's own paths.
    pub(crate) endpoints: Endpoints,
    /// What the operator has set for the door.
    pub(crate) settings: Arc<Downstream>,
    /// The plugins' contracts.
    pub(crate) portal: Portal,
    /// The page to read them on.
    pub(crate) docs: Option<Arc<Docs>>,
    /// Where requests are counted that no plugin takes.
    pub(crate) unrouted: Arc<PluginMeters>,
}

/// What goes with one request from its head to its answer.
struct Visit<'a> {
    client: &'a Client,
    /// For whom streams hold what its client does not take.
    owner: &'a Rc<Owner>,
    exchange: Box<Exchange>,
    page: Page,
    /// Where it stands with the limits that it has passed.
    stands: Vec<Stand>,
    /// Where the connection looks behind a 101.
    tunnel: &'a RefCell<Option<Tunnel>>,
}

/// Whether a request asks for a WebSocket, and how.
struct WebSocket {
    asked: bool,
    /// The name that a 101 answers with where the plugin's names none.
    offered: Option<Offered>,
}

/// A route with what runs for its plugin.
type Reached<'a> = Route<'a, Running>;

/// What was found out on the way to a plugin, beside the permit.
#[derive(Clone)]
struct Found<'a> {
    route: Reached<'a>,
    host: HeaderValue,
    address: Named,
    now: u64,
    websocket: bool,
    bodiless: bool,
    large: bool,
}

impl Pipeline {
    /// Answers one request; whatever happens, with one answer and one record.
    pub(crate) async fn handle(
        &self,
        client: &Client,
        owner: &Rc<Owner>,
        request: Request<Incoming>,
        tunnel: &RefCell<Option<Tunnel>>,
    ) -> Response<Body> {
        let (head, incoming) = request.into_parts();
        let http1 = head.version != Version::HTTP_2;
        let mut visit = Visit {
            client,
            owner,
            exchange: self.begin(client, &head),
            page: Page::of(&head),
            stands: Vec::new(),
            tunnel,
        };
        let target = visit.page.is_known().then(|| head.uri.clone());
        let hsts = self.hsts(client, &head.headers);
        let tried = self.try_handle(head, incoming, &mut visit);
        let result = catch_panic(pin!(tried))
            .await
            .unwrap_or(Err(Rejection::Panic));
        if let (Err(Rejection::Framing(_)), Some(target)) = (&result, &target) {
            self.find_page(&mut visit.page, target.path().as_bytes());
        }
        let Visit {
            mut exchange,
            page,
            stands,
            ..
        } = visit;
        let ends = match &result {
            Ok(answer) => answer.status() != StatusCode::SWITCHING_PROTOCOLS && self.is_going(),
            Err(rejection) => rejection.ends_connection() || self.is_going(),
        };
        // A stream of HTTP/2 ends alone; a worker that a panic was caught in is not to be trusted with the others.
        let ends = ends && (http1 || matches!(result, Err(Rejection::Panic)));
        let mut response = match result {
            Ok(answer) => {
                // A refusal of the sidecar's in gRPC's form has the status of any refusal with its code.
                let made = exchange.record.code.map(Code::status);
                exchange.record.status = made.unwrap_or(answer.status()).as_u16();
                let answer = with_id(answer, &exchange.record.request_id);
                exchange.carried(answer, tunnel.borrow_mut().as_mut())
            }
            Err(rejection) => {
                let rejection = match self.core.seed.stopping.phase() {
                    Phase::Cut => rejection.at_the_end(),
                    _ => rejection,
                };
                if rejection.code() == Code::Overloaded {
                    self.core.shed();
                }
                respond::refuse(&rejection, exchange, &self.core.seed.log)
            }
        };
        rate_limit::mark(&stands, response.headers_mut());
        page.mark(response.headers_mut(), &self.standing); // cors.rs: what browsers are told
        if let Some(hsts) = hsts {
            response
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
        if ends {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// Answers a head that is no request, as any request is: with one answer and one record.
    pub(crate) fn refuse(&self, client: &Client, refusal: Refusal) -> Response<Body> {
        let Refusal { kind, reason, seen } = refusal;
        // Without a readable request line there is no method either, and the log must not tell of one.
        let method = seen.method.or_else(|| Method::from_bytes(b"-").ok());
        let peer = client.address(&HeaderMap::new(), |_| false).text;
        let kept = seen.request_id.as_ref();
        let mut exchange = self.exchange(kept, method.unwrap_or_default(), peer);
        let (mut page, target) = (Page::at(seen.origin), seen.target.unwrap_or_default());
        exchange.record.reason = Some(reason);
        if !target.is_empty() {
            exchange.record.path = LoggedPath::of_target(&target);
            let end = target.iter().position(|byte| *byte == b'?');
            self.find_page(&mut page, &target[..end.unwrap_or(target.len())]);
        }
        let rejection = Rejection::Head(kind);
        let mut response = respond::refuse(&rejection, exchange, &self.core.seed.log);
        page.mark(response.headers_mut(), &self.standing);
        if let Some(hsts) = self.hsts(client, &HeaderMap::new()) {
            response
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
        response
    }

    /// What a client that came by https is told to do from now on (RFC 6797, section 7.2: nothing is said over http).
    fn hsts(&self, client: &Client, headers: &HeaderMap) -> Option<HeaderValue> {
        let hsts = self.settings.hsts.as_ref()?;
        let proto = client.proto(headers, |ip| self.settings.is_proxy(ip));
        (proto == "https").then(|| hsts.clone())
    }

    /// Begins an exchange, whose record carries the request's id: the client's where it is one (rule 4 of CONTRACT section 4).
    fn begin(&self, client: &Client, head: &Parts) -> Box<Exchange> {
        let mut given = head.headers.get_all(X_REQUEST_ID).into_iter();
        let kept = given.next().filter(|_| given.next().is_none());
        let peer = client
            .address(&head.headers, |ip| self.settings.is_proxy(ip))
            .text;
        let mut exchange = self.exchange(kept, head.method.clone(), peer);
        exchange.answers_as_asked(head);
        exchange
    }

    fn exchange(
        &self,
        given: Option<&HeaderValue>,
        method: Method,
        peer: Rc<str>,
    ) -> Box<Exchange> {
        let kept = given.and_then(|value| RequestId::of_header(value).ok());
        let request_id = kept.unwrap_or_else(|| self.new_request_id());
        let mut exchange = Exchange::begin(&self.core.sink, request_id, method, peer);
        exchange.record.belongs_to(&self.unrouted);
        exchange
    }

    /// A request that was refused before its path was looked up still reached a mount, and its page may read why.
    fn find_page(&self, page: &mut Page, path: &[u8]) {
        let table = self.registry.load();
        if page.is_known()
            && let Ok(path) = CanonicalPath::parse(path)
            && let Ok(Target::Plugin(route)) = route::find(&table, &path)
        {
            page.reaches(route.plugin);
        }
    }

    async fn try_handle(
        &self,
        mut head: Parts,
        incoming: Incoming,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        if framing::check_server_wide(&head, &CLIENT_LIMITS)
            .map_err(Rejection::Framing)?
            .is_some()
        {
            return Ok(Endpoints::methods()); // endpoints.rs: `OPTIONS *`
        }
        let uri = head.uri.clone();
        let target = framing::check(&head, &uri, &CLIENT_LIMITS).map_err(Rejection::Framing)?; // mesh/protocol: one message, one target
        visit.exchange.record.path = logged(&uri, target.path.as_str(), self.core.sink.logs());
        if let Some(docs) = &self.docs
            && let Some(page) = docs.at(target.path.as_str())
        {
            return page.answer(&head); // docs.rs: a page for people
        }
        let table = self.registry.load();
        let route = match route::find(&table, &target.path).map_err(Rejection::Route)? {
            Target::Endpoint(Endpoint::Openapi) if self.portal.mode() != Mode::Off => {
                return self.contracts(&head, visit).await; // openapi/: what may be asked for
            }
            Target::Endpoint(Endpoint::BackchannelLogout) if self.settings.takes_logouts => {
                return self.log_out(&head, incoming, visit).await; // logout.rs: a provider tells
            }
            Target::Endpoint(path) => return self.endpoints.answer(path, &head.method), // endpoints.rs: health, version
            Target::Plugin(route) => route, // route.rs: who answers
        };
        self.reach(&route, visit);
        let host = self.host(target.host)?; // settings.rs: is it for us
        if let Some(answer) = visit.page.preflight() {
            return Ok(answer); // cors.rs: a browser asks first
        }
        if !route.plugin.enabled {
            return Err(Rejection::Route(route::Error::Disabled));
        }
        let websocket = WebSocket::asked_for(route.plugin, &mut head)?; // ws_token.rs: a page's WebSocket
        let now = self.core.seed.clock.unix();
        let address = visit
            .client
            .address(&head.headers, |ip| self.settings.is_proxy(ip));
        let caller = self
            .caller(route.plugin.auth, &head, &address, now, visit)
            .await?; // authenticate/, standing/: who asks
        let permit = self.permit(
            route.plugin,
            caller,
            &head.method,
            target.path.as_str(),
            visit,
        )?; // authorise.rs: may they
        self.within_limits(&permit, &address, visit).await?; // rate_limit/: so often
        let (permit, cluster) = bound(&route, permit); // registry/canary.rs: whose company goes elsewhere
        let rate = self.settings.body_rate;
        let rate = rate.filter(|_| !is_grpc(&head.headers));
        let waits =
            grpc::timeout(&head.headers).map_err(|_| Rejection::Framing(Code::BadRequest))?;
        let interim = incoming.interim();
        let (body, upload) = body(incoming, &head.headers, permit.plugin())?;
        let mut body = body.no_slower(rate);
        let large = ahead::is_large(&mut body, &head).await; // ahead.rs: bulk, or not
        let until = Until::of(&permit, address.ip, now); // until.rs: for how long
        let network = address.network();
        let found = Found {
            route,
            host,
            address,
            now,
            websocket: websocket.asked,
            bodiless: body.is_ended(),
            large,
        };
        let judged = envelope::Judged::of(&permit, &head, found.route.path); // envelope.rs: does it answer as all do
        let copied = self.mirrored(&permit, &head, &found, visit); // upstream/mirror.rs: a canary may see it too
        let outgoing = self.outgoing(&permit, head, found, visit)?; // outgoing.rs: headers
        visit.exchange.upload = Some(upload.clone());
        let plugin = permit.plugin();
        let mut hint = |status, head| respond::hint(interim.as_ref(), plugin, status, head);
        let sending = (outgoing, body, &upload);
        let sent = async {
            let in_flight = self.admit(&cluster, &permit, network).await?; // upstream/admission.rs: whose turn
            let answer = self.send(&cluster, sending, &mut hint, visit).await?; // upstream/: mTLS to the sidecar
            Ok((in_flight, answer))
        };
        let (in_flight, mut answer) = grpc::within(&self.core.timers, waits, sent).await?; // grpc.rs: as long as the caller waits
        if let Some(comparison) = copied {
            answer.response = comparison.watch(answer.response);
        }
        let answer = self.answered(answer, permit.plugin(), &websocket, until, visit)?; // respond.rs: what may leave
        let answer = match judged {
            Some(judged) => Box::pin(self.enveloped(answer, judged, visit)).await,
            None => answer,
        };
        Ok(respond::holding(in_flight, answer))
    }

    /// The plugins' contracts, as far as who asks may see them.
    async fn contracts(
        &self,
        head: &Parts,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        Endpoints::is_read(&head.method)?;
        let mut who = None;
        if self.portal.mode() == Mode::Token {
            let address = visit
                .client
                .address(&head.headers, |ip| self.settings.is_proxy(ip));
            let (mode, now) = (AuthMode::GatewayVerified, self.core.seed.clock.unix());
            let caller = self.caller(mode, head, &address, now, visit).await?;
            let Caller::Verified(caller) = caller else {
                return Err(Rejection::Authorise(authorise::Forbidden::Unproven));
            };
            who = Some(Who::of(&caller));
        }
        match self.portal.view(who).await {
            Some(view) => Ok(self.portal.answer(&view, &head.headers)),
            None => Err(Rejection::Overloaded(Overloaded::Waited)),
        }
    }

    /// A plugin's answer, counted or put into the envelope as its file wants.
    async fn enveloped(
        &self,
        answer: Response<Body>,
        judged: envelope::Judged,
        visit: &mut Visit<'_>,
    ) -> Response<Body> {
        let record = &visit.exchange.record;
        let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        // What the sidecar made is in the envelope.
        let (Some(meters), None, false) = (&record.plugin, record.code, switched) else {
            return answer;
        };
        let count = envelope::Count::new(meters, self.core.seed.index);
        judged
            .answer(answer, count, &record.request_id, &self.core.timers)
            .await
    }

    /// The logout that a provider tells of.
    async fn log_out(
        &self,
        head: &Parts,
        incoming: Incoming,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        let (body, now) = (Body::message(incoming), self.core.seed.clock.unix());
        let answer = logout::take(head, body, &self.authenticator, &self.standing, now).await;
        let answer = answer.map_err(Rejection::Logout)?;
        let fields = [(
            "request_id",
            visit.exchange.record.request_id.as_str().into(),
        )];
        let message = "a provider has told of a logout, which counts from now on";
        let log = &self.core.seed.log;
        log.event(Level::Info, "logout", message, &fields);
        Ok(answer)
    }

    /// The request has reached a plugin's mount.
    fn reach(&self, route: &Reached<'_>, visit: &mut Visit<'_>) {
        visit
            .exchange
            .record
            .belongs_to(route.running.main.meters(&self.core.seed.meters));
        visit.page.reaches(route.plugin);
    }

    /// The host that a request to a plugin is for, if it is one of ours.
    fn host(&self, named: Option<HeaderValue>) -> Result<HeaderValue, Rejection> {
        let host = named.ok_or(Rejection::Framing(Code::BadRequest))?;
        if self.settings.serves(host.as_bytes()) {
            Ok(host)
        } else {
            Err(Rejection::Misdirected)
        }
    }

    /// Who asks, if they have proven it as `mode` wants and are welcome.
    async fn caller(
        &self,
        mode: AuthMode,
        head: &Parts,
        address: &Named,
        now: u64,
        visit: &mut Visit<'_>,
    ) -> Result<Caller, Rejection> {
        let proven = visit.client.certificate();
        let caller = self
            .authenticator
            .verify(mode, &head.headers, proven, now)
            .await
            .map_err(|error| self.unauthenticated(error))?;
        if let Caller::Verified(caller) = &caller {
            visit.exchange.record.tenant = Some(caller.tenant().clone());
            visit.page.acts_for(caller.tenant());
            self.standing
                .check(caller, address.ip)
                .map_err(Rejection::Standing)?;
            visit.exchange.record.actor = caller.actor().is_some();
            self.tell_actor(caller, &visit.exchange.record.request_id);
        }
        Ok(caller)
    }

    /// Whether they may.
    fn permit(
        &self,
        plugin: &Arc<Plugin>,
        caller: Caller,
        method: &Method,
        path: &str,
        visit: &Visit<'_>,
    ) -> Result<Permit, Rejection> {
        let permit =
            authorise::admit(plugin, caller, method, path).map_err(Rejection::Authorise)?;
        if let Some(refusal) = permit.shadowed() {
            let why = format!("of rules that refuse it: {refusal}");
            self.passed_in_shadow(&why, &visit.exchange);
        }
        Ok(permit)
    }

    /// Whether its caller has not sent too much.
    async fn within_limits(
        &self,
        permit: &Permit,
        address: &Named,
        visit: &mut Visit<'_>,
    ) -> Result<(), Rejection> {
        let caller = permit.caller();
        let asks = Asks {
            plugin: permit.plugin(),
            company: caller.and_then(|caller| self.standing.rate_limit(caller.tenant().as_str())),
            caller,
            client: address.network(),
        };
        if !asks.is_limited() {
            return Ok(());
        }
        let taken = self.limiter.take(&asks, Instant::now()).await;
        let passed = taken.map_err(Rejection::RateLimit)?;
        visit.stands = passed.stands;
        if let Some(over) = passed.shadowed {
            let why = format!("of a limit: it is {}", over.as_str());
            self.passed_in_shadow(&why, &visit.exchange);
        }
        Ok(())
    }

    /// A place among the requests that are under way to a plugin, once it is this company's turn.
    async fn admit(
        &self,
        cluster: &Cluster,
        permit: &Permit,
        network: IpAddr,
    ) -> Result<InFlight, Rejection> {
        let plugin = permit.plugin();
        let party = || match permit.caller() {
            Some(caller) => Party::Company(caller.tenant().as_str().into()),
            None => Party::Network(network),
        };
        let over = || self.core.timers.sleep(TURN_WITHIN.min(plugin.timeout));
        let entering = cluster.admission().enter(plugin.max_in_flight, party, over);
        entering.await.map_err(Rejection::Overloaded)
    }

    /// The request as its plugin may see it.
    fn outgoing(
        &self,
        permit: &Permit,
        head: Parts,
        found: Found<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<Outgoing, Rejection> {
        let trace = head
            .headers
            .get(TRACEPARENT)
            .and_then(|value| Trace::parse(value.as_bytes()));
        let trace = trace.unwrap_or_else(|| Trace::begin(self.core.random.next_wide()));
        let record = &mut visit.exchange.record;
        record.trace_id = Some(trace.id);
        let facts = Facts {
            request_id: &record.request_id,
            trace: &trace,
            span: self.core.random.next(),
            client: found.address.header,
            is_proxy: visit.client.is_proxy(),
            proto: visit
                .client
                .proto(&head.headers, |ip| self.settings.is_proxy(ip)),
            host: found.host,
            rest: found.route.path,
            websocket: found.websocket,
            bodiless: found.bodiless,
            large: found.large,
            now: found.now,
        };
        let (outgoing, stripped) = outgoing::prepare(permit, head, &facts, self.signer.as_deref())
            .map_err(Rejection::Forward)?;
        record.stripped = stripped;
        Ok(outgoing)
    }

    /// Sends a copy to the canary, where the plugin's file wants copies of such requests.
    fn mirrored(
        &self,
        permit: &Permit,
        head: &Parts,
        found: &Found<'_>,
        visit: &mut Visit<'_>,
    ) -> Option<Mirroring> {
        let canary = found.route.plugin.canary.as_ref()?;
        let at = found.route.running.canary.as_ref()?;
        if !canary.mirror {
            return None;
        }
        at.cluster.allowance().request();
        let company = permit.caller().map(VerifiedCaller::tenant);
        let is_read = head.method == Method::GET || head.method == Method::HEAD;
        if !is_read || !found.bodiless || found.websocket || !canary.takes(company) {
            return None;
        }
        mirror::begin(&self.upstreams, &self.core, &at.cluster, || {
            let mut copy = Request::new(()).into_parts().0;
            copy.method = head.method.clone();
            copy.uri = head.uri.clone();
            copy.version = head.version;
            copy.headers = head.headers.clone();
            if !canary.mirror_token {
                copy.headers.remove(AUTHORIZATION);
            }
            let permit = permit.for_copy(&at.plugin);
            self.outgoing(&permit, copy, found.clone(), visit).ok()
        })
    }

    /// The plugin's answer.
    async fn send(
        &self,
        cluster: &Arc<Cluster>,
        (outgoing, body, upload): (Outgoing, Body, &Rc<Upload>),
        hint: &mut Hint<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<Answer, Rejection> {
        let sent = Instant::now();
        let mut answer = self
            .upstreams
            .send(cluster, outgoing, body, upload, (visit.owner, hint))
            .await
            .map_err(Rejection::Forward)?;
        visit.exchange.record.upstream = Some(sent.elapsed());
        if framing::settle_answer(answer.response.headers_mut()) {
            Ok(answer)
        } else {
            Err(Rejection::Forward(upstream::Error::Protocol))
        }
    }

    /// What of a plugin's answer may leave, and until when; behind a 101 there is a tunnel.
    fn answered(
        &self,
        answer: Answer,
        plugin: &Plugin,
        websocket: &WebSocket,
        until: Until,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        let (timers, standing) = (&self.core.timers, &self.standing);
        let Answer {
            response: mut answer,
            switched,
        } = answer;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            if plugin.ws_token {
                ws_token::answer(answer.headers_mut(), websocket.offered.as_ref())
                    .map_err(Rejection::Switched)?;
            }
            let end = until.end(timers, standing);
            let (answer, tunnel) = Tunnel::grant(answer, websocket.asked, switched, end)
                .map_err(Rejection::Switched)?;
            *visit.tunnel.borrow_mut() = Some(tunnel);
            return Ok(answer);
        }
        let sidecar = !plugin.upstream.is_plaintext();
        let record = &mut visit.exchange.record;
        Ok(respond::pass_on(
            answer, sidecar, until, standing, timers, record,
        ))
    }

    fn is_going(&self) -> bool {
        self.core.seed.stopping.phase() != Phase::Run
    }

    /// Counts and tells of a request that would be refused by what only watches.
    fn passed_in_shadow(&self, why: &str, exchange: &Exchange) {
        let record = &exchange.record;
        let Some(plugin) = &record.plugin else {
            return;
        };
        plugin.slot(self.core.seed.index).shadow_refusals.add(1);
        let fields = [
            ("request_id", record.request_id.as_str().into()),
            ("plugin", plugin.name().into()),
        ];
        let message = format!("passed in the shadow {why}");
        self.core
            .seed
            .log
            .event(Level::Info, "shadow_refusal", &message, &fields);
    }

    /// Where the operator wants it, who acts for whom; an access line never says that.
    fn tell_actor(&self, caller: &VerifiedCaller, request_id: &RequestId) {
        let Some(actor) = caller.actor().filter(|_| self.settings.log_actors) else {
            return;
        };
        let fields = [
            ("request_id", request_id.as_str().into()),
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

    fn new_request_id(&self) -> RequestId {
        RequestId::new_v7(
            self.core.seed.clock.unix_millis(),
            self.core.random.next_wide(),
        )
    }
}

impl WebSocket {
    /// Whether `head` asks for one; where a page does, its token is moved to where every other request has it.
    fn asked_for(plugin: &Plugin, head: &mut Parts) -> Result<Self, Rejection> {
        let asked = tunnel::is_asked_for(head);
        let offered = if asked && plugin.ws_token {
            ws_token::take(plugin, &mut head.headers).map_err(Rejection::WsToken)?
        } else {
            None
        };
        Ok(Self { asked, offered })
    }
}

/// Where a permitted request goes: to its plugin, or to the plugin's canary if that takes the caller's company.
fn bound(route: &Reached<'_>, permit: Permit) -> (Permit, Arc<Cluster>) {
    let company = permit.caller().map(VerifiedCaller::tenant);
    let chosen = route
        .plugin
        .canary
        .as_ref()
        .zip(route.running.canary.as_ref());
    match chosen.filter(|(canary, _)| !canary.mirror && canary.takes(company)) {
        Some((_, at)) => (permit.at_canary(&at.plugin), at.cluster.clone()),
        None => (permit, route.running.main.clone()),
    }
}

/// The request's body, bounded as the plugin wants it, and how far it has come.
fn body(
    incoming: Incoming,
    headers: &HeaderMap,
    plugin: &Arc<Plugin>,
) -> Result<(Body, Rc<Upload>), Rejection> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let (Some(most), Some(length)) = (plugin.max_body, length)
        && length > most
    {
        return Err(Rejection::TooLarge);
    }
    let body = Body::message(incoming);
    if body.is_ended() {
        return Ok((Body::empty(), Rc::new(Upload::finished())));
    }
    let upload = Rc::new(Upload::default());
    let owner = plugin.clone();
    let body = body
        .limited(plugin.max_body)
        .trailers(Trailers::Request(Rc::new(move |name| {
            // Nobody tells who somebody is behind a body.
            owner.forward_headers.takes_from(name, false)
                && !owner.strip_headers.names_it(name.as_str())
        })))
        .watched(upload.clone());
    Ok((body, upload))
}

fn logged(uri: &http::Uri, path: &str, wanted: bool) -> LoggedPath {
    match uri.path_and_query() {
        _ if !wanted => LoggedPath::None,
        Some(known) if known.path() == path => LoggedPath::Same(known.clone()),
        _ => LoggedPath::Changed(path.into()),
    }
}
