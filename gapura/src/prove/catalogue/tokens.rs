//! Attacks on which token counts: none of these may reach the plugin.
//!
//! Some take a key that signs as the issuer does (`--token-key`), which a door for tests has and a
//! stranger has not: then the token is good in everything but what the row is about.

use crate::prove::attack::{Attack, By, Expect};
use crate::prove::forge::{Forgery, How};

pub(super) const ATTACKS: &[Attack] = &[
    tokens("J1", "a token without a signature", J1),
    tokens("J2", "a signature by what is no secret", J2),
    tokens("J3", "a key in the token's own header", J3),
    tokens("J4", "a key's name that is a path or a query", J4),
    tokens("J5", "an unknown crit", J5),
    tokens("J6", "a token that has not begun", J6),
    tokens("J7", "no issuer, no audience, and others", J7),
    tokens("J8", "a token that has expired, or never does", J8),
    tokens("J9", "a claim twice", J9),
    tokens("J10", "claims of other types", J10),
    tokens("J11", "a huge token", J11),
    tokens("J13", "no token, or one in another place", J13),
];

const fn tokens(id: &'static str, tries: &'static str, forgeries: &'static [Forgery]) -> Attack {
    Attack {
        id,
        tries,
        expect: Expect::Refused,
        by: By::Tokens(forgeries),
    }
}

const fn forgery(what: &'static str, how: How) -> Forgery {
    Forgery { what, how }
}

const J1: &[Forgery] = &[
    forgery("alg none", How::Unsigned("none")),
    forgery("alg None", How::Unsigned("None")),
    forgery("the given alg", How::Unsigned("")),
    forgery("other claims under the signature", How::Tampered),
];

const J2: &[Forgery] = &[
    forgery(
        "HS256 with no secret",
        How::Hs256 {
            secret: "",
            kid: None,
        },
    ),
    forgery(
        "HS256 with the secret `secret`",
        How::Hs256 {
            secret: "secret",
            kid: None,
        },
    ),
    forgery("HS256 with the public key", How::PublicKeyAsSecret),
];

const J3: &[Forgery] = &[
    forgery("jwk", How::OwnKey("jwk")),
    forgery("jku", How::OwnKey("jku")),
    forgery("x5u", How::OwnKey("x5u")),
    forgery("x5c", How::OwnKey("x5c")),
];

const J4: &[Forgery] = &[
    forgery(
        "a path to nothing",
        How::Hs256 {
            secret: "",
            kid: Some("../../../../../../dev/null"),
        },
    ),
    forgery(
        "a query",
        How::Hs256 {
            secret: "secret",
            kid: Some("x' UNION SELECT 'secret' --"),
        },
    ),
    forgery(
        "10 KiB",
        How::Hs256 {
            secret: "secret",
            kid: Some("{10k}"),
        },
    ),
];

const J5: &[Forgery] = &[
    forgery("crit: x", How::Header(r#"{"crit":["x"],"x":1}"#)),
    forgery("crit: exp", How::Header(r#"{"crit":["exp"]}"#)),
];

const J6: &[Forgery] = &[forgery("nbf in an hour", How::At("nbf", 3600))];

const J7: &[Forgery] = &[
    forgery("no iss", How::Claims(r#"{"iss":null}"#)),
    forgery(
        "another iss",
        How::Claims(r#"{"iss":"https://spoofed.invalid"}"#),
    ),
    forgery("no aud", How::Claims(r#"{"aud":null}"#)),
    forgery("another aud", How::Claims(r#"{"aud":["spoofed"]}"#)),
];

const J8: &[Forgery] = &[
    forgery("ten minutes ago", How::At("exp", -600)),
    forgery("no exp", How::Claims(r#"{"exp":null}"#)),
];

const J9: &[Forgery] = &[
    forgery("company_id", How::Before(r#""company_id":"9""#)),
    forgery("exp", How::Before(r#""exp":1"#)),
];

const J10: &[Forgery] = &[
    forgery(
        "company_id as a list",
        How::Claims(r#"{"company_id":["42"]}"#),
    ),
    forgery("company_id empty", How::Claims(r#"{"company_id":""}"#)),
    forgery(
        "company_id of two lines",
        How::Claims(r#"{"company_id":"42\r\nX-Role: spoofed"}"#),
    ),
    forgery("exp as text", How::Claims(r#"{"exp":"never"}"#)),
    forgery("exp of 1e300", How::Claims(r#"{"exp":1e300}"#)),
];

const J11: &[Forgery] = &[
    forgery("9 KiB", How::Padded(9 << 10)),
    forgery("48 KiB", How::Padded(36 << 10)),
    forgery("1 MiB", How::Padded(768 << 10)),
];

const J13: &[Forgery] = &[
    forgery("none", How::Line("")),
    forgery("in the query", How::Query("?access_token={good}")),
    forgery("in a cookie", How::Line("Cookie: access_token={good}")),
    forgery(
        "under another name",
        How::Line("X-Authorization: Bearer {good}"),
    ),
    forgery("as Basic", How::Line("Authorization: Basic {good}")),
];
