//! Keeps a program's trust current while it runs.
//!
//! In: the mesh directory, followed by a [`FileWatch`]. Out: a swap of the [`TrustStore`] for each
//! set that fits, a sweep of the live connections after it and at every tick, and alarms: `trust`
//! for a directory that does not fit, `crl` for a list past its time, `certificate` for an own
//! certificate that has ended, `clock` for what has not begun, `revoked` for an own certificate
//! that a list names and for lists older than those before the start. How far the lists have come
//! is kept in the state directory, before a set that takes them further is in force. Invariant:
//! what does not fit changes nothing; the last good set stays in force.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gapura_certificates::marks::Marks;
use gapura_certificates::refusal::{Refusal, Span};
use gapura_files::directory::{FileError, MeshFiles, hash, stamp};
use gapura_protocol::clock::unix;
use gapura_protocol::leg::Side;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use gapura_transport::live::LiveConnections;
use gapura_trust::set::{TrustOptions, TrustSet, TrustStore};
use gapura_trust::state::StateDir;
use gapura_trust::unfit::TrustError;

use super::asked::Asked;
use super::misfit::Misfit;
use super::watch::{FileWatch, Follower, Pace, Reading, Why, blocking};

/// What the reloader works with.
pub struct Reloader {
    /// Where the set in force is.
    pub store: TrustStore,
    /// The mesh directory.
    pub dir: PathBuf,
    /// How the program wants its set.
    pub options: TrustOptions,
    /// The connections to judge again.
    pub live: LiveConnections,
    /// Where faults are raised.
    pub alarms: Alarms,
    /// Where swaps and cuts are told.
    pub log: Log,
    /// What the metrics show.
    pub counters: Arc<TrustCounters>,
    /// Where it is kept how far the CRLs have come.
    pub state: Option<StateDir>,
}

/// What has happened to the trust of one program, for the metrics.
#[derive(Debug, Default)]
pub struct TrustCounters {
    /// Sets that were put in force after the first.
    pub reloads_ok: AtomicU64,
    /// Directories that did not fit.
    pub reloads_faulty: AtomicU64,
    /// Hop connections that were closed because a CRL names the peer or its issuer.
    pub revoked_closed: AtomicU64,
    /// What became of the last list that names more than the one before.
    pub revocation: Mutex<Option<Revocation>>,
}

/// A list that named more than the one before, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The trust set that brought it.
    pub generation: u64,
    /// When it came in force.
    pub at: SystemTime,
    /// How many serial numbers were new.
    pub added: usize,
    /// How many hop connections it cut.
    pub cut: usize,
    /// Whose these were: a few of them.
    pub peers: Vec<String>,
}

/// More names than anybody reads.
const PEERS_SHOWN: usize = 8;

impl TrustCounters {
    /// The last list that named more than the one before.
    #[must_use]
    pub fn last_revocation(&self) -> Option<Revocation> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Revocation>> {
        self.revocation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn revoked_more(&self, generation: u64, added: usize, at: SystemTime) {
        *self.lock() = Some(Revocation {
            generation,
            at,
            added,
            cut: 0,
            peers: Vec::new(),
        });
    }

    fn cut(&self, peer: String) {
        self.revoked_closed.fetch_add(1, Ordering::Relaxed);
        if let Some(last) = &mut *self.lock() {
            last.cut += 1;
            if last.peers.len() < PEERS_SHOWN && !last.peers.contains(&peer) {
                last.peers.push(peer);
            }
        }
    }
}

/// Half of what a change may take is left for reading and checking; a cut is due within a second of
/// the loading.
const PACE: Pace = Pace {
    look: Duration::from_millis(250),
    read: Duration::from_secs(30),
};

/// The reloader at work.
struct Following {
    reloader: Reloader,
    misfit: Misfit<TrustError>,
    reported: Reported,
}

/// What a reading of the directory gave.
type Found = Result<MeshFiles, FileError>;

/// Follows the directory for ever: on the program's control runtime, once.
pub async fn run(reloader: Reloader, asked: Asked) {
    let first = reloader.store.load_full();
    reloader.live.learn(&first);
    let (looked_at, dir) = (reloader.dir.clone(), reloader.dir.clone());
    let watch = FileWatch::new(
        PACE,
        (first.stamp().clone(), *first.hash()),
        move || stamp(&looked_at),
        move || read(&dir),
    );
    drop(first);
    let following = Following {
        reloader,
        misfit: Misfit::none(),
        reported: Reported::default(),
    };
    watch.run(following, asked).await;
}

fn read(dir: &Path) -> Reading<Found> {
    let content = MeshFiles::read(dir);
    let digest = match &content {
        Ok(files) => files.hash,
        Err(error) => hash([error.to_string().as_bytes()]),
    };
    Reading { content, digest }
}

impl Follower<Found> for Following {
    /// Of what was read, or of what is in force, something has begun since.
    fn is_due(&self) -> bool {
        let waited_for = self.misfit.fault().and_then(TrustError::begins);
        let again = waited_for.or_else(|| self.reloader.store.load().again_at());
        again.is_some_and(|begins| begins <= self.reloader.options.clock.unix())
    }

