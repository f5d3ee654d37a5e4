//! What the last quarter of an hour looked like, by plugin: how much, how much of it failed, how
//! fast.
//!
//! In: the sums of the counters, every few seconds, from one task. Out: a line of numbers each, and
//! what lies between now and a minute or a quarter of an hour ago. Only what is counted anyway is
//! kept, under names of the configuration; what has been quiet all the time takes no room.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gapura_telemetry::metrics::{Reading, Times, Totals};
use serde::Serialize;

/// How often the counters are read.
pub const STEP: Duration = Duration::from_secs(5);

/// How many readings a quarter of an hour has.
const KEPT: usize = 180;

/// Of these, those of the last minute.
const MINUTE: usize = 12;

/// The last quarter of an hour.
#[derive(Debug, Default)]
pub struct History {
    /// The sums as they were read last.
    last: Totals,
    plugins: BTreeMap<String, Series>,
    counts: VecDeque<Counts>,
    /// How often they have been read; not counting the first time, from which nothing follows.
    read: Option<usize>,
}

/// What became more between two readings.
#[derive(Debug, Default)]
struct Counts {
    rejections: Vec<u64>,
    tokens: Vec<u64>,
}

/// One plugin's.
#[derive(Debug, Default)]
struct Series {
    /// The latest last; empty while all of it would be nothing.
    points: VecDeque<Point>,
    /// How long requests took in each of the last few.
    minute: VecDeque<(Times, Times)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Point {
    requests: u32,
    failed: u32,
    p50: u32,
    p99: u32,
}

/// The lines of one plugin; times in microseconds, 0 where nothing was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// Its name; `none` for what no plugin takes.
    pub plugin: String,
    /// Finished requests.
    pub requests: Vec<u32>,
    /// Those that ended with a status from 500.
    pub failed: Vec<u32>,
    /// Within which half of them were done.
    pub p50_us: Vec<u32>,
    /// Within which all but a hundredth were.
    pub p99_us: Vec<u32>,
}

/// What happened in the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Lately {
    /// Finished requests a second.
    pub requests_per_s: f64,
    /// Those that ended with a status from 500, a second.
    pub failed_per_s: f64,
    /// Within which half of them were done, in microseconds; none where there were none.
    pub p50_us: Option<u64>,
    /// Within which all but a hundredth were.
    pub p99_us: Option<u64>,
    /// The same from sending them on to the head of an answer.
    pub upstream_p50_us: Option<u64>,
    /// The same for all but a hundredth.
    pub upstream_p99_us: Option<u64>,
    /// Those that have begun and not finished.
    pub in_flight: u64,
}

impl History {
    /// Enters the sums as they are now.
    pub fn enter(&mut self, now: Totals) {
        let before = std::mem::replace(&mut self.last, now);
        let Some(read) = self.read else {
            self.read = Some(0);
            return;
        };
        for (name, sums) in &self.last.plugins {
            let was = before.plugins.get(name).copied().unwrap_or_default();
            self.plugins
                .entry(name.clone())
                .or_default()
                .enter(sums, &was, read);
        }
        self.counts.push_back(Counts {
            rejections: more(&self.last.rejections, &before.rejections),
            tokens: more(&counts(&self.last.tokens), &counts(&before.tokens)),
        });
        while self.counts.len() > KEPT {
            self.counts.pop_front();
        }
        self.read = Some((read + 1).min(KEPT));
    }

    /// The sums as they were read last.
    #[must_use]
    pub fn last(&self) -> &Totals {
        &self.last
    }

    /// The lines of all plugins that were asked for anything.
    #[must_use]
    pub fn lines(&self) -> Vec<Lines> {
        let asked = self.plugins.iter();
        let asked = asked.filter(|(_, series)| !series.points.is_empty());
        asked
            .map(|(name, series)| {
                let of = |pick: &dyn Fn(&Point) -> u32| series.points.iter().map(pick).collect();
                Lines {
                    plugin: name.clone(),
                    requests: of(&|point| point.requests),
                    failed: of(&|point| point.failed),
                    p50_us: of(&|point| point.p50),
                    p99_us: of(&|point| point.p99),
                }
            })
            .collect()
    }

    /// What happened to a plugin in the last minute.
    #[must_use]
    pub fn lately(&self, plugin: &str) -> Lately {
        let in_flight = self
            .last
            .plugins
            .get(plugin)
            .map_or(0, |sums| sums.in_flight);
        let Some(series) = self.plugins.get(plugin) else {
            return Lately {
                in_flight,
                ..Lately::default()
            };
        };
        let mut sums = (Times::default(), Times::default());
        for (took, upstream) in &series.minute {
            sums = (sums.0.and(took), sums.1.and(upstream));
        }
        let points = series.points.iter().rev().take(MINUTE);
        let (requests, failed) = points.fold((0, 0), |(requests, failed), point| {
            (requests + point.requests, failed + point.failed)
        });
        let readings = self.read.unwrap_or(0).clamp(1, MINUTE);
        let readings = u32::try_from(readings).unwrap_or(1);
        let seconds = (STEP * readings).as_secs_f64();
        Lately {
            requests_per_s: f64::from(requests) / seconds,
            failed_per_s: f64::from(failed) / seconds,
            p50_us: sums.0.within(50),
            p99_us: sums.0.within(99),
            upstream_p50_us: sums.1.within(50),
            upstream_p99_us: sums.1.within(99),
            in_flight,
        }
    }

