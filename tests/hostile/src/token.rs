//! Whatever a token says, signed or not: nothing stumbles, nothing unsigned passes, and what passes
//! has the form it promises.
//!
//! The input is a header and claims, parted by a NUL; they are signed here, so that the claims are
//! reached at all. The first byte says whether the signature is left whole.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_gateway::hostile::Gate;
use gapura_protocol::context::{TenantId, UserId};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

const SECRET: &[u8] = b"a-secret-of-forty-bytes-for-tests-only-0";
const NOW: u64 = 1_800_000_000;

thread_local! {
    static GATE: Gate = Gate::of_secret(SECRET).expect("a good secret");
}

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (header, claims) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let mut mac = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SECRET),
        signed.as_bytes(),
    )
    .as_ref()
    .to_vec();
    let whole = first % 4 != 0;
    if !whole {
        mac[usize::from(*first) % 32] ^= 1 + first / 64;
    }
    let token = format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(mac));
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_str(&token).expect("base64 is a value"),
    );
    GATE.with(|gate| {
        let Some(caller) = gate.verify(&headers, NOW) else {
            return;
        };
        assert!(whole, "a broken signature was accepted");
        assert!(caller.expires + 60 > NOW);
        assert!(TenantId::parse(caller.company.as_bytes()).is_ok());
        assert!(UserId::parse(caller.user.as_bytes()).is_ok());
    });

    // And any bytes at all in place of a token.
    if let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", rest].concat()) {
        headers.insert(AUTHORIZATION, value);
        GATE.with(|gate| {
            assert!(
                gate.verify(&headers, NOW).is_none(),
                "an unsigned token was accepted"
            )
        });
    }
}
