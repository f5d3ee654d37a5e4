//! What all workers together have under way at one instance, for the operator to see.
//!
//! In: from each worker, about once a second, what it has there and how long it expects an answer
//! to take. Out: the sum, and the longest. No request touches this.

use std::sync::{Mutex, PoisonError};

/// What each worker said last.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<Vec<(u32, u32)>>);

impl Loads {
    /// Worker `index` has so many under way, and expects an answer within so many microseconds.
    pub(super) fn tell(&self, index: usize, in_flight: u32, micros: f64) {
        // Negative and too large come to the nearest that there is.
        let micros = micros as u32;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= index {
            all.resize(index + 1, (0, 0));
        }
        if let Some(own) = all.get_mut(index) {
            *own = (in_flight, micros);
        }
    }

    /// How many are under way, and microseconds to expect.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = all.iter().map(|(in_flight, _)| u64::from(*in_flight)).sum();
        let longest = all.iter().map(|(_, micros)| u64::from(*micros)).max();
        (in_flight, longest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_and_the_slowest_counts() {
        let loads = Loads::default();
        assert_eq!(loads.sum(), (0, 0));
        loads.tell(1, 3, 1500.0);
        loads.tell(0, 2, 400.0);
        loads.tell(1, 1, 900.0);
        assert_eq!(loads.sum(), (3, 900));
    }
}
