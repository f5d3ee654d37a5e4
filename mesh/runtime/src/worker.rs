//! A worker: one thread, one runtime, and all that its connections share without a lock.
//!
//! In: a queue of accepted connections and how to serve one. Out: each served in a task of its own,
//! that ends with the connection, with the phase, or with a caught panic that is logged. Nothing a
//! worker owns is ever touched by another thread.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gapura_http::Buffers;
use gapura_http::http1::write::HttpDate;
use gapura_http2 as http2;
use gapura_protocol::clock::{Clock, http_date};
use gapura_protocol::random::Random;
use gapura_telemetry::access::{AccessLog, FLUSH_EVERY, Sink};
use gapura_telemetry::log::{Level, Log};
use gapura_telemetry::metrics::{Meters, OpenConnection, Side, WorkerMeters};
use gapura_telemetry::span::{SPANS_EVERY, TracerSpec};
use gapura_telemetry::tap::Tap;
use gapura_transport::shutdown::{Phase, Stopping};
use gapura_transport::tasks::Tasks;
use gapura_transport::timers::Timers;
use gapura_transport::turns::{Bounds, Lulls, Turns};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::listen::{Accepted, Queue};
use crate::memory;
use crate::places::Network;
use crate::program::{Alive, StartError};
use crate::shedding::Shedding;

/// What a worker is made from; crosses into its thread.
#[derive(Clone)]
pub struct WorkerSpec {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// The program's clock.
    pub clock: Clock,
    /// The program's log.
    pub log: Log,
    /// Which requests are logged.
    pub access: AccessLog,
    /// The program's counters.
    pub meters: Arc<Meters>,
    /// Where finished requests can be looked at.
    pub tap: Option<Tap>,
    /// Where spans go, if anywhere.
    pub tracer: Option<TracerSpec>,
    /// The program's end.
    pub stopping: Stopping,
    /// Bytes that the streams of all workers may hold.
    pub held: usize,
}

/// What the connections of one worker share.
pub struct Worker {
    /// What it was made from.
    pub spec: WorkerSpec,
    /// Its deadlines.
    pub timers: Timers,
    /// What the streams over its own HTTP/2 connections hold.
    pub held: http2::Streams,
    /// The buffers of its connections over HTTP/1.1.
    pub buffers: Buffers,
    /// Its tasks that belong to no connection of a client's.
    pub tasks: Tasks,
    /// Whose handshake goes on.
    pub handshakes: Turns<Network>,
    /// When it had nothing left to do.
    pub lulls: Lulls,
    /// Where its records end.
    pub sink: Rc<Sink>,
    /// Its source of ids.
    pub random: Random,
    date: Cell<(u64, HttpDate)>,
    shedding: Shedding,
}

/// A connection of HTTP/1.1 that is idle when the listener closes has this long to bring one more
/// request, whose answer says that it was the last. A client cannot be told anything between two
/// requests, and one that writes into a closing connection is reset.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Steps of handshakes before one has to wait.
const HANDSHAKES: Bounds = Bounds {
    // Two or three connections that come at once, a few milliseconds together.
    after_a_lull: 4,
    // One costs what some tens of requests do, and takes no more of the worker than these where
    // both are waiting.
    a_round: 1,
    waiting: usize::MAX,
};

/// For answers to go out to who still waits when the time to drain is over.
const LAST_WORDS: Duration = Duration::from_millis(300);

impl Worker {
    /// Counts a connection for as long as what it returns is kept.
    #[must_use]
    pub fn count_open(&self, side: Side) -> OpenConnection {
        OpenConnection::count(&self.spec.meters, self.spec.index, side)
    }

    /// The date for an answer that has none: made once a second.
    #[must_use]
    pub fn date(&self) -> HttpDate {
        let now = self.spec.clock.unix();
        let (second, date) = self.date.get();
        if second == now {
            return date;
        }
        let date = http_date(now);
        self.date.set((now, date));
        date
    }

    /// A request was turned away because there are too many.
    pub fn shed(&self) {
        self.shedding.begin(&self.timers);
    }

