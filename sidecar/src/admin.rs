//! What the sidecar says for itself.

use std::sync::Arc;

use gapura_mesh::admin::{Page, Pages};
use gapura_mesh::alarms::Alarms;
use gapura_mesh::clock::Clock;
use gapura_mesh::log::Log;
use gapura_mesh::metrics::{Meters, Side, Text};
use gapura_mesh::shutdown::{Phase, Stopping};
use gapura_mesh::tls::trust::TrustStore;
use gapura_mesh::tls::watch::TrustCounters;
use http::StatusCode;
use serde_json::json;

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct State {
    /// The trust in force.
    pub(crate) trust: TrustStore,
    /// Its history.
    pub(crate) trust_counters: Arc<TrustCounters>,
    /// What is wrong.
    pub(crate) alarms: Alarms,
    /// The counters.
    pub(crate) meters: Arc<Meters>,
    /// The log, for what it dropped.
    pub(crate) log: Log,
    /// The program's clock.
    pub(crate) clock: Clock,
    /// The program's end.
    pub(crate) stopping: Stopping,
}

/// The operator's side.
pub(crate) struct Admin(pub(crate) State);

/// The health listener: for a kubelet or Prometheus, and nothing else.
pub(crate) struct Health(pub(crate) State);

impl Pages for Admin {
    fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/certificates" => Some(Page::json(StatusCode::OK, &self.0.certificates())),
            _ => self.0.health(path),
        }
    }
}

impl Pages for Health {
    fn page(&self, path: &str) -> Option<Page> {
        self.0.health(path)
    }
}

impl State {
    fn health(&self, path: &str) -> Option<Page> {
        match path {
            "/healthz" => Some(Page::json(StatusCode::OK, &json!({"ok": true}))),
            "/readyz" => Some(self.ready()),
            "/metrics" => Some(Page::metrics(self.metrics())),
            _ => None,
        }
    }

    fn ready(&self) -> Page {
        let mut missing = Vec::new();
        if self.stopping.phase() != Phase::Run {
            missing.push("draining".to_owned());
        }
        let trust = self.trust.load();
        missing.extend(match trust.went_back() {
            Some(sentence) => Some(format!("revocation lists: {sentence}")),
            None => trust
                .own_refusal(self.clock.now())
                .map(|refusal| format!("own certificate: {refusal}")),
        });
        let status = if missing.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Page::json(
            status,
            &json!({"ok": missing.is_empty(), "missing": missing, "alarms": self.raised()}),
        )
    }

    fn certificates(&self) -> serde_json::Value {
        let mut page = self.trust.load().certificates();
        if let Some(page) = page.as_object_mut() {
            page.insert("alarms".into(), self.raised());
        }
        page
    }

    fn raised(&self) -> serde_json::Value {
        self.alarms
            .raised()
            .into_iter()
            .map(|(name, sentence)| json!({"name": name, "message": sentence}))
            .collect()
    }

    fn metrics(&self) -> String {
        let mut text = Text::default();
        self.meters.render(&mut text, &[Side::Hop, Side::Plugin]);
        gapura_mesh::trust_metrics::render_trust(
            &mut text,
            &self.trust.load(),
            &self.trust_counters,
            None,
        );
        gapura_mesh::metrics::render_program(&mut text, &self.alarms, &self.log);
        text.into_string()
    }
}