    /// Puts a new set in force if it fits.
    async fn take(&mut self, found: Found, _: Why) {
        match self.reloader.build(found).await {
            Ok(None) => self.misfit.fits(),
            Ok(Some(next)) => {
                self.misfit.fits();
                self.reloader.put_in_force(next, &mut self.reported).await;
            }
            Err(error) => {
                let sentence = format!(
                    "the mesh directory does not fit and the last good set stays in force: {error}"
                );
                if self.misfit.fails(error, Instant::now()) {
                    self.reloader.tell_misfit(&sentence);
                }
            }
        }
    }

    async fn looked(&mut self) {
        let Self {
            reloader,
            misfit,
            reported,
        } = self;
        // A list may have begun that has been in the set all along.
        reloader.keep_marks(reloader.marks(), reported).await;
        reloader.sweep();
        reloader.raise_alarms(misfit, reported);
    }

    /// A connection that an older set has judged is judged again.
    async fn woken(&self) {
        self.reloader.live.late().await;
    }
}

impl Reloader {
    /// Checks on a thread of its own: a long CRL takes a tenth of a second, and the admin side is
    /// served meanwhile. `None` where the content is what is in force.
    async fn build(&self, found: Found) -> Result<Option<TrustSet>, TrustError> {
        let files = found?;
        let (dir, options, current) = (
            self.dir.clone(),
            self.options.clone(),
            self.store.load_full(),
        );
        let again = current.again_at();
        let again = again.is_some_and(|begins| begins <= options.clock.unix());
        if files.hash == *current.hash() && !again {
            return Ok(None);
        }
        blocking(move || TrustSet::build(&dir, &files, &options, Some(&current)).map(Some))
            .await
            .unwrap_or_else(|| Err(TrustError::Config("the check broke off".to_owned())))
    }

    async fn put_in_force(&self, next: TrustSet, reported: &mut Reported) {
        let next = Arc::new(next);
        self.keep_marks(next.marks(self.options.clock.now()), reported)
            .await;
        self.live.learn(&next);
        let before = revoked(&self.store.load());
        self.store.swap(next.clone());
        self.counters.reloads_ok.fetch_add(1, Ordering::Relaxed);
        let added = revoked(&next).saturating_sub(before);
        if added > 0 {
            let now = self.options.clock.now();
            self.counters.revoked_more(next.generation(), added, now);
        }
        self.tell_swap(&next);
    }

    fn tell_misfit(&self, sentence: &str) {
        self.counters.reloads_faulty.fetch_add(1, Ordering::Relaxed);
        self.log.event(Level::Warn, "trust_refused", sentence, &[]);
    }

    fn marks(&self) -> Marks {
        self.store.load().marks(self.options.clock.now())
    }

    /// Keeps how far the lists have come. What cannot be kept is an alarm and changes nothing else:
    /// the newest list counts all the same.
    async fn keep_marks(&self, marks: Marks, reported: &mut Reported) {
        let Some(state) = self
            .state
            .clone()
            .filter(|_| reported.kept.as_ref() != Some(&marks))
        else {
            return;
        };
        let kept = marks.clone();
        let kept = blocking(move || state.keep(&kept).map(drop))
            .await
            .unwrap_or_else(|| Err(std::io::Error::other("the writing broke off")));
        (reported.kept, reported.not_kept) = match kept {
            Ok(()) => (Some(marks), None),
            Err(error) => {
                let sentence = format!(
                    "how far the CRLs have come cannot be written to the state directory, so that an older one might be taken after a restart: {error}"
                );
                (None, Some(sentence))
            }
        };
    }

    fn sweep(&self) {
        let swept = self
            .live
            .sweep(&self.store.load(), self.options.clock.now());
        for (side, peer, reason) in &swept.cut {
            let peer_id = peer.id.to_string();
            if *reason == "revoked" && *side == Side::Hop {
                self.counters.cut(peer_id.clone());
            }
            let sentence = format!("the connection with {peer_id} is closed: {reason}");
            let fields = [
                ("peer", peer_id.as_str().into()),
                ("serial", peer.serial_hex().into()),
                ("reason", (*reason).into()),
            ];
            self.log
                .event(Level::Warn, "connection_cut", &sentence, &fields);
        }
    }

