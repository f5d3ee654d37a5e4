//! Who has logged out at their provider, and since when: what `POST /.gapura/backchannel-logout`
//! came to.
//!
//! In: verified logouts, and those that a journal kept over a restart. Out: whether a token is one
//! of them: it has the session of a logout, or its user and was not issued later, both of the same
//! issuer. A logout counts for as long as a token may live, and is then forgotten. Nothing is
//! dropped in silence: what there is no room for, or could not be written down, is told to the
//! provider.
//! Invariant: no request waits here; what it looks at is one value behind one pointer.

mod journal;
mod logout;
mod names;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::{Alarm, Alarms};

use crate::authenticate::{LOGOUT_WITHIN, VerifiedCaller, VerifiedLogout};
use journal::Journal;
use logout::Logout;
use names::Names;

/// How logouts are kept.
#[derive(Clone, Debug)]
pub(crate) struct LogoutsKept {
    /// For how long.
    pub(crate) keep: Duration,
    /// How far an issuer's clock may be off: so much longer a token counts.
    pub(crate) leeway: Duration,
    /// The folder of what outlasts a restart; without one nothing of it does.
    pub(crate) state_dir: Option<PathBuf>,
}

/// The logouts that count.
pub(super) struct Logouts {
    /// For how long after it came a logout counts, in seconds.
    keep: u64,
    /// How many are kept.
    most: usize,
    clock: Clock,
    alarms: Alarms,
    in_force: ArcSwap<InForce>,
    /// Held by whoever takes a logout, never by a request that asks.
    ledger: Mutex<Ledger>,
}

/// Why a logout was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// It has come before.
    Replayed,
    /// There is no room for more.
    Full,
    /// It counts, but would not outlast a restart.
    NotKept,
}

/// What requests look at: most of it is shared from one logout to the next.
#[derive(Default)]
struct InForce {
    settled: Arc<Names>,
    recent: Names,
}

/// Every logout that counts, in the order they came.
struct Ledger {
    logouts: VecDeque<Logout>,
    /// Issuer and id of each.
    seen: HashSet<(Arc<str>, Arc<str>)>,
    journal: Option<Journal>,
    is_full: bool,
    unkept: Option<String>,
}

/// As many logouts are kept, whoever they are of (CONTRACT section 3).
const MOST: usize = 100_000;

/// So many may come before all are sorted into one table anew: each copies the recent ones.
const MOST_RECENT: usize = 1024;

impl Logouts {
    /// Those that are kept still, and room for more.
    ///
    /// # Errors
    /// A sentence, if what was kept can't be read.
    pub(super) fn open(
        settings: &LogoutsKept,
        clock: &Clock,
        alarms: &Alarms,
    ) -> Result<Self, String> {
        let journal = settings.state_dir.as_deref().map(Journal::in_folder);
        let now = clock.unix();
        let mut ledger = Ledger {
            logouts: VecDeque::new(),
            seen: HashSet::new(),
            journal: None,
            is_full: false,
            unkept: None,
        };
        if let Some(journal) = &journal {
            for logout in journal.read()? {
                if logout.until > now {
                    ledger.add(logout);
                }
            }
        }
        ledger.journal = journal;
        let in_force = ArcSwap::from_pointee(ledger.settled());
        let keep = settings.keep.saturating_add(settings.leeway).as_secs();
        Ok(Self {
            keep,
            most: MOST,
            clock: clock.clone(),
            alarms: alarms.clone(),
            in_force,
            ledger: Mutex::new(ledger),
        })
    }

    /// Whether a caller's token is of a session or a user that has logged out.
    pub(super) fn names(&self, caller: &VerifiedCaller) -> bool {
        let in_force = self.in_force.load();
        let token = caller.token();
        let Some(issuer) = token.issuer.as_deref() else {
            return false;
        };
        // Where a token has no subject its user is the only name there is.
        let subject = token
            .subject
            .as_deref()
            .unwrap_or_else(|| caller.user().as_str());
        let session = token.session.as_deref();
        [&*in_force.settled, &in_force.recent]
            .iter()
            .any(|names| names.have(issuer, subject, session, token.issued_at))
    }

