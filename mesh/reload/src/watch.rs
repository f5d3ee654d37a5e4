//! Follows files while a program runs: the one mechanism by which anything is read again.
//!
//! In: how files are looked at and read, how often, and who may ask (SIGHUP). Out: for each reading
//! a call of [`Follower::take`], which puts what was read in force if it fits. Nothing here knows
//! what a file means.
//! Invariants: no disk is waited for on the thread that follows; half a write is not taken, unless
//! a file never rests; who has asked hears that it is done once what was read is in force, and not
//! before.

use std::future::{Future, pending, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_files::directory::Stamp;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::asked::Asked;

/// A set of files, and what was seen of it last.
pub struct FileWatch<C> {
    pace: Pace,
    stamp: Arc<dyn Fn() -> Stamp + Send + Sync>,
    read: Arc<dyn Fn() -> Reading<C> + Send + Sync>,
    seen: (Stamp, Digest),
    read_at: Instant,
}

/// What a reading gave, and the digest by which it is told from the next. Of what can't be read the
/// reason is the content.
pub struct Reading<C> {
    /// What was read.
    pub content: C,
    /// Over all of it.
    pub digest: Digest,
}

/// SHA-256, so that no copy of a secret lies about.
pub type Digest = [u8; 32];

/// How often files are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What a stat says of them.
    pub look: Duration,
    /// Their content, whatever a stat says: watchers of links and of network file systems miss
    /// changes, and so does a stat within one tick of the file system's clock.
    pub read: Duration,
}

/// Why something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody asked for it. It may be what it was.
    Asked,
    /// It is not what it was.
    Changed,
    /// What was read before waits for a time that has come, and is what it was.
    Due,
    /// It was time to look again, and it is what it was.
    Unchanged,
}

/// What becomes of what is read.
pub trait Follower<C> {
    /// Whether time alone has changed something, so that the files are to be read.
    fn is_due(&self) -> bool {
        false
    }

    /// Puts it in force if it fits. What does not changes nothing.
    fn take(&mut self, content: C, why: Why) -> impl Future<Output = ()>;

    /// Each look is over, whatever came of it.
    fn looked(&mut self) -> impl Future<Output = ()> {
        ready(())
    }

    /// Ready when there is cause to look at once.
    fn woken(&self) -> impl Future<Output = ()> {
        pending()
    }
}

/// What is read is taken once two readings this far apart agree: an editor that truncates first is
/// rarely slower.
const SETTLE: Duration = Duration::from_millis(50);

/// After so many readings that differ the last one is taken: files that never rest must not be
/// ignored.
const SETTLE_TRIES: u32 = 8;

impl<C: Send + 'static> FileWatch<C> {
    /// Files of which `seen` is known: the stamp from before they were read, and the digest of that
    /// reading.
    pub fn new(
        pace: Pace,
        seen: (Stamp, Digest),
        stamp: impl Fn() -> Stamp + Send + Sync + 'static,
        read: impl Fn() -> Reading<C> + Send + Sync + 'static,
    ) -> Self {
        Self {
            pace,
            stamp: Arc::new(stamp),
            read: Arc::new(read),
            seen,
            read_at: Instant::now(),
        }
    }

    /// Follows the files until it is dropped: on a program's control thread, once.
    pub async fn run(mut self, mut follower: impl Follower<C>, mut asked: Asked) {
        let mut looks = interval(self.pace.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = looks.tick() => false,
                () = follower.woken() => false,
                () = asked.changed() => true,
            };
            let forced = if is_asked {
                Some(Why::Asked)
            } else {
                follower.is_due().then_some(Why::Due)
            };
            if let Some((content, why)) = self.look(forced).await {
                follower.take(content, why).await;
            }
            follower.looked().await;
        }
    }

    /// One look; what was read, if it was time to read.
    async fn look(&mut self, forced: Option<Why>) -> Option<(C, Why)> {
        let stamp = self.stamp.clone();
        let stamp = blocking(move || stamp()).await?;
        let rests = stamp == self.seen.0 && self.read_at.elapsed() < self.pace.read;
        if rests && forced.is_none() {
            return None;
        }
        (self.seen.0, self.read_at) = (stamp, Instant::now());
        let Reading { content, digest } = self.settled().await?;
        let is_new = std::mem::replace(&mut self.seen.1, digest) != digest;
        let why = match forced {
            Some(Why::Asked) => Why::Asked,
            _ if is_new => Why::Changed,
            forced => forced.unwrap_or(Why::Unchanged),
        };
        Some((content, why))
    }

    /// What the files hold, once two readings agree. What was known before needs no second one.
    async fn settled(&self) -> Option<Reading<C>> {
        let mut last = self.read().await?;
        if last.digest == self.seen.1 {
            return Some(last);
        }
        for _ in 0..SETTLE_TRIES {
            sleep(SETTLE).await;
            let before = std::mem::replace(&mut last, self.read().await?);
            if before.digest == last.digest {
                break;
            }
        }
        Some(last)
    }

    async fn read(&self) -> Option<Reading<C>> {
        let read = self.read.clone();
        blocking(move || read()).await
    }
}

/// Runs what may wait for a disk off the thread that asks; `None` if the runtime is ending, or the
/// work broke off.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
