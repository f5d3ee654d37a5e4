//! Attacks on the headers that say who is speaking: a client writes them itself, in any spelling,
//! place and number.

use crate::prove::attack::{Attack, Expect, Probe, Send, Then, probe, shots};

pub(super) const ATTACKS: &[Attack] = &[
    shots("H1", "headers that say who somebody is", Expect::Clean, H1),
    shots("H2", "the same with an underscore", Expect::Clean, H2),
    shots(
        "H3",
        "the same with dots and other signs",
        Expect::Clean,
        H3,
    ),
    shots(
        "H4",
        "Connection names the identity, so that it goes",
        Expect::Clean,
        H4,
    ),
    shots("H5", "the identity in trailers", Expect::Clean, H5),
    shots(
        "H6",
        "the identity twice, and two callers in a row",
        Expect::EachItsOwn,
        H6,
    ),
    shots("H7", "two Authorization fields", Expect::Refused, H7),
    shots("H8", "line ends and NUL inside a value", Expect::Clean, H8),
    shots(
        "H9",
        "the forwarding headers and their relatives",
        Expect::Clean,
        H9,
    ),
    shots("H10", "certificates in headers", Expect::Clean, H10),
    shots("H11", "a request id that is none", Expect::Clean, H11),
    shots(
        "H12",
        "identity headers in the plugin's answer",
        Expect::CleanAnswer,
        H12,
    ),
];

const H1: &[Probe] = &[
    probe("X-User-Id", Send::Fields(&[("X-User-Id", "spoofed")])),
    probe("X-Company-Id", Send::Fields(&[("X-Company-Id", "spoofed")])),
    probe("X-Role", Send::Fields(&[("X-Role", "spoofed")])),
    probe("X-Actor-Id", Send::Fields(&[("X-Actor-Id", "spoofed")])),
    probe(
        "in other cases",
        Send::Fields(&[
            ("x-user-id", "spoofed"),
            ("X-COMPANY-ID", "spoofed"),
            ("x-rOLE", "spoofed"),
        ]),
    ),
    probe(
        "Remote-User and its like",
        Send::Fields(&[("Remote-User", "spoofed"), ("Auth-User", "spoofed")]),
    ),
    probe(
        "with the wish for a WebSocket",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Role: spoofed\r\n\r\n",
        ),
    ),
];

const H2: &[Probe] = &[
    probe("X_Company_Id", Send::Fields(&[("X_Company_Id", "spoofed")])),
    probe("X_User_Id", Send::Fields(&[("X_User_Id", "spoofed")])),
    probe("X_Role", Send::Fields(&[("X_Role", "spoofed")])),
    probe("X-Company_Id", Send::Fields(&[("X-Company_Id", "spoofed")])),
];

const H3: &[Probe] = &[
    probe("X.Company.Id", Send::Fields(&[("X.Company.Id", "spoofed")])),
    probe("X.Company_Id", Send::Fields(&[("X.Company_Id", "spoofed")])),
    probe("X!Company$Id", Send::Fields(&[("X!Company$Id", "spoofed")])),
    probe(
        "X'Role and X~Role",
        Send::Fields(&[("X'Role", "spoofed"), ("X~Role", "spoofed")]),
    ),
];

const H4: &[Probe] = &[
    probe(
        "on one line",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: close, X-User-Id, X-Company-Id, X-Role\r\n\r\n",
        ),
    ),
    probe(
        "on a second line",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: close\r\nConnection: X-User-Id ,x-company-id,X-Role\r\n\r\n",
        ),
    ),
    probe(
        "with a header of our own beside it",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}Connection: keep-alive, X-Company-Id\r\nX-Company-Id: spoofed\r\n\r\n",
        ),
    ),
];

const H5: &[Probe] = &[
    probe(
        "X-Company-Id",
        Send::Trailers(&[("X-Company-Id", "spoofed")]),
    ),
    probe(
        "X_Company_Id",
        Send::Trailers(&[("X_Company_Id", "spoofed")]),
    ),
    probe(
        "X-User-Id and X-Role",
        Send::Trailers(&[("X-User-Id", "spoofed"), ("X-Role", "spoofed")]),
    ),
];

const H6: &[Probe] = &[
    probe(
        "X-Company-Id twice",
        Send::Fields(&[("X-Company-Id", "spoofed"), ("X-Company-Id", "spoofed-2")]),
    ),
    probe("a list", Send::Fields(&[("X-Role", "spoofed, spoofed-2")])),
    probe(
        "another caller next on the same connection",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\nGET {mount}/{mark}o HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}o\r\nAuthorization: Bearer {other}\r\n\r\n",
        ),
    ),
];

