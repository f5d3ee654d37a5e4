//! A steady load: so many requests a second for as long as something else happens, by callers who
//! keep their connections.
//!
//! The pace is fixed beforehand: a caller that was held up sends what it owes at once, so that a
//! server that stands still for a moment meets all that came meanwhile, as it would meet its
//! clients.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::wire::Wire;

/// How many ask at a time: enough that one answer that takes 50 ms keeps the pace at 200 requests a
/// second.
const CALLERS: u32 = 10;

/// What became of a load.
#[derive(Debug)]
pub struct Load {
    /// Requests that were answered or failed.
    pub requests: u32,
    /// What was wrong with those that were not answered with 200; the first hundred.
    pub failed: Vec<String>,
    took: Duration,
    slowest: Duration,
}

/// The load while it runs.
pub struct Under<'l> {
    requests: &'l AtomicU32,
}

impl Under<'_> {
    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// `per_second` requests a second at `address` while `change` runs. `request` makes the next one.
pub fn steady(
    address: SocketAddr,
    per_second: u32,
    request: impl Fn() -> String + Sync,
    change: impl FnOnce(&Under<'_>),
) -> Load {
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let (sent, requests, slowest) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let caller = || {
        let mut wire = None;
        while !stop.load(Ordering::SeqCst) {
            // Each takes the next of all: who is slow leaves more to the others.
            let number = sent.fetch_add(1, Ordering::SeqCst);
            let due = begun + Duration::from_secs(1) * number / per_second;
            std::thread::sleep(due.saturating_duration_since(Instant::now())); // the pace of the load
            let began = Instant::now();
            if let Err(why) = exchange(&mut wire, address, request()) {
                let mut failed = failed.lock().unwrap();
                if failed.len() < 100 {
                    failed.push(format!("after {:?}: {why}", begun.elapsed()));
                }
            }
            let took = u64::try_from(began.elapsed().as_micros()).unwrap();
            slowest.fetch_max(took, Ordering::SeqCst);
            requests.fetch_add(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(caller);
        }
        // A change that fails ends the load too.
        let _stop = OnDrop(&stop);
        change(&Under {
            requests: &requests,
        });
    });
    Load {
        requests: requests.into_inner(),
        failed: failed.into_inner().unwrap(),
        took: begun.elapsed(),
        slowest: Duration::from_micros(slowest.into_inner()),
    }
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One request over the caller's connection, which is made anew where the server has said that it
/// closes it.
fn exchange(wire: &mut Option<Wire>, address: SocketAddr, request: String) -> Result<(), String> {
    let mut kept = wire.take().unwrap_or_else(|| Wire::plain(address));
    kept.try_send(request).map_err(|why| why.to_string())?;
    let response = kept.try_response("GET")?;
    if response.status != 200 {
        return Err(format!("{} {}", response.status, response.text()));
    }
    if response.header("connection") != Some("close") {
        *wire = Some(kept);
    }
    Ok(())
}

impl Load {
    /// Fails the test if a request failed.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        assert!(self.failed.is_empty(), "{self}: {:#?}", self.failed);
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests in {:.1} s, {:.0} a second, the slowest {:?}, {} failed",
            self.requests,
            self.took.as_secs_f64(),
            f64::from(self.requests) / self.took.as_secs_f64(),
            self.slowest,
            self.failed.len()
        )
    }
}
