//! The life of a request. Read `try_handle` first; each line is a file.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_mesh::access::{LoggedPath, Record};
use gapura_mesh::body::{Body, Fault, Trailers, Upload};
use gapura_mesh::caught::caught;
use gapura_mesh::context::RequestId;
use gapura_mesh::envelope::{Code, X_REQUEST_ID, with_id};
use gapura_mesh::framing::{self, DOOR};
use gapura_mesh::headers::{
    Kind, TRACEPARENT, X_GAPURA_MADE, announced_by_response, scrub_response,
};
use gapura_mesh::log::Level;
use gapura_mesh::metrics::PluginMeters;
use gapura_mesh::shutdown::Phase;
use gapura_mesh::trace::Trace;
use gapura_mesh::tunnel::{self, NotAskedFor, Upgraded};
use gapura_mesh::worker::Core;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRAILER};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::authenticate::{self, Authenticator};
use crate::authorise::{self, Forbidden};
use crate::client::Client;
use crate::forward::outgoing::{self, Facts, Outgoing, is_grpc};
use crate::forward::{self, Forward};
use crate::limits::{ANSWER_IDLE, BODY_IDLE};
use crate::own::Own;
use crate::registry::{Plugin, Registry};
use crate::respond;
use crate::route::{self, Target};
use crate::settings::DoorSettings;

/// What all requests of a worker share.
pub struct Pipeline {
    /// The worker.
    pub core: Rc<Core>,
    /// The plugins in force.
    pub registry: Registry,
    /// Who is who.
    pub authenticator: Authenticator,
    /// The way to the plugins.
    pub forward: Forward,
    /// The gateway's own paths.
    pub own: Own,
    /// What the operator has set for the door.
    pub settings: Arc<DoorSettings>,
    /// Where requests are counted that no plugin takes.
    pub unrouted: Arc<PluginMeters>,
}

/// Why a request got no answer of a plugin's.
#[derive(Debug)]
pub enum Rejection {
    /// It is ambiguous, malformed or too large.
    Framing(Code),
    /// It is for another host.
    Misdirected,
    /// The gateway's own paths are for reading.
    ReadOnly,
    /// Nobody takes its path.
    Route(route::Error),
    /// Its caller is not who they say.
    Authenticate(authenticate::Error),
    /// Its caller may not.
    Authorise(Forbidden),
    /// Its body is announced to be larger than the plugin takes.
    TooLarge,
    /// The plugin gave no answer.
    Forward(forward::Error),
    /// The plugin switched to a protocol that nobody asked for.
    Switched(NotAskedFor),
    /// A panic was caught.
    Panic,
}

/// A request that has passed every check and goes on.
struct Admitted {
    outgoing: Outgoing,
    plugin: Arc<Plugin>,
    /// Whether it asks for a WebSocket, and the client's end of one.
    upgrade: Option<OnUpgrade>,
    /// For how long the caller's token holds.
    token_holds: Option<Duration>,
}

