//! HTTP/2 from the client's side, twice: a well-behaved client on the `h2` crate, and one that
//! writes any frame and any header block, however wrong, because a library would refuse to send
//! what has to be refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::PATIENCE;
use crate::wire::{Response, Tls, Wire};

/// A well-behaved client on one connection.
pub struct Http2 {
    runtime: Arc<Runtime>,
    send: SendRequest<Bytes>,
}

/// A thread that drives the connection while the test waits for other things. It ends when this is
/// dropped.
struct Runtime {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

/// A request that is under way.
pub struct Open {
    runtime: Arc<Runtime>,
    /// The side that sends.
    pub send: SendStream<Bytes>,
    response: h2::client::ResponseFuture,
}

/// An answer whose body is still to be read.
pub struct Answer {
    runtime: Arc<Runtime>,
    /// The head.
    pub head: http::response::Parts,
    body: RecvStream,
}

/// Writes frames by hand.
pub struct Frames {
    wire: Wire,
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An answer's head, with its status if it could be read.
    Head(u32, Option<u16>),
    /// A body's part.
    Data(u32, Vec<u8>),
    /// A stream was reset, with the code.
    Reset(u32, u32),
    /// The connection ends, with the code.
    GoAway(u32),
    /// Any other, by its type.
    Other(u8),
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Runtime {
    fn start() -> Self {
        let (_stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(stopped));
        Self { handle, _stop }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

impl Http2 {
    /// Connects, shakes hands and settles on HTTP/2. `window` is how much of one answer's body may
    /// be under way unread.
    #[must_use]
    pub fn connect(address: SocketAddr, tls: &Tls, window: u32) -> Self {
        let runtime = Runtime::start();
        let connector = tokio_rustls::TlsConnector::from(tls.config());
        let send = runtime.block_on(async {
            let tcp = TcpStream::connect(address).await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let stream = connector.connect(tls.name(), tcp).await.unwrap();
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(&b"h2"[..]),
                "the other side speaks HTTP/2"
            );
            let mut builder = h2::client::Builder::new();
            builder
                .initial_window_size(window)
                .initial_connection_window_size(window.max(1 << 20))
                .max_header_list_size(1 << 20);
            let (send, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            send
        });
        Self {
            runtime: Arc::new(runtime),
            send,
        }
    }

    /// Opens a request and leaves its body open unless `end`.
    #[must_use]
    pub fn open(&mut self, request: Request<()>, end: bool) -> Open {
        let (response, send) = self.runtime.block_on(async {
            let mut ready = self.send.clone().ready().await.unwrap();
            ready.send_request(request, end).unwrap()
        });
        Open {
            runtime: self.runtime.clone(),
            send,
            response,
        }
    }

    /// A whole exchange without trailers.
    #[must_use]
    pub fn exchange(&mut self, request: Request<()>, body: Option<&[u8]>) -> Response {
        let mut open = self.open(request, body.is_none());
        if let Some(body) = body {
            open.send
                .send_data(Bytes::copy_from_slice(body), true)
                .unwrap();
        }
        open.answer().whole()
    }
}

impl Open {
    /// Waits for the answer's head.
    #[must_use]
    pub fn answer(self) -> Answer {
        self.try_answer()
            .unwrap_or_else(|err| panic!("no answer: {err}"))
    }

    /// Waits for the answer's head.
    ///
    /// # Errors
    /// If the stream or the connection was reset.
    pub fn try_answer(self) -> Result<Answer, h2::Error> {
        let Self {
            runtime,
            response,
            send,
        } = self;
        let limited = async { tokio::time::timeout(PATIENCE, response).await };
        let (head, body) = runtime
            .block_on(limited)
            .expect("an answer in time")?
            .into_parts();
        drop(send);
        Ok(Answer {
            runtime,
            head,
            body,
        })
    }

    /// Sends a part of the body; the crate keeps what the window does not take.
    pub fn data(&mut self, part: &[u8], end: bool) {
        self.send
            .send_data(Bytes::copy_from_slice(part), end)
            .unwrap();
    }

    /// Ends the body with these.
    pub fn trailers(&mut self, trailers: HeaderMap) {
        self.send.send_trailers(trailers).unwrap();
    }
}

impl Answer {
    /// Reads the whole body, giving back the window as it goes.
    #[must_use]
    pub fn whole(self) -> Response {
        self.try_whole()
            .unwrap_or_else(|err| panic!("the answer broke off: {err}"))
    }

    /// The same of an answer that may break off.
    ///
    /// # Errors
    /// If its stream or the connection was reset.
    pub fn try_whole(self) -> Result<Response, h2::Error> {
        let Self {
            runtime,
            head,
            mut body,
        } = self;
        let (bytes, trailers) = runtime.block_on(async {
            let mut bytes = Vec::new();
            while let Some(part) = tokio::time::timeout(PATIENCE, body.data())
                .await
                .expect("a part in time")
            {
                let part = part?;
                body.flow_control().release_capacity(part.len()).unwrap();
                bytes.extend_from_slice(&part);
            }
            Ok::<_, h2::Error>((bytes, body.trailers().await?.unwrap_or_default()))
        })?;
        let list = |map: &HeaderMap| {
            map.iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect()
        };
        Ok(Response {
            version: "HTTP/2".to_owned(),
            status: head.status.as_u16(),
            headers: list(&head.headers),
            body: bytes,
            trailers: list(&trailers),
        })
    }

    /// Reads `length` bytes at least, then leaves the rest unread, with the stream held open by
    /// what is returned.
    #[must_use]
    pub fn read_then_stall(mut self, length: usize) -> Self {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            let mut got = 0;
            while got < length {
                let part = tokio::time::timeout(PATIENCE, self.body.data())
                    .await
                    .expect("a part in time")
                    .expect("more")
                    .unwrap();
                got += part.len();
            }
        });
        self
    }
}

impl Frames {
    /// Sends the preface and empty settings.
    #[must_use]
    pub fn connect(address: SocketAddr, tls: &Tls) -> Self {
        let mut frames = Self::silent(address, tls);
        frames.send_bytes(PREFACE);
        frames.send(4, 0, 0, &[]);
        frames
    }

