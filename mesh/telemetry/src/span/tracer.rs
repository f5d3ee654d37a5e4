//! One worker's spans: which requests have any, and where they gather until somebody takes them.
//!
//! In: the place in its trace of each request, and later its end. Out: batches of spans in JSON,
//! handed over when they are long enough or when the worker's timer says so. Nothing is waited for
//! and no lock is held: a batch that finds no room is counted and forgotten.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use gapura_protocol::random::Random;
use gapura_protocol::trace::Trace;

use super::live::{Asked, Spans};
use super::sampler::Sampler;
use super::write::{Served, write};

/// Spans in JSON, each followed by a comma.
#[derive(Debug, Default)]
pub struct Batch {
    /// The text.
    pub json: Vec<u8>,
    /// How many they are.
    pub count: u64,
}

/// What became of spans, for the whole program.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

/// What each worker's tracer is made from.
#[derive(Clone)]
pub struct TracerSpec {
    /// Which requests are recorded.
    pub sampler: Sampler,
    /// What the one who sent a request is called: an attribute's name.
    pub peer: &'static str,
    /// Takes a batch, or gives it back if there is no room.
    pub hand_over: Arc<dyn Fn(Batch) -> Result<(), Batch> + Send + Sync>,
    /// Where those are counted that found none.
    pub counts: Arc<Counts>,
}

/// One worker's.
pub(crate) struct Tracer {
    spec: TracerSpec,
    batch: RefCell<Batch>,
}

/// A batch goes out when it is this long, or when the worker's timer says so.
const BATCH: usize = 48 * 1024;

/// How long a span may wait for others: its worker flushes as often.
pub const SPANS_EVERY: Duration = Duration::from_millis(500);

impl Counts {
    /// The collector has taken so many.
    pub fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    /// So many reached nobody.
    pub fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// How many were exported and how many dropped.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.exported), read(&self.dropped))
    }
}

impl Tracer {
    pub(crate) fn new(spec: TracerSpec) -> Self {
        Self {
            spec,
            batch: RefCell::default(),
        }
    }

    /// Decides whether a request is recorded, and has its trace say so from here on.
    pub(crate) fn begin(
        &self,
        trace: &mut Trace,
        random: &Random,
        asked: impl FnOnce() -> Asked,
    ) -> Option<Rc<Spans>> {
        let takes = self.spec.sampler.takes(trace);
        *trace = trace.sampled(takes);
        takes.then(|| Spans::new(*trace, random.next(), asked()))
    }

    /// The request has ended.
    pub(crate) fn finish(&self, served: &Served<'_>, spans: &Spans, now: SystemTime) {
        let mut batch = self.batch.borrow_mut();
        let count = write(&mut batch.json, served, spans, self.spec.peer, now);
        batch.count += count;
        if batch.json.len() >= BATCH {
            drop(batch);
            self.flush();
        }
    }

    /// Hands over what has gathered.
    pub(crate) fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if batch.count == 0 {
            return;
        }
        let next = Batch {
            json: Vec::with_capacity(batch.json.len().min(BATCH + 4096)),
            count: 0,
        };
        let full = std::mem::replace(&mut *batch, next);
        if let Err(left) = (self.spec.hand_over)(full) {
            self.spec.counts.dropped(left.count);
        }
    }
}
