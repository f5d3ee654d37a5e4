//! The families that both programs have besides requests: alarms, the log, the build.

use super::Text;
use crate::alarms::Alarms;
use crate::log::Log;

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
