//! Which companies ask most, without remembering all of them: a bounded sketch (Metwally, Agrawal,
//! El Abbadi, "Efficient computation of frequent and top-k elements in data streams", 2005).
//!
//! In: each finished request of a company, on its worker. Out: the few that have most of the last
//! minutes, of requests, of refusals and of what was shed, over all workers. A table holds
//! sixty-four companies; one that is new takes the place of the one with least, and its number with
//! it, so that a number may be too great, by no more than what that one had, and never too small.
//! What a worker counts is its own until it hands it over, once in a while: nobody waits for
//! anybody. Names are kept only where they may be shown.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gapura_protocol::context::TenantId;
use gapura_protocol::envelope::Code;

/// What companies are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Finished requests.
    Requests,
    /// Those that we answered ourselves.
    Refusals,
    /// Of these, those that were turned away because there were too many.
    Sheds,
}

/// What is counted of companies, over all workers.
pub struct Companies {
    named: bool,
    /// Keyed anew in each program: nobody outside can look for two companies that count as one.
    hasher: RandomState,
    workers: Box<[Mutex<Minutes>]>,
}

/// What one worker counts, on its thread.
pub struct Busiest {
    tables: [Table; Measure::ALL.len()],
    since: Instant,
}

/// One company of those with most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Its id, where it may be shown.
    pub company: Option<String>,
    /// How many, at most.
    pub count: u64,
    /// By how much that may be too many.
    pub over: u64,
}

/// What a worker has handed over: minutes that are over, the latest last, and the one that is not.
#[derive(Default)]
struct Minutes {
    over: VecDeque<(Instant, Counts)>,
    now: Counts,
}

/// The entries of each table.
type Counts = [Vec<Entry>; Measure::ALL.len()];

#[derive(Default)]
struct Table {
    hashes: Vec<u64>,
    entries: Vec<Entry>,
}

#[derive(Clone, Default)]
struct Entry {
    hash: u64,
    name: String,
    count: u64,
    over: u64,
}

/// More companies than anybody looks at.
const ENTRIES: usize = 64;

/// How long a part of what is shown lasts.
const MINUTE: Duration = Duration::from_secs(60);

/// How many of them are shown, beside the one under way.
const KEPT: usize = 5;

impl Measure {
    /// Every one, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Refusals, Self::Sheds];
}

impl Companies {
    /// Counts for `workers` workers; with names, if they may be shown.
    #[must_use]
    pub fn new(workers: usize, named: bool) -> Self {
        let workers = std::iter::repeat_with(Mutex::default).take(workers.max(1));
        Self {
            named,
            hasher: RandomState::new(),
            workers: workers.collect(),
        }
    }

    /// Whether names are kept.
    #[must_use]
    pub fn are_named(&self) -> bool {
        self.named
    }

    /// How far back what is shown goes, at most.
    #[must_use]
    pub fn window() -> Duration {
        MINUTE * 6
    }

    /// Those with most in the last minutes, the first first, `most` of them.
    #[must_use]
    pub fn busiest(&self, measure: Measure, most: usize, now: Instant) -> Vec<Busy> {
        let mut sums: HashMap<u64, Busy> = HashMap::new();
        for worker in &self.workers {
            let worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            let old = worker.over.iter().filter(|(at, _)| is_recent(*at, now));
            let counts = old.map(|(_, counts)| counts).chain([&worker.now]);
            for entry in counts.flat_map(|counts| &counts[measure as usize]) {
                let sum = sums.entry(entry.hash).or_insert_with(|| Busy {
                    company: self.named.then(|| entry.name.clone()),
                    count: 0,
                    over: 0,
                });
                sum.count += entry.count;
                sum.over += entry.over;
            }
        }
        let mut sums: Vec<Busy> = sums.into_values().collect();
        sums.sort_by(|one, other| {
            let by_count = other.count.cmp(&one.count);
            by_count.then_with(|| one.company.cmp(&other.company))
        });
        sums.truncate(most);
        sums
    }
}

impl Busiest {
    /// Nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            tables: Default::default(),
            since: now,
        }
    }

    /// Counts a finished request.
    pub fn count(&mut self, all: &Companies, company: &TenantId, code: Option<Code>) {
        let hash = all.hasher.hash_one(company.as_str());
        let name = if all.named { company.as_str() } else { "" };
        let mut count = |measure: Measure| self.tables[measure as usize].count(hash, name);
        count(Measure::Requests);
        if let Some(code) = code.filter(|code| !code.is_silent()) {
            count(Measure::Refusals);
            if code == Code::Overloaded {
                count(Measure::Sheds);
            }
        }
    }

    /// Hands over what worker `index` has counted; to be called about once a second.
    pub fn hand_over(&mut self, all: &Companies, index: usize, now: Instant) {
        let Some(slot) = all.workers.get(index % all.workers.len()) else {
            return;
        };
        if self.tables.iter().all(|table| table.entries.is_empty()) {
            self.since = now;
            return;
        }
        let counts = self.tables.each_ref().map(|table| table.entries.clone());
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(self.since) < MINUTE {
            slot.now = counts;
            return;
        }
        slot.now = Counts::default();
        slot.over.push_back((now, counts));
        while slot.over.len() > KEPT {
            slot.over.pop_front();
        }
        drop(slot);
        self.since = now;
        for table in &mut self.tables {
            table.hashes.clear();
            table.entries.clear();
        }
    }
}

