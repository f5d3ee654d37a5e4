//! What a program says for itself on the operator's side and to a kubelet.
//!
//! In: what all programs share, and of each program a [`Report`] of what it knows besides. Out: a page for each
//! [`Endpoint`]. Invariant: no page shows a key, a token or a secret; what is shown of settings is made where they are read.

use std::collections::BTreeMap;
use std::rc::Rc;

use gapura_protocol::leg::Side;
use gapura_telemetry::access::UNROUTED;
use gapura_telemetry::alarms::{Alarms, docs};
use gapura_telemetry::metrics::{Text, render_program, render_spans};
use http::StatusCode;
use serde_json::{Value, json};

use crate::admin::{Endpoint, Events, Page, Pages};
use crate::shared::{Missing, Shared};
use crate::tap::{TAP, Taps};
use crate::trust_metrics::render_trust;

/// What one program has to say besides what both do.
pub trait Report: 'static {
    /// The sides whose connections it counts.
    const SIDES: &'static [Side];

    /// Whether it explains how it would decide a request.
    const EXPLAINS: bool = false;

    /// What it shares with the other.
    fn shared(&self) -> &Shared;

    /// What keeps it from being ready.
    fn missing(&self) -> Vec<Missing> {
        self.shared().missing()
    }

    /// A page of its own; `None` where this program has none.
    fn page(&self, _endpoint: Endpoint) -> Option<Page> {
        None
    }

    /// The certificate that clients see, as `/certificates` shows it, where there is a listener for clients.
    fn public_certificate(&self) -> Option<Value> {
        None
    }

    /// When that ends.
    fn public_not_after(&self) -> Option<u64> {
        None
    }

    /// How many connections of clients were ended since somebody is no longer welcome, where there are any.
    fn revoked_clients(&self) -> Option<u64> {
        None
    }

    /// How it would decide the request that `question` describes, in JSON.
    fn explain(&self, _question: &[u8]) -> Option<Page> {
        None
    }

    /// Where each plugin in force is mounted, in a program that has mounts.
    fn mounts(&self) -> Option<BTreeMap<String, String>> {
        None
    }

    /// Counters of its own.
    fn metrics(&self, _text: &mut Text) {}
}

/// The operator's side.
pub struct Admin<R> {
    report: Rc<R>,
    taps: Taps,
}

/// The health listener: for a kubelet or Prometheus, and nothing else.
pub struct Health<R>(pub Rc<R>);

impl<R: Report> Admin<R> {
    /// Of a program that has `report` to say.
    #[must_use]
    pub fn new(report: Rc<R>) -> Self {
        let shared = report.shared();
        let taps = Taps::new(shared.tap.clone(), shared.log.clone());
        Self { report, taps }
    }
}

impl<R: Report> Pages for Admin<R> {
    fn page(&self, path: &str) -> Option<Page> {
        page(&*self.report, Endpoint::of(path)?)
    }

    fn events(&self, path: &str, query: Option<&str>) -> Option<Result<Events, Page>> {
        (path == TAP).then(|| self.taps.events(query))
    }

    fn takes_questions(&self, path: &str) -> bool {
        R::EXPLAINS && path == EXPLAIN
    }

    fn answer(&self, path: &str, question: &[u8]) -> Option<Page> {
        (path == EXPLAIN).then(|| self.report.explain(question))?
    }
}

/// Where questions are posted (CONTRACT section 6).
const EXPLAIN: &str = "/explain";

impl<R: Report> Pages for Health<R> {
    fn page(&self, path: &str) -> Option<Page> {
        let endpoint = Endpoint::of(path).filter(|endpoint| endpoint.is_for_machines())?;
        page(&*self.0, endpoint)
    }
}

fn page(report: &impl Report, endpoint: Endpoint) -> Option<Page> {
    match endpoint {
        Endpoint::Healthz => Some(Page::json(StatusCode::OK, &json!({"ok": true}))),
        Endpoint::Readyz => Some(ready(report)),
        Endpoint::Metrics => Some(Page::metrics(metrics(report))),
        Endpoint::Certificates => Some(Page::json(StatusCode::OK, &certificates(report))),
        Endpoint::Plugins | Endpoint::Config => report.page(endpoint),
    }
}

fn ready(report: &impl Report) -> Page {
    let missing: Vec<String> = report.missing().iter().map(Missing::to_string).collect();
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let alarms = raised(&report.shared().alarms);
    Page::json(
        status,
        &json!({"ok": missing.is_empty(), "missing": missing, "alarms": alarms}),
    )
}

fn certificates(report: &impl Report) -> Value {
    let mut page = report.shared().trust.load().certificates();
    if let Some(page) = page.as_object_mut() {
        if let Some(public) = report.public_certificate() {
            page.insert("public".into(), public);
        }
        page.insert("alarms".into(), raised(&report.shared().alarms));
    }
    page
}

fn metrics<R: Report>(report: &R) -> String {
    let (shared, mut text) = (report.shared(), Text::default());
    shared.meters.render(&mut text, R::SIDES);
    let mounts = report.mounts();
    shared.meters.render_http_server(&mut text, |plugin| {
        let Some(mounts) = &mounts else {
            return Some(None);
        };
        match mounts.get(plugin) {
            Some(mount) => Some(Some(mount.clone())),
            None => (plugin == UNROUTED).then_some(None),
        }
    });
    report.metrics(&mut text);
    render_trust(
        &mut text,
        &shared.trust.load(),
        &shared.trust_counters,
        report.public_not_after(),
    );
    if let Some(closed) = report.revoked_clients() {
        // In the family that `render_trust` has just ended with.
        text.sample(
            "gapura_revoked_connections_closed_total",
            &[("side", Side::Client.as_str())],
            closed,
        );
    }
    if let Some(spans) = &shared.spans {
        render_spans(&mut text, spans);
    }
    render_program(&mut text, &shared.alarms, &shared.log);
    text.into_string()
}

fn raised(alarms: &Alarms) -> Value {
    alarms
        .raised()
        .into_iter()
        .map(|(name, sentence)| json!({"name": name, "message": sentence, "docs": docs(name)}))
        .collect()
}
