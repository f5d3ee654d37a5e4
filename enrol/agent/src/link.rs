//! One connection to the CA server: TLS with whom a configuration takes, then one request after
//! another.
//!
//! In: the address, a TLS configuration that says who may answer. Out: whole answers of 200,
//! refusals as the CA server words them, or a [`Trouble`]. Every wait has a deadline and every
//! answer a bound. A connection that broke, or whose answer was late, is never used again.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gapura_enrol::paths::MOST_ANSWER;
use gapura_enrol::refusal::Refused;
use gapura_fetch::Url;
use gapura_trust::failure::{HandshakeFailure, handshake_refusal};
use gapura_trust::set::TrustSet;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::trouble::Trouble;

/// Of a name's addresses so many are tried, each for so long.
const ADDRESSES: usize = 8;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A name server that is gone must not hold up the next try.
const LOOKUP_WITHIN: Duration = Duration::from_secs(10);
/// A busy CA server shakes hands with a thousand in a few seconds.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(20);
/// The largest head of an answer.
const HEAD: usize = 32 * 1024;

/// A connection.
pub(crate) struct Link {
    sender: http1::SendRequest<Whole>,
    /// What drives it; ends when this is dropped.
    _driver: JoinSet<()>,
    host: HeaderValue,
    peer: Vec<CertificateDer<'static>>,
}

/// A request.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) target: &'a str,
    pub(crate) accept: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
    pub(crate) within: Duration,
}

impl Link {
    /// Connects. `set` is whose configuration `tls` is, where there is one: it knows more of a
    /// failure.
    pub(crate) async fn open(
        url: &Url,
        tls: Arc<ClientConfig>,
        set: Option<&TrustSet>,
    ) -> Result<Self, Trouble> {
        let stream = connect(url).await?;
        let _ = stream.set_nodelay(true); // a request is one write either way
        // Who answers is known by its certificate alone; the name only fills a place.
        let nobody = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let shaken = timeout(
            HANDSHAKE_WITHIN,
            TlsConnector::from(tls).connect(nobody, stream),
        );
        let stream = match shaken.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let failure =
                    set.map_or_else(|| handshake_refusal(&error), |set| set.explain(&error));
                return Err(failed_handshake(failure));
            }
            Err(_) => {
                return Err(Trouble::Unreachable(format!(
                    "it does not shake hands within {} s",
                    HANDSHAKE_WITHIN.as_secs()
                )));
            }
        };
        let peer = stream.get_ref().1.peer_certificates();
        let peer = peer.unwrap_or_default().to_vec();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn_local(async move {
            let _ = connection.await; // what broke is told to whoever waits for an answer
        });
        let shown = match url.host().contains(':') {
            true => format!("[{}]:{}", url.host(), url.port()),
            false => format!("{}:{}", url.host(), url.port()),
        };
        let host = HeaderValue::try_from(shown).map_err(|_| {
            Trouble::Unreachable("its name can't be written in a request".to_owned())
        })?;
        Ok(Self {
            sender,
            _driver: driver,
            host,
            peer,
        })
    }

    /// The certificates that whoever answers has shown.
    pub(crate) fn peer(&self) -> &[CertificateDer<'static>] {
        &self.peer
    }

    /// Asks, and waits for the whole answer.
    pub(crate) async fn ask(&mut self, question: Question<'_>) -> Result<Vec<u8>, Trouble> {
        let within = question.within;
        match timeout(within, self.exchange(question)).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Unreachable(format!(
                "it gave no whole answer within {} s",
                within.as_secs()
            ))),
        }
    }

    async fn exchange(&mut self, question: Question<'_>) -> Result<Vec<u8>, Trouble> {
        self.sender.ready().await.map_err(|error| broken(&error))?;
        let mut request = Request::builder()
            .method(question.method)
            .uri(question.target)
            .header(HOST, &self.host)
            .header(ACCEPT, question.accept)
            .header(
                USER_AGENT,
                concat!("gapura-agent/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(mut authorization) = question.authorization {
            authorization.set_sensitive(true);
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = question
            .body
            .map(|(kind, bytes)| (kind, Bytes::from(bytes)));
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
            request = request.header("Content-Transfer-Encoding", "base64");
        }
        let request = request
            .body(Whole(body.map(|(_, bytes)| bytes)))
            .map_err(|_| Trouble::Nonsense("the request can't be written".to_owned()))?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = whole(body).await?;
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        Err(Refused::parse(&body).map_or_else(
            || Trouble::Nonsense(format!("it answers {}", head.status.as_u16())),
            Trouble::Refused,
        ))
    }
}

/// Connects to the first address that answers.
async fn connect(url: &Url) -> Result<TcpStream, Trouble> {
    let unreachable = |why: String| Trouble::Unreachable(format!("{}: {why}", url.as_str()));
    let looked = timeout(
        LOOKUP_WITHIN,
        tokio::net::lookup_host((url.host(), url.port())),
    );
    let found: Vec<SocketAddr> = match looked.await {
        Ok(Ok(found)) => found.take(ADDRESSES).collect(),
        Ok(Err(error)) => {
            return Err(unreachable(format!("its name cannot be resolved: {error}")));
        }
        Err(_) => {
            return Err(unreachable(format!(
                "its name was not resolved within {} s",
                LOOKUP_WITHIN.as_secs()
            )));
        }
    };
    let mut why = "its name has no address".to_owned();
    for address in found {
        why = match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("{address} cannot be reached: {error}"),
            Err(_) => format!("{address} does not answer"),
        };
    }
    Err(unreachable(why))
}

fn failed_handshake(failure: HandshakeFailure) -> Trouble {
    let sentence = match &failure.peer {
        Some(peer) => format!("{} (it shows the certificate of {peer})", failure.sentence),
        None => failure.sentence,
    };
    if !failure.is_peer_alert
        && matches!(failure.reason, "expired" | "not_yet_valid" | "root_expired")
    {
        return Trouble::OutOfDate(format!(
            "the CA server shows a certificate that is out of date by our clock, and was told nothing: {sentence}"
        ));
    }
    match (failure.is_about_certificates, failure.is_peer_alert) {
        (true, true) => Trouble::Unwelcome(failure.reason, sentence),
        (true, false) => Trouble::Distrusted(sentence),
        (false, _) => Trouble::Unreachable(sentence),
    }
}

/// In TLS 1.3 a server says only after the handshake that it refuses our certificate.
fn broken(error: &hyper::Error) -> Trouble {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return failed_handshake(handshake_refusal(io));
        }
        cause = inner.source();
    }
    Trouble::Unreachable(format!("the connection broke: {error}"))
}

async fn whole(mut body: Incoming) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let frame = frame.map_err(|error| broken(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > MOST_ANSWER {
            return Err(Trouble::Nonsense(format!(
                "its answer is longer than {} MiB",
                MOST_ANSWER >> 20
            )));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// The body of a request: all there, or none.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
