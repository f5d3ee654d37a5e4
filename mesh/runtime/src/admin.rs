//! The operator's side: a few pages for people and machines that watch the program.
//!
//! In: a listener and what the pages say now. Out: answers to GET and HEAD, and to a question that is posted as JSON where the
//! program answers one; nothing is changed by either. The `Host` must be an IP address or `localhost`, so that a web page cannot have
//! its visitor's browser read it (DNS rebinding); beyond loopback a token is needed.
//! Serves on the control thread and never on a worker: a slow scrape delays no request. Where there are as many readers as may be,
//! the oldest of them gives up its place, so that who says nothing delays nobody.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gapura_http::BoxStream;
use gapura_protocol::labelled;
use gapura_transport::body::Body;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};

/// One page as it reads now.
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// Its media type.
    pub kind: &'static str,
    /// Its text.
    pub text: String,
}

labelled! {
    /// What can be asked on the operator's side.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Endpoint {
        /// It lives.
        Healthz = "/healthz",
        /// It can serve.
        Readyz = "/readyz",
        /// Its counters, for Prometheus.
        Metrics = "/metrics",
        /// What it trusts and shows.
        Certificates = "/certificates",
        /// The plugins in force, on the gateway.
        Plugins = "/plugins",
        /// The settings in force, on the gateway.
        Config = "/config",
    }
}

/// What a program has to say for itself.
pub trait Pages: 'static {
    /// The page at `path`, if there is one.
    fn page(&self, path: &str) -> Option<Page>;

    /// Whether a question may be posted to `path`.
    fn takes_questions(&self, _path: &str) -> bool {
        false
    }

    /// The answer to a question that was posted there: the body of a request.
    fn answer(&self, _path: &str, _question: &[u8]) -> Option<Page> {
        None
    }
}

/// Who may read.
#[derive(Clone, Default)]
pub struct Rules {
    /// Refuse a `Host` that is a name other than `localhost`.
    pub check_host: bool,
    /// Demand this bearer token.
    pub token: Option<Arc<[u8]>>,
}

/// A listener of either kind.
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

/// Readers at a time: a person, Prometheus and a kubelet, many times over.
const READERS: usize = 64;

/// A reader that says nothing is let go.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// So is one that does not read what it asked for.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// A token of 8 KiB in a request of any length that is served, and some room.
const QUESTION_MAX: usize = 64 * 1024;

impl Endpoint {
    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.as_str()
    }

    /// The one at this path.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.path() == path)
    }

    /// Whether a kubelet or Prometheus may ask for it on a listener of its own, without a token.
    #[must_use]
    pub const fn is_for_machines(self) -> bool {
        matches!(self, Self::Healthz | Self::Readyz | Self::Metrics)
    }
}

impl Page {
    /// A page of JSON.
    #[must_use]
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self {
            status,
            kind: "application/json",
            text: format!("{value:#}\n"),
        }
    }

    /// A page that says in a sentence why there is no other.
    #[must_use]
    pub fn refusal(status: StatusCode, message: &str) -> Self {
        Self::json(
            status,
            &serde_json::json!({"ok": false, "message": message}),
        )
    }

    fn missing() -> Self {
        Self::refusal(
            StatusCode::NOT_FOUND,
            "There is no such page on the admin side.",
        )
    }

    /// A page of metrics.
    #[must_use]
    pub fn metrics(text: String) -> Self {
        Self {
            status: StatusCode::OK,
            kind: "text/plain; version=0.0.4",
            text,
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<BoxStream> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Box::new(stream) as BoxStream),
            Self::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Box::new(stream) as BoxStream),
        }
    }
}

/// Serves pages until it is dropped, or the listener is another's: then whoever has connected here is still answered.
pub async fn serve(
    listener: Listener,
    rules: Rules,
    pages: Rc<dyn Pages>,
    until: impl Future<Output = ()>,
) {
    let mut readers = JoinSet::new();
    let mut oldest_first = VecDeque::new();
    let mut until = pin!(until);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut until => break,
        };
        match accepted {
            Ok(io) => {
                while readers.try_join_next().is_some() {}
                oldest_first.retain(|reader: &AbortHandle| !reader.is_finished());
                if readers.len() >= READERS {
                    let oldest = oldest_first.pop_front();
                    oldest.inspect(AbortHandle::abort);
                }
                oldest_first.push_back(readers.spawn_local(reader(
                    io,
                    rules.clone(),
                    pages.clone(),
                )));
            }
            // Out of file descriptors, most likely: others need them more.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    drop(listener);
    while readers.join_next().await.is_some() {}
}

