//! One request and its answer: what is recorded of it, and how far its body has come.
//!
//! Begun with the head; carried by the answer's body from then on, so that the record is closed
//! when that body is dropped, sent or not. Knows no stage: what a request meets in between writes
//! into the record.

use std::rc::Rc;

use bytes::Bytes;
use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::{self, By, Code};
use gapura_protocol::grpc;
use gapura_protocol::headers::{Kind, Stripped};
use gapura_telemetry::access::CLIENT_GONE;
use gapura_telemetry::access::{Record, Sink};
use gapura_transport::body::{Attachment, Body, BodyFault, End, Upload};
use gapura_transport::tunnel::{Traffic, Tunnel};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

/// One request and its answer.
pub struct Exchange {
    /// What its line and the counters say.
    pub record: Record,
    /// The request's body, once somebody reads it.
    pub upload: Option<Rc<Upload>>,
    /// Behind a 101: what has gone either way.
    traffic: Option<Rc<Traffic>>,
    /// The media type of a gRPC request, whose refusals have a form of their own.
    grpc: Option<HeaderValue>,
}

impl Exchange {
    /// Begins one.
    #[must_use]
    pub fn begin(
        sink: &Rc<Sink>,
        request_id: RequestId,
        method: Method,
        peer: Rc<str>,
    ) -> Box<Self> {
        Box::new(Self {
            record: sink.begin(request_id, method, peer),
            upload: None,
            traffic: None,
            grpc: None,
        })
    }

    /// Has a refusal take the form that the client of this request reads.
    pub fn answers_as_asked(&mut self, head: &Parts) {
        if head.method == Method::POST {
            self.grpc = grpc::content_type(&head.headers).cloned();
        }
    }

    /// Goes with the answer's body; behind a 101 with `tunnel`, so that its line says how long that
    /// lasted and what has gone either way.
    #[must_use]
    pub fn carried(
        mut self: Box<Self>,
        answer: Response<Body>,
        tunnel: Option<&mut Tunnel>,
    ) -> Response<Body> {
        match tunnel.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
            None => answer.map(|body| body.with(self)),
            Some(tunnel) => {
                self.record.switches();
                self.traffic = Some(tunnel.traffic());
                tunnel.hold(self);
                answer
            }
        }
    }

    /// Ends it with a refusal in the envelope, or in gRPC's own form. The record has the status of
    /// the envelope either way. A client that broke its own request off may still read one; the
    /// record says that it is gone.
    #[must_use]
    pub fn refuse(mut self: Box<Self>, code: Code, by: By) -> Response<Body> {
        self.record.status = match code {
            Code::ClientGone => CLIENT_GONE,
            _ => code.status().as_u16(),
        };
        self.record.code = Some(code);
        let code = match code {
            Code::ClientGone => Code::BadRequest,
            _ => code,
        };
        let refusal: Response<Bytes> = match &self.grpc {
            Some(kind) => grpc::refusal(code, kind, &self.record.request_id),
            None => envelope::refusal(code, by, &self.record.request_id),
        };
        refusal.map(|body| Body::full(body).with(self))
    }
}

impl Attachment for Exchange {
    fn bytes(&mut self, count: u64) {
        self.record.bytes_out += count;
    }

    /// An answer that broke is passed on as broken, and one that its reader left has not arrived:
    /// what is recorded must not look like a good one.
    fn ended(&mut self, end: End) {
        let (status, code, reason) = match end {
            End::Whole | End::CutShort => return,
            End::Unread if self.record.is_cut() => {
                let why = "the time to drain was over";
                (self.record.status, Code::AnswerCut, Some(why))
            }
            // A refusal has said why already. Where nobody took it, it is not the sender that broke
            // it off.
            End::Unread | End::Broken(BodyFault::Stalled) if self.record.code.is_some() => return,
            End::Unread | End::Broken(BodyFault::Stalled) => (CLIENT_GONE, Code::ClientGone, None),
            End::Broken(fault) => {
                let why = fault.reason();
                (self.record.status, Code::AnswerCut, Some(why))
            }
        };
        self.record.status = status;
        self.record.code = Some(code);
        self.record.reason = reason.or(self.record.reason);
    }

    fn trailers(&mut self, taken: &Stripped) {
        self.record.stripped.add(Kind::Trailer, taken.total());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            self.record.bytes_in = upload.bytes();
        }
        if let Some(traffic) = &self.traffic {
            (self.record.bytes_in, self.record.bytes_out) = traffic.bytes();
        }
        // It went away before there was an answer.
        if self.record.status == CLIENT_GONE && !self.record.is_cut() {
            self.record.code.get_or_insert(Code::ClientGone);
        }
    }
}
