//! HTTP/1.1 connections that a worker keeps for one address: each carries one request at a time.
//!
//! The connection that was used last is taken first, so that those beyond the need grow old and go. One comes back when its
//! answer has been read to the end, never at the head: else the next request would wait for a whole body.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::dial::BoxIo;
use super::life::Life;
use super::{SendError, answered};
use crate::body::{Body, Upload, UploadState};
use crate::timers::{STEP, Timers};

/// The idle connections of one worker to one address.
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    keep: Duration,
    timers: Timers,
}

struct Idle {
    sender: SendRequest<Body>,
    since: u64,
    link: Link,
}

/// What a connection's task and its users tell each other. Clones share it.
#[derive(Clone)]
pub struct Link {
    life: Arc<Life>,
    retired: Rc<Cell<bool>>,
    cut: Rc<Cell<Option<&'static str>>>,
}

/// A connection that goes back to its pool once its answer has been read.
pub struct Lease {
    pool: Rc<Pool>,
    sender: SendRequest<Body>,
    link: Link,
    upload: Rc<Upload>,
}

/// Idle connections beyond these are closed: as many as a small plugin can have of anything.
const KEPT_MOST: usize = 256;

/// The hop and the plugin side take 128 fields (CONTRACT section 5).
const FIELDS: usize = 128;

/// The head of a message, 64 KiB, and room for what follows it in the same read.
const BUFFER: usize = 128 * 1024;

impl Pool {
    /// An empty pool whose connections may idle for `keep`.
    #[must_use]
    pub fn new(timers: &Timers, keep: Duration) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), keep, timers: timers.clone() })
    }

    /// Speaks HTTP/1.1 on `io`. The future drives the connection; spawn it.
    ///
    /// # Errors
    /// If the stream breaks at once.
    pub async fn handshake(io: BoxIo) -> Result<(SendRequest<Body>, impl Future<Output = Result<(), hyper::Error>>), hyper::Error> {
        let (sender, connection) =
            http1::Builder::new().max_headers(FIELDS).max_buf_size(BUFFER).handshake::<_, Body>(TokioIo::new(io)).await?;
        Ok((sender, connection.with_upgrades()))
    }

    /// A connection that was kept, if any is still alive.
    pub async fn take(&self) -> Option<(SendRequest<Body>, Link)> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if self.is_fresh(&idle) && self.is_ready(&mut idle.sender).await {
                return Some((idle.sender, idle.link));
            }
        }
    }

    /// Whether a connection takes a request now. Its task may have to write the end of the last one; a peer that does not take that
    /// must not hold up the next.
    async fn is_ready(&self, sender: &mut SendRequest<Body>) -> bool {
        if sender.is_ready() {
            return true;
        }
        tokio::select! {
            biased;
            ready = sender.ready() => ready.is_ok(),
            () = self.timers.sleep(STEP) => false,
        }
    }

    /// Closes what has idled too long or is retired. Called about once a second.
    pub fn tidy(&self) {
        self.idle.borrow_mut().retain(|idle| self.is_fresh(idle));
    }

    fn is_fresh(&self, idle: &Idle) -> bool {
        let age = STEP * u32::try_from(self.timers.now().saturating_sub(idle.since)).unwrap_or(u32::MAX);
        !idle.sender.is_closed() && !idle.link.retired.get() && age < self.keep
    }

    /// Sends a request on one connection and waits for the head of its answer; `timeout` counts from the request's last byte.
    /// A switch of protocols keeps the connection for itself.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send(
        self: &Rc<Self>,
        (mut sender, link): (SendRequest<Body>, Link),
        request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
    ) -> Result<Response<Body>, SendError> {
        let answer = std::pin::pin!(sender.try_send_request(request));
        let answer = match answered(answer, |_| {}, upload, &self.timers, timeout).await? {
            Ok(answer) => answer,
            Err(mut error) => {
                if let Some(request) = error.take_message() {
                    return Err(SendError::Unsent(Box::new(request)));
                }
                return Err(link.cut.get().map_or_else(|| why(error.into_error()), SendError::Cut));
            }
        };
        let lease = Lease { pool: self.clone(), sender, link, upload: upload.clone() };
        Ok(with_lease(answer, lease))
    }
}

impl Link {
    /// A link to the connection whose life this is.
    #[must_use]
    pub fn new(life: Arc<Life>) -> Self {
        Self { life, retired: Rc::default(), cut: Rc::default() }
    }

    /// Takes no further request.
    pub fn retire(&self) {
        self.retired.set(true);
    }

    /// Tells whose request is under way why the connection is ended.
    pub fn cut(&self, reason: &'static str) {
        self.cut.set(Some(reason));
    }
}

impl Lease {
    /// The answer has been read to its end. A request whose body is still under way keeps the connection, and closes it.
    pub fn give_back(self) {
        let Self { pool, sender, link, upload } = self;
        if upload.state() == UploadState::Finished && !sender.is_closed() && !link.retired.get() {
            let mut idle = pool.idle.borrow_mut();
            if idle.len() < KEPT_MOST {
                idle.push(Idle { sender, since: pool.timers.now(), link });
            }
        }
    }
}

fn with_lease(mut answer: Response<Incoming>, lease: Lease) -> Response<Body> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        // The connection's driver ends here; whoever carries the tunnel on holds its life.
        answer.extensions_mut().insert(lease.link.life);
        return answer.map(|_| Body::empty());
    }
    answer.map(|incoming| Body::incoming(incoming).leased(lease))
}

fn why(error: hyper::Error) -> SendError {
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return SendError::Protocol;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            // The error is owned by hyper's; what is inside it, an alert of the peer's say, is what the caller wants to see.
            return SendError::Broken(Some(copy_of(io)));
        }
        cause = inner.source();
    }
    SendError::Broken(None)
}

/// An equal error: rustls's own is cloned, of others the kind and the text remain.
fn copy_of(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => io::Error::new(error.kind(), tls.clone()),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
