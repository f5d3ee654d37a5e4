//! The families that both programs have besides requests: certificates, alarms, the log, the build.

use std::sync::atomic::Ordering;

use super::{Side, Text};
use crate::alarms::Alarms;
use crate::log::Log;
use crate::tls::trust::TrustSet;
use crate::tls::watch::TrustCounters;

/// Every alarm there is: each shows at 0 until it is raised.
const ALARMS: [&str; 10] = [
    "certificate",
    "crl",
    "deny",
    "keys",
    "last_good",
    "public_certificate",
    "registry",
    "revoked",
    "tenants",
    "trust",
];

/// The trust set in force and its history; `public` is when the certificate that clients see ends.
pub fn render_trust(
    text: &mut Text,
    trust: &TrustSet,
    counters: &TrustCounters,
    public: Option<u64>,
) {
    text.family(
        "gapura_certificate_not_after_seconds",
        "gauge",
        "When a certificate of ours ends, Unix time.",
    );
    text.sample(
        "gapura_certificate_not_after_seconds",
        &[("name", "mesh")],
        trust.own().not_after,
    );
    if let Some(public) = public {
        text.sample(
            "gapura_certificate_not_after_seconds",
            &[("name", "public")],
            public,
        );
    }
    if let Some(next) = trust.crl_next_update() {
        text.single(
            "gapura_crl_next_update_seconds",
            "gauge",
            "When the next CRL is due, the earliest, Unix time.",
            next,
        );
    }
    text.family(
        "gapura_trust_reloads_total",
        "counter",
        "New trust sets, by whether they fitted.",
    );
    text.sample(
        "gapura_trust_reloads_total",
        &[("result", "ok")],
        counters.reloads_ok.load(Ordering::Relaxed),
    );
    text.sample(
        "gapura_trust_reloads_total",
        &[("result", "faulty")],
        counters.reloads_faulty.load(Ordering::Relaxed),
    );
    text.family(
        "gapura_revoked_connections_closed_total",
        "counter",
        "Live connections closed since a CRL names their peer.",
    );
    let closed = counters.revoked_closed.load(Ordering::Relaxed);
    text.sample(
        "gapura_revoked_connections_closed_total",
        &[("side", Side::Hop.as_str())],
        closed,
    );
}

/// Alarms, dropped lines, the build.
pub fn render_program(text: &mut Text, alarms: &Alarms, log: &Log) {
    text.family("gapura_alarms", "gauge", "Faults that someone must mend.");
    let raised = alarms.raised();
    for name in ALARMS {
        let up = raised.iter().any(|(raised, _)| *raised == name);
        text.sample("gapura_alarms", &[("name", name)], u64::from(up));
    }
    for (name, _) in raised.iter().filter(|(name, _)| !ALARMS.contains(name)) {
        text.sample("gapura_alarms", &[("name", name)], 1);
    }
    text.single(
        "gapura_log_lines_dropped_total",
        "counter",
        "Log lines that reached nobody.",
        log.dropped(),
    );
    text.family("gapura_build_info", "gauge", "Which build this is.");
    text.sample(
        "gapura_build_info",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("service", log.service()),
        ],
        1,
    );
}
