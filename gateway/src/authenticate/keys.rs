//! Holds the ring in force and puts a new one in its place while requests run.
//!
//! In: a look at the files from time to time. Out: the ring for the next request, behind one pointer that no request waits for.
//! Each issuer's file stands alone: a broken one keeps its last good keys in force under the alarm `keys`, and keeps no other
//! file's change from being taken. Contents are compared, not times: a file restored from a backup, or swapped by a symlink within
//! the same second, is seen.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;
use gapura_mesh::alarms::Alarms;
use zeroize::Zeroizing;

use super::key_ring::{self, IssuerKeys, KeyRing};
use super::settings::Settings;

/// The ring in force. Clones share it.
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

/// What a look at the files came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing has changed.
    Unchanged,
    /// New keys are in force.
    Taken,
    /// What changed is broken; the keys from before stay in force, and the alarm `keys` says why.
    Kept,
}

struct Shared {
    ring: ArcSwap<KeyRing>,
    /// Held while files are read, by whoever looks at them; never by a request.
    watch: Mutex<Watch>,
}

struct Watch {
    settings: Settings,
    issuers: Vec<Watched>,
}

/// One issuer's source as it was last seen.
struct Watched {
    seen: Seen,
    good: Arc<IssuerKeys>,
    problem: Option<String>,
}

/// A digest of the contents, so that no copy of a secret lies about, or why they could not be read.
type Seen = Result<Box<[u8]>, String>;

const ALARM: &str = "keys";

impl Keys {
    /// Reads and checks every issuer's keys.
    ///
    /// # Errors
    /// All faults, each a sentence that says what is wrong, where, and what to do.
    pub fn load(settings: Settings) -> Result<Self, Vec<String>> {
        let watch = Watch::load(settings)?;
        Ok(Self {
            shared: Arc::new(Shared {
                ring: ArcSwap::from_pointee(watch.ring(1)),
                watch: Mutex::new(watch),
            }),
        })
    }

    /// The ring in force now.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.shared.ring.load()
    }

    /// Looks at every file and takes what has changed. To be called at least every two seconds, and on SIGHUP; it reads files, so
    /// not from a thread that serves requests if the files may be on a slow disk.
    pub fn reload_if_changed(&self, alarms: &Alarms) -> Reload {
        let mut watch = self
            .shared
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outcome = watch.look();
        if outcome == Reload::Unchanged {
            return outcome;
        }
        if outcome == Reload::Taken {
            self.publish(&watch);
        }
        let problems = watch
            .issuers
            .iter()
            .filter_map(|issuer| issuer.problem.as_deref())
            .collect::<Vec<_>>();
        if problems.is_empty() {
            alarms.clear(ALARM);
        } else {
            alarms.raise(
                ALARM,
                &format!(
                    "{}; the keys from before stay in force",
                    problems.join("; ")
                ),
            );
        }
        outcome
    }

    /// Puts other settings in force, for a configuration that is read again.
    ///
    /// # Errors
    /// All faults; the settings from before then stay in force.
    pub fn replace(&self, settings: Settings, alarms: &Alarms) -> Result<(), Vec<String>> {
        let mut watch = self
            .shared
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *watch = Watch::load(settings)?;
        self.publish(&watch);
        alarms.clear(ALARM);
        Ok(())
    }

    /// The watch is locked, so generations only ever grow.
    fn publish(&self, watch: &Watch) {
        let generation = self.shared.ring.load().generation() + 1;
        self.shared.ring.store(Arc::new(watch.ring(generation)));
    }
}

impl Watch {
    fn load(settings: Settings) -> Result<Self, Vec<String>> {
        let mut problems = key_ring::check(&settings);
        let mut issuers = Vec::new();
        for entry in &settings.issuers {
            let contents = key_ring::read(&entry.keys);
            let seen = seen(&contents);
            match contents.and_then(|bytes| IssuerKeys::build(&entry.keys, &bytes)) {
                Ok(good) => issuers.push(Watched {
                    seen,
                    good: Arc::new(good),
                    problem: None,
                }),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(Self { settings, issuers })
        } else {
            Err(problems)
        }
    }

    fn look(&mut self) -> Reload {
        let mut outcome = Reload::Unchanged;
        for (entry, watched) in self.settings.issuers.iter().zip(&mut self.issuers) {
            let contents = key_ring::read(&entry.keys);
            let now = seen(&contents);
            if now == watched.seen {
                continue;
            }
            watched.seen = now;
            match contents.and_then(|bytes| IssuerKeys::build(&entry.keys, &bytes)) {
                Ok(good) => {
                    (watched.good, watched.problem) = (Arc::new(good), None);
                    outcome = Reload::Taken;
                }
                Err(problem) => {
                    watched.problem = Some(problem);
                    if outcome == Reload::Unchanged {
                        outcome = Reload::Kept;
                    }
                }
            }
        }
        outcome
    }

    fn ring(&self, generation: u64) -> KeyRing {
        let keys: Vec<_> = self
            .issuers
            .iter()
            .map(|issuer| issuer.good.clone())
            .collect();
        KeyRing::assemble(&self.settings, &keys, generation)
    }
}

fn seen(contents: &Result<Zeroizing<Vec<u8>>, String>) -> Seen {
    match contents {
        Ok(bytes) => Ok(digest::digest(&digest::SHA256, bytes).as_ref().into()),
        Err(why) => Err(why.clone()),
    }
}
