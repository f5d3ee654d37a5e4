//! HTTP/1.1 connections that a worker keeps for one address: each carries one request at a time,
//! and none has a task for that. The gateway has them to sidecars and to plugins without one, the
//! sidecar to its plugin.
//!
//! In: requests whose headers are final, how long they may wait, and a way to open a connection.
//! Out: answers with their bodies under way, or why there is none. The connection that was used
//! last is taken first, so that those beyond the need grow old and go. One comes back when its
//! answer has been read to the end and its request written whole, never at the head: else the next
//! request would wait for a whole body.
//! Invariants: a request that may have reached the other end goes again only if it may be done
//! twice (RFC 9110, section 9.2.2), has no body, and was lost with a connection that had been kept;
//! then once, on a new one. An idle connection that closes, speaks or is retired is not used again.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response, StatusCode};

use super::answer::{Answer, Failed, Hint, carry_on};
use super::crowd::{Asking, Crowd, Place};
use super::patience::{Over, Patience};
use crate::body::{Attachment, Body, End, Upload, UploadState};
use crate::tasks::Tasks;
use crate::timers::{STEP, Timers};
use crate::tunnel::TunnelEnd;
use gapura_http::Buffers;
use gapura_http::Stream;
use gapura_http::http1::client::{Connection, Settings};
use gapura_http::http1::{Incoming, Rest};

/// The idle connections of one worker to one address.
pub struct Pool<IO> {
    idle: RefCell<Vec<Idle<IO>>>,
    keep: Duration,
    timers: Timers,
    tasks: Tasks,
    buffers: Buffers,
    crowd: Option<Crowd>,
}

/// What is held for as long as a connection lives, and may have a say in that.
pub trait Held {
    /// Whether a further request may be sent.
    fn takes_more(&self) -> bool {
        true
    }

    /// Why the trust in force ended it, if it did.
    fn cut(&self) -> Option<&'static str> {
        None
    }

    /// Whether a connection that ended like this would end so again.
    fn is_final(&self, error: &io::Error) -> bool {
        let _ = error;
        false
    }
}

/// A connection that was just opened.
pub struct Opened<IO> {
    /// The stream.
    pub io: IO,
    /// What is held with it.
    pub held: Rc<dyn Held>,
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum Unanswered<E> {
    /// No connection could be opened for it; here it is.
    Connect(Box<Request<Body>>, E),
    /// A connection gave none.
    Failed(Failed),
}

struct Idle<IO> {
    kept: Kept<IO>,
    since: u64,
}

/// A connection, and what goes with it.
struct Kept<IO> {
    /// Left before the connection closes, so that whoever is served next does not count it.
    place: Option<Place>,
    connection: Connection<IO, Body>,
    held: Rc<dyn Held>,
}

/// A connection that goes back to its pool once its answer has been read; one whose answer is
/// dropped before closes.
struct Lease<IO: Stream + 'static> {
    pool: Rc<Pool<IO>>,
    kept: Option<Kept<IO>>,
    /// All of the answer has been read.
    whole: bool,
    /// What is left of the request.
    rest: Option<(Rest, Rc<Upload>)>,
}

/// Idle connections beyond these are closed: as many as a small plugin can have of anything.
const KEPT_MOST: usize = 256;

