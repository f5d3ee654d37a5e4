//! A request and its answer on one connection, and what they leave behind.
//!
//! No borrow of the state is held while a body is asked or dropped: it may come from another
//! connection that comes back to this thread's tables.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame};

use super::upload::{Said, Upload, UploadState, ask};
use super::{SendError, Settings, Shared};
use crate::buffers::Buffers;
use crate::http1::body::{BodyError, Decoder};
use crate::http1::fields::ConnectionOptions;
use crate::http1::head::{Length, ResponseHead, ResponseReader};
use crate::http1::incoming::Source;
use crate::http1::wire::Wire;
use crate::http1::write::{Framing, request_head};
use crate::stream::Stream;

pub(super) struct Exchange<IO, B: Body> {
    state: Shared<IO, B>,
    settings: Settings,
}

pub(super) struct State<IO, B: Body> {
    /// None once it was handed over.
    wire: Option<Wire<IO>>,
    decoder: Decoder,
    upload: Upload<B>,
    message: u64,
    /// Whether a request may be sent when all that is under way has ended well.
    keep: bool,
    /// A request waits for the head of its answer.
    waiting: bool,
    upgraded: bool,
    /// Writing failed: what can still be read is.
    unwritable: Option<io::Error>,
}

/// A request that waits for its answer.
pub(super) struct Sent<B> {
    method: Method,
    upgrade: bool,
    reader: ResponseReader,
    interims: u8,
    /// Bytes written on the connection before it.
    written: u64,
    /// Bytes read on the connection before its answer.
    read: u64,
    /// As it was given, if it has no body.
    whole: Option<Box<Request<B>>>,
}

