//! Frames of a client, whatever they are, are taken by the whole of our HTTP/2 server: it answers,
//! refuses or ends, writes whole frames alone, and holds nothing once it has ended.

use std::future::pending;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gapura_http::http1::server::Service;
use gapura_http::http1::{Incoming, Refusal};
use gapura_http::{Deadline, Timer};
use gapura_http2::server::{Settings, serve};
use gapura_http2::{Held, Streams};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with the request's own body.
struct Echo;

impl Service for Echo {
    type Body = Incoming;

    async fn call(&self, request: Request<Incoming>) -> Response<Incoming> {
        Response::new(request.into_body())
    }

    fn refuse(&self, refusal: Refusal) -> Response<Incoming> {
        let mut response = Response::new(Incoming::empty());
        *response.status_mut() = refusal.kind.status();
        response
    }
}

/// Time stands still.
#[derive(Clone)]
struct Never;

impl Timer for Never {
    type Deadline = Self;

    fn unset(&self) -> Self {
        Self
    }
}

impl Deadline for Never {
    fn reset(&self, _: Duration) {}

    fn unset(&self) {}

    fn poll_passed(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// How a client begins: the preface, and settings that set nothing.
const BEGUN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Larger than anything that is written at once.
const WIDE: usize = 1 << 20;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let (mut near, far) = tokio::io::duplex(WIDE);
        let streams = Streams::new(usize::MAX);
        let share = streams.open();
        let (settings, none) = (Settings::client(), Bytes::new());
        let serving = serve(
            far,
            none,
            Rc::new(Echo),
            &settings,
            &Never,
            &share,
            pending(),
        );
        let client = async {
            // What it does not take it has refused.
            let _ = near.write_all(BEGUN).await;
            let _ = near.write_all(bytes).await;
            let _ = near.shutdown().await;
            let mut written: Vec<u8> = Vec::new();
            let _ = near.read_to_end(&mut written).await;
            written
        };
        let (_end, written) = tokio::join!(serving, client);
        assert!(is_whole(&written), "half a frame: {written:?}");
        drop(share);
        assert_eq!(streams.held(), Held::default());
    });
}

/// Whether these are whole frames.
fn is_whole(mut bytes: &[u8]) -> bool {
    while let [a, b, c, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        match rest.get(6 + length..) {
            Some(behind) => bytes = behind,
            None => return false,
        }
    }
    bytes.is_empty()
}
