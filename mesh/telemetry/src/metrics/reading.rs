//! The counters as numbers, for whoever compares what they were with what they are.
//!
//! In: the counters of all workers. Out: their sums. How long things took is kept as the histogram
//! has it, so that two readings can be taken from each other, and a quantile is read off what lies
//! between them.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use gapura_protocol::envelope::Code;
use gapura_protocol::leg::Side;

use super::counter::{BOUNDS, Counter};
use super::durations::Sums;
use super::{Meters, PluginMeters, WorkerMeters};

/// How many took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times([u64; BOUNDS.len() + 1]);

/// What has been counted for one plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Finished requests, by how long they took.
    pub took: Times,
    /// The same from sending them on to the head of an answer.
    pub upstream: Times,
    /// Of the finished ones, those that ended with a status from 500.
    pub failed: u64,
    /// Those that have begun and not finished.
    pub in_flight: u64,
}

/// What has been counted besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By plugin, and for what none takes.
    pub plugins: BTreeMap<String, Reading>,
    /// Answers of our own, in the order of [`Code::ALL`].
    pub rejections: Vec<u64>,
    /// Refused tokens, by reason.
    pub tokens: Vec<(&'static str, u64)>,
    /// Open connections, by side.
    pub connections: Vec<(Side, u64)>,
    /// Failed handshakes, by side and reason.
    pub handshakes: Vec<(Side, &'static str, u64)>,
}

impl Times {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What has been added since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut both = self.0.iter().zip(before.0);
        Self(std::array::from_fn(|_| {
            both.next()
                .map_or(0, |(now, before)| now.saturating_sub(before))
        }))
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = self.0.iter().zip(other.0);
        Self(std::array::from_fn(|_| {
            both.next().map_or(0, |(one, other)| one + other)
        }))
    }

    /// Microseconds within which so many per cent were done; none where there was nothing. Within a
    /// bucket they are taken to be spread evenly; what took longer than the longest bound took at
    /// least that.
    #[must_use]
    pub fn within(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (count * percent.min(100)).div_ceil(100).max(1);
        let (mut below, mut from) = (0, 0);
        for (held, (bound, _)) in self.0.iter().zip(BOUNDS) {
            if below + held >= rank {
                return Some(from + (bound - from) * (rank - below) / (*held).max(1));
            }
            (below, from) = (below + held, bound);
        }
        Some(from)
    }

    fn of(sums: &Sums) -> Self {
        Self(sums.buckets)
    }
}

impl PluginMeters {
    /// What all workers have counted.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut sum = Reading::default();
        for slot in &self.slots {
            sum.took = sum.took.and(&Times::of(&slot.duration.sums()));
            sum.upstream = sum.upstream.and(&Times::of(&Sums::of(&slot.upstream)));
            let failed = slot.statuses.iter().skip(400);
            sum.failed += failed.map(Counter::get).sum::<u64>();
            sum.in_flight += slot.in_flight.get();
        }
        sum
    }
}

impl Meters {
    /// What all workers have counted, of everything.
    #[must_use]
    pub fn read(&self) -> Totals {
        let sum =
            |pick: &dyn Fn(&WorkerMeters) -> u64| -> u64 { self.workers.iter().map(pick).sum() };
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let plugins = plugins.iter();
        let plugins = plugins.map(|(name, plugin)| (name.clone(), plugin.read()));
        let code = |code: &Code| sum(&|worker| worker.rejections[code.index()].get());
        let reasons = self.token_reasons.iter().enumerate();
        let token = |(index, reason): (usize, &&'static str)| {
            let count = sum(&|worker| worker.tokens_rejected[index].get());
            (*reason, count)
        };
        let open = |side: Side| (side, sum(&|worker| worker.connections(side).get()));
        let failures = self
            .handshake_failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let failures = failures.iter();
        Totals {
            plugins: plugins.collect(),
            rejections: Code::ALL.iter().map(code).collect(),
            tokens: reasons.map(token).collect(),
            connections: Side::ALL.into_iter().map(open).collect(),
            handshakes: failures
                .map(|((side, reason), count)| (*side, *reason, *count))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::super::Histogram;
    use super::*;

    fn took(millis: &[u64]) -> Times {
        let histogram = Histogram::default();
        for each in millis {
            histogram.observe(Duration::from_millis(*each));
        }
        Times::of(&Sums::of(&histogram))
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_whoever_has_that_rank() {
        assert_eq!(Times::default().within(50), None);
        let even = took(&[2, 2, 2, 2]);
        assert_eq!(even.within(50), Some(1_750), "half of 1 to 2.5 ms");
        assert_eq!(even.within(100), Some(2_500));
        let mut slow = vec![2; 98];
        slow.extend([40, 40]);
        let slow = took(&slow);
        assert!(slow.within(50).unwrap() < 2_500);
        assert!((25_000..=50_000).contains(&slow.within(99).unwrap()));
        assert_eq!(took(&[60_000]).within(99), Some(10_000_000));
    }

    #[test]
    fn what_lies_between_two_readings_is_told_apart_from_what_was_before() {
        let meters = Meters::new(2, &["expired"]);
        let plugin = meters.plugin("lab");
        let finish = |worker: usize, status| {
            let slot = plugin.slot(worker);
            slot.finish(&Method::GET, status, Duration::from_millis(3), None);
        };
        finish(0, 200);
        let before = meters.read();
        finish(0, 503);
        finish(1, 200);
        meters.worker(1).rejected(Code::Overloaded);
        let now = meters.read();
        let (was, is) = (before.plugins["lab"], now.plugins["lab"]);
        assert_eq!(is.took.since(&was.took).count(), 2);
        assert_eq!((was.failed, is.failed), (0, 1));
        let sheds = Code::Overloaded.index();
        assert_eq!((before.rejections[sheds], now.rejections[sheds]), (0, 1));
        assert_eq!(now.tokens, [("expired", 0)]);
    }
}