async fn reader(io: BoxStream, rules: Rules, pages: Rc<dyn Pages>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (rules, pages) = (rules.clone(), pages.clone());
        async move { Ok::<_, Infallible>(serve_one(request, &rules, &*pages).await) }
    });
    // A reader that breaks off is of no interest.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), service);
    let _ = tokio::time::timeout(READ_WITHIN, connection).await;
}

async fn serve_one(request: Request<Incoming>, rules: &Rules, pages: &dyn Pages) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if !pages.takes_questions(path) {
        return answer(&head.method, path, &head.headers, rules, pages);
    }
    let page = match refused_question(&head.method, &head.headers, rules) {
        Some((status, message)) => Page::refusal(status, message),
        None => match whole(body).await {
            Some(question) => pages.answer(path, &question).unwrap_or_else(Page::missing),
            None => Page::refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The question did not come whole, or is longer than 64 KiB.",
            ),
        },
    };
    respond(page, "POST")
}

/// A body whole, if it is as short as a question.
async fn whole(mut body: Incoming) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            if bytes.len() + data.len() > QUESTION_MAX {
                return None;
            }
            bytes.extend_from_slice(&data);
        }
    }
    Some(bytes)
}

fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    rules: &Rules,
    pages: &dyn Pages,
) -> Response<Body> {
    let page = match refusal(method, headers, rules) {
        Some((status, message)) => Page::refusal(status, message),
        None => pages.page(path).unwrap_or_else(Page::missing),
    };
    respond(page, "GET, HEAD")
}

fn respond(page: Page, allowed: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(page.text)));
    *response.status_mut() = page.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// Why a question is not answered. A form that a foreign page posts has another type, and a script's has an `Origin`.
fn refused_question(
    method: &Method,
    headers: &HeaderMap,
    rules: &Rules,
) -> Option<(StatusCode, &'static str)> {
    if method != Method::POST {
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            "A question is posted, as JSON.",
        ));
    }
    if let Some(refused) = refusal(&Method::GET, headers, rules) {
        return Some(refused);
    }
    if !is_ours(headers) {
        return Some((
            StatusCode::FORBIDDEN,
            "The Origin must be the admin side's own.",
        ));
    }
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let bare = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    let is_json =
        bare.is_some_and(|bare| bare.trim_ascii().eq_ignore_ascii_case(b"application/json"));
    (!is_json).then_some((
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "A question is posted with Content-Type: application/json.",
    ))
}

/// Whether no page asks, or one of our own: its origin is the host that it asks.
fn is_ours(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).into_iter();
    let (first, second) = (origins.next(), origins.next());
    let Some(origin) = first else { return true };
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let bare = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    second.is_none() && bare.is_some() && bare == host
}

fn refusal(
    method: &Method,
    headers: &HeaderMap,
    rules: &Rules,
) -> Option<(StatusCode, &'static str)> {
    if method != Method::GET && method != Method::HEAD {
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            "The admin side answers GET and HEAD.",
        ));
    }
    if rules.check_host && !names_no_site(headers) {
        return Some((
            StatusCode::FORBIDDEN,
            "The Host must be an IP address or localhost.",
        ));
    }
    let token = rules.token.as_ref()?;
    let given = headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .and_then(|value| value.strip_prefix(b"Bearer "));
    let fits = given.is_some_and(|given| {
        aws_lc_rs::constant_time::verify_slices_are_equal(given, token).is_ok()
    });
    (!fits).then_some((
        StatusCode::UNAUTHORIZED,
        "The admin token is missing or wrong.",
    ))
}

