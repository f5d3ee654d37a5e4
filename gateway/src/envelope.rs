//! Whether a plugin answers in the envelope, and what is made of an answer that does not.
//!
//! In: a plugin's answer on its way out, and what its file wants (`envelope`). Out: the same
//! answer, with the ways in which it breaks the envelope counted; or, where it is a bare error and
//! the file wants that, the envelope around it, with its status. Success is never touched. A
//! stream, gRPC, and the paths at which the gateway itself asks have no envelope and are left
//! alone, and so is what the sidecar made, which has one.
//! Invariant: nothing is held back but errors, and of those no more than [`JUDGED_MOST`] and no
//! longer than [`WAITED_MOST`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gapura_protocol::context::RequestId;
use gapura_protocol::grpc::is_grpc;
use gapura_telemetry::metrics::{PluginMeters, Violation};
use gapura_transport::body::{Body, Reader};
use gapura_transport::timers::Timers;
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, TRAILER,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::authorise::Permit;
use crate::registry::Envelope;

/// What is to be made of the answer to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    wraps: bool,
    /// Its answer has no body.
    is_head: bool,
}

/// Where it is counted.
pub(crate) struct Count {
    meters: Arc<PluginMeters>,
    worker: usize,
}

/// What kind of answer it is, by what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    /// Short enough, it can be quoted.
    Text,
    Other,
    /// It has no envelope.
    Stream,
}

/// More of an answer is not looked at.
const JUDGED_MOST: usize = 64 * 1024;

/// A plugin that takes longer to write an error has it passed on as it comes.
const WAITED_MOST: Duration = Duration::from_secs(5);

/// A longer text is a page, and nothing to quote.
const QUOTED_MOST: usize = 2 * 1024;

/// A longer message is none for people.
const MESSAGE_MOST: usize = 500;

/// What tells of the bytes that are replaced.
const OF_THE_BYTES: [HeaderName; 8] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_RANGE,
    CONTENT_DISPOSITION,
    ACCEPT_RANGES,
    ETAG,
    LAST_MODIFIED,
    TRAILER,
];

impl Judged {
    /// What the file of a permitted request's plugin wants; `None` where it wants nothing. `path`
    /// is the one that the plugin sees.
    pub(crate) fn of(permit: &Permit, head: &Parts, path: &str) -> Option<Self> {
        let plugin = permit.plugin();
        let wraps = match plugin.envelope {
            Envelope::Pass => return None,
            Envelope::Check => false,
            Envelope::Wrap => true,
        };
        let contract = plugin.contract.as_ref().map(|contract| &*contract.path);
        let health = plugin.health.as_ref().map(|check| &*check.path);
        let is_for_us = path == "/version" || contract == Some(path) || health == Some(path);
        (!is_for_us).then_some(Self {
            wraps,
            is_head: head.method == Method::HEAD,
        })
    }

    /// The answer as it may leave.
    pub(crate) async fn answer(
        self,
        answer: Response<Body>,
        count: Count,
        request_id: &RequestId,
        timers: &Timers,
    ) -> Response<Body> {
        let (form, status) = (Form::of(answer.headers()), answer.status());
        let is_error = status.is_client_error() || status.is_server_error();
        if form == Form::Stream || self.is_head && !(self.wraps && is_error) {
            return answer;
        }
        if self.wraps && is_error {
            return self
                .wrapped(answer, form, count, (request_id, timers))
                .await;
        }
        if form != Form::Json {
            if is_error {
                count.one(Violation::Bare);
            }
            return answer;
        }
        let is_empty = answer.body().is_ended();
        if is_empty || answer.headers().contains_key(CONTENT_ENCODING) {
            if is_empty && status != StatusCode::NOT_MODIFIED {
                count.one(Violation::NotJson);
            }
            return answer;
        }
        answer.map(|body| {
            body.read_by(Box::new(Reading {
                status,
                count,
                read: Vec::new(),
            }))
        })
    }