    /// Whether requests are being turned away: what then takes time and memory for a client's
    /// comfort alone has to wait.
    #[must_use]
    pub fn is_shedding(&self) -> bool {
        self.shedding.lasts(&self.timers)
    }

    /// Tells of a connection over HTTP/2 that ended because `peer` broke the protocol or flooded
    /// it.
    pub fn broke_http2(&self, side: &'static str, peer: &str, reason: &dyn std::fmt::Debug) {
        let message = format!("the connection of {peer} is closed: it broke HTTP/2 ({reason:?})");
        let fields = [
            ("side", side.into()),
            ("reason", "http2".into()),
            ("peer", peer.into()),
        ];
        let log = &self.spec.log;
        log.event(Level::Warn, "connection_closed", &message, &fields);
    }

    /// Counts a handshake with `peer` that failed, and tells of it in one line. `more` is what this
    /// end can say besides.
    pub fn handshake_failed(
        &self,
        side: Side,
        (peer, reason): (&str, &'static str),
        message: &str,
        more: Option<(&str, Option<String>)>,
    ) {
        let spec = &self.spec;
        spec.meters.handshake_failed(side, reason);
        let mut fields = vec![
            ("side", side.as_str().into()),
            ("reason", reason.into()),
            ("peer", peer.into()),
        ];
        fields.extend(more.map(|(name, value)| (name, value.into())));
        spec.log
            .event(Level::Warn, "handshake_failed", message, &fields);
    }

    /// Ready when a connection of HTTP/1.1 is to close where it is idle.
    pub async fn idle_ends(&self) {
        self.spec.stopping.clone().reached(Phase::Closing).await;
        self.timers.sleep(LAST_REQUEST).await;
    }

    /// The counters this worker owns.
    #[must_use]
    pub fn meters(&self) -> &WorkerMeters {
        self.spec.meters.worker(self.spec.index)
    }
}

/// Serves the connections of one program on this worker.
pub trait Serve: 'static {
    /// Serves one connection to its end.
    fn connection(self: Rc<Self>, accepted: Accepted) -> impl Future<Output = ()>;

    /// Called about once a second.
    fn sweep(&self);
}

/// Starts `spec.of` workers, each with what `maker` makes for it; its `index` does not count. Out:
/// their queues, and what ends when all of them have.
///
/// # Errors
/// If a thread cannot be started.
pub(crate) fn spawn_all<S: Serve, M: FnOnce(Rc<Worker>) -> S + Send + 'static>(
    spec: &WorkerSpec,
    mut maker: impl FnMut() -> M,
) -> Result<(Vec<Queue>, mpsc::Receiver<()>), StartError> {
    let (alive, workers) = mpsc::channel(1);
    let mut queues = Vec::new();
    for index in 0..spec.of {
        let (queue, connections) = Queue::new();
        queues.push(queue);
        spawn(
            WorkerSpec {
                index,
                ..spec.clone()
            },
            connections,
            alive.clone(),
            maker(),
        )
        .map_err(|error| StartError::System(format!("a worker cannot be started: {error}")))?;
    }
    Ok((queues, workers))
}

