//! Whether one instance is well, as all workers and the prober together know it.
//!
//! In: what became of requests and probes, with the time. Out: whether requests may go there, and
//! each change of that. An instance that failed five times in a row is out for a second, then for
//! two, up to a minute, each time until one request or probe has shown that it is back. What probes
//! find, and its version, are reasons of their own. Everything here is a number that any thread may
//! read and write: two that fail at once may both count or not, and no one waits for another.
//! Invariant: an instance is in exactly while no reason holds it out; whoever changes that hears of
//! it, and nobody else.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What is known of one instance. Times are milliseconds since the registry began, and never 0.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The reasons that hold it out.
    out: AtomicU8,
    /// Failed requests since the last good one.
    failures: AtomicU32,
    /// Ejections without a good while between.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// When the request went out that is to show whether it is back; 0 if none is under way.
    trial: AtomicU64,
    /// When it came, or came back; 0 if it was there from the beginning.
    joined: AtomicU64,
    /// Until when it has asked for fewer requests.
    spared_until: AtomicU64,
    probes_failed: AtomicU32,
    probes_good: AtomicU32,
}

/// Why an instance is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Requests failed, or could not be brought there.
    Failures = 1,
    /// Probes failed.
    Probes = 2,
    /// It is older than `min_version`, or does not say how old it is.
    Version = 4,
    /// Its contract breaks the one in force, or has not been read.
    Contract = 8,
}

/// An instance that was in is out, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Out(Reason),
    In,
}

/// Failures in a row until an instance is out.
const FAILURES: u32 = 5;

/// The first time that an instance is out.
const FIRST_MS: u64 = 1_000;

/// Doubled so many times at most: a minute, nearly.
const DOUBLINGS: u32 = 6;

const LONGEST_MS: u64 = 60_000;

/// Without an ejection for so long, the next one is a first one again.
const FORGIVEN_MS: u64 = 60_000;

/// A trial that has not ended by then will not tell us anything.
const TRIAL_MS: u64 = 10_000;

/// An instance that has just come gets its full share only after this.
const SLOW_START_MS: u64 = 10_000;

/// In a thousand: the share with which one begins, and the share of one that asked to be spared.
const FIRST_SHARE: u64 = 100;
const SPARED_SHARE: u64 = 125;

/// Nobody is spared for longer than this without asking again.
const SPARED_MOST: Duration = Duration::from_secs(60);

impl Health {
    /// One that came to others that were there already.
    pub(crate) fn joining(now: u64) -> Self {
        let health = Self::default();
        health.joined.store(now, Relaxed);
        health
    }

    /// Whether requests may go there.
    pub(crate) fn is_in(&self) -> bool {
        self.out.load(Relaxed) == 0
    }

    /// Whether it is in and its last request was a good one: the usual case, in which there is
    /// nothing to note.
    pub(crate) fn is_spotless(&self) -> bool {
        self.is_in() && self.failures.load(Relaxed) == 0
    }

    /// Whether this, perhaps among others, holds it out.
    pub(crate) fn is_out_for(&self, reason: Reason) -> bool {
        self.out.load(Relaxed) & reason as u8 != 0
    }

    /// Its share of the requests in a thousandth of the full one.
    pub(crate) fn share(&self, now: u64) -> u64 {
        let joined = self.joined.load(Relaxed);
        let mut share = 1000;
        if joined != 0 {
            let age = now.saturating_sub(joined);
            if age < SLOW_START_MS {
                share = FIRST_SHARE + (1000 - FIRST_SHARE) * age / SLOW_START_MS;
            }
        }
        if self.spared_until.load(Relaxed) > now {
            share = share * SPARED_SHARE / 1000;
        }
        share
    }

    /// It said how long it wants fewer requests (RFC 9110, section 10.2.3).
    pub(crate) fn spare(&self, now: u64, after: Duration) {
        let after = u64::try_from(after.min(SPARED_MOST).as_millis()).unwrap_or(0);
        self.spared_until.fetch_max(now + after, Relaxed);
    }

    /// It answered a request.
    pub(crate) fn answered(&self, now: u64) -> Option<Change> {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.is_out_for(Reason::Failures) {
            return self.returns(now);
        }
        None
    }

    /// A request failed there. `ejects` says whether that may take it out.
    pub(crate) fn failed(&self, now: u64, ejects: bool) -> Option<Change> {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if self.is_out_for(Reason::Failures) {
            // Of those that were under way when it went out there is nothing to learn.
            if self.trial.swap(0, Relaxed) != 0 {
                self.eject(now);
            }
            return None;
        }
        if failures < FAILURES || !ejects {
            return None;
        }
        self.eject(now);
        self.hold_out(Reason::Failures)
    }

    /// Until when it is out for its failures; none if it is not.
    pub(crate) fn ejected_until(&self) -> Option<u64> {
        self.is_out_for(Reason::Failures)
            .then(|| self.ejected_until.load(Relaxed))
    }

