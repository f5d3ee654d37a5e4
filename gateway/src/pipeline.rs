//! The life of a request. Read `try_handle` first, then `forward`; each line is a file.
//!
//! In: a request, or a head that is none, and the connection it came on. Out: one answer and one
//! record, whatever happens on the way. What each step decides is its own file's; here stands their
//! order, and nothing goes on before all of them have agreed. What ties a stage to the next is
//! below `pipeline/`: the arrival, who asks, what goes to the plugin, and how it ends.

mod arrival;
mod asked;
mod ending;
mod sending;
mod visit;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use gapura_http::http1::Incoming;
use gapura_http2::Owner;
use gapura_protocol::framing::{self, CLIENT_LIMITS, Target};
use gapura_protocol::path::CanonicalPath;
use gapura_runtime::worker::Worker;
use gapura_telemetry::metrics::PluginMeters;
use gapura_transport::body::Body;
use gapura_transport::catch_panic::catch_panic;
use gapura_transport::tunnel::Tunnel;
use gapura_transport::turns::Turns;
use http::request::Parts;
use http::{HeaderValue, Request, Response};

use crate::authenticate::Authenticator;
use crate::client::Client;
use crate::docs::Docs;
use crate::endpoints::Endpoints;
use crate::envelope::Judged;
use crate::openapi::Portal;
use crate::rate_limit::Limiter;
use crate::registry::Registry;
use crate::rejection::Rejection;
use crate::route::{self, Route, Target as Reached};
use crate::settings::Downstream;
use crate::sign::Signer;
use crate::standing::Standing;
use crate::upload;
use crate::upstream::Upstreams;
use crate::upstream::admission::Party;
use crate::upstream::cluster::Running;
use crate::upstream::holding::Holdings;
use crate::ws_token::WebSocket;

use visit::{Found, Visit};

/// What all requests of a worker share.
pub(crate) struct Pipeline {
    /// The worker.
    pub(crate) worker: Rc<Worker>,
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
    /// Whose request begins next.
    pub(crate) turns: Turns<Party>,
    /// Who holds a place there.
    pub(crate) holdings: Rc<Holdings>,
    /// Signs the context for plugins that have no sidecar.
    pub(crate) signer: Option<Arc<Signer>>,
    /// The gateway's own paths.
    pub(crate) endpoints: Endpoints,
    /// What the operator has set for the door.
    pub(crate) settings: Arc<Downstream>,
    /// Where requests are counted that no plugin takes.
    pub(crate) unrouted: Arc<PluginMeters>,
    /// The plugins' contracts.
    pub(crate) portal: Portal,
    /// The page to read them on.
    pub(crate) docs: Option<Arc<Docs>>,
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
        let (mut head, incoming) = request.into_parts();
        let mut visit = self.begin(client, owner, &head, tunnel);
        let result = catch_panic(pin!(self.try_handle(&mut head, incoming, &mut visit)))
            .await
            .unwrap_or(Err(Rejection::Panic));
        self.end(result, visit)
    }

    async fn try_handle(
        &self,
        head: &mut Parts,
        incoming: Incoming,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        if framing::check_server_wide(head, &CLIENT_LIMITS)?.is_some() {
            return Ok(Endpoints::methods()); // endpoints.rs: `OPTIONS *`
        }
        let uri = head.uri.clone();
        let Target { path, host } = framing::check(head, &uri, &CLIENT_LIMITS)?; // mesh/protocol: one message, one target
        visit.is_for(&uri, &path, host.as_ref(), self.worker.sink.logs());
        if let Some(page) = self.docs.as_ref().and_then(|docs| docs.at(path.as_str())) {
            return page.answer(head); // docs.rs: a page for people
        }
        let table = self.registry.load();
        match route::find(&table, &path)? {
            Reached::Endpoint(own) => self.answer(own, head, incoming, visit).await, // endpoints.rs, logout.rs, openapi/: ourselves
            Reached::Plugin(route) => {
                visit.reaches(&route, &self.worker);
                let host = self.host(host)?; // settings.rs: is it for us
                self.forward(head, incoming, (&path, host), route, visit)
                    .await // route.rs: a plugin answers
            }
        }
    }

    async fn forward(
        &self,
        head: &mut Parts,
        incoming: Incoming,
        (path, host): (&CanonicalPath<'_>, HeaderValue),
        route: Route<'_, Running>,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        if let Some(answer) = visit.page.preflight() {
            return Ok(answer); // cors.rs: a browser asks first
        }
        let websocket = WebSocket::asked_for(route.enabled()?, head)?; // ws_token.rs: a page's WebSocket
        let head = &*head; // as every stage behind this sees it
        let caller = self.caller(route.plugin.auth, head, visit).await?; // authenticate/, standing/: who asks
        let permit = self.permit(route.plugin, caller, &head.method, path, visit)?; // authorise.rs: may they
        self.within_limits(&permit, visit).await?; // rate_limit/: so often
        let (permit, cluster) = visit::bound(&route, permit); // registry/canary.rs: whose company goes elsewhere
        let rate = self.settings.body_rate;
        let upload = upload::take(incoming, head, permit.plugin(), rate).await?; // upload.rs: its body
        let judged = Judged::of(&permit, head, route.path); // envelope.rs: does it answer as all do
        let found = Found::of(route, host, &websocket, &upload);
        let origin = self.origin(&permit, head, &found, visit);
        let outgoing = self.outgoing(&origin, &found.route, visit)?; // outgoing.rs, upstream/mirror.rs: headers
        let sent = self.send(&origin, &cluster, outgoing, upload, visit); // upstream/: whose turn, mTLS to the sidecar
        let answer = self.answered(sent.await?, &permit, &websocket, visit)?; // respond.rs: what may leave
        match judged {
            None => Ok(answer),
            // Boxed: few plugins want it, and the frame would be part of every request's.
            Some(judged) => Ok(Box::pin(self.enveloped(answer, judged, visit)).await),
        }
    }
}
