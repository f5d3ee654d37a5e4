//! Something posted, and what is said to it.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use http::{HeaderName, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::once::Once;
use super::read::whole;
use super::url::Url;

/// What was said to something posted.
#[derive(Debug)]
pub struct Posted {
    /// Of any kind.
    pub status: StatusCode,
    /// What else its head says.
    pub headers: HeaderMap,
    /// All of the answer; empty where it is too long to be read.
    pub body: Vec<u8>,
}

/// Nobody has more to say to what was posted.
const ANSWER_MAX: usize = 64 * 1024;

/// The request with `headers`, whose names are not those that are set here.
pub(super) fn request(
    url: &Url,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Request<Once>, String> {
    let wrong = |_| "its address cannot be written in a request".to_owned();
    let mut request = Request::post(url.target())
        .body(Once(body))
        .map_err(wrong)?;
    let host = HeaderValue::from_str(&url.authority())
        .map_err(|_| "its host cannot be written in a request".to_owned())?;
    *request.headers_mut() = headers.clone();
    let ours: [(HeaderName, HeaderValue); 5] = [
        (HOST, host),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CONNECTION, HeaderValue::from_static("close")),
    ];
    request.headers_mut().extend(ours);
    let us = HeaderValue::from_static(concat!("gapura/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(USER_AGENT).or_insert(us);
    Ok(request)
}

pub(super) async fn read(response: Response<Incoming>) -> Result<Posted, String> {
    let (head, mut body) = response.into_parts();
    let body = whole(&mut body, ANSWER_MAX).await.unwrap_or_default();
    Ok(Posted {
        status: head.status,
        headers: head.headers,
        body,
    })
}