    /// An error, in the envelope if it is not.
    async fn wrapped(
        self,
        answer: Response<Body>,
        form: Form,
        count: Count,
        (request_id, timers): (&RequestId, &Timers),
    ) -> Response<Body> {
        let (mut head, mut body) = answer.into_parts();
        let is_plain = !head.headers.contains_key(CONTENT_ENCODING);
        if self.is_head {
            // Of JSON nobody can tell without its bytes; of anything else it is known how a GET is
            // answered.
            if form != Form::Json {
                announce(&mut head.headers);
                head.headers.remove(CONTENT_LENGTH);
            }
            return Response::from_parts(head, body);
        }
        let mut quoted = None;
        if is_plain && form != Form::Other && !body.is_ended() {
            let most = if form == Form::Json {
                JUDGED_MOST
            } else {
                QUOTED_MOST
            };
            let more = ahead(&mut body, most, timers).await;
            match (more, form) {
                // It is as long as it likes, or takes as long: what it is nobody knows.
                (None | Some(true), Form::Json) => return Response::from_parts(head, body),
                (Some(false), Form::Json) => {
                    let read = body.ahead();
                    if violation(head.status, &read).is_none() {
                        return Response::from_parts(head, body);
                    }
                    quoted = serde_json::from_slice(&read).ok();
                    if quoted.as_ref().is_some_and(is_envelope) {
                        // One that lacks something is still one, and no bare error.
                        if let Some(violation) = violation(head.status, &read) {
                            count.one(violation);
                        }
                        return Response::from_parts(head, body);
                    }
                }
                (Some(false), _) => {
                    let text = String::from_utf8(body.ahead()).ok();
                    quoted = text.map(|text| text.trim().into());
                }
                (None | Some(true), _) => {}
            }
        }
        count.one(Violation::Bare);
        let bytes = Bytes::from(envelope(head.status, quoted, request_id));
        announce(&mut head.headers);
        let length = HeaderValue::from(bytes.len());
        head.headers.insert(CONTENT_LENGTH, length);
        Response::from_parts(head, body.replaced(bytes))
    }
}

impl Count {
    /// At the counters of a plugin, by this worker.
    pub(crate) fn new(meters: &Arc<PluginMeters>, worker: usize) -> Self {
        Self {
            meters: meters.clone(),
            worker,
        }
    }

    fn one(&self, violation: Violation) {
        self.meters.slot(self.worker).violates(violation);
    }
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = kind.unwrap_or_default().split(|byte| *byte == b';');
        let kind = kind.take(1).next().unwrap_or_default().trim_ascii();
        let kind = kind.to_ascii_lowercase();
        match kind.as_slice() {
            _ if is_grpc(headers) => Self::Stream,
            b"text/event-stream" | b"application/x-ndjson" | b"application/json-seq" => {
                Self::Stream
            }
            b"application/json" => Self::Json,
            b"application/problem+json" => Self::Json,
            b"text/plain" => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Reads what passes, and judges it once it is whole.
struct Reading {
    status: StatusCode,
    count: Count,
    read: Vec<u8>,
}

impl Reader for Reading {
    fn data(&mut self, data: &[u8]) {
        if self.read.len() <= JUDGED_MOST {
            self.read.extend_from_slice(data);
        }
    }

    fn whole(self: Box<Self>) {
        if self.read.len() <= JUDGED_MOST
            && let Some(violation) = violation(self.status, &self.read)
        {
            self.count.one(violation);
        }
    }
}

/// Reads up to `most` bytes ahead; whether there are more, or `None` if that takes too long.
async fn ahead(body: &mut Body, most: usize, timers: &Timers) -> Option<bool> {
    let over = timers.sleep(WAITED_MOST);
    poll_fn(|cx| match body.poll_ahead(most, cx) {
        Poll::Ready(more) => Poll::Ready(Some(more)),
        Poll::Pending => over.poll_passed(cx).map(|()| None),
    })
    .await
}

/// How a whole answer in JSON breaks the envelope; the first of its ways.
fn violation(status: StatusCode, body: &[u8]) -> Option<Violation> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Some(Violation::NotJson);
    };
    let Some(members) = value.as_object() else {
        return Some(Violation::NotObject);
    };
    let is_error = status.is_client_error() || status.is_server_error();
    if members.get("ok") != Some(&Value::Bool(!is_error)) {
        return Some(Violation::Ok);
    }
    if !members.get("message").is_some_and(Value::is_string) {
        return Some(Violation::Message);
    }
    let errors = members.get("errors");
    let has_errors = errors.is_some_and(|errors| errors.is_object() || errors.is_array());
    (is_error && !has_errors).then_some(Violation::Errors)
}

