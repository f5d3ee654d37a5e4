//! What the gateway says for itself to its operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gapura_operator::admin::{Endpoint, Page};
use gapura_operator::report::Report;
use gapura_operator::shared::{Missing, Shared};
use gapura_page::history::History;
use gapura_protocol::clock::unix;
use gapura_protocol::leg::Side;
use gapura_reload::clients::ClientTrust;
use gapura_telemetry::access::UNROUTED;
use gapura_telemetry::metrics::Text;
use http::StatusCode;
use serde_json::{Value, json};

use crate::authenticate::Keys;
use crate::endpoints::Endpoints;
use crate::explain::{InForce, answer};
use crate::openapi::Book;
use crate::page::{Facts, Sources};
use crate::rate_limit::Limiter;
use crate::registry::{Found, Plugin, Registry};
use crate::settings::Downstream;
use crate::standing::Standing;
use crate::upstream::cluster::{Cluster, Running};
use crate::upstream::health::Reason;

/// What the pages are made from.
pub(crate) struct Admin {
    /// Readiness, and what it depends on.
    pub(crate) endpoints: Endpoints,
    /// The plugins.
    pub(crate) registry: Registry,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// The keys that tokens are verified with.
    pub(crate) keys: Keys,
    /// What each has left of its limits.
    pub(crate) limiter: Limiter,
    /// What the operator has set for the door.
    pub(crate) settings: Arc<Downstream>,
    /// The settings in force, without secrets.
    pub(crate) config: Value,
    /// Who judges clients' certificates.
    pub(crate) clients: Option<ClientTrust>,
    /// The plugins' contracts.
    pub(crate) book: Book,
}

impl Report for Admin {
    const SIDES: &'static [Side] = &[Side::Client, Side::Hop, Side::Plugin];

    const EXPLAINS: bool = true;

    type Facts = Facts;

    fn facts(&self, history: &History) -> Facts {
        let shared = self.shared();
        Facts::now(&Sources {
            registry: &self.registry,
            standing: &self.standing,
            keys: &self.keys,
            limiter: &self.limiter,
            meters: &shared.meters,
            history,
            now: shared.clock.now(),
        })
    }

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

    fn public_life(&self) -> Option<(String, u64, u64)> {
        let public = self.endpoints.public.as_ref()?.load();
        let serial = public.serial_hex().to_owned();
        Some((serial, public.not_before(), public.not_after()))
    }

    /// A client's connection ends early for its certificate, a stream of it for its token.
    fn revoked_clients(&self) -> Option<u64> {
        let certificates = self.clients.as_ref().map_or(0, ClientTrust::revoked_closed);
        Some(certificates.saturating_add(self.standing.streams_ended()))
    }

    fn explain(&self, question: &[u8]) -> Option<Page> {
        let in_force = InForce {
            registry: &self.registry,
            keys: &self.keys,
            standing: &self.standing,
            limiter: &self.limiter,
            door: &self.settings,
            now: unix(self.shared().clock.now()),
        };
        Some(answer(question, in_force))
    }

    fn mounts(&self) -> Option<BTreeMap<String, String>> {
        let table = self.registry.table();
        let each = table.running();
        let mounts = each.map(|(plugin, _)| (plugin.name.to_string(), plugin.mount.to_string()));
        Some(mounts.collect())
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
        self.shared().meters.render_mirrored(text);
        self.shared().meters.render_envelopes(text);
        self.breaking(text);
        self.instances(text);
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
            .map(|(plugin, running)| (plugin.name.as_str(), running.waiting()))
            .collect();
        waiting.sort_unstable();
        for (plugin, count) in waiting {
            text.sample(name, &[("plugin", plugin)], count);
        }
    }

    /// What the plugins' contracts have broken.
    fn breaking(&self, text: &mut Text) {
        let name = "gapura_openapi_breaking_total";
        let help = "Breaking changes found in contracts that instances serve.";
        text.family(name, "counter", help);
        for (plugin, count) in self.book.found() {
            text.sample(name, &[("plugin", &plugin)], count);
        }
    }

