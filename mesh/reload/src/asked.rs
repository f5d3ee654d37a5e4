//! Having everything read again, and hearing when that is done.
//!
//! In: somebody asks (SIGHUP). Out: each follower of files wakes, and whoever asked waits until all
//! of them have seen to it. What each made of its files is its own business and stands in the log
//! and among the alarms; nothing here knows a file.
//! Invariant: a follower has seen to a generation once it waits for the next, since it waits for
//! nothing before its reading is in force; one that has ended is waited for no longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Asks every follower to read again. Cheap to clone.
#[derive(Clone)]
pub struct Reloads {
    asked: Arc<watch::Sender<u64>>,
    seen_to: Arc<watch::Sender<SeenTo>>,
}

/// How far each follower has come.
#[derive(Default)]
struct SeenTo {
    next: u64,
    generations: BTreeMap<u64, u64>,
}

/// One follower's side.
pub struct Asked {
    asked: watch::Receiver<u64>,
    heard: u64,
    follower: u64,
    reloads: Reloads,
}

impl Default for Reloads {
    fn default() -> Self {
        Self {
            asked: Arc::new(watch::channel(0).0),
            seen_to: Arc::new(watch::channel(SeenTo::default()).0),
        }
    }
}

impl Reloads {
    /// Has everything read again. Out: the generation to wait for.
    pub fn ask(&self) -> u64 {
        self.asked.send_modify(|generation| *generation += 1);
        *self.asked.borrow()
    }

    /// A further follower, which counts from now on.
    #[must_use]
    pub fn subscribe(&self) -> Asked {
        let mut asked = self.asked.subscribe();
        let heard = *asked.borrow_and_update();
        self.follower(asked, heard)
    }

    fn follower(&self, asked: watch::Receiver<u64>, heard: u64) -> Asked {
        let mut follower = 0;
        self.seen_to.send_modify(|seen| {
            follower = seen.next;
            seen.next += 1;
            seen.generations.insert(follower, heard);
        });
        Asked {
            asked,
            heard,
            follower,
            reloads: self.clone(),
        }
    }

    /// Waits until every follower has seen to this generation.
    pub async fn seen_to(&self, generation: u64) {
        let mut seen = self.seen_to.subscribe();
        let all = |seen: &SeenTo| seen.generations.values().all(|by| *by >= generation);
        // The sender is ours: it cannot have gone.
        let _ = seen.wait_for(all).await;
    }
}

impl Asked {
    /// Waits until somebody asks; that the last asking has been seen to is told by calling it. May
    /// be dropped and called again.
    pub async fn changed(&mut self) {
        self.reloads.seen_to.send_if_modified(|seen| {
            let before = seen.generations.insert(self.follower, self.heard);
            before != Some(self.heard)
        });
        // The sender lives at least as long as this follower.
        if self.asked.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.heard = *self.asked.borrow_and_update();
    }
}

impl Clone for Asked {
    /// A further follower: each is waited for, and has heard what this one has.
    fn clone(&self) -> Self {
        self.reloads.follower(self.asked.clone(), self.heard)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.reloads.seen_to.send_modify(|seen| {
            let _ = seen.generations.remove(&self.follower);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_done(reloads: &Reloads, generation: u64) -> bool {
        let waiting = reloads.seen_to(generation);
        tokio::time::timeout(Duration::from_millis(20), waiting)
            .await
            .is_ok()
    }

    /// Polls once and drops, as a `select!` that another branch wins.
    async fn glance(asked: &mut Asked) -> bool {
        tokio::time::timeout(Duration::from_millis(5), asked.changed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn done_is_when_each_follower_waits_again() {
        let reloads = Reloads::default();
        let (mut one, mut two) = (reloads.subscribe(), reloads.subscribe());
        let generation = reloads.ask();
        assert!(!is_done(&reloads, generation).await, "nobody has heard");
        assert!(glance(&mut one).await && glance(&mut two).await);
        assert!(!is_done(&reloads, generation).await, "both are reading");
        assert!(!glance(&mut one).await);
        assert!(!is_done(&reloads, generation).await, "one is reading");
        assert!(!glance(&mut two).await);
        assert!(is_done(&reloads, generation).await);
    }

    #[tokio::test]
    async fn who_was_busy_when_it_was_asked_has_not_seen_to_it() {
        let reloads = Reloads::default();
        let mut busy = reloads.subscribe();
        let first = reloads.ask();
        assert!(glance(&mut busy).await);
        let second = reloads.ask();
        assert!(glance(&mut busy).await, "hears of the second");
        assert!(is_done(&reloads, first).await && !is_done(&reloads, second).await);
        assert!(!glance(&mut busy).await);
        assert!(is_done(&reloads, second).await);
    }

    #[tokio::test]
    async fn a_clone_hears_of_what_was_asked_before_it_was_made() {
        let reloads = Reloads::default();
        let first = reloads.subscribe();
        let generation = reloads.ask();
        let mut clone = first.clone();
        drop(first);
        assert!(!is_done(&reloads, generation).await);
        assert!(glance(&mut clone).await && !glance(&mut clone).await);
        assert!(is_done(&reloads, generation).await);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_follower_that_has_ended() {
        let reloads = Reloads::default();
        let (ended, clone) = (reloads.subscribe(), reloads.subscribe().clone());
        let generation = reloads.ask();
        drop(ended);
        assert!(!is_done(&reloads, generation).await);
        drop(clone);
        assert!(is_done(&reloads, generation).await);
    }
}
