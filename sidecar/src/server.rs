//! The hop's end: takes connections from gateways, proves who they are, and hands their requests to the pipeline.
//!
//! In: accepted sockets. Out: TLS 1.3 connections whose peer the handshake has judged, speaking HTTP/2 or HTTP/1.1 as the gateway
//! chose. Each is entered among the live connections, so that a revoked or expired peer is cut and an old connection retires.

mod h1;
mod h2;
mod proven;
mod service;

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gapura_http::BoxStream;
use gapura_runtime::listen::{Accepted, Socket};
use gapura_runtime::places::Network;
use gapura_runtime::worker::Serve;
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::Side;
use gapura_transport::live::LiveConnections;
use gapura_transport::session::Session;
use gapura_trust::failure::HandshakeFailure;
use gapura_trust::peer::Peer;
use gapura_trust::set::{TrustSet, TrustStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::authorise::AllowList;
use crate::pipeline::Pipeline;
use proven::{HANDSHAKE_WITHIN, Proven};

/// One worker's end of the hop.
pub(crate) struct Server {
    /// What a request goes through.
    pub(crate) pipeline: Rc<Pipeline>,
    /// Who may connect.
    pub(crate) allow: AllowList,
    /// The trust in force.
    pub(crate) trust: TrustStore,
    /// The program's live connections.
    pub(crate) live: LiveConnections,
}

/// For a peer that was refused to notice.
const LINGER: Duration = Duration::from_secs(1);

impl Serve for Server {
    async fn connection(self: Rc<Self>, accepted: Accepted) {
        let Accepted { socket, slot } = accepted;
        let Ok((stream, from)) = opened(socket) else {
            return;
        };
        let trust = self.trust.load_full();
        let proven = match self.prove(stream, slot.network(), &trust).await {
            Ok(proven) => proven,
            Err(error) => return self.failed(&trust.explain(&error), &from),
        };
        slot.proven();
        let _open = self.pipeline.worker.count_open(Side::Hop);
        if proven.http2 {
            h2::serve(&self.pipeline, proven, slot.place()).await;
        } else {
            h1::serve(&self.pipeline, proven, slot.place()).await;
        }
    }

    fn sweep(&self) {
        self.pipeline.plugin.sweep();
    }
}

impl Server {
    async fn prove(
        &self,
        stream: BoxStream,
        network: Network,
        trust: &TrustSet,
    ) -> io::Result<Proven> {
        let acceptor = TlsAcceptor::from(trust.server_config());
        let handshake = pin!(acceptor.accept(stream).into_fallible());
        // Who has no certificate takes turns with who has one, and requests go on beside all of them.
        let handshake = self.pipeline.worker.handshakes.paced(&network, handshake);
        let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
        {
            Ok(stream) => stream,
            Err((error, stream)) => {
                linger(stream).await;
                return Err(error);
            }
        };
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let chain: Vec<_> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|part| part.clone().into_owned())
            .collect();
        let peer = Peer::of_judged_chain(&chain).map_err(io::Error::other)?;
        let name: Rc<str> = peer.id.to_string().into();
        let permitted = self.allow.admit(&peer.id);
        let shown = (chain, Session::of(session));
        let guard = self
            .live
            .admit(Side::Hop, peer, shown, trust.generation(), Instant::now());
        Ok(Proven {
            stream: stream.into(),
            http2,
            peer: permitted,
            name,
            guard,
        })
    }

    /// One line for each failed handshake, with the reason and the peer's address.
    fn failed(&self, failure: &HandshakeFailure, from: &str) {
        let spec = &self.pipeline.worker.spec;
        spec.meters.handshake_failed(Side::Hop, failure.reason);
        let message = format!("the handshake with {from} failed: {}", failure.sentence);
        let shown = failure.peer.clone();
        let fields = [
            ("side", "hop".into()),
            ("reason", failure.reason.into()),
            ("peer", from.into()),
            ("certificate", shown.into()),
        ];
        spec.log
            .event(Level::Warn, "handshake_failed", &message, &fields);
    }
}

/// The socket on this worker's runtime, and who is at the other end.
fn opened(socket: Socket) -> io::Result<(BoxStream, String)> {
    Ok(match socket {
        Socket::Tcp(stream, from) => (Box::new(TcpStream::from_std(stream)?), from.to_string()),
        Socket::Unix(stream) => (Box::new(UnixStream::from_std(stream)?), "unix".to_owned()),
    })
}

/// Lets the peer read our alert: a socket that is closed with bytes unread takes back what it has sent.
async fn linger(mut stream: BoxStream) {
    let mut discarded = [0; 4096];
    let read = async {
        stream.shutdown().await?;
        while stream.read(&mut discarded).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, read).await;
}