const H7: &[Probe] = &[
    probe(
        "the good one first",
        Send::Fields(&[("Authorization", "Bearer spoofed")]),
    ),
    probe(
        "the good one last",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\nAuthorization: Bearer spoofed\r\n{auth}\r\n",
        ),
    ),
    probe(
        "twice the same",
        Send::Fields(&[("Authorization", "Bearer {good}")]),
    ),
    probe(
        "another caller's beside it",
        Send::Fields(&[("Authorization", "Bearer {other}")]),
    ),
];

const H8: &[Probe] = &[
    probe(
        "CR",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}A: 1\rX-Role: spoofed\r\n\r\n",
        ),
    ),
    probe(
        "LF",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}A: 1\nX-Role: spoofed\r\n\r\n",
        ),
    ),
    probe(
        "NUL",
        Send::Raw(
            "GET {mount}/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}A: spoofed\0b\r\n\r\n",
        ),
    ),
    probe("CR LF", Send::Head(&LINES_IN_A_VALUE, Then::End)),
    probe("NUL", Send::Head(&NUL_IN_A_VALUE, Then::End)),
];

const LINES_IN_A_VALUE: [(&str, &str); 7] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "{host}"),
    (":path", "{mount}/{mark}"),
    ("prove-mark", "{mark}"),
    ("authorization", "Bearer {good}"),
    ("a", "1\r\nx-role: spoofed"),
];

const NUL_IN_A_VALUE: [(&str, &str); 7] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "{host}"),
    (":path", "{mount}/{mark}"),
    ("prove-mark", "{mark}"),
    ("authorization", "Bearer {good}"),
    ("a", "spoofed\0"),
];

const H9: &[Probe] = &[
    probe(
        "X-Forwarded-For",
        Send::Fields(&[("X-Forwarded-For", "spoofed")]),
    ),
    probe(
        "X-Forwarded-Host",
        Send::Fields(&[("X-Forwarded-Host", "spoofed")]),
    ),
    probe(
        "X-Forwarded-Prefix and -Proto",
        Send::Fields(&[
            ("X-Forwarded-Prefix", "spoofed"),
            ("X-Forwarded-Proto", "spoofed"),
        ]),
    ),
    probe(
        "Forwarded",
        Send::Fields(&[("Forwarded", "for=spoofed;host=spoofed")]),
    ),
    probe(
        "X-Real-Ip",
        Send::Fields(&[("X-Real-Ip", "spoofed"), ("True-Client-Ip", "spoofed")]),
    ),
    probe(
        "X-Original-URL",
        Send::Fields(&[
            ("X-Original-URL", "/spoofed"),
            ("X-Rewrite-URL", "/spoofed"),
        ]),
    ),
    probe(
        "X-HTTP-Method-Override",
        Send::Fields(&[("X-HTTP-Method-Override", "spoofed")]),
    ),
    probe("Proxy", Send::Fields(&[("Proxy", "http://spoofed")])),
];

const H10: &[Probe] = &[
    probe(
        "X-Forwarded-Client-Cert",
        Send::Fields(&[("X-Forwarded-Client-Cert", "spoofed")]),
    ),
    probe(
        "Client-Cert",
        Send::Fields(&[
            ("Client-Cert", ":spoofed:"),
            ("Client-Cert-Chain", ":spoofed:"),
        ]),
    ),
    probe(
        "Ssl-Client-Verify",
        Send::Fields(&[
            ("Ssl-Client-Verify", "spoofed"),
            ("X-Ssl-Client-S-Dn", "spoofed"),
        ]),
    ),
];

const H11: &[Probe] = &[
    probe(
        "with signs that no id has",
        Send::Fields(&[("X-Request-Id", "spoofed <script>")]),
    ),
    probe(
        "of 10 KiB",
        Send::Fields(&[("X-Request-Id", "spoofed{10k}")]),
    ),
    probe(
        "twice",
        Send::Fields(&[("X-Request-Id", "spoofed"), ("X-Request-Id", "spoofed-2")]),
    ),
];

/// The plugin answers a target with `prove-answer` in it with identity headers.
const H12: &[Probe] = &[probe(
    "X-Company-Id, X-User-Id, X-Role",
    Send::Raw(
        "GET {mount}/prove-answer/{mark} HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}\r\n{auth}\r\n",
    ),
)];
