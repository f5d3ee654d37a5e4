//! Hands a trusted request to the plugin, and to nobody else.
//!
//! In: a [`Trusted`] request and its body. Out: the plugin's answer as it came, its body under way. The plugin stands on
//! loopback or a unix socket; connections to it are kept by each worker and looked at again at every connect, so that a name that
//! begins to point elsewhere is noticed.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use gapura_runtime::worker::Core;
use gapura_telemetry::metrics::Side;
use gapura_transport::body::{Body, Fault, Upload};
use gapura_transport::io::BoxIo;
use gapura_transport::tunnel;
use gapura_transport::upstream::SendError;
use gapura_transport::upstream::dial;
use gapura_transport::upstream::h1::{Kept, Pool};
use gapura_transport::upstream::h2::H2;
use gapura_transport::upstream::life::Life;
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
    core: Rc<Core>,
    pool: Rc<Pool>,
    shared: RefCell<Option<H2>>,
}

/// Why the plugin gave no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// It cannot be connected to.
    Unreachable(io::Error),
    /// It broke off, or what it said is no answer.
    Protocol(SendError),
    /// It took nothing of the request's body for too long.
    Timeout,
    /// The request's body broke.
    Body(Fault),
}

/// Below the keep-alive of any server we know of: else a request may meet a connection that its server is just closing.
const KEEP: Duration = Duration::from_secs(3);

/// For the plugin's HTTP/2 to say that it is there.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The gateway has the say over time: it gives up and takes its request back.
const NO_TIMEOUT: Duration = Duration::MAX;

impl Plugin {
    /// A way to `address` without any connection yet.
    #[must_use]
    pub(crate) fn new(address: Address, core: Rc<Core>) -> Self {
        let pool = Pool::new(&core.timers, &core.tasks, KEEP);
        Self {
            address,
            core,
            pool,
            shared: RefCell::default(),
        }
    }

    /// Closes connections that have idled too long.
    pub(crate) fn tidy(&self) {
        self.pool.tidy();
    }

    /// Sends a request. A connection that had closed before anything was written is replaced once.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn send(
        &self,
        trusted: Trusted,
        body: Body,
        upload: &Rc<Upload>,
    ) -> Result<Response<Body>, Error> {
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
        let result = if over_h2 {
            Box::pin(self.over_h2(request, upload)).await
        } else {
            self.over_h1(request, upload).await
        };
        result.map_err(Error::from)
    }

    async fn over_h1(
        &self,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
    ) -> Result<Response<Body>, Failure> {
        *request.version_mut() = Version::HTTP_11;
        to_origin_form(&mut request);
        while let Some(kept) = self.pool.take().await {
            match self.pool.send(kept, request, upload, NO_TIMEOUT).await {
                Err(SendError::Unsent(unsent)) => request = *unsent,
                result => return Ok(result?),
            }
        }
        let fresh = Box::pin(self.connect_h1())
            .await
            .map_err(Failure::Connect)?;
        Ok(self.pool.send(fresh, request, upload, NO_TIMEOUT).await?)
    }

    async fn over_h2(
        &self,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
    ) -> Result<Response<Body>, Failure> {
        *request.version_mut() = Version::HTTP_2;
        to_absolute_form(&mut request);
        let known = self
            .shared
            .borrow()
            .as_ref()
            .filter(|shared| shared.is_open() && shared.has_room())
            .cloned();
        if let Some(shared) = known {
            match shared.send(request, upload, NO_TIMEOUT).await {
                Err(SendError::Unsent(unsent)) => request = *unsent,
                result => return Ok(result?),
            }
        }
        let fresh = Box::pin(self.connect_h2())
            .await
            .map_err(Failure::Connect)?;
        *self.shared.borrow_mut() = Some(fresh.clone());
        Ok(fresh.send(request, upload, NO_TIMEOUT).await?)
    }

    async fn connect_h1(&self) -> io::Result<Kept> {
        let io = self.connect().await?;
        self.pool
            .open(io, Life::new(self.core.count_open(Side::Plugin), None))
            .await
            .map_err(io::Error::other)
    }

    async fn connect_h2(&self) -> io::Result<H2> {
        let core = &self.core;
        let io = self.connect().await?;
        let handshake = H2::handshake(io, &core.timers, &core.streams, &core.tasks);
        let (shared, driver) = tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let open = self.core.count_open(Side::Plugin);
        core.tasks.spawn("a connection to the plugin", async move {
            driver.await;
            drop(open);
        });
        Ok(shared)
    }

    async fn connect(&self) -> io::Result<BoxIo> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(dial::unix(path).await?)),
            Address::Http(tcp) | Address::H2c(tcp) => Ok(Box::new(tcp.connect().await?)),
        }
    }
}

impl Tcp {
    /// Connects to the first address of the host that answers; each must be on loopback unless `anywhere`.
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

/// HTTP/1.1 to an origin: the path alone, the host in its header (RFC 9112, section 3.2.1).
fn to_origin_form(request: &mut Request<Body>) {
    if request.uri().authority().is_some() {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (None, None);
        *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
    }
}

/// HTTP/2: the host is `:authority`, and nothing else (RFC 9113, section 8.3.1).
fn to_absolute_form(request: &mut Request<Body>) {
    let Some(host) = request.headers_mut().remove(http::header::HOST) else {
        return;
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
}

enum Failure {
    Connect(io::Error),
    Send(SendError),
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connect(error) => Self::Unreachable(error),
            Failure::Send(SendError::Body(fault)) => Self::Body(fault),
            Failure::Send(SendError::Timeout) => Self::Timeout,
            Failure::Send(error) => Self::Protocol(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable(_) => "the plugin cannot be connected to",
            Self::Protocol(_) => "the plugin gave no answer",
            Self::Timeout => "the plugin took nothing of the request's body",
            Self::Body(_) => "the request's body broke",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Protocol(error) => Some(error),
            Self::Body(fault) => Some(fault),
            Self::Timeout => None,
        }
    }
}
