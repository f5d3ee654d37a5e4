//! Attacks on the path and the host: two readers on the way take the same words for different
//! places.

use crate::prove::attack::{Attack, Expect, Probe, Send, Then, probe, shots};

pub(super) const ATTACKS: &[Attack] = &[
    shots("P1", "dot segments", Expect::OneForm, P1),
    shots("P2", "encoded slashes and backslashes", Expect::OneForm, P2),
    shots("P3", "path parameters", Expect::OneForm, P3),
    shots("P4", "the mount in escapes", Expect::SamePath, P4),
    shots(
        "P5",
        "twice encoded, NUL, raw bytes, fragments",
        Expect::OneForm,
        P5,
    ),
    shots("P6", "a target without a slash", Expect::Refused, P6),
    shots("P7", "a longer word than the mount", Expect::Refused, P7),
    shots("P8", "a whole URL for another host", Expect::Refused, P8),
    shots("P9", "no Host, two, and odd ones", Expect::Refused, P9),
    shots("P10", "Host unlike :authority", Expect::Refused, P10),
];

const P1: &[Probe] = &[
    probe("..", Send::Target("{mount}/a/../{mark}")),
    probe(".. out of the mount", Send::Target("{mount}/../{mark}")),
    probe(".", Send::Target("{mount}/./{mark}")),
    probe("%2e%2e", Send::Target("{mount}/a/%2e%2e/{mark}")),
    probe(".%2E", Send::Target("{mount}/a/.%2E/{mark}")),
    probe(".. at the end", Send::Target("{mount}/{mark}/..")),
];

const P2: &[Probe] = &[
    probe("%2f", Send::Target("{mount}/a%2f{mark}")),
    probe("%2F..%2F", Send::Target("{mount}/a%2F..%2F{mark}")),
    probe("%5c", Send::Target("{mount}/a%5c{mark}")),
    probe("..%5c", Send::Target("{mount}/..%5c{mark}")),
    probe("\\", Send::Target("{mount}/a\\{mark}")),
];

const P3: &[Probe] = &[
    probe("..;", Send::Target("{mount}/a/..;/{mark}")),
    probe("..;x=1", Send::Target("{mount}/a/..;x=1/{mark}")),
    probe("..%3B", Send::Target("{mount}/a/..%3B/{mark}")),
    probe(";x behind a name", Send::Target("{mount}/a;x/{mark}")),
];

/// `{emount}`: the mount with its last letter as an escape.
const P4: &[Probe] = &[
    probe("a letter of the mount", Send::Target("{emount}/{mark}")),
    probe("a letter behind it", Send::Target("{mount}/%61/{mark}")),
];

const P5: &[Probe] = &[
    probe("%252e%252e", Send::Target("{mount}/a/%252e%252e/{mark}")),
    probe("//", Send::Target("{mount}//a//{mark}")),
    probe("%00", Send::Target("{mount}/a%00/{mark}")),
    probe("raw bytes outside ASCII", Send::Target("{mount}/é/{mark}")),
    probe("#", Send::Target("{mount}/{mark}#x")),
    probe("a broken escape", Send::Target("{mount}/%zz/{mark}")),
];

const P6: &[Probe] = &[
    probe(
        "a name",
        Send::Raw("GET {mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n"),
    ),
    probe(
        "a query",
        Send::Raw("GET ?{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n"),
    ),
    probe(
        "* with GET",
        Send::Raw("GET * HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n"),
    ),
    probe(
        "a name",
        Send::Head(
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "{host}"),
                (":path", "{mark}"),
                ("prove-mark", "{mark}"),
                ("authorization", "Bearer {good}"),
            ],
            Then::End,
        ),
    ),
];

const P7: &[Probe] = &[probe(
    "the mount and a letter",
    Send::Target("{mount}x/{mark}"),
)];

const P8: &[Probe] = &[
    probe(
        "http://spoofed",
        Send::Raw(
            "GET http://spoofed{mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n",
        ),
    ),
    probe(
        "with a user in it",
        Send::Raw(
            "GET https://{host}@spoofed{mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n",
        ),
    ),
];

const P9: &[Probe] = &[
    probe(
        "none",
        Send::Raw("GET {mount}/{mark} HTTP/1.1\r\nProve-Mark: {mark}\r\n{auth}\r\n"),
    ),
    probe(
        "two",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nHost: spoofed\r\nProve-Mark: {mark}\r\n{auth}\r\n",
        ),
    ),
    probe(
        "a user in it",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: a@spoofed\r\nProve-Mark: {mark}\r\n{auth}\r\n",
        ),
    ),
    probe(
        "a port that is none",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: localhost:b\r\nProve-Mark: {mark}\r\n{auth}\r\n",
        ),
    ),
    probe(
        "a user in :authority",
        Send::Head(
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "a@spoofed"),
                (":path", "{mount}/{mark}"),
                ("prove-mark", "{mark}"),
                ("authorization", "Bearer {good}"),
            ],
            Then::End,
        ),
    ),
];

const P10: &[Probe] = &[
    probe(
        "another host",
        Send::Head(
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "{host}"),
                (":path", "{mount}/{mark}"),
                ("host", "spoofed"),
                ("prove-mark", "{mark}"),
                ("authorization", "Bearer {good}"),
            ],
            Then::End,
        ),
    ),
    probe(
        "two hosts and no :authority",
        Send::Head(
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "{mount}/{mark}"),
                ("host", "{host}"),
                ("host", "spoofed"),
                ("prove-mark", "{mark}"),
                ("authorization", "Bearer {good}"),
            ],
            Then::End,
        ),
    ),
];
