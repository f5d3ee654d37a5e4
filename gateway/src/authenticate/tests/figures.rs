//! What a token costs, printed: `cargo test --release -p gapura-gateway -- --ignored --nocapture
//! figures`. Nothing is promised by a machine that does other work meanwhile, so nothing is
//! asserted.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // figures are printed, and rounded

use std::hint::black_box;
use std::time::Instant;

use super::*;
use crate::authenticate::jws::Jws;

const MANY: usize = 100_000;

/// Microseconds that each of `times` takes.
fn each(times: usize, mut act: impl FnMut(usize)) -> f64 {
    let begun = Instant::now();
    (0..times).for_each(&mut act);
    begun.elapsed().as_secs_f64() * 1e6 / times as f64
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let signers = Signers::ours();
    let gate = by_jwks(&[signers.jwk("ES256")]);
    let header = json!({"alg": "ES256", "typ": "at+jwt"});
    let tokens: Vec<HeaderMap> = (0..MANY)
        .map(|id| headers(&signers.token(&header, &with(claims(), &json!({"jti": id})))))
        .collect();
    let verify = |at: usize| {
        let judged = gate.verify_offline(AuthMode::GatewayVerified, &tokens[at % MANY], NOW);
        assert!(black_box(judged).is_ok());
    };
    let raw = {
        let ring = gate.keys.ring();
        each(10_000, |at| {
            let token = bearer::token(&tokens[at]).unwrap();
            let jws = Jws::parse(token).unwrap();
            let key = ring
                .issuer_of(&jws)
                .ok()
                .unwrap()
                .key_for(&jws)
                .ok()
                .unwrap();
            assert!(black_box(key.verifies(jws.signed, &jws.signature)));
        })
    };
    println!("a signature alone, with its header read: {raw:.2} us");
    println!(
        "the first sight of a token:              {:.2} us",
        each(10_000, verify)
    );
    println!(
        "100000 tokens in turn:                   {:.2} us",
        each(MANY, verify)
    );
    println!(
        "100000 tokens in turn once more:         {:.2} us",
        each(MANY, verify)
    );
    println!(
        "a remembered token:                      {:.3} us",
        each(1_000_000, |_| verify(MANY - 1))
    );
}
