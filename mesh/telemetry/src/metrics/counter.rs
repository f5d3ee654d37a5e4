//! The numbers themselves: each is written by one thread, and read by whoever scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that one thread writes and any reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// How long things took: upper bounds of 0.5 ms to 10 s.
#[derive(Debug, Default)]
pub struct Histogram {
    pub(super) buckets: [Counter; BOUNDS.len() + 1],
    pub(super) sum_micros: Counter,
}

/// Upper bounds in microseconds, each with its text in seconds. The small ones are for a hop on one
/// machine.
pub(super) const BOUNDS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

impl Counter {
    /// Adds `more`. Only the owner calls it: between its load and its store nobody else writes.
    pub fn add(&self, more: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    /// Takes one off a gauge.
    pub fn less(&self) {
        self.0.store(
            self.0.load(Ordering::Relaxed).saturating_sub(1),
            Ordering::Relaxed,
        );
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    /// Enters one duration.
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|(bound, _)| micros <= *bound)
            .unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.sum_micros.add(micros);
    }
}
