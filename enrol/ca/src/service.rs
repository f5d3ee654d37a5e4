//! What can be asked of a CA server, and by whom: the way of each request on one screen.
//!
//! In: requests, and who the handshake says is asking. Out: EST's answers (RFC 7030), news as JSON,
//! or a refusal in the envelope with a line in the log. Nobody's word counts for who they are: a
//! certificate does, or a join token.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gapura_certificates::peer::Peer;
use gapura_enrol::authorization::Claim;
use gapura_enrol::paths::{
    AFTER, CACERTS, CRLS, LONG_POLL, MOST_CRLS, MOST_REQUEST, PKCS7, PKCS7_CERTS_ONLY,
    SIMPLEENROLL, SIMPLEREENROLL, TRUST,
};
use gapura_enrol::refusal::{Code, Refused};
use gapura_enrol::{payload, pkcs7};
use gapura_pki::enrol::{Ask, Granted};
use gapura_protocol::clock::{Rfc3339, from_unix};
use gapura_runtime::places::Place;
use gapura_runtime::worker::Worker;
use gapura_telemetry::log::{Field, Level};
use gapura_transport::body::Body;
use gapura_transport::shutdown::Phase;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use crate::counters::{Counted, Counters, How};
use crate::herald::News;
use crate::limits::{Asker, Limits, What};
use crate::office::Office;

/// Who is at the other end of a connection.
pub(crate) struct Guest {
    /// Whom the handshake has proven.
    pub(crate) peer: Option<Peer>,
    /// From where, for the log.
    pub(crate) from: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) place: Arc<Place>,
}

/// Answers the requests of one worker's connections.
pub(crate) struct Desk {
    pub(crate) worker: Rc<Worker>,
    pub(crate) office: Office,
    pub(crate) news: News,
    pub(crate) limits: Arc<Limits>,
    pub(crate) counters: Arc<Counters>,
}

/// For a body: it is shorter than a packet or two.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// For CRLs, which may be long.
const CRLS_WITHIN: Duration = Duration::from_secs(60);

/// Hosts that give their CRLs back at a time: what one has told the record, the others need not
/// tell.
const REMINDERS: u64 = 2;

/// What a refused upload may still send before it is hung up on, so that it reads why.
const DRAIN: usize = 4 << 20;

/// Requests that may wait for news: hosts, each with one.
const POLLS: u64 = 8192;

/// What is asked for, where it is served.
enum Asked {
    CaCerts,
    Enrol,
    Renew,
    News,
    Remind,
}

