//! How a request, or a head that is none, begins: its record, its id, and its place in its trace.

use std::rc::Rc;

use gapura_http::http1::Refusal;
use gapura_protocol::context::RequestId;
use gapura_protocol::headers::TRACEPARENT;
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_telemetry::access::{LoggedPath, Record};
use gapura_telemetry::span::Asked;
use gapura_transport::body::Body;
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use crate::rejection::Rejection;
use crate::respond;

use super::Pipeline;

impl Pipeline {
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

    pub(super) fn begin(
        &self,
        name: &Rc<str>,
        method: Method,
        given: Option<&HeaderValue>,
    ) -> Box<Exchange> {
        let given = given.and_then(|value| RequestId::of_header(value).ok());
        let request_id = given.unwrap_or_else(|| self.new_request_id());
        let sink = &self.worker.sink;
        let mut exchange = Exchange::begin(sink, request_id, method, name.clone());
        exchange.record.belongs_to(&self.meters);
        exchange
    }

    /// Gives the request its place in its trace. None begins here: what comes without one is a
    /// gateway's own question.
    pub(super) fn trace(&self, head: &mut Parts, record: &mut Record) {
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

    fn new_request_id(&self) -> RequestId {
        RequestId::new_v7(
            self.worker.spec.clock.unix_millis(),
            self.worker.random.next_wide(),
        )
    }
}
