//! The door: takes connections from clients, ends their TLS, and hands their requests to the pipeline.
//!
//! In: accepted sockets. Out: HTTP/1.1 or HTTP/2, as the client chose by ALPN, read strictly and within deadlines. A failed
//! handshake leaves one line; nothing a client does to its own connection is felt on another.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use gapura_runtime::listen::Accepted;
use gapura_runtime::reload::clients::{ClientProof, ClientTrust, Ended};
use gapura_runtime::worker::Serve;
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::Side;
use gapura_transport::inbound::{Link, StrictIo, drive};
use gapura_transport::io::BoxIo;
use gapura_transport::tunnel::Upgraded;
use gapura_trust::failure::handshake_refusal;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
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

/// A head of 32 KiB is taken; up to twice that is answered with an envelope, beyond it with a bare 431.
const BUFFER: usize = 64 * 1024;

/// Streams at a time of one client, as Envoy's guide for the edge has it.
const STREAMS: u32 = 100;

/// What a client may have under way to us on one stream, and on all of its connection: enough for a fast upload over a long line.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

impl Serve for Server {
    async fn connection(self: Rc<Self>, accepted: Accepted) {
        let Accepted {
            stream,
            from,
            slot: _slot,
        } = accepted;
        let core = &self.pipeline.core;
        let (io, http2, proof) = match self.open(stream).await {
            Ok(opened) => opened,
            Err(error) => return self.failed(&error, &from.to_string()),
        };
        let _open = core.count_open(Side::Client);
        let is_proxy = self.pipeline.settings.is_proxy(from.ip().to_canonical());
        let client = Client::new(from, self.tls.is_some(), is_proxy)
            .proving(proof.as_ref().map(ClientProof::thumbprint));
        let client = Rc::new(client);
        let link = Arc::new(Link::default());
        let served = async {
            if http2 {
                self.serve_h2(io, client, link).await
            } else {
                self.serve_h1(io, client, link).await
            }
        };
        match (&self.clients, &proof) {
            (Some(clients), Some(proof)) => tokio::select! {
                () = served => {}
                // What is dropped here is closed, with whatever is under way on it.
                ended = clients.ended(proof, &core.seed.clock) => self.ended(ended, &from.to_string()),
            },
            _ => served.await,
        }
    }

    fn tidy(&self) {
        self.pipeline.forward.tidy();
    }
}

impl Server {
    /// The stream of a connection, whether it speaks HTTP/2, and the certificate whose key the client proved.
    async fn open(
        &self,
        stream: std::net::TcpStream,
    ) -> io::Result<(BoxIo, bool, Option<ClientProof>)> {
        let stream = TcpStream::from_std(stream)?;
        let Some(config) = &self.tls else {
            return Ok((Box::new(stream), false, None));
        };
        let handshake = TlsAcceptor::from(config.clone()).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(b"h2");
        let clients = self.clients.as_ref();
        let proof = clients.and_then(|clients| clients.proof(session.peer_certificates()));
        Ok((Box::new(stream), http2, proof))
    }

    async fn serve_h1(&self, io: BoxIo, client: Rc<Client>, link: Arc<Link>) {
        let upgraded = Upgraded::default();
        let (pipeline, left, seen) = (self.pipeline.clone(), upgraded.clone(), link.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (pipeline, client, left) = (pipeline.clone(), client.clone(), left.clone());
            let exchange = pipeline.begin(&client, &request, seen.begin());
            let ambiguous = seen.is_ambiguous();
            async move {
                Ok::<_, Infallible>(
                    pipeline
                        .handle(&client, request, ambiguous, &left, exchange)
                        .await,
                )
            }
        });
        let io = TokioIo::new(StrictIo::http1(io, link.clone()));
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER)
            .serve_connection(io, service)
            .with_upgrades();
        let core = &self.pipeline.core;
        let ended = drive(
            connection,
            http1::UpgradeableConnection::graceful_shutdown,
            pending(),
            &link,
            &core.timers,
            core.seed.stopping.clone(),
            true,
        )
        .await;
        if let (true, Some(tunnel)) = (ended, upgraded.take()) {
            tunnel.await;
        }
    }

    async fn serve_h2(&self, io: BoxIo, client: Rc<Client>, link: Arc<Link>) {
        let (pipeline, seen) = (self.pipeline.clone(), link.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (pipeline, client) = (pipeline.clone(), client.clone());
            let exchange = pipeline.begin(&client, &request, seen.begin());
            async move {
                Ok::<_, Infallible>(
                    pipeline
                        .handle(&client, request, false, &Upgraded::default(), exchange)
                        .await,
                )
            }
        });
        let io = TokioIo::new(StrictIo::http2(io, link.clone()));
        let connection = http2::Builder::new(OnThisWorker)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(BUFFER).unwrap_or(u32::MAX))
            .max_send_buf_size(BUFFER)
            .serve_connection(io, service);
        let core = &self.pipeline.core;
        drive(
            connection,
            http2::Connection::graceful_shutdown,
            pending(),
            &link,
            &core.timers,
            core.seed.stopping.clone(),
            false,
        )
        .await;
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
        let log = &self.pipeline.core.seed.log;
        log.event(Level::Warn, "connection_closed", &message, &fields);
    }

    /// One line for each failed handshake, with the reason and the client's address.
    fn failed(&self, error: &io::Error, from: &str) {
        let failure = handshake_refusal(error);
        let seed = &self.pipeline.core.seed;
        seed.meters.handshake_failed(Side::Client, failure.reason);
        let message = format!("the handshake with {from} failed: {}", failure.sentence);
        let fields = [
            ("side", "client".into()),
            ("reason", failure.reason.into()),
            ("peer", from.into()),
        ];
        seed.log
            .event(Level::Warn, "handshake_failed", &message, &fields);
    }
}

/// Runs hyper's tasks of a connection beside it.
#[derive(Clone, Copy)]
struct OnThisWorker;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