/// A browser that was lured here by a name of somebody else's says that name.
fn names_no_site(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(HOST).into_iter();
    let (Some(Ok(host)), None) = (lines.next().map(HeaderValue::to_str), lines.next()) else {
        return false;
    };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Pages for One {
        fn page(&self, path: &str) -> Option<Page> {
            (path == "/healthz")
                .then(|| Page::json(StatusCode::OK, &serde_json::json!({"ok": true})))
        }
    }

    fn status(
        method: &Method,
        path: &str,
        lines: &[(&'static str, &'static str)],
        rules: &Rules,
    ) -> u16 {
        let headers = lines
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        answer(method, path, &headers, rules, &One)
            .status()
            .as_u16()
    }

    #[test]
    fn a_reader_by_address_is_answered_and_one_by_a_strangers_name_is_not() {
        let rules = Rules {
            check_host: true,
            token: None,
        };
        for host in [
            "127.0.0.1:9901",
            "127.0.0.1",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9901",
            "[::1]",
        ] {
            assert_eq!(
                status(&Method::GET, "/healthz", &[("host", host)], &rules),
                200,
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(
                status(&Method::GET, "/healthz", &[("host", host)], &rules),
                403,
                "{host}"
            );
        }
        assert_eq!(status(&Method::GET, "/healthz", &[], &rules), 403);
        assert_eq!(
            status(
                &Method::GET,
                "/healthz",
                &[("host", "evil.example")],
                &Rules::default()
            ),
            200
        );
    }

    #[test]
    fn only_reading_and_only_what_is_there() {
        let rules = Rules::default();
        assert_eq!(status(&Method::HEAD, "/healthz", &[], &rules), 200);
        assert_eq!(status(&Method::POST, "/healthz", &[], &rules), 405);
        assert_eq!(status(&Method::GET, "/secrets", &[], &rules), 404);
        let allowed = |method| {
            answer(&method, "/healthz", &HeaderMap::new(), &rules, &One)
                .headers()
                .get(ALLOW)
                .cloned()
        };
        assert_eq!(allowed(Method::DELETE).unwrap(), "GET, HEAD");
        assert_eq!(allowed(Method::GET), None);
    }

    #[test]
    fn a_question_is_posted_as_json_and_by_no_foreign_page() {
        let rules = Rules {
            check_host: true,
            token: None,
        };
        let refused = |method: &Method, lines: &[(&'static str, &'static str)]| {
            let host = ("host", "127.0.0.1:9901");
            let headers = [host]
                .iter()
                .chain(lines)
                .map(|(name, value)| {
                    (
                        http::HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect();
            refused_question(method, &headers, &rules).map(|(status, _)| status.as_u16())
        };
        let json = ("content-type", "application/json");
        for lines in [
            &[json][..],
            &[("content-type", "Application/JSON; charset=utf-8")],
            &[json, ("origin", "http://127.0.0.1:9901")],
        ] {
            assert_eq!(refused(&Method::POST, lines), None, "{lines:?}");
        }
        for (lines, status) in [
            (&[][..], 415),
            (&[("content-type", "text/plain")], 415),
            (&[json, ("origin", "https://evil.example")], 403),
            (&[json, ("origin", "null")], 403),
            (&[json, ("origin", "http://127.0.0.1")], 403),
            (
                &[
                    json,
                    ("origin", "http://127.0.0.1:9901"),
                    ("origin", "null"),
                ],
                403,
            ),
        ] {
            assert_eq!(refused(&Method::POST, lines), Some(status), "{lines:?}");
        }
        assert_eq!(refused(&Method::GET, &[json]), Some(405));
    }

    #[test]
    fn what_needs_no_token_is_what_machines_ask_for() {
        let open: Vec<&str> = Endpoint::ALL
            .into_iter()
            .filter(|endpoint| endpoint.is_for_machines())
            .map(Endpoint::path)
            .collect();
        assert_eq!(open, ["/healthz", "/readyz", "/metrics"]);
        assert_eq!(Endpoint::of("/config"), Some(Endpoint::Config));
        assert_eq!(Endpoint::of("/healthz/"), None);
    }

    #[test]
    fn a_token_is_asked_for_where_one_is_set() {
        let rules = Rules {
            check_host: false,
            token: Some(Arc::from(&b"s3cret"[..])),
        };
        assert_eq!(
            status(
                &Method::GET,
                "/healthz",
                &[("authorization", "Bearer s3cret")],
                &rules
            ),
            200
        );
        assert_eq!(
            status(
                &Method::GET,
                "/healthz",
                &[("authorization", "Bearer s3cre")],
                &rules
            ),
            401
        );
        assert_eq!(status(&Method::GET, "/healthz", &[], &rules), 401);
    }
}
