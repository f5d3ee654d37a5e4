//! What we write, we read back equal: our client and our server joined, over a stream of any width.

use std::future::pending;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::duplex;

use super::client::{self, Connection};
use super::incoming::Incoming;
use super::server::{End, Settings, Why, serve};
use super::testing::{Answering, Clock, TestBody, data};
use crate::buffers::Buffers;

#[derive(Clone, Debug)]
struct Message {
    method: &'static str,
    status: u16,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    pieces: Vec<Vec<u8>>,
    /// Whether the length is said beforehand.
    known: bool,
    trailer: Option<String>,
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    fn headers(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.fields {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        if self.known {
            map.insert("content-length", self.bytes().len().into());
        }
        map
    }

    fn body(&self) -> TestBody {
        let pieces = self
            .pieces
            .iter()
            .map(|piece| Ok(http_body::Frame::data(Bytes::copy_from_slice(piece))));
        let trailers = self.trailer.as_ref().filter(|_| !self.known).map(|value| {
            let mut map = HeaderMap::new();
            map.insert("x-trailer", value.parse().unwrap());
            Ok(http_body::Frame::trailers(map))
        });
        TestBody::frames(pieces.chain(trailers))
    }

    fn expected_trailer(&self) -> Option<&str> {
        self.trailer.as_deref().filter(|_| !self.known)
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let field = (
        "x-[a-z0-9!#$%&'*+.^_`|~-]{1,20}",
        "[!-~\u{80}-\u{ff}]([ -~\t]{0,40}[!-~])?",
    )
        .prop_map(|(name, value)| {
            let value = value.chars().map(|char| char as u32 as u8).collect();
            (name, value)
        });
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        (any::<u8>(), 2040..2200_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "M-SEARCH"]),
        prop::sample::select(vec![200_u16, 201, 400, 404, 500, 599]),
        "/[a-zA-Z0-9%._~!$&'()*+,;=:@/?-]{0,60}",
        prop::collection::vec(field, 0..20),
        prop::collection::vec(piece, 0..4),
        any::<bool>(),
        prop::option::of("[a-z]{1,9}"),
    )
        .prop_map(
            |(method, status, target, fields, pieces, known, trailer)| Message {
                method,
                status,
                target,
                fields,
                pieces,
                known,
                trailer,
            },
        )
}

/// What has to arrive of the fields: all of them, in the order of their kind.
fn held(wanted: &HeaderMap, seen: &HeaderMap) {
    for name in wanted.keys() {
        let of =
            |map: &HeaderMap| -> Vec<HeaderValue> { map.get_all(name).iter().cloned().collect() };
        assert_eq!(of(wanted), of(seen), "{name}");
    }
    for name in seen.keys() {
        let ours = [
            "host",
            "content-length",
            "transfer-encoding",
            "te",
            "connection",
        ];
        assert!(
            wanted.contains_key(name) || ours.contains(&name.as_str()),
            "{name}"
        );
    }
}

async fn exchanged(exchanges: &[(Message, Message)], width: usize) {
    let (near, far) = duplex(width);
    let buffers = Buffers::new();
    let number = std::cell::Cell::new(0);
    let service = Answering::new(|request: Request<Incoming>| {
        let (wanted, answer) = &exchanges[number.get()];
        number.set(number.get() + 1);
        async move {
            let (head, body) = request.into_parts();
            assert_eq!(
                (head.method.as_str(), head.uri.to_string()),
                (wanted.method, wanted.target.clone())
            );
            held(&wanted.headers(), &head.headers);
            let body = body.collect().await.unwrap();
            let trailer = body
                .trailers()
                .map(|map| map["x-trailer"].to_str().unwrap().to_owned());
            assert_eq!(trailer.as_deref(), wanted.expected_trailer());
            assert!(body.to_bytes() == wanted.bytes());
            let mut response = Response::new(answer.body());
            *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
            *response.headers_mut() = answer.headers();
            response
        }
    });
    let client = async {
        let near: Connection<_, TestBody> =
            Connection::new(near, client::Settings::default(), &buffers);
        for (message, wanted) in exchanges {
            assert!(near.is_reusable());
            let mut request = Request::new(message.body());
            *request.method_mut() = Method::from_bytes(message.method.as_bytes()).unwrap();
            *request.uri_mut() = message.target.parse().unwrap();
            *request.headers_mut() = message.headers();
            request
                .headers_mut()
                .insert("host", HeaderValue::from_static("a"));
            request
                .headers_mut()
                .insert("te", HeaderValue::from_static("trailers"));
            let response = near.send(request, |_, _| {}).await.unwrap();
            assert_eq!(response.status().as_u16(), wanted.status);
            held(&wanted.headers(), response.headers());
            let body = response.into_body().collect().await.unwrap();
            let trailer = body
                .trailers()
                .map(|map| map["x-trailer"].to_str().unwrap().to_owned());
            assert_eq!(trailer.as_deref(), wanted.expected_trailer());
            assert!(body.to_bytes() == wanted.bytes());
        }
        drop(near);
    };
    let settings = Settings::client();
    let (end, ()) = tokio::join!(
        serve(far, &service, &settings, &Clock, &buffers, pending()),
        client
    );
    assert!(matches!(end, End::Closed(Why::Client)), "{end:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn what_is_written_is_read_back_equal(
        exchanges in prop::collection::vec((messages(), messages()), 1..4),
        width in prop::sample::select(vec![5_usize, 64, 4096, 1 << 20]),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(exchanged(&exchanges, width));
    }
}

#[test]
fn a_large_body_passes_both_ways_at_once() {
    let body: Vec<_> = (0..64).map(|_| Ok(data(&"x".repeat(100_000)))).collect();
    let (near, far) = duplex(10_000);
    let buffers = Buffers::new();
    let settings = Settings::client();
    let service = Answering::new(|request: Request<Incoming>| async {
        Response::new(TestBody::Incoming(request.into_body()))
    });
    let client = async {
        let near: Connection<_, TestBody> =
            Connection::new(near, client::Settings::default(), &buffers);
        let mut request = Request::post("/").body(TestBody::frames(body)).unwrap();
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static("a"));
        let response = near.send(request, |_, _| {}).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 6_400_000);
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async {
            tokio::join!(
                serve(far, &service, &settings, &Clock, &buffers, pending()),
                client
            )
        });
}
