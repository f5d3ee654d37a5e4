//! The streams that come over this worker's HTTP/2 connections on the hop, and what those hold whose receiver has stopped.
//!
//! A connection's window is practically without limit, so that a stalled stream never holds up its neighbours; what it can hold
//! in memory is its own window. This table bounds the sum: a stream that nobody takes from for a minute is reset, and where the
//! stalled ones of the worker hold more than its share of 32 MiB, the longest stalled goes first (CONTRACT section 5, "The hop").

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};
use slab::Slab;

use crate::body::Fault;
use crate::timers::Timers;

/// How long a stream may hold bytes that nobody takes.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// How often the table looks: a stall shorter than this is no stall.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The table of one worker. Clones share it.
#[derive(Clone)]
pub struct Streams {
    inner: Rc<Inner>,
}

struct Inner {
    timers: Timers,
    budget: usize,
    open: RefCell<Slab<Weak<HopStream>>>,
}

/// One stream's bytes on their way in.
pub struct HopStream {
    table: Rc<Inner>,
    key: usize,
    received: RefCell<Option<RecvStream>>,
    length: Option<u64>,
    _open: Option<OpenStream>,
    /// The step in which the table first saw it hold bytes, since the last were taken.
    stalled_since: Cell<Option<u64>>,
}

/// Counts a stream as open until it has been read to its end or given up.
pub struct OpenStream(Rc<Cell<usize>>);

impl Streams {
    /// A table whose stalled streams may hold `budget` bytes.
    #[must_use]
    pub fn new(timers: Timers, budget: usize) -> Self {
        Self {
            inner: Rc::new(Inner {
                timers,
                budget,
                open: RefCell::default(),
            }),
        }
    }

    /// Enters a stream; `length` is what its `Content-Length` promised, `open` counts it where
    /// it was opened.
    #[must_use]
    pub fn enter(
        &self,
        received: RecvStream,
        length: Option<u64>,
        open: Option<OpenStream>,
    ) -> Rc<HopStream> {
        Rc::new_cyclic(|this| HopStream {
            table: self.inner.clone(),
            key: self.inner.open.borrow_mut().insert(this.clone()),
            received: RefCell::new(Some(received)),
            length,
            _open: open,
            stalled_since: Cell::new(None),
        })
    }

    /// Looks at the streams once a second, for ever.
    pub async fn run(self) {
        loop {
            self.inner.timers.sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    fn look(&self) {
        let now = self.inner.timers.now();
        let open: Vec<Rc<HopStream>> = self
            .inner
            .open
            .borrow()
            .iter()
            .filter_map(|(_, stream)| stream.upgrade())
            .collect();
        let mut stalled: Vec<(u64, usize, Rc<HopStream>)> = Vec::new();
        for stream in open {
            let held = stream.held();
            if held == 0 {
                stream.stalled_since.set(None);
                continue;
            }
            match stream.stalled_since.get() {
                None => stream.stalled_since.set(Some(now)),
                Some(since) => stalled.push((since, held, stream)),
            }
        }
        stalled.sort_by_key(|(since, ..)| *since);
        let limit = u64::try_from(STALL_LIMIT.as_millis() / crate::timers::STEP.as_millis())
            .unwrap_or(u64::MAX);
        let mut held: usize = stalled.iter().map(|(_, held, _)| held).sum();
        for (since, bytes, stream) in stalled {
            if held > self.inner.budget || now.saturating_sub(since) >= limit {
                held -= bytes;
                stream.reset();
            }
        }
    }
}

impl HopStream {
    /// The next frame. Its bytes are credited to the sender at once: who asks for a frame has room for it.
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut slot = self.received.borrow_mut();
        let Some(received) = slot.as_mut() else {
            return Poll::Ready(Some(Err(Fault::Stalled)));
        };
        match ready!(received.poll_data(cx)) {
            Some(Ok(data)) => {
                self.stalled_since.set(None);
                let _ = received.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => Poll::Ready(None),
            Some(Err(_)) => Poll::Ready(Some(Err(Fault::Cut))),
            None => match ready!(received.poll_trailers(cx)) {
                Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(None) => Poll::Ready(None),
                Err(_) => Poll::Ready(Some(Err(Fault::Cut))),
            },
        }
    }

    /// Whether the last byte has been taken and no trailers follow.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.received
            .borrow()
            .as_ref()
            .is_some_and(RecvStream::is_end_stream)
    }

    /// What the sender promised.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn held(&self) -> usize {
        self.received
            .borrow_mut()
            .as_mut()
            .map_or(0, |received| received.flow_control().used_capacity())
    }

    /// Gives up the stream: h2 resets it and forgets its bytes when the handle goes.
    fn reset(&self) {
        drop(self.received.borrow_mut().take());
    }
}

impl Drop for HopStream {
    fn drop(&mut self) {
        self.table.open.borrow_mut().try_remove(self.key);
    }
}

impl OpenStream {
    /// Counts one more in `open`.
    #[must_use]
    pub fn count(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
