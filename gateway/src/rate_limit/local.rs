//! The buckets of this program: one table for all its workers, without a lock.
//!
//! In: whose bucket, the quota, the time. Out: the verdict. A bucket is two numbers, the hash of
//! whose it is and the moment at which it is full again. The hash finds a set of sixteen of them,
//! of which any may be its own. One whose moment has passed says no more than none at all, so it is
//! free for the next who needs room: nothing is ever tidied, and what is remembered never grows
//! over 64 MiB, which a set of memory pages that were never needed is not part of. Four million
//! buckets find room at a time; beyond that the one of a full set that owes least is given up,
//! which at worst lets its owner begin anew.
//! Invariant: whatever several workers do at once, each request is counted in some bucket; in the
//! moment in which a bucket changes hands it may be counted in the one of who had it, or comes to
//! have it, and in no other moment.

use std::array::from_fn;
use std::collections::hash_map::RandomState;
use std::future::{Future, ready};
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::quota::{Left, Quota, Verdict};
use super::store::{BucketId, Store};

/// The buckets of one program.
#[derive(Default)]
pub(crate) struct LocalStore {
    /// Keyed anew in each program: nobody outside can look for two callers that share a bucket.
    hasher: RandomState,
    /// Nothing before the first limit is asked.
    pages: OnceLock<Box<[OnceLock<Box<Page>>]>>,
}

/// What is made at once: 4 KiB.
struct Page([Set; SETS]);

/// Those of which any may be a bucket's own.
#[derive(Default)]
struct Set {
    names: [AtomicU64; WAYS],
    full_at: [AtomicU64; WAYS],
}

/// A set is four cache lines: the names are looked through, one moment is read.
const WAYS: usize = 16;

const SETS: usize = 16;

/// With a million buckets a set holds four on average, and one in a million sets is full.
const PAGES: usize = 1 << 14;

/// How often a set is looked through anew while others claim buckets of it.
const TRIES: usize = 8;

