//! A client's connection, spoken by our own HTTP in either version.
//!
//! In: a stream whose TLS is ended and whose version is known. Out: every request of it, and every
//! head that is none, goes through the pipeline and gets one answer; behind a 101 the connection
//! becomes the tunnel that the pipeline left here.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapura_http::BoxStream;
use gapura_http::http1::server::{End, Service};
use gapura_http::http1::write::HttpDate;
use gapura_http::http1::{Incoming, Refusal, RefusalKind, Seen, server as http1};
use gapura_http2::{Owner, server as http2};
use gapura_runtime::places::Place;
use gapura_telemetry::log::Level;
use gapura_transport::body::Body;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::{Tunnel, TunnelEnd};
use http::{Request, Response};
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::pipeline::Pipeline;

/// One connection's way into the pipeline.
struct Door {
    pipeline: Rc<Pipeline>,
    client: Client,
    place: Arc<Place>,
    owner: Rc<Owner>,
    /// Behind a 101, until the connection has told that it switched.
    tunnel: RefCell<Option<Tunnel>>,
}

/// For a few bytes to go out to who began with the wrong protocol.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub(super) async fn serve(
    pipeline: &Rc<Pipeline>,
    client: Client,
    place: &Arc<Place>,
    io: BoxStream,
    http2: bool,
) {
    // A proxy's connections carry many clients, each connection its own.
    let address = Some(client.connected_from()).filter(|_| !client.is_proxy());
    let door = Door {
        pipeline: pipeline.clone(),
        client,
        place: place.clone(),
        owner: pipeline.worker.held.owner(address),
        tunnel: RefCell::default(),
    };
    let (owner, peer) = (door.owner.clone(), door.client.peer());
    let log = &pipeline.worker.spec.log;
    // Pinned where it is made, and polled by reference: moved, it would lie here twice.
    let mut served = pin!(async {
        if http2 {
            // Boxed, since a connection over HTTP/1.1 would hold the room of one over HTTP/2
            // otherwise.
            Box::pin(serve_http2(door, io)).await;
        } else {
            serve_http1(&door, io).await;
        }
    });
    tokio::select! {
        biased;
        () = &mut served => {}
        // What is dropped here is closed: its client has taken nothing, and others need the room.
        () = poll_fn(|cx| owner.poll_ended(cx)) => {
            let message = "a client has taken nothing of its answers, and holds most of what is waiting to be taken";
            let fields = [("side", "client".into()), ("peer", (&*peer).into())];
            log.event(Level::Info, "untaken", message, &fields);
        }
    }
}

async fn serve_http1(door: &Door, io: BoxStream) {
    let worker = &door.pipeline.worker;
    // Each answer says that we go as soon as we do; an idle connection closes soon after the
    // listener.
    let stop = worker.idle_ends();
    let settings = http1::Settings {
        least: door.pipeline.settings.body_rate,
        ..http1::Settings::client()
    };
    match http1::serve(io, door, &settings, &worker.timers, &worker.buffers, stop).await {
        End::Closed(_) => {}
        End::Upgraded { io, read } => {
            let tunnel = door.tunnel.borrow_mut().take();
            if let Some(tunnel) = tunnel {
                let held = Box::new(());
                tunnel.carry(TunnelEnd { io, read, held }).await;
            }
        }
        End::Http2 { io, .. } => door.unannounced(io).await,
    }
}

async fn serve_http2(door: Door, io: BoxStream) {
    let pipeline = door.pipeline.clone();
    let worker = &pipeline.worker;
    let mut stopping = worker.spec.stopping.clone();
    // A connection that was there is told to go elsewhere at once. One that comes during the delay
    // is served until the listener closes: told at once, it would carry nothing.
    let phase = match stopping.phase() {
        Phase::Run => Phase::Draining,
        _ => Phase::Closing,
    };
    let settings = http2::Settings {
        least: pipeline.settings.body_rate,
        ..http2::Settings::client()
    };
    let (share, stop) = (worker.held.open_for(&door.owner), stopping.reached(phase));
    let none = bytes::Bytes::new();
    let from = door.client.peer();
    let end = http2::serve(
        io,
        none,
        Rc::new(door),
        &settings,
        &worker.timers,
        &share,
        stop,
    )
    .await;
    if let http2::End::Protocol(reason) = end {
        worker.broke_http2("client", &from, &reason);
    }
}

impl Service for Door {
    type Body = Body;

    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.place.begin() {
            // It was told to end while this came, and its task will not be polled again.
            std::future::pending::<()>().await;
        }
        self.pipeline
            .handle(&self.client, &self.owner, request, &self.tunnel)
            .await
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.pipeline.refuse(&self.client, refusal)
    }

    fn date(&self) -> Option<HttpDate> {
        Some(self.pipeline.worker.date())
    }

    fn unsent(&self, bytes: usize) {
        self.owner.unsent(bytes);
    }

    fn is_crowded(&self) -> bool {
        self.owner.is_crowded()
    }

    fn may_drain(&self) -> bool {
        !self.pipeline.worker.is_shedding()
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

impl Door {
    /// HTTP/2 is spoken to who agreed on it in the handshake. To anybody else a bare status is all
    /// that can be said.
    async fn unannounced(&self, mut io: BoxStream) {
        let refusal = Refusal {
            kind: RefusalKind::BadRequest,
            reason: "HTTP/2 that no handshake has agreed on",
            seen: Seen::default(),
        };
        drop(self.refuse(refusal)); // for its line
        let said = async {
            io.write_all(
                b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            )
            .await?;
            io.shutdown().await
        };
        let _ = tokio::time::timeout(LAST_WORDS, said).await;
    }
}
