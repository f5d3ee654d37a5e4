//! What a program counts, and how Prometheus reads it.
//!
//! Each worker owns its counters and is the only one to write them, so that counting costs a load
//! and a store; a scrape adds the workers up. Labels come from the configuration and from fixed
//! lists, never from a request: a client can't make a new series.

mod counter;
mod durations;
mod http_server;
mod program;
mod reading;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub use counter::{Counter, Histogram};
pub use gapura_protocol::leg::Side;
pub use program::{render_program, render_spans};
pub use reading::{Reading, Times, Totals};
pub use text::Text;

use gapura_protocol::envelope::Code;
use gapura_protocol::headers::{Kind, Stripped};
use http::Method;

use crate::busiest::Companies;
use durations::{Durations, Sums};

/// What one worker counts for one plugin, or for what no plugin takes.
#[derive(Debug)]
pub struct PluginSlot {
    /// Finished requests, by status from 100 to 599.
    statuses: Box<[Counter]>,
    duration: Durations,
    upstream: Histogram,
    /// Requests that have begun and not finished.
    pub in_flight: Counter,
    /// Requests that passed although the plugin's rules refuse them.
    pub shadow_refusals: Counter,
    /// Requests that were or could have been copied, by [`Mirrored`].
    mirrored: [Counter; Mirrored::ALL.len()],
    /// Answers that break the envelope, by [`Violation`].
    violations: [Counter; Violation::ALL.len()],
}

/// How an answer breaks the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It says that it is JSON, and is none.
    NotJson,
    /// It is JSON, but no object.
    NotObject,
    /// `ok` is missing, no truth value, or not what the status says.
    Ok,
    /// `message` is missing or no text.
    Message,
    /// `errors` is missing from a failure, or no object.
    Errors,
    /// An error that is not JSON at all.
    Bare,
}

/// What came of the copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// Its answer was like the caller's, in status and length.
    Same,
    /// It was not.
    Differs,
    /// There was none.
    Failed,
    /// No copy was sent, or there was nothing to compare with.
    Skipped,
}

/// What all workers count for one plugin.
#[derive(Debug)]
pub struct PluginMeters {
    name: String,
    slots: Box<[PluginSlot]>,
}

/// What one worker counts besides.
#[derive(Debug)]
pub struct WorkerMeters {
    rejections: Box<[Counter]>,
    stripped: [Counter; Kind::ALL.len()],
    tokens_rejected: Box<[Counter]>,
    /// Open connections by [`Side`].
    connections: [Counter; Side::ALL.len()],
}

/// All counters of one program.
pub struct Meters {
    workers: Box<[WorkerMeters]>,
    token_reasons: &'static [&'static str],
    plugins: Mutex<BTreeMap<String, Arc<PluginMeters>>>,
    handshake_failures: Mutex<BTreeMap<(Side, &'static str), u64>>,
    companies: OnceLock<Companies>,
}

/// One open connection: counted until it is dropped, however it ends.
pub struct OpenConnection {
    meters: Arc<Meters>,
    worker: usize,
    side: Side,
}

impl OpenConnection {
    /// Counts one more connection of `worker`'s. Made and dropped on the worker's thread.
    #[must_use]
    pub fn count(meters: &Arc<Meters>, worker: usize, side: Side) -> Self {
        meters.worker(worker).connections(side).add(1);
        Self {
            meters: meters.clone(),
            worker,
            side,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.meters
            .worker(self.worker)
            .connections(self.side)
            .less();
    }
}

impl PluginSlot {
    fn new() -> Self {
        Self {
            statuses: std::iter::repeat_with(Counter::default).take(500).collect(),
            duration: Durations::new(),
            upstream: Histogram::default(),
            in_flight: Counter::default(),
            shadow_refusals: Counter::default(),
            mirrored: Default::default(),
            violations: Default::default(),
        }
    }

    /// Counts an answer that breaks the envelope.
    pub fn violates(&self, violation: Violation) {
        self.violations[violation as usize].add(1);
    }

    /// Counts a request that was, or could have been, copied.
    pub fn mirrored(&self, result: Mirrored) {
        self.mirrored[result as usize].add(1);
    }

