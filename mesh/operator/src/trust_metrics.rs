//! How Prometheus reads the trust in force: when it ends, and what became of new sets.

use std::sync::atomic::Ordering;

use gapura_protocol::leg::Side;
use gapura_telemetry::metrics::Text;
use gapura_trust::set::TrustSet;

use gapura_reload::trust::TrustCounters;

/// The trust set in force and its history; `public` is when the certificate that clients see ends.
pub(crate) fn render_trust(
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
