//! Turns a rejection into its status, its envelope and its one log line.

use gapura_mesh::access::Record;
use gapura_mesh::body::Body;
use gapura_mesh::envelope::{By, refusal_body, refusal_headers};
use gapura_mesh::log::{Level, Log};
use http::Response;
use http::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::pipeline::Rejection;

/// Answers in the envelope.
#[must_use]
pub fn refuse(rejection: &Rejection, mut record: Box<Record>, log: &Log) -> Response<Body> {
    let code = rejection.code();
    if let Some(error) = rejection.worth_a_line() {
        let plugin = record.plugin.as_ref().map(|plugin| plugin.name().to_owned());
        let fields = [("request_id", record.request_id.as_str().into()), ("plugin", plugin.into()), ("code", code.as_str().into())];
        log.event(Level::Warn, "upstream_failed", &chain(error), &fields);
    }
    record.status = code.status().as_u16();
    record.code = Some(code);
    let body = refusal_body(code, By::Gateway, &record.request_id);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    refusal_headers(headers, code, body.len(), &record.request_id);
    if let Rejection::Authenticate(error) = rejection
        && let Some(challenge) = error.www_authenticate()
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Rejection::Route(error) = rejection
        && let Some(after) = error.retry_after()
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
    }
    if matches!(rejection, Rejection::ReadOnly) {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if rejection.ends_connection() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|_| Body::full(body).recorded(record))
}

/// An error and all its causes in one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
