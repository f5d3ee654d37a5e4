//! What the CA server counts, beside what every program does.

use std::sync::atomic::{AtomicU64, Ordering};

use gapura_enrol::refusal::Code;
use gapura_protocol::labelled;
use gapura_telemetry::metrics::Text;

labelled! {
    /// How a certificate came to leave.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum How {
        /// For a join token.
        Joined = "joined",
        /// For a join token once more, because the answer was lost.
        JoinedAgain = "joined_again",
        /// For the certificate before it.
        Renewed = "renewed",
    }
}

/// The counters. Threads of every sort add to them; a scrape reads them.
pub(crate) struct Counters {
    granted: [AtomicU64; How::ALL.len()],
    refused: Box<[AtomicU64]>,
    /// Hosts that are giving their CRLs back.
    pub(crate) reminders: AtomicU64,
    /// Requests that wait for news.
    pub(crate) polls: AtomicU64,
    /// Requests that wait for the office.
    pub(crate) waiting: AtomicU64,
    /// Changes of the inventory.
    pub(crate) batches: AtomicU64,
    /// When the record was last read without fault, Unix time.
    pub(crate) as_of: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            granted: Default::default(),
            refused: Code::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            reminders: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            as_of: AtomicU64::new(0),
        }
    }

    pub(crate) fn granted(&self, how: How) {
        if let Some(counter) = self.granted.get(how as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn refused(&self, code: Code) {
        if let Some(counter) = self.refused.get(code as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As families of Prometheus.
    pub(crate) fn render(&self, text: &mut Text) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let name = "gapura_ca_granted_total";
        text.family(name, "counter", "Certificates that left.");
        for (how, counter) in How::ALL.iter().zip(&self.granted) {
            text.sample(name, &[("how", how.as_str())], get(counter));
        }
        let name = "gapura_ca_refusals_total";
        text.family(name, "counter", "Requests that were refused.");
        for (code, counter) in Code::ALL.iter().zip(&self.refused) {
            text.sample(name, &[("code", code.as_str())], get(counter));
        }
        for (name, kind, help, counter) in [
            (
                "gapura_ca_polls",
                "gauge",
                "Requests that wait for news of roots and CRLs.",
                &self.polls,
            ),
            (
                "gapura_ca_requests_waiting",
                "gauge",
                "Requests for a certificate that wait to be signed.",
                &self.waiting,
            ),
            (
                "gapura_ca_changes_total",
                "counter",
                "Changes of the inventory; one may answer many requests.",
                &self.batches,
            ),
            (
                "gapura_ca_record_read_seconds",
                "gauge",
                "When the record was last read without fault, Unix time.",
                &self.as_of,
            ),
        ] {
            text.single(name, kind, help, get(counter));
        }
    }
}

/// Counts one more for as long as it is kept.
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    pub(crate) fn one(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
