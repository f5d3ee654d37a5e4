//! HTTP/2 on the hop: all requests of one worker of the gateway over one connection.
//!
//! The `h2` crate directly, with gathered writes. A stream is served by a task that has it alone and takes the next one after it: a
//! request's future is kilobytes, which `Hands` saves from being allocated, copied and freed for each. A gateway that takes a
//! request back takes it from the plugin too.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use gapura_transport::body::Body;
use gapura_transport::coalesce::coalesce;
use gapura_transport::pump::{MAX_FRAME, Pump};
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::Upgraded;
use gapura_transport::upstream::h2::{CONNECTION_WINDOW, HEADER_LIST, STREAM_WINDOW};
use gapura_transport::verdict::Verdict;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use tokio::task::JoinSet;

use super::proven::{HANDSHAKE_WITHIN, Proven};
use crate::authorise::{Denied, PermittedPeer};
use crate::pipeline::{Arrived, Pipeline};

/// Streams at a time on one connection; the gateway opens another beyond.
const STREAMS: u32 = 256;

/// Tasks of a connection that wait for their next stream; those beyond end.
const HANDS: usize = 64;

struct Streams {
    pipeline: Rc<Pipeline>,
    peer: Result<PermittedPeer, Denied>,
    name: Rc<str>,
    /// Those that have nothing to do.
    idle: RefCell<Vec<Rc<Hand>>>,
}

type Stream = (Request<RecvStream>, SendResponse<Bytes>);

/// A task that serves one stream after another.
#[derive(Default)]
struct Hand {
    next: RefCell<Option<Stream>>,
    waiting: RefCell<Option<Waker>>,
}

/// Serves one connection to its end.
pub(super) async fn serve(pipeline: &Rc<Pipeline>, proven: Proven) {
    let Proven {
        stream,
        peer,
        name,
        guard,
    } = proven;
    let (half, flusher) = coalesce(stream);
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_streams(STREAMS)
        .handshake::<_, Bytes>(half);
    let Ok(Ok(mut connection)) = tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await else {
        return;
    };
    let denied = peer.is_err();
    let streams = Rc::new(Streams {
        pipeline: pipeline.clone(),
        peer,
        name,
        idle: RefCell::default(),
    });
    let mut tasks = JoinSet::new();
    let mut stopping = pipeline.core.seed.stopping.clone();
    let mut verdict = guard.verdict();
    // A connection that was there is told to go elsewhere at once. One that comes during the delay is served until the listener
    // closes: told at once, it would carry nothing.
    let mut closes_at = if stopping.phase() == Phase::Run {
        Phase::Draining
    } else {
        Phase::Closing
    };
    loop {
        // What the tasks have put into h2 since the last turn goes out in one write.
        let turn = poll_fn(|cx| {
            while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
            let mut over = false;
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        if let Some(hand) = streams.give((request, respond)) {
                            tasks.spawn_local(Box::pin(streams.clone().serve(hand)));
                        }
                        if denied {
                            connection.graceful_shutdown();
                        }
                    }
                    Poll::Ready(Some(Err(_)) | None) => {
                        over = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            let flushed = flusher.poll_flush(cx);
            if over || matches!(flushed, Poll::Ready(Err(_))) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            biased;
            changed = verdict.changed() => match (changed, *verdict.borrow_and_update()) {
                (Ok(()), Verdict::Run) => {}
                (Ok(()), Verdict::Retire) => connection.graceful_shutdown(),
                (Ok(()), Verdict::Cut(_)) | (Err(_), _) => return,
            },
            () = stopping.reached(closes_at), if closes_at < Phase::Cut => {
                connection.graceful_shutdown();
                closes_at = Phase::Cut;
            }
            () = turn => return,
        }
    }
}

impl Hand {
    async fn take(&self) -> Stream {
        poll_fn(|cx| match self.next.borrow_mut().take() {
            Some(stream) => Poll::Ready(stream),
            None => {
                *self.waiting.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Streams {
    /// Gives a stream to a hand that is idle; a new one, if there is none, is yet to be set to work.
    fn give(&self, stream: Stream) -> Option<Rc<Hand>> {
        let idle = self.idle.borrow_mut().pop();
        let hand = idle.clone().unwrap_or_default();
        *hand.next.borrow_mut() = Some(stream);
        let waiting = hand.waiting.borrow_mut().take();
        if let Some(waker) = waiting {
            waker.wake();
        }
        idle.is_none().then_some(hand)
    }

    async fn serve(self: Rc<Self>, hand: Rc<Hand>) {
        loop {
            let (request, respond) = hand.take().await;
            self.stream(request, respond).await;
            let mut idle = self.idle.borrow_mut();
            if idle.len() >= HANDS {
                return;
            }
            idle.push(hand.clone());
        }
    }

    async fn stream(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let core = &self.pipeline.core;
        let length = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let head_only = request.method() == http::Method::HEAD;
        let request = request.map(|received| {
            if received.is_end_stream() {
                Body::empty()
            } else {
                Body::hop(core.streams.enter(received, length, None))
            }
        });
        let no_upgrade = Upgraded::default();
        let handled = pin!(self.pipeline.handle(
            &self.peer,
            &self.name,
            request,
            Arrived::default(),
            &no_upgrade
        ));
        let Some(response) = unless_reset(handled, &mut respond).await else {
            return;
        };
        let (mut head, body) = response.into_parts();
        head.version = http::Version::HTTP_2;
        let ended = body.is_ended() || head_only;
        match respond.send_response(Response::from_parts(head, ()), ended) {
            // Whether it arrives whole shows in the body's record.
            Ok(stream) if !ended => {
                let _ = Pump::new(body, stream, &core.timers).await;
            }
            Ok(_) => {}
            Err(_) => respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

/// The answer, unless the gateway takes the request back first.
async fn unless_reset(
    mut handled: Pin<&mut impl Future<Output = Response<Body>>>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<Body>> {
    poll_fn(|cx| {
        if let Poll::Ready(response) = handled.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        respond.poll_reset(cx).map(|_| None)
    })
    .await
}
