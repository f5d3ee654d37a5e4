//! What the tests of both sides share: a service that notes what happens to it, and frames made and
//! read by hand.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::held::{Share, Streams};
use super::server::{End, Settings, serve};
use crate::shared_testing::{Answering, Clock, TestBody};
use gapura_http::http1::server::Service;
use gapura_http::http1::{Incoming, Refusal};

/// Larger than anything that is written at once.
pub(crate) const WIDE: usize = 1 << 20;

/// A service made of a function, that notes refusals and panics.
pub(crate) struct Noting<F> {
    answering: Answering<F>,
    pub(crate) panics: Cell<u32>,
}

impl<F> Noting<F> {
    pub(crate) fn new(call: F) -> Rc<Self> {
        Rc::new(Self {
            answering: Answering::new(call),
            panics: Cell::new(0),
        })
    }

    pub(crate) fn refusals(&self) -> &RefCell<Vec<Refusal>> {
        &self.answering.refusals
    }
}

impl<F, A> Service for Noting<F>
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<TestBody>>,
{
    type Body = TestBody;

    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<TestBody>> {
        self.answering.call(request)
    }

    fn refuse(&self, refusal: Refusal) -> Response<TestBody> {
        self.answering.refuse(refusal)
    }

    fn panicked(&self) {
        self.panics.set(self.panics.get() + 1);
    }
}

/// A server on one end of a pipe.
pub(crate) struct Served {
    pub(crate) io: Option<DuplexStream>,
    pub(crate) end: JoinHandle<End>,
    pub(crate) stop: tokio::sync::oneshot::Sender<()>,
    pub(crate) streams: Streams,
    pub(crate) share: Rc<Share>,
}

pub(crate) fn served_with<S: Service + 'static>(
    service: Rc<S>,
    settings: Settings,
    width: usize,
) -> Served {
    let (near, far) = duplex(width);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let streams = Streams::new(usize::MAX);
    let share = streams.open();
    let given = share.clone();
    let end = tokio::task::spawn_local(async move {
        let stopped = async {
            if stopped.await.is_err() {
                std::future::pending().await
            }
        };
        serve(
            far,
            Bytes::new(),
            service,
            &settings,
            &Clock,
            &given,
            stopped,
        )
        .await
    });
    Served {
        io: Some(near),
        end,
        stop,
        streams,
        share,
    }
}

pub(crate) fn served<S: Service + 'static>(service: Rc<S>) -> Served {
    served_with(service, Settings::client(), WIDE)
}

impl Served {
    /// A client by the `h2` crate, driven by a task of its own.
    pub(crate) async fn client(&mut self) -> SendRequest<Bytes> {
        let io = self.io.take().unwrap();
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        client.ready().await.unwrap()
    }

    /// A client by hand: the preface and empty settings are sent.
    pub(crate) async fn raw(&mut self) -> Raw<DuplexStream> {
        let mut raw = Raw(self.io.take().unwrap());
        raw.0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await;
        // Ours hold from here on.
        raw.until(SETTINGS).await;
        raw.send(SETTINGS, ACK, 0, &[]).await;
        raw
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const ACK: u8 = 1;

/// Frames by hand.
pub(crate) struct Raw<IO>(pub(crate) IO);

#[derive(Debug)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    /// The code of a reset.
    pub(crate) fn code(&self) -> u32 {
        let code = &self.payload[self.payload.len().min(8) - 4..];
        u32::from_be_bytes(code[..4].try_into().unwrap())
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as literals that nobody remembers.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(text.len(), &mut bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

fn length(length: usize, bytes: &mut Vec<u8>) {
    if length < 127 {
        bytes.push(u8::try_from(length).unwrap());
        return;
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// A request's head, with these fields behind the usual ones.
pub(crate) fn request_block(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ];
    all.extend_from_slice(fields);
    block(&all)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Raw<IO> {
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0
            .write_all(&frame(kind, flags, stream, payload))
            .await
            .unwrap();
    }

    pub(crate) async fn request(
        &mut self,
        stream: u32,
        flags: u8,
        method: &str,
        fields: &[(&str, &str)],
    ) {
        let block = request_block(method, fields);
        self.send(HEADERS, flags | END_HEADERS, stream, &block)
            .await;
    }

    /// The next frame; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<RawFrame> {
        let mut head = [0_u8; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(RawFrame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
            payload,
        })
    }

    /// The next frame of this kind; the settings are acknowledged on the way, and other frames
    /// passed over.
    pub(crate) async fn until(&mut self, kind: u8) -> RawFrame {
        loop {
            let Some(frame) = self.next().await else {
                panic!("ended before a frame of kind {kind}")
            };
            if frame.kind == SETTINGS && frame.flags == 0 && kind != SETTINGS {
                self.send(SETTINGS, ACK, 0, &[]).await;
            }
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// All frames to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

/// The bytes and trailers of an answer to a client by the `h2` crate, or the code its stream was
/// reset with.
pub(crate) async fn read(
    body: &mut h2::RecvStream,
) -> (Vec<u8>, Result<Option<HeaderMap>, Option<h2::Reason>>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                bytes.extend_from_slice(&data);
            }
            Err(error) => return (bytes, Err(error.reason())),
        }
    }
    let trailers = body.trailers().await.map_err(|error| error.reason());
    (bytes, trailers)
}

/// A body of `count` pieces of 16 KiB.
pub(crate) fn bulk(count: usize) -> TestBody {
    TestBody::frames((0..count).map(|_| Ok(Frame::data(Bytes::from_static(&[7; 16 * 1024])))))
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::builder()
        .uri(format!("http://a{path}"))
        .body(())
        .unwrap()
}

pub(crate) fn post(fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post("http://a/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// Runs a test where tasks of one thread may be spawned.
pub(crate) async fn locally<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}
