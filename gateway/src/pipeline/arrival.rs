//! How a request, or a head that is none, begins: its record, its id, whose it is, and which page
//! is behind it.

use std::cell::RefCell;
use std::rc::Rc;

use gapura_http::http1::Refusal;
use gapura_http2::Owner;
use gapura_protocol::context::RequestId;
use gapura_protocol::headers::{TRACEPARENT, X_REQUEST_ID};
use gapura_protocol::path::CanonicalPath;
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_telemetry::access::LoggedPath;
use gapura_telemetry::span::Asked;
use gapura_transport::body::Body;
use gapura_transport::tunnel::Tunnel;
use http::header::{HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::{Method, Response, Version};

use crate::client::Client;
use crate::cors::Page;
use crate::rate_limit::Stands;
use crate::rejection::Rejection;
use crate::respond;
use crate::route::{self, Target};

use super::Pipeline;
use super::visit::Visit;

impl Pipeline {
    /// Begins a request's way; its record carries its id: the client's where it is one (rule 4 of
    /// CONTRACT section 4), and its place in its trace.
    pub(super) fn begin<'a>(
        &self,
        client: &'a Client,
        owner: &'a Rc<Owner>,
        head: &Parts,
        tunnel: &'a RefCell<Option<Tunnel>>,
    ) -> Visit<'a> {
        let mut given = head.headers.get_all(X_REQUEST_ID).into_iter();
        let kept = given.next().filter(|_| given.next().is_none());
        let address = client.address(&head.headers, |ip| self.settings.is_proxy(ip));
        let millis = self.worker.spec.clock.unix_millis();
        let mut exchange = self.exchange(kept, head.method.clone(), address.text.clone(), millis);
        exchange.answers_as_asked(head);
        let given = head.headers.get(TRACEPARENT);
        let given = given.and_then(|value| Trace::parse(value.as_bytes()));
        let trace = exchange.record.traced(given, &self.worker.random, || {
            let proto = client.proto(&head.headers, |ip| self.settings.is_proxy(ip));
            Asked {
                scheme: if proto == "https" { "https" } else { "http" },
                version: head.version,
            }
        });
        let page = Page::of(head);
        Visit {
            client,
            owner,
            exchange,
            trace,
            address,
            now: millis / 1000,
            http1: head.version != Version::HTTP_2,
            target: page.is_known().then(|| head.uri.clone()),
            page,
            hsts: self.hsts(client, &head.headers),
            stands: Stands::default(),
            tunnel,
        }
    }

    /// Answers a head that is no request, as any request is: with one answer and one record.
    pub(crate) fn refuse(&self, client: &Client, refusal: Refusal) -> Response<Body> {
        let Refusal { kind, reason, seen } = refusal;
        // Without a readable request line there is no method either, and the log must not tell of
        // one.
        let method = seen.method.or_else(|| Method::from_bytes(b"-").ok());
        let none = HeaderMap::new();
        let peer = client.address(&none, |_| false).text;
        let (kept, millis) = (
            seen.request_id.as_ref(),
            self.worker.spec.clock.unix_millis(),
        );
        let mut exchange = self.exchange(kept, method.unwrap_or_default(), peer, millis);
        let (mut page, target) = (Page::at(seen.origin), seen.target.unwrap_or_default());
        exchange.record.reason = Some(reason);
        if !target.is_empty() {
            exchange.record.path = LoggedPath::of_target(&target);
            let end = target.iter().position(|byte| *byte == b'?');
            self.find_page(&mut page, &target[..end.unwrap_or(target.len())]);
        }
        let rejection = Rejection::Head(kind);
        let mut response = respond::refuse(&rejection, exchange, &self.worker.spec.log);
        page.mark(response.headers_mut(), &self.standing);
        if let Some(hsts) = self.hsts(client, &none) {
            response
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
        response
    }

    /// A request that was refused before its path was looked up still reached a mount, and its page
    /// may read why.
    pub(super) fn find_page(&self, page: &mut Page, path: &[u8]) {
        let table = self.registry.load();
        if page.is_known()
            && let Ok(path) = CanonicalPath::parse(path)
            && let Ok(Target::Plugin(route)) = route::find(&table, &path)
        {
            page.reaches(route.plugin);
        }
    }

    /// What a client that came by https is told to do from now on (RFC 6797, section 7.2: nothing
    /// is said over http).
    fn hsts(&self, client: &Client, headers: &HeaderMap) -> Option<HeaderValue> {
        let hsts = self.settings.hsts.as_ref()?;
        let proto = client.proto(headers, |ip| self.settings.is_proxy(ip));
        (proto == "https").then(|| hsts.clone())
    }

    fn exchange(
        &self,
        given: Option<&HeaderValue>,
        method: Method,
        peer: Rc<str>,
        millis: u64,
    ) -> Box<Exchange> {
        let kept = given.and_then(|value| RequestId::of_header(value).ok());
        let new = || RequestId::new_v7(millis, self.worker.random.next_wide());
        let request_id = kept.unwrap_or_else(new);
        let mut exchange = Exchange::begin(&self.worker.sink, request_id, method, peer);
        exchange.record.belongs_to(&self.unrouted);
        exchange
    }
}
