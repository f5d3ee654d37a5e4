//! What both versions of HTTP on the hop ask: the pipeline, for one connection whose peer is
//! proven.
//!
//! In: requests and refused heads. Out: answers, of which the last says that it is; and, behind a
//! 101, the tunnel, which waits here until the connection has told that it switched.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use gapura_http::http1::server::Service;
use gapura_http::http1::{Incoming, Refusal};
use gapura_http2::Owner;
use gapura_runtime::places::Place;
use gapura_telemetry::log::Level;
use gapura_transport::body::Body;
use gapura_transport::live::LiveGuard;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::Tunnel;
use gapura_transport::verdict::Verdict;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};

use crate::authorise::{Denied, PermittedPeer};
use crate::pipeline::Pipeline;

/// One connection's way into the pipeline.
pub(super) struct Hop {
    pub(super) pipeline: Rc<Pipeline>,
    pub(super) peer: Result<PermittedPeer, Denied>,
    pub(super) name: Rc<str>,
    pub(super) place: Arc<Place>,
    /// For whom streams hold what the gateway does not take.
    pub(super) owner: Rc<Owner>,
    pub(super) tunnel: RefCell<Option<Tunnel>>,
}

impl Service for Hop {
    type Body = Body;

    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.place.begin() {
            // It was told to end while this came, and its task will not be polled again.
            std::future::pending::<()>().await;
        }
        let answer = self
            .pipeline
            .handle(&self.peer, &self.name, &self.owner, request, &self.tunnel)
            .await;
        self.last(answer)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.last(self.pipeline.refuse(&self.name, refusal))
    }

    fn idle(&self, _served: u64) {
        self.place.rest();
    }

    fn panicked(&self) {
        let message = "a request ended in a panic; all others go on";
        let log = &self.pipeline.worker.spec.log;
        log.event(Level::Error, "panic", message, &[]);
    }
}

impl Hop {
    /// Says of an answer that it is the last, where the peer is not to come again or we are going.
    fn last(&self, mut response: Response<Body>) -> Response<Body> {
        let goes = self.peer.is_err() || self.pipeline.worker.spec.stopping.phase() != Phase::Run;
        if goes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Ready when a connection is to take no further request: the trust in force says so, or the
/// program's end, `going`.
pub(super) async fn told_to_go(guard: &LiveGuard, going: impl Future<Output = ()>) {
    let mut verdict = guard.verdict();
    let retired = pin!(async {
        let _ = verdict.wait_for(|verdict| *verdict != Verdict::Run).await;
    });
    either(retired, pin!(going)).await;
}

/// Ready when the trust in force ends the connection.
pub(super) async fn cut(guard: &LiveGuard) {
    let _ = guard
        .verdict()
        .wait_for(|verdict| matches!(verdict, Verdict::Cut(_)))
        .await;
}

async fn either(
    mut one: std::pin::Pin<&mut impl Future<Output = ()>>,
    mut other: std::pin::Pin<&mut impl Future<Output = ()>>,
) {
    std::future::poll_fn(|cx| {
        if one.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        other.as_mut().poll(cx)
    })
    .await;
}
