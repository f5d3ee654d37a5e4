//! The table: a number, what is sent, what has to come.

use gapura_tests::h2::{RawFrame, block, frame};

/// One case.
pub(super) struct Case {
    /// As h2spec counts them.
    pub(super) number: &'static str,
    pub(super) what: &'static str,
    pub(super) steps: Vec<Step>,
    /// Why something else than h2spec's own expectation is right.
    pub(super) judged: Option<&'static str>,
}

pub(super) enum Step {
    Send(Vec<u8>),
    Wait(Seen),
}

/// What has to come.
pub(super) enum Seen {
    /// The head of an answer on this stream.
    Answer(u32),
    /// The end of an answer on this stream.
    End(u32),
    /// So many bytes of a body, no more and no fewer, in one frame.
    Data(usize),
    Pong([u8; 8]),
    /// An answer to a ping, or the end: the ping came behind a goodbye.
    PongOrClose([u8; 8]),
    SettingsAck,
    /// Settings, as the first frame of all.
    Settings,
    /// The end of the stream, or of the connection, for one of these reasons.
    StreamError(&'static [u32]),
    /// The end of the connection for one of these reasons.
    ConnectionError(&'static [u32]),
    /// The end of the connection, however it is said.
    Close,
}

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const WHOLE: u8 = END_STREAM | END_HEADERS;

/// The crate underneath has one code for whatever it can't decode.
const ONE_CODE: &str =
    "the connection ends at once, with PROTOCOL_ERROR where the RFC has a code of its own";

/// RFC 9113, section 5.4.1: an endpoint may end the connection over an error of a stream.
const HARDER: &str = "the whole connection ends, with PROTOCOL_ERROR: whoever writes on a stream that it has closed is not trusted with others";

impl Seen {
    /// Whether the frame is it; none if more has to be read.
    pub(super) fn judge(&self, frame: &RawFrame) -> Option<bool> {
        let code = |at: usize| {
            let bytes = frame.payload.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let is = |kind: u8| frame.kind == kind;
        let goodbye = is(7) && code(4) != Some(0);
        match self {
            Self::Answer(stream) if is(1) => Some(frame.stream == *stream),
            Self::End(stream) if is(0) || is(1) => {
                (frame.stream == *stream && frame.flags & END_STREAM != 0).then_some(true)
            }
            Self::Data(length) if is(0) => Some(frame.payload.len() == *length),
            Self::Pong(data) | Self::PongOrClose(data) if is(6) => {
                Some(frame.flags & ACK != 0 && frame.payload == data)
            }
            Self::SettingsAck if is(4) => (frame.flags & ACK != 0).then_some(true),
            Self::Settings => Some(is(4) && frame.flags & ACK == 0),
            Self::StreamError(codes) if is(3) => {
                Some(code(0).is_some_and(|code| codes.contains(&code)))
            }
            Self::StreamError(codes) | Self::ConnectionError(codes) if goodbye => {
                Some(code(4).is_some_and(|code| codes.contains(&code)))
            }
            Self::Close | Self::PongOrClose(_) if goodbye => Some(true),
            _ if goodbye => Some(false),
            _ => None,
        }
    }

    /// Whether a close without a word is it too.
    pub(super) fn by_close(&self) -> bool {
        matches!(self, Self::Close | Self::PongOrClose(_))
    }
}

pub(super) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(4, 0, 0, &payload)
}

fn ping(flags: u8, data: [u8; 8]) -> Vec<u8> {
    frame(6, flags, 0, &data)
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(8, 0, stream, &more.to_be_bytes())
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(0, flags, stream, bytes)
}

/// What a PRIORITY frame says.
fn priority(on: u32, exclusive: bool, weight: u8) -> Vec<u8> {
    let on = on | if exclusive { 1 << 31 } else { 0 };
    [&on.to_be_bytes()[..], &[weight]].concat()
}

fn prioritised(stream: u32, on: u32, exclusive: bool, weight: u8) -> Vec<u8> {
    frame(2, 0, stream, &priority(on, exclusive, weight))
}

/// The fields of a request that is answered.
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn of(method: &str, token: &str) -> Self {
        let path = if token.is_empty() {
            "/healthz"
        } else {
            "/echo/x"
        };
        let mut fields = vec![
            (":method", method.to_owned()),
            (":scheme", "https".to_owned()),
            (":path", path.to_owned()),
            (":authority", "localhost".to_owned()),
        ];
        if !token.is_empty() {
            fields.push(("authorization", format!("Bearer {token}")));
        }
        Self(fields)
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.push((name, value.to_owned()));
        self
    }

    fn before(mut self, name: &'static str, value: &str) -> Self {
        self.0.insert(0, (name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| *known != name);
        self
    }

    fn changed(mut self, name: &str, value: &str) -> Self {
        for (known, old) in &mut self.0 {
            if *known == name {
                value.clone_into(old);
            }
        }
        self
    }

    fn block(&self) -> Vec<u8> {
        let fields: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        block(&fields)
    }
}

fn head(stream: u32, flags: u8, fields: &Fields) -> Vec<u8> {
    frame(1, flags, stream, &fields.block())
}

/// A whole GET.
pub(super) fn get(stream: u32, token: &str) -> Vec<u8> {
    head(stream, WHOLE, &Fields::of("GET", token))
}

/// The beginning of a POST.
fn post(stream: u32, token: &str) -> Vec<u8> {
    head(stream, END_HEADERS, &Fields::of("POST", token))
}

/// A field as one that says nothing.
fn dummy(count: usize) -> Vec<u8> {
    let names: Vec<_> = (0..count).map(|n| format!("x-dummy{n}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "dummy")).collect();
    block(&fields)
}

fn case(number: &'static str, what: &'static str, sent: &[Vec<u8>], wanted: Seen) -> Case {
    Case {
        number,
        what,
        steps: vec![Step::Send(sent.concat()), Step::Wait(wanted)],
        judged: None,
    }
}

impl Case {
    fn then(mut self, sent: &[Vec<u8>], wanted: Seen) -> Self {
        self.steps.push(Step::Send(sent.concat()));
        self.steps.push(Step::Wait(wanted));
        self
    }

    fn judged(mut self, why: &'static str) -> Self {
        self.judged = Some(why);
        self
    }
}

const ZERO: [u8; 8] = [0; 8];

/// All of them; `token` is one that the plugin's mount takes.
pub(super) fn all(token: &str) -> Vec<Case> {
    let parts = [
        generic_streams(token),
        generic_frames(token),
        generic_blocks(token),
        frames(token),
        streams(token),
        by_kind(token),
        of_settings(token),
        of_windows(token),
        continuations(token),
        messages(token),
        blocks(token),
    ];
    parts.into_iter().flatten().collect()
}

fn generic_streams(token: &str) -> Vec<Case> {
    let closed_window = settings(&[(4, 0)]);
    vec![
        case("generic/1/1", "a preface", &[], Seen::Settings),
        case(
            "generic/2/1",
            "PRIORITY on an idle stream",
            &[prioritised(1, 0, false, 255), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "generic/2/2",
            "WINDOW_UPDATE on a half-closed stream",
            &[closed_window.clone(), get(1, token), window(1, 1)],
            Seen::Data(1),
        ),
        case(
            "generic/2/3",
            "PRIORITY on a half-closed stream",
            &[
                closed_window,
                get(1, token),
                prioritised(1, 0, false, 255),
                window(1, 1),
            ],
            Seen::Data(1),
        ),
        case(
            "generic/2/4",
            "RST_STREAM on a half-closed stream",
            &[get(1, token), reset(1, 8), ping(0, ZERO)],
            Seen::PongOrClose(ZERO),
        ),
        case(
            "generic/2/5",
            "PRIORITY on a closed stream",
            &[get(1, token)],
            Seen::End(1),
        )
        .then(
            &[prioritised(1, 0, false, 255), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
    ]
}

fn generic_frames(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let padded = [&[8][..], &fields, &[0; 8]].concat();
    let with_priority = [&priority(0, false, 255)[..], &fields].concat();
    let prioritised_first =
        |number, what, frame: Vec<u8>| case(number, what, &[frame, get(1, token)], Seen::Answer(1));
    vec![
        case(
            "generic/3.1/1",
            "DATA",
            &[post(1, token), data(1, END_STREAM, b"test")],
            Seen::Answer(1),
        ),
        case(
            "generic/3.1/2",
            "DATA twice",
            &[
                post(1, token),
                data(1, 0, b"test"),
                data(1, END_STREAM, b"test"),
            ],
            Seen::Answer(1),
        ),
        case(
            "generic/3.1/3",
            "padded DATA",
            &[
                post(1, token),
                data(1, END_STREAM | PADDED, b"\x04test\0\0\0\0"),
            ],
            Seen::Answer(1),
        ),
        case(
            "generic/3.2/1",
            "HEADERS",
            &[get(1, token)],
            Seen::Answer(1),
        ),
        case(
            "generic/3.2/2",
            "padded HEADERS",
            &[frame(1, WHOLE | PADDED, 1, &padded)],
            Seen::Answer(1),
        ),
        case(
            "generic/3.2/3",
            "HEADERS with a priority",
            &[frame(1, WHOLE | PRIORITY, 1, &with_priority)],
            Seen::Answer(1),
        ),
        prioritised_first("generic/3.3/1", "priority 1", prioritised(1, 0, false, 0)),
        prioritised_first(
            "generic/3.3/2",
            "priority 256",
            prioritised(1, 0, false, 255),
        ),
        prioritised_first("generic/3.3/3", "a dependency", prioritised(3, 1, false, 0)),
        prioritised_first(
            "generic/3.3/4",
            "an exclusive one",
            prioritised(1, 0, true, 0),
        ),
        prioritised_first(
            "generic/3.3/5",
            "PRIORITY of a higher idle stream",
            prioritised(3, 0, false, 255),
        ),
        case(
            "generic/3.4/1",
            "RST_STREAM",
            &[post(1, token), reset(1, 8), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "generic/3.5/1",
            "SETTINGS",
            &[settings(&[(3, 100)])],
            Seen::SettingsAck,
        ),
        case(
            "generic/3.7/1",
            "PING",
            &[ping(0, *b"h2spec\0\0")],
            Seen::Pong(*b"h2spec\0\0"),
        ),
        case(
            "generic/3.8/1",
            "GOAWAY",
            &[frame(7, 0, 0, b"\0\0\0\0\0\0\0\0h2spec"), ping(0, ZERO)],
            Seen::PongOrClose(ZERO),
        ),
        case(
            "generic/3.9/1",
            "WINDOW_UPDATE of the connection",
            &[window(0, 1), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "generic/3.9/2",
            "WINDOW_UPDATE of a stream",
            &[get(1, token), window(1, 1)],
            Seen::Answer(1),
        ),
        case(
            "generic/3.10/1",
            "CONTINUATION",
            &[
                frame(1, END_STREAM, 1, &fields[..5]),
                frame(9, END_HEADERS, 1, &fields[5..]),
            ],
            Seen::Answer(1),
        ),
        case(
            "generic/3.10/2",
            "CONTINUATION twice",
            &[
                frame(1, END_STREAM, 1, &fields[..5]),
                frame(9, 0, 1, &fields[5..10]),
                frame(9, END_HEADERS, 1, &fields[10..]),
            ],
            Seen::Answer(1),
        ),
        case("generic/4/1", "a GET", &[get(1, token)], Seen::Answer(1)),
        case(
            "generic/4/2",
            "a HEAD",
            &[head(1, WHOLE, &Fields::of("HEAD", token))],
            Seen::Answer(1),
        ),
        case(
            "generic/4/3",
            "a POST",
            &[post(1, token), data(1, END_STREAM, b"test")],
            Seen::Answer(1),
        ),
        case(
            "generic/4/4",
            "a POST with trailers",
            &[
                post(1, token),
                data(1, 0, b"test"),
                frame(1, WHOLE, 1, &block(&[("x-test", "ok")])),
            ],
            Seen::Answer(1),
        ),
    ]
}

/// RFC 7541, appendix C.4.3: `custom-key` and `custom-value` by Huffman.
const KEY: &[u8] = &[0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
const VALUE: &[u8] = &[0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];

fn generic_blocks(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let behind = |number, what, parts: &[&[u8]]| {
        let block = [&fields[..], &parts.concat()].concat();
        case(number, what, &[frame(1, WHOLE, 1, &block)], Seen::Answer(1))
    };
    let before = |number, what, update: &[u8]| {
        let block = [update, &fields].concat();
        case(number, what, &[frame(1, WHOLE, 1, &block)], Seen::Answer(1))
    };
    let (plain, key) = (&b"\x0ccustom-value"[..], &b"\x0acustom-key"[..]);
    vec![
        behind("generic/5/1", "an indexed field", &[&[0x90]]),
        behind(
            "generic/5/2",
            "a literal, indexed from now on",
            &[&[0x7a], plain],
        ),
        behind("generic/5/3", "the same by Huffman", &[&[0x7a], VALUE]),
        behind("generic/5/4", "one with a new name", &[&[0x40], key, plain]),
        behind("generic/5/5", "the same by Huffman", &[&[0x40], KEY, VALUE]),
        behind(
            "generic/5/6",
            "a literal, not indexed",
            &[&[0x0f, 0x2b], plain],
        ),
        behind(
            "generic/5/7",
            "the same by Huffman",
            &[&[0x0f, 0x2b], VALUE],
        ),
        behind("generic/5/8", "one with a new name", &[&[0x00], key, plain]),
        behind("generic/5/9", "the same by Huffman", &[&[0x00], KEY, VALUE]),
        behind(
            "generic/5/10",
            "a literal, never indexed",
            &[&[0x1f, 0x2b], plain],
        ),
        behind(
            "generic/5/11",
            "the same by Huffman",
            &[&[0x1f, 0x2b], VALUE],
        ),
        behind(
            "generic/5/12",
            "one with a new name",
            &[&[0x10], key, plain],
        ),
        behind(
            "generic/5/13",
            "the same by Huffman",
            &[&[0x10], KEY, VALUE],
        ),
        before(
            "generic/5/14",
            "an update of the table's size",
            &[0x3f, 0x61],
        ),
        before("generic/5/15", "two of them", &[0x20, 0x3f, 0x61]),
    ]
}

fn frames(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let large = vec![0; 32 * 1024 + 1];
    vec![
        case("http2/3.5/1", "a preface", &[], Seen::Settings),
        case(
            "http2/3.5/2",
            "no preface",
            &[b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()],
            Seen::Close,
        ),
        case(
            "http2/4.1/1",
            "a frame of an unknown kind",
            &[frame(0x16, 0, 0, &ZERO), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "http2/4.1/2",
            "an undefined flag",
            &[ping(0x16, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "http2/4.1/3",
            "the reserved bit",
            &[frame(6, 0x16, 1 << 31, &ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "http2/4.2/1",
            "DATA of 16 KiB",
            &[post(1, token), data(1, END_STREAM, &[0; 16 * 1024])],
            Seen::Answer(1),
        ),
        case(
            "http2/4.2/2",
            "DATA beyond the frame's bound",
            &[post(1, token), data(1, END_STREAM, &large)],
            Seen::StreamError(&[FRAME_SIZE]),
        ),
        case(
            "http2/4.2/3",
            "HEADERS beyond the frame's bound",
            &[frame(1, WHOLE, 1, &large)],
            Seen::ConnectionError(&[FRAME_SIZE]),
        ),
        case(
            "http2/4.3/1",
            "a block that does not decode",
            &[frame(1, WHOLE, 1, &[0x40])],
            Seen::ConnectionError(&[PROTOCOL, COMPRESSION]),
        )
        .judged(ONE_CODE),
        case(
            "http2/4.3/2",
            "PRIORITY inside a block",
            &[
                frame(1, END_STREAM, 1, &fields),
                prioritised(1, 0, false, 255),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/4.3/3",
            "HEADERS of another stream inside a block",
            &[
                frame(1, END_STREAM, 1, &fields),
                frame(1, WHOLE, 3, &fields),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
    ]
}

fn streams(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let on_closed = |number, what, more: Vec<u8>, wanted| {
        case(number, what, &[get(1, token)], Seen::End(1)).then(&[more], wanted)
    };
    let many: Vec<_> = std::iter::once(settings(&[(4, 0)]))
        .chain((0..=100).map(|n| get(2 * n + 1, token)))
        .collect();
    let on_itself = [&priority(1, false, 255)[..], &fields].concat();
    vec![
        case(
            "http2/5.1/1",
            "DATA on an idle stream",
            &[data(1, END_STREAM, b"test")],
            Seen::StreamError(&[PROTOCOL, CLOSED]),
        ),
        case(
            "http2/5.1/2",
            "RST_STREAM on an idle stream",
            &[reset(1, 8)],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/5.1/3",
            "WINDOW_UPDATE on an idle stream",
            &[window(1, 100)],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/5.1/4",
            "CONTINUATION on an idle stream",
            &[frame(9, END_HEADERS, 1, &fields)],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/5.1/5",
            "DATA on a half-closed stream",
            &[get(1, token), data(1, END_STREAM, b"test")],
            Seen::StreamError(&[CLOSED, PROTOCOL]),
        )
        .judged(HARDER),
        case(
            "http2/5.1/6",
            "HEADERS on a half-closed stream",
            &[get(1, token), get(1, token)],
            Seen::StreamError(&[CLOSED, PROTOCOL]),
        )
        .judged(HARDER),
        case(
            "http2/5.1/7",
            "CONTINUATION on a half-closed stream",
            &[get(1, token), frame(9, END_HEADERS, 1, &fields)],
            Seen::StreamError(&[CLOSED, PROTOCOL]),
        ),
        case(
            "http2/5.1/8",
            "DATA behind RST_STREAM",
            &[post(1, token), reset(1, 8), data(1, END_STREAM, b"test")],
            Seen::StreamError(&[CLOSED]),
        ),
        case(
            "http2/5.1/9",
            "HEADERS behind RST_STREAM",
            &[post(1, token), reset(1, 8), get(1, token)],
            Seen::StreamError(&[CLOSED, PROTOCOL]),
        )
        .judged(HARDER),
        case(
            "http2/5.1/10",
            "CONTINUATION behind RST_STREAM",
            &[
                post(1, token),
                reset(1, 8),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
            Seen::StreamError(&[CLOSED, PROTOCOL]),
        ),
        on_closed(
            "http2/5.1/11",
            "DATA on a closed stream",
            data(1, END_STREAM, b"test"),
            Seen::StreamError(&[CLOSED]),
        ),
        on_closed(
            "http2/5.1/12",
            "HEADERS on a closed stream",
            get(1, token),
            Seen::ConnectionError(&[CLOSED, PROTOCOL]),
        )
        .judged(HARDER),
        on_closed(
            "http2/5.1/13",
            "CONTINUATION on a closed stream",
            frame(9, END_HEADERS, 1, &dummy(1)),
            Seen::ConnectionError(&[CLOSED, PROTOCOL]),
        ),
        case(
            "http2/5.1.1/1",
            "an even stream",
            &[get(2, token)],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/5.1.1/2",
            "a stream below the last",
            &[get(5, token), get(3, token)],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/5.1.2/1",
            "more streams than allowed",
            &many,
            Seen::StreamError(&[PROTOCOL, REFUSED]),
        ),
        case(
            "http2/5.3.1/1",
            "HEADERS that depend on themselves",
            &[frame(1, WHOLE | PRIORITY, 1, &on_itself)],
            Seen::StreamError(&[PROTOCOL]),
        ),
        case(
            "http2/5.3.1/2",
            "PRIORITY on itself",
            &[prioritised(1, 1, false, 255)],
            Seen::StreamError(&[PROTOCOL]),
        ),
        case(
            "http2/5.4.1/1",
            "a PING of six bytes closes",
            &[frame(6, 0, 0, &[0; 6])],
            Seen::Close,
        ),
        case(
            "http2/5.4.1/2",
            "a PING of six bytes is answered by GOAWAY",
            &[frame(6, 0, 0, &[0; 6])],
            Seen::ConnectionError(&[FRAME_SIZE, PROTOCOL]),
        )
        .judged(ONE_CODE),
        case(
            "http2/5.5/1",
            "an extension's frame",
            &[frame(0x16, 0, 0, &ZERO), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "http2/5.5/2",
            "an extension's frame inside a block",
            &[
                frame(1, END_STREAM, 1, &fields),
                frame(0x16, 0, 0, &ZERO),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
    ]
}

fn by_kind(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let badly_padded = [&[fields.len() as u8 + 1][..], &fields].concat();
    let sized = Fields::of("POST", token).with("content-length", "4");
    let connection_error = |number, what, sent: &[Vec<u8>]| {
        case(number, what, sent, Seen::ConnectionError(&[PROTOCOL]))
    };
    let frame_size = |number, what, sent: &[Vec<u8>]| {
        case(
            number,
            what,
            sent,
            Seen::ConnectionError(&[FRAME_SIZE, PROTOCOL]),
        )
        .judged(ONE_CODE)
    };
    vec![
        connection_error(
            "http2/6.1/1",
            "DATA on stream 0",
            &[data(0, END_STREAM, b"test")],
        ),
        case(
            "http2/6.1/2",
            "DATA on a stream that is not open",
            &[
                head(1, WHOLE, &Fields::of("POST", token)),
                data(1, END_STREAM, b"test"),
            ],
            Seen::StreamError(&[CLOSED, PROTOCOL]),
        )
        .judged(HARDER),
        connection_error(
            "http2/6.1/3",
            "DATA with more padding than there is",
            &[
                head(1, END_HEADERS, &sized),
                data(1, END_STREAM | PADDED, b"\x06test"),
            ],
        ),
        connection_error(
            "http2/6.2/1",
            "HEADERS without an end, and PRIORITY",
            &[
                frame(1, END_STREAM, 1, &fields),
                prioritised(1, 0, false, 255),
            ],
        ),
        connection_error(
            "http2/6.2/2",
            "HEADERS without an end, and another stream's",
            &[frame(1, END_STREAM, 1, &fields), get(3, token)],
        ),
        connection_error("http2/6.2/3", "HEADERS on stream 0", &[get(0, token)]),
        connection_error(
            "http2/6.2/4",
            "HEADERS with more padding than there is",
            &[frame(1, WHOLE | PADDED, 1, &badly_padded)],
        ),
        connection_error(
            "http2/6.3/1",
            "PRIORITY on stream 0",
            &[prioritised(0, 0, false, 255)],
        ),
        case(
            "http2/6.3/2",
            "PRIORITY of four bytes",
            &[get(1, token), frame(2, 0, 1, &[0; 4])],
            Seen::StreamError(&[FRAME_SIZE, PROTOCOL]),
        )
        .judged(ONE_CODE),
        connection_error("http2/6.4/1", "RST_STREAM on stream 0", &[reset(0, 8)]),
        connection_error(
            "http2/6.4/2",
            "RST_STREAM on an idle stream",
            &[reset(1, 8)],
        ),
        frame_size(
            "http2/6.4/3",
            "RST_STREAM of three bytes",
            &[post(1, token), frame(3, 0, 1, &[0; 3])],
        ),
        frame_size(
            "http2/6.5/1",
            "SETTINGS that acknowledge and set",
            &[frame(4, ACK, 0, &[0])],
        ),
        connection_error(
            "http2/6.5/2",
            "SETTINGS on stream 1",
            &[frame(4, 0, 1, &[0, 3, 0, 0, 0, 100])],
        ),
        frame_size(
            "http2/6.5/3",
            "SETTINGS of three bytes",
            &[frame(4, 0, 0, &[0, 3, 0])],
        ),
        case(
            "http2/6.7/1",
            "PING",
            &[ping(0, *b"h2spec\0\0")],
            Seen::Pong(*b"h2spec\0\0"),
        ),
        case(
            "http2/6.7/2",
            "a PING's answer is not answered",
            &[ping(ACK, *b"invalid\0"), ping(0, *b"h2spec\0\0")],
            Seen::Pong(*b"h2spec\0\0"),
        ),
        connection_error("http2/6.7/3", "PING on stream 1", &[frame(6, 0, 1, &ZERO)]),
        frame_size(
            "http2/6.7/4",
            "PING of six bytes",
            &[frame(6, 0, 0, &[0; 6])],
        ),
        connection_error(
            "http2/6.8/1",
            "GOAWAY on stream 1",
            &[frame(7, 0, 1, b"\0\0\0\0\0\0\0\0h2spec")],
        ),
        case(
            "http2/7/1",
            "GOAWAY with an unknown code",
            &[frame(7, 0, 0, b"\0\0\0\0\0\0\0\xff"), ping(0, ZERO)],
            Seen::PongOrClose(ZERO),
        ),
        case(
            "http2/7/2",
            "RST_STREAM with an unknown code",
            &[post(1, token), reset(1, 0xff), ping(0, ZERO)],
            Seen::PongOrClose(ZERO),
        ),
    ]
}

fn of_settings(token: &str) -> Vec<Case> {
    let refused = |number, what, pair, codes| {
        case(
            number,
            what,
            &[settings(&[pair])],
            Seen::ConnectionError(codes),
        )
    };
    vec![
        refused("http2/6.5.2/1", "ENABLE_PUSH 2", (2, 2), &[PROTOCOL]),
        refused(
            "http2/6.5.2/2",
            "a window beyond the largest",
            (4, 1 << 31),
            &[FLOW_CONTROL, PROTOCOL],
        )
        .judged(ONE_CODE),
        refused(
            "http2/6.5.2/3",
            "frames below the smallest",
            (5, 16_383),
            &[PROTOCOL],
        ),
        refused(
            "http2/6.5.2/4",
            "frames beyond the largest",
            (5, 1 << 24),
            &[PROTOCOL],
        ),
        case(
            "http2/6.5.2/5",
            "an unknown setting",
            &[settings(&[(0xff, 1)]), ping(0, ZERO)],
            Seen::Pong(ZERO),
        ),
        case(
            "http2/6.5.3/1",
            "a window set twice",
            &[settings(&[(4, 100), (4, 1)])],
            Seen::SettingsAck,
        )
        .then(&[get(1, token)], Seen::Data(1)),
        case(
            "http2/6.5.3/2",
            "SETTINGS are acknowledged",
            &[settings(&[(2, 0)])],
            Seen::SettingsAck,
        ),
    ]
}

fn of_windows(token: &str) -> Vec<Case> {
    const LARGEST: u32 = (1 << 31) - 1;
    vec![
        case(
            "http2/6.9/1",
            "an update by nothing",
            &[window(0, 0)],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
        case(
            "http2/6.9/2",
            "an update of a stream by nothing",
            &[post(1, token), window(1, 0)],
            Seen::StreamError(&[PROTOCOL]),
        ),
        case(
            "http2/6.9/3",
            "an update of three bytes",
            &[frame(8, 0, 0, &[0, 0, 1])],
            Seen::ConnectionError(&[FRAME_SIZE, PROTOCOL]),
        )
        .judged(ONE_CODE),
        case(
            "http2/6.9.1/1",
            "a window of one byte",
            &[settings(&[(4, 1)])],
            Seen::SettingsAck,
        )
        .then(&[get(1, token)], Seen::Data(1)),
        case(
            "http2/6.9.1/2",
            "the connection's window beyond the largest",
            &[window(0, LARGEST), window(0, LARGEST)],
            Seen::ConnectionError(&[FLOW_CONTROL]),
        ),
        case(
            "http2/6.9.1/3",
            "a stream's window beyond the largest",
            &[post(1, token), window(1, LARGEST), window(1, LARGEST)],
            Seen::StreamError(&[FLOW_CONTROL]),
        ),
        case(
            "http2/6.9.2/1",
            "a window that is set behind the request",
            &[settings(&[(4, 0)])],
            Seen::SettingsAck,
        )
        .then(&[get(1, token), settings(&[(4, 1)])], Seen::Data(1)),
        case(
            "http2/6.9.2/2",
            "a window below nothing",
            &[settings(&[(4, 3)])],
            Seen::SettingsAck,
        )
        .then(&[get(1, token)], Seen::Data(3))
        .then(&[settings(&[(4, 2)])], Seen::SettingsAck)
        .then(&[window(1, 2)], Seen::Data(1)),
        case(
            "http2/6.9.2/3",
            "a first window beyond the largest",
            &[settings(&[(4, 1 << 31)])],
            Seen::ConnectionError(&[FLOW_CONTROL, PROTOCOL]),
        )
        .judged(ONE_CODE),
    ]
}

fn continuations(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let begun = || frame(1, END_STREAM, 1, &fields);
    let error = |number, what, sent: &[Vec<u8>]| {
        case(number, what, sent, Seen::ConnectionError(&[PROTOCOL]))
    };
    vec![
        case(
            "http2/6.10/1",
            "several CONTINUATION",
            &[
                begun(),
                frame(9, 0, 1, &dummy(1)),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
            Seen::Answer(1),
        ),
        error(
            "http2/6.10/2",
            "another frame behind CONTINUATION",
            &[
                begun(),
                frame(9, 0, 1, &dummy(1)),
                data(1, END_STREAM, b"test"),
            ],
        ),
        error(
            "http2/6.10/3",
            "CONTINUATION on stream 0",
            &[begun(), frame(9, END_HEADERS, 0, &dummy(1))],
        ),
        error(
            "http2/6.10/4",
            "CONTINUATION behind the end of a block",
            &[post(1, token), frame(9, END_HEADERS, 1, &dummy(1))],
        ),
        error(
            "http2/6.10/5",
            "CONTINUATION behind the last",
            &[
                frame(1, 0, 1, &fields),
                frame(9, END_HEADERS, 1, &dummy(1)),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
        ),
        error(
            "http2/6.10/6",
            "CONTINUATION behind DATA",
            &[
                post(1, token),
                data(1, 0, b"test"),
                frame(9, END_HEADERS, 1, &dummy(1)),
            ],
        ),
    ]
}

fn messages(token: &str) -> Vec<Case> {
    let get = || Fields::of("GET", token);
    let stream_error =
        |number, what, sent: &[Vec<u8>]| case(number, what, sent, Seen::StreamError(&[PROTOCOL]));
    let head_error =
        |number, what, fields: Fields| stream_error(number, what, &[head(1, WHOLE, &fields)]);
    let trailing = frame(1, WHOLE, 1, &block(&[(":method", "200")]));
    let sized = Fields::of("POST", token).with("content-length", "1");
    let mut late = get();
    late.0.insert(0, ("x-test", "ok".to_owned()));
    vec![
        stream_error(
            "http2/8.1/1",
            "a second head without an end",
            &[
                post(1, token),
                data(1, 0, b"test"),
                frame(1, END_HEADERS, 1, &block(&[("x-test", "ok")])),
            ],
        ),
        head_error(
            "http2/8.1.2/1",
            "a name in upper case",
            get().with("X-TEST", "ok"),
        ),
        head_error(
            "http2/8.1.2.1/1",
            "an unknown pseudo-header",
            get().before(":test", "ok"),
        ),
        head_error(
            "http2/8.1.2.1/2",
            "an answer's pseudo-header",
            get().before(":status", "200"),
        ),
        case(
            "http2/8.1.2.1/3",
            "a pseudo-header as a trailer",
            &[post(1, token), data(1, 0, b"test"), trailing],
            Seen::StreamError(&[PROTOCOL]),
        ),
        head_error("http2/8.1.2.1/4", "a pseudo-header behind a field", late),
        head_error(
            "http2/8.1.2.2/1",
            "connection",
            get().with("connection", "keep-alive"),
        ),
        head_error(
            "http2/8.1.2.2/2",
            "te with more than trailers",
            get()
                .with("trailers", "test")
                .with("te", "trailers, deflate"),
        ),
        head_error(
            "http2/8.1.2.3/1",
            "an empty :path",
            get().changed(":path", ""),
        ),
        head_error("http2/8.1.2.3/2", "no :method", get().without(":method")),
        head_error("http2/8.1.2.3/3", "no :scheme", get().without(":scheme")),
        head_error("http2/8.1.2.3/4", "no :path", get().without(":path")),
        head_error(
            "http2/8.1.2.3/5",
            ":method twice",
            get().before(":method", "GET"),
        ),
        head_error(
            "http2/8.1.2.3/6",
            ":scheme twice",
            get().before(":scheme", "https"),
        ),
        head_error(
            "http2/8.1.2.3/7",
            ":path twice",
            get().before(":path", "/echo/x"),
        ),
        stream_error(
            "http2/8.1.2.6/1",
            "a length unlike the body's",
            &[head(1, END_HEADERS, &sized), data(1, END_STREAM, b"test")],
        ),
        stream_error(
            "http2/8.1.2.6/2",
            "a length unlike the sum of the body's",
            &[
                head(1, END_HEADERS, &sized),
                data(1, 0, b"test"),
                data(1, END_STREAM, b"test"),
            ],
        ),
        case(
            "http2/8.2/1",
            "PUSH_PROMISE",
            &[frame(
                5,
                END_HEADERS,
                1,
                &[&[0, 0, 0, 3][..], &get().block()].concat(),
            )],
            Seen::ConnectionError(&[PROTOCOL]),
        ),
    ]
}

fn blocks(token: &str) -> Vec<Case> {
    let fields = Fields::of("GET", token).block();
    let undecodable = |number, what, block: Vec<u8>| {
        let wanted = Seen::ConnectionError(&[COMPRESSION, PROTOCOL]);
        case(number, what, &[frame(1, WHOLE, 1, &block)], wanted).judged(ONE_CODE)
    };
    let behind =
        |number, what, more: &[u8]| undecodable(number, what, [&fields[..], more].concat());
    let name = [0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff];
    let literal = |value: &[u8]| [&name[..], value].concat();
    vec![
        behind("hpack/2.3.3/1", "an index beyond the table", &[0xc6]),
        behind(
            "hpack/2.3.3/2",
            "a name's index beyond the table",
            &[0x7f, 0x07, 0x00],
        ),
        behind(
            "hpack/4.2/1",
            "an update of the table's size at the end",
            &[0x21],
        ),
        behind(
            "hpack/5.2/1",
            "more than seven bits of padding",
            &literal(&[0x84, 0x49, 0x50, 0x9f, 0xff]),
        ),
        behind(
            "hpack/5.2/2",
            "padding of zeros",
            &literal(&[0x83, 0x49, 0x50, 0x90]),
        ),
        behind(
            "hpack/5.2/3",
            "the end of strings inside one",
            &literal(&[0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f]),
        ),
        behind("hpack/6.1/1", "the index 0", &[0x80]),
        undecodable(
            "hpack/6.3/1",
            "a table larger than allowed",
            [&[0x3f, 0xe2, 0x1f][..], &fields].concat(),
        ),
    ]
}
