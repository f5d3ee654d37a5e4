//! What a clock that is wrong does to a CA, as far as one machine can tell.
//!
//! In: when the lines of the inventory were written, and the present. A line of the future means
//! that the clock is wrong now or was wrong then; whatever is signed in that doubt begins or ends
//! at the wrong time, so nothing is issued until somebody has looked. Revocations and CRLs are
//! never held up: a stolen key does not wait for a clock.

use crate::error::Error;
use crate::ledger::Event;
use crate::pki::{Change, Pki};
use crate::timestamp::for_people;

/// Clocks of one installation differ by no more than this, and certificates begin so much earlier
/// than they are made.
const SKEW: u64 = crate::profile::BACKDATE;

impl Pki {
    /// Refuses to issue while the inventory has lines of the future.
    ///
    /// # Errors
    /// It has, and nobody said that the clock is right.
    pub(crate) fn refuse_lines_of_the_future(&self, change: &Change) -> Result<(), Error> {
        let (until, now) = (change.inventory.written_until(), change.now);
        let ahead = until.since(now);
        if ahead <= SKEW || self.clock_is_right() {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the inventory has a line written at {until}, but this machine's clock says {now}, {} before that: it is wrong now, or it was wrong then. Set the clock; if it is right now, repeat with --clock-is-right, and renew what begins in the future",
            for_people(ahead)
        )))
    }

    /// Writes down that the operator insisted, so that nobody has to do so again.
    pub(crate) fn say_clock_is_right(&self, change: &mut Change) -> Result<(), Error> {
        let ahead = change.inventory.written_until().since(change.now);
        if ahead <= SKEW || !self.clock_is_right() {
            return Ok(());
        }
        change.append(vec![Event::ClockIsRight { ahead }])
    }

    /// Seconds that the inventory's last line lies in the future, where that is more than clocks
    /// differ by.
    pub(crate) fn lines_ahead(&self) -> Result<Option<u64>, Error> {
        let until = crate::inventory::Inventory::load(self.dir())?.written_until();
        Ok(Some(until.since(self.now())).filter(|ahead| *ahead > SKEW))
    }
}