impl LocalStore {
    /// Takes one request of a bucket.
    pub(super) fn take_now(&self, id: &BucketId<'_>, quota: Quota, now: u64) -> Verdict {
        let name = self.name(id);
        let full_at = self.set(name).claim(name, now);
        let mut known = full_at.load(Ordering::Relaxed);
        loop {
            let (verdict, next) = quota.take(known, now);
            if next == known {
                return verdict;
            }
            match full_at.compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return verdict,
                Err(other) => known = other,
            }
        }
    }

    fn give_back_now(&self, id: &BucketId<'_>, quota: Quota) {
        let name = self.name(id);
        if let Some(full_at) = self.set(name).find(name) {
            let less = |known| Some(quota.give_back(known));
            let _ = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// What is left of a bucket.
    pub(super) fn look(&self, id: &BucketId<'_>, quota: Quota, now: u64) -> Left {
        let name = self.name(id);
        let found = self.set(name).find(name);
        quota.look(
            found.map_or(0, |full_at| full_at.load(Ordering::Relaxed)),
            now,
        )
    }

    /// 0 is nobody's.
    fn name(&self, id: &BucketId<'_>) -> u64 {
        self.hasher.hash_one(id).max(1)
    }

    /// The set that a name's low bits say; the whole of it is compared there.
    fn set(&self, name: u64) -> &Set {
        let pages = self
            .pages
            .get_or_init(|| std::iter::repeat_with(OnceLock::new).take(PAGES).collect());
        let at = usize::try_from(name % (PAGES * SETS) as u64).unwrap_or(0);
        let page = pages[at / SETS].get_or_init(|| Box::new(Page(from_fn(|_| Set::default()))));
        &page.0[at % SETS]
    }
}

impl Set {
    fn find(&self, name: u64) -> Option<&AtomicU64> {
        let mut both = self.names.iter().zip(&self.full_at);
        let found = both.find(|(known, _)| known.load(Ordering::Acquire) == name);
        found.map(|(_, full_at)| full_at)
    }

    /// The bucket of this name: the one it has, or one that says nothing any more, or else the one
    /// that owes least.
    fn claim(&self, name: u64, now: u64) -> &AtomicU64 {
        for _ in 0..TRIES {
            if let Some(full_at) = self.find(name) {
                return full_at;
            }
            let both = self.names.iter().zip(&self.full_at);
            let least = both
                .map(|(known, full_at)| (full_at.load(Ordering::Relaxed), known, full_at))
                .min_by_key(|(moment, ..)| *moment);
            let Some((moment, known, full_at)) = least else {
                continue;
            };
            let before = known.load(Ordering::Acquire);
            let swap = known.compare_exchange(before, name, Ordering::AcqRel, Ordering::Acquire);
            if swap.is_ok() {
                if moment > now && before != name {
                    full_at.store(0, Ordering::Relaxed);
                }
                return full_at;
            }
        }
        // Everybody wants this set at once: what is counted here is counted in somebody's bucket.
        let at = usize::try_from(name >> 32).unwrap_or(0) % WAYS;
        &self.full_at[at]
    }
}

impl Store for LocalStore {
    fn take(&self, id: &BucketId<'_>, quota: Quota, now: u64) -> impl Future<Output = Verdict> {
        ready(self.take_now(id, quota, now))
    }

    fn give_back(&self, id: &BucketId<'_>, quota: Quota) -> impl Future<Output = ()> {
        self.give_back_now(id, quota);
        ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::store::{Owner, Who};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    const SECOND: u64 = 1_000_000_000;

    fn tenant(name: &str) -> BucketId<'_> {
        BucketId {
            of: Owner::Plugin("lab"),
            who: Who::Tenant(name),
        }
    }

    fn passes(store: &LocalStore, id: &BucketId<'_>, quota: Quota, now: u64) -> bool {
        matches!(store.take_now(id, quota, now), Verdict::Taken(_))
    }

    #[test]
    fn buckets_that_differ_in_any_part_are_two() {
        let (store, quota) = (LocalStore::default(), Quota::new(1, 60, 1).unwrap());
        let user = |tenant, user| Who::User { tenant, user };
        let ids = [
            (Owner::Plugin("lab"), Who::Tenant("1")),
            (Owner::Plugin("lab"), Who::Tenant("2")),
            (Owner::Plugin("labs"), Who::Tenant("1")),
            (Owner::Company("1"), Who::Tenant("1")),
            (Owner::Plugin("lab"), user("1", "7")),
            (Owner::Plugin("lab"), user("2", "7")),
            (Owner::Plugin("lab"), user("17", "")),
            (Owner::Plugin("lab"), user("", "17")),
            (
                Owner::Plugin("lab"),
                Who::Address("10.0.0.1".parse().unwrap()),
            ),
            (
                Owner::Plugin("lab"),
                Who::Address("::10.0.0.1".parse().unwrap()),
            ),
        ];
        for round in [true, false] {
            for (of, who) in ids {
                let id = BucketId { of, who };
                assert_eq!(passes(&store, &id, quota, 1), round, "{id:?}");
            }
        }
        let (of, who) = ids[0];
        store.give_back_now(&BucketId { of, who }, quota);
        assert!(passes(&store, &BucketId { of, who }, quota, 1));
        store.give_back_now(&tenant("unknown"), quota);
        assert_eq!(store.look(&tenant("unknown"), quota, 1).requests, 1);
    }

    #[test]
    fn workers_share_one_allowance_to_the_last_request() {
        let (store, quota) = (LocalStore::default(), Quota::new(1000, 3600, 1000).unwrap());
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if passes(&store, &tenant("42"), quota, 1) {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1000);
    }

    /// A million companies, each with a debt; and a second million an hour later, in the same
    /// memory.
    #[test]
    fn a_million_companies_are_each_counted_and_take_no_more_memory_than_said() {
        let (store, quota) = (LocalStore::default(), Quota::new(2, 60, 2).unwrap());
        let names: Vec<String> = (0..1_000_000).map(|number| number.to_string()).collect();
        let round = |now: u64| {
            names
                .iter()
                .filter(|name| passes(&store, &tenant(name), quota, now))
                .count()
        };
        let all = names.len();
        assert_eq!(round(1), all);
        assert_eq!(round(1), all);
        // In sets that are full somebody begins anew.
        let given_up = round(1);
        assert!(given_up < all / 10_000, "{given_up} were forgotten");
        assert_eq!(
            round(3600 * SECOND),
            all,
            "an hour later all are full again"
        );
        let made = store
            .pages
            .get()
            .unwrap()
            .iter()
            .filter(|page| page.get().is_some());
        let bytes = made.count() * size_of::<Page>();
        assert!(bytes <= 64 << 20, "{bytes}");
    }

    #[test]
    fn what_is_asked_for_nothing_takes_no_memory() {
        let store = LocalStore::default();
        assert!(store.pages.get().is_none());
        assert_eq!(size_of::<Page>(), 4096);
    }

    /// Printed, not asserted but for what would show a mistake of kind: `cargo nextest run
    /// --no-capture a_decision_costs`.
    #[test]
    fn a_decision_costs_little() {
        let (store, quota) = (
            Arc::new(LocalStore::default()),
            Quota::new(1_000_000, 1, 1_000_000).unwrap(),
        );
        let names: Vec<String> = (0..10_000)
            .map(|number| format!("company-{number}"))
            .collect();
        let rounds = 20;
        let begun = Instant::now();
        for round in 0..rounds {
            for name in &names {
                let _ = store.take_now(&tenant(name), quota, 1 + round);
            }
        }
        let each = begun.elapsed()
            / (u32::try_from(names.len()).unwrap() * u32::try_from(rounds).unwrap());
        #[allow(clippy::print_stdout)] // that is what it is for
        {
            println!("a decision among 10,000 buckets: {each:?}");
        }
        assert!(each.as_micros() < 100, "{each:?}");
    }

    proptest! {
        /// The table says what a plain map says, for any order of any number of buckets.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0_u8..20, 0_u64..2 * SECOND, 0_u8..8), 1..300)) {
            let (store, quota) = (LocalStore::default(), Quota::new(3, 2, 4).unwrap());
            let (mut map, mut now) = (HashMap::<u8, u64>::new(), SECOND);
            for (who, step, what) in steps {
                now += step;
                let name = who.to_string();
                let id = tenant(&name);
                let known = map.get(&who).copied().unwrap_or(0);
                match what {
                    0 => {
                        store.give_back_now(&id, quota);
                        map.insert(who, quota.give_back(known));
                    }
                    1 => prop_assert_eq!(store.look(&id, quota, now), quota.look(known, now)),
                    _ => {
                        let (verdict, next) = quota.take(known, now);
                        map.insert(who, next);
                        prop_assert_eq!(store.take_now(&id, quota, now), verdict);
                    }
                }
            }
        }
    }
}
