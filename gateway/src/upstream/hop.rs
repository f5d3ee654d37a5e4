//! One worker's connections to one address.
//!
//! To a sidecar: one HTTP/2 connection that all requests share, more when its streams run out, and
//! HTTP/1.1 connections for what must not share (bulk and upgrades), or for all where the sidecar
//! offers nothing else. To a plugin without a sidecar: HTTP/1.1 in plain.
//! Invariant: a request that may have reached the other end goes again only if it may be done twice
//! (RFC 9110, section 9.2.2), has no body, and was lost, before a byte of an answer, with a
//! connection that had been kept, whoever shared it; and then once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapura_http2::Owner;
use gapura_http2::client::Remake;
use gapura_protocol::identity::PeerId;
use gapura_runtime::worker::Worker;
use gapura_transport::body::{Body, BodyFault, UploadState};
use gapura_transport::live::LiveConnections;
use gapura_transport::upstream::dial::CONNECT;
use gapura_transport::upstream::kept::{Pool, Unanswered};
use gapura_transport::upstream::{Answer, Failed, Hint, Over, Patience};
use gapura_trust::failure::handshake_refusal;
use gapura_trust::set::TrustStore;
use http::Request;
use tokio::time::timeout;

use super::attempt::{Attempt, Attempts};
use super::carrier::Carrier;
use super::cluster::Cluster;
use super::dial::{Dialer, Dialled, Failure};
use super::instance::Address;
use super::outgrown::Outgrown;
use super::shared::{self, Shared};
use super::tied::{Tied, is_alert};

/// The connections to one address.
pub(crate) struct Hop {
    dialer: Rc<Dialer>,
    open: Rc<Open>,
    pool: Rc<Pool<Tied>>,
}

/// What all attempts to open a shared connection leave behind.
#[derive(Default)]
struct Open {
    connections: RefCell<Vec<Standing>>,
    attempts: Rc<Attempts<Failure>>,
    /// The sidecar offers HTTP/1.1 alone: for so many sweeps it is not asked again.
    only_http1: Cell<u32>,
}

/// A shared connection, and for how many sweeps no request has taken it.
struct Standing {
    connection: Shared,
    unused: u32,
}

/// How a request is to go.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) carrier: Carrier,
    /// It is a question of the gateway's own. It takes the shared connection where one stands, but
    /// neither opens one nor keeps it: idle, that holds 45 KiB, one of HTTP/1.1 a quarter of that,
    /// and thousands of instances may be asked only how they are.
    pub(super) question: bool,
    /// Whether it could go to another instance, where no connection to this one stands soon. Asked
    /// only then.
    pub(super) elsewhere: &'a dyn Fn() -> bool,
    /// Whose connections it may prove too large for, where it does not say how large it is.
    pub(super) outgrows: Option<&'a Arc<Cluster>>,
    /// Makes its head once more; without it a copy of that is kept.
    pub(super) again: Option<&'a Remake<'a>>,
}

/// Why a request got no answer on this hop.
pub(super) enum Error {
    /// No connection stood soon, and another instance could have it. Whoever opens one goes on.
    Late(Box<Request<Body>>),
    /// Nothing of it was written; here it is, and why.
    Unsent(Box<Request<Body>>, super::Error),
    /// It may have been written: nobody else may try.
    Final(super::Error),
}

/// What became of looking for a shared connection.
enum Found {
    /// This one, and whether it was opened for this request.
    Shared {
        connection: Shared,
        fresh: bool,
    },
    /// The sidecar has none to share.
    None,
    Late,
    Failed(super::Error),
}

/// A sidecar takes 256 streams on each: beyond 16,000 requests under way from one worker something
/// hangs.
const SHARED_MOST: usize = 64;

/// Under the 60 s for which the sidecar keeps one.
const KEEP: Duration = Duration::from_secs(30);

/// Sweeps, of which there is one a second, for which a shared connection stands that no request
/// takes.
const SHARED_KEEP: u32 = 60;

/// A plugin without a sidecar is any server: below the keep-alive of all we know of.
const KEEP_PLAIN: Duration = Duration::from_secs(3);

/// Sweeps, of which there is one a second, until a sidecar is offered HTTP/2 again.
const ASK_AGAIN: u32 = 60;

