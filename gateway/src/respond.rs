//! Turns a rejection into its status, its envelope and its one log line.

use gapura_protocol::envelope::{By, Code};
use gapura_runtime::exchange::Exchange;
use gapura_telemetry::log::{Level, Log, chain};
use gapura_transport::body::Body;
use http::Response;
use http::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::rejection::Rejection;

/// Answers in the envelope.
#[must_use]
pub(crate) fn refuse(rejection: &Rejection, exchange: Box<Exchange>, log: &Log) -> Response<Body> {
    let code = rejection.code();
    if let Some(why) = rejection.turned_away() {
        let plugin = exchange
            .record
            .plugin
            .as_ref()
            .map(|plugin| plugin.name().to_owned());
        let fields = [
            ("request_id", exchange.record.request_id.as_str().into()),
            ("plugin", plugin.into()),
            ("code", code.as_str().into()),
        ];
        log.event(Level::Info, "turned_away", &why, &fields);
    }
    if let Some(error) = rejection.worth_a_line() {
        let record = &exchange.record;
        let plugin = record
            .plugin
            .as_ref()
            .map(|plugin| plugin.name().to_owned());
        let fields = [
            ("request_id", record.request_id.as_str().into()),
            ("plugin", plugin.into()),
            ("code", code.as_str().into()),
        ];
        log.event(Level::Warn, "upstream_failed", &chain(error), &fields);
    }
    let mut response = exchange.refuse(code, By::Gateway);
    let headers = response.headers_mut();
    if let Rejection::Authenticate(error) = rejection
        && let Some(challenge) = error.www_authenticate()
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if code == Code::TokenRevoked {
        let challenge = r#"Bearer realm="gapura", error="invalid_token", error_description="the token no longer counts""#;
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
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
    response
}