    /// When one request may be tried there, for it is out for its failures alone; none if it is
    /// not.
    pub(crate) fn trial_at(&self) -> Option<u64> {
        let alone = self.out.load(Relaxed) == Reason::Failures as u8;
        alone.then(|| self.ejected_until.load(Relaxed))
    }

    /// Takes the right to try one request there, which one at a time has, `late` after it might
    /// have been taken.
    pub(crate) fn try_it(&self, now: u64, late: u64) -> bool {
        if self.trial_at().is_none_or(|at| now < at + late) {
            return false;
        }
        let under_way = self.trial.load(Relaxed);
        let free = under_way == 0 || now.saturating_sub(under_way) > TRIAL_MS;
        free && self
            .trial
            .compare_exchange(under_way, now, Relaxed, Relaxed)
            .is_ok()
    }

    /// A probe was answered.
    pub(crate) fn probe_passed(&self, now: u64, healthy_after: u32) -> Option<Change> {
        self.probes_failed.store(0, Relaxed);
        let mut change = None;
        if self.is_out_for(Reason::Probes) {
            let good = self.probes_good.fetch_add(1, Relaxed).saturating_add(1);
            if good >= healthy_after {
                change = self.let_in(Reason::Probes, now);
            }
        }
        // It is as good as a request, once the time is over for which it is out in any case.
        if self.is_out_for(Reason::Failures) {
            change = self.returns(now).or(change);
        }
        change
    }

    /// A probe failed.
    pub(crate) fn probe_failed(&self, unhealthy_after: u32) -> Option<Change> {
        self.probes_good.store(0, Relaxed);
        let failed = self.probes_failed.fetch_add(1, Relaxed).saturating_add(1);
        if failed >= unhealthy_after {
            self.hold_out(Reason::Probes)
        } else {
            None
        }
    }

    /// It is known whether its version will do.
    pub(crate) fn version_fits(&self, fits: bool, now: u64) -> Option<Change> {
        if fits {
            self.let_in(Reason::Version, now)
        } else {
            self.hold_out(Reason::Version)
        }
    }

    /// It is known whether its contract will do.
    pub(crate) fn contract_fits(&self, fits: bool, now: u64) -> Option<Change> {
        if fits {
            self.let_in(Reason::Contract, now)
        } else {
            self.hold_out(Reason::Contract)
        }
    }

    fn returns(&self, now: u64) -> Option<Change> {
        if now < self.ejected_until.load(Relaxed) {
            return None;
        }
        self.trial.store(0, Relaxed);
        self.let_in(Reason::Failures, now)
    }

    fn eject(&self, now: u64) {
        let last_end = self.ejected_until.load(Relaxed);
        let forgiven = now.saturating_sub(last_end) > FORGIVEN_MS;
        let before = if forgiven {
            0
        } else {
            self.ejections.load(Relaxed)
        };
        self.ejections.store(before.saturating_add(1), Relaxed);
        let long = (FIRST_MS << before.min(DOUBLINGS)).min(LONGEST_MS);
        self.ejected_until.store(now + long, Relaxed);
        self.failures.store(0, Relaxed);
    }

    fn hold_out(&self, reason: Reason) -> Option<Change> {
        let before = self.out.fetch_or(reason as u8, Relaxed);
        (before == 0).then_some(Change::Out(reason))
    }

    fn let_in(&self, reason: Reason, now: u64) -> Option<Change> {
        let before = self.out.fetch_and(!(reason as u8), Relaxed);
        if before != reason as u8 {
            return None;
        }
        self.joined.store(now, Relaxed);
        Some(Change::In)
    }
}