    /// What happened to all requests in the last minute, those of no plugin (`unrouted`) too.
    #[must_use]
    pub fn all_lately(&self, unrouted: &str) -> Lately {
        let names = self.last.plugins.keys().map(String::as_str);
        let names = names.filter(|name| *name != unrouted).chain([unrouted]);
        let mut sum = Lately::default();
        let mut took = (Times::default(), Times::default());
        for name in names {
            let one = self.lately(name);
            sum.requests_per_s += one.requests_per_s;
            sum.failed_per_s += one.failed_per_s;
            sum.in_flight += one.in_flight;
            for (each, upstream) in self.plugins.get(name).iter().flat_map(|one| &one.minute) {
                took = (took.0.and(each), took.1.and(upstream));
            }
        }
        sum.p50_us = took.0.within(50);
        sum.p99_us = took.0.within(99);
        sum.upstream_p50_us = took.1.within(50);
        sum.upstream_p99_us = took.1.within(99);
        sum
    }

    /// How many answers of our own of each code the last quarter of an hour had, in the order of
    /// the codes.
    #[must_use]
    pub fn rejections(&self) -> Vec<u64> {
        self.sum(|counts| &counts.rejections)
    }

    /// How many refused tokens of each reason, in the order of the reasons.
    #[must_use]
    pub fn tokens(&self) -> Vec<u64> {
        self.sum(|counts| &counts.tokens)
    }

    fn sum(&self, pick: impl Fn(&Counts) -> &Vec<u64>) -> Vec<u64> {
        let mut sums = Vec::new();
        for counts in &self.counts {
            let counts = pick(counts);
            sums.resize(counts.len().max(sums.len()), 0);
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        sums
    }
}

impl Series {
    fn enter(&mut self, now: &Reading, before: &Reading, read: usize) {
        let took = now.took.since(&before.took);
        let upstream = now.upstream.since(&before.upstream);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let point = Point {
            requests: small(took.count()),
            failed: small(now.failed.saturating_sub(before.failed)),
            p50: small(took.within(50).unwrap_or(0)),
            p99: small(took.within(99).unwrap_or(0)),
        };
        if self.points.is_empty() {
            if point.requests == 0 {
                return;
            }
            // As long as the others' lines.
            let quiet = std::iter::repeat_n(Point::default(), read.min(KEPT - 1));
            self.points.extend(quiet);
        }
        self.points.push_back(point);
        self.minute.push_back((took, upstream));
        while self.points.len() > KEPT {
            self.points.pop_front();
        }
        while self.minute.len() > MINUTE {
            self.minute.pop_front();
        }
        if self.points.iter().all(|point| point.requests == 0) {
            *self = Self::default();
        }
    }
}

fn counts(named: &[(&'static str, u64)]) -> Vec<u64> {
    named.iter().map(|(_, count)| *count).collect()
}

fn more(now: &[u64], before: &[u64]) -> Vec<u64> {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    let both = now.iter().zip(before);
    both.map(|(now, before)| now.saturating_sub(before))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gapura_protocol::envelope::Code;
    use gapura_telemetry::metrics::Meters;
    use http::Method;

    use super::*;

    fn finish(meters: &Meters, plugin: &str, status: u16, millis: u64) {
        let took = Duration::from_millis(millis);
        let meters = meters.plugin(plugin);
        meters.slot(0).finish(&Method::GET, status, took, None);
    }

    fn line(history: &History, plugin: &str) -> Option<Lines> {
        history.lines().into_iter().find(|one| one.plugin == plugin)
    }

    #[test]
    fn each_reading_is_a_point_and_what_was_before_the_first_is_none() {
        let (meters, mut history) = (Meters::new(1, &[]), History::default());
        finish(&meters, "lab", 200, 1);
        history.enter(meters.read());
        assert!(history.lines().is_empty(), "nobody knows since when");
        history.enter(meters.read());
        finish(&meters, "lab", 200, 3);
        finish(&meters, "lab", 503, 3);
        history.enter(meters.read());
        let lines = line(&history, "lab").unwrap();
        assert_eq!((lines.requests, lines.failed), (vec![0, 2], vec![0, 1]));
        assert!(lines.p99_us[1] > 2_500 && lines.p99_us[0] == 0);
        let lately = history.lately("lab");
        assert!((lately.requests_per_s - 0.2).abs() < 1e-9, "{lately:?}");
        assert!(lately.p50_us.is_some() && lately.upstream_p50_us.is_none());
        assert_eq!(history.lately("nobody"), Lately::default());
    }

    #[test]
    fn a_quarter_of_an_hour_is_kept_and_what_is_quiet_takes_no_room() {
        let (meters, mut history) = (Meters::new(1, &["expired"]), History::default());
        let _ = meters.plugin("quiet");
        history.enter(meters.read());
        for _ in 0..KEPT * 2 {
            finish(&meters, "lab", 200, 1);
            meters.worker(0).rejected(Code::Forbidden);
            meters.worker(0).token_rejected(0);
            history.enter(meters.read());
        }
        let kept = u64::try_from(KEPT).unwrap();
        assert_eq!(line(&history, "lab").unwrap().requests.len(), KEPT);
        assert_eq!(history.rejections()[Code::Forbidden.index()], kept);
        assert_eq!(history.tokens(), [kept]);
        assert!(line(&history, "quiet").is_none());
        for _ in 0..KEPT {
            history.enter(meters.read());
        }
        assert!(line(&history, "lab").is_none());
        assert_eq!(history.lately("lab"), Lately::default());
        finish(&meters, "late", 200, 1);
        history.enter(meters.read());
        assert_eq!(line(&history, "late").unwrap().requests.len(), KEPT);
    }
}
