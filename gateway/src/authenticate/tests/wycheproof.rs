//! Signatures that others have gathered, good ones and bad ones: the JSON Web Signature vectors of
//! Project Wycheproof.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::authenticate::jws::Jws;

/// Base64url with a character that is none: the vectors let a reader pass over it, RFC 7515 in its
/// section 2 does not, nor do we.
const STRICTER: [u64; 2] = [372, 373];

fn issuer_of(key: &Value) -> Result<Authenticator, Vec<String>> {
    match key["k"].as_str() {
        Some(bytes) => {
            let bytes = URL_SAFE_NO_PAD.decode(bytes).unwrap();
            load(vec![issuer(secret(&bytes, HmacAlgorithm::Hs256))])
        }
        None => load_jwks(&jwks(std::slice::from_ref(key))),
    }
}

/// Whether the key has made the token's signature. What the token says is no claims, and of no
/// interest here.
fn has_signed(gate: &Authenticator, token: &str) -> bool {
    let ring = gate.keys.ring();
    let Ok(jws) = Jws::parse(token.as_bytes()) else {
        return false;
    };
    let verified = ring.issuer_of(&jws).ok().and_then(|issuer| {
        let key = issuer.key_for(&jws).ok()?;
        Some(key.verifies(jws.signed, &jws.signature))
    });
    verified == Some(true) && jws.payload().is_ok()
}

#[test]
fn every_vector_of_wycheproof_is_judged_as_it_says() {
    let data: Value = serde_json::from_str(include_str!("wycheproof.json")).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in data["groups"].as_array().unwrap() {
        let gate = issuer_of(&group["key"]);
        for test in group["tests"].as_array().unwrap() {
            let (number, token) = (test[0].as_u64().unwrap(), test[2].as_str().unwrap());
            let expected = test[3].as_bool().unwrap() && !STRICTER.contains(&number);
            let signed = gate.as_ref().is_ok_and(|gate| has_signed(gate, token));
            assert_eq!(signed, expected, "{number}: {}", test[1]);
            if expected { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 30 && bad > 300, "{good} good, {bad} bad");
}
