//! The mechanism itself, on a file that means nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gapura_files::directory::{hash, stamp_of};

use super::watching::eventually;
use crate::asked::Reloads;
use crate::watch::{FileWatch, Follower, Pace, Reading, Why};

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(5);

/// What was taken, and what the follower waits for.
#[derive(Clone, Default)]
struct Taken {
    all: Arc<Mutex<Vec<(String, Why)>>>,
    is_due: Arc<AtomicBool>,
}

impl Follower<String> for Taken {
    fn is_due(&self) -> bool {
        self.is_due.swap(false, Ordering::Relaxed)
    }

    async fn take(&mut self, content: String, why: Why) {
        self.all.lock().unwrap().push((content, why));
    }
}

impl Taken {
    fn last(&self) -> Option<(String, Why)> {
        self.all.lock().unwrap().last().cloned()
    }

    fn count(&self) -> usize {
        self.all.lock().unwrap().len()
    }
}

fn reading(path: &Path) -> Reading<String> {
    let content = std::fs::read_to_string(path).unwrap();
    let digest = hash([content.as_bytes()]);
    Reading { content, digest }
}

/// A file that says `first`, which is known.
fn file(dir: &Path) -> PathBuf {
    let path = dir.join("file");
    std::fs::write(&path, "first").unwrap();
    path
}

fn watch(path: &Path, pace: Pace) -> FileWatch<String> {
    let looked_at = path.to_owned();
    let stamp = move || stamp_of([looked_at.clone()].into_iter());
    let seen = (stamp(), reading(path).digest);
    let path = path.to_owned();
    FileWatch::new(pace, seen, stamp, move || reading(&path))
}

const BY_STAMP: Pace = Pace {
    look: SOON,
    read: NEVER,
};

#[tokio::test]
async fn what_has_changed_is_taken_once_and_what_has_not_is_not_read() {
    let (dir, taken, reloads) = (
        tempfile::tempdir().unwrap(),
        Taken::default(),
        Reloads::default(),
    );
    let path = file(dir.path());
    let task = tokio::spawn(watch(&path, BY_STAMP).run(taken.clone(), reloads.subscribe()));
    std::fs::write(&path, "second").unwrap();
    eventually("the change is taken", || taken.count() == 1).await;
    assert_eq!(taken.last(), Some(("second".to_owned(), Why::Changed)));
    // Written and the same: the follower hears that too, and that it is the same.
    std::fs::write(&path, "second").unwrap();
    eventually("the same is taken", || taken.count() == 2).await;
    assert_eq!(taken.last(), Some(("second".to_owned(), Why::Unchanged)));
    task.abort();
}

#[tokio::test]
async fn who_asks_hears_when_what_was_read_is_in_force() {
    let (dir, taken, reloads) = (
        tempfile::tempdir().unwrap(),
        Taken::default(),
        Reloads::default(),
    );
    let path = file(dir.path());
    let pace = Pace {
        look: NEVER,
        read: NEVER,
    };
    let task = tokio::spawn(watch(&path, pace).run(taken.clone(), reloads.subscribe()));
    reloads.seen_to(reloads.ask()).await;
    assert_eq!(taken.last(), Some(("first".to_owned(), Why::Asked)));
    std::fs::write(&path, "second").unwrap();
    reloads.seen_to(reloads.ask()).await;
    assert_eq!(taken.last(), Some(("second".to_owned(), Why::Asked)));
    task.abort();
}

#[tokio::test]
async fn content_is_read_now_and_then_whatever_the_stamp_says_and_when_it_is_due() {
    let (dir, taken, reloads) = (
        tempfile::tempdir().unwrap(),
        Taken::default(),
        Reloads::default(),
    );
    let path = file(dir.path());
    let blind = {
        let (seen, path) = (reading(&path).digest, path.clone());
        move |pace| {
            let path = path.clone();
            let stamp = gapura_files::directory::Stamp::default;
            FileWatch::new(pace, (stamp(), seen), stamp, move || reading(&path))
        }
    };
    let often = Pace {
        look: SOON,
        read: Duration::from_millis(20),
    };
    let task = tokio::spawn(blind(often).run(taken.clone(), reloads.subscribe()));
    std::fs::write(&path, "second").unwrap();
    eventually("it is seen", || {
        let all = taken.all.lock().unwrap();
        all.iter().any(|(content, _)| content == "second")
    })
    .await;
    task.abort();
    std::fs::write(&path, "first").unwrap();
    let waiting = Taken::default();
    let task = tokio::spawn(blind(BY_STAMP).run(waiting.clone(), reloads.subscribe()));
    waiting.is_due.store(true, Ordering::Relaxed);
    eventually("its time has come", || waiting.count() == 1).await;
    assert_eq!(waiting.last(), Some(("first".to_owned(), Why::Due)));
    task.abort();
}

#[tokio::test]
async fn half_a_write_is_not_taken_and_what_never_rests_is_at_last() {
    let (taken, readings) = (Taken::default(), Arc::new(AtomicU64::new(0)));
    let reloads = Reloads::default();
    // Each reading differs from the one before, until the fourth.
    let (counted, rests) = (readings.clone(), Arc::new(AtomicU64::new(4)));
    let until = rests.clone();
    let read = move || {
        let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
        let content = number.min(until.load(Ordering::Relaxed)).to_string();
        let digest = hash([content.as_bytes()]);
        Reading { content, digest }
    };
    let pace = Pace {
        look: NEVER,
        read: NEVER,
    };
    let stamp = gapura_files::directory::Stamp::default;
    let watch = FileWatch::new(pace, (stamp(), [0; 32]), stamp, read);
    let task = tokio::spawn(watch.run(taken.clone(), reloads.subscribe()));
    reloads.seen_to(reloads.ask()).await;
    assert_eq!(taken.last(), Some(("4".to_owned(), Why::Asked)));
    assert_eq!(readings.load(Ordering::Relaxed), 5, "two agree");
    rests.store(u64::MAX, Ordering::Relaxed);
    reloads.seen_to(reloads.ask()).await;
    assert_eq!(taken.count(), 2);
    assert_eq!(
        readings.load(Ordering::Relaxed),
        5 + 9,
        "it is taken all the same"
    );
    task.abort();
}