/// Starts one thread, which holds `alive` until it ends. `make` builds the program's own part
/// inside it.
fn spawn<S: Serve>(
    spec: WorkerSpec,
    connections: mpsc::UnboundedReceiver<Accepted>,
    alive: Alive,
    make: impl FnOnce(Rc<Worker>) -> S + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let name = format!("{}-{}", spec.log.service(), spec.index);
    std::thread::Builder::new().name(name).spawn(move || {
        let _alive = alive;
        let lulls = Lulls::default();
        let noted = lulls.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || noted.note())
            .build_local(LocalOptions::default())?;
        let random = Random::seeded()
            .map_err(|_| io::Error::other("the system has no random bytes to give"))?;
        let timers = Timers::new();
        let held = http2::Streams::new(spec.held / spec.of.max(1));
        let sink = Sink::new(
            spec.log.clone(),
            spec.access,
            spec.meters.clone(),
            spec.index,
            spec.tap.clone(),
            spec.tracer.clone(),
        );
        let worker = Rc::new(Worker {
            spec,
            timers,
            held,
            buffers: Buffers::new(),
            tasks: Tasks::default(),
            // Who shakes hands has a place among the connections, and those are bounded.
            handshakes: Turns::new(HANDSHAKES, lulls.clone()),
            lulls,
            sink,
            random,
            date: Cell::new((0, http_date(0))),
            shedding: Shedding::default(),
        });
        // Inside the runtime: what is made may begin tasks.
        let serve = runtime.block_on(async { Rc::new(make(worker.clone())) });
        runtime.block_on(work(&worker, &serve, connections));
        // What was cut has records too; a name being resolved on a blocking thread must not hold up
        // the end.
        runtime.shutdown_background();
        worker.sink.flush();
        worker.sink.flush_spans();
        Ok(())
    })
}

async fn work<S: Serve>(
    worker: &Rc<Worker>,
    serve: &Rc<S>,
    mut connections: mpsc::UnboundedReceiver<Accepted>,
) {
    let mut chores = JoinSet::new();
    chores.spawn_local(worker.timers.clone().run());
    chores.spawn_local(worker.handshakes.clone().run());
    chores.spawn_local(memory::give_back());
    let (held, timers) = (worker.held.clone(), worker.timers.clone());
    chores.spawn_local(async move { held.run(&timers).await });
    if worker.sink.gathers() {
        let (sink, timers) = (worker.sink.clone(), worker.timers.clone());
        chores.spawn_local(async move {
            loop {
                timers.sleep(FLUSH_EVERY).await;
                sink.flush();
            }
        });
    }
    if worker.sink.traces() {
        let (sink, timers) = (worker.sink.clone(), worker.timers.clone());
        chores.spawn_local(async move {
            loop {
                timers.sleep(SPANS_EVERY).await;
                sink.flush_spans();
            }
        });
    }
    let log = worker.spec.log.clone();
    chores.spawn_local(worker.tasks.clone().run(move |what| {
        let message = format!("{what} ended in a panic; all else goes on");
        log.event(Level::Error, "panic", &message, &[]);
    }));
    let (tidying, timers) = (Rc::downgrade(serve), worker.timers.clone());
    let sink = worker.sink.clone();
    chores.spawn_local(async move {
        loop {
            timers.sleep(Duration::from_secs(1)).await;
            sink.tell_companies();
            let Some(serve) = tidying.upgrade() else {
                return;
            };
            serve.sweep();
        }
    });
    let mut tasks = JoinSet::new();
    let mut stopping = worker.spec.stopping.clone();
    let (mut closing, mut queued) = (false, true);
    loop {
        tokio::select! {
            phase = stopping.rises() => match phase {
                Phase::Run | Phase::Draining => {}
                Phase::Closing => closing = true,
                Phase::Cut => break,
            },
            accepted = connections.recv(), if queued => match accepted {
                Some(accepted) => {
                    let place = accepted.slot.place().clone();
                    place.runs(tasks.spawn_local(serve.clone().connection(accepted)));
                }
                None => (closing, queued) = (true, false),
            },
            Some(ended) = tasks.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    worker.spec.log.event(Level::Error, "panic", "a connection ended in a panic; all others go on", &[]);
                }
            }
        }
        // Until the accepting end is gone one more connection may be on its way here.
        if closing && tasks.is_empty() && !queued {
            return;
        }
    }
    // Whoever still waits for an answer is told that there will be none, and what has ended by then
    // ends whole.
    worker.timers.pass_all();
    let told = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, told).await;
    // Dropping the set cuts whatever is left.
    worker.sink.cut();
    if !tasks.is_empty() {
        let open = u64::try_from(tasks.len()).unwrap_or(u64::MAX);
        worker.spec.log.event(
            Level::Warn,
            "cut",
            "the time to drain is over; connections were cut",
            &[("connections", open.into())],
        );
    }
}
