//! What two limits cost a request that is within them, printed: `cargo test --release -p
//! gapura-gateway --lib -- --ignored --nocapture figures`. Nothing is promised by a machine that
//! does other work meanwhile, so nothing about time is asserted.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // figures are printed, and rounded

use std::hint::black_box;
use std::time::Instant;

use super::super::{Asks, For, Limiter};
use super::{company, limited, now};
use crate::authenticate::VerifiedCaller;

const REQUESTS: usize = 1_000_000;
const COMPANIES: usize = 1000;

#[test]
#[ignore = "prints figures"]
fn figures() {
    let plugin = limited(
        "many",
        r#"{"key": "tenant", "requests": 1000000, "per_s": 1}"#,
    );
    let own = company(r#"{"requests": 1000000, "per_s": 1}"#);
    let callers: Vec<VerifiedCaller> = (1..=COMPANIES)
        .map(|id| VerifiedCaller::for_test("7", &id.to_string(), &[]))
        .collect();
    for (what, own) in [("one limit", None), ("two limits", Some(&own))] {
        let limiter = Limiter::new(Instant::now());
        let begun = Instant::now();
        for at in 0..REQUESTS {
            let asks = Asks {
                what: For::Plugin(&plugin),
                company: own.cloned(),
                caller: Some(&callers[at * 7919 % COMPANIES]),
                client: [10, 1, 2, 3].into(),
            };
            assert!(black_box(now(limiter.take(&asks, Instant::now()))).is_ok());
        }
        println!(
            "{what}, of {COMPANIES} companies in turn:  {:.3} us",
            begun.elapsed().as_secs_f64() * 1e6 / REQUESTS as f64
        );
    }
}
