//! How much may be sent again: a share of the requests of the last ten seconds, so that retries
//! never become the load.
//!
//! In: each request, and each wish to send one again. Out: whether it may be. Belongs to one worker
//! and one cluster.

use std::cell::{Cell, RefCell};

/// The requests of the last ten seconds, and what was sent again of them.
#[derive(Debug, Default)]
pub(super) struct Budget {
    seconds: RefCell<[Second; WINDOW]>,
    /// The present second, and the requests in it: counted here, since each request passes by.
    now: Cell<(u64, u32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    at: u64,
    requests: u32,
    retries: u32,
}

const WINDOW: usize = 10;

/// So many in ten seconds in any case: of few requests a share is nothing.
const LEAST: u64 = 10;

impl Budget {
    /// Counts a request in this second.
    pub(super) fn request(&self, second: u64) {
        let (at, count) = self.now.get();
        if at == second {
            self.now.set((at, count.saturating_add(1)));
        } else {
            self.store(at, count);
            self.now.set((second, 1));
        }
    }

    /// Takes one of what may be sent again; `percent` of the requests may.
    pub(super) fn take(&self, second: u64, percent: u32) -> bool {
        let (at, count) = self.now.get();
        self.store(at, count);
        self.now.set((at, 0));
        let mut seconds = self.seconds.borrow_mut();
        let window = u64::try_from(WINDOW).unwrap_or(10);
        let recent = seconds.iter().filter(|one| one.at + window > second);
        let (requests, retries) = recent.fold((0_u64, 0_u64), |(requests, retries), one| {
            (
                requests + u64::from(one.requests),
                retries + u64::from(one.retries),
            )
        });
        let share = requests * u64::from(percent) / 100;
        let most = if percent == 0 { 0 } else { share.max(LEAST) };
        if retries >= most {
            return false;
        }
        if let Some(one) = slot(&mut seconds, second) {
            one.retries = one.retries.saturating_add(1);
        }
        true
    }

    fn store(&self, at: u64, count: u32) {
        if count > 0
            && let Some(one) = slot(&mut self.seconds.borrow_mut(), at)
        {
            one.requests = one.requests.saturating_add(count);
        }
    }
}

fn slot(seconds: &mut [Second; WINDOW], at: u64) -> Option<&mut Second> {
    let index = usize::try_from(at).unwrap_or(0) % WINDOW;
    let one = seconds.get_mut(index)?;
    if one.at != at {
        *one = Second {
            at,
            ..Second::default()
        };
    }
    Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &Budget, second: u64, percent: u32) -> usize {
        (0..10_000).filter(|_| budget.take(second, percent)).count()
    }

    #[test]
    fn a_fifth_of_ten_seconds_may_go_again_and_no_more() {
        let budget = Budget::default();
        for second in 100..110 {
            (0..100).for_each(|_| budget.request(second));
        }
        assert_eq!(taken(&budget, 109, 20), 200);
        assert_eq!(taken(&budget, 109, 20), 0);
        (0..100).for_each(|_| budget.request(110));
        assert_eq!(
            taken(&budget, 110, 20),
            0,
            "the window moves, and so do the retries"
        );
        (0..50).for_each(|_| budget.request(119));
        assert_eq!(taken(&budget, 119, 20), 30, "of 150 requests");
    }

    #[test]
    fn of_few_requests_ten_may_and_of_none_where_none_are_wanted() {
        let budget = Budget::default();
        budget.request(5);
        assert_eq!(taken(&budget, 5, 20), 10);
        assert_eq!(taken(&budget, 5, 0), 0);
        assert_eq!(taken(&budget, 16, 100), 10);
    }
}