impl Desk {
    /// Answers a request.
    pub(crate) async fn answer(&self, guest: &Guest, request: Request<Incoming>) -> Response<Body> {
        if !guest.place.begin() {
            // It was told to end while this came, and its task will not be polled again.
            std::future::pending::<()>().await;
        }
        let path = request.uri().path().to_owned();
        let mut response = match self.try_answer(guest, request).await {
            Ok(response) => response,
            Err(refused) => self.refuse(guest, &path, &refused),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let goes = self.worker.spec.stopping.phase() != Phase::Run;
        if goes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        guest.place.rest();
        response
    }

    /// The life of a request.
    async fn try_answer(
        &self,
        guest: &Guest,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let (head, body) = request.into_parts();
        match found(head.uri.path(), &head.method)? {
            Asked::CaCerts => {
                self.take(guest, What::News)?;
                Ok(est(PKCS7, self.news.cacerts()))
            }
            Asked::Enrol => {
                self.take(guest, What::Certificate)?;
                let claim = claim(&head.headers)?;
                let csr = csr(&head.headers, body).await?;
                let ask = Ask::Join {
                    role: claim.role,
                    name: claim.name,
                    secret_sha256: claim.secret.sha256(),
                    csr,
                };
                Ok(self.grant(guest, ask).await?)
            }
            Asked::Renew => {
                let peer = proven(guest)?;
                self.take(guest, What::Certificate)?;
                let csr = csr(&head.headers, body).await?;
                let ask = Ask::Renew {
                    id: peer.id.clone(),
                    serial: peer.serial_hex(),
                    csr,
                };
                Ok(self.grant(guest, ask).await?)
            }
            Asked::News => {
                self.take(guest, What::News)?;
                let known = known(head.uri.query().unwrap_or_default());
                // It is public; but nobody waits here whom we do not know.
                if let (Some(peer), Some(known)) = (&guest.peer, known) {
                    let now = self.worker.spec.clock.unix();
                    self.news.is_held(peer.serial_hex(), &known, now);
                    self.wait_for_news(&known).await?;
                }
                Ok(json(StatusCode::OK, self.news.body()))
            }
            Asked::Remind => {
                let peer = proven(guest)?;
                self.take(guest, What::Certificate)?;
                if self.counters.reminders.load(Ordering::Relaxed) >= REMINDERS {
                    return Err(Code::Overloaded.into());
                }
                let _reminds = Counted::one(&self.counters.reminders);
                let read = whole(&head.headers, body, "what is given back is", MOST_CRLS);
                let crls = tokio::time::timeout(CRLS_WITHIN, read).await;
                let crls = crls.map_err(|_| Code::RequestTimeout)??;
                self.office.remind(peer.id.clone(), crls.into()).await?;
                Ok(json(StatusCode::OK, Bytes::from_static(b"{\"ok\": true}")))
            }
        }
    }

    /// Counts the request against what its asker may have.
    fn take(&self, guest: &Guest, what: What) -> Result<(), Refused> {
        let asker = match &guest.peer {
            Some(peer) => Asker::Peer(peer.id.clone()),
            None => Asker::stranger(guest.address),
        };
        self.limits
            .take(asker, what, Instant::now())
            .map_err(|_| Code::TooMany.into())
    }

    async fn grant(&self, guest: &Guest, ask: Ask) -> Result<Response<Body>, Refused> {
        let renews = match &ask {
            Ask::Renew { serial, .. } => Some(serial.clone()),
            Ask::Join { .. } => None,
        };
        let granted = self.office.ask(ask).await?;
        let how = match (&renews, granted.again) {
            (Some(_), _) => How::Renewed,
            (None, false) => How::Joined,
            (None, true) => How::JoinedAgain,
        };
        self.counters.granted(how);
        self.tell_of_grant(guest, (&granted, how), renews);
        let message = payload::encode(&pkcs7::certs_only(&granted.chain));
        Ok(est(PKCS7_CERTS_ONLY, message.into()))
    }

    fn tell_of_grant(
        &self,
        guest: &Guest,
        (granted, how): (&Granted, How),
        renews: Option<String>,
    ) {
        let until = Rfc3339(from_unix(granted.not_after)).to_string();
        let id = granted.id.to_string();
        let message = format!("{id} got a certificate until {until}");
        let fields = [
            ("how", how.as_str().into()),
            ("id", id.as_str().into()),
            ("serial", granted.serial.as_str().into()),
            ("renews", renews.into()),
            ("peer", guest.from.as_str().into()),
        ];
        let log = &self.worker.spec.log;
        log.event(Level::Info, "granted", &message, &fields);
    }

    /// Ready when there is other news than `known`, the time for waiting is over, or the program
    /// goes.
    async fn wait_for_news(&self, known: &str) -> Result<(), Refused> {
        if self.counters.polls.load(Ordering::Relaxed) >= POLLS {
            return Err(Code::Overloaded.into());
        }
        let _waits = Counted::one(&self.counters.polls);
        let mut stopping = self.worker.spec.stopping.clone();
        tokio::select! {
            () = self.news.other_than(known) => {}
            () = tokio::time::sleep(LONG_POLL) => {}
            () = stopping.reached(Phase::Draining) => {}
        }
        Ok(())
    }

    fn refuse(&self, guest: &Guest, path: &str, refused: &Refused) -> Response<Body> {
        self.counters.refused(refused.code);
        let id = guest.peer.as_ref().map(|peer| peer.id.to_string());
        let serial = guest.peer.as_ref().map(Peer::serial_hex);
        let served = served(path).map(|(_, method)| (path, method));
        let message = format!(
            "{} was refused: {}",
            id.as_deref().unwrap_or(&guest.from),
            refused.message
        );
        let fields: [(&str, Field<'_>); 5] = [
            ("code", refused.code.as_str().into()),
            (
                "path",
                served.as_ref().map_or("other", |(path, _)| *path).into(),
            ),
            ("id", id.clone().into()),
            ("serial", serial.into()),
            ("peer", guest.from.as_str().into()),
        ];
        let log = &self.worker.spec.log;
        log.event(Level::Warn, "refused", &message, &fields);
        let mut response = json(refused.code.status(), refused.to_json().into());
        let headers = response.headers_mut();
        match refused.code.status() {
            StatusCode::UNAUTHORIZED => {
                let way = HeaderValue::from_static("Basic realm=\"join token\"");
                headers.insert(WWW_AUTHENTICATE, way);
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                let allowed = served.and_then(|(_, method)| method.as_str().parse().ok());
                headers.extend(allowed.map(|method: HeaderValue| (ALLOW, method)));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

/// What is served at a path, and by which method.
fn served(path: &str) -> Option<(Asked, Method)> {
    Some(match path {
        CACERTS => (Asked::CaCerts, Method::GET),
        SIMPLEENROLL => (Asked::Enrol, Method::POST),
        SIMPLEREENROLL => (Asked::Renew, Method::POST),
        TRUST => (Asked::News, Method::GET),
        CRLS => (Asked::Remind, Method::POST),
        _ => return None,
    })
}

/// What is asked for.
fn found(path: &str, method: &Method) -> Result<Asked, Code> {
    let (asked, wanted) = served(path).ok_or(Code::NotFound)?;
    if *method == wanted {
        Ok(asked)
    } else {
        Err(Code::MethodNotAllowed)
    }
}

/// Whom the handshake has proven.
fn proven(guest: &Guest) -> Result<&Peer, Code> {
    guest.peer.as_ref().ok_or(Code::CertificateMissing)
}

/// What the join token says, of which there is one.
fn claim(headers: &HeaderMap) -> Result<Claim, Refused> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return Err(Code::TokenMissing.into());
    };
    Claim::from_header(only.as_bytes()).ok_or_else(|| {
        Refused::new(
            Code::TokenMissing,
            "the Authorization field holds no join token; it is `Basic` with the identity (plugin/NAME) and the token's secret",
        )
    })
}

/// The certificate request of a body, DER.
async fn csr(headers: &HeaderMap, body: Incoming) -> Result<Vec<u8>, Refused> {
    let read = whole(headers, body, "a certificate request is", MOST_REQUEST);
    let text = tokio::time::timeout(BODY_WITHIN, read).await;
    let text = text.map_err(|_| Code::RequestTimeout)??;
    payload::decode(&text).map_err(|why| Refused::new(Code::CsrInvalid, why))
}

/// A body whole. One that is longer than `most` is read to its end, as far as that is near, so that
/// whoever sends it reads why it is refused.
async fn whole(
    headers: &HeaderMap,
    mut body: Incoming,
    what: &str,
    most: usize,
) -> Result<Vec<u8>, Refused> {
    let too_long = || {
        let why = format!("{what} at most {} KiB", most >> 10);
        Refused::new(Code::BodyTooLarge, why)
    };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let (mut bytes, mut passed) = (Vec::new(), 0);
    let mut keeps = announced.unwrap_or_default() <= most;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Code::BadRequest)?.into_data() else {
            continue;
        };
        passed += data.len();
        keeps &= passed <= most;
        if keeps {
            bytes.extend_from_slice(&data);
        } else if passed > most + DRAIN {
            return Err(too_long());
        } else {
            bytes = Vec::new();
        }
    }
    if keeps { Ok(bytes) } else { Err(too_long()) }
}

/// The generation that the asker has; none where it asks for what there is.
fn known(query: &str) -> Option<String> {
    let after = query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == AFTER).then_some(value)
    })?;
    let is_hex = after.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && !after.is_empty() && after.len() <= 128).then(|| after.to_owned())
}

