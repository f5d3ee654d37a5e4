//! What the gateway says for itself to its operator.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gapura_mesh::access::UNROUTED;
use gapura_mesh::admin::{Page, Pages};
use gapura_mesh::alarms::Alarms;
use gapura_mesh::log::Log;
use gapura_mesh::metrics::{Meters, Side, Text, render_program};
use gapura_mesh::tls::clients::ClientTrust;
use gapura_mesh::tls::watch::TrustCounters;
use gapura_mesh::trust_metrics::render_trust;
use http::StatusCode;
use serde_json::{Value, json};

use crate::own::Own;
use crate::registry::{Found, Plugin, Registry};
use crate::standing::Standing;
use crate::upstream::cluster::Endpoint;

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct State {
    /// Readiness, and what it depends on.
    pub(crate) own: Own,
    /// The plugins.
    pub(crate) registry: Registry,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// What became of the trust set.
    pub(crate) trust_counters: Arc<TrustCounters>,
    /// What is wrong.
    pub(crate) alarms: Alarms,
    /// The counters.
    pub(crate) meters: Arc<Meters>,
    /// The log, for what it dropped.
    pub(crate) log: Log,
    /// The settings in force, without secrets.
    pub(crate) config: Arc<Value>,
    /// Who judges clients' certificates.
    pub(crate) clients: Option<ClientTrust>,
}

/// The operator's side.
pub(crate) struct Admin(pub(crate) State);

/// The health listener: for a kubelet or Prometheus, and nothing else.
pub(crate) struct Health(pub(crate) State);

impl Pages for Admin {
    fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/certificates" => Some(Page::json(StatusCode::OK, &self.0.certificates())),
            "/plugins" => Some(Page::json(StatusCode::OK, &self.0.plugins())),
            "/config" => Some(Page::json(StatusCode::OK, &self.0.config)),
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
            "/readyz" => {
                let (status, mut value) = self.own.ready();
                value["alarms"] = self.raised();
                Some(Page::json(status, &value))
            }
            "/metrics" => Some(Page::metrics(self.metrics())),
            _ => None,
        }
    }

    fn certificates(&self) -> Value {
        let mut page = self.own.trust.load().certificates();
        let public = self.own.public.as_ref().map(|public| {
            let pair = public.load();
            json!({"serial": pair.serial_hex(), "not_after": pair.not_after()})
        });
        page["public"] = public.unwrap_or(Value::Null);
        page["alarms"] = self.raised();
        page
    }

    fn plugins(&self) -> Value {
        let table = self.registry.table();
        let plugins: Vec<Value> = table
            .plugins()
            .iter()
            .map(|(file, plugin)| match table.find(plugin.mount.as_str()) {
                Found::Plugin { running, .. } => page_of(file, plugin, &running.endpoints()),
                Found::Held | Found::NoRoute => page_of(file, plugin, &[]),
            })
            .collect();
        let faults: Vec<String> = table.faults().iter().map(ToString::to_string).collect();
        json!({"plugins": plugins, "held": table.held(), "faults": faults})
    }

    fn raised(&self) -> Value {
        self.alarms
            .raised()
            .into_iter()
            .map(|(name, sentence)| json!({"name": name, "message": sentence}))
            .collect()
    }

    fn metrics(&self) -> String {
        let mut text = Text::default();
        self.meters
            .render(&mut text, &[Side::Client, Side::Hop, Side::Plugin]);
        let counts = self.registry.counts();
        text.family(
            "gapura_registry_reloads_total",
            "counter",
            "Readings of a changed plugin folder, by whether any file was faulty.",
        );
        text.sample(
            "gapura_registry_reloads_total",
            &[("result", "ok")],
            counts.ok.load(Ordering::Relaxed),
        );
        text.sample(
            "gapura_registry_reloads_total",
            &[("result", "faulty")],
            counts.faulty.load(Ordering::Relaxed),
        );
        let faulty = counts.faulty_files.load(Ordering::Relaxed);
        text.single(
            "gapura_registry_faulty_files",
            "gauge",
            "Plugin files with a fault, now.",
            faulty,
        );
        self.meters.render_shadow(&mut text, UNROUTED);
        render_trust(
            &mut text,
            &self.own.trust.load(),
            &self.trust_counters,
            self.own
                .public
                .as_ref()
                .map(|public| public.load().not_after()),
        );
        // Beside the sample for the hop: the last of the family that `render_trust` ends with. A client's connection ends early for
        // its certificate, a stream of it for its token.
        let certificates = self.clients.as_ref().map_or(0, ClientTrust::revoked_closed);
        text.sample(
            "gapura_revoked_connections_closed_total",
            &[("side", Side::Client.as_str())],
            certificates.saturating_add(self.standing.streams_ended()),
        );
        render_program(&mut text, &self.alarms, &self.log);
        text.into_string()
    }
}

/// One plugin as it is in force; of injected headers the names alone.
fn page_of(file: &str, plugin: &Plugin, endpoints: &[Arc<Endpoint>]) -> Value {
    let injected: Vec<&str> = plugin
        .inject_headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let addresses: Vec<String> = endpoints
        .iter()
        .map(|endpoint| endpoint.at.to_string())
        .collect();
    json!({
        "name": plugin.name.as_str(),
        "version": plugin.version,
        "file": file,
        "mount": plugin.mount.as_str(),
        "auth_mode": plugin.auth.as_str(),
        "identity": plugin.identity.to_string(),
        "sidecar": !plugin.upstream.is_plaintext(),
        "addresses": addresses,
        "timeout_ms": u64::try_from(plugin.timeout.as_millis()).unwrap_or(u64::MAX),
        "max_body_bytes": plugin.max_body,
        "keep_mount_prefix": plugin.keep_mount_prefix,
        "forward_headers": plugin.forward_headers.names().collect::<Vec<_>>(),
        "strip_headers": plugin.strip_headers.names().collect::<Vec<_>>(),
        "inject_headers": injected,
        "enabled": plugin.enabled,
        "restricted": plugin.access.restricts(),
        "shadow": plugin.access.is_shadow(),
        "cors": plugin.cors.is_some(),
        "ws_token": plugin.ws_token,
        "outlive_token": plugin.outlive_token,
        "not_active_yet": plugin.inactive,
    })
}
