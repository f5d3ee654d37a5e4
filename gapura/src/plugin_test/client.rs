//! One request to a plugin and its whole answer, as its sidecar would send it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use gapura_fetch::Url;
use gapura_transport::body::Body;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::caller::Caller;
use crate::error::Error;

/// Speaks to one plugin.
pub(super) struct Client {
    authority: String,
    host: String,
    port: u16,
}

/// A request without whom it acts for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) body: Option<Value>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// An answer is there within this, or the plugin hangs.
const WITHIN: Duration = Duration::from_secs(30);

/// More than any page of data that a person would look through.
const MOST: usize = 16 << 20;

impl Client {
    pub(super) fn new(url: &Url) -> Self {
        let bare = url.host().trim_matches(['[', ']']);
        let host = bare.to_owned();
        let shown = if bare.contains(':') {
            format!("[{bare}]")
        } else {
            host.clone()
        };
        Self {
            authority: format!("{shown}:{}", url.port()),
            host,
            port: url.port(),
        }
    }

    /// The plugin's own document.
    pub(super) async fn document(&self) -> Result<String, Error> {
        let ask = Ask {
            method: Method::GET,
            target: "/openapi.json".to_owned(),
            body: None,
        };
        let answer = self.send(&ask, None).await?;
        if answer.status.is_success() {
            return Ok(answer.text);
        }
        let status = answer.status.as_u16();
        Err(Error::Refused(format!(
            "the plugin answers {status} at /openapi.json; give its OpenAPI document with --openapi FILE"
        )))
    }

    /// The answer to a request, for somebody or for nobody.
    pub(super) async fn send(&self, ask: &Ask, caller: Option<&Caller>) -> Result<Answer, Error> {
        let failed = |why: String| {
            let (method, target) = (&ask.method, &ask.target);
            Error::Failed(format!("{method} {target} at {}: {why}", self.authority))
        };
        tokio::time::timeout(WITHIN, self.exchange(ask, caller))
            .await
            .unwrap_or_else(|_| Err("no answer within 30 seconds".to_owned()))
            .map_err(failed)
    }

    async fn exchange(&self, ask: &Ask, caller: Option<&Caller>) -> Result<Answer, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("the plugin can't be reached: {error}"))?;
        let broken = |error: hyper::Error| format!("the answer broke off: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let request = self.request(ask, caller)?;
        let mut answer = pin!(async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                text: whole(body).await?,
            })
        });
        // Driven here and by no task of its own, so that it ends with the request.
        let (mut connection, mut driven) = (pin!(connection), true);
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => return answered,
                _ = &mut connection, if driven => driven = false,
            }
        }
    }

    fn request(&self, ask: &Ask, caller: Option<&Caller>) -> Result<Request<Body>, String> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(&ask.target)
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .header("X-Request-Id", "gapura-plugin-test")
            .header("X-Forwarded-Proto", "https");
        if let Some(caller) = caller {
            request = request
                .header("X-Company-Id", caller.company.as_str())
                .header("X-User-Id", caller.user.as_str());
            if let Some(roles) = &caller.roles {
                request = request.header("X-Role", roles.as_str());
            }
        }
        let body = match &ask.body {
            None => Body::empty(),
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::full(Bytes::from(value.to_string()))
            }
        };
        request
            .body(body)
            .map_err(|error| format!("the request can't be written: {error}"))
    }
}

async fn whole(mut body: Incoming) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > MOST {
            return Err("the answer is longer than 16 MiB".to_owned());
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Answer {
    /// Whether a mark stands anywhere in it.
    pub(super) fn has(&self, mark: &str) -> bool {
        let in_header =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).contains(mark);
        self.text.contains(mark) || self.headers.values().any(in_header)
    }

    /// Its body, if it is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.text).ok()
    }
}
