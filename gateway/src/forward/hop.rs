//! One worker's connections to one address.
//!
//! To a sidecar: one HTTP/2 connection that all requests share, more when its streams run out, and HTTP/1.1 connections for what
//! must not share (bulk and upgrades). To a plugin without a sidecar: HTTP/1.1 in plain. An attempt to connect is a task of its own
//! that all who wait share, so that a burst of requests opens one connection.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gapura_mesh::body::{Body, Upload};
use gapura_mesh::identity::PeerId;
use gapura_mesh::log::Level;
use gapura_mesh::metrics::Side;
use gapura_mesh::tls::failure::handshake_refusal;
use gapura_mesh::tls::live::{LiveConnections, LiveGuard, Side as LiveSide, Verdict};
use gapura_mesh::tls::peer::Peer;
use gapura_mesh::tls::trust::TrustStore;
use gapura_mesh::upstream::SendError;
use gapura_mesh::upstream::dial::{self, BoxIo};
use gapura_mesh::upstream::h1::{Link, Pool};
use gapura_mesh::upstream::h2::H2;
use gapura_mesh::worker::Core;
use http::{Request, Response};
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// With all others.
    Shared,
    /// On a connection of its own while it lasts.
    Alone,
}

/// The connections to one address.
pub struct Hop {
    dialer: Rc<Dialer>,
    shared: RefCell<Vec<H2>>,
    attempt: RefCell<Option<Rc<Attempt>>>,
    pool: Rc<Pool>,
}

struct Dialer {
    core: Rc<Core>,
    trust: TrustStore,
    live: LiveConnections,
    address: SocketAddr,
    wanted: Option<PeerId>,
}

/// An attempt to connect, and who waits for it.
#[derive(Default)]
struct Attempt {
    done: Cell<bool>,
    failed: RefCell<Option<Failure>>,
    ended: Notify,
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
pub enum Error {
    /// Nothing of it was written; here it is, and why.
    Unsent(Box<Request<Body>>, super::Error),
    /// It may have been written: nobody else may try.
    Final(super::Error),
}

/// A sidecar takes 256 streams on each: a thousand requests under way from one worker to one plugin are a plugin that hangs.
const SHARED_MOST: usize = 4;

/// TCP and TLS together, beyond the second that TCP has.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Under the 60 s for which the sidecar keeps one.
const KEEP: Duration = Duration::from_secs(30);

impl Hop {
    /// A hop to `address`, over mTLS where an identity is wanted.
    #[must_use]
    pub fn new(core: Rc<Core>, trust: TrustStore, live: LiveConnections, address: SocketAddr, wanted: Option<PeerId>) -> Self {
        // A plugin without a sidecar is any server: below the keep-alive of all we know of.
        let keep = if wanted.is_some() { KEEP } else { Duration::from_secs(3) };
        let pool = Pool::new(&core.timers, keep);
        let dialer = Rc::new(Dialer { core, trust, live, address, wanted });
        Self { dialer, shared: RefCell::default(), attempt: RefCell::default(), pool }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn send(&self, request: Request<Body>, route: Route, upload: &Rc<Upload>, timeout: Duration) -> Result<Response<Body>, Error> {
        if route == Route::Shared && self.dialer.wanted.is_some() {
            self.send_shared(request, upload, timeout).await
        } else {
            self.send_alone(request, upload, timeout).await
        }
    }

    /// Closes what has idled too long.
    pub fn tidy(&self) {
        self.pool.tidy();
        self.shared.borrow_mut().retain(H2::is_open);
    }

    async fn send_shared(&self, request: Request<Body>, upload: &Rc<Upload>, timeout: Duration) -> Result<Response<Body>, Error> {
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return Err(Error::Unsent(Box::new(request), error)),
        };
        connection.send(request, upload, timeout).await.map_err(|error| self.told(error))
    }

    async fn send_alone(&self, mut request: Request<Body>, upload: &Rc<Upload>, timeout: Duration) -> Result<Response<Body>, Error> {
        *request.version_mut() = http::Version::HTTP_11;
        while let Some(kept) = self.pool.take().await {
            match self.pool.send(kept, request, upload, timeout).await {
                Err(SendError::Unsent(unsent)) => request = *unsent,
                result => return result.map_err(|error| self.told(error)),
            }
        }
        match self.dialer.connect_h1(&self.pool).await {
            Ok(fresh) => self.pool.send(fresh, request, upload, timeout).await.map_err(|error| self.told(error)),
            Err(failure) => Err(Error::Unsent(Box::new(request), failure.into())),
        }
    }

    /// A shared connection with room for one more stream; opens one if there is none.
    async fn connection(&self) -> Result<H2, super::Error> {
        loop {
            let attempt = {
                let mut shared = self.shared.borrow_mut();
                shared.retain(H2::is_open);
                if let Some(connection) = shared.iter().find(|connection| connection.has_room()) {
                    return Ok(connection.clone());
                }
                if shared.len() >= SHARED_MOST {
                    return Err(super::Error::Overloaded);
                }
                self.attempt.borrow_mut().get_or_insert_with(|| self.dialer.attempt()).clone()
            };
            let ended = attempt.ended.notified();
            if !attempt.done.get() {
                ended.await;
            }
            // The first to wake takes the result in; the others find it in the list, or the failure here.
            if self.attempt.borrow_mut().take_if(|current| Rc::ptr_eq(current, &attempt)).is_some()
                && let Some(connection) = attempt.take()
            {
                self.shared.borrow_mut().push(connection);
            }
            if let Some(failure) = attempt.failed.borrow().clone() {
                return Err(failure.into());
            }
        }
    }

    /// What an error means to the caller; a refusal by the sidecar is told once here, with its reason.
    fn told(&self, error: SendError) -> Error {
        match error {
            SendError::Unsent(request) => Error::Unsent(request, super::Error::Unreachable(io::ErrorKind::ConnectionAborted.into())),
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
