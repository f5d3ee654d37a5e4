//! What the agent says for itself on the operator's side and to a kubelet.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use gapura_operator::admin::{Endpoint, Page, Pages};
use gapura_protocol::clock::{Rfc3339, from_unix};
use gapura_telemetry::alarms::docs;
use gapura_telemetry::metrics::{Text, render_program};
use http::StatusCode;
use serde_json::{Value, json};

use crate::host::Host;

/// The operator's side.
pub(crate) struct Admin(pub(crate) Rc<Host>);

/// The health listener: for a kubelet or Prometheus, and nothing else.
pub(crate) struct Health(pub(crate) Rc<Host>);

/// Where `gapura-agent status` looks.
pub(crate) const STATUS: &str = "/status";

impl Pages for Admin {
    fn page(&self, path: &str) -> Option<Page> {
        if path == STATUS {
            return Some(Page::json(StatusCode::OK, &status(&self.0)));
        }
        match Endpoint::of(path)? {
            Endpoint::Certificates => Some(Page::json(StatusCode::OK, &certificates(&self.0))),
            endpoint => page(&self.0, endpoint),
        }
    }
}

impl Pages for Health {
    fn page(&self, path: &str) -> Option<Page> {
        page(&self.0, Endpoint::of(path)?)
    }
}

fn page(host: &Host, endpoint: Endpoint) -> Option<Page> {
    match endpoint {
        Endpoint::Healthz => Some(Page::json(StatusCode::OK, &json!({"ok": true}))),
        Endpoint::Readyz => Some(ready(host)),
        Endpoint::Metrics => Some(Page::metrics(metrics(host))),
        _ => None,
    }
}

fn ready(host: &Host) -> Page {
    let mut missing = Vec::new();
    match host.held() {
        None => missing.push("certificate: none has come yet".to_owned()),
        Some(held) => {
            if let Some(refusal) = held.set.own_refusal(host.clock.now()) {
                missing.push(format!("certificate: {refusal}"));
            }
        }
    }
    if host.facts.borrow().news_age() > host.config.news_alarm {
        missing.push("news of the CA".to_owned());
    }
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Page::json(
        status,
        &json!({"ok": missing.is_empty(), "missing": missing, "alarms": alarms(host)}),
    )
}

fn certificates(host: &Host) -> Value {
    let mut page = host
        .held()
        .map_or_else(|| json!({}), |held| held.set.certificates());
    if let Some(page) = page.as_object_mut() {
        page.insert("alarms".into(), alarms(host));
    }
    page
}

fn status(host: &Host) -> Value {
    let facts = host.facts.borrow();
    let moment = |seconds: u64| Rfc3339(from_unix(seconds)).to_string();
    let certificate = host.held().map(|held| {
        let own = held.set.own();
        json!({
            "id": own.id.to_string(),
            "serial": own.serial_hex(),
            "not_before": moment(own.not_before),
            "not_after": moment(own.not_after),
            "not_after_seconds": own.not_after,
            "renews_at": moment(host.due(&held)),
            "generation": held.generation,
        })
    });
    let last: Value = facts
        .last
        .iter()
        .map(|(activity, (at, why))| {
            (
                (*activity).to_owned(),
                json!({"at": moment(*at), "message": why}),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({
        "ca": host.config.ca.as_ref().map(|url| url.as_str()),
        "mesh_dir": host.config.mesh_dir,
        "certificate": certificate,
        "news": {
            "heard_at": facts.heard_at.map(moment),
            "age_seconds": facts.heard_at.map(|_| facts.news_age().as_secs()),
            "by_certificate": facts.heard_at.map(|_| facts.heard_as_host),
            "generation": facts.news,
        },
        "failed": last,
        "alarms": alarms(host),
    })
}

fn alarms(host: &Host) -> Value {
    let raised = host.alarms.raised().into_iter();
    raised
        .map(|(name, message)| json!({"name": name, "message": message, "docs": docs(name)}))
        .collect()
}

fn metrics(host: &Host) -> String {
    let (facts, mut text) = (host.facts.borrow(), Text::default());
    if let Some(held) = host.held() {
        let name = "gapura_certificate_not_after_seconds";
        text.family(name, "gauge", "When a certificate of ours ends, Unix time.");
        text.sample(name, &[("name", "mesh")], held.set.own().not_after);
        let name = "gapura_agent_renews_at_seconds";
        let help = "When the next certificate is asked for, Unix time.";
        text.single(name, "gauge", help, host.due(&held));
        if let Some(next) = held.set.crl_next_update() {
            let name = "gapura_crl_next_update_seconds";
            let help = "When the next CRL is due, the earliest, Unix time.";
            text.single(name, "gauge", help, next);
        }
    }
    let name = "gapura_agent_news_age_seconds";
    let help = "For how long nothing was heard of the CA server, over restarts; since the start where it was never.";
    text.single(name, "gauge", help, facts.news_age().as_secs());
    let name = "gapura_agent_certificates_total";
    let help = "Certificates that came.";
    text.single(name, "counter", help, facts.certificates);
    let name = "gapura_agent_generations_total";
    let help = "Generations of the mesh directory that were written.";
    text.single(name, "counter", help, facts.generations);
    let name = "gapura_agent_failures_total";
    text.family(name, "counter", "What failed, and why.");
    for ((activity, reason), count) in &facts.failures {
        text.sample(name, &[("activity", activity), ("reason", reason)], *count);
    }
    let name = "gapura_agent_clock_seconds";
    let now = host.clock.now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    text.single(name, "gauge", "The time by our clock, Unix time.", now);
    render_program(&mut text, &host.alarms, &host.log);
    text.into_string()
}
