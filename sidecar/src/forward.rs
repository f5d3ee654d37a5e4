//! Hands a trusted request to the plugin, and to nobody else.
//!
//! In: a [`Trusted`] request and its body. Out: the plugin's answer as it came, its body under way.
//! The plugin stands on loopback or a unix socket; connections to it are kept by each worker and
//! looked at again at every connect, so that a name that begins to point elsewhere is noticed.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use gapura_http::BoxStream;
use gapura_http2::{Owner, client as http2};
use gapura_runtime::worker::Worker;
use gapura_telemetry::metrics::{OpenConnection, Side};
use gapura_telemetry::span::Callee;
use gapura_transport::body::{Body, BodyFault, Upload, UploadState};
use gapura_transport::timers::Timers;
use gapura_transport::tunnel;
use gapura_transport::upstream::crowd::Crowd;
use gapura_transport::upstream::dial;
use gapura_transport::upstream::kept::{Held, Opened, Pool, Unanswered};
use gapura_transport::upstream::{Answer, Failed, Hint, Patience};
use http::header::{HeaderValue, TE};
use http::{Request, Response, Version};

use crate::sanitise::Trusted;

/// Where the plugin is.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// HTTP/1.1 over TCP.
    Http(Tcp),
    /// HTTP/1.1 over a unix socket.
    Unix(PathBuf),
    /// HTTP/2 without TLS, known beforehand.
    H2c(Tcp),
}

/// A host and a port.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    /// An address, or a name.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Beyond loopback too.
    pub(crate) anywhere: bool,
}

/// One worker's way to the plugin.
pub(crate) struct Plugin {
    address: Address,
    worker: Rc<Worker>,
    pool: Rc<Pool<BoxStream>>,
    shared: RefCell<Option<http2::Connection<Timers>>>,
}