impl Hop {
    /// A hop to `address`, over mTLS where an identity is wanted.
    pub(super) fn new(
        worker: Rc<Worker>,
        trust: TrustStore,
        live: LiveConnections,
        address: Address,
        wanted: Option<PeerId>,
    ) -> Self {
        let keep = if wanted.is_some() { KEEP } else { KEEP_PLAIN };
        let pool = Pool::new(&worker.timers, &worker.tasks, &worker.buffers, keep);
        let dialer = Rc::new(Dialer {
            worker,
            trust,
            live,
            address,
            wanted,
        });
        Self {
            dialer,
            open: Rc::default(),
            pool,
        }
    }

    /// Sends a request of `owner` and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) async fn send(
        &self,
        request: Box<Request<Body>>,
        way: Way<'_>,
        patience: &Patience<'_>,
        (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    ) -> Result<Answer, Error> {
        let shared = way.carrier == Carrier::Shared && (!way.question || self.stands());
        if shared && self.dialer.wanted.is_some() {
            let by = (owner, hint);
            self.send_shared(request, way, patience, by).await
        } else {
            // Boxed: bulk and upgrades are rare, and the frame would be part of every request's.
            Box::pin(self.send_alone(request, way, patience, hint)).await
        }
    }

    /// Closes what has idled too long. Called about once a second.
    pub(super) fn sweep(&self) {
        self.pool.sweep();
        self.open.connections.borrow_mut().retain_mut(|one| {
            one.unused = one.unused.saturating_add(1);
            one.connection.is_open() && (one.unused <= SHARED_KEEP || one.connection.open() > 0)
        });
        let asked = &self.open.only_http1;
        asked.set(asked.get().saturating_sub(1));
    }

    /// Whether a shared connection stands that has room.
    fn stands(&self) -> bool {
        let connections = self.open.connections.borrow();
        let usable = |one: &Standing| one.connection.is_open() && one.connection.has_room();
        connections.iter().any(usable)
    }

