//! The body of an answer, and what is left of the upload that it answers.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};

use super::OpenStream;
use crate::held::{Holds, Mark, Share};
use crate::owner::Owner;
use crate::pump::{Pump, PumpError};
use crate::received::Received;
use gapura_http::Timer;
use gapura_http::http1::Source;
use gapura_http::http1::body::BodyError;

pub(super) struct Answer<B, T: Timer> {
    share: Rc<Share>,
    key: usize,
    mark: Mark,
    /// None once it was given up.
    received: RefCell<Option<Received>>,
    pump: RefCell<Option<Pump<B, T>>>,
    _open: OpenStream,
}

impl<B, T> Answer<B, T>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    T: Timer + Clone + 'static,
{
    pub(super) fn new(
        received: Received,
        pump: Option<Pump<B, T>>,
        open: OpenStream,
        share: &Rc<Share>,
        owner: &Rc<Owner>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this: &Weak<Self>| Self {
            share: share.clone(),
            key: share.enter(this.clone()),
            mark: Mark::of(owner),
            received: RefCell::new(Some(received)),
            pump: RefCell::new(pump),
            _open: open,
        })
    }

    /// Goes on with the upload; ready once there is nothing of it left to do.
    fn poll_pump(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.pump.borrow_mut();
        let Some(pump) = slot.as_mut() else {
            return Poll::Ready(());
        };
        match pump.poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(()) | Err(PumpError::Refused)) => {}
            Poll::Ready(Err(PumpError::Body(_) | PumpError::Short)) => {
                pump.reset(Reason::INTERNAL_ERROR);
            }
            Poll::Ready(Err(PumpError::Stalled)) => pump.reset(Reason::CANCEL),
        }
        let over = slot.take();
        drop(slot);
        drop(over);
        Poll::Ready(())
    }
}

impl<B, T> Source for Answer<B, T>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    T: Timer + Clone + 'static,
{
    fn poll_frame(
        &self,
        _: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let _ = self.poll_pump(cx);
        let mut slot = self.received.borrow_mut();
        let Some(received) = slot.as_mut() else {
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        };
        let before = received.taken;
        let polled = received.poll_frame(cx);
        let taken = usize::try_from(received.taken - before).unwrap_or(usize::MAX);
        if taken > 0 {
            self.share.taken(&self.mark, taken);
        }
        polled
    }

    fn left(&self, _: u64) -> Option<u64> {
        self.received.borrow().as_ref().and_then(Received::left)
    }

    /// Nobody reads any more: this is dropped, and with it the stream and what is left of the
    /// upload.
    fn release(&self, _: u64) {}

    fn poll_upload(&self, _: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_pump(cx)
    }

    fn send_interim(&self, _: u64, _: StatusCode, _: &HeaderMap) -> bool {
        false
    }
}

impl<B, T: Timer> Holds for Answer<B, T> {
    fn held(&self) -> usize {
        self.received
            .borrow_mut()
            .as_mut()
            .map_or(0, Received::held)
    }

    fn give_up(&self) {
        let received = self.received.borrow_mut().take();
        drop(received);
        self.share.dropped(&self.mark);
    }

    fn mark(&self) -> &Mark {
        &self.mark
    }
}

impl<B, T: Timer> Drop for Answer<B, T> {
    fn drop(&mut self) {
        self.share.leave(self.key, &self.mark);
    }
}
