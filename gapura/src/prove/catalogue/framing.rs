//! Attacks on where one message ends and the next begins, and on the patience of the door.
//!
//! What hides in a message bears the mark with an `s` and no token: whoever takes it for a request
//! of its own lets it in without one.

use crate::prove::attack::{Attack, By, Expect, Flood, Probe, Send, Then, probe, shots};

pub(super) const ATTACKS: &[Attack] = &[
    shots("F1", "a length beside a coding", Expect::Once, F1),
    shots("F2", "codings that are no one chunked", Expect::Once, F2),
    shots(
        "F3",
        "lengths in odd forms, and untrue ones",
        Expect::Once,
        F3,
    ),
    shots(
        "F4",
        "bare line feeds, folded lines, blanks",
        Expect::Once,
        F4,
    ),
    shots(
        "F5",
        "a request glued to the wish for a switch",
        Expect::Once,
        F5,
    ),
    shots(
        "F6",
        "a switch to HTTP/2 in the clear",
        Expect::NoSwitch,
        F6,
    ),
    shots("F7", "CONNECT and TRACE", Expect::Refused, F7),
    shots(
        "F8",
        "a body that nobody read, as the next request",
        Expect::Once,
        F8,
    ),
    Attack {
        id: "F9",
        tries: "streams opened and reset by the thousand",
        expect: Expect::Others,
        by: By::Flood(Flood::RapidReset),
    },
    Attack {
        id: "F10",
        tries: "header blocks without end, and heads that grow",
        expect: Expect::Others,
        by: By::Flood(Flood::Frames),
    },
    Attack {
        id: "F11",
        tries: "a head that never gets done",
        expect: Expect::Others,
        by: By::Slow,
    },
    shots(
        "F12",
        "trailers that do not end their stream",
        Expect::Refused,
        F12,
    ),
];

const F1: &[Probe] = &[
    probe(
        "the length first",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "the coding first",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "a length over the next request",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Content-Length: 120\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
];

const F2: &[Probe] = &[
    probe(
        "gzip, chunked",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "chunked on two lines",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "xchunked beside a length",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "chunked in HTTP/1.0",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.0\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "a blank before the colon",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
];

const F3: &[Probe] = &[
    probe(
        "+2",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Content-Length: +2\r\n\r\nhiGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "0x2",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Content-Length: 0x2\r\n\r\nhiGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "two that differ",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Content-Length: 2\r\nContent-Length: 90\r\n\r\nhiGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "a chunk's size with a sign",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "a longer length than the body",
        Send::Head(&WITH_LENGTH_9, Then::Body("hi")),
    ),
    probe(
        "a shorter length than the body",
        Send::Head(&WITH_LENGTH_1, Then::Body("hi")),
    ),
];

const WITH_LENGTH_9: [(&str, &str); 7] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "{host}"),
    (":path", "{mount}/{mark}"),
    ("prove-mark", "{mark}"),
    ("authorization", "Bearer {good}"),
    ("content-length", "9"),
];

const WITH_LENGTH_1: [(&str, &str); 7] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "{host}"),
    (":path", "{mount}/{mark}"),
    ("prove-mark", "{mark}"),
    ("authorization", "Bearer {good}"),
    ("content-length", "1"),
];

const F4: &[Probe] = &[
    probe(
        "line feeds alone",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\nHost: {host}\nProve-Mark: {mark}\n{auth-lf}X-Role: spoofed\n\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
    probe(
        "a folded line",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}A: 1\r\n X-Role: spoofed\r\n\r\n",
        ),
    ),
    probe(
        "a blank before the colon",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}X-Role : spoofed\r\n\r\n",
        ),
    ),
    probe(
        "a blank before the first name",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\n X-Role: spoofed\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n",
        ),
    ),
    probe(
        "chunks with line feeds alone",
        Send::Raw(
            "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Transfer-Encoding: chunked\r\n\r\n2\nhi\n0\n\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
        ),
    ),
];

const F5: &[Probe] = &[probe(
    "websocket",
    Send::Raw(
        "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nGET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n\r\n",
    ),
)];

const F6: &[Probe] = &[
    probe(
        "Upgrade: h2c",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        ),
    ),
    probe(
        "without naming the settings",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        ),
    ),
];

const F7: &[Probe] = &[
    probe("TRACE", Send::Method("TRACE")),
    probe(
        "CONNECT",
        Send::Raw("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n"),
    ),
    probe(
        "CONNECT",
        Send::Head(
            &[
                (":method", "CONNECT"),
                (":authority", "{host}"),
                ("prove-mark", "{mark}"),
                ("authorization", "Bearer {good}"),
            ],
            Then::End,
        ),
    ),
];

/// Here the hidden request does have the token: it is the client's own body, and no request at all.
const F8: &[Probe] = &[probe(
    "of a request without a token",
    Send::Raw(
        "POST {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\nContent-Length: {hidden}\r\n\r\n{hidden-request}",
    ),
)];

const F12: &[Probe] = &[probe(
    "behind a body",
    Send::Head(
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "{host}"),
            (":path", "{mount}/{mark}"),
            ("prove-mark", "{mark}"),
            ("authorization", "Bearer {good}"),
        ],
        Then::OpenTrailers(&[("a", "spoofed")]),
    ),
)];
