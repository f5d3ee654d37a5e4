//! Turns a rejection into its answer and its one log line.

use gapura_protocol::envelope::{By, Code};
use gapura_protocol::headers::X_GAPURA_MADE;
use gapura_runtime::exchange::Exchange;
use gapura_telemetry::log::{Level, Log, chain};
use gapura_transport::body::Body;
use http::{HeaderValue, Response};

use crate::forward::Error;
use crate::rejection::Rejection;

/// Answers in the envelope, marked as made here.
#[must_use]
pub(crate) fn refuse(
    rejection: &Rejection,
    mut exchange: Box<Exchange>,
    log: &Log,
) -> Response<Body> {
    let code = rejection.code();
    if let Some(reason) = rejection.reason() {
        exchange.record.reason = Some(reason);
    }
    // Of a client's own faults its access line tells.
    if let Rejection::Forward(error) = rejection
        && !matches!(error, Error::Body(_))
    {
        let request_id = exchange.record.request_id.as_str().to_owned();
        log.event(
            Level::Warn,
            "plugin_failed",
            &chain(error),
            &[
                ("request_id", request_id.into()),
                ("code", code.as_str().into()),
            ],
        );
    }
    let mut response = exchange.refuse(code, By::Sidecar);
    let made = if code.is_silent() {
        Code::BadRequest
    } else {
        code
    };
    response
        .headers_mut()
        .insert(X_GAPURA_MADE, HeaderValue::from_static(made.as_str()));
    response
}