/// Whether it is an envelope at all, whole or not.
fn is_envelope(value: &Value) -> bool {
    value.get("ok") == Some(&Value::Bool(false))
        && value.get("message").is_some_and(Value::is_string)
}

/// The envelope of an error that had none, with what it said.
fn envelope(status: StatusCode, quoted: Option<Value>, request_id: &RequestId) -> String {
    let told = quoted.as_ref().and_then(|quoted| {
        let names = ["message", "detail", "error", "title"];
        let mut texts = names.iter().filter_map(|name| quoted.get(name)?.as_str());
        texts.find(|text| !text.is_empty() && text.len() <= MESSAGE_MOST)
    });
    let message = told.map_or_else(|| format!("The service answered {status}."), str::to_owned);
    let mut errors =
        json!({"code": "plugin_error", "by": "plugin", "request_id": request_id.as_str()});
    if let Some(quoted) = quoted.filter(|quoted| *quoted != "") {
        errors["answer"] = quoted;
    }
    json!({"ok": false, "message": message, "errors": errors}).to_string()
}

/// The bytes are JSON of ours now.
fn announce(headers: &mut HeaderMap) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
    let kind = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_break_the_envelope_has_its_word() {
        for (status, body, broken) in [
            (200, r#"{"ok": true, "message": "m", "data": 1}"#, None),
            (200, r#"{"ok": true, "message": ""}"#, None),
            (
                422,
                r#"{"ok": false, "message": "m", "errors": {"name": "is missing"}}"#,
                None,
            ),
            (500, r#"{"ok": false, "message": "m", "errors": []}"#, None),
            (200, "", Some(Violation::NotJson)),
            (200, "<html>", Some(Violation::NotJson)),
            (200, "[1]", Some(Violation::NotObject)),
            (200, r#"{"message": "m"}"#, Some(Violation::Ok)),
            (
                200,
                r#"{"ok": "true", "message": "m"}"#,
                Some(Violation::Ok),
            ),
            (
                200,
                r#"{"ok": false, "message": "m", "errors": {}}"#,
                Some(Violation::Ok),
            ),
            (
                409,
                r#"{"ok": true, "message": "m", "errors": {}}"#,
                Some(Violation::Ok),
            ),
            (
                200,
                r#"{"ok": true, "message": 1}"#,
                Some(Violation::Message),
            ),
            (200, r#"{"ok": true}"#, Some(Violation::Message)),
            (
                404,
                r#"{"ok": false, "message": "m"}"#,
                Some(Violation::Errors),
            ),
            (
                404,
                r#"{"ok": false, "message": "m", "errors": "x"}"#,
                Some(Violation::Errors),
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                violation(status, body.as_bytes()),
                broken,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn an_error_keeps_its_words_within_the_envelope() {
        let id = RequestId::parse(b"abc").unwrap();
        let read = |quoted: Option<Value>| -> Value {
            let text = envelope(StatusCode::NOT_FOUND, quoted, &id);
            assert_eq!(violation(StatusCode::NOT_FOUND, text.as_bytes()), None);
            serde_json::from_str(&text).unwrap()
        };
        let bare = read(None);
        assert_eq!(bare["message"], "The service answered 404 Not Found.");
        assert_eq!(
            bare["errors"],
            json!({"code": "plugin_error", "by": "plugin", "request_id": "abc"})
        );
        let detail = read(Some(json!({"detail": "no such note", "x": 1})));
        assert_eq!(detail["message"], "no such note");
        assert_eq!(detail["errors"]["answer"]["x"], 1);
        let text = read(Some(json!("gone \" away")));
        assert_eq!(text["errors"]["answer"], "gone \" away");
        assert!(read(Some(json!("")))["errors"].get("answer").is_none());
    }

    #[test]
    fn what_has_no_envelope_is_known_by_its_type() {
        for (kind, form) in [
            ("application/json; charset=utf-8", Form::Json),
            ("Application/JSON", Form::Json),
            ("application/problem+json", Form::Json),
            ("text/plain", Form::Text),
            ("text/html", Form::Other),
            ("text/event-stream", Form::Stream),
            ("application/grpc", Form::Stream),
            ("application/grpc+proto", Form::Stream),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(Form::of(&headers), form, "{kind}");
        }
        assert_eq!(Form::of(&HeaderMap::new()), Form::Other);
    }
}
