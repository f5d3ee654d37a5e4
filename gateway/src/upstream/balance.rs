//! Which instance gets the next request: of two that are drawn by their weights, the one with less
//! to do.
//!
//! In: the instances with their health, and what this worker has under way at each. Out: one that
//! is in; one that is out and whose time has come for a trial; or none. A sole instance is always
//! taken, however it is. Who is in is worked out when something has changed, not for each request.
//! Belongs to one worker; knows no connection.
//!
//! Requests under way decide. Time counts only once it differs by more than double, so that noise
//! between two alike instances moves nobody.

use std::rc::Rc;
use std::sync::Arc;

use super::health::Reason;
use super::instance::Instance;
use super::load::Load;

/// The instances of one cluster, as one worker sees them.
#[derive(Debug, Default)]
pub(super) struct Rota {
    ranks: Vec<Rc<Rank>>,
    /// Those that are in, by their place among `ranks`.
    usable: Vec<Usable>,
    /// Whether all of them weigh the same.
    even: bool,
    /// As of which change this is.
    generation: Option<u64>,
    /// When the first that is out may be tried; never where none is.
    next_trial: u64,
}

/// One instance.
#[derive(Debug)]
pub(super) struct Rank {
    pub(super) instance: Arc<Instance>,
    pub(super) load: Rc<Load>,
}

#[derive(Clone, Copy, Debug)]
struct Usable {
    at: usize,
    weight: u32,
    /// The sum of the weights so far, this one included.
    up_to: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one, by its place.
    One(usize),
    /// There are some, and all are out.
    AllOut,
    /// There is none.
    NoneKnown,
}

/// Below this all answers are equally fast.
const FAST_MICROS: f64 = 1000.0;

/// So much later any request is a trial, where none came that can be repeated.
const LATE_MS: u64 = 10_000;

/// Never.
const NEVER: u64 = u64::MAX;

impl Rota {
    /// The instances that there are now, in their order.
    pub(super) fn set(&mut self, ranks: Vec<Rc<Rank>>) {
        self.ranks = ranks;
        self.generation = None;
    }

    /// What is under way at the one at this place.
    pub(super) fn rank(&self, at: usize) -> Option<&Rc<Rank>> {
        self.ranks.get(at)
    }

    /// Whether there is more than one that may get requests at all.
    pub(super) fn is_several(&self) -> bool {
        let mut sharing = self.ranks.iter().filter(|rank| rank.weight() > 0);
        sharing.next().is_some() && sharing.next().is_some()
    }

    /// One for the next request. `generation` changes whenever an instance comes in or goes out.
    /// `trials` says whether this request should find out if one that is out is back; where none
    /// should, any does it later.
    pub(super) fn choose(
        &mut self,
        generation: u64,
        trials: bool,
        now: u64,
        random: impl FnOnce() -> u64,
    ) -> Choice {
        if let [sole] = &*self.ranks {
            return sole.sole(0);
        }
        self.refresh(generation);
        let late = if trials { 0 } else { LATE_MS };
        if now >= self.next_trial.saturating_add(late)
            && let Some(at) = self.trial(now, late)
        {
            return Choice::One(at);
        }
        match &*self.usable {
            [] => self.last_resort(),
            [one] => Choice::One(one.at),
            _ => Choice::One(self.better_of_two(now, random())),
        }
    }

    /// Another than those that were tried for the same request, if one is in; else any that is,
    /// where `again` allows it.
    pub(super) fn choose_other(
        &mut self,
        generation: u64,
        tried: &[Arc<Instance>],
        again: bool,
        random: u64,
    ) -> Choice {
        if let [sole] = &*self.ranks {
            return if again { sole.sole(0) } else { Choice::AllOut };
        }
        self.refresh(generation);
        let is_tried = |one: &&Usable| {
            let rank = self.ranks.get(one.at);
            rank.is_some_and(|rank| tried.iter().any(|known| Arc::ptr_eq(known, &rank.instance)))
        };
        let fresh: Vec<&Usable> = self.usable.iter().filter(|one| !is_tried(one)).collect();
        let from: Vec<&Usable> = match fresh.is_empty() {
            true if again => self.usable.iter().collect(),
            _ => fresh,
        };
        let length = u64::try_from(from.len()).unwrap_or(u64::MAX).max(1);
        let at = usize::try_from(random % length).unwrap_or(0);
        match from.get(at) {
            Some(one) => Choice::One(one.at),
            None if again => self.last_resort(),
            None => Choice::AllOut,
        }
    }

