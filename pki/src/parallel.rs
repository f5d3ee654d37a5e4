//! Work that mostly waits for the disk, done several at a time: a mesh directory costs half a dozen
//! syncs, and a disk takes many at once.
//!
//! Each item has a time limit, so that one folder on a disk that never answers does not keep the
//! others from theirs, nor us from giving the lock back. Invariant: every item gets exactly one
//! result; what comes after its limit is thrown away.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How many run at a time.
const LANES: usize = 8;

enum Told<R> {
    Begun(usize),
    Done(usize, R),
}

type Queue<T> = Arc<Mutex<VecDeque<(usize, T)>>>;

/// Does `work` on every item and gives the results in the items' order; `late` is the result of one
/// that took longer than `limit`.
pub(crate) fn each_within<T: Send + 'static, R: Send + 'static>(
    items: Vec<T>,
    limit: Duration,
    work: impl Fn(T) -> R + Send + Sync + 'static,
    late: impl Fn(usize) -> R,
) -> Result<Vec<R>, Error> {
    let length = items.len();
    let queue: Queue<T> = Arc::new(Mutex::new(items.into_iter().enumerate().collect()));
    let work = Arc::new(work);
    let (sender, told) = mpsc::channel();
    let start = || {
        let (queue, work, sender) = (queue.clone(), work.clone(), sender.clone());
        thread::Builder::new()
            .spawn(move || lane(&queue, &*work, &sender))
            .map_err(|why| Error::Failed(format!("no thread can be started: {why}")))
    };
    for _ in 0..LANES.min(length) {
        start()?;
    }
    let mut results: Vec<Option<R>> = (0..length).map(|_| None).collect();
    let mut put = |at: usize, result| {
        if let Some(place) = results.get_mut(at) {
            *place = Some(result);
        }
    };
    let mut running: HashMap<usize, Instant> = HashMap::new();
    let mut open = length;
    while open > 0 {
        let next = running.values().min().map_or(limit, |began| {
            (*began + limit).saturating_duration_since(Instant::now())
        });
        match told.recv_timeout(next) {
            Ok(Told::Begun(at)) => {
                running.insert(at, Instant::now());
            }
            Ok(Told::Done(at, result)) => {
                if running.remove(&at).is_some() {
                    put(at, result);
                    open -= 1;
                }
            }
            Err(RecvTimeoutError::Timeout) if !running.is_empty() => {
                let over: Vec<usize> = running
                    .iter()
                    .filter(|(_, began)| began.elapsed() >= limit)
                    .map(|(at, _)| *at)
                    .collect();
                for at in over {
                    running.remove(&at);
                    put(at, late(at));
                    open -= 1;
                    start()?; // its lane is lost
                }
            }
            Err(_) => return Err(stopped()),
        }
    }
    results
        .into_iter()
        .map(|done| done.ok_or_else(stopped))
        .collect()
}

fn lane<T, R>(queue: &Queue<T>, work: &impl Fn(T) -> R, sender: &Sender<Told<R>>) {
    loop {
        let next = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some((at, item)) = next else { return };
        // Nobody listens any more when the whole batch was given up.
        if sender.send(Told::Begun(at)).is_err() || sender.send(Told::Done(at, work(item))).is_err()
        {
            return;
        }
    }
}

fn stopped() -> Error {
    Error::Failed("a writer stopped in the middle of its work".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_in_order() {
        for length in [0, 1, 2, 31, 33, 1000] {
            let limit = Duration::from_secs(60);
            let done = each_within(
                (0..length).collect(),
                limit,
                |item: usize| item * 2,
                |_| usize::MAX,
            );
            let wanted = (0..length).map(|item| item * 2).collect::<Vec<_>>();
            assert_eq!(done.unwrap(), wanted);
        }
    }

    #[test]
    fn items_that_hang_stop_no_other() {
        let (hold, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let work = move |item: usize| {
            if item < 9 {
                let _ = held.lock().unwrap().recv(); // for ever: the other end is kept until the test ends
            }
            item
        };
        let limit = Duration::from_millis(200);
        let done = each_within((0..40).collect(), limit, work, |_| usize::MAX).unwrap();
        assert!(done[..9].iter().all(|one| *one == usize::MAX), "{done:?}");
        assert_eq!(done[9..], (9..40).collect::<Vec<_>>());
        drop(hold);
    }
}
