//! A second opinion on bytes: what hyper makes of them, beside what we make of them.
//!
//! We may refuse what hyper takes; that is what being strict means. What we take, hyper takes too,
//! with the same method, target, fields and body, or else one of the two can be made to see a
//! request that the other does not.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use gapura_http::http1::body::{Decoder, Piece};
use gapura_http::http1::head::{CLIENT_LIMITS, HOP_LIMITS, Length, RequestReader, ResponseReader};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A message as one of the two read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The method and target, or the status.
    line: String,
    /// The fields, sorted by their names.
    fields: Vec<(String, Vec<u8>)>,
    /// The whole body.
    body: Vec<u8>,
}

impl Message {
    fn new(line: String, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let mut fields: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Self { line, fields, body }
    }
}

/// Holds us to hyper's reading of `bytes` as requests; how many we take.
pub(crate) fn compare_requests(bytes: &[u8]) -> usize {
    let ours = our_requests(bytes);
    let theirs = their_requests(bytes);
    for (at, message) in ours.iter().enumerate() {
        assert_eq!(
            Some(message),
            theirs.get(at),
            "request {at} of {}",
            bytes.escape_ascii()
        );
    }
    ours.len()
}

/// Holds us to hyper's reading of `bytes` as the answer to a GET; whether we take one.
pub(crate) fn compare_answers(bytes: &[u8]) -> bool {
    let Some(ours) = our_answer(bytes) else {
        return false;
    };
    let theirs = their_answer(bytes);
    assert_eq!(Some(ours), theirs, "answer {}", bytes.escape_ascii());
    true
}

/// The requests that we take, as far as hyper can be asked for them: it does not read on behind a
/// CONNECT, nor knows HTTP/1.2.
fn our_requests(input: &[u8]) -> Vec<Message> {
    let mut bytes = BytesMut::from(input);
    let mut messages = Vec::new();
    while let Ok(Some(head)) = RequestReader::default().read(&mut bytes, &CLIENT_LIMITS) {
        let Some(body) = whole_body(&mut bytes, head.body) else {
            break;
        };
        if head.parts.method == Method::CONNECT || input.windows(8).any(is_newer) {
            break;
        }
        let line = format!("{} {}", head.parts.method, head.parts.uri);
        messages.push(Message::new(line, &head.parts.headers, body));
        if !head.keep_alive || head.upgrade {
            break;
        }
    }
    messages
}

fn is_newer(version: &[u8]) -> bool {
    matches!(
        version,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']
    )
}

fn our_answer(input: &[u8]) -> Option<Message> {
    let mut bytes = BytesMut::from(input);
    for _ in 0..8 {
        let head = ResponseReader::default()
            .read(&mut bytes, &Method::GET, &HOP_LIMITS)
            .ok()??;
        let status = head.parts.status;
        if status == 101 || input.windows(8).any(is_newer) {
            return None;
        }
        if status.is_informational() {
            continue;
        }
        let body = whole_body(&mut bytes, head.body)?;
        // What comes behind an answer makes hyper's connection fail in ways that depend on time.
        if !bytes.is_empty() {
            return None;
        }
        return Some(Message::new(
            status.as_u16().to_string(),
            &head.parts.headers,
            body,
        ));
    }
    None
}

fn whole_body(bytes: &mut BytesMut, length: Length) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(length, CLIENT_LIMITS);
    let mut body = Vec::new();
    loop {
        match decoder.read(bytes).ok()? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(_) => {}
            Piece::End => return Some(body),
            Piece::More => decoder.end_of_stream(),
        }
    }
}

fn their_requests(input: &[u8]) -> Vec<Message> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let line = format!("{} {}", head.method, head.uri);
            if let Ok(body) = body.collect().await {
                let body = body.to_bytes().to_vec();
                seen.borrow_mut()
                    .push(Message::new(line, &head.headers, body));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_headers(128)
        .serve_connection(TokioIo::new(Canned::new(input, true)), service);
    let _ = run(connection);
    seen.take()
}

fn their_answer(input: &[u8]) -> Option<Message> {
    run(async {
        let io = TokioIo::new(Canned::new(input, false));
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_headers(128)
            .max_buf_size(1 << 20)
            .handshake(io)
            .await
            .ok()?;
        let answer = async {
            let request = Request::get("/").body(Empty::<Bytes>::new()).ok()?;
            let response = sender.send_request(request).await.ok()?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes().to_vec();
            Some(Message::new(
                head.status.as_u16().to_string(),
                &head.headers,
                body,
            ))
        };
        let (_, answer) = tokio::join!(connection, answer);
        answer
    })
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing")
        .block_on(future)
}

/// A stream that has said all it will say. A client's is silent until it was written to.
struct Canned {
    rest: Bytes,
    open: bool,
    waiting: Option<Waker>,
}

impl Canned {
    fn new(input: &[u8], open: bool) -> Self {
        Self {
            rest: Bytes::copy_from_slice(input),
            open,
            waiting: None,
        }
    }
}

impl AsyncRead for Canned {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.open {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Canned {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