    /// How the instances of all plugins are. A canary's stand beside its plugin's own.
    fn instances(&self, text: &mut Text) {
        let table = self.registry.table();
        let mut healthy = Vec::new();
        let mut differs = Vec::new();
        for (plugin, running) in table.running() {
            for (at, cluster) in running.clusters().enumerate() {
                for one in cluster.instances().iter() {
                    let labels = (plugin.name.to_string(), one.at().to_string());
                    healthy.push((labels.clone(), u64::from(one.health.is_in())));
                    if let Some(said) = one.version().filter(|_| at == 0) {
                        differs.push((labels, u64::from(*said != plugin.version)));
                    }
                }
            }
        }
        for (name, help, mut samples) in [
            (
                "gapura_upstream_healthy",
                "Whether an instance gets requests.",
                healthy,
            ),
            (
                "gapura_upstream_version_differs",
                "Whether an instance says that it runs another version than its plugin's file.",
                differs,
            ),
        ] {
            text.family(name, "gauge", help);
            samples.sort_unstable();
            samples.dedup_by(|next, kept| next.0 == kept.0);
            for ((plugin, instance), value) in &samples {
                text.sample(name, &[("plugin", plugin), ("instance", instance)], *value);
            }
        }
    }

    fn plugins(&self) -> Value {
        let table = self.registry.table();
        let plugins: Vec<Value> = table
            .plugins()
            .iter()
            .map(|(file, plugin)| {
                let mut page = match table.find(plugin.mount.as_str()) {
                    Found::Plugin { running, .. } => {
                        let mut page = page_of(file, plugin, Some(running));
                        page["in_flight"] = running.in_flight().into();
                        page["waiting"] = running.waiting().into();
                        page
                    }
                    Found::Held | Found::NoRoute => page_of(file, plugin, None),
                };
                page["openapi"] = self.book.told(plugin);
                let meters = self.shared().meters.plugin(plugin.name.as_str());
                let violations = meters.envelope_violations().into_iter();
                let violations: serde_json::Map<_, _> = violations
                    .map(|(kind, count)| (kind.as_str().to_owned(), count.into()))
                    .collect();
                page["envelope_violations"] = violations.into();
                page
            })
            .collect();
        let faults: Vec<String> = table.faults().iter().map(ToString::to_string).collect();
        json!({"plugins": plugins, "held": table.held(), "faults": faults})
    }
}

/// Each instance of a cluster, as it is. What it runs is compared with what is `believed`.
fn instances_of(cluster: &Cluster, believed: Option<&String>) -> Vec<Value> {
    let of = |one: &std::sync::Arc<crate::upstream::instance::Instance>| {
        let out = Reason::ALL.into_iter();
        let out = out.filter(|reason| one.health.is_out_for(*reason));
        let version = one.version();
        let differs = believed.and_then(|believed| Some(**version.as_ref()? != **believed));
        json!({
            "address": one.at().to_string(),
            "weight": one.place.weight,
            "healthy": one.health.is_in(),
            "out_for": out.map(Reason::as_str).collect::<Vec<_>>(),
            "version": version.as_deref(),
            "version_differs": differs,
        })
    };
    cluster.instances().iter().map(of).collect()
}

/// One plugin as it is in force; of injected headers the names alone.
fn page_of(file: &str, plugin: &Plugin, running: Option<&Running>) -> Value {
    let injected: Vec<&str> = plugin
        .inject_headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let instances = running.map_or_else(Vec::new, |running| {
        instances_of(&running.main, Some(&plugin.version))
    });
    let addresses: Vec<&Value> = instances.iter().map(|one| &one["address"]).collect();
    let canary = plugin.canary.as_ref().map(|canary| {
        let at = running.and_then(|running| running.canary.as_ref());
        json!({
            "auth_mode": canary.auth.as_str(),
            "identity": canary.identity.to_string(),
            "sidecar": !canary.upstream.is_plaintext(),
            "tenants": canary.tenants().count(),
            "percent": canary.percent(),
            "mirror": canary.mirror,
            "instances": at.map_or_else(Vec::new, |at| instances_of(&at.cluster, None)),
        })
    });
    json!({
        "name": plugin.name.as_str(),
        "version": plugin.version,
        "file": file,
        "mount": plugin.mount.as_str(),
        "auth_mode": plugin.auth.as_str(),
        "identity": plugin.identity.to_string(),
        "sidecar": !plugin.upstream.is_plaintext(),
        "addresses": addresses,
        "instances": instances,
        "canary": canary,
        "min_version": plugin.min_version.as_ref().map(ToString::to_string),
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
        "envelope": plugin.envelope.as_str(),
        "described": serde_json::from_str::<Value>(&plugin.described).unwrap_or_default(),
    })
}
