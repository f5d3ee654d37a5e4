//! Turns a rejection into its answer and its one log line.

use gapura_mesh::access::Record;
use gapura_mesh::body::Body;
use gapura_mesh::envelope::{By, Code, refusal_body, refusal_headers};
use gapura_mesh::headers::X_GAPURA_MADE;
use gapura_mesh::log::{Level, Log};
use http::{HeaderValue, Response};

use crate::pipeline::Rejection;

/// Answers in the envelope, marked as made here.
#[must_use]
pub fn refuse(rejection: &Rejection, mut record: Box<Record>, log: &Log) -> Response<Body> {
    let code = rejection.code();
    if let Rejection::Forward(error) = rejection
        && code != Code::RequestTimeout
    {
        let request_id = record.request_id.as_str().to_owned();
        log.event(Level::Warn, "plugin_failed", &chain(error), &[("request_id", request_id.into()), ("code", code.as_str().into())]);
    }
    record.status = code.status().as_u16();
    record.code = Some(code);
    let body = refusal_body(code, By::Sidecar, &record.request_id);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code.status();
    refusal_headers(response.headers_mut(), code, body.len(), &record.request_id);
    response.headers_mut().insert(X_GAPURA_MADE, HeaderValue::from_static(code.as_str()));
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
