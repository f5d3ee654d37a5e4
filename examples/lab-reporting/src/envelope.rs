//! The one form of every answer: `{"ok":true,"message":…,"data":…}`, or
//! `{"ok":false,"message":…,"errors":{…}}` where `errors` names each faulty field.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer of this service: always whole, always small.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What is wrong with each field.
pub(crate) type Errors = BTreeMap<String, String>;

#[derive(Serialize)]
struct Done<'a, D> {
    ok: bool,
    message: &'a str,
    data: D,
}

#[derive(Serialize)]
struct Refused<'a> {
    ok: bool,
    message: &'a str,
    errors: Errors,
}

/// What was asked for was done.
pub(crate) fn done(status: StatusCode, message: &str, data: impl Serialize) -> Answer {
    json(
        status,
        &Done {
            ok: true,
            message,
            data,
        },
    )
}

/// What was asked for was refused; `errors` may be empty.
pub(crate) fn refused(status: StatusCode, message: &str, errors: Errors) -> Answer {
    json(
        status,
        &Refused {
            ok: false,
            message,
            errors,
        },
    )
}

/// A refusal for one field.
pub(crate) fn refused_for(status: StatusCode, message: &str, field: &str, why: &str) -> Answer {
    refused(
        status,
        message,
        Errors::from([(field.to_owned(), why.to_owned())]),
    )
}

/// A document that is JSON but no envelope.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Answer {
    match serde_json::to_vec(document) {
        Ok(mut text) => {
            text.push(b'\n'); // for the person at a terminal, whose prompt stands below the answer then
            json_text(status, text.into())
        }
        Err(_) => {
            let text = Bytes::from_static(
                br#"{"ok":false,"message":"The answer could not be written.","errors":{}}"#,
            );
            json_text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

/// JSON that is written already.
pub(crate) fn json_text(status: StatusCode, text: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(text));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // One company's rows must not wait in a cache that another company's request may meet.
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