    /// Nobody is in. Where only one gets requests at all, it is taken all the same.
    fn last_resort(&self) -> Choice {
        if self.ranks.is_empty() {
            return Choice::NoneKnown;
        }
        let ranks = self.ranks.iter().enumerate();
        let mut sharing = ranks.filter(|(_, rank)| rank.weight() > 0);
        match (sharing.next(), sharing.next()) {
            (Some((at, sole)), None) => sole.sole(at),
            _ => Choice::AllOut,
        }
    }

    fn refresh(&mut self, generation: u64) {
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        self.usable.clear();
        self.next_trial = NEVER;
        let mut sum = 0;
        for (at, rank) in self.ranks.iter().enumerate() {
            let weight = rank.weight();
            if weight == 0 {
                continue;
            }
            if rank.instance.health.is_in() {
                sum += weight;
                self.usable.push(Usable {
                    at,
                    weight,
                    up_to: sum,
                });
            } else if let Some(trial) = rank.instance.health.trial_at() {
                self.next_trial = self.next_trial.min(trial);
            }
        }
        let first = self.usable.first().map(|one| one.weight);
        self.even = self.usable.iter().all(|one| Some(one.weight) == first);
    }

    fn trial(&mut self, now: u64, late: u64) -> Option<usize> {
        let mut next = NEVER;
        let mut found = None;
        for (at, rank) in self.ranks.iter().enumerate() {
            let health = &rank.instance.health;
            let Some(trial) = health.trial_at().filter(|_| rank.weight() > 0) else {
                continue;
            };
            if found.is_none() && health.try_it(now, late) {
                found = Some(at);
            }
            // One whose trial is under way is looked at again soon.
            next = next.min(trial.max(now + 100));
        }
        self.next_trial = next;
        found
    }

    fn better_of_two(&self, now: u64, random: u64) -> usize {
        let (one, other, coin) = self.draw(random);
        let (Some(a), Some(b)) = (self.ranks.get(one.at), self.ranks.get(other.at)) else {
            return one.at;
        };
        let (share_a, share_b) = (a.instance.health.share(now), b.instance.health.share(now));
        // One that has just come, or that asked for less, is drawn as often as the others and then
        // passed over.
        let is_passed = |share, beside, coin: u64| share < beside && coin % 1000 >= share;
        if is_passed(share_a, share_b, coin) {
            return other.at;
        }
        let (busy_first, busy_second) = (self.busy(one, a, share_a), self.busy(other, b, share_b));
        let slow_first = a.load.micros(now) + FAST_MICROS;
        let slow_second = b.load.micros(now) + FAST_MICROS;
        let differs = slow_first > 2.0 * slow_second || slow_second > 2.0 * slow_first;
        let leaves = if differs {
            slow_first * busy_first > slow_second * busy_second
        } else {
            busy_first > busy_second
        };
        if leaves && !is_passed(share_b, share_a, coin >> 10) {
            other.at
        } else {
            one.at
        }
    }

    /// Requests under way in the measure of its weight, with 1 for the mean weight; and one more.
    fn busy(&self, one: Usable, rank: &Rank, share: u64) -> f64 {
        let share = f64::from(u32::try_from(share).unwrap_or(1000)) / 1000.0;
        let sum = self.usable.last().map_or(1, |last| last.up_to);
        let count = u32::try_from(self.usable.len()).unwrap_or(u32::MAX).max(1);
        let mean = f64::from(sum) / f64::from(count);
        1.0 + f64::from(rank.load.in_flight()) * mean / (f64::from(one.weight) * share)
    }