impl Table {
    fn count(&mut self, hash: u64, name: &str) {
        if let Some(at) = self.hashes.iter().position(|known| *known == hash) {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.count += 1;
            }
        } else if self.entries.len() < ENTRIES {
            self.hashes.push(hash);
            self.entries.push(Entry {
                hash,
                name: name.to_owned(),
                count: 1,
                over: 0,
            });
        } else if let Some((at, entry)) = self
            .entries
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, entry)| entry.count)
        {
            (entry.hash, entry.over) = (hash, entry.count);
            entry.count += 1;
            entry.name.clear();
            entry.name.push_str(name);
            if let Some(known) = self.hashes.get_mut(at) {
                *known = hash;
            }
        }
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    let kept = u32::try_from(KEPT).unwrap_or(u32::MAX);
    now.saturating_duration_since(at) <= MINUTE * kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company(name: &str) -> TenantId {
        TenantId::parse(name.as_bytes()).unwrap()
    }

    fn told(all: &Companies, measure: Measure, now: Instant) -> Vec<(Option<String>, u64)> {
        let busiest = all.busiest(measure, 3, now).into_iter();
        busiest.map(|one| (one.company, one.count)).collect()
    }

    #[test]
    fn workers_are_added_up_and_refusals_and_sheds_are_told_apart() {
        let (all, now) = (Companies::new(2, true), Instant::now());
        let mut workers = [Busiest::new(now), Busiest::new(now)];
        for (worker, name, code) in [
            (0, "42", None),
            (1, "42", None),
            (0, "7", Some(Code::Forbidden)),
            (1, "42", Some(Code::Overloaded)),
            (1, "42", Some(Code::ClientGone)),
        ] {
            workers[worker].count(&all, &company(name), code);
        }
        for (index, worker) in workers.iter_mut().enumerate() {
            worker.hand_over(&all, index, now);
        }
        let one = |name: &str, count| (Some(name.to_owned()), count);
        assert_eq!(
            told(&all, Measure::Requests, now),
            [one("42", 4), one("7", 1)]
        );
        assert_eq!(
            told(&all, Measure::Refusals, now),
            [one("42", 1), one("7", 1)]
        );
        assert_eq!(told(&all, Measure::Sheds, now), [one("42", 1)]);
    }

    #[test]
    fn without_names_there_are_numbers_alone_and_no_name_is_kept() {
        let (all, now) = (Companies::new(1, false), Instant::now());
        let mut worker = Busiest::new(now);
        worker.count(&all, &company("42"), None);
        worker.hand_over(&all, 0, now);
        assert_eq!(told(&all, Measure::Requests, now), [(None, 1)]);
        assert!(worker.tables[0].entries[0].name.is_empty());
    }

    #[test]
    fn whoever_has_most_is_found_among_many_and_the_table_does_not_grow() {
        let (all, now) = (Companies::new(1, true), Instant::now());
        let mut worker = Busiest::new(now);
        for number in 0..100_000_u32 {
            worker.count(&all, &company(&format!("c{number}")), None);
            if number % 10 == 0 {
                worker.count(&all, &company("heavy"), None);
            }
        }
        worker.hand_over(&all, 0, now);
        let first = &all.busiest(Measure::Requests, 1, now)[0];
        assert_eq!(first.company.as_deref(), Some("heavy"));
        assert!(first.count >= 10_000 && first.count - first.over <= 10_000);
        assert_eq!(worker.tables[0].entries.len(), ENTRIES);
    }

    #[test]
    fn what_is_six_minutes_old_is_forgotten() {
        let (all, begun) = (Companies::new(1, true), Instant::now());
        let mut worker = Busiest::new(begun);
        worker.count(&all, &company("42"), None);
        for minute in 1..=5 {
            worker.hand_over(&all, 0, begun + MINUTE * minute);
            let seen = told(&all, Measure::Requests, begun + MINUTE * minute);
            assert_eq!(seen.len(), 1, "{minute}");
        }
        worker.hand_over(&all, 0, begun + MINUTE * 6);
        assert!(told(&all, Measure::Requests, begun + MINUTE * 7).is_empty());
        assert!(worker.tables[0].entries.is_empty());
    }

    /// Printed, not asserted but for what would show a mistake of kind: `cargo nextest run
    /// --no-capture a_count_costs`.
    #[test]
    fn a_count_costs_little() {
        let (all, now) = (Companies::new(1, true), Instant::now());
        let names: Vec<TenantId> = (0..1000).map(|n| company(&format!("c-{n}"))).collect();
        for (what, names) in [("among few", &names[..50]), ("among many", &names[..])] {
            let mut worker = Busiest::new(now);
            let begun = Instant::now();
            for at in 0..100_000 {
                worker.count(&all, &names[at % names.len()], None);
            }
            let each = begun.elapsed() / 100_000;
            #[allow(clippy::print_stdout)] // that is what it is for
            {
                println!("a count {what}: {each:?}");
            }
            assert!(each.as_micros() < 50, "{each:?}");
        }
    }
}
