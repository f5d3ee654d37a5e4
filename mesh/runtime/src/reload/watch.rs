//! When files are read again while a program runs, and since when what was read has not fitted.
//!
//! In: what a stat of each file says, the time, and whether the last reading fitted. Out: whether to read now, whether a fault is news,
//! and whether it has lasted long enough for an alarm. Nothing here reads a file or knows what one means. Time is an argument.

use std::time::{Duration, Instant};

use gapura_trust::directory::Stamp;

/// Half of what a change may take is left for reading and checking; a cut is due within a second of the loading.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// How often content is read whatever the stat says.
const LOOK_INTO: Duration = Duration::from_secs(30);

/// How long files may be replaced one by one before a set that does not fit is a fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// When to read again, and since when nothing has fitted. Time is an argument.
pub(super) struct Attempts<F> {
    stamp: Stamp,
    looked: Instant,
    fault: Option<Fault<F>>,
}

struct Fault<F> {
    since: Instant,
    what: F,
}

impl<F: PartialEq + ToString> Attempts<F> {
    pub(super) fn new(stamp: Stamp, now: Instant) -> Self {
        Self {
            stamp,
            looked: now,
            fault: None,
        }
    }

    /// Whether the content is to be read; if so, the stamp is noted as the one that was read.
    pub(super) fn due(&mut self, stamp: Stamp, now: Instant) -> bool {
        let due = stamp != self.stamp || now.duration_since(self.looked) >= LOOK_INTO;
        if due {
            self.note(stamp, now);
        }
        due
    }

    /// Notes a reading that was asked for.
    pub(super) fn note(&mut self, stamp: Stamp, now: Instant) {
        (self.stamp, self.looked) = (stamp, now);
    }

    /// What was read fits.
    pub(super) fn fits(&mut self) {
        self.fault = None;
    }

    /// What was read does not fit; says whether that is news.
    pub(super) fn fails(&mut self, what: F, now: Instant) -> bool {
        match &mut self.fault {
            Some(fault) if fault.what == what => false,
            Some(fault) => {
                fault.what = what;
                true
            }
            None => {
                self.fault = Some(Fault { since: now, what });
                true
            }
        }
    }

    /// What does not fit.
    pub(super) fn fault(&self) -> Option<&F> {
        self.fault.as_ref().map(|fault| &fault.what)
    }

    /// The fault to raise an alarm for: it has stood longer than replacing files one by one takes.
    pub(super) fn alarm(&self, now: Instant) -> Option<String> {
        let lasting = |fault: &&Fault<F>| now.duration_since(fault.since) >= PATIENCE;
        self.fault
            .as_ref()
            .filter(lasting)
            .map(|fault| fault.what.to_string())
    }

    pub(super) fn is_well(&self) -> bool {
        self.fault.is_none()
    }
}