impl<IO, B> Exchange<IO, B>
where
    IO: Stream + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
{
    pub(super) fn new(io: IO, settings: Settings, buffers: &Buffers) -> Self {
        Self {
            state: RefCell::new(State {
                wire: Some(Wire::new(io, buffers.clone())),
                decoder: Decoder::new(Length::None, settings.limits),
                upload: Upload::none(),
                message: 0,
                keep: true,
                waiting: false,
                upgraded: false,
                unwritable: None,
            }),
            settings,
        }
    }

    pub(super) fn is_reusable(&self) -> bool {
        let state = self.state.borrow();
        let Some(wire) = &state.wire else {
            return false;
        };
        state.keep
            && !state.waiting
            && state.decoder.is_ended()
            && state.upload.state == UploadState::Whole
            && state.unwritable.is_none()
            && wire.out.is_flushed()
            && wire.bytes.is_empty()
            && !wire.eof
    }

    /// Whether the connection can't carry a request, and the error that says why, if it is one.
    pub(super) fn poll_spoiled(&self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let idle = self.state.borrow_mut().flush_quietly(cx);
        if !idle || !self.is_reusable() {
            return Poll::Ready(None);
        }
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(wire) = &mut state.wire else {
            return Poll::Ready(None);
        };
        let error = match wire.poll_fill(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(_)) => None,
            Poll::Ready(Err(error)) => Some(error),
        };
        state.keep = false;
        Poll::Ready(error)
    }

    pub(super) fn rest(&self) {
        if let Some(wire) = &mut self.state.borrow_mut().wire {
            wire.rest();
        }
    }

    pub(super) fn upgraded(&self) -> Option<(IO, Bytes)> {
        let mut state = self.state.borrow_mut();
        if !state.upgraded {
            return None;
        }
        let wire = state.wire.take()?;
        Some((wire.io, wire.bytes.freeze()))
    }

    /// Puts the head of a request, and what there is of its body, on its way.
    pub(super) async fn begin(&self, request: Request<B>) -> Result<Sent<B>, SendError<B>> {
        let (parts, mut body) = request.into_parts();
        let mut first = Said::Nothing;
        let mut exact = body.size_hint().exact();
        if body.is_end_stream() {
            exact = Some(0);
        } else if exact.is_none() {
            // A body of which nobody knows how long it is may be none at all, and then the request
            // says so.
            first = std::future::poll_fn(|cx| Poll::Ready(ask(&mut body, cx))).await;
            if matches!(first, Said::End) {
                exact = Some(0);
            }
        }
        let framing = Framing::of_request(&parts.method, &parts.headers, exact);
        let (written, read) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            state.waiting = true;
            state.keep = false;
            state.message += 1;
            let Some(wire) = &mut state.wire else {
                return Err(SendError::Closed {
                    request: None,
                    error: None,
                });
            };
            let before = (wire.out.written(), wire.read);
            request_head(
                &parts.method,
                &parts.uri,
                &parts.headers,
                framing,
                wire.tail(),
            );
            before
        };
        let upgrade = parts.headers.contains_key(http::header::UPGRADE)
            && ConnectionOptions::of(&parts.headers).upgrade;
        let method = parts.method.clone();
        let whole = if exact == Some(0) && matches!(framing, Framing::None | Framing::Exact(0)) {
            drop(first);
            let before = std::mem::replace(&mut self.state.borrow_mut().upload, Upload::none());
            drop(before);
            Some(Box::new(Request::from_parts(parts, body)))
        } else {
            let mut upload = Upload {
                body: None,
                encoder: framing.encoder(),
                state: UploadState::Flowing,
                error: None,
            };
            let mut state = self.state.borrow_mut();
            let mut more = true;
            if let Some(wire) = &mut state.wire {
                more = upload.hear(first, &mut wire.out, &wire.buffers);
            }
            let over = if more {
                upload.body = Some(body);
                None
            } else {
                Some(body)
            };
            let before = std::mem::replace(&mut state.upload, upload);
            drop(state);
            drop((before, over));
            None
        };
        Ok(Sent {
            method,
            upgrade,
            reader: ResponseReader::default(),
            interims: self.settings.interims,
            written,
            read,
            whole,
        })
    }

    /// Goes on with the upload, and waits for the last head of the answer.
    pub(super) fn poll_answer(
        &self,
        sent: &mut Sent<B>,
        interim: &mut impl FnMut(StatusCode, HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Parts, u64), SendError<B>>> {
        self.pump(cx);
        loop {
            let mut state = self.state.borrow_mut();
            // Where the request can't become whole there is no answer to it, whatever the other
            // side says meanwhile.
            if state.upload.state == UploadState::Failed && state.unwritable.is_none() {
                return Poll::Ready(Err(SendError::Upload(state.upload.error.take())));
            }
            let head = match state.poll_head(sent, &self.settings, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(head)) => head,
            };
            match head.parts.status {
                StatusCode::SWITCHING_PROTOCOLS if sent.upgrade && head.upgrade => {
                    return Poll::Ready(Ok(state.switched(head)));
                }
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Poll::Ready(Err(SendError::Protocol(
                        "a switch of protocols that nobody asked for",
                    )));
                }
                status if status.is_informational() => {
                    let Some(left) = sent.interims.checked_sub(1) else {
                        return Poll::Ready(Err(SendError::Protocol("too many interim answers")));
                    };
                    sent.interims = left;
                    sent.reader = ResponseReader::default();
                    drop(state);
                    if status != StatusCode::CONTINUE {
                        interim(status, head.parts.headers);
                    }
                }
                _ => return Poll::Ready(Ok(state.answered(head, &self.settings))),
            }
        }
    }

    /// Goes on with the upload as far as it goes now; ready once there is nothing of it left to do.
    pub(super) fn poll_carry(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pump(cx);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(wire) = &mut state.wire else {
            return Poll::Ready(());
        };
        match state.upload.state {
            UploadState::Flowing if state.unwritable.is_none() => Poll::Pending,
            UploadState::Whole if state.unwritable.is_none() && !wire.out.is_flushed() => {
                Poll::Pending
            }
            UploadState::Failed if state.unwritable.is_none() => {
                // The server must not wait for the rest, nor take what it has for the whole.
                Pin::new(&mut wire.io).poll_shutdown(cx).map(|_| ())
            }
            _ => Poll::Ready(()),
        }
    }

    /// Writes what there is to write, and asks the body for more while it goes out.
    fn pump(&self, cx: &mut Context<'_>) {
        for _ in 0..ROUNDS {
            // The body has been asked, and wakes us when it has more to say.
            let mut waits = false;
            loop {
                let body = {
                    let mut state = self.state.borrow_mut();
                    let state = &mut *state;
                    match &state.wire {
                        Some(wire)
                            if state.unwritable.is_none() && state.upload.wants(&wire.out) =>
                        {
                            state.upload.body.take()
                        }
                        _ => None,
                    }
                };
                let Some(mut body) = body else { break };
                let answer = ask(&mut body, cx);
                let nothing = matches!(answer, Said::Nothing);
                let over = {
                    let mut state = self.state.borrow_mut();
                    let state = &mut *state;
                    let more = state.wire.as_mut().is_some_and(|wire| {
                        state.upload.hear(answer, &mut wire.out, &wire.buffers)
                    });
                    if more {
                        state.upload.body = Some(body);
                        None
                    } else {
                        Some(body)
                    }
                };
                drop(over);
                if nothing {
                    waits = true;
                    break;
                }
            }
            let flushed = self.state.borrow_mut().flush_quietly(cx);
            // With room again the body has to be asked: what was full before may have kept it from
            // being.
            if !flushed || waits || !self.state.borrow().wants_more() {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }
}

/// Turns of asking and writing before others have theirs.
const ROUNDS: u32 = 16;

impl<IO, B> State<IO, B>
where
    IO: Stream + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// Whether the body of the request should be asked now.
    fn wants_more(&self) -> bool {
        let wire = self.wire.as_ref();
        wire.is_some_and(|wire| self.unwritable.is_none() && self.upload.wants(&wire.out))
    }

    /// Writes what waits; whether all of it has gone out. A failure is remembered: what the server
    /// said before it still counts.
    fn flush_quietly(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(wire) = &mut self.wire else {
            return false;
        };
        if self.unwritable.is_some() {
            return false;
        }
        match wire.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
            Poll::Ready(Err(error)) => {
                wire.out.clear();
                self.unwritable = Some(error);
                if self.upload.state == UploadState::Flowing {
                    self.upload.state = UploadState::Failed;
                }
                false
            }
        }
    }

    fn poll_head(
        &mut self,
        sent: &mut Sent<B>,
        settings: &Settings,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, SendError<B>>> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(Err(SendError::Cut(None)));
        };
        loop {
            if !wire.bytes.is_empty() {
                match sent
                    .reader
                    .read(&mut wire.bytes, &sent.method, &settings.limits)
                {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(reason) => return Poll::Ready(Err(SendError::Protocol(reason))),
                }
            }
            let error = match wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => continue,
                Poll::Ready(Ok(false)) => None,
                Poll::Ready(Err(error)) => Some(error),
            };
            let error = error.or_else(|| self.unwritable.take());
            let untouched = wire.out.written() == sent.written;
            return Poll::Ready(Err(match (wire.read > sent.read, sent.whole.take()) {
                (true, _) => SendError::Cut(error),
                (false, Some(request)) if untouched => SendError::Unsent { request, error },
                (false, request) => SendError::Closed { request, error },
            }));
        }
    }

    fn answered(&mut self, head: ResponseHead, settings: &Settings) -> (Parts, u64) {
        self.waiting = false;
        self.keep = head.keep_alive;
        self.decoder = Decoder::new(head.body, settings.limits);
        (head.parts, self.message)
    }

    fn switched(&mut self, head: ResponseHead) -> (Parts, u64) {
        self.waiting = false;
        self.upgraded = true;
        self.decoder = Decoder::new(Length::None, crate::http1::head::HOP_LIMITS);
        (head.parts, self.message)
    }
}

impl<IO, B> Source for Exchange<IO, B>
where
    IO: Stream + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
{
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Both ways at once: who waits for the end of the answer must not hold up the upload.
        let _ = self.poll_carry(cx);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        match &mut state.wire {
            Some(wire) if state.message == message => wire.poll_body(&mut state.decoder, cx),
            _ if state.upgraded => Poll::Ready(None),
            _ => Poll::Ready(Some(Err(BodyError::Cut))),
        }
    }

    fn left(&self, message: u64) -> Option<u64> {
        let state = self.state.borrow();
        if state.message == message {
            state.decoder.left()
        } else {
            None
        }
    }

    fn release(&self, message: u64) {
        let mut state = self.state.borrow_mut();
        if state.message == message && !state.decoder.is_ended() {
            // Nobody reads on: the rest of this answer would stand before the next.
            state.keep = false;
        }
    }

    fn poll_upload(&self, message: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.borrow().message == message {
            self.poll_carry(cx)
        } else {
            Poll::Ready(())
        }
    }

    fn send_interim(&self, _: u64, _: StatusCode, _: &HeaderMap) -> bool {
        false
    }
}
