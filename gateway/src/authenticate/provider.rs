//! What requests and the fetching of one issuer's keys tell each other.
//!
//! In: a request that needs keys which are not there; the end of each fetch. Out: whether to wait,
//! and for how long. Fetching is one task's, so any number of requests ask for one fetch. A kid
//! that a fetch did not bring is remembered for a short while, so that it is refused without asking
//! again; one that was asked for while a fetch ran is not, since the answer may be older than the
//! key. Bounds: 64 requests wait, each a second; 256 kids are remembered. What doesn't fit is
//! `keys_unavailable`, never `token_invalid`: nobody has said that such a token is bad.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// One issuer whose keys are fetched.
pub(super) struct Provider {
    kids: Mutex<Kids>,
    asked: Notify,
    rounds: watch::Sender<Round>,
    waiting: AtomicUsize,
}

/// How the last fetch ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// It brought no keys.
    pub(super) failed: bool,
}

#[derive(Default)]
struct Kids {
    /// Asked for since the last fetch began.
    pending: Vec<Box<str>>,
    /// Not there, when a fetch that began after the question had ended.
    absent: Vec<(Box<str>, Instant)>,
}

/// A request's place among those that wait.
pub(super) struct Place<'p>(&'p Provider);

/// The least time between two fetches that requests asked for, and how long a kid counts as absent.
pub(super) const SPACING: Duration = Duration::from_secs(5);

/// How long a request waits for keys.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How many requests wait for one issuer's keys.
const PLACES: usize = 64;

/// How many kids are remembered, either way.
const KIDS: usize = 256;

impl Provider {
    pub(super) fn new() -> Self {
        Self {
            kids: Mutex::default(),
            asked: Notify::new(),
            rounds: watch::channel(Round::default()).0,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether a fetch has just shown that no key has this name.
    pub(super) fn is_absent(&self, kid: &str) -> bool {
        let mut kids = self.kids.lock().unwrap_or_else(PoisonError::into_inner);
        kids.absent.retain(|(_, until)| *until > Instant::now());
        kids.absent.iter().any(|(absent, _)| **absent == *kid)
    }

    /// Asks for a fetch, for the sake of `kid` where there is one.
    pub(super) fn ask(&self, kid: Option<&str>) {
        if let Some(kid) = kid {
            let mut kids = self.kids.lock().unwrap_or_else(PoisonError::into_inner);
            if kids.pending.len() < KIDS && !kids.pending.iter().any(|known| **known == *kid) {
                kids.pending.push(kid.into());
            }
        }
        self.asked.notify_one();
    }

    /// Takes a place among those that wait; `None` if all are taken.
    pub(super) fn place(&self) -> Option<Place<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        (before < PLACES).then_some(place)
    }

    /// Hears of the end of each fetch from now on.
    pub(super) fn rounds(&self) -> watch::Receiver<Round> {
        self.rounds.subscribe()
    }

    /// Waits until a request asks.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Whether anything that was asked for is still not known; what is known is asked for no
    /// longer.
    pub(super) fn still_asks(&self, is_known: impl Fn(&str) -> bool) -> bool {
        let mut kids = self.kids.lock().unwrap_or_else(PoisonError::into_inner);
        kids.pending.retain(|kid| !is_known(kid));
        !kids.pending.is_empty()
    }

    /// What was asked for, at the beginning of a fetch.
    pub(super) fn begin(&self) -> Vec<Box<str>> {
        let mut kids = self.kids.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut kids.pending)
    }

    /// Ends a fetch: `absent` are those asked for at its beginning that it did not bring.
    pub(super) fn end(&self, round: Round, absent: Vec<Box<str>>) {
        let mut kids = self.kids.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kids.absent.retain(|(_, until)| *until > now);
        let room = KIDS.saturating_sub(kids.absent.len());
        let new = absent.into_iter().take(room);
        kids.absent.extend(new.map(|kid| (kid, now + SPACING)));
        drop(kids);
        self.rounds.send_replace(round);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_absent_after_a_fetch_that_began_after_the_question() {
        let provider = Provider::new();
        provider.ask(Some("a"));
        provider.ask(Some("a"));
        let asked = provider.begin();
        assert_eq!(asked.len(), 1);
        provider.ask(Some("b"));
        provider.end(Round::default(), asked);
        assert!(provider.is_absent("a") && !provider.is_absent("b"));
        assert_eq!(*provider.begin(), ["b".into()]);
    }

    #[test]
    fn what_has_come_meanwhile_is_asked_for_no_longer() {
        let provider = Provider::new();
        provider.ask(Some("a"));
        provider.ask(Some("b"));
        assert!(provider.still_asks(|kid| kid == "a"));
        assert!(!provider.still_asks(|kid| kid == "b"));
        assert!(provider.begin().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let provider = Provider::new();
        for number in 0..10_000 {
            provider.ask(Some(&number.to_string()));
        }
        let asked = provider.begin();
        assert_eq!(asked.len(), KIDS);
        provider.end(Round::default(), asked.clone());
        provider.end(Round::default(), asked);
        assert_eq!(provider.kids.lock().unwrap().absent.len(), KIDS);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let provider = Provider::new();
        let mut places: Vec<_> = (0..PLACES).map(|_| provider.place().unwrap()).collect();
        assert!(provider.place().is_none());
        assert!(provider.place().is_none());
        places.pop();
        assert!(provider.place().is_some());
    }
}
