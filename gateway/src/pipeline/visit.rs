//! What goes with one request from its head to its answer, and what is found out of it on the way.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use gapura_http2::Owner;
use gapura_protocol::path::CanonicalPath;
use gapura_protocol::trace::Trace;
use gapura_runtime::exchange::Exchange;
use gapura_runtime::worker::Worker;
use gapura_telemetry::access::LoggedPath;
use gapura_transport::tunnel::Tunnel;
use http::{HeaderValue, Uri};

use crate::authenticate::VerifiedCaller;
use crate::authorise::Permit;
use crate::client::{Client, Named};
use crate::cors::Page;
use crate::rate_limit::Stands;
use crate::route::Route;
use crate::upload::Upload;
use crate::upstream::cluster::{Cluster, Running};
use crate::ws_token::WebSocket;

/// What goes with one request from its head to its answer.
pub(super) struct Visit<'a> {
    pub(super) client: &'a Client,
    /// For whom streams hold what its client does not take.
    pub(super) owner: &'a Rc<Owner>,
    pub(super) exchange: Box<Exchange>,
    pub(super) trace: Trace,
    /// Where the client is, whatever proxies of ours stand between.
    pub(super) address: Named,
    /// Unix seconds at its arrival.
    pub(super) now: u64,
    /// Whether it came as HTTP/1, whose connection may have to end with it.
    pub(super) http1: bool,
    pub(super) page: Page,
    /// Where a page's request is for, until its mount is known.
    pub(super) target: Option<Uri>,
    /// What its client is told about coming by https.
    pub(super) hsts: Option<HeaderValue>,
    /// Where it stands with the limits that it has passed.
    pub(super) stands: Stands,
    /// Where the connection looks behind a 101.
    pub(super) tunnel: &'a RefCell<Option<Tunnel>>,
}

/// A route with what runs for its plugin.
pub(super) type Reached<'a> = Route<'a, Running>;

/// What a request was found to be, beside who may send it.
pub(super) struct Found<'a> {
    pub(super) route: Reached<'a>,
    pub(super) host: HeaderValue,
    pub(super) websocket: bool,
    pub(super) bodiless: bool,
    pub(super) large: bool,
}

impl Visit<'_> {
    /// Its target is known; the line and the span name it where there is one.
    pub(super) fn is_for(
        &mut self,
        uri: &Uri,
        path: &CanonicalPath<'_>,
        host: Option<&HeaderValue>,
        logs: bool,
    ) {
        let (path, record) = (path.as_str(), &mut self.exchange.record);
        if let (Some(spans), Some(host)) = (&record.spans, host) {
            spans.is_for(host);
        }
        record.path = match uri.path_and_query() {
            _ if !logs && record.spans.is_none() => LoggedPath::None,
            Some(known) if known.path() == path => LoggedPath::Same(known.clone()),
            _ => LoggedPath::Changed(path.into()),
        };
    }

    /// It has reached a plugin's mount.
    pub(super) fn reaches(&mut self, route: &Reached<'_>, worker: &Worker) {
        let meters = route.running.main.meters(&worker.spec.meters);
        let record = &mut self.exchange.record;
        record.belongs_to(meters);
        if let Some(spans) = &record.spans {
            spans.takes(route.plugin.mount.as_str());
        }
        self.page.reaches(route.plugin);
    }
}

impl<'a> Found<'a> {
    pub(super) fn of(
        route: Reached<'a>,
        host: HeaderValue,
        websocket: &WebSocket,
        upload: &Upload,
    ) -> Self {
        Self {
            route,
            host,
            websocket: websocket.asked,
            bodiless: upload.body.is_ended(),
            large: upload.large,
        }
    }
}

/// Where a permitted request goes: to its plugin, or to the plugin's canary if that takes the
/// caller's company.
pub(super) fn bound(route: &Reached<'_>, permit: Permit) -> (Permit, Arc<Cluster>) {
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
