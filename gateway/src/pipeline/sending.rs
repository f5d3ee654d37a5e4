//! What goes to the plugin: the head, a copy for a canary, and the place among those that are under
//! way.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use gapura_protocol::framing;
use gapura_protocol::trace::SpanId;
use gapura_telemetry::span::watched;
use gapura_transport::timers::STEP;
use gapura_transport::upstream::Answer;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, Request};

use crate::authenticate::VerifiedCaller;
use crate::authorise::Permit;
use crate::grpc;
use crate::limits::TURN_WITHIN;
use crate::outgoing::{Facts, Origin, Outgoing};
use crate::registry::Canary;
use crate::rejection::Rejection;
use crate::respond;
use crate::upload::Upload;
use crate::upstream;
use crate::upstream::admission::{InFlight, Overloaded, Party};
use crate::upstream::cluster::{AtCanary, Cluster};
use crate::upstream::mirror::{self, Mirroring, Prepared};

use super::Pipeline;
use super::visit::{Found, Reached, Visit};

/// What became of a request that was sent.
pub(super) struct Sent {
    /// Its place, until its answer has gone out.
    pub(super) in_flight: InFlight,
    pub(super) answer: Answer,
    /// What its copy's answer is compared with.
    pub(super) copied: Option<Mirroring>,
}

impl Pipeline {
    /// What the request that goes on is made of, now and where it goes once more.
    pub(super) fn origin<'a>(
        &'a self,
        permit: &'a Permit,
        head: &'a Parts,
        found: &Found<'a>,
        visit: &Visit<'_>,
    ) -> Origin<'a> {
        // A call that is recorded has one of its own instead: upstream/mod.rs.
        let span = match &visit.exchange.record.spans {
            Some(spans) => spans.id(),
            None => SpanId::new(self.worker.random.next()),
        };
        let facts = Facts {
            request_id: visit.exchange.record.request_id.clone(),
            trace: visit.trace,
            span,
            client: visit.address.header.clone(),
            is_proxy: visit.client.is_proxy(),
            proto: visit
                .client
                .proto(&head.headers, |ip| self.settings.is_proxy(ip)),
            host: found.host.clone(),
            rest: found.route.path,
            websocket: found.websocket,
            bodiless: found.bodiless,
            large: found.large,
            now: visit.now,
        };
        Origin {
            permit,
            head,
            facts,
            signer: self.signer.as_deref(),
        }
    }

    /// The request as its plugin may see it; and its copy, where the plugin's file wants copies of
    /// such requests.
    pub(super) fn outgoing(
        &self,
        origin: &Origin<'_>,
        route: &Reached<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(Outgoing, Option<Prepared>), Rejection> {
        let canary = route.plugin.canary.as_ref();
        let copy = canary
            .zip(route.running.canary.as_ref())
            .and_then(|canary| self.copy(canary, origin));
        let (mut outgoing, stripped) = origin.prepare()?;
        outgoing.spans = visit.exchange.record.spans.clone();
        visit.exchange.record.stripped = stripped;
        Ok((outgoing, copy))
    }

    /// A copy for the canary, which stands in the request's trace beside what is sent to the
    /// plugin.
    fn copy(&self, (canary, at): (&Canary, &AtCanary), origin: &Origin<'_>) -> Option<Prepared> {
        if !canary.mirror {
            return None;
        }
        at.cluster.allowance().request();
        let Origin {
            permit,
            head,
            facts,
            signer,
        } = origin;
        let company = permit.caller().map(VerifiedCaller::tenant);
        let is_read = head.method == Method::GET || head.method == Method::HEAD;
        if !is_read || !facts.bodiless || facts.websocket || !canary.takes(company) {
            return None;
        }
        mirror::prepare(&self.worker, &at.cluster, || {
            let mut copy = Request::new(()).into_parts().0;
            copy.method = head.method.clone();
            copy.uri = head.uri.clone();
            copy.version = head.version;
            copy.headers = head.headers.clone();
            if !canary.mirror_token {
                copy.headers.remove(AUTHORIZATION);
            }
            let origin = Origin {
                permit: &permit.for_copy(&at.plugin),
                head: &copy,
                facts: facts.clone(),
                signer: *signer,
            };
            Some(origin.prepare().ok()?.0)
        })
    }

    /// The plugin's answer, once it was the company's turn to ask; and the place that this takes
    /// until it has gone out. The copy goes when its original does: a plugin that is full costs its
    /// canary nothing.
    pub(super) async fn send(
        &self,
        origin: &Origin<'_>,
        cluster: &Arc<Cluster>,
        (outgoing, copy): (Outgoing, Option<Prepared>),
        upload: Upload,
        visit: &mut Visit<'_>,
    ) -> Result<Sent, Rejection> {
        let Upload {
            body,
            progress,
            interim,
            waits,
            ..
        } = upload;
        visit.exchange.upload = Some(progress.clone());
        let permit = origin.permit;
        let plugin = permit.plugin();
        let again = || origin.again();
        let mut hint = |status, head| respond::hint(interim.as_ref(), plugin, status, head);
        let sent = pin!(async {
            let in_flight = {
                let spans = visit.exchange.record.spans.as_ref();
                let turn = pin!(self.admit(cluster, permit, visit)); // upstream/admission.rs: whose turn
                watched(spans, "wait for a turn", turn).await?
            };
            let copied = copy.and_then(|copy| copy.go(&self.upstreams, &self.worker));
            let begun = Instant::now();
            let by = (visit.owner, &mut hint as _);
            let upstreams = &self.upstreams; // upstream/: an instance, mTLS to its sidecar
            let mut answer = upstreams
                .send(cluster, (outgoing, &again), body, &progress, by)
                .await?;
            visit.exchange.record.upstream = Some(begun.elapsed());
            if framing::settle_answer(answer.response.headers_mut()) {
                Ok(Sent {
                    in_flight,
                    answer,
                    copied,
                })
            } else {
                Err(Rejection::Forward(upstream::Error::Protocol))
            }
        });
        grpc::within(&self.worker.timers, waits, sent).await // grpc.rs: as long as the caller waits
    }

    /// A place among the requests that are under way to a plugin, once it is this company's turn.
    async fn admit(
        &self,
        cluster: &Cluster,
        permit: &Permit,
        visit: &Visit<'_>,
    ) -> Result<InFlight, Rejection> {
        let plugin = permit.plugin();
        let party = || match permit.caller() {
            Some(caller) => Party::Company(caller.tenant().clone()),
            None => Party::Network(visit.address.network()),
        };
        // One wait, wherever it is spent: for this worker, or for the plugin.
        let within = TURN_WITHIN.min(plugin.timeout);
        let timers = &self.worker.timers;
        let begun = timers.now();
        self.turns
            .turn(party, || timers.sleep(within))
            .await
            .map_err(Overloaded::from)?;
        let waited = STEP * u32::try_from(timers.now() - begun).unwrap_or(u32::MAX);
        let over = || timers.sleep(within.saturating_sub(waited));
        let (admission, most) = (cluster.admission(), plugin.max_in_flight);
        Ok(admission.enter(most, party, over).await?)
    }
}
