//! One instance of a plugin: where it is, its share, and what is known of it.
//!
//! In: an address of the plugin's, by its file or by what a name stands for. Out: an [`Instance`]
//! that stays the same value for as long as the address does, with its health, what it says of
//! itself, and when it is to be asked again.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use gapura_telemetry::span::Callee;

use super::health::Health;
use super::loads::Loads;
use crate::openapi::Digest;
use crate::registry;
use crate::registry::Host;

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    /// At a port.
    Tcp(SocketAddr),
    /// At a socket of this host.
    Unix(Arc<Path>),
}

/// An address, and its share beside the others'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) at: Address,
    pub(crate) weight: u16,
}

/// One instance of a plugin. While it stays the same value its connections stay.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Where it is, and its share.
    pub(crate) place: Place,
    /// Whether it is well.
    pub(crate) health: Health,
    /// When it is asked how it is.
    pub(crate) asking: Asking,
    /// What workers have under way there.
    pub(crate) loads: Loads,
    version: ArcSwapOption<String>,
    contract: ArcSwapOption<Contract>,
}

/// What is known of an instance's contract.
#[derive(Debug)]
pub(crate) struct Contract {
    /// The document that it serves; none that can be had, if `None`.
    pub(crate) digest: Option<Digest>,
    /// Whether it keeps to the one in force.
    pub(crate) fits: bool,
}

/// When the prober asks an instance, which it alone reads and writes.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// How it is, and what it runs.
    pub(crate) next_health: Next,
    pub(crate) next_version: Next,
    /// One of these two is under way.
    pub(crate) busy: AtomicBool,
    /// Its contract, which takes longer and keeps no other question waiting.
    pub(crate) next_contract: Next,
}

/// When a question is to be asked, in milliseconds of the [`Epoch`]: 0 while it never was.
#[derive(Debug, Default)]
pub(crate) struct Next(AtomicU64);

/// The time that all instances of a registry share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(Instant);

impl Place {
    /// What the file names as it is; none where that is a name, which has to be looked up.
    pub(crate) fn listed(listed: &registry::Instance) -> Option<Self> {
        let at = match &listed.host {
            Host::Ip(ip) => Address::Tcp(SocketAddr::new(*ip, listed.port)),
            Host::Socket(path) => Address::Unix(path.clone()),
            Host::Name(_) => return None,
        };
        Some(Self {
            at,
            weight: listed.weight,
        })
    }
}

impl Epoch {
    /// It begins now.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds until `at`, and never 0.
    pub(crate) fn at(self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
    }

    /// Milliseconds until now, and never 0.
    pub(crate) fn now(self) -> u64 {
        self.at(Instant::now())
    }
}

impl Instance {
    /// One that was there from the beginning, or that came to others at `joined`.
    pub(crate) fn new(place: Place, joined: Option<u64>) -> Self {
        Self {
            place,
            health: joined.map_or_else(Health::default, Health::joining),
            asking: Asking::default(),
            loads: Loads::default(),
            version: ArcSwapOption::empty(),
            contract: ArcSwapOption::empty(),
        }
    }

    /// The one of `before` at this place, or one that came to them at `joined`.
    pub(crate) fn known(before: &[Arc<Self>], place: Place, joined: Option<u64>) -> Arc<Self> {
        let known = before.iter().find(|old| old.place == place);
        known.cloned().unwrap_or_else(|| {
            // Another share is no reason to begin slowly.
            let is_new = !before.iter().any(|old| old.place.at == place.at);
            Arc::new(Self::new(place, joined.filter(|_| is_new)))
        })
    }

    /// Where it is.
    pub(crate) fn at(&self) -> &Address {
        &self.place.at
    }

    /// What it said that it runs, when it was last asked.
    pub(crate) fn version(&self) -> Option<Arc<String>> {
        self.version.load_full()
    }

    /// What is known of its contract; nothing, until it has been asked for.
    pub(crate) fn contract(&self) -> Option<Arc<Contract>> {
        self.contract.load_full()
    }

    /// Its contract has been looked at.
    pub(crate) fn serves_contract(&self, contract: Contract) {
        self.contract.store(Some(Arc::new(contract)));
    }

    /// It said what it runs, or does not say; whether that is news.
    pub(crate) fn says_version(&self, version: Option<String>) -> bool {
        if self.version.load().as_deref() == version.as_ref() {
            return false;
        }
        self.version.store(version.map(Arc::new));
        true
    }
}

impl Address {
    /// What a span says of it.
    pub(crate) fn callee(&self, tls: bool) -> Callee {
        let (address, port) = match self {
            Self::Tcp(at) => (at.ip().to_string(), Some(at.port())),
            Self::Unix(path) => (path.display().to_string(), None),
        };
        Callee {
            scheme: if tls { "https" } else { "http" },
            address: address.into(),
            port,
        }
    }
}

impl Next {
    /// The first time is `spread` from now, where it was never asked nor is to be at once.
    pub(crate) fn begin(&self, now: u64, spread: u64) {
        if self.0.load(Relaxed) == 0 {
            self.at(now + spread);
        }
    }

    /// Whether it is time; if so, it is asked again after `every`.
    pub(crate) fn is_due(&self, now: u64, every: u64) -> bool {
        let due = self.0.load(Relaxed) <= now;
        if due {
            self.at(now + every);
        }
        due
    }

    /// It is asked as soon as somebody looks.
    pub(crate) fn at_once(&self) {
        self.at(1);
    }

    /// It is asked at `time`.
    pub(crate) fn at(&self, time: u64) {
        self.0.store(time, Relaxed);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => at.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_question_waits_for_its_turn_and_one_that_is_wanted_at_once_does_not() {
        let next = Next::default();
        next.begin(100, 50);
        assert!(!next.is_due(149, 10));
        next.begin(140, 500);
        assert!(next.is_due(150, 10), "a turn is given once");
        assert!(!next.is_due(159, 10) && next.is_due(160, 10));
        next.at_once();
        next.begin(161, 50);
        assert!(next.is_due(161, 10));
        let new = Next::default();
        new.begin(100, 0);
        assert!(new.is_due(100, 10), "with nothing to spread");
    }
}
