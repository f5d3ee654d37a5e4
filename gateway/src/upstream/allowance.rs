//! How many copies of a mount's requests may be made.
//!
//! In: each request of the mount, each wish to copy one, each end of a copy. Out: whether one more
//! may go.
//! Invariant: at most one of twenty requests is copied, and sixteen copies are under way at a time,
//! over all workers.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What one cluster may be sent of copies.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// Requests that have paid for no copy yet.
    saved: AtomicU32,
    under_way: AtomicU32,
}

/// So many requests pay for one copy: 5 %.
const REQUESTS_A_COPY: u32 = 20;

/// A burst of copies after a quiet time is no larger than what may be under way.
const UNDER_WAY_MOST: u32 = 16;

impl Allowance {
    /// One more request of the mount.
    pub(crate) fn request(&self) {
        let most = REQUESTS_A_COPY * UNDER_WAY_MOST;
        if self.saved.load(Relaxed) < most {
            self.saved.fetch_add(1, Relaxed);
        }
    }

    /// Pays for a copy, if one may go; it is given back when the copy has ended.
    pub(super) fn take(&self) -> bool {
        let under_way = self.under_way.fetch_add(1, Relaxed);
        let pay = |saved: u32| saved.checked_sub(REQUESTS_A_COPY);
        let is_paid =
            under_way < UNDER_WAY_MOST && self.saved.fetch_update(Relaxed, Relaxed, pay).is_ok();
        if !is_paid {
            self.give_back();
        }
        is_paid
    }

    /// A copy has ended.
    pub(super) fn give_back(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_is_copied_and_a_burst_has_an_end() {
        let allowance = Allowance::default();
        let mut copies = 0;
        for _ in 0..1000 {
            allowance.request();
            if allowance.take() {
                copies += 1;
                allowance.give_back();
            }
        }
        assert_eq!(copies, 50);
        (0..10_000).for_each(|_| allowance.request());
        let burst = (0..100).filter(|_| allowance.take()).count();
        assert_eq!(burst, 16, "all of them under way");
        assert_eq!(allowance.under_way.load(Relaxed), 16);
    }
}
