//! Since when what is read has not fitted, and whether that is a fault by now.
//!
//! In: whether each reading fitted, and the time. Out: whether a fault is news, and whether it has
//! lasted long enough for an alarm. Time is an argument.

use std::time::{Duration, Instant};

/// What does not fit, if anything.
pub(super) struct Misfit<F>(Option<Lasting<F>>);

struct Lasting<F> {
    since: Instant,
    what: F,
}

/// How long files may be replaced one by one before a set that does not fit is a fault.
const PATIENCE: Duration = Duration::from_secs(5);

impl<F: PartialEq> Misfit<F> {
    /// Everything fits.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// What was read fits.
    pub(super) fn fits(&mut self) {
        self.0 = None;
    }

    /// What was read does not fit; says whether that is news.
    pub(super) fn fails(&mut self, what: F, now: Instant) -> bool {
        match &mut self.0 {
            Some(lasting) if lasting.what == what => false,
            Some(lasting) => {
                lasting.what = what;
                true
            }
            None => {
                self.0 = Some(Lasting { since: now, what });
                true
            }
        }
    }

    /// What does not fit.
    pub(super) fn fault(&self) -> Option<&F> {
        self.0.as_ref().map(|lasting| &lasting.what)
    }

    /// The fault to raise an alarm for: it has stood longer than replacing files one by one takes.
    pub(super) fn alarm(&self, now: Instant) -> Option<&F> {
        let lasting = self.0.as_ref();
        lasting
            .filter(|lasting| now.duration_since(lasting.since) >= PATIENCE)
            .map(|lasting| &lasting.what)
    }

    /// Whether everything fits.
    pub(super) fn is_well(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_is_an_alarm_after_five_seconds_and_not_before() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut misfit = Misfit::none();
        assert!(misfit.fails("key", at(500)));
        assert!(!misfit.fails("key", at(600)));
        assert!(misfit.fails("leaf", at(700)));
        assert_eq!(misfit.alarm(at(5400)), None);
        assert_eq!(misfit.alarm(at(5500)), Some(&"leaf"));
        assert!(!misfit.is_well());
        misfit.fits();
        assert_eq!(misfit.alarm(at(60_000)), None);
        assert!(misfit.is_well());
    }
}
