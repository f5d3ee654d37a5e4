//! What the tests of both sides share: a timer on tokio's clock, bodies made by hand, and a service
//! made of a function.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use gapura_http::http1::body::BodyError;
use gapura_http::http1::server::{AnswerBody, Service};
use gapura_http::http1::{Incoming, Refusal};
use gapura_http::{Deadline, Stream, Timer};

/// Deadlines on tokio's clock, which tests can stop.
#[derive(Clone)]
pub(crate) struct Clock;

pub(crate) struct ClockDeadline(RefCell<Option<Pin<Box<Sleep>>>>);

impl Timer for Clock {
    type Deadline = ClockDeadline;

    fn unset(&self) -> ClockDeadline {
        ClockDeadline(RefCell::new(None))
    }
}

impl Deadline for ClockDeadline {
    fn reset(&self, after: Duration) {
        *self.0.borrow_mut() = Some(Box::pin(sleep_until(Instant::now() + after)));
    }

    fn unset(&self) {
        *self.0.borrow_mut() = None;
    }

    fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.0.borrow_mut() {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

type Frames = mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>;

/// A body of any kind.
#[derive(Debug)]
pub(crate) enum TestBody {
    Full(Full<Bytes>),
    /// As frames are sent, of unknown length.
    Stream(Frames),
    Incoming(Incoming),
    /// An answer, and the upload that goes on beside it and is read past.
    Beside(Full<Bytes>, Incoming),
    /// An answer, and an upload that is over once the channel says so.
    Lasting(Full<Bytes>, tokio::sync::oneshot::Receiver<()>),
}

impl TestBody {
    pub(crate) fn empty() -> Self {
        Self::from("")
    }

    /// Frames that are all there, of unknown length.
    pub(crate) fn frames(
        frames: impl IntoIterator<Item = Result<Frame<Bytes>, BodyError>>,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        for frame in frames {
            sender.send(frame).unwrap();
        }
        Self::Stream(receiver)
    }

    pub(crate) fn chunks<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        Self::frames(pieces.into_iter().map(|piece| Ok(data(piece))))
    }

    pub(crate) fn channel() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self::Stream(receiver))
    }
}

pub(crate) fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

pub(crate) fn trailers(name: &'static str, value: &'static str) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    map.insert(name, value.parse().unwrap());
    Frame::trailers(map)
}

impl From<&str> for TestBody {
    fn from(text: &str) -> Self {
        Self::Full(Full::new(Bytes::copy_from_slice(text.as_bytes())))
    }
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Full(full) | Self::Beside(full, _) | Self::Lasting(full, _) => Pin::new(full)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Stream(frames) => frames.poll_recv(cx),
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) | Self::Beside(full, _) | Self::Lasting(full, _) => {
                full.is_end_stream()
            }
            Self::Stream(_) => false,
            Self::Incoming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) | Self::Beside(full, _) | Self::Lasting(full, _) => full.size_hint(),
            Self::Stream(_) => SizeHint::new(),
            Self::Incoming(incoming) => incoming.size_hint(),
        }
    }
}

impl AnswerBody for TestBody {
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Beside(_, incoming) => loop {
                match Pin::new(&mut *incoming).poll_frame(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            },
            Self::Incoming(incoming) => incoming.poll_upload(cx),
            Self::Lasting(_, over) => Pin::new(over).poll(cx).map(|_| ()),
            Self::Full(_) | Self::Stream(_) => Poll::Ready(()),
        }
    }
}

/// A service made of a function. A refusal is answered with its status and reason.
pub(crate) struct Answering<F> {
    call: F,
    pub(crate) refusals: RefCell<Vec<Refusal>>,
    pub(crate) drains: bool,
}

impl<F> Answering<F> {
    pub(crate) fn new(call: F) -> Self {
        Self {
            call,
            refusals: RefCell::default(),
            drains: true,
        }
    }
}

impl<F, A> Service for Answering<F>
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<TestBody>>,
{
    type Body = TestBody;

    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<TestBody>> {
        (self.call)(request)
    }

    fn refuse(&self, refusal: Refusal) -> Response<TestBody> {
        let mut response = Response::new(TestBody::from(refusal.reason));
        *response.status_mut() = refusal.kind.status();
        self.refusals.borrow_mut().push(refusal);
        response
    }

    fn may_drain(&self) -> bool {
        self.drains
    }
}

/// All of a body: its bytes, and its trailers if it has any.
pub(crate) async fn collect(body: Incoming) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// A stream whose end is an error, as that of TLS is without a close_notify.
pub(crate) struct Truncated(pub(crate) DuplexStream);

impl Stream for Truncated {}

impl AsyncRead for Truncated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        match read {
            Poll::Ready(Ok(())) if buf.filled().len() == before => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for Truncated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
