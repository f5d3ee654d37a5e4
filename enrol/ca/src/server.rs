//! The server's end of a connection: TLS 1.3, and who is at the other end, if anybody.
//!
//! In: accepted sockets. Out: connections over HTTP/1.1 whose peer the handshake has judged, or who
//! showed no certificate and is a stranger. A peer's connection is entered among the live ones, so
//! that one who is revoked is cut; a stranger's may last a minute.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_certificates::peer::Peer;
use gapura_http::BoxStream;
use gapura_runtime::listen::{Accepted, Socket};
use gapura_runtime::places::Network;
use gapura_runtime::worker::{Serve, Worker};
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::Side;
use gapura_transport::accept::{Shaken, shake};
use gapura_transport::live::{LiveConnections, LiveGuard};
use gapura_transport::verdict::Verdict;
use gapura_trust::failure::HandshakeFailure;
use gapura_trust::set::{TrustSet, TrustStore};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::herald::Ends;
use crate::service::{Desk, Guest};

/// One worker's end.
pub(crate) struct Server {
    pub(crate) worker: Rc<Worker>,
    /// Answers requests.
    pub(crate) desk: Rc<Desk>,
    /// The trust in force.
    pub(crate) trust: TrustStore,
    /// The program's live connections.
    pub(crate) live: LiveConnections,
    /// The last worker to end ends the thread that looks for news.
    #[expect(dead_code, reason = "held for when it is dropped")]
    pub(crate) ends: Arc<Ends>,
}

/// For the head of a request, and between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// For a stranger to get what it came for: longer than the office takes.
const STRANGER_WITHIN: Duration = Duration::from_secs(60);

/// The least that hyper takes: heads here are short.
const BUFFER: usize = 8 << 10;

/// A connection that was let in.
struct Opened {
    stream: TlsStream<BoxStream>,
    /// Whom the handshake has proven, and its place among the live connections.
    peer: Option<(Peer, LiveGuard)>,
}

impl Serve for Server {
    async fn connection(self: Rc<Self>, accepted: Accepted) {
        let Accepted { socket, slot } = accepted;
        let Ok((stream, from, address)) = opened(socket) else {
            return;
        };
        let trust = self.trust.load_full();
        let opened = match self.prove(stream, slot.network(), &trust).await {
            Ok(opened) => opened,
            Err(error) => return self.failed(&trust.explain(&error), &from),
        };
        // The set and its lists are not this connection's to keep.
        drop(trust);
        let _open = self.worker.count_open(Side::Client);
        let Opened { stream, peer } = opened;
        let (peer, guard) = peer.unzip();
        if guard.is_some() {
            slot.proven();
        }
        let guest = Guest {
            peer,
            from,
            address,
            place: slot.place().clone(),
        };
        let served = self.serve(stream, guest);
        match guard {
            Some(guard) => tokio::select! {
                biased;
                () = cut(&guard) => {}
                () = served => {}
            },
            None => {
                let _ = tokio::time::timeout(STRANGER_WITHIN, served).await;
            }
        }
    }

    fn sweep(&self) {}
}

impl Server {
    async fn prove(
        &self,
        stream: BoxStream,
        network: Network,
        trust: &TrustSet,
    ) -> io::Result<Opened> {
        let Shaken { stream, proven } = shake(
            stream,
            trust.server_config(),
            (&self.worker.handshakes, &network),
        )
        .await?;
        let peer = proven.map(|(peer, shown)| {
            let (live, now) = (&self.live, Instant::now());
            let guard = live.admit(Side::Client, peer.clone(), shown, trust.generation(), now);
            (peer, guard)
        });
        Ok(Opened { stream, peer })
    }

    async fn serve(&self, stream: TlsStream<BoxStream>, guest: Guest) {
        let guest = Rc::new(guest);
        let desk = self.desk.clone();
        let service = hyper::service::service_fn({
            let guest = guest.clone();
            move |request| {
                let (desk, guest) = (desk.clone(), guest.clone());
                async move { Ok::<_, std::convert::Infallible>(desk.answer(&guest, request).await) }
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return, // one that breaks off is of no interest
            () = self.worker.idle_ends() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    /// One line for each failed handshake, with the reason and the peer's address.
    fn failed(&self, failure: &HandshakeFailure, from: &str) {
        let seed = &self.worker.spec;
        seed.meters.handshake_failed(Side::Client, failure.reason);
        let message = format!("the handshake with {from} failed: {}", failure.sentence);
        let fields = [
            ("side", "client".into()),
            ("reason", failure.reason.into()),
            ("peer", from.into()),
            ("certificate", failure.peer.clone().into()),
        ];
        seed.log
            .event(Level::Warn, "handshake_failed", &message, &fields);
    }
}

/// The socket on this worker's runtime, and who is at the other end.
fn opened(socket: Socket) -> io::Result<(BoxStream, String, Option<IpAddr>)> {
    Ok(match socket {
        Socket::Tcp(stream, from) => (
            Box::new(TcpStream::from_std(stream)?),
            from.to_string(),
            Some(from.ip()),
        ),
        Socket::Unix(stream) => (
            Box::new(UnixStream::from_std(stream)?),
            "unix".to_owned(),
            None,
        ),
    })
}

/// Ready when the trust in force ends the connection.
async fn cut(guard: &LiveGuard) {
    let _ = guard
        .verdict()
        .wait_for(|verdict| matches!(verdict, Verdict::Cut(_)))
        .await;
}
