//! The families that both programs have besides requests: alarms, the log, the build.

use super::Text;
use crate::alarms::{Alarm, Alarms};
use crate::log::Log;
use crate::span::Counts;

/// Spans, where there are any.
pub fn render_spans(text: &mut Text, counts: &Counts) {
    let (exported, dropped) = counts.get();
    for (name, help, count) in [
        (
            "gapura_spans_exported_total",
            "Spans that the collector has taken.",
            exported,
        ),
        (
            "gapura_spans_dropped_total",
            "Spans that found no room, or that the collector did not take.",
            dropped,
        ),
    ] {
        text.single(name, "counter", help, count);
    }
}

/// Alarms, dropped lines, the build.
pub fn render_program(text: &mut Text, alarms: &Alarms, log: &Log) {
    text.family("gapura_alarms", "gauge", "Faults that someone must mend.");
    for alarm in Alarm::ALL {
        let up = u64::from(alarms.is_raised(alarm));
        text.sample("gapura_alarms", &[("name", alarm.as_str())], up);
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