impl Reason {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Failures, Self::Probes, Self::Version, Self::Contract];

    /// The word for logs and the operator's side.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Probes => "probes",
            Self::Version => "version",
            Self::Contract => "contract",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fail(health: &Health, times: u32, now: u64) -> Option<Change> {
        (0..times).filter_map(|_| health.failed(now, true)).last()
    }

    #[test]
    fn five_failures_in_a_row_take_it_out_and_four_do_not() {
        let health = Health::default();
        assert_eq!(fail(&health, 4, 1), None);
        assert_eq!(health.answered(1), None);
        assert_eq!(fail(&health, 4, 1), None);
        assert!(health.is_in());
        assert_eq!(health.failed(1, true), Some(Change::Out(Reason::Failures)));
        assert!(!health.is_in());
        let spared = Health::default();
        assert!((0..99).all(|_| spared.failed(1, false).is_none()) && spared.is_in());
    }

    #[test]
    fn it_comes_back_by_one_good_answer_and_no_sooner_than_it_may() {
        let health = Health::default();
        fail(&health, 5, 1);
        assert_eq!(health.answered(500), None, "it was under way before");
        assert!(!health.try_it(1000, 0), "the second is not over");
        assert!(health.try_it(1001, 0));
        assert!(!health.try_it(1001, 0), "one at a time");
        assert_eq!(health.answered(1010), Some(Change::In));
        assert!(health.is_in() && health.share(1010) == FIRST_SHARE);
        assert_eq!(health.share(1010 + SLOW_START_MS), 1000);
        assert!((500..600).contains(&health.share(1010 + SLOW_START_MS / 2)));
    }

    #[test]
    fn each_vain_trial_doubles_the_time_up_to_a_minute_and_a_good_minute_forgives() {
        let health = Health::default();
        let mut now = 1;
        fail(&health, 5, now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!health.try_it(now + seconds * 1000 - 1, 0), "{seconds}");
            now += seconds * 1000;
            assert!(health.try_it(now, 0), "{seconds}");
            assert_eq!(health.failed(now, true), None);
        }
        now += 60_000;
        assert!(health.try_it(now, 0));
        assert_eq!(health.answered(now), Some(Change::In));
        now += FORGIVEN_MS + 1;
        fail(&health, 5, now);
        assert!(health.try_it(now + 1000, 0), "a first time again");
    }

    #[test]
    fn a_trial_that_nobody_hears_of_again_does_not_keep_it_out_for_ever() {
        let health = Health::default();
        fail(&health, 5, 1);
        assert!(health.try_it(2000, 0) && !health.try_it(2001, 0));
        assert!(health.try_it(2001 + TRIAL_MS, 0));
    }

    #[test]
    fn probes_have_their_own_counts_and_their_own_say() {
        let health = Health::default();
        assert_eq!(health.probe_failed(3), None);
        assert_eq!(health.probe_failed(3), None);
        assert_eq!(health.probe_passed(1, 2), None);
        let mut changes = (0..3).map(|_| health.probe_failed(3));
        assert_eq!(
            changes.by_ref().last(),
            Some(Some(Change::Out(Reason::Probes)))
        );
        assert!(health.trial_at().is_none(), "no request is tried on it");
        assert_eq!(health.answered(2), None, "what was under way");
        assert_eq!(health.probe_passed(3, 2), None);
        assert_eq!(health.probe_passed(4, 2), Some(Change::In));
    }

    #[test]
    fn a_good_probe_is_as_good_as_a_trial() {
        let health = Health::default();
        fail(&health, 5, 1);
        assert_eq!(health.probe_passed(900, 1), None);
        assert_eq!(health.probe_passed(1001, 1), Some(Change::In));
    }

    #[test]
    fn it_is_in_only_once_the_last_reason_is_gone() {
        let health = Health::default();
        assert_eq!(
            health.version_fits(false, 1),
            Some(Change::Out(Reason::Version))
        );
        assert_eq!(fail(&health, 5, 1), None);
        assert_eq!(health.probe_passed(2000, 1), None);
        assert!(!health.is_in() && !health.is_out_for(Reason::Failures));
        assert_eq!(health.version_fits(true, 2001), Some(Change::In));
        assert_eq!(health.version_fits(true, 2002), None);
    }

    #[test]
    fn one_that_asks_to_be_spared_gets_an_eighth_for_as_long_as_it_says_but_a_minute_at_most() {
        let health = Health::default();
        health.spare(1, Duration::from_secs(5));
        assert_eq!(
            (health.share(5000), health.share(5001)),
            (SPARED_SHARE, 1000)
        );
        health.spare(1, Duration::from_secs(86_400));
        assert_eq!(
            (health.share(60_000), health.share(60_001)),
            (SPARED_SHARE, 1000)
        );
        assert!(health.is_in());
    }

    proptest! {
        #[test]
        fn whatever_happens_each_change_is_told_and_it_never_stays_out_without_a_reason(
            steps in proptest::collection::vec((0..6_u8, 1..3000_u64), 0..200),
        ) {
            let (health, mut now, mut is_in) = (Health::default(), 1, true);
            for (step, passes) in steps {
                now += passes;
                let change = match step {
                    0 => health.answered(now),
                    1 => health.failed(now, true),
                    2 => health.probe_passed(now, 1),
                    3 => health.probe_failed(2),
                    4 => health.version_fits(passes % 2 == 0, now),
                    _ => { health.try_it(now, 0); None }
                };
                match change {
                    Some(Change::Out(_)) => { prop_assert!(is_in); is_in = false; }
                    Some(Change::In) => { prop_assert!(!is_in); is_in = true; }
                    None => {}
                }
                prop_assert_eq!(health.is_in(), is_in);
                prop_assert!((1..=1000).contains(&health.share(now)));
            }
            // However it was, this brings it back.
            now += 2 * LONGEST_MS;
            health.version_fits(true, now);
            health.probe_passed(now, 1);
            prop_assert!(health.is_in());
        }
    }
}
