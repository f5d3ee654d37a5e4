//! The door: takes connections from clients and ends their TLS.
//!
//! In: accepted sockets, of trusted proxies with the client's address in front where they are told
//! to say it. Out: HTTP/1.1 or HTTP/2, as the client chose by ALPN, spoken by `door` until the
//! connection ends, or until the certificate does that its client has shown. A failed handshake
//! leaves one line; nothing a client does to its own connection is felt on another.

mod door;
mod proxy_protocol;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use gapura_http::BoxStream;
use gapura_reload::clients::{ClientProof, ClientTrust, Ended};
use gapura_runtime::listen::{Accepted, Socket};
use gapura_runtime::places::Network;
use gapura_runtime::worker::Serve;
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::Side;
use gapura_transport::secured::Secured;
use gapura_trust::failure::handshake_refusal;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;
use crate::limits::HANDSHAKE_WITHIN;
use crate::pipeline::Pipeline;

/// One worker's door.
pub(crate) struct Server {
    /// What a request goes through.
    pub(crate) pipeline: Rc<Pipeline>,
    /// How clients are spoken to; in plain HTTP if `None`.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Who judges clients' certificates, where they are asked for.
    pub(crate) clients: Option<ClientTrust>,
}

/// A connection whose handshake, if it needed one, is done.
struct Opened {
    io: BoxStream,
    http2: bool,
    /// The certificate whose key the client proved.
    proof: Option<ClientProof>,
}

impl Serve for Server {
    async fn connection(self: Rc<Self>, accepted: Accepted) {
        let Accepted { socket, mut slot } = accepted;
        // Clients come to a port; there is no other door.
        let Socket::Tcp(stream, from) = socket else {
            return;
        };
        let worker = &self.pipeline.worker;
        let (stream, from) = match self.introduced(stream, from).await {
            Ok(introduced) => introduced,
            Err(error) => return self.unintroduced(&error, &from.to_string()),
        };
        if !slot.is_of(from.ip()) {
            return; // its address has its share; that was told when it came to it
        }
        // Boxed: a handshake's frame is of no use to the connection that follows.
        let Opened { io, http2, proof } = match Box::pin(self.open(stream, slot.network())).await {
            Ok(opened) => opened,
            Err(error) => return self.failed(&error, &from.to_string()),
        };
        let _open = worker.count_open(Side::Client);
        let is_proxy = self.pipeline.settings.is_proxy(from.ip().to_canonical());
        let client = Client::new(from, self.tls.is_some(), is_proxy)
            .proving(proof.as_ref().map(ClientProof::thumbprint));
        let served = pin!(door::serve(&self.pipeline, client, slot.place(), io, http2));
        match (&self.clients, &proof) {
            (Some(clients), Some(proof)) => tokio::select! {
                () = served => {}
                // What is dropped here is closed, with whatever is under way on it.
                ended = clients.ended(proof, &worker.spec.clock) => self.ended(ended, &from.to_string()),
            },
            _ => served.await,
        }
    }

    fn sweep(&self) {
        self.pipeline.upstreams.sweep();
    }
}

impl Server {
    /// The stream at its client's first byte, and who that is: whom a trusted proxy names, where it
    /// is told to.
    async fn introduced(
        &self,
        stream: std::net::TcpStream,
        from: SocketAddr,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let mut stream = TcpStream::from_std(stream)?;
        let settings = &self.pipeline.settings;
        if !settings.proxy_protocol || !settings.is_proxy(from.ip().to_canonical()) {
            return Ok((stream, from));
        }
        let named = proxy_protocol::read(&mut stream);
        let named = tokio::time::timeout(HANDSHAKE_WITHIN, named)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        Ok((stream, named.unwrap_or(from)))
    }

    async fn open(&self, stream: TcpStream, network: Network) -> io::Result<Opened> {
        let Some(config) = &self.tls else {
            return Ok(Opened {
                io: Box::new(stream),
                http2: false,
                proof: None,
            });
        };
        let handshake = pin!(TlsAcceptor::from(config.clone()).accept(stream));
        // Others who shake hands have their turns too, and requests go on beside all of them.
        let handshake = self.pipeline.worker.handshakes.paced(&network, handshake);
        let stream = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let clients = self.clients.as_ref();
        let proof = clients.and_then(|clients| clients.proof(session.peer_certificates()));
        Ok(Opened {
            io: Box::new(Secured::from(stream)),
            http2,
            proof,
        })
    }

    /// One line for each connection that ends with its certificate.
    fn ended(&self, ended: Ended, from: &str) {
        let (reason, why) = match ended {
            Ended::Expired => ("expired", "has expired"),
            Ended::Revoked => ("revoked", "is no longer cleared by --client-ca and its CRL"),
        };
        let message = format!("the connection of {from} is closed: its certificate {why}");
        let fields = [
            ("side", "client".into()),
            ("reason", reason.into()),
            ("peer", from.into()),
        ];
        let log = &self.pipeline.worker.spec.log;
        log.event(Level::Warn, "connection_closed", &message, &fields);
    }

    /// One line for each trusted proxy that does not say whose connection it is.
    fn unintroduced(&self, error: &io::Error, from: &str) {
        let why = match error.kind() {
            io::ErrorKind::TimedOut => "its PROXY header took too long".to_owned(),
            io::ErrorKind::UnexpectedEof => "it ended before its PROXY header did".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("the connection of {from} is closed: {why}");
        let worker = &self.pipeline.worker;
        worker.handshake_failed(Side::Client, (from, "proxy_protocol"), &message, None);
    }

    /// One line for each failed handshake, with the reason and the client's address.
    fn failed(&self, error: &io::Error, from: &str) {
        let failure = handshake_refusal(error);
        let message = format!("the handshake with {from} failed: {}", failure.sentence);
        let worker = &self.pipeline.worker;
        worker.handshake_failed(Side::Client, (from, failure.reason), &message, None);
    }
}