    /// Enters a finished request.
    pub fn finish(&self, method: &Method, status: u16, took: Duration, upstream: Option<Duration>) {
        if let Some(counter) = usize::from(status)
            .checked_sub(100)
            .and_then(|index| self.statuses.get(index))
        {
            counter.add(1);
        }
        self.duration.observe(method, status, took);
        if let Some(upstream) = upstream {
            self.upstream.observe(upstream);
        }
    }
}

impl Mirrored {
    /// Every one, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Same, Self::Differs, Self::Failed, Self::Skipped];

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Violation {
    /// Every one, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::NotJson,
        Self::NotObject,
        Self::Ok,
        Self::Message,
        Self::Errors,
        Self::Bare,
    ];

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotObject => "not_object",
            Self::Ok => "ok",
            Self::Message => "message",
            Self::Errors => "errors",
            Self::Bare => "bare",
        }
    }
}

impl PluginMeters {
    /// How many answers broke the envelope, for each way of it that any took.
    #[must_use]
    pub fn envelope_violations(&self) -> Vec<(Violation, u64)> {
        let counted = Violation::ALL.into_iter().map(|kind| {
            let slots = self.slots.iter();
            let count = slots.map(|slot| slot.violations[kind as usize].get()).sum();
            (kind, count)
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// The part that worker `index` writes.
    #[must_use]
    pub fn slot(&self, index: usize) -> &PluginSlot {
        &self.slots[index % self.slots.len()]
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl WorkerMeters {
    /// Counts an answer of our own.
    pub fn rejected(&self, code: Code) {
        self.rejections[code.index()].add(1);
    }

    /// Counts headers that were taken.
    pub fn stripped(&self, stripped: &Stripped) {
        for kind in Kind::ALL {
            let count = stripped.of(kind);
            if count > 0 {
                self.stripped[kind as usize].add(u64::from(count));
            }
        }
    }

    /// Counts a refused token by the index of its reason in the list given to [`Meters::new`].
    pub fn token_rejected(&self, reason: usize) {
        if let Some(counter) = self.tokens_rejected.get(reason) {
            counter.add(1);
        }
    }

    fn connections(&self, side: Side) -> &Counter {
        &self.connections[side as usize]
    }
}

impl Meters {
    /// Counters for `workers` workers; `token_reasons` is the fixed list of why a token may be
    /// refused.
    #[must_use]
    pub fn new(workers: usize, token_reasons: &'static [&'static str]) -> Self {
        let counters = |count: usize| {
            std::iter::repeat_with(Counter::default)
                .take(count)
                .collect()
        };
        let worker = || WorkerMeters {
            rejections: counters(Code::ALL.len()),
            stripped: Default::default(),
            tokens_rejected: counters(token_reasons.len()),
            connections: Default::default(),
        };
        Self {
            workers: std::iter::repeat_with(worker)
                .take(workers.max(1))
                .collect(),
            token_reasons,
            plugins: Mutex::default(),
            handshake_failures: Mutex::default(),
            companies: OnceLock::new(),
        }
    }

    /// Has companies counted too, from the next worker on; by name, if names may be shown.
    pub fn count_companies(&self, named: bool) {
        self.companies
            .get_or_init(|| Companies::new(self.workers.len(), named));
    }

    /// What is counted of companies, if they are.
    #[must_use]
    pub fn companies(&self) -> Option<&Companies> {
        self.companies.get()
    }

    /// The counters that worker `index` owns.
    #[must_use]
    pub fn worker(&self, index: usize) -> &WorkerMeters {
        &self.workers[index % self.workers.len()]
    }

    /// The counters of a plugin; the same ones for the same name, whatever becomes of its file.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Arc<PluginMeters> {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let slots = std::iter::repeat_with(PluginSlot::new)
                .take(self.workers.len())
                .collect();
            Arc::new(PluginMeters {
                name: name.to_owned(),
                slots,
            })
        };
        plugins.entry(name.to_owned()).or_insert_with(fresh).clone()
    }

    /// Counts a failed handshake. Behind a lock: a handshake costs a thousand times more.
    pub fn handshake_failed(&self, side: Side, reason: &'static str) {
        let mut failures = self
            .handshake_failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *failures.entry((side, reason)).or_default() += 1;
    }

    /// Writes what passed in the shadow of rules that refuse it, for all plugins but what is
    /// counted as `unrouted`; only a gateway has such rules.
    pub fn render_shadow(&self, text: &mut Text, unrouted: &str) {
        let name = "gapura_shadow_refusals_total";
        text.family(
            name,
            "counter",
            "Requests that passed although the plugin's rules refuse them.",
        );
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        for plugin in plugins.values().filter(|plugin| plugin.name != unrouted) {
            let slots = plugin.slots.iter();
            let count: u64 = slots.map(|slot| slot.shadow_refusals.get()).sum();
            text.sample(name, &[("plugin", &plugin.name)], count);
        }
    }

    /// Writes what came of copies of requests, for the plugins of which any were or could have been
    /// made.
    pub fn render_mirrored(&self, text: &mut Text) {
        let name = "gapura_mirror_total";
        text.family(
            name,
            "counter",
            "Requests that a canary's mirror asks for, by what came of the copy.",
        );
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        for plugin in plugins.values() {
            let counts = Mirrored::ALL.map(|result| {
                let slots = plugin.slots.iter();
                slots.map(|slot| slot.mirrored[result as usize].get()).sum()
            });
            if counts.iter().sum::<u64>() == 0 {
                continue;
            }
            for (result, count) in Mirrored::ALL.into_iter().zip(counts) {
                let labels = [
                    ("plugin", plugin.name.as_str()),
                    ("result", result.as_str()),
                ];
                text.sample(name, &labels, count);
            }
        }
    }

    /// Writes how answers of plugins broke the envelope, for the plugins of which any did.
    pub fn render_envelopes(&self, text: &mut Text) {
        let name = "gapura_envelope_violations_total";
        let help = "Answers of plugins that break the envelope, by how.";
        text.family(name, "counter", help);
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        for plugin in plugins.values() {
            for (kind, count) in plugin.envelope_violations() {
                let labels = [("plugin", plugin.name.as_str()), ("kind", kind.as_str())];
                text.sample(name, &labels, count);
            }
        }
    }

    /// Writes all of it, with `sides` being those that this program has.
    pub fn render(&self, text: &mut Text, sides: &[Side]) {
        let plugins: Vec<Arc<PluginMeters>> = self
            .plugins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        text.family("gapura_requests_total", "counter", "Finished requests.");
        for plugin in &plugins {
            for index in 0..500 {
                let count: u64 = plugin
                    .slots
                    .iter()
                    .map(|slot| slot.statuses[index].get())
                    .sum();
                if count > 0 {
                    let status = (index + 100).to_string();
                    text.sample(
                        "gapura_requests_total",
                        &[("plugin", &plugin.name), ("status", &status)],
                        count,
                    );
                }
            }
        }
        render_histograms(
            text,
            &plugins,
            "gapura_request_duration_seconds",
            "From a request's head to its end.",
            |slot| slot.duration.sums(),
        );
        render_histograms(
            text,
            &plugins,
            "gapura_upstream_duration_seconds",
            "From sending a request on to its answer's head.",
            |slot| Sums::of(&slot.upstream),
        );
        text.family(
            "gapura_requests_in_flight",
            "gauge",
            "Requests that have begun and not finished.",
        );
        for plugin in &plugins {
            let count: u64 = plugin.slots.iter().map(|slot| slot.in_flight.get()).sum();
            text.sample(
                "gapura_requests_in_flight",
                &[("plugin", &plugin.name)],
                count,
            );
        }
        let sum =
            |pick: &dyn Fn(&WorkerMeters) -> u64| -> u64 { self.workers.iter().map(pick).sum() };
        text.family(
            "gapura_rejections_total",
            "counter",
            "Answers that Gapura made itself, by code.",
        );
        for code in Code::ALL {
            let count = sum(&|worker| worker.rejections[code.index()].get());
            text.sample("gapura_rejections_total", &[("code", code.as_str())], count);
        }
        text.family("gapura_connections", "gauge", "Open connections.");
        for side in sides {
            text.sample(
                "gapura_connections",
                &[("side", side.as_str())],
                sum(&|worker| worker.connections(*side).get()),
            );
        }
        text.family(
            "gapura_handshake_failures_total",
            "counter",
            "Failed TLS handshakes, by reason.",
        );
        for ((side, reason), count) in self
            .handshake_failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            text.sample(
                "gapura_handshake_failures_total",
                &[("side", side.as_str()), ("reason", reason)],
                *count,
            );
        }
        text.family(
            "gapura_headers_stripped_total",
            "counter",
            "Headers and trailers that were not let through, by kind.",
        );
        for kind in Kind::ALL {
            let count = sum(&|worker| worker.stripped[kind as usize].get());
            text.sample(
                "gapura_headers_stripped_total",
                &[("kind", kind.as_str())],
                count,
            );
        }
        if !self.token_reasons.is_empty() {
            text.family(
                "gapura_tokens_rejected_total",
                "counter",
                "Refused tokens, by reason.",
            );
            for (index, reason) in self.token_reasons.iter().enumerate() {
                let count = sum(&|worker| worker.tokens_rejected[index].get());
                text.sample("gapura_tokens_rejected_total", &[("reason", reason)], count);
            }
        }
    }
}

fn render_histograms(
    text: &mut Text,
    plugins: &[Arc<PluginMeters>],
    name: &str,
    help: &str,
    sums: fn(&PluginSlot) -> Sums,
) {
    text.family(name, "histogram", help);
    for plugin in plugins {
        let mut all = Sums::default();
        for slot in &plugin.slots {
            all.add(&sums(slot));
        }
        text.histogram(name, &[("plugin", &plugin.name)], &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_adds_the_workers_up() {
        let meters = Arc::new(Meters::new(2, &["expired", "signature"]));
        let plugin = meters.plugin("lab");
        plugin.slot(0).finish(
            &Method::GET,
            200,
            Duration::from_micros(400),
            Some(Duration::from_micros(300)),
        );
        plugin
            .slot(1)
            .finish(&Method::GET, 200, Duration::from_secs(11), None);
        plugin
            .slot(1)
            .finish(&Method::GET, 503, Duration::from_millis(30), None);
        meters.worker(1).rejected(Code::Overloaded);
        meters.worker(0).token_rejected(1);
        let open = OpenConnection::count(&meters, 0, Side::Client);
        drop(OpenConnection::count(&meters, 0, Side::Hop));
        meters.handshake_failed(Side::Hop, "expired");
        let mut text = Text::default();
        meters.render(&mut text, &[Side::Client, Side::Hop]);
        drop(open);
        let text = text.into_string();
        for line in [
            "gapura_requests_total{plugin=\"lab\",status=\"200\"} 2",
            "gapura_requests_total{plugin=\"lab\",status=\"503\"} 1",
            "gapura_request_duration_seconds_bucket{plugin=\"lab\",le=\"0.0005\"} 1",
            "gapura_request_duration_seconds_bucket{plugin=\"lab\",le=\"10\"} 2",
            "gapura_request_duration_seconds_bucket{plugin=\"lab\",le=\"+Inf\"} 3",
            "gapura_request_duration_seconds_sum{plugin=\"lab\"} 11.030400",
            "gapura_request_duration_seconds_count{plugin=\"lab\"} 3",
            "gapura_upstream_duration_seconds_count{plugin=\"lab\"} 1",
            "gapura_rejections_total{code=\"overloaded\"} 1",
            "gapura_tokens_rejected_total{reason=\"signature\"} 1",
            "gapura_connections{side=\"client\"} 1",
            "gapura_connections{side=\"hop\"} 0",
            "gapura_handshake_failures_total{side=\"hop\",reason=\"expired\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_plugin_keeps_its_counters() {
        let meters = Meters::new(1, &[]);
        meters
            .plugin("lab")
            .slot(0)
            .finish(&Method::GET, 200, Duration::ZERO, None);
        assert_eq!(meters.plugin("lab").slot(0).statuses[100].get(), 1);
    }
}
