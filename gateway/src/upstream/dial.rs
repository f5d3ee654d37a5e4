//! Opens connections to one address: TCP, the handshake, and whatever of HTTP both ends speak.
//!
//! In: an address, whom the sidecar there must prove to be, and the protocols to offer. Out: a
//! connection that the trust in force ends when it must, or a [`Failure`], which leaves one line
//! with the reason. How long the whole may take for a request is the request's business; no part of
//! it is without an end.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use gapura_certificates::peer::Peer;
use gapura_files::ownership;
use gapura_http::BoxStream;
use gapura_http2::client::{Connection, Settings};
use gapura_protocol::identity::PeerId;
use gapura_runtime::worker::Worker;
use gapura_telemetry::metrics::Side;
use gapura_transport::live::{LiveConnections, LiveGuard};
use gapura_transport::secured::Secured;
use gapura_transport::session::Session;
use gapura_transport::upstream::dial;
use gapura_transport::upstream::kept::Opened;
use gapura_transport::upstream::lifeline::Lifeline;
use gapura_trust::failure::HandshakeFailure;
use gapura_trust::set::{TrustSet, TrustStore};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::instance::Address;
use super::shared::Shared;
use super::tied::Tied;

/// The way to one address.
pub(super) struct Dialer {
    pub(super) worker: Rc<Worker>,
    pub(super) trust: TrustStore,
    pub(super) live: LiveConnections,
    pub(super) address: Address,
    /// Whom the sidecar there must prove to be; plain HTTP if `None`.
    pub(super) wanted: Option<PeerId>,
}

/// What was opened.
pub(super) enum Dialled {
    /// A connection for all requests.
    Shared(Shared),
    /// A stream to speak HTTP/1.1 on.
    Alone(Opened<Tied>),
}

/// Why connecting failed; told to all who waited.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Nobody is there.
    Unreachable(io::ErrorKind, String),
    /// Who is there is not who should, or refuses us.
    Identity(String),
    /// Who is there does not speak what we do.
    Protocol,
    /// Who is there accepts and stays silent.
    Timeout,
}

/// For the handshake, and once more for the first words of HTTP/2.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// As ALPN spells them.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

impl Dialer {
    /// A connection for all requests, or one over HTTP/1.1 where the sidecar offers nothing else.
    pub(super) async fn shared(&self) -> Result<Dialled, Failure> {
        let trust = self.trust.load_full();
        let (io, guard, http2) = self.connect(&trust, &[HTTP2, HTTP1]).await?;
        if !http2 {
            return Ok(Dialled::Alone(self.tied(io, guard)));
        }
        let worker = &self.worker;
        let share = worker.held.open();
        let handshake = Connection::handshake(io, Settings::default(), &worker.timers, &share);
        let handshake = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (connection, driver) =
            handshake.map_err(|error| self.handshake_failed(&error, trust.explain(&error)))?;
        let verdict = guard.as_ref().map(LiveGuard::verdict);
        let lifeline = Lifeline::new((worker.count_open(Side::Hop), guard), verdict);
        let link = connection.link();
        worker.tasks.spawn("a connection to a sidecar", async move {
            tokio::select! {
                biased;
                reason = lifeline.cut(|| link.retire()) => link.cut(reason),
                () = driver => {}
            }
        });
        Ok(Dialled::Shared(connection))
    }

    /// A stream to speak HTTP/1.1 on.
    pub(super) async fn alone(&self) -> Result<Opened<Tied>, Failure> {
        let trust = self.trust.load_full();
        let (io, guard, _) = self.connect(&trust, &[HTTP1]).await?;
        Ok(self.tied(io, guard))
    }

    fn tied(&self, io: BoxStream, guard: Option<LiveGuard>) -> Opened<Tied> {
        let side = if guard.is_some() {
            Side::Hop
        } else {
            Side::Plugin
        };
        let open = self.worker.count_open(side);
        let (io, held) = Tied::new(io, open, guard, &self.worker.tasks);
        Opened { io, held }
    }

    /// A stream, and whether HTTP/2 is spoken on it.
    async fn connect(
        &self,
        trust: &TrustSet,
        offered: &[&[u8]],
    ) -> Result<(BoxStream, Option<LiveGuard>, bool), Failure> {
        let io = self
            .open()
            .await
            .map_err(|error| Failure::Unreachable(error.kind(), error.to_string()))?;
        let Some(wanted) = &self.wanted else {
            return Ok((io, None, false));
        };
        let connector = TlsConnector::from(trust.client_config(wanted, offered));
        // Who it must be is in its certificate's URI; the name here is sent to nobody.
        let host = match &self.address {
            Address::Tcp(at) => at.ip(),
            Address::Unix(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let handshake = connector.connect(ServerName::IpAddress(host.into()), io);
        let stream = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.handshake_failed(&error, trust.explain(&error)))?;
        let session = stream.get_ref().1;
        let http2 = session.alpn_protocol() == Some(HTTP2);
        let chain: Vec<_> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|part| part.clone().into_owned())
            .collect();
        let peer = Peer::of_judged_chain(&chain)
            .map_err(|refusal| Failure::Identity(refusal.to_string()))?;
        let shown = (chain, Session::of(session));
        let guard = self
            .live
            .admit(Side::Hop, peer, shown, trust.generation(), Instant::now());
        Ok((Box::new(Secured::from(stream)), Some(guard), http2))
    }

    async fn open(&self) -> io::Result<BoxStream> {
        match &self.address {
            Address::Tcp(at) => Ok(Box::new(dial::tcp(*at).await?)),
            Address::Unix(path) => {
                // Whoever can write to the folder could put another socket there. TLS would tell,
                // but not before it is asked.
                let judged = ownership::check_socket(path);
                judged.map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
                Ok(Box::new(dial::unix(path).await?))
            }
        }
    }

    fn handshake_failed(&self, error: &io::Error, failure: HandshakeFailure) -> Failure {
        self.refused(failure.reason, &failure.sentence);
        if failure.is_about_certificates || failure.is_peer_alert {
            Failure::Identity(failure.sentence)
        } else if failure.reason == "protocol" {
            Failure::Protocol
        } else if error.kind() == io::ErrorKind::TimedOut {
            Failure::Timeout
        } else {
            Failure::Unreachable(error.kind(), failure.sentence)
        }
    }

    /// One line for each failed handshake, with the reason and the peer's address.
    pub(super) fn refused(&self, reason: &'static str, sentence: &str) {
        let (address, wanted) = (
            self.address.to_string(),
            self.wanted.as_ref().map(PeerId::to_string),
        );
        let message = format!(
            "the handshake with {} at {address} failed: {sentence}",
            wanted.as_deref().unwrap_or("the plugin")
        );
        self.worker.handshake_failed(
            Side::Hop,
            (&address, reason),
            &message,
            Some(("wanted", wanted)),
        );
    }
}
