//! Who asks, and whether they may: the stages between a request's path and its permit, with what is
//! recorded and told of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use gapura_http::http1::Incoming;
use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::Code;
use gapura_protocol::path::CanonicalPath;
use gapura_runtime::exchange::Exchange;
use gapura_telemetry::log::Level;
use gapura_telemetry::span::watched;
use gapura_transport::body::Body;
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use crate::authenticate::{self, Caller, VerifiedCaller};
use crate::authorise::{self, Permit};
use crate::endpoints::Endpoints;
use crate::logout;
use crate::openapi::{Mode, Who};
use crate::rate_limit::{Asks, For};
use crate::registry::{AuthMode, Plugin};
use crate::rejection::Rejection;
use crate::route::Endpoint;
use crate::upstream::admission::Overloaded;

use super::Pipeline;
use super::visit::Visit;

impl Pipeline {
    /// The gateway's own answer.
    pub(super) async fn answer(
        &self,
        own: Endpoint,
        head: &Parts,
        incoming: Incoming,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        visit.exchange.record.untraced();
        if own == Endpoint::Openapi && self.portal.mode() != Mode::Off {
            return Box::pin(self.contracts(head, visit)).await;
        }
        if own == Endpoint::BackchannelLogout && self.settings.takes_logouts {
            // Boxed: it is rare, and the frame would be part of every request's.
            return Box::pin(self.log_out(head, incoming, visit)).await;
        }
        self.endpoints.answer(own, &head.method)
    }

    /// The plugins' contracts, as far as who asks may see them.
    async fn contracts(
        &self,
        head: &Parts,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        Endpoints::is_read(&head.method)?;
        let caller = match self.portal.mode() {
            Mode::Token => {
                let caller = self.caller(AuthMode::GatewayVerified, head, visit).await?;
                let Caller::Verified(caller) = caller else {
                    return Err(Rejection::Authorise(authorise::Forbidden::Unproven));
                };
                Some(caller)
            }
            Mode::Public | Mode::Off => None,
        };
        // To make it is work: nobody has it done more often than they can read it.
        let limit = For::Contracts(self.portal.limit());
        self.within_limits_of(limit, caller.as_deref(), visit)
            .await?;
        match self.portal.view(caller.as_deref().map(Who::of)).await {
            Some(view) => Ok(self.portal.answer(&view, &head.headers)),
            None => Err(Rejection::Overloaded(Overloaded::Waited)),
        }
    }

    /// The logout that a provider tells of.
    async fn log_out(
        &self,
        head: &Parts,
        incoming: Incoming,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        let body = Body::message(incoming);
        let answer = logout::take(head, body, &self.authenticator, &self.standing, visit.now);
        let answer = answer.await.map_err(Rejection::Logout)?;
        let request_id = visit.exchange.record.request_id.as_str();
        let message = "a provider has told of a logout, which counts from now on";
        let log = &self.worker.spec.log;
        let fields = [("request_id", request_id.into())];
        log.event(Level::Info, "logout", message, &fields);
        Ok(answer)
    }

    /// The host that a request to a plugin is for, if it is one of ours.
    pub(super) fn host(&self, named: Option<HeaderValue>) -> Result<HeaderValue, Rejection> {
        let host = named.ok_or(Rejection::Framing(Code::BadRequest))?;
        if self.settings.serves(host.as_bytes()) {
            Ok(host)
        } else {
            Err(Rejection::Misdirected)
        }
    }

    /// Who asks, if they have proven it as `mode` wants and are welcome.
    pub(super) async fn caller(
        &self,
        mode: AuthMode,
        head: &Parts,
        visit: &mut Visit<'_>,
    ) -> Result<Caller, Rejection> {
        let proven = visit.client.certificate();
        let authenticator = &self.authenticator;
        let verified = pin!(authenticator.verify(mode, &head.headers, proven, visit.now));
        let spans = visit.exchange.record.spans.as_ref();
        // The only thing that is waited for there is keys.
        let caller = watched(spans, "wait for keys", verified)
            .await
            .map_err(|error| self.unauthenticated(error))?;
        if let Caller::Verified(caller) = &caller {
            visit.exchange.record.tenant = Some(caller.tenant().clone());
            visit.page.acts_for(caller.tenant());
            self.standing.check(caller, visit.address.ip)?;
            visit.exchange.record.actor = caller.actor().is_some();
            self.tell_actor(caller, &visit.exchange.record.request_id);
        }
        Ok(caller)
    }

    /// Whether they may.
    pub(super) fn permit(
        &self,
        plugin: &Arc<Plugin>,
        caller: Caller,
        method: &Method,
        path: &CanonicalPath<'_>,
        visit: &Visit<'_>,
    ) -> Result<Permit, Rejection> {
        let permit = authorise::admit(plugin, caller, method, path.as_str())?;
        if let Some(refusal) = permit.shadowed() {
            let why = format!("of rules that refuse it: {refusal}");
            self.passed_in_shadow(&why, &visit.exchange);
        }
        Ok(permit)
    }

    /// Whether its caller has not sent too much.
    pub(super) async fn within_limits(
        &self,
        permit: &Permit,
        visit: &mut Visit<'_>,
    ) -> Result<(), Rejection> {
        let plugin = For::Plugin(permit.plugin());
        self.within_limits_of(plugin, permit.caller(), visit).await
    }

    async fn within_limits_of(
        &self,
        what: For<'_>,
        caller: Option<&VerifiedCaller>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Rejection> {
        let asks = Asks {
            what,
            company: caller.and_then(|caller| self.standing.rate_limit(caller.tenant().as_str())),
            caller,
            client: visit.address.network(),
        };
        if !asks.is_limited() {
            return Ok(());
        }
        let passed = self.limiter.take(&asks, Instant::now()).await?;
        visit.stands = passed.stands;
        if let Some(over) = passed.shadowed {
            let why = format!("of a limit: it is {}", over.as_str());
            self.passed_in_shadow(&why, &visit.exchange);
        }
        Ok(())
    }

    /// Counts and tells of a request that would be refused by what only watches.
    fn passed_in_shadow(&self, why: &str, exchange: &Exchange) {
        let record = &exchange.record;
        let Some(plugin) = &record.plugin else {
            return;
        };
        let spec = &self.worker.spec;
        plugin.slot(spec.index).shadow_refusals.add(1);
        let fields = [
            ("request_id", record.request_id.as_str().into()),
            ("plugin", plugin.name().into()),
        ];
        let message = format!("passed in the shadow {why}");
        spec.log
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
        let (message, log) = ("somebody acts for a user", &self.worker.spec.log);
        log.event(Level::Info, "actor", message, &fields);
    }

    fn unauthenticated(&self, error: authenticate::Error) -> Rejection {
        let (label, known) = (error.label(), authenticate::Error::LABELS);
        if let Some(index) = known.iter().position(|known| *known == label) {
            self.worker.meters().token_rejected(index);
        }
        Rejection::Authenticate(error)
    }
}
