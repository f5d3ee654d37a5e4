//! How a request ends: what of a plugin's answer may leave, or a refusal; with the marks that every
//! answer of the door bears.

use gapura_protocol::envelope::{Code, with_id};
use gapura_transport::body::Body;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::Tunnel;
use gapura_transport::upstream::Answer;
use http::header::{CONNECTION, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{Response, StatusCode};

use crate::authorise::Permit;
use crate::envelope;
use crate::rate_limit;
use crate::rejection::Rejection;
use crate::respond;
use crate::until::Until;
use crate::ws_token::{self, WebSocket};

use super::Pipeline;
use super::sending::Sent;
use super::visit::Visit;

impl Pipeline {
    /// What of a plugin's answer may leave, and until when; behind a 101 there is a tunnel.
    pub(super) fn answered(
        &self,
        sent: Sent,
        permit: &Permit,
        websocket: &WebSocket,
        visit: &mut Visit<'_>,
    ) -> Result<Response<Body>, Rejection> {
        let (timers, standing) = (&self.worker.timers, &self.standing);
        let Sent {
            in_flight,
            answer,
            copied,
        } = sent;
        let Answer {
            response: mut answer,
            switched,
        } = answer;
        if let Some(comparison) = copied {
            answer = comparison.watch(answer);
        }
        let plugin = permit.plugin();
        let until = Until::of(permit, visit.address.ip, visit.now); // until.rs: for how long
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            if plugin.ws_token {
                ws_token::answer(answer.headers_mut(), websocket.offered.as_ref())?;
            }
            let end = until.end(timers, standing);
            let (answer, tunnel) = Tunnel::grant(answer, websocket.asked, switched, end)?;
            *visit.tunnel.borrow_mut() = Some(tunnel);
            return Ok(answer);
        }
        let sidecar = !plugin.upstream.is_plaintext();
        let record = &mut visit.exchange.record;
        let answer = respond::pass_on(answer, sidecar, until, standing, timers, record);
        Ok(respond::holding(in_flight, answer, &self.holdings)) // upstream/holding.rs: until when
    }

    /// A plugin's answer, counted or put into the envelope as its file wants.
    pub(super) async fn enveloped(
        &self,
        answer: Response<Body>,
        judged: envelope::Judged,
        visit: &Visit<'_>,
    ) -> Response<Body> {
        let record = &visit.exchange.record;
        let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        // What the sidecar made is in the envelope.
        let (Some(meters), None, false) = (&record.plugin, record.code, switched) else {
            return answer;
        };
        let count = envelope::Count::new(meters, self.worker.spec.index);
        let (id, timers) = (&record.request_id, &self.worker.timers);
        judged.answer(answer, count, id, timers).await
    }

    /// The answer to a request, whatever became of it; the record goes with it.
    pub(super) fn end(
        &self,
        result: Result<Response<Body>, Rejection>,
        visit: Visit<'_>,
    ) -> Response<Body> {
        let Visit {
            mut exchange,
            mut page,
            tunnel,
            ..
        } = visit;
        if let (Err(Rejection::Framing(_)), Some(target)) = (&result, &visit.target) {
            self.find_page(&mut page, target.path().as_bytes());
        }
        let phase = self.worker.spec.stopping.phase();
        let ends = match &result {
            Ok(answer) => answer.status() != StatusCode::SWITCHING_PROTOCOLS && phase != Phase::Run,
            Err(rejection) => rejection.ends_connection() || phase != Phase::Run,
        };
        // A stream of HTTP/2 ends alone; a worker that a panic was caught in is not to be trusted
        // with the others.
        let ends = ends && (visit.http1 || matches!(result, Err(Rejection::Panic)));
        let mut response = match result {
            Ok(answer) => {
                // A refusal of the sidecar's in gRPC's form has the status of any refusal with its
                // code.
                let made = exchange.record.code.map(Code::status);
                exchange.record.status = made.unwrap_or(answer.status()).as_u16();
                let answer = with_id(answer, &exchange.record.request_id);
                exchange.carried(answer, tunnel.borrow_mut().as_mut())
            }
            Err(rejection) => {
                let rejection = match phase {
                    Phase::Cut => rejection.at_the_end(),
                    _ => rejection,
                };
                if rejection.code() == Code::Overloaded {
                    self.worker.shed();
                }
                respond::refuse(&rejection, exchange, &self.worker.spec.log)
            }
        };
        let headers = response.headers_mut();
        rate_limit::mark(visit.stands.iter(), headers);
        page.mark(headers, &self.standing); // cors.rs: what browsers are told
        if let Some(hsts) = visit.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
        if ends {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