    fn tell_swap(&self, next: &TrustSet) {
        let own = next.own();
        let sentence = format!("trust set {} is in force: {}", next.generation(), own.id);
        let fields = [
            ("generation", next.generation().into()),
            ("serial", own.serial_hex().into()),
            ("not_after_seconds", own.not_after.into()),
            ("crl_next_update_seconds", next.crl_next_update().into()),
        ];
        self.log
            .event(Level::Info, "trust_swapped", &sentence, &fields);
    }

    fn raise_alarms(&self, misfit: &Misfit<TrustError>, reported: &mut Reported) {
        let trust = self.store.load();
        let now = self.options.clock.now();
        let waiting = misfit.fault().filter(|fault| fault.begins().is_some());
        let alarm = misfit.alarm(Instant::now()).filter(|_| waiting.is_none());
        match alarm {
            Some(fault) => self.alarms.raise(
                Alarm::Trust,
                &format!("the mesh directory does not fit: {fault}"),
            ),
            None if misfit.is_well() || waiting.is_some() => self.alarms.clear(Alarm::Trust),
            None => {}
        }
        let clock = waiting.map(|fault| format!("the mesh directory has not begun: {fault}"));
        self.raise_or_clear(Alarm::Clock, clock.or_else(|| trust.not_begun(now)));
        let crl = trust.crl_stale(now).or_else(|| reported.not_kept.clone());
        self.raise_or_clear(Alarm::Crl, crl);
        let own = trust.own();
        let seconds = unix(now);
        let out_of_date = if own.expired(seconds) {
            Some("our own certificate has ended: every handshake will be refused; renew it with `gapura-pki renew`".to_owned())
        } else {
            None
        };
        let in_date = out_of_date.is_none() && trust.is_in_date(now);
        self.raise_or_clear(Alarm::Certificate, out_of_date);
        // Whether a list names us changes with the set alone; the judgement costs a verification.
        if reported.revocation_of != trust.generation() {
            reported.revocation_of = trust.generation();
            let revoked = match trust.own_refusal(now) {
                _ if trust.went_back().is_some() => trust.went_back(),
                Some(Refusal::Revoked { serial, .. }) => Some(format!(
                    "crl.pem says that our own certificate, or an issuing CA of it, is revoked (serial {serial}); issue a new one"
                )),
                _ => None,
            };
            self.raise_or_clear(Alarm::Revoked, revoked);
        }
        if in_date
            && let Some(third) =
                reported.life_left(trust.generation(), own.not_before, own.not_after, seconds)
        {
            let left = Span(own.not_after - seconds);
            let sentence = format!(
                "our own certificate ends in {left}, with less than {third} of its life left; renew it"
            );
            self.log.event(
                Level::Warn,
                "certificate_ends_soon",
                &sentence,
                &[("not_after_seconds", own.not_after.into())],
            );
        }
    }

    fn raise_or_clear(&self, alarm: Alarm, fault: Option<String>) {
        match fault {
            Some(sentence) => self.alarms.raise(alarm, &sentence),
            None => self.alarms.clear(alarm),
        }
    }
}

/// How many serial numbers the lists of a set name.
fn revoked(trust: &TrustSet) -> usize {
    trust.lists().iter().map(|list| list.revoked).sum()
}

/// What has been said of the set in force, so that it is said once.
#[derive(Default)]
struct Reported {
    revocation_of: u64,
    life_of: u64,
    /// The marks that were written last, and why the last writing failed.
    kept: Option<Marks>,
    not_kept: Option<String>,
    warnings: u8,
}

impl Reported {
    /// The share of its life that a certificate falls short of, once for each: a third, then a
    /// tenth.
    fn life_left(
        &mut self,
        generation: u64,
        not_before: u64,
        not_after: u64,
        now: u64,
    ) -> Option<&'static str> {
        if self.life_of != generation {
            (self.life_of, self.warnings) = (generation, 0);
        }
        let (life, left) = (
            not_after.saturating_sub(not_before),
            not_after.saturating_sub(now),
        );
        let (stage, share) = if left < life / 10 {
            (2, "a tenth")
        } else if left < life / 3 {
            (1, "a third")
        } else {
            (0, "")
        };
        let news = stage > self.warnings;
        self.warnings = self.warnings.max(stage);
        news.then_some(share)
    }
}