fn est(kind: &'static str, body: Bytes) -> Response<Body> {
    // RFC 7030 asks for the field after this; RFC 8951 says that it counts for nothing, and clients
    // of either sort are content.
    let mut response = answer(StatusCode::OK, kind, body);
    response.headers_mut().insert(
        "content-transfer-encoding",
        HeaderValue::from_static("base64"),
    );
    response
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    answer(status, "application/json", body)
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_served_by_one_method() {
        assert!(matches!(found(TRUST, &Method::GET), Ok(Asked::News)));
        assert!(matches!(
            found(SIMPLEENROLL, &Method::POST),
            Ok(Asked::Enrol)
        ));
        assert_eq!(
            found(TRUST, &Method::POST).err(),
            Some(Code::MethodNotAllowed)
        );
        assert_eq!(
            found(SIMPLEENROLL, &Method::GET).err(),
            Some(Code::MethodNotAllowed)
        );
        assert_eq!(found("/", &Method::GET).err(), Some(Code::NotFound));
        assert_eq!(
            found("/v1/trust/", &Method::GET).err(),
            Some(Code::NotFound)
        );
    }

    #[test]
    fn what_is_no_generation_waits_for_nothing() {
        assert_eq!(known("after=0aF9"), Some("0aF9".to_owned()));
        assert_eq!(known("x=1&after=ab"), Some("ab".to_owned()));
        for query in ["", "after=", "after=xyz", "before=ab", "after"] {
            assert_eq!(known(query), None, "{query}");
        }
    }
}
