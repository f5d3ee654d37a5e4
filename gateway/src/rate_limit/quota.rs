//! How much may pass in which time: a bucket that refills steadily, kept as one number (GCRA, ITU-T
//! I.371).
//!
//! In: a quota, the moment at which the bucket will be full again, and the time. Out: whether one
//! more request may pass, what is left, and the bucket's next moment. Nanoseconds of one clock
//! throughout; a moment that has passed says: full. Nothing here knows who asks, or where a bucket
//! is kept: a store elsewhere does the same arithmetic.
//! Invariant: however many ask, no more passes in any span than a full bucket and what refills in
//! it.

use std::num::NonZeroU64;

/// A bucket's size and how fast it refills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// In which time one request refills.
    interval: NonZeroU64,
    /// In which time an empty bucket is full.
    whole: u64,
}

/// What is left of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Requests that may pass at once.
    pub(crate) requests: u64,
    /// Until one more may, in nanoseconds; 0 for a full bucket.
    pub(crate) more_in: u64,
}

/// Whether one more request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may; this is left.
    Taken(Left),
    /// It may not before [`Left::more_in`] is over.
    Refused(Left),
}

/// A bucket that takes longer to refill would keep its number from fitting, and no operator would
/// see it full again.
const WHOLE_MAX: u64 = 367 * 86_400 * SECOND;

const SECOND: u64 = 1_000_000_000;

impl Quota {
    /// A bucket of `burst` requests that refills at `requests` in `per_s` seconds, a fraction of a
    /// nanosecond slower rather than faster; `None` where a number is 0, where more than one would
    /// refill in a nanosecond, or where all of it takes more than a year.
    pub(crate) fn new(requests: u64, per_s: u64, burst: u64) -> Option<Self> {
        let per = per_s.checked_mul(SECOND)?;
        if requests == 0 || burst == 0 || requests > per {
            return None;
        }
        let interval = NonZeroU64::new(per.div_ceil(requests))?;
        let whole = interval.get().checked_mul(burst)?;
        (whole <= WHOLE_MAX).then_some(Self { interval, whole })
    }

    /// Takes one request of a bucket that is full at `full_at`: the verdict, and when it is full
    /// after that, which has to be kept after a refusal too.
    pub(crate) fn take(self, full_at: u64, now: u64) -> (Verdict, u64) {
        let owed = self.owed(full_at, now);
        let next = owed.saturating_add(self.interval.get());
        if next > self.whole {
            return (Verdict::Refused(self.left(owed)), now.saturating_add(owed));
        }
        (Verdict::Taken(self.left(next)), now.saturating_add(next))
    }

    /// Puts one request back.
    pub(crate) fn give_back(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval.get())
    }

    /// What is left of a bucket that is full at `full_at`.
    pub(crate) fn look(self, full_at: u64, now: u64) -> Left {
        self.left(self.owed(full_at, now))
    }

    /// What has to refill. Never more than the whole: a bucket that was filled for a slower quota,
    /// which a reload has replaced, is empty and no worse.
    fn owed(self, full_at: u64, now: u64) -> u64 {
        full_at.saturating_sub(now).min(self.whole)
    }

    fn left(self, owed: u64) -> Left {
        let room = self.whole.saturating_sub(owed);
        let begun = room % self.interval;
        Left {
            requests: room / self.interval,
            more_in: if owed == 0 {
                0
            } else {
                self.interval.get() - begun
            },
        }
    }
}

