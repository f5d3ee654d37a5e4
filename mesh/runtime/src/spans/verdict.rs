//! What a collector's answer means for what was posted (OTLP, section on responses over HTTP).
//!
//! In: the answer, or that there was none. Out: taken, perhaps in part; refused for good; or to be
//! tried again, perhaps not before a time. A text of the collector's is cut before it is shown.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use gapura_fetch::{FetchError, Posted};

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken, but for so many, with the reason.
    Taken { refused: u64, why: Option<String> },
    /// It is not taken however often it comes.
    Refused(String),
    /// It may be taken another time, and not before `after` where that is said.
    Later {
        after: Option<Duration>,
        why: String,
    },
}

/// More of a collector's words is not shown.
const WORDS_MOST: usize = 200;

impl Verdict {
    /// Of a post with `count` spans.
    pub(super) fn of(posted: Result<Posted, FetchError>, count: u64) -> Self {
        let posted = match posted {
            Ok(posted) => posted,
            Err(error) => {
                return Self::Later {
                    after: None,
                    why: error.to_string(),
                };
            }
        };
        let status = posted.status;
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Later {
                after: retry_after(&posted.headers),
                why: format!("it answers {}", status.as_u16()),
            },
            _ if status.is_success() => partly(&posted.body, count),
            _ => Self::Refused(format!("it answers {}", status.as_u16())),
        }
    }
}

/// A `partialSuccess` says how many were not taken; nothing is to be sent again.
fn partly(body: &[u8], count: u64) -> Verdict {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let partial = &body["partialSuccess"];
    let refused = &partial["rejectedSpans"];
    // 64-bit numbers are texts in the JSON of Protocol Buffers, and numbers are taken too.
    let refused = refused
        .as_u64()
        .or_else(|| refused.as_str()?.parse().ok())
        .unwrap_or(0)
        .min(count);
    let words = partial["errorMessage"].as_str().unwrap_or_default();
    let words: String = words
        .chars()
        .filter(|letter| !letter.is_control())
        .take(WORDS_MOST)
        .collect();
    let why =
        (refused > 0).then(|| format!("it did not take {refused} of {count}, and says: {words}"));
    Verdict::Taken { refused, why }
}

/// Seconds; a date is as good as nothing, since its clock may be another.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, retry_after: &'static str, body: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        if !retry_after.is_empty() {
            headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        }
        let posted = Posted {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
        };
        Verdict::of(Ok(posted), 10)
    }

    #[test]
    fn what_is_taken_in_part_is_taken() {
        let whole = Verdict::Taken {
            refused: 0,
            why: None,
        };
        for body in [
            "",
            "{}",
            "no json",
            r#"{"partialSuccess":{}}"#,
            r#"{"partialSuccess":{"errorMessage":"a warning"}}"#,
        ] {
            assert_eq!(of(200, "", body), whole, "{body}");
        }
        for (said, expected) in [("\"3\"", 3), ("3", 3), ("99", 10)] {
            let body = format!(
                r#"{{"partialSuccess":{{"rejectedSpans":{said},"errorMessage":"too\nold"}}}}"#
            );
            let Verdict::Taken { refused, why } = of(200, "", &body) else {
                panic!("{said}")
            };
            assert_eq!(refused, expected);
            assert!(why.unwrap().ends_with("and says: tooold"));
        }
    }

    #[test]
    fn only_what_may_pass_another_time_is_tried_again() {
        for status in [429, 502, 503, 504] {
            for (text, after) in [
                ("", None),
                ("7", Some(Duration::from_secs(7))),
                ("Wed, 21 Oct 2026 07:28:00 GMT", None),
                ("-1", None),
            ] {
                let Verdict::Later { after: found, .. } = of(status, text, "") else {
                    panic!("{status}")
                };
                assert_eq!(found, after, "{text}");
            }
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            assert!(
                matches!(of(status, "7", ""), Verdict::Refused(_)),
                "{status}"
            );
        }
    }
}
