//! The operator's side: a few pages for people and machines that watch the program.
//!
//! In: a listener and what the pages say now. Out: answers to GET and HEAD, events as they happen,
//! and answers to a question that is posted as JSON where the program takes one; nothing is changed
//! by any of them. The `Host` must be an IP address or `localhost`, so that a web page cannot have
//! its visitor's browser read it (DNS rebinding); beyond loopback a token is needed, but for what
//! says nothing of the program. Serves on the control thread and never on a worker: a slow scrape
//! delays no request. Where there are as many readers as may be, the oldest of them gives up its
//! place, so that who says nothing delays nobody.

mod access;
mod stream;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use gapura_http::BoxStream;
use gapura_protocol::labelled;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};

pub use access::Rules;
use access::{refusal, refused_question, token_refusal};
use stream::{Answer, Pulse};
pub use stream::{Events, Viewer, Viewers};

/// One page as it reads now.
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// Its media type.
    pub kind: &'static str,
    /// Its text.
    pub text: Cow<'static, str>,
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

    /// A page that says nothing of the program, at `path`: whoever may connect may have it, so that
    /// a browser can show where the token is to be entered.
    fn open_page(&self, _path: &str) -> Option<Page> {
        None
    }

    /// The events at `path` from now on, or why there are none for this reader.
    fn events(&self, _path: &str, _query: Option<&str>) -> Option<Result<Events, Page>> {
        None
    }

    /// Whether a question may be posted to `path`.
    fn takes_questions(&self, _path: &str) -> bool {
        false
    }

    /// The answer to a question that was posted there: the body of a request.
    fn answer(&self, _path: &str, _question: &[u8]) -> Option<Page> {
        None
    }
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

/// What a browser may do with a page of ours: show it, with what comes from here.
const CSP: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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
    pub(crate) const fn is_for_machines(self) -> bool {
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
            text: format!("{value:#}\n").into(),
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

    /// Why somebody gets no events: all places are taken.
    #[must_use]
    pub(crate) fn too_many_viewers() -> Self {
        Self::refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "Eight look at this already; close a page elsewhere, or come again when one has gone.",
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
            text: text.into(),
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

/// Serves pages until it is dropped, or the listener is another's: then whoever has connected here
/// is still answered.
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
                oldest_first.retain(|(reader, _): &(AbortHandle, _)| !reader.is_finished());
                if readers.len() >= READERS {
                    // Who reads events is old by nature, and there are few of them.
                    let waits = |(_, pulse): &(_, Pulse)| !pulse.is_there();
                    let oldest = oldest_first.iter().position(waits);
                    let oldest = oldest.and_then(|at| oldest_first.remove(at));
                    oldest.inspect(|(reader, _)| reader.abort());
                }
                let pulse = Pulse::default();
                let reader = reader(io, rules.clone(), pages.clone(), pulse.clone());
                oldest_first.push_back((readers.spawn_local(reader), pulse));
            }
            // Out of file descriptors, most likely: others need them more.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    drop(listener);
    while readers.join_next().await.is_some() {}
}

async fn reader(io: BoxStream, rules: Rules, pages: Rc<dyn Pages>, pulse: Pulse) {
    let felt = pulse.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (rules, pages, pulse) = (rules.clone(), pages.clone(), pulse.clone());
        async move { Ok::<_, Infallible>(serve_one(request, &rules, &*pages, pulse).await) }
    });
    // A reader that breaks off is of no interest.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    while tokio::time::timeout(READ_WITHIN, &mut connection)
        .await
        .is_err()
        && felt.is_felt(READ_WITHIN)
    {}
}

async fn serve_one(
    request: Request<Incoming>,
    rules: &Rules,
    pages: &dyn Pages,
    pulse: Pulse,
) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if !pages.takes_questions(path) {
        return answer(&head, rules, pages, pulse);
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

fn answer(head: &Parts, rules: &Rules, pages: &dyn Pages, pulse: Pulse) -> Response<Answer> {
    const ALLOWED: &str = "GET, HEAD";
    let (path, query) = (head.uri.path(), head.uri.query());
    if let Some((status, message)) = refusal(&head.method, &head.headers, rules) {
        return respond(Page::refusal(status, message), ALLOWED);
    }
    if let Some(page) = pages.open_page(path) {
        return respond(page, ALLOWED);
    }
    if let Some((status, message)) = token_refusal(&head.headers, rules) {
        return respond(Page::refusal(status, message), ALLOWED);
    }
    match pages.events(path, query) {
        Some(Ok(events)) => made(
            StatusCode::OK,
            "text/event-stream",
            Answer::events(events, pulse),
        ),
        Some(Err(page)) => respond(page, ALLOWED),
        None => respond(pages.page(path).unwrap_or_else(Page::missing), ALLOWED),
    }
}

fn respond(page: Page, allowed: &'static str) -> Response<Answer> {
    let text = match page.text {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    let mut response = made(page.status, page.kind, Answer::Whole(Some(text)));
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// An answer with what a browser must know of all of them: it is kept nowhere, is what it says,
/// loads nothing from elsewhere, and stands in nobody's frame.
fn made(status: StatusCode, kind: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, CSP),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

#[cfg(test)]
mod tests;