    /// Has agreed on HTTP/2 and not said a word of it.
    #[must_use]
    pub fn silent(address: SocketAddr, tls: &Tls) -> Self {
        let wire = Wire::tls(address, tls).unwrap();
        assert_eq!(
            wire.protocol().as_deref(),
            Some("h2"),
            "the other side speaks HTTP/2"
        );
        Self { wire }
    }

    /// Has the system keep next to nothing for us of what the other side sends.
    pub fn keep_little(&self) {
        self.wire.keep_little();
    }

    /// Reads to the end; whether TLS has said that it is one.
    #[must_use]
    pub fn is_ended_well(&mut self) -> bool {
        self.wire.is_ended_well()
    }

    /// Sends one frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_bytes(&frame(kind, flags, stream, payload));
    }

    /// Sends these bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.wire.try_send(bytes); // closed by the other side: the reading tells
    }

    /// Sends a head of these fields, as they are, and ends the stream with it if `end`.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        self.send(1, if end { 5 } else { 4 }, stream, &block(fields));
    }

    /// Reads frames until one of this stream or a `GOAWAY` settles the matter; settings and the
    /// like are passed over.
    pub fn outcome(&mut self) -> Option<Frame> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.next() {
                Some(Frame::Other(_)) => {}
                other => return other,
            }
        }
        None
    }

    /// The next frame; `None` once the connection is closed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE)
    }

    /// The next frame, for which the test is ready to wait this long; `None` once the connection is
    /// closed.
    pub fn next_within(&mut self, limit: Duration) -> Option<Frame> {
        let RawFrame {
            kind,
            stream,
            payload,
            ..
        } = self.raw_within(limit)?;
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        Some(match kind {
            0 => Frame::Data(stream, payload),
            1 => Frame::Head(stream, status(&payload)),
            3 => Frame::Reset(stream, code(0)),
            7 => Frame::GoAway(code(4)),
            _ => Frame::Other(kind),
        })
    }

    /// The next frame as it came; settings are acknowledged. `None` once the connection is closed,
    /// or after this long.
    pub fn raw_within(&mut self, limit: Duration) -> Option<RawFrame> {
        let header = self.wire.try_read_within(limit, 9).ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let (kind, flags) = (header[3], header[4]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let payload = self.read(length as usize)?;
        if kind == 4 && flags & 1 == 0 {
            self.send(4, 1, 0, &[]);
        }
        Some(RawFrame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// Whether the other side closes within `limit`.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.wire.is_closed_within(limit)
    }

    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        self.wire.try_read(length).ok()
    }
}

/// How a client begins (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals without indexing and without Huffman coding (RFC 7541, section
/// 6.2.2).
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            out.push(127); // a 7-bit prefix, then the rest in groups of seven bits
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            out.push(rest as u8);
        }
        out.extend(text.bytes());
    }
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

/// The status of an answer's header block: its first field, indexed in the static table or a
/// literal under one of its names.
fn status(block: &[u8]) -> Option<u16> {
    const DIGITS: [(u8, u8, u16); 10] = [
        (5, 0x00, 0),
        (5, 0x01, 1),
        (5, 0x02, 2),
        (6, 0x19, 3),
        (6, 0x1a, 4),
        (6, 0x1b, 5),
        (6, 0x1c, 6),
        (6, 0x1d, 7),
        (6, 0x1e, 8),
        (6, 0x1f, 9),
    ]; // RFC 7541, appendix B
    // A block may begin with updates of the table's size.
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20)?..];
    let (first, rest) = block.split_first()?;
    if first & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500]
            .get(usize::from(first & 0x7f).checked_sub(8)?)
            .copied();
    }
    let (length, rest) = rest.split_first()?;
    let value = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    let bits: String = value.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let digit = |(width, code, _): &&(u8, u8, u16)| {
            let end = at + usize::from(*width);
            bits.get(at..end)
                .is_some_and(|bits| u8::from_str_radix(bits, 2) == Ok(*code))
        };
        let (width, _, digit) = DIGITS.iter().find(digit)?;
        at += usize::from(*width);
        number = number * 10 + digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_in_each_form_a_block_may_have_it() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x8c]), Some(400));
        assert_eq!(status(&[0x48, 0x03, b'4', b'0', b'3']), Some(403));
        assert_eq!(
            status(&[0x48, 0x82, 0x64, 0x02]),
            Some(302),
            "Huffman: RFC 7541, appendix C.6.1"
        );
        assert_eq!(
            status(&[0x20, 0x88]),
            Some(200),
            "behind an update of the table's size"
        );
        assert_eq!(status(&[]), None);
    }

    #[test]
    fn writes_literals_of_any_length() {
        assert_eq!(block(&[("a", "bc")]), [0, 1, b'a', 2, b'b', b'c']);
        let long = block(&[("a", &"b".repeat(300))]);
        assert_eq!(&long[..6], [0, 1, b'a', 127, (173 % 128 + 128) as u8, 1]); // 300 - 127 = 173
        assert_eq!(long.len(), 6 + 300);
    }
}