impl Pipeline {
    /// Answers one request; whatever happens, with one answer and one record. `ambiguous` tells that another
    /// reader than hyper could have read the head in another way.
    pub async fn handle(
        &self,
        client: &Client,
        request: Request<Incoming>,
        ambiguous: bool,
        upgraded: &Upgraded,
        mut record: Box<Record>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let http1 = head.version != Version::HTTP_2;
        let bodiless = http_body::Body::is_end_stream(&body);
        record.belongs_to(&self.unrouted);
        let result = caught(pin!(self.try_handle(
            client,
            head,
            body,
            ambiguous,
            upgraded,
            &mut record
        )))
        .await
        .unwrap_or(Err(Rejection::Panic));
        let mut response = match result {
            Ok(answer) => answer.map(|body| body.recorded(record)),
            Err(rejection) => {
                let mut refusal = respond::refuse(&rejection, record, &self.core.seed.log);
                // Nobody has read its body: whatever comes next on the connection may still belong to it.
                if http1 && !bodiless {
                    refusal
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                refusal
            }
        };
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

    /// Begins the record of a request, which carries its id: the client's where it is one (rule 4 of CONTRACT section 4).
    #[must_use]
    pub fn record(&self, client: &Client, request: &Request<Incoming>) -> Box<Record> {
        let mut given = request.headers().get_all(X_REQUEST_ID).into_iter();
        let kept = given
            .next()
            .filter(|_| given.next().is_none())
            .and_then(|value| RequestId::of_header(value).ok());
        let request_id = kept.unwrap_or_else(|| self.new_request_id());
        let peer = client
            .address(request.headers(), |ip| self.settings.is_proxy(ip))
            .text;
        self.core
            .sink
            .begin(request_id, request.method().clone(), peer)
    }

    async fn try_handle(
        &self,
        client: &Client,
        head: Parts,
        body: Incoming,
        ambiguous: bool,
        upgraded: &Upgraded,
        record: &mut Record,
    ) -> Result<Response<Body>, Rejection> {
        if ambiguous {
            return Err(Rejection::Framing(Code::BadRequest));
        }
        let admitted = match self.admit(client, head, &body, record).await? {
            Ok(admitted) => admitted,
            Err(own) => return Ok(own),
        };
        let Admitted {
            outgoing,
            plugin,
            upgrade,
            token_holds,
        } = admitted;
        let (body, upload) = self.body(body, &plugin);
        record.upload = Some(upload.clone());
        let sent = Instant::now();
        let answer = self
            .forward
            .send(outgoing, body, &upload)
            .await
            .map_err(Rejection::Forward)?; // forward.rs: mTLS to the sidecar
        record.upstream = Some(sent.elapsed());
        if !framing::is_sound_answer(answer.headers()) {
            return Err(Rejection::Forward(forward::Error::Protocol));
        }
        let answer = if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let expires = token_holds.map(|holds| self.core.timers.sleep(holds));
            upgraded
                .switch(answer, upgrade, expires)
                .map_err(Rejection::Switched)?
        } else {
            self.scrubbed(answer, !plugin.upstream.is_plaintext(), token_holds, record)
        };
        record.status = answer.status().as_u16();
        Ok(with_id(answer, &record.request_id))
    }

    /// Every check a request meets before a byte of it goes on, in this order.
    async fn admit(
        &self,
        client: &Client,
        mut head: Parts,
        body: &Incoming,
        record: &mut Record,
    ) -> Result<Result<Admitted, Response<Body>>, Rejection> {
        let uri = head.uri.clone();
        let target = framing::check(&head, &uri, &DOOR).map_err(Rejection::Framing)?; // mesh/framing.rs: one message, one target
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
        if !self.settings.serves(target.host.as_bytes()) {
            return Err(Rejection::Misdirected);
        }
        let now = self.core.seed.clock.unix();
        let caller = self
            .authenticator
            .verify(route.plugin.auth, &head.headers, client.certificate(), now)
            .await
            .map_err(|error| self.unauthenticated(error))?; // authenticate/: who asks
        if let authenticate::Caller::Verified(caller) = &caller {
            record.tenant = Some(caller.tenant().clone());
            record.actor = caller.actor().is_some();
            self.tell_actor(caller, record);
        }
        let permit = authorise::admit(route.plugin, caller).map_err(Rejection::Authorise)?; // authorise.rs: may they
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
        let upgrade = head
            .extensions
            .remove::<OnUpgrade>()
            .filter(|_| tunnel::is_asked_for(&head));
        let facts = Facts {
            request_id: &record.request_id,
            trace: &trace,
            span: self.core.random.next(),
            client: client
                .address(&head.headers, |ip| self.settings.is_proxy(ip))
                .header,
            proto: client.proto(&head.headers),
            host: target.host,
            rest: route.path,
            websocket: upgrade.is_some(),
            bodiless: http_body::Body::is_end_stream(body),
            now,
        };
        let token_holds = permit
            .caller()
            .map(|caller| Duration::from_secs(caller.expires().saturating_sub(now)));
        let plugin = route.plugin.clone();
        let (outgoing, stripped) = outgoing::prepare(&permit, head, &facts, self.forward.signer())
            .map_err(Rejection::Forward)?; // forward/outgoing.rs: headers
        record.stripped = stripped;
        Ok(Ok(Admitted {
            outgoing,
            plugin,
            upgrade,
            token_holds,
        }))
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
                owner.forward_headers.takes(name)
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
        token_holds: Option<Duration>,
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
        if !events && !is_grpc(&head.headers) {
            body = body.idle_after(&self.core.timers, ANSWER_IDLE);
        } else if let Some(holds) = token_holds.filter(|_| events) {
            body = body.ending_after(&self.core.timers, holds);
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

impl Rejection {
    /// The code it is answered with.
    #[must_use]
    pub fn code(&self) -> Code {
        use authenticate::Error as Token;
        match self {
            Self::Framing(code) => *code,
            Self::Misdirected => Code::Misdirected,
            Self::ReadOnly => Code::MethodNotAllowed,
            Self::Route(error) => error.code(),
            Self::Authenticate(Token::TokenMissing) => Code::TokenMissing,
            Self::Authenticate(Token::TokenInvalid(_)) => Code::TokenInvalid,
            Self::Authenticate(Token::TokenExpired) => Code::TokenExpired,
            Self::Authenticate(Token::TenantMissing) => Code::TenantMissing,
            Self::Authenticate(Token::KeysUnavailable) => Code::KeysUnavailable,
            Self::Authorise(Forbidden) => Code::Forbidden,
            Self::TooLarge | Self::Forward(forward::Error::Body(Fault::TooLarge)) => {
                Code::BodyTooLarge
            }
            Self::Forward(forward::Error::Body(Fault::Idle | Fault::Stalled)) => {
                Code::RequestTimeout
            }
            // The client broke its own request off; nobody is there to read this.
            Self::Forward(forward::Error::Body(Fault::Cut)) => Code::BadRequest,
            Self::Forward(forward::Error::Unreachable(_)) => Code::UpstreamUnreachable,
            Self::Forward(forward::Error::Identity(_)) => Code::UpstreamIdentity,
            Self::Forward(forward::Error::Protocol) | Self::Switched(NotAskedFor) => {
                Code::UpstreamProtocol
            }
            Self::Forward(forward::Error::Overloaded) => Code::Overloaded,
            Self::Forward(forward::Error::Timeout) => Code::UpstreamTimeout,
            Self::Forward(forward::Error::Unwritable) => Code::BadRequest,
            Self::Panic => Code::Internal,
        }
    }

    /// The error that an operator wants to read about: one on the way to a plugin. Of a client's faults the access line tells.
    #[must_use]
    pub fn worth_a_line(&self) -> Option<&forward::Error> {
        match self {
            Self::Forward(error) if self.code().status().is_server_error() => Some(error),
            _ => None,
        }
    }

    /// Whether the connection cannot go on: its next byte may belong to this request.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        let code = self.code();
        matches!(
            code,
            Code::BadRequest
                | Code::MethodNotAllowed
                | Code::RequestTimeout
                | Code::BodyTooLarge
                | Code::HeadersTooLarge
                | Code::UriTooLong
                | Code::Internal
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
