//! What the gateway says for itself to its operator.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gapura_protocol::leg::Side;
use gapura_runtime::admin::{Endpoint, Page};
use gapura_runtime::pages::Report;
use gapura_runtime::reload::clients::ClientTrust;
use gapura_runtime::shared::{Missing, Shared};
use gapura_telemetry::access::UNROUTED;
use gapura_telemetry::metrics::Text;
use http::StatusCode;
use serde_json::{Value, json};

use crate::endpoints::Endpoints;
use crate::registry::{Found, Plugin, Registry};
use crate::standing::Standing;
use crate::upstream::cluster::Instance;

/// What the pages are made from.
pub(crate) struct Admin {
    /// Readiness, and what it depends on.
    pub(crate) endpoints: Endpoints,
    /// The plugins.
    pub(crate) registry: Registry,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// The settings in force, without secrets.
    pub(crate) config: Value,
    /// Who judges clients' certificates.
    pub(crate) clients: Option<ClientTrust>,
}

impl Report for Admin {
    const SIDES: &'static [Side] = &[Side::Client, Side::Hop, Side::Plugin];

    fn shared(&self) -> &Shared {
        &self.endpoints.shared
    }

    fn missing(&self) -> Vec<Missing> {
        self.endpoints.missing()
    }

    fn page(&self, endpoint: Endpoint) -> Option<Page> {
        match endpoint {
            Endpoint::Plugins => Some(Page::json(StatusCode::OK, &self.plugins())),
            Endpoint::Config => Some(Page::json(StatusCode::OK, &self.config)),
            Endpoint::Healthz | Endpoint::Readyz | Endpoint::Metrics | Endpoint::Certificates => {
                None
            }
        }
    }

    fn public_certificate(&self) -> Option<Value> {
        let public = self.endpoints.public.as_ref().map(|public| {
            let pair = public.load();
            json!({"serial": pair.serial_hex(), "not_after": pair.not_after()})
        });
        Some(public.unwrap_or(Value::Null))
    }

    fn public_not_after(&self) -> Option<u64> {
        let public = self.endpoints.public.as_ref()?;
        Some(public.load().not_after())
    }

    /// A client's connection ends early for its certificate, a stream of it for its token.
    fn revoked_clients(&self) -> Option<u64> {
        let certificates = self.clients.as_ref().map_or(0, ClientTrust::revoked_closed);
        Some(certificates.saturating_add(self.standing.streams_ended()))
    }

    fn metrics(&self, text: &mut Text) {
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
        self.shared().meters.render_shadow(text, UNROUTED);
        self.waiting(text);
    }
}

impl Admin {
    fn waiting(&self, text: &mut Text) {
        let name = "gapura_requests_waiting";
        let help = "Requests that wait for a place with the plugin.";
        text.family(name, "gauge", help);
        let table = self.registry.table();
        let running = table.running();
        let mut waiting: Vec<(&str, u64)> = running
            .map(|(plugin, cluster)| (plugin.name.as_str(), cluster.admission().waiting()))
            .collect();
        waiting.sort_unstable();
        for (plugin, count) in waiting {
            text.sample(name, &[("plugin", plugin)], count);
        }
    }

    fn plugins(&self) -> Value {
        let table = self.registry.table();
        let plugins: Vec<Value> = table
            .plugins()
            .iter()
            .map(|(file, plugin)| match table.find(plugin.mount.as_str()) {
                Found::Plugin { running, .. } => {
                    let mut page = page_of(file, plugin, &running.instances());
                    page["in_flight"] = running.admission().under_way().into();
                    page["waiting"] = running.admission().waiting().into();
                    page
                }
                Found::Held | Found::NoRoute => page_of(file, plugin, &[]),
            })
            .collect();
        let faults: Vec<String> = table.faults().iter().map(ToString::to_string).collect();
        json!({"plugins": plugins, "held": table.held(), "faults": faults})
    }
}

/// One plugin as it is in force; of injected headers the names alone.
fn page_of(file: &str, plugin: &Plugin, instances: &[Arc<Instance>]) -> Value {
    let injected: Vec<&str> = plugin
        .inject_headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let addresses: Vec<String> = instances
        .iter()
        .map(|instance| instance.at.to_string())
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
        "max_in_flight": plugin.max_in_flight,
        "rate_limit": plugin.rate_limit.as_ref().map(|limit| limit.to_json()),
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
