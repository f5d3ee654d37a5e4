//! What one worker has under way at one instance, and how long that takes there.
//!
//! In: each request's beginning, the head of its answer, its end. Out: how many are under way, and
//! the time to expect: the peak of what was measured, which fades over ten seconds, or how long
//! nobody has been answered. Belongs to one worker.
//! Invariant: whatever becomes of a request, it stops counting when its guard is dropped.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::instance::Epoch;

/// What is under way at one instance.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Whose answer has not been read to its end.
    in_flight: Cell<u32>,
    /// Of these, those without the head of an answer.
    waiting: Cell<u32>,
    /// Microseconds, as of `sampled`.
    peak: Cell<f64>,
    sampled: Cell<u64>,
    /// When the last head came, or the first of those that wait was sent.
    heard: Cell<u64>,
    /// Since when there is a connection, as far as answers tell; 0 if there may be none.
    warm: Cell<u64>,
}

/// One request under way.
pub(super) struct UnderWay {
    load: Rc<Load>,
    epoch: Epoch,
    begun: Instant,
    waits: bool,
}

/// After so long a peak has faded to a third.
const FADES_MS: f64 = 10_000.0;

/// After a pause like this its connections may have been closed.
const PAUSE_MS: u64 = 25_000;

/// A failed request counts as one that took so long: else who fails fast would look fast.
const FAILED_MICROS: f64 = 100_000.0;

impl Load {
    /// One more.
    pub(super) fn begin(self: &Rc<Self>, epoch: Epoch, begun: Instant) -> UnderWay {
        let now = epoch.at(begun);
        if self.in_flight.replace(self.in_flight.get() + 1) == 0
            && now.saturating_sub(self.sampled.get()) > PAUSE_MS
        {
            self.warm.set(0);
        }
        if self.waiting.replace(self.waiting.get() + 1) == 0 {
            self.heard.set(now);
        }
        UnderWay {
            load: self.clone(),
            epoch,
            begun,
            waits: true,
        }
    }

    /// How many are under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Microseconds to expect.
    pub(super) fn micros(&self, now: u64) -> f64 {
        let faded = self.faded(now);
        if self.waiting.get() == 0 {
            return faded;
        }
        let silent = now.saturating_sub(self.heard.get());
        faded.max(f64::from(u32::try_from(silent).unwrap_or(u32::MAX)) * 1000.0)
    }

    fn faded(&self, now: u64) -> f64 {
        let age = now.saturating_sub(self.sampled.get());
        if age == 0 {
            return self.peak.get();
        }
        self.peak.get() * (-f64::from(u32::try_from(age).unwrap_or(u32::MAX)) / FADES_MS).exp()
    }

    /// A peak counts at once; what is below it draws it down the more, the older it is.
    fn sample(&self, micros: f64, now: u64) {
        let age = now.saturating_sub(self.sampled.get());
        let kept = (-f64::from(u32::try_from(age).unwrap_or(u32::MAX)) / FADES_MS).exp();
        let peak = self.peak.get();
        let next = if micros >= peak {
            micros
        } else {
            peak * kept + micros * (1.0 - kept)
        };
        self.peak.set(next);
        self.sampled.set(now);
    }
}

impl UnderWay {
    /// The head of its answer came.
    pub(super) fn answered(&mut self, at: Instant) {
        let warm = &self.load.warm;
        // Who was sent before the first answer came waited for the connection too, which says
        // nothing of the instance.
        let is_cold = match warm.get() {
            0 => {
                warm.set(self.epoch.at(at));
                true
            }
            since => self.epoch.at(self.begun) < since,
        };
        if is_cold {
            self.heard(at);
        } else {
            self.head(at, 0.0);
        }
    }

    /// It failed.
    pub(super) fn failed(&mut self, at: Instant) {
        self.load.warm.set(0);
        self.head(at, FAILED_MICROS);
    }

    fn heard(&mut self, at: Instant) {
        if std::mem::take(&mut self.waits) {
            self.load.waiting.set(self.load.waiting.get() - 1);
            self.load.heard.set(self.epoch.at(at));
        }
    }

    fn head(&mut self, at: Instant, least: f64) {
        self.heard(at);
        let now = self.epoch.at(at);
        let took = at.saturating_duration_since(self.begun).as_secs_f64() * 1e6;
        self.load.sample(took.max(least), now);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.waits {
            // Given up without an answer: it took so long at least.
            self.load.waiting.set(self.load.waiting.get() - 1);
            let (at, now) = (Instant::now(), self.epoch.now());
            let waited = at.saturating_duration_since(self.begun).as_secs_f64() * 1e6;
            if waited > self.load.faded(now) {
                self.load.sample(waited, now);
            }
        }
        self.load.in_flight.set(self.load.in_flight.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// One that has a connection since `begun`.
    fn warm(epoch: Epoch, begun: Instant) -> Rc<Load> {
        let load = Rc::new(Load::default());
        load.begin(epoch, begun).answered(begun);
        load
    }

    #[test]
    fn what_waited_for_a_connection_counts_for_nothing() {
        let (epoch, load) = (Epoch::begin(), Rc::new(Load::default()));
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let (mut one, mut two) = (load.begin(epoch, begun), load.begin(epoch, after(1)));
        one.answered(after(200));
        two.answered(after(250));
        drop((one, two));
        assert!(load.micros(epoch.at(after(250))) < 1.0);
        load.begin(epoch, after(300)).answered(after(310));
        let now = epoch.at(after(310));
        assert!((9_000.0..11_000.0).contains(&load.micros(now)));
        // After a pause there may be none again.
        load.begin(epoch, after(60_000)).answered(after(61_000));
        assert!(load.micros(epoch.at(after(61_000))) < 100.0);
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let (epoch, begun) = (Epoch::begin(), Instant::now());
        let load = warm(epoch, begun);
        let mut one = load.begin(epoch, begun);
        one.answered(begun + Duration::from_millis(100));
        let now = epoch.at(begun + Duration::from_millis(100));
        assert!((99_000.0..101_000.0).contains(&load.micros(now)));
        assert!((35_000.0..38_000.0).contains(&load.micros(now + 10_000)));
        assert!(load.micros(now + 60_000) < 300.0);
        drop(one);
        let mut quick = load.begin(epoch, begun + Duration::from_millis(100));
        quick.answered(begun + Duration::from_millis(101));
        assert!(
            load.micros(now + 1) > 90_000.0,
            "one good answer proves little"
        );
    }

    #[test]
    fn silence_counts_from_the_first_that_waits() {
        let (epoch, load) = (Epoch::begin(), Rc::new(Load::default()));
        let begun = Instant::now();
        let now = epoch.at(begun);
        let one = load.begin(epoch, begun);
        let two = load.begin(epoch, begun + Duration::from_millis(300));
        assert!((499_000.0..502_000.0).contains(&load.micros(now + 500)));
        assert_eq!(load.in_flight(), 2);
        drop((one, two));
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn who_fails_fast_does_not_look_fast() {
        let (epoch, load) = (Epoch::begin(), Rc::new(Load::default()));
        let begun = Instant::now();
        load.begin(epoch, begun).failed(begun);
        assert!(load.micros(epoch.at(begun)) >= FAILED_MICROS);
    }
}
