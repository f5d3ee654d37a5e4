//! The body of a request on its way out, beside the answer.
//!
//! A body of known length is written whole when its bytes are. What the body still says after that
//! is heard if it says it in time, so that it can tell its own end from being dropped; it decides
//! nothing.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::buffers::Buffers;
use crate::http1::outbox::{GATHERED, Outbox};
use crate::http1::write::Encoder;

/// A body being written.
pub(super) struct Upload<B: Body> {
    /// Until it has said that it is at its end.
    pub(super) body: Option<B>,
    pub(super) encoder: Encoder,
    pub(super) state: UploadState,
    /// Why it failed, if the body said so.
    pub(super) error: Option<B::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadState {
    Flowing,
    /// All of it is written, or on its way.
    Whole,
    /// It will never be whole.
    Failed,
}

/// What the body said when it was asked.
pub(super) enum Said<B: Body> {
    Frame(Frame<Bytes>),
    End,
    Error(B::Error),
    Nothing,
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    pub(super) fn none() -> Self {
        Self {
            body: None,
            encoder: Encoder::None,
            state: UploadState::Whole,
            error: None,
        }
    }

    /// Whether the body should be asked now: it has more to say, and there is room.
    pub(super) fn wants(&self, out: &Outbox) -> bool {
        self.body.is_some() && self.state != UploadState::Failed && out.len() < GATHERED
    }

    /// Takes in what the body said; whether it has more to say. It is for the caller to drop,
    /// outside of any borrow.
    pub(super) fn hear(&mut self, said: Said<B>, out: &mut Outbox, buffers: &Buffers) -> bool {
        match said {
            Said::Nothing => true,
            Said::Frame(frame) => match frame.into_data() {
                Ok(data) => {
                    let fits = self.encoder.data(data, out, buffers).is_ok();
                    if self.encoder.is_complete() && self.state == UploadState::Flowing {
                        self.state = UploadState::Whole;
                    }
                    // More came than was announced: what was announced is written, and no more.
                    fits
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        self.finish(Some(&trailers), out, buffers);
                        false
                    }
                    Err(_) => true,
                },
            },
            Said::End => {
                self.finish(None, out, buffers);
                false
            }
            Said::Error(error) => {
                if self.state == UploadState::Flowing {
                    self.state = UploadState::Failed;
                    self.error = Some(error);
                }
                false
            }
        }
    }

    fn finish(&mut self, trailers: Option<&http::HeaderMap>, out: &mut Outbox, buffers: &Buffers) {
        if self.state == UploadState::Flowing {
            self.state = match self.encoder.end(trailers, out, buffers) {
                Ok(()) => UploadState::Whole,
                Err(_) => UploadState::Failed,
            };
        }
    }
}

/// Asks a body for what it has to say.
pub(super) fn ask<B: Body<Data = Bytes> + Unpin>(body: &mut B, cx: &mut Context<'_>) -> Said<B> {
    match Pin::new(body).poll_frame(cx) {
        Poll::Pending => Said::Nothing,
        Poll::Ready(None) => Said::End,
        Poll::Ready(Some(Ok(frame))) => Said::Frame(frame),
        Poll::Ready(Some(Err(error))) => Said::Error(error),
    }
}
