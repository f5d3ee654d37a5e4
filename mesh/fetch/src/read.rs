//! A document, read from an answer to its last byte or not at all.

use std::pin::Pin;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response};
use http_body::Body;
use hyper::body::Incoming;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// All of it.
    pub body: Vec<u8>,
    /// For how long it may be kept, as `Cache-Control` says; `None` where it says nothing.
    pub keep: Option<Duration>,
}

/// What an answer comes to.
pub(super) enum Asked {
    Answer(Answer),
    Moved(String),
}

pub(super) async fn read(response: Response<Incoming>, most: usize) -> Result<Asked, String> {
    let (head, mut body) = response.into_parts();
    if head.status.is_redirection()
        && let Some(location) = head.headers.get(LOCATION)
    {
        let location = location.to_str().map(str::to_owned);
        return location
            .map(Asked::Moved)
            .map_err(|_| "it redirects to what is no address".to_owned());
    }
    if head.status != http::StatusCode::OK {
        return Err(format!("it answers {}", head.status.as_u16()));
    }
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err("it answers in an encoding that was not asked for".to_owned());
    }
    let kind = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.trim_start().starts_with("text/html")) {
        return Err("it answers with a page for people (text/html), not with JSON".to_owned());
    }
    let whole = whole(&mut body, most).await?;
    Ok(Asked::Answer(Answer {
        body: whole,
        keep: keep(&head.headers),
    }))
}

/// All of a body that is no longer than `most`.
pub(super) async fn whole(body: &mut Incoming, most: usize) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    {
        let frame = frame.map_err(|error| format!("its answer broke off: {error}"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if whole.len() + data.len() > most {
            return Err(format!("its answer is longer than {} KiB", most / 1024));
        }
        whole.extend_from_slice(data);
    }
    Ok(whole)
}

/// RFC 9111, section 5.2.2: what may not be kept is old at once; `max-age` counts from when the
/// origin answered.
fn keep(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).into_iter();
    let text = lines
        .filter_map(|line| line.to_str().ok())
        .collect::<Vec<_>>()
        .join(",")
        .to_ascii_lowercase();
    let mut age = None;
    for directive in text.split(',').map(str::trim) {
        match directive.split_once('=') {
            None if matches!(directive, "no-store" | "no-cache") => return Some(Duration::ZERO),
            Some(("max-age", seconds)) => {
                let seconds = seconds.trim_matches('"').parse::<u64>().ok();
                age = age.or(seconds);
            }
            _ => {}
        }
    }
    let passed = headers
        .get(http::header::AGE)
        .and_then(|age| age.to_str().ok()?.parse::<u64>().ok());
    age.map(|seconds| Duration::from_secs(seconds.saturating_sub(passed.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_is_read_as_written() {
        let kept = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, line.parse().unwrap());
            }
            keep(&headers).map(|kept| kept.as_secs())
        };
        assert_eq!(kept(&[]), None);
        assert_eq!(kept(&["private"]), None);
        assert_eq!(kept(&["Max-Age=\"300\""]), Some(300));
        assert_eq!(kept(&["max-age=5, max-age=9"]), Some(5));
        assert_eq!(kept(&["public", "max-age=7"]), Some(7));
        assert_eq!(kept(&["max-age=60, no-store"]), Some(0));
        assert_eq!(kept(&["max-age=never"]), None);
    }
}