    /// Takes a logout: it counts from here on. Waits for a disk, and so is not for a thread that
    /// serves requests.
    pub(super) fn take(&self, logout: &VerifiedLogout) -> Result<(), NotTaken> {
        let now = self.clock.unix();
        let Some(logout) = self.logout(logout, now) else {
            return Err(NotTaken::Full);
        };
        let mut ledger = self.ledger();
        if ledger.has(&logout) {
            return Err(NotTaken::Replayed);
        }
        if ledger.logouts.len() >= self.most {
            self.forget_old(&mut ledger, now);
        }
        if ledger.logouts.len() >= self.most {
            ledger.is_full = true;
            self.tell(&ledger);
            return Err(NotTaken::Full);
        }
        let kept = ledger.keep(&logout);
        let last = self.in_force.load();
        let mut recent = last.recent.clone();
        recent.add(&logout);
        match kept {
            Ok(()) => ledger.add(logout),
            // The provider will send it again, and is to be heard then.
            Err(_) => ledger.logouts.push_back(logout),
        }
        self.in_force.store(Arc::new(if recent.len() > MOST_RECENT {
            ledger.settled()
        } else {
            InForce {
                settled: last.settled.clone(),
                recent,
            }
        }));
        let was_kept = kept.is_ok();
        ledger.unkept = kept.err();
        self.tell(&ledger);
        if was_kept {
            Ok(())
        } else {
            Err(NotTaken::NotKept)
        }
    }

    /// Forgets what counts no more, from time to time. Waits for a disk.
    pub(super) fn tidy(&self) {
        let mut ledger = self.ledger();
        self.forget_old(&mut ledger, self.clock.unix());
        self.tell(&ledger);
    }

    fn forget_old(&self, ledger: &mut Ledger, now: u64) {
        let before = ledger.logouts.len();
        ledger.forget(now);
        if ledger.logouts.len() == before {
            return;
        }
        self.in_force.store(Arc::new(ledger.settled()));
        ledger.is_full = false;
        if let Some(Err(why)) = ledger
            .journal
            .as_ref()
            .map(|journal| journal.drop_old(ledger.logouts.len(), now))
        {
            ledger.unkept = Some(why);
        }
    }

    fn logout(&self, verified: &VerifiedLogout, now: u64) -> Option<Logout> {
        let token = verified.token();
        let shared = |text: &Option<Box<str>>| text.as_deref().map(Arc::from);
        let issued_at = verified.issued_at();
        Some(Logout {
            issuer: shared(&token.issuer)?,
            id: shared(&token.id)?,
            subject: shared(&token.subject),
            session: shared(&token.session),
            issued_at,
            // While the token itself would be taken its id is known, however short logouts are
            // kept.
            until: now
                .max(issued_at)
                .saturating_add(self.keep)
                .max(issued_at.saturating_add(LOGOUT_WITHIN + 1)),
        })
    }

    fn tell(&self, ledger: &Ledger) {
        if ledger.is_full {
            self.alarms.raise(
                Alarm::Logouts,
                "100000 logouts are kept, and further ones are refused with 503 until some are forgotten; a shorter --logout-keep keeps fewer",
            );
        } else if let Some(why) = &ledger.unkept {
            self.alarms.raise(
                Alarm::Logouts,
                &format!("logouts count, but a restart would forget them: {why}"),
            );
        } else {
            self.alarms.clear(Alarm::Logouts);
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn has(&self, logout: &Logout) -> bool {
        self.seen
            .contains(&(logout.issuer.clone(), logout.id.clone()))
    }

    fn add(&mut self, logout: Logout) {
        self.seen.insert((logout.issuer.clone(), logout.id.clone()));
        self.logouts.push_back(logout);
    }

    fn keep(&self, logout: &Logout) -> Result<(), String> {
        match &self.journal {
            Some(journal) => journal.append(logout),
            None => Ok(()),
        }
    }

    /// A clock that was set back may leave an old one behind a newer one; it is forgotten with
    /// that.
    fn forget(&mut self, now: u64) {
        while let Some(first) = self.logouts.front().filter(|first| first.until <= now) {
            self.seen.remove(&(first.issuer.clone(), first.id.clone()));
            self.logouts.pop_front();
        }
    }

    fn settled(&self) -> InForce {
        let mut settled = Names::default();
        for logout in &self.logouts {
            settled.add(logout);
        }
        InForce {
            settled: Arc::new(settled),
            recent: Names::default(),
        }
    }
}

#[cfg(test)]
mod tests;