impl<IO: Stream + 'static> Pool<IO> {
    /// An empty pool whose connections may idle for `keep`.
    #[must_use]
    pub fn new(timers: &Timers, tasks: &Tasks, buffers: &Buffers, keep: Duration) -> Rc<Self> {
        Rc::new(Self::with(timers, tasks, buffers, keep, None))
    }

    /// The same to a plugin that may serve few connections at a time; `crowd` is what all pools to
    /// its address share.
    #[must_use]
    pub fn crowded(
        timers: &Timers,
        tasks: &Tasks,
        buffers: &Buffers,
        keep: Duration,
        crowd: Crowd,
    ) -> Rc<Self> {
        let mut asks = crowd.follow();
        let pool = Rc::new(Self::with(timers, tasks, buffers, keep, Some(crowd)));
        let of = Rc::downgrade(&pool);
        tasks.spawn("letting idle connections go", async move {
            while asks.changed().await.is_ok() {
                let Some(pool) = of.upgrade() else { return };
                // Somebody waits for a place.
                drop(pool.idle.take());
            }
        });
        pool
    }

    fn with(
        timers: &Timers,
        tasks: &Tasks,
        buffers: &Buffers,
        keep: Duration,
        crowd: Option<Crowd>,
    ) -> Self {
        Self {
            idle: RefCell::default(),
            keep,
            timers: timers.clone(),
            tasks: tasks.clone(),
            buffers: buffers.clone(),
            crowd,
        }
    }

    /// Closes what has idled too long, was closed, retired or broke its silence. Called about once
    /// a second.
    pub fn sweep(&self) {
        let idle = self.idle.take().into_iter();
        let fresh = idle.filter(|idle| self.is_young(idle) && !is_spoiled(&idle.kept));
        // Nothing has come back meanwhile: all of this is one turn of one thread.
        let fresh = fresh.collect();
        self.idle.replace(fresh);
    }

    /// Keeps a connection for whoever comes next.
    pub fn keep(&self, opened: Opened<IO>) {
        self.give_back(self.kept(opened));
    }

    /// Sends a request and waits for the head of its answer; `connect` opens a connection where
    /// none is kept, `hint` hears of interim answers.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn send<E, C: Future<Output = Result<Opened<IO>, E>>>(
        self: &Rc<Self>,
        mut request: Request<Body>,
        patience: &Patience<'_>,
        connect: impl FnOnce() -> C,
        hint: &mut Hint<'_>,
    ) -> Result<Answer, Unanswered<E>> {
        let repeatable = request.method().is_idempotent();
        while let Some(kept) = self.take() {
            let held = kept.held.clone();
            match self.on(kept, request, None, patience, hint).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Unsent(unsent, _)) => request = *unsent,
                Err(Failed::Closed(Some(unanswered), error))
                    if repeatable && !error.as_ref().is_some_and(|error| held.is_final(error)) =>
                {
                    request = *unanswered;
                    break;
                }
                Err(failed) => return Err(Unanswered::Failed(failed)),
            }
        }
        let (opened, asking) = match self.open(connect, patience).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(Unanswered::Connect(Box::new(request), error)),
            Err(Over) => return Err(Unanswered::Failed(Failed::Over)),
        };
        self.on(opened, request, asking, patience, hint)
            .await
            .map_err(Unanswered::Failed)
    }

    async fn open<E, C: Future<Output = Result<Opened<IO>, E>>>(
        &self,
        connect: impl FnOnce() -> C,
        patience: &Patience<'_>,
    ) -> Result<Result<(Kept<IO>, Option<Asking>), E>, Over> {
        let mut asking = self.crowd.as_ref().map(|crowd| crowd.wait(&self.timers));
        // Boxed, since its frame would be part of every request's and most need none.
        let mut connect = Box::pin(connect());
        let opened = pin!(poll_fn(|cx| {
            let polled = connect.as_mut().poll(cx);
            if let (Poll::Pending, Some(asking)) = (&polled, &mut asking) {
                asking.look(cx);
            }
            polled
        }));
        let opened = patience.connecting(opened).await?;
        Ok(opened.map(|opened| (self.kept(opened), asking)))
    }

    fn kept(&self, opened: Opened<IO>) -> Kept<IO> {
        Kept {
            place: self.crowd.as_ref().map(Crowd::enter),
            connection: Connection::new(opened.io, Settings::default(), &self.buffers),
            held: opened.held,
        }
    }

    /// A connection that was kept, if any is still good as far as is known.
    fn take(&self) -> Option<Kept<IO>> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if self.is_young(&idle) {
                return Some(idle.kept);
            }
        }
    }

    async fn on(
        self: &Rc<Self>,
        kept: Kept<IO>,
        request: Request<Body>,
        mut asking: Option<Asking>,
        patience: &Patience<'_>,
        hint: &mut Hint<'_>,
    ) -> Result<Answer, Failed> {
        let answer = {
            let place = kept.place.as_ref();
            let mut sending = pin!(kept.connection.send(request, |status, headers| {
                serve(place);
                hint(status, headers);
            }));
            let answered = pin!(poll_fn(|cx| {
                if let Some(asking) = &mut asking {
                    asking.look(cx);
                }
                sending.as_mut().poll(cx)
            }));
            patience.answered(answered).await?
        };
        let answer = answer.map_err(|error| match kept.held.cut() {
            Some(reason) => Failed::Cut(reason),
            None => error.into(),
        })?;
        serve(kept.place.as_ref());
        if let Some(asking) = asking {
            asking.answered();
        }
        Ok(self.leased(answer, kept, patience.upload()))
    }

    fn leased(
        self: &Rc<Self>,
        answer: Response<Incoming>,
        kept: Kept<IO>,
        upload: &Rc<Upload>,
    ) -> Answer {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = kept.connection.upgraded().map(|(io, read)| TunnelEnd {
                io: Box::new(io),
                read,
                held: Box::new(kept.held),
            });
            return Answer {
                response: answer.map(|_| Body::empty()),
                switched,
            };
        }
        let (head, incoming) = answer.into_parts();
        let is_whole = http_body::Body::is_end_stream(&incoming);
        if is_whole && kept.connection.is_reusable() {
            drop(incoming);
            self.give_back(kept);
            return Response::from_parts(head, Body::empty()).into();
        }
        let flows = upload.state() == UploadState::Flowing;
        let rest = incoming.rest().filter(|_| flows);
        let lease = Lease {
            pool: self.clone(),
            kept: Some(kept),
            whole: is_whole,
            rest: rest.map(|rest| (rest, upload.clone())),
        };
        Response::from_parts(head, Body::answer(incoming).with(Box::new(lease))).into()
    }

    /// Takes back a connection that can carry a further request.
    fn give_back(&self, kept: Kept<IO>) {
        let asked = self.crowd.as_ref().is_some_and(Crowd::is_asked);
        if !asked && self.idle.borrow().len() < KEPT_MOST && !is_spoiled(&kept) {
            let since = self.timers.now();
            self.idle.borrow_mut().push(Idle { kept, since });
        }
    }

    fn is_young(&self, idle: &Idle<IO>) -> bool {
        let steps = self.timers.now().saturating_sub(idle.since);
        let age = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
        age < self.keep && idle.kept.held.takes_more()
    }
}

