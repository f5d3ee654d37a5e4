//! One worker's connections to one address.
//!
//! To a sidecar: one HTTP/2 connection that all requests share, more when its streams run out, and HTTP/1.1 connections for what
//! must not share (bulk and upgrades). To a plugin without a sidecar: HTTP/1.1 in plain.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gapura_protocol::identity::PeerId;
use gapura_runtime::worker::Core;
use gapura_telemetry::log::Level;
use gapura_telemetry::metrics::Side;
use gapura_transport::body::{Body, Upload};
use gapura_transport::io::BoxIo;
use gapura_transport::live::{LiveConnections, LiveGuard};
use gapura_transport::upstream::SendError;
use gapura_transport::upstream::dial;
use gapura_transport::upstream::h1::{Kept, Pool};
use gapura_transport::upstream::h2::H2;
use gapura_transport::upstream::life::Life;
use gapura_trust::failure::HandshakeFailure;
use gapura_trust::peer::Peer;
use gapura_trust::set::{TrustSet, TrustStore};
use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::attempt::{Attempt, Attempts};

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// With all others.
    Shared,
    /// On a connection of its own while it lasts.
    Alone,
}

/// The connections to one address.
pub(crate) struct Hop {
    dialer: Rc<Dialer>,
    shared: Rc<Shared>,
    pool: Rc<Pool>,
}

#[derive(Default)]
struct Shared {
    connections: RefCell<Vec<H2>>,
    attempts: Rc<Attempts<Failure>>,
}

struct Dialer {
    core: Rc<Core>,
    trust: TrustStore,
    live: LiveConnections,
    address: SocketAddr,
    wanted: Option<PeerId>,
}

/// Why connecting failed; told to all who waited.
#[derive(Clone, Debug)]
enum Failure {
    Unreachable(io::ErrorKind, String),
    Identity(String),
    Protocol,
}

/// Why a request got no answer on this hop.
#[derive(Debug)]
pub(crate) enum Error {
    /// Nothing of it was written; here it is, and why.
    Unsent(Box<Request<Body>>, super::Error),
    /// It may have been written: nobody else may try.
    Final(super::Error),
}

/// A sidecar takes 256 streams on each: beyond 16,000 requests under way from one worker something hangs.
const SHARED_MOST: usize = 64;

/// TCP and TLS together, beyond the second that TCP has.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Under the 60 s for which the sidecar keeps one.
const KEEP: Duration = Duration::from_secs(30);

impl Hop {
    /// A hop to `address`, over mTLS where an identity is wanted.
    #[must_use]
    pub(crate) fn new(
        core: Rc<Core>,
        trust: TrustStore,
        live: LiveConnections,
        address: SocketAddr,
        wanted: Option<PeerId>,
    ) -> Self {
        // A plugin without a sidecar is any server: below the keep-alive of all we know of.
        let keep = if wanted.is_some() {
            KEEP
        } else {
            Duration::from_secs(3)
        };
        let pool = Pool::new(&core.timers, &core.tasks, keep);
        let dialer = Rc::new(Dialer {
            core,
            trust,
            live,
            address,
            wanted,
        });
        Self {
            dialer,
            shared: Rc::default(),
            pool,
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
        route: Route,
        upload: &Rc<Upload>,
        timeout: Duration,
    ) -> Result<Response<Body>, Error> {
        if route == Route::Shared && self.dialer.wanted.is_some() {
            self.send_shared(request, upload, timeout).await
        } else {
            // Boxed: bulk and upgrades are rare, and the frame would be part of every request's.
            Box::pin(self.send_alone(request, upload, timeout)).await
        }
    }

    /// Closes what has idled too long.
    pub(crate) fn tidy(&self) {
        self.pool.tidy();
        self.shared.connections.borrow_mut().retain(H2::is_open);
    }

    async fn send_shared(
        &self,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
    ) -> Result<Response<Body>, Error> {
        loop {
            let (connection, fresh) = match self.connection().await {
                Ok(found) => found,
                Err(error) => return Err(Error::Unsent(Box::new(request), error)),
            };
            match connection.send(request, upload, timeout).await {
                // A kept connection had closed, or its sidecar has said goodbye: it is out of the list now, and the next one serves.
                Err(SendError::Unsent(unsent)) if !fresh && !connection.is_open() => {
                    request = *unsent
                }
                result => return result.map_err(|error| self.told(error)),
            }
        }
    }

    async fn send_alone(
        &self,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
    ) -> Result<Response<Body>, Error> {
        *request.version_mut() = http::Version::HTTP_11;
        while let Some(kept) = self.pool.take().await {
            match self.pool.send(kept, request, upload, timeout).await {
                Err(SendError::Unsent(unsent)) => request = *unsent,
                result => return result.map_err(|error| self.told(error)),
            }
        }
        match self.dialer.connect_h1(&self.pool).await {
            Ok(fresh) => self
                .pool
                .send(fresh, request, upload, timeout)
                .await
                .map_err(|error| self.told(error)),
            Err(failure) => Err(Error::Unsent(Box::new(request), failure.into())),
        }
    }

    /// A shared connection with room for one more stream, and whether it was opened for this.
    async fn connection(&self) -> Result<(H2, bool), super::Error> {
        // As many rounds as there may be connections: one that is gone again as soon as it stands must not be awaited for ever.
        for round in 0..=SHARED_MOST {
            let attempt = {
                let mut connections = self.shared.connections.borrow_mut();
                connections.retain(H2::is_open);
                if let Some(connection) =
                    connections.iter().find(|connection| connection.has_room())
                {
                    return Ok((connection.clone(), round > 0));
                }
                if connections.len() >= SHARED_MOST {
                    break;
                }
                self.attempt()
            };
            attempt.over().await?;
        }
        Err(super::Error::Overloaded)
    }

    /// The attempt that is under way, or a new one.
    fn attempt(&self) -> Rc<Attempt<Failure>> {
        let (dialer, shared) = (self.dialer.clone(), self.shared.clone());
        let broken = Failure::Unreachable(
            io::ErrorKind::Other,
            "the attempt to connect broke off".to_owned(),
        );
        let tasks = &self.dialer.core.tasks;
        self.shared.attempts.join(tasks, broken, || async move {
            let connection = dialer.connect_h2().await?;
            shared.connections.borrow_mut().push(connection);
            Ok(())
        })
    }

    /// What an error means to the caller; a refusal by the sidecar is told once here, with its reason.
    fn told(&self, error: SendError) -> Error {
        match error {
            SendError::Unsent(request) => Error::Unsent(
                request,
                super::Error::Unreachable(io::ErrorKind::ConnectionAborted.into()),
            ),
            error => {
                let error = super::Error::from(error);
                if let super::Error::Identity(sentence) = &error {
                    self.dialer.refused("peer_alert", sentence);
                }
                Error::Final(error)
            }
        }
    }
}

impl Dialer {
    async fn connect_h2(&self) -> Result<H2, Failure> {
        let trust = self.trust.load_full();
        let core = &self.core;
        let (io, guard) = self.connect(&trust, b"h2").await?;
        let handshake = H2::handshake(io, &core.timers, &core.streams, &core.tasks);
        let handshake = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (connection, driver) =
            handshake.map_err(|error| self.handshake_failed(&error, trust.explain(&error)))?;
        let (life, link) = (self.life(guard), connection.link());
        core.tasks.spawn("a connection to a sidecar", async move {
            tokio::select! {
                biased;
                reason = life.cut(|| link.retire()) => link.cut(reason),
                () = driver => {}
            }
        });
        Ok(connection)
    }

