//! Whatever stands in a key set: it is taken or refused with a sentence, and what it published
//! signs nothing.
//!
//! A set is public: everybody knows its text. So no token that anybody can make of it may pass:
//! unsigned, or signed by HMAC with the set or one of its values as the secret.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_gateway::hostile::Gate;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

const NOW: u64 = 1_800_000_000;

thread_local! {
    /// Each thread writes its inputs to a file of its own.
    static FILE: PathBuf = std::env::temp_dir().join(format!(
        "gapura-hostile-{}-{:?}.json",
        std::process::id(),
        std::thread::current().id()
    ));
}

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let file = FILE.with(Clone::clone);
    std::fs::write(&file, bytes).expect("a folder for what is temporary");
    let gate = Gate::of_key_set(&file);
    let _ = std::fs::remove_file(&file);
    let gate = match gate {
        Ok(gate) => gate,
        Err(faults) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.is_empty()));
            return;
        }
    };
    let text = String::from_utf8_lossy(bytes);
    // Each value between quotes, as far as there are not too many: a `k`, an `n`, a `kid`.
    let values: Vec<&str> = text.split('"').skip(1).step_by(2).take(8).collect();
    let kids = values.iter().copied().take(2).map(Some).chain([None]);
    for kid in kids {
        let kid = kid
            .filter(|kid| !kid.contains('\\'))
            .map(|kid| format!(",\"kid\":\"{kid}\""));
        let kid = kid.unwrap_or_default();
        refuses(&gate, &format!("{{\"alg\":\"none\"{kid}}}"), None);
        let header = format!("{{\"alg\":\"HS256\"{kid}}}");
        refuses(&gate, &header, Some(bytes));
        for value in &values {
            refuses(&gate, &header, Some(value.as_bytes()));
            if let Ok(secret) = URL_SAFE_NO_PAD.decode(value) {
                refuses(&gate, &header, Some(&secret));
            }
        }
    }
}

fn refuses(gate: &Gate, header: &str, secret: Option<&[u8]>) {
    let claims = format!(r#"{{"exp":{},"user_id":"7","company_id":"42"}}"#, NOW + 600);
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = match secret {
        Some(secret) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
        }
        None => String::new(),
    };
    let token = format!("Bearer {signed}.{signature}");
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_str(&token).expect("base64 is a value"),
    );
    assert!(
        gate.verify(&headers, NOW).is_none(),
        "a token of what is published was accepted: {header}"
    );
}
