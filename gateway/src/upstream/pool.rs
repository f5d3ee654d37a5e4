//! HTTP/1.1 connections that a worker keeps for one address: each carries one request at a time, and none has a task for that.
//!
//! The connection that was used last is taken first, so that those beyond the need grow old and go. One comes back when its answer
//! has been read to the end and its request written whole, never at the head: else the next request would wait for a whole body.
//! Invariant: an idle connection that closes, speaks or is retired is not used again.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use gapura_http::http1::client::{Connection, Settings};
use gapura_http::http1::{Incoming, Rest};
use gapura_runtime::worker::Worker;
use gapura_transport::body::{Attachment, Body, End, Upload, UploadState};
use gapura_transport::timers::STEP;
use gapura_transport::tunnel::TunnelEnd;
use http::{Request, Response, StatusCode};

use super::answer::{Answer, Failed, carry_on};
use super::patience::Patience;
use super::tied::{ConnectionState, Tied};

/// The idle connections of one worker to one address.
pub(super) struct Pool {
    core: Rc<Worker>,
    idle: RefCell<Vec<Idle>>,
    keep: Duration,
}

struct Idle {
    kept: Kept,
    since: u64,
}

/// A connection that no request is using.
pub(super) struct Kept {
    connection: Connection<Tied, Body>,
    link: Rc<ConnectionState>,
}

/// A connection that goes back to its pool once its answer has been read; one whose answer is dropped before closes.
struct Lease {
    pool: Rc<Pool>,
    kept: Option<Kept>,
    /// All of the answer has been read.
    whole: bool,
    /// What is left of the request.
    rest: Option<(Rest, Rc<Upload>)>,
}

/// Idle connections beyond these are closed: as many as a small plugin can have of anything.
const KEPT_MOST: usize = 256;

impl Pool {
    /// An empty pool whose connections may idle for `keep`.
    pub(super) fn new(core: Rc<Worker>, keep: Duration) -> Rc<Self> {
        Rc::new(Self {
            core,
            idle: RefCell::default(),
            keep,
        })
    }

    /// Speaks HTTP/1.1 on `io`.
    pub(super) fn open(&self, (io, link): (Tied, Rc<ConnectionState>)) -> Kept {
        Kept {
            connection: Connection::new(io, Settings::default(), &self.core.buffers),
            link,
        }
    }

    /// A connection that was kept, if any is still good as far as is known.
    pub(super) fn take(&self) -> Option<Kept> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if self.is_young(&idle) {
                return Some(idle.kept);
            }
        }
    }

    /// Takes back a connection that can carry a further request.
    pub(super) fn give_back(&self, kept: Kept) {
        if !is_spoiled(&kept) && self.idle.borrow().len() < KEPT_MOST {
            let since = self.core.timers.now();
            self.idle.borrow_mut().push(Idle { kept, since });
        }
    }

    /// Closes what has idled too long, was closed, retired or broke its silence. Called about once a second.
    pub(super) fn sweep(&self) {
        let idle = self.idle.take().into_iter();
        let fresh = idle.filter(|idle| self.is_young(idle) && !is_spoiled(&idle.kept));
        // Nothing has come back meanwhile: all of this is one turn of one thread.
        let fresh = fresh.collect();
        self.idle.replace(fresh);
    }

    /// Sends a request on one connection and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Failed`]
    pub(super) async fn send(
        self: &Rc<Self>,
        kept: Kept,
        request: Request<Body>,
        patience: &Patience<'_>,
    ) -> Result<Answer, Failed> {
        let sending = kept.connection.send(request, |_, _| {});
        match patience.answered(sending).await? {
            Ok(answer) => Ok(self.leased(answer, kept, patience.upload())),
            Err(error) => Err(match kept.link.reason() {
                Some(reason) => Failed::Cut(reason),
                None => error.into(),
            }),
        }
    }

    fn leased(
        self: &Rc<Self>,
        answer: Response<Incoming>,
        kept: Kept,
        upload: &Rc<Upload>,
    ) -> Answer {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = kept.connection.upgraded().map(|(io, read)| TunnelEnd {
                io: Box::new(io),
                read,
                held: Box::new(kept.link),
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

    fn is_young(&self, idle: &Idle) -> bool {
        let steps = self.core.timers.now().saturating_sub(idle.since);
        STEP * u32::try_from(steps).unwrap_or(u32::MAX) < self.keep && idle.kept.link.takes_more()
    }
}

/// Whether a connection has been closed or retired, has broken, or has spoken; one that has not gives its buffers back.
fn is_spoiled(kept: &Kept) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    !kept.link.takes_more() || kept.connection.poll_idle(&mut cx).is_ready()
}

impl Attachment for Lease {
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

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take().filter(|_| self.whole) else {
            return;
        };
        if kept.connection.is_reusable() {
            self.pool.give_back(kept);
        } else if let Some((rest, upload)) = self.rest.take() {
            // The answer came before the request's end, which goes on as long as the other side takes of it.
            let (pool, timers) = (self.pool.clone(), self.pool.core.timers.clone());
            let tasks = &self.pool.core.tasks;
            tasks.spawn("the rest of an upload", async move {
                carry_on(rest, upload, timers).await;
                if kept.connection.is_reusable() {
                    pool.give_back(kept);
                }
            });
        }
    }
}