    async fn connect_h1(&self, pool: &Rc<Pool>) -> Result<Kept, Failure> {
        let trust = self.trust.load_full();
        let (io, guard) = self.connect(&trust, b"http/1.1").await?;
        pool.open(io, self.life(guard))
            .await
            .map_err(|_| Failure::Protocol)
    }

    fn life(&self, guard: Option<LiveGuard>) -> Life {
        let side = if self.wanted.is_some() {
            Side::Hop
        } else {
            Side::Plugin
        };
        let verdict = guard.as_ref().map(LiveGuard::verdict);
        Life::new((self.core.count_open(side), guard), verdict)
    }

    async fn connect(
        &self,
        trust: &TrustSet,
        protocol: &[u8],
    ) -> Result<(BoxIo, Option<LiveGuard>), Failure> {
        let tcp = dial::tcp(self.address)
            .await
            .map_err(|error| Failure::Unreachable(error.kind(), error.to_string()))?;
        let Some(wanted) = &self.wanted else {
            return Ok((Box::new(tcp), None));
        };
        let connector = TlsConnector::from(trust.client_config(wanted, &[protocol]));
        let handshake = connector.connect(ServerName::IpAddress(self.address.ip().into()), tcp);
        let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.handshake_failed(&error, trust.explain(&error))),
            Err(_) => {
                let error = io::ErrorKind::TimedOut.into();
                return Err(self.handshake_failed(&error, trust.explain(&error)));
            }
        };
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(protocol) && protocol == b"h2" {
            self.refused("alpn", "the sidecar does not speak HTTP/2 on the hop");
            return Err(Failure::Protocol);
        }
        let chain: Vec<_> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|part| part.clone().into_owned())
            .collect();
        let peer = Peer::of_judged_chain(&chain)
            .map_err(|refusal| Failure::Identity(refusal.to_string()))?;
        let guard = self
            .live
            .admit(Side::Hop, peer, chain, trust.generation(), Instant::now());
        Ok((Box::new(stream), Some(guard)))
    }

    fn handshake_failed(&self, error: &io::Error, failure: HandshakeFailure) -> Failure {
        self.refused(failure.reason, &failure.sentence);
        if failure.is_about_certificates || failure.is_peer_alert {
            Failure::Identity(failure.sentence)
        } else if failure.reason == "protocol" {
            Failure::Protocol
        } else {
            Failure::Unreachable(error.kind(), failure.sentence)
        }
    }

    /// One line for each failed handshake, with the reason and the peer's address.
    fn refused(&self, reason: &'static str, sentence: &str) {
        let seed = &self.core.seed;
        seed.meters.handshake_failed(Side::Hop, reason);
        let (address, wanted) = (
            self.address.to_string(),
            self.wanted.as_ref().map(PeerId::to_string),
        );
        let message = format!(
            "the handshake with {} at {address} failed: {sentence}",
            wanted.as_deref().unwrap_or("the plugin")
        );
        let fields = [
            ("side", "hop".into()),
            ("reason", reason.into()),
            ("peer", address.into()),
            ("wanted", wanted.into()),
        ];
        seed.log
            .event(Level::Warn, "handshake_failed", &message, &fields);
    }
}

impl From<Failure> for super::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(kind, text) => Self::Unreachable(io::Error::new(kind, text)),
            Failure::Identity(sentence) => Self::Identity(sentence),
            Failure::Protocol => Self::Protocol,
        }
    }
}
