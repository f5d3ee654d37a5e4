//! A small HTTPS client for documents that others publish: key sets, metadata.
//!
//! In: an address, where it may lead, and bounds. Out: the whole body of a 200, and how long it may
//! be kept; or why not, as a sentence. Everything is bounded: time, bytes, fields, redirects,
//! addresses tried. TLS is verified by the system's roots or by those that the operator names.
//! Knows nothing of keys or tokens, and shows the other side nothing but the request: no cookie, no
//! credential.
//! Invariant: bytes come from the host that was asked, redirected or not; and where only public
//! addresses are allowed, the address that was judged is the one that was connected to.

mod address;
mod once;
mod post;
mod read;
mod roots;
mod url;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, HeaderMap, USER_AGENT};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use post::Posted;
pub use read::Answer;
pub use url::Url;

use gapura_trust::provider::public_provider;

use once::Once;
use read::Asked;

/// Fetches documents. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    /// Or why nothing can be fetched over TLS.
    tls: Result<Arc<ClientConfig>, String>,
}

/// Where a connection may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To any address: the operator wrote the host.
    Anywhere,
    /// To public addresses alone: somebody else wrote the host.
    Public,
    /// To any address, and in plain http too: the operator has been told what that means.
    Plain,
}

/// What a fetch may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest body.
    pub bytes: usize,
    /// From the first look-up of the name to the body's last byte, redirects included.
    pub within: Duration,
}

/// Why a document was not fetched: a sentence about the address, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    at: String,
    why: String,
}

/// How often a host may send us on to another of its own addresses.
const REDIRECTS: usize = 3;

/// Of a name's addresses so many are tried, each for so long.
const ADDRESSES: usize = 8;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// The largest head of an answer.
const HEAD: usize = 32 * 1024;

impl Client {
    /// A client that trusts the roots in the file `roots`, or the system's. Where they can't be
    /// had, it fetches from this machine alone.
    #[must_use]
    pub fn new(roots: Option<&Path>) -> Self {
        Self::trusting(roots, "--issuer-ca")
    }

    /// The same, with `roots` from another setting, which sentences are to name.
    #[must_use]
    pub fn trusting(roots: Option<&Path>, setting: &str) -> Self {
        Self {
            tls: client_config(roots, setting),
        }
    }

    /// Whether an address like `url` can be fetched at all.
    ///
    /// # Errors
    /// A sentence that says which roots cannot be had, and what to do.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        match &self.tls {
            Err(fault) if url.is_tls() => Err(fault.clone()),
            _ => Ok(()),
        }
    }

    /// Fetches what stands at `url`.
    ///
    /// # Errors
    /// If it can't be reached in time, is not who it should be, or answers anything but a whole
    /// document within the bounds.
    pub async fn get(
        &self,
        url: &Url,
        reach: Reach,
        bounds: &Bounds,
    ) -> Result<Answer, FetchError> {
        let failed = |why: String| FetchError {
            at: url.to_string(),
            why,
        };
        let fetched = tokio::time::timeout(bounds.within, self.follow(url, reach, bounds.bytes));
        match fetched.await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(format!(
                "no whole answer within {} s",
                bounds.within.as_secs()
            ))),
        }
    }

    /// Posts `body` to `url` with these headers, and waits for what is said to that. It is
    /// redirected nowhere.
    ///
    /// # Errors
    /// If it can't be reached in time, is not who it should be, or speaks no HTTP.
    pub async fn post(
        &self,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
        within: Duration,
    ) -> Result<Posted, FetchError> {
        let failed = |why: String| FetchError {
            at: url.without_query(),
            why,
        };
        let request = post::request(url, headers, body).map_err(failed)?;
        let posted = self.exchange(url, Reach::Plain, request, post::read);
        match tokio::time::timeout(within, posted).await {
            Ok(posted) => posted.map_err(failed),
            Err(_) => Err(failed(format!(
                "no whole answer within {} ms",
                within.as_millis()
            ))),
        }
    }

    async fn follow(&self, url: &Url, reach: Reach, most: usize) -> Result<Answer, String> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS {
            let next = match self.ask(&at, reach, most).await? {
                Asked::Answer(answer) => return Ok(answer),
                Asked::Moved(location) => at.join(&location)?,
            };
            // Another host is another's word; another port or scheme is another service.
            if !next.is_same_origin(url) {
                return Err(format!(
                    "it redirects to {next}, which is elsewhere; write that address if it is the one you mean"
                ));
            }
            at = next;
        }
        Err(format!("it redirects more than {REDIRECTS} times"))
    }

    async fn ask(&self, url: &Url, reach: Reach, most: usize) -> Result<Asked, String> {
        let request = request(url)?;
        let read = |response| read::read(response, most);
        self.exchange(url, reach, request, read).await
    }

    /// One request and what `read` makes of its answer, on a connection that is closed afterwards.
    async fn exchange<T, R: Future<Output = Result<T, String>>>(
        &self,
        url: &Url,
        reach: Reach,
        request: Request<Once>,
        read: impl FnOnce(Response<Incoming>) -> R,
    ) -> Result<T, String> {
        self.check(url)?;
        let stream = connect(url, reach).await?;
        if !url.is_tls() {
            return exchange(stream, request, read).await;
        }
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|_| "its host is no name that a certificate could have".to_owned())?;
        let connector = TlsConnector::from(self.tls.clone()?);
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| format!("TLS failed: {error}"))?;
        exchange(stream, request, read).await
    }
}

