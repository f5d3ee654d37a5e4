//! What a program says for itself on the operator's side and to a kubelet.
//!
//! In: what all programs share, and of each program a [`Report`] of what it knows besides. Out: a
//! page for each [`Endpoint`]. Invariant: no page shows a key, a token or a secret; what is shown
//! of settings is made where they are read.

use std::rc::Rc;
use std::sync::Arc;

use gapura_protocol::leg::Side;
use gapura_telemetry::access::UNROUTED;
use gapura_telemetry::alarms::{Alarms, docs};
use gapura_telemetry::metrics::{Text, render_program, render_spans};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::admin::{Endpoint, Events, Page, Pages};
use crate::feed::{self, Feed};
use crate::report::Report;
use crate::shared::Missing;
use crate::tap::{TAP, Taps};
use crate::trust_metrics::render_trust;

/// Who answers on the listeners for people and machines that watch a program.
pub struct AdminPages {
    /// On the operator's side.
    pub admin: Rc<dyn Pages>,
    /// On the health listener.
    pub health: Rc<dyn Pages>,
    /// What an operator must say.
    pub token: Option<Arc<[u8]>>,
}

/// The operator's side.
struct Admin<R> {
    /// What the program says.
    report: Rc<R>,
    /// Who looks at the page.
    feed: Feed,
    /// Who looks at finished requests.
    taps: Taps,
}

/// The health listener: for a kubelet or Prometheus, and nothing else.
struct Health<R>(Rc<R>);

impl AdminPages {
    /// Of a program that has `report` to say, to an operator who says `token`. What keeps the page
    /// for people current begins among `tasks`.
    pub fn begin<R: Report>(report: R, token: Option<Arc<[u8]>>, tasks: &mut JoinSet<()>) -> Self {
        let report = Rc::new(report);
        let feed = Feed::default();
        tasks.spawn_local(feed.clone().run(report.clone()));
        Self {
            admin: Rc::new(Admin::new(report.clone(), feed)),
            health: Rc::new(Health(report)),
            token,
        }
    }
}

impl<R: Report> Admin<R> {
    /// Of a program that has `report` to say, whose page `feed` shows.
    fn new(report: Rc<R>, feed: Feed) -> Self {
        let shared = report.shared();
        let taps = Taps::new(shared.tap.clone(), shared.log.clone());
        Self { report, feed, taps }
    }
}

impl<R: Report> Pages for Admin<R> {
    fn page(&self, path: &str) -> Option<Page> {
        match Endpoint::of(path) {
            Some(endpoint) => page(&*self.report, endpoint),
            None => (path == feed::DOCUMENT).then(|| self.feed.page(&*self.report)),
        }
    }

    fn open_page(&self, path: &str) -> Option<Page> {
        feed::asset(path)
    }

    fn events(&self, path: &str, query: Option<&str>) -> Option<Result<Events, Page>> {
        match path {
            feed::EVENTS => Some(self.feed.look(&*self.report)),
            TAP => Some(self.taps.events(query)),
            _ => None,
        }
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
        report.public_life().map(|(_, _, not_after)| not_after),
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