/// Counts a connection for as long as it lives.
struct Counted(#[expect(dead_code, reason = "held, never asked")] OpenConnection);

impl Held for Counted {}

/// Why the plugin gave no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// It cannot be connected to.
    Unreachable(io::Error),
    /// It broke off before an answer.
    Broken(Option<io::Error>),
    /// What it said is no answer, for this reason.
    Protocol(&'static str),
    /// It took nothing of the request's body, or did not answer, for too long.
    Timeout,
    /// The request's body broke.
    Body(BodyFault),
}

/// Below the keep-alive of any server we know of: else a request may meet a connection that its
/// server is just closing.
const KEEP: Duration = Duration::from_secs(3);

/// For the plugin's HTTP/2 to say that it is there.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The gateway has the say over time: it gives up and takes its request back.
const NO_TIMEOUT: Duration = Duration::MAX;

impl Plugin {
    /// A way to `address` without any connection yet; `crowd` is what the workers share.
    #[must_use]
    pub(crate) fn new(address: Address, worker: Rc<Worker>, crowd: Crowd) -> Self {
        let pool = Pool::crowded(&worker.timers, &worker.tasks, &worker.buffers, KEEP, crowd);
        Self {
            address,
            worker,
            pool,
            shared: RefCell::default(),
        }
    }

    /// What a span says of it.
    pub(crate) fn callee(&self) -> Callee {
        let (address, port) = match &self.address {
            Address::Http(at) | Address::H2c(at) => (at.host.as_str().into(), Some(at.port)),
            Address::Unix(path) => (path.display().to_string().into(), None),
        };
        Callee {
            scheme: "http",
            address,
            port,
        }
    }

    /// Closes connections that have idled too long.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    /// Sends a request of `owner`; `hint` hears of interim answers.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn send(
        &self,
        trusted: Trusted,
        body: Body,
        upload: &Rc<Upload>,
        (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    ) -> Result<Answer, Error> {
        let (websocket, trailers) = (trusted.websocket, trusted.trailers);
        let mut request = Request::from_parts(trusted.into_parts(), body);
        let over_h2 = matches!(self.address, Address::H2c(_));
        if websocket {
            tunnel::set_headers(request.headers_mut());
        } else if over_h2 && trailers {
            request
                .headers_mut()
                .insert(TE, HeaderValue::from_static("trailers"));
        }
        // Boxed, since its frame would be part of every request's and few plugins speak it.
        if over_h2 {
            Box::pin(self.over_h2(request, upload, (owner, hint))).await
        } else {
            self.over_h1(request, upload, hint).await
        }
    }

    async fn over_h1(
        &self,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
        hint: &mut Hint<'_>,
    ) -> Result<Answer, Error> {
        // What of the target is not its path becomes the `Host` line, or stands in one already.
        *request.version_mut() = Version::HTTP_11;
        let patience = Patience::new(upload, &self.worker.timers, NO_TIMEOUT);
        let sent = self
            .pool
            .send(request, &patience, || self.open(), hint)
            .await;
        sent.map_err(|unanswered| match unanswered {
            Unanswered::Connect(_, error) => Error::Unreachable(error),
            Unanswered::Failed(failed) => meaning(failed, upload),
        })
    }

    async fn over_h2(
        &self,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
        (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    ) -> Result<Answer, Error> {
        *request.version_mut() = Version::HTTP_2;
        to_absolute_form(&mut request);
        let known = self
            .shared
            .borrow()
            .as_ref()
            .filter(|shared| shared.is_open() && shared.has_room())
            .cloned();
        if let Some(shared) = known {
            let repeatable = request.method().is_idempotent();
            match shared.send(request, owner, &mut *hint).await {
                Err(http2::SendError::Unsent {
                    request: unsent, ..
                }) => request = *unsent,
                // It was lost with a connection that had been kept, before a byte of an answer.
                Err(http2::SendError::Closed {
                    request: Some(unanswered),
                    ..
                }) if repeatable => request = *unanswered,
                result => return over_h2(result, upload),
            }
        }
        let fresh = self.open_h2().await.map_err(Error::Unreachable)?;
        *self.shared.borrow_mut() = Some(fresh.clone());
        over_h2(fresh.send(request, owner, hint).await, upload)
    }

    async fn open(&self) -> io::Result<Opened<BoxStream>> {
        let io = self.address.connect().await?;
        Ok(Opened {
            io,
            held: Rc::new(Counted(self.worker.count_open(Side::Plugin))),
        })
    }

    async fn open_h2(&self) -> io::Result<http2::Connection<Timers>> {
        let worker = &self.worker;
        let io = self.address.connect().await?;
        let settings = http2::Settings::default();
        let share = worker.held.open();
        let handshake = http2::Connection::handshake(io, settings, &worker.timers, &share);
        let (shared, driver) = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let open = self.worker.count_open(Side::Plugin);
        worker
            .tasks
            .spawn("a connection to the plugin", async move {
                driver.await;
                drop(open);
            });
        Ok(shared)
    }
}

impl Address {
    /// A connection to the plugin.
    ///
    /// # Errors
    /// What the system says, or that it is not where it may be.
    pub(crate) async fn connect(&self) -> io::Result<BoxStream> {
        match self {
            Self::Unix(path) => Ok(Box::new(dial::unix(path).await?)),
            Self::Http(tcp) | Self::H2c(tcp) => Ok(Box::new(tcp.connect().await?)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(tcp) => write!(f, "http://{tcp}"),
            Self::H2c(tcp) => write!(f, "h2c://{tcp}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Tcp {
    /// Connects to the first address of the host that answers; each must be on loopback unless
    /// `anywhere`.
    async fn connect(&self) -> io::Result<tokio::net::TcpStream> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await?
            .collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            if !self.anywhere && !address.ip().is_loopback() {
                let message = format!(
                    "{} is {}, which is not on loopback",
                    self.host,
                    address.ip()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
            match dial::tcp(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// HTTP/2: the host is `:authority`, and nothing else (RFC 9113, section 8.3.1).
fn to_absolute_form(request: &mut Request<Body>) {
    let host = request.headers_mut().remove(http::header::HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    if let Some(host) = host {
        parts.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
    }
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
}

/// An answer over HTTP/2, or why there is none.
fn over_h2(
    sent: Result<Response<gapura_http::http1::Incoming>, http2::SendError<Body>>,
    upload: &Upload,
) -> Result<Answer, Error> {
    match sent {
        Ok(answer) => Ok(answer.map(Body::answer).into()),
        Err(error) => Err(meaning(error.into(), upload)),
    }
}

/// What it means that a connection gave no answer.
fn meaning(failed: Failed, upload: &Upload) -> Error {
    // A body that broke is why the rest failed, and not the other way round. That it was dropped is
    // no fault of its own.
    if let UploadState::Failed(fault) = upload.state()
        && fault != BodyFault::Cut
    {
        return Error::Body(fault);
    }
    match failed {
        Failed::Unsent(_, error) | Failed::Closed(_, error) => Error::Broken(error),
        Failed::Cut(reason) | Failed::Protocol(reason) => Error::Protocol(reason),
        Failed::Over => Error::Timeout,
        Failed::Body(fault) => Error::Body(fault),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable(_) => "the plugin cannot be connected to",
            Self::Broken(_) => "the plugin broke off before an answer",
            Self::Protocol(reason) => return write!(f, "the plugin gave no answer: {reason}"),
            Self::Timeout => {
                "the plugin took nothing of the request's body, or gave no answer, for too long"
            }
            Self::Body(_) => "the request's body broke",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Broken(error) => error.as_ref().map(|error| error as _),
            Self::Body(fault) => Some(fault),
            Self::Protocol(_) | Self::Timeout => None,
        }
    }
}
