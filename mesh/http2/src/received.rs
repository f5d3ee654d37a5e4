//! One body on its way in.
//!
//! In: the receiving half of a stream, and what its head said. Out: frames, and how the body ended.
//! A body of known length is whole when its bytes are, whatever the stream still says; trailers
//! that came with the last of them pass all the same, and those that the head announced are waited
//! for. Bytes are credited to the sender when they are taken: who asks for a frame has room for it.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::TRAILER;
use http_body::Frame;

use super::length::Left;
use super::watch::Marked;
use gapura_http::http1::body::BodyError;
use gapura_http::http1::fields::may_trail;

/// What is read.
pub(super) struct Received {
    stream: RecvStream,
    left: Left,
    /// They were read already, in looking for the end.
    trailers: Option<HeaderMap>,
    announced: bool,
    most_trailers: usize,
    at: At,
    /// The end of the stream came with its head.
    ended: bool,
    /// Whether the peer ends a whole message by a reset without an error, as servers do.
    resets_to_end: bool,
    /// Streams whose trailers are none.
    marked: Option<Marked>,
    /// This is one of them.
    pub(super) malformed: bool,
    /// Bytes taken, for those who want to see it move.
    pub(super) taken: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Body,
    /// Nothing more is of interest.
    End,
    Failed(BodyError),
}

impl Received {
    /// Reads the body of a request or, if `answer`, of an answer.
    pub(super) fn new(
        stream: RecvStream,
        left: Left,
        headers: &HeaderMap,
        most_trailers: usize,
        answer: bool,
    ) -> Self {
        let ended = stream.is_end_stream();
        let announced = !ended && left.get().is_some() && headers.contains_key(TRAILER);
        let at = if ended || (left.is_whole() && !announced) {
            At::End
        } else {
            At::Body
        };
        Self {
            announced,
            left,
            trailers: None,
            most_trailers,
            at,
            ended,
            resets_to_end: answer,
            marked: None,
            malformed: false,
            taken: 0,
            stream,
        }
    }

    /// The same, of a client whose frames are watched.
    pub(super) fn watched(mut self, marked: &Marked) -> Self {
        self.marked = Some(marked.clone());
        self
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                self.at = At::End;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            match self.at {
                At::Body => {}
                At::End => return Poll::Ready(None),
                At::Failed(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if data.is_empty() {
                        continue;
                    }
                    self.taken += data.len() as u64;
                    self.left.pass(data.len());
                    if self.left.is_whole() {
                        self.look_behind(cx);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => self.failed(&error),
                None => match ready!(self.stream.poll_trailers(cx)) {
                    Ok(Some(trailers)) => self.trailing(trailers),
                    Ok(None) => self.at = At::End,
                    Err(error) => self.failed(&error),
                },
            }
        }
    }

    /// Behind the last byte of a known length: trailers may have come with it.
    fn look_behind(&mut self, cx: &mut Context<'_>) {
        match self.stream.poll_trailers(cx) {
            Poll::Ready(Ok(Some(trailers))) => self.trailing(trailers),
            Poll::Pending if self.announced => {}
            Poll::Ready(_) | Poll::Pending => self.at = At::End,
        }
    }

    fn trailing(&mut self, trailers: HeaderMap) {
        let stream = self.stream.stream_id().as_u32();
        if self
            .marked
            .as_ref()
            .is_some_and(|marked| marked.take(stream))
        {
            self.malformed = true;
            self.trailers = None;
            self.at = At::Failed(BodyError::Bad("a pseudo-header among trailers"));
            return;
        }
        if trailers.len() > self.most_trailers {
            self.at = At::Failed(BodyError::Bad("too many trailers"));
            return;
        }
        let passing = passing(trailers);
        if passing.is_empty() {
            self.at = At::End;
        } else {
            self.trailers = Some(passing);
        }
    }

    fn failed(&mut self, error: &h2::Error) {
        let whole_by_reset = self.resets_to_end && error.reason() == Some(Reason::NO_ERROR);
        self.at = if self.left.is_whole() || (whole_by_reset && !self.left.is_short()) {
            At::End
        } else {
            At::Failed(fault(error))
        };
    }

    /// Nobody may read any more, for this reason.
    pub(super) fn fail(&mut self, error: BodyError) {
        self.at = At::Failed(error);
        self.trailers = None;
    }

    /// Whether nothing is left to come that is of interest.
    pub(super) fn is_end(&self) -> bool {
        match self.at {
            At::Body => {
                // `h2` is asked last, and not while bytes are known to come: each question to it
                // takes a lock.
                self.trailers.is_none()
                    && ((self.left.is_whole() && !self.announced)
                        || (!self.left.is_short() && self.stream.is_end_stream()))
            }
            At::End => true,
            At::Failed(_) => false,
        }
    }

    /// How many bytes are to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        if self.is_end() {
            Some(0)
        } else {
            self.left.get()
        }
    }

    /// Bytes that have come and that nobody has taken.
    pub(super) fn held(&mut self) -> usize {
        self.stream.flow_control().used_capacity()
    }

    /// Reads past what comes. Ready, with whether the stream's end was seen, once it has ended or
    /// `most` bytes have come.
    pub(super) fn poll_drain(&mut self, most: &mut u64, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if *most == 0 {
                return Poll::Ready(false);
            }
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    match most.checked_sub(data.len() as u64) {
                        Some(rest) => *most = rest,
                        None => *most = 0,
                    }
                }
                Some(Err(_)) | None => return Poll::Ready(true),
            }
        }
    }

    /// Whether the peer has ended the stream, or broken it.
    pub(super) fn is_closed(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }
}

/// The trailers that may pass; others are left out, as fields that nobody may rely on there.
fn passing(trailers: HeaderMap) -> HeaderMap {
    if trailers.keys().all(may_trail) {
        return trailers;
    }
    let mut passing = HeaderMap::new();
    for (name, value) in &trailers {
        if may_trail(name) {
            passing.append(name, value.clone());
        }
    }
    passing
}

/// Whose fault it was.
fn fault(error: &h2::Error) -> BodyError {
    if let Some(error) = error.get_io() {
        return BodyError::Gone(error.kind());
    }
    if error.is_library() {
        // What `h2` found wrong with the peer's frames: more or fewer bytes than announced, most of
        // all.
        return match error.reason() {
            Some(Reason::PROTOCOL_ERROR) => BodyError::Bad(
                "the body is not as long as it was announced, or its frames are malformed",
            ),
            Some(Reason::FLOW_CONTROL_ERROR) => BodyError::Bad("more was sent than was asked for"),
            _ => BodyError::Bad("the frames of the body are malformed"),
        };
    }
    if error.is_go_away() {
        return BodyError::Gone(io::ErrorKind::ConnectionReset);
    }
    BodyError::Cut
}
