//! How long the requests of one plugin took on one worker, by method and status: one storage, from
//! which both our own histogram and OpenTelemetry's are read.
//!
//! Methods are a fixed list, and a plugin may answer with whatever status it likes: so the table is
//! bounded, and what finds no place in it is counted together. A pair of method and status takes
//! its memory when it is first seen; from then on finding it is one load and one comparison.

use std::sync::OnceLock;
use std::time::Duration;

use http::Method;

use super::counter::{BOUNDS, Counter, Histogram};

/// The histograms.
#[derive(Debug)]
pub(super) struct Durations {
    table: Box<[OnceLock<Box<Series>>]>,
    /// What the table had no place for.
    overflow: Histogram,
}

/// What a series is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    method: u16,
    pub(super) status: u16,
}

#[derive(Debug)]
struct Series {
    key: Key,
    took: Histogram,
}

/// The numbers of histograms, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) micros: u64,
}

/// The methods of RFC 9110 and PATCH, in OpenTelemetry's words; the last stands for all others.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "_OTHER",
];

/// Pairs of method and status of one plugin: three times what a talkative one has.
const SERIES: u16 = 64;

impl Key {
    fn of(method: &Method, status: u16) -> Self {
        let method = match *method {
            Method::CONNECT => 0,
            Method::DELETE => 1,
            Method::GET => 2,
            Method::HEAD => 3,
            Method::OPTIONS => 4,
            Method::PATCH => 5,
            Method::POST => 6,
            Method::PUT => 7,
            Method::TRACE => 8,
            _ => 9,
        };
        Self { method, status }
    }

    pub(super) fn method(self) -> &'static str {
        METHODS
            .get(usize::from(self.method))
            .copied()
            .unwrap_or("_OTHER")
    }

    /// Where it is looked for first. Neighbours are mostly one method's statuses and one status's
    /// methods, which this keeps apart.
    fn place(self) -> usize {
        usize::from(self.status.wrapping_add(self.method * 7) % SERIES)
    }
}

impl Durations {
    pub(super) fn new() -> Self {
        Self {
            table: std::iter::repeat_with(OnceLock::new)
                .take(usize::from(SERIES))
                .collect(),
            overflow: Histogram::default(),
        }
    }

    /// Enters one request. Only the owner calls it.
    pub(super) fn observe(&self, method: &Method, status: u16, took: Duration) {
        self.histogram(Key::of(method, status)).observe(took);
    }

    fn histogram(&self, key: Key) -> &Histogram {
        let (before, from) = self.table.split_at(key.place().min(self.table.len()));
        for place in from.iter().chain(before) {
            let series = place.get_or_init(|| {
                let took = Histogram::default();
                Box::new(Series { key, took })
            });
            if series.key == key {
                return &series.took;
            }
        }
        &self.overflow
    }

    /// Every series that there is; `None` is what the table had no place for.
    pub(super) fn series(&self) -> impl Iterator<Item = (Option<Key>, Sums)> {
        let table = self.table.iter().filter_map(OnceLock::get);
        let table = table.map(|series| (Some(series.key), Sums::of(&series.took)));
        let overflow = Some((None, Sums::of(&self.overflow)));
        table.chain(overflow.filter(|(_, sums)| sums.count() > 0))
    }

    /// All of them together.
    pub(super) fn sums(&self) -> Sums {
        let mut all = Sums::default();
        for (_, sums) in self.series() {
            all.add(&sums);
        }
        all
    }
}

impl Sums {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let mut buckets = histogram.buckets.iter();
        Self {
            buckets: std::array::from_fn(|_| buckets.next().map_or(0, Counter::get)),
            micros: histogram.sum_micros.get(),
        }
    }

    pub(super) fn add(&mut self, more: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(more.buckets) {
            *sum += more;
        }
        self.micros += more.micros;
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_method_and_status_has_a_histogram_and_all_add_up() {
        let durations = Durations::new();
        let took = Duration::from_millis(2);
        let query = Method::from_bytes(b"QUERY").unwrap();
        for (method, status) in [
            (&Method::GET, 200),
            (&Method::GET, 200),
            (&Method::GET, 264), // begins at the same place
            (&Method::POST, 200),
            (&query, 200),
        ] {
            durations.observe(method, status, took);
        }
        let mut found: Vec<_> = durations
            .series()
            .map(|(key, sums)| {
                let key = key.unwrap();
                (key.method(), key.status, sums.count(), sums.micros)
            })
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("GET", 200, 2, 4000),
                ("GET", 264, 1, 2000),
                ("POST", 200, 1, 2000),
                ("_OTHER", 200, 1, 2000)
            ]
        );
        assert_eq!(
            (durations.sums().count(), durations.sums().micros),
            (5, 10_000)
        );
    }

    #[test]
    fn a_plugin_that_answers_with_every_status_makes_no_more_series_than_there_are_places() {
        let durations = Durations::new();
        for status in 100..600 {
            for method in [Method::GET, Method::PUT] {
                durations.observe(&method, status, Duration::ZERO);
            }
        }
        assert_eq!(durations.series().count(), usize::from(SERIES) + 1);
        let overflow = durations.series().find(|(key, _)| key.is_none()).unwrap();
        assert_eq!(overflow.1.count(), 1000 - u64::from(SERIES));
        assert_eq!(durations.sums().count(), 1000, "none is lost");
    }
}