    async fn send_shared(
        &self,
        mut request: Box<Request<Body>>,
        way: Way<'_>,
        patience: &Patience<'_>,
        (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    ) -> Result<Answer, Error> {
        let mut once_more = request.method().is_idempotent();
        loop {
            let (connection, fresh) = match self.connection(patience, way).await {
                Ok(Found::Shared { connection, fresh }) => (connection, fresh),
                Ok(Found::None) => {
                    return Box::pin(self.send_alone(request, way, patience, hint)).await;
                }
                Ok(Found::Late) => return Err(Error::Late(request)),
                Ok(Found::Failed(error)) => return Err(Error::Unsent(request, error)),
                Err(Over) => return Err(Error::Final(super::Error::Timeout)),
            };
            if let Some(cluster) = way.outgrows {
                let outgrown = Outgrown::new(cluster, connection.link());
                let body = std::mem::replace(request.body_mut(), Body::empty());
                *request.body_mut() = body.with(Box::new(outgrown));
            }
            let by = (owner, &mut *hint);
            let sent = (request, way.again);
            match shared::send(&connection, sent, patience, by, &self.dialer.worker).await {
                Ok(answer) => return Ok(answer),
                // A kept connection had closed, or its sidecar has said goodbye: it is out of the
                // list now, and the next one serves.
                Err(Failed::Unsent(unsent, _)) if !fresh && !connection.is_open() => {
                    request = unsent;
                }
                Err(Failed::Closed(Some(unanswered), error))
                    if !fresh && once_more && !error.as_ref().is_some_and(is_alert) =>
                {
                    once_more = false;
                    request = unanswered;
                }
                Err(failed) => return Err(self.meaning(failed, patience)),
            }
        }
    }

    async fn send_alone(
        &self,
        request: Box<Request<Body>>,
        way: Way<'_>,
        patience: &Patience<'_>,
        hint: &mut Hint<'_>,
    ) -> Result<Answer, Error> {
        let connect = || async {
            match soon(way, self.dialer.alone()).await {
                Some(opened) => opened.map_err(Some),
                None => Err(None),
            }
        };
        let sent = self.pool.send(*request, patience, connect, hint).await;
        sent.map_err(|unanswered| match unanswered {
            Unanswered::Connect(request, Some(failure)) => Error::Unsent(request, failure.into()),
            Unanswered::Connect(request, None) => Error::Late(request),
            Unanswered::Failed(failed) => self.meaning(failed, patience),
        })
    }

    /// A shared connection with room for one more stream. That there is no time left is one thing,
    /// and that this address gives none another.
    async fn connection(&self, patience: &Patience<'_>, way: Way<'_>) -> Result<Found, Over> {
        // As many rounds as there may be connections: one that is gone again as soon as it stands
        // must not be awaited for ever.
        for round in 0..=SHARED_MOST {
            let attempt = {
                let mut connections = self.open.connections.borrow_mut();
                connections.retain(|one| one.connection.is_open());
                if let Some(one) = connections.iter_mut().find(|one| one.connection.has_room()) {
                    if !way.question {
                        one.unused = 0;
                    }
                    return Ok(Found::Shared {
                        connection: one.connection.clone(),
                        fresh: round > 0,
                    });
                }
                if self.open.only_http1.get() > 0 {
                    return Ok(Found::None);
                }
                if connections.len() >= SHARED_MOST {
                    break;
                }
                self.attempt()
            };
            // Boxed, since it is rare.
            let mut opening = Box::pin(soon(way, attempt.over()));
            match patience.connecting(opening.as_mut()).await? {
                Some(Ok(())) => {}
                Some(Err(failure)) => return Ok(Found::Failed(failure.into())),
                None => return Ok(Found::Late),
            }
        }
        Ok(Found::Failed(super::Error::Overloaded))
    }

    /// The attempt that is under way, or a new one.
    fn attempt(&self) -> Rc<Attempt<Failure>> {
        let (dialer, open, pool) = (self.dialer.clone(), self.open.clone(), self.pool.clone());
        let broken = Failure::Unreachable(
            io::ErrorKind::Other,
            "the attempt to connect broke off".to_owned(),
        );
        let tasks = &self.dialer.worker.tasks;
        self.open.attempts.join(tasks, broken, || async move {
            match dialer.shared().await? {
                Dialled::Shared(connection) => open.connections.borrow_mut().push(Standing {
                    connection,
                    unused: 0,
                }),
                Dialled::Alone(opened) => {
                    open.only_http1.set(ASK_AGAIN);
                    pool.keep(opened);
                }
            }
            Ok(())
        })
    }

    /// What an error means to the caller; a refusal by the sidecar is told once here, with its
    /// reason.
    fn meaning(&self, failed: Failed, patience: &Patience<'_>) -> Error {
        // A body that broke is why the rest failed, and not the other way round. That it was
        // dropped is no fault of its own.
        if let UploadState::Failed(fault) = patience.upload().state()
            && fault != BodyFault::Cut
        {
            return Error::Final(super::Error::Body(fault));
        }
        let (unsent, error) = match failed {
            Failed::Unsent(request, error) => (Some(request), broken(error)),
            Failed::Closed(_, error) => (None, broken(error)),
            Failed::Cut(reason) => (
                None,
                super::Error::Identity(format!("the sidecar is trusted no longer: {reason}")),
            ),
            Failed::Protocol(_) => (None, super::Error::Protocol),
            Failed::Over => (None, super::Error::Timeout),
            Failed::Body(fault) => (None, super::Error::Body(fault)),
        };
        if let super::Error::Identity(sentence) = &error {
            self.dialer.refused("peer_alert", sentence);
        }
        match unsent {
            Some(request) => Error::Unsent(request, error),
            None => Error::Final(error),
        }
    }
}

/// What opening a connection comes to, unless it takes longer than connecting may and another
/// instance could have the request: who is there and does not shake hands would hold it for as long
/// as a handshake may take.
async fn soon<T>(way: Way<'_>, opening: impl Future<Output = T>) -> Option<T> {
    let mut opening = pin!(opening);
    match timeout(CONNECT, opening.as_mut()).await {
        Ok(opened) => Some(opened),
        Err(_) if (way.elsewhere)() => None,
        Err(_) => Some(opening.await),
    }
}

/// A connection that broke: with an alert, the sidecar refuses us (in TLS 1.3 that shows at the
/// first read, after a handshake that seemed to succeed); else it is gone.
fn broken(cause: Option<io::Error>) -> super::Error {
    let cause = cause.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    let failure = handshake_refusal(&cause);
    if failure.is_peer_alert {
        super::Error::Identity(failure.sentence)
    } else {
        super::Error::Unreachable(cause)
    }
}

impl From<Failure> for super::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(kind, text) => Self::Unreachable(io::Error::new(kind, text)),
            Failure::Identity(sentence) => Self::Identity(sentence),
            Failure::Protocol => Self::Protocol,
            Failure::Timeout => Self::Timeout,
        }
    }
}