fn client_config(roots: Option<&Path>, setting: &str) -> Result<Arc<ClientConfig>, String> {
    let roots = roots::load(roots, setting)?;
    let builder = ClientConfig::builder_with_provider(public_provider());
    let mut tls = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("nothing can be fetched over TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(tls))
}

/// Connects to the first address that answers, of those that may be connected to.
async fn connect(url: &Url, reach: Reach) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((url.host(), url.port())).await;
    let found = found.map_err(|error| format!("its name cannot be resolved: {error}"))?;
    let mut why = "its name has no address".to_owned();
    for address in found.take(ADDRESSES) {
        if let Err(refusal) = may_connect(address.ip(), url, reach) {
            why = refusal;
            continue;
        }
        why = match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("{} cannot be reached: {error}", shown(address)),
            Err(_) => format!("{} does not answer", shown(address)),
        };
    }
    Err(why)
}

/// Judged for the very address that is dialled next, so that a name can't resolve to one for the
/// judge and to another for us.
fn may_connect(ip: IpAddr, url: &Url, reach: Reach) -> Result<(), String> {
    if reach == Reach::Public && !address::is_public(ip) {
        return Err("it resolves to an address that is not public, and its host is not one that you configured".to_owned());
    }
    if reach != Reach::Plain && !url.is_tls() && !ip.to_canonical().is_loopback() {
        return Err("it is plain http and resolves to another machine".to_owned());
    }
    Ok(())
}

fn shown(address: SocketAddr) -> String {
    address.to_string()
}

/// The request for a document.
fn request(url: &Url) -> Result<Request<Once>, String> {
    Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("gapura/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Once::default())
        .map_err(|_| "its address cannot be written in a request".to_owned())
}

async fn exchange<S, T, R>(
    stream: S,
    request: Request<Once>,
    read: impl FnOnce(Response<Incoming>) -> R,
) -> Result<T, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Future<Output = Result<T, String>>,
{
    let broken = |error: hyper::Error| format!("it speaks no HTTP that we understand: {error}");
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(response).await
    });
    // The connection is driven here and by no task of its own, so that it ends with the fetch.
    let mut connection = pin!(connection);
    let mut driven = true;
    loop {
        tokio::select! {
            biased;
            answered = &mut answer => return answered,
            _ = &mut connection, if driven => driven = false,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.why)
    }
}

impl std::error::Error for FetchError {}

#[cfg(test)]
mod tests;
