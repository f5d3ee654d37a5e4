//! The hop's end: takes connections from gateways, proves who they are, and hands their requests to
//! the pipeline.
//!
//! In: accepted sockets. Out: TLS 1.3 connections whose peer the handshake has judged, speaking
//! HTTP/2 or HTTP/1.1 as the gateway chose. Each is entered among the live connections, so that a
//! revoked or expired peer is cut and an old connection retires.

mod h1;
mod h2;
mod proven;
mod service;

use std::io;
use std::rc::Rc;
use std::time::Instant;

use gapura_certificates::refusal::Refusal;
use gapura_http::BoxStream;
use gapura_runtime::listen::{Accepted, Socket};
use gapura_runtime::places::Network;
use gapura_runtime::worker::Serve;
use gapura_telemetry::metrics::Side;
use gapura_transport::accept::{Shaken, shake};
use gapura_transport::live::LiveConnections;
use gapura_trust::failure::HandshakeFailure;
use gapura_trust::set::{TrustSet, TrustStore};
use tokio::net::{TcpStream, UnixStream};

use crate::authorise::AllowList;
use crate::pipeline::Pipeline;
use proven::Proven;

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
        let Shaken { stream, proven } = shake(
            stream,
            trust.server_config(),
            (&self.pipeline.worker.handshakes, &network),
        )
        .await?;
        let (peer, shown) = proven.ok_or_else(|| io::Error::other(Refusal::NoCertificate))?;
        let name: Rc<str> = peer.id.to_string().into();
        let permitted = self.allow.admit(&peer.id);
        let http2 = shown.1.http() == "h2";
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
        let message = format!("the handshake with {from} failed: {}", failure.sentence);
        let shown = ("certificate", failure.peer.clone());
        let worker = &self.pipeline.worker;
        worker.handshake_failed(Side::Hop, (from, failure.reason), &message, Some(shown));
    }
}

/// The socket on this worker's runtime, and who is at the other end.
fn opened(socket: Socket) -> io::Result<(BoxStream, String)> {
    Ok(match socket {
        Socket::Tcp(stream, from) => (Box::new(TcpStream::from_std(stream)?), from.to_string()),
        Socket::Unix(stream) => (Box::new(UnixStream::from_std(stream)?), "unix".to_owned()),
    })
}