    /// Two different ones by their weights, and what is left of the random number.
    fn draw(&self, random: u64) -> (Usable, Usable, u64) {
        let nobody = Usable {
            at: 0,
            weight: 1,
            up_to: 1,
        };
        let get = |at: usize| self.usable.get(at).copied().unwrap_or(nobody);
        let length = self.usable.len().max(2);
        let count = u64::try_from(length).unwrap_or(2);
        let [low, high] = [random & 0xffff_ffff, random >> 32];
        let first = if self.even {
            usize::try_from(low % count).unwrap_or(0)
        } else {
            let sum = u64::from(self.usable.last().map_or(1, |last| last.up_to));
            let ticket = low % sum.max(1);
            let passed = |one: &Usable| u64::from(one.up_to) <= ticket;
            self.usable.partition_point(passed).min(length - 1)
        };
        // The second is any of the others: it only has to be a way out.
        let step = 1 + usize::try_from(high % (count - 1)).unwrap_or(0);
        let coin = random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (get(first), get((first + step) % length), coin)
    }
}

impl Rank {
    /// Nothing is under way there yet.
    pub(super) fn new(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            load: Rc::default(),
        }
    }

    fn weight(&self) -> u32 {
        u32::from(self.instance.place.weight)
    }

    /// It is the only one: what it is out for does not count, but for its version and its contract.
    fn sole(&self, at: usize) -> Choice {
        let health = &self.instance.health;
        if health.is_out_for(Reason::Version) || health.is_out_for(Reason::Contract) {
            Choice::AllOut
        } else {
            Choice::One(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::{Address, Epoch, Place};
    use super::super::load::UnderWay;
    use super::*;
    use std::time::{Duration, Instant};

    fn rota(weights: &[u16]) -> Rota {
        let mut rota = Rota::default();
        let rank = |(at, weight): (usize, &u16)| {
            let place = Place {
                at: Address::Tcp(([10, 0, 0, u8::try_from(at).unwrap()], 1).into()),
                weight: *weight,
            };
            Rc::new(Rank::new(Arc::new(Instance::new(place, None))))
        };
        rota.set(weights.iter().enumerate().map(rank).collect());
        rota
    }

    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    /// How often each is chosen in a thousand, with nothing under way.
    fn shares(rota: &mut Rota, generation: u64, now: u64) -> Vec<u32> {
        let (mut seed, mut counts) = (7, vec![0; rota.ranks.len()]);
        for _ in 0..10_000 {
            match rota.choose(generation, false, now, || random(&mut seed)) {
                Choice::One(at) => counts[at] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts.iter().map(|count: &u32| count / 10).collect()
    }

    fn near(shares: &[u32], wanted: &[u32]) -> bool {
        let near = |(share, wanted): (&u32, &u32)| share.abs_diff(*wanted) <= 40;
        shares.iter().zip(wanted).all(near)
    }

    fn busy(rota: &Rota, at: usize, count: usize) -> Vec<UnderWay> {
        let epoch = Epoch::begin();
        let load = &rota.ranks[at].load;
        (0..count)
            .map(|_| load.begin(epoch, Instant::now()))
            .collect()
    }

    #[test]
    fn weights_are_shares() {
        for (weights, wanted) in [
            (&[1, 1][..], &[500, 500][..]),
            (&[1, 3], &[250, 750]),
            (&[1, 9], &[100, 900]),
            (&[2, 3, 5], &[200, 300, 500]),
            (&[1, 0, 1], &[500, 0, 500]),
        ] {
            let found = shares(&mut rota(weights), 0, 1);
            assert!(near(&found, wanted), "{weights:?}: {found:?}");
        }
    }

    #[test]
    fn of_two_the_one_with_less_to_do_is_taken() {
        let mut even = rota(&[1, 1]);
        let _held = busy(&even, 0, 1);
        assert_eq!(shares(&mut even, 0, 1), [0, 1000]);
        // In the measure of their weights both have the same to do.
        let mut weighed = rota(&[1, 3]);
        let _held = (busy(&weighed, 0, 2), busy(&weighed, 1, 6));
        assert!(near(&shares(&mut weighed, 0, 1), &[250, 750]));
        let _more = busy(&weighed, 1, 3);
        assert!(shares(&mut weighed, 0, 1)[0] > 900);
    }

    #[test]
    fn one_that_is_slower_by_more_than_double_is_left_until_that_has_faded() {
        let mut rota = rota(&[1, 1]);
        let (epoch, begun) = (Epoch::begin(), Instant::now());
        let took = |rota: &Rota, at: usize, millis| {
            let mut one = rota.ranks[at].load.begin(epoch, begun);
            one.answered(begun + Duration::from_millis(millis));
        };
        for (at, millis) in [(0, 0), (1, 0), (0, 10), (1, 15)] {
            took(&rota, at, millis);
        }
        let now = epoch.at(begun + Duration::from_millis(15));
        assert!(near(&shares(&mut rota, 0, now), &[500, 500]), "noise");
        took(&rota, 0, 200);
        assert_eq!(shares(&mut rota, 0, now + 200), [0, 1000]);
        assert!(shares(&mut rota, 0, now + 60_000)[0] > 400, "it has faded");
    }

    #[test]
    fn one_that_hangs_gets_nothing_more_though_it_never_failed() {
        let mut rota = rota(&[1, 1]);
        let (_works, _hangs) = (busy(&rota, 0, 3), busy(&rota, 1, 1));
        assert_eq!(shares(&mut rota, 0, 1), [0, 1000], "least to do, it seems");
        // The one that works is heard of; this one is not.
        let epoch = Epoch::begin();
        let begun = Instant::now() + Duration::from_millis(500);
        rota.ranks[0].load.begin(epoch, begun).answered(begun);
        assert_eq!(shares(&mut rota, 0, epoch.at(begun)), [1000, 0]);
    }

    #[test]
    fn one_that_has_just_come_or_asks_to_be_spared_gets_less() {
        let mut rota = rota(&[1, 1]);
        rota.ranks[0]
            .instance
            .health
            .spare(1, Duration::from_secs(5));
        let spared = shares(&mut rota, 0, 1)[0];
        assert!((40..=90).contains(&spared), "{spared}");
        assert!(near(&shares(&mut rota, 0, 6000), &[500, 500]));
    }

    #[test]
    fn who_is_out_gets_nothing_and_with_all_out_nobody_does() {
        let mut rota = rota(&[1, 1]);
        let fail = |rota: &Rota, at: usize| {
            let health = &rota.ranks[at].instance.health;
            (0..5).for_each(|_| _ = health.failed(1, true));
        };
        fail(&rota, 0);
        assert_eq!(shares(&mut rota, 1, 1), [0, 1000]);
        fail(&rota, 1);
        assert_eq!(rota.choose(2, true, 1, || 0), Choice::AllOut);
        assert_eq!(rota.choose(2, false, 2000, || 0), Choice::AllOut);
        assert!(
            matches!(rota.choose(2, true, 2000, || 0), Choice::One(_)),
            "a trial"
        );
        assert!(
            matches!(rota.choose(2, true, 2100, || 0), Choice::One(_)),
            "and the other"
        );
        assert_eq!(
            rota.choose(2, true, 2200, || 0),
            Choice::AllOut,
            "one at a time"
        );
    }

    #[test]
    fn a_sole_instance_is_always_tried_unless_it_is_too_old() {
        for weights in [&[1][..], &[1, 0]] {
            let mut rota = rota(weights);
            let health = &rota.ranks[0].instance.health.version_fits(true, 1);
            assert_eq!(*health, None);
            (0..9).for_each(|_| _ = rota.ranks[0].instance.health.failed(1, true));
            rota.ranks[0].instance.health.probe_failed(1);
            assert_eq!(rota.choose(1, true, 1, || 5), Choice::One(0));
            rota.ranks[0].instance.health.version_fits(false, 1);
            assert_eq!(rota.choose(2, true, 1, || 5), Choice::AllOut);
        }
        assert_eq!(Rota::default().choose(0, true, 1, || 1), Choice::NoneKnown);
    }

    #[test]
    fn the_second_try_goes_elsewhere_as_long_as_anybody_else_is_well() {
        let mut rota = rota(&[1, 1, 1]);
        let tried: Vec<_> = rota.ranks[..2]
            .iter()
            .map(|rank| rank.instance.clone())
            .collect();
        for seed in 0..50 {
            assert_eq!(rota.choose_other(0, &tried, true, seed), Choice::One(2));
        }
        let all: Vec<_> = rota
            .ranks
            .iter()
            .map(|rank| rank.instance.clone())
            .collect();
        assert_eq!(rota.choose_other(0, &all, false, 1), Choice::AllOut);
        assert!(matches!(
            rota.choose_other(0, &all, true, 1),
            Choice::One(_)
        ));
    }
}
