//! Whether requests are being turned away because there are too many.
//!
//! In: each time that one is. Out: that it happened within the last second, so that what costs time
//! and memory for a client's comfort alone can wait: the rest of a refused upload is not read then
//! (CONTRACT section 5).

use std::cell::Cell;
use std::time::Duration;

use gapura_transport::timers::{STEP, Timers};

/// One worker's.
#[derive(Debug, Default)]
pub(crate) struct Shedding(Cell<Option<u64>>);

/// It lasts for so long after the last request that was turned away.
const LASTS: Duration = Duration::from_secs(1);

impl Shedding {
    /// A request is turned away.
    pub(crate) fn begin(&self, timers: &Timers) {
        self.0.set(Some(timers.now()));
    }

    /// Whether it lasts.
    pub(crate) fn lasts(&self, timers: &Timers) -> bool {
        self.0.get().is_some_and(|at| {
            let steps = u32::try_from(timers.now().saturating_sub(at)).unwrap_or(u32::MAX);
            STEP * steps < LASTS
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_for_a_second_behind_the_last_request_that_was_turned_away() {
        let (timers, shedding) = (Timers::new(), Shedding::default());
        assert!(!shedding.lasts(&timers));
        for _ in 0..3 {
            shedding.begin(&timers);
            for _ in 0..9 {
                timers.step();
                assert!(shedding.lasts(&timers));
            }
        }
        timers.step();
        assert!(!shedding.lasts(&timers));
    }
}