fn serve(place: Option<&Place>) {
    if let Some(place) = place {
        place.serve();
    }
}

/// Whether a connection has been closed or retired, has broken, or has spoken; one that has not
/// gives its buffers back.
fn is_spoiled<IO: Stream + 'static>(kept: &Kept<IO>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    !kept.held.takes_more() || kept.connection.poll_idle(&mut cx).is_ready()
}

impl<IO: Stream + 'static> Attachment for Lease<IO> {
    fn ended(&mut self, end: End) {
        // In the middle of an answer a connection cannot be used again.
        if end == End::Whole {
            self.whole = true;
            let done = self.kept.take_if(|kept| kept.connection.is_reusable());
            if let Some(kept) = done {
                self.pool.give_back(kept);
            }
        }
    }
}

impl<IO: Stream + 'static> Drop for Lease<IO> {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take().filter(|_| self.whole) else {
            return;
        };
        if kept.connection.is_reusable() {
            self.pool.give_back(kept);
        } else if let Some((rest, upload)) = self.rest.take() {
            // The answer came before the request's end, which goes on as long as the other side
            // takes of it.
            let (pool, timers) = (self.pool.clone(), self.pool.timers.clone());
            let tasks = &self.pool.tasks;
            tasks.spawn("the rest of an upload", async move {
                carry_on(rest, upload, timers).await;
                if kept.connection.is_reusable() {
                    pool.give_back(kept);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