impl Left {
    /// Until one more may pass, in whole seconds, as HTTP counts: never too early.
    pub(crate) fn more_in_seconds(self) -> u64 {
        self.more_in.div_ceil(SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(left: u64, more_in: u64) -> Verdict {
        Verdict::Taken(Left {
            requests: left,
            more_in,
        })
    }

    fn refused(more_in: u64) -> Verdict {
        Verdict::Refused(Left {
            requests: 0,
            more_in,
        })
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_as_fast_as_it_refills() {
        let quota = Quota::new(2, 1, 3).unwrap();
        let half = SECOND / 2;
        let now = 10 * SECOND;
        let (first, at) = quota.take(0, now);
        assert_eq!(first, taken(2, half));
        let (second, at) = quota.take(at, now);
        let (third, at) = quota.take(at, now);
        assert_eq!((second, third), (taken(1, half), taken(0, half)));
        let (fourth, same) = quota.take(at, now);
        assert_eq!((fourth, same), (refused(half), at));
        assert_eq!(quota.take(at, now + half - 1).0, refused(1));
        let (fifth, at) = quota.take(at, now + half);
        assert_eq!(fifth, taken(0, half));
        assert_eq!(quota.take(at, now + half).0, refused(half));
        let full = Left {
            requests: 3,
            more_in: 0,
        };
        assert_eq!(quota.look(at, now + 2 * SECOND), full);
        assert_eq!(quota.give_back(quota.give_back(at)), at - SECOND);
    }

    #[test]
    fn seconds_are_never_too_few() {
        for (nanoseconds, seconds) in [(0, 0), (1, 1), (SECOND, 1), (SECOND + 1, 2)] {
            let left = Left {
                requests: 0,
                more_in: nanoseconds,
            };
            assert_eq!(left.more_in_seconds(), seconds);
        }
    }

    #[test]
    fn what_an_earlier_quota_left_behind_is_an_empty_bucket_at_worst() {
        let slow = Quota::new(1000, 86_400, 1000).unwrap();
        let quick = Quota::new(10, 1, 10).unwrap();
        let mut at = 0;
        for _ in 0..1000 {
            at = slow.take(at, 1).1;
        }
        let (verdict, at) = quick.take(at, 1);
        assert_eq!((verdict, at), (refused(SECOND / 10), 1 + SECOND));
        assert_eq!(quick.take(at, 1 + SECOND).0, taken(9, SECOND / 10));
    }

    #[test]
    fn what_makes_no_bucket_is_none() {
        for (requests, per_s, burst) in [
            (0, 1, 1),
            (1, 0, 1),
            (1, 1, 0),
            (2_000_000_000, 1, 1),
            (1, 86_400, 368),
            (1, u64::MAX, 1),
            (1, 1, u64::MAX),
        ] {
            assert_eq!(Quota::new(requests, per_s, burst), None);
        }
        assert!(Quota::new(1, 86_400, 367).is_some());
        assert!(Quota::new(1_000_000_000, 1, 1).is_some());
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_burst_and_what_refills(
            requests in 1_u64..1000, per_s in 1_u64..100, burst in 1_u64..1000,
            steps in proptest::collection::vec(0_u64..SECOND, 1..400),
        ) {
            let quota = Quota::new(requests, per_s, burst).unwrap();
            let (begin, mut now, mut at, mut passed) = (5 * SECOND, 5 * SECOND, 0, 0_u64);
            for step in steps {
                now += step;
                let (verdict, next) = quota.take(at, now);
                at = next;
                let refilled = u128::from(now - begin) * u128::from(requests) / u128::from(per_s * SECOND);
                match verdict {
                    Verdict::Taken(left) => {
                        passed += 1;
                        prop_assert!(left.requests < burst && left.more_in > 0);
                        prop_assert_eq!(quota.look(at, now), left);
                        prop_assert!(u128::from(passed) <= u128::from(burst) + refilled);
                    }
                    Verdict::Refused(left) => {
                        prop_assert_eq!(left.requests, 0);
                        // What it says is true, and not a nanosecond more than needed.
                        prop_assert!(matches!(quota.take(at, now + left.more_in).0, Verdict::Taken(_)));
                        prop_assert!(matches!(quota.take(at, now + left.more_in - 1).0, Verdict::Refused(_)));
                    }
                }
            }
        }
    }
}
