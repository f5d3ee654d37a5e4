//! What spans cost a request, in one thread: one that is recorded, and one that is not.
//!
//! `cargo test --release -p gapura-telemetry -- --ignored --nocapture figures`. Nothing is promised
//! by a machine that does other work meanwhile, so the best of a few rounds counts.
#![allow(clippy::print_stdout)] // figures are printed

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gapura_protocol::random::Random;
use gapura_protocol::trace::Trace;
use http::header::HeaderValue;
use http::{Method, StatusCode, Version};

use super::live::{Asked, Callee, Spans};
use super::sampler::Sampler;
use super::tracer::{Counts, Tracer, TracerSpec};
use super::write::Served;

const ROUNDS: u32 = 100_000;

/// The best of ten.
fn each(mut round: impl FnMut(u32)) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        (0..ROUNDS).for_each(&mut round);
        best = best.min(begun.elapsed());
    }
    best / ROUNDS
}

fn tracer(sampler: Sampler) -> Tracer {
    Tracer::new(TracerSpec {
        sampler,
        peer: "client.address",
        hand_over: Arc::new(|_| Ok(())),
        counts: Arc::<Counts>::default(),
    })
}

fn asked() -> Asked {
    Asked {
        scheme: "https",
        version: Version::HTTP_2,
    }
}

/// Both spans of a request, from its first byte to the last of their JSON.
fn recorded(
    tracer: &Tracer,
    spans: &Rc<Spans>,
    host: &HeaderValue,
    path: &http::uri::PathAndQuery,
) {
    spans.takes("/v1/lab");
    spans.is_for(host);
    let callee = Callee {
        scheme: "https",
        address: "127.0.0.1".into(),
        port: Some(19443),
    };
    let mut call = spans.call(callee, Some(path), Version::HTTP_2);
    black_box(call.header());
    call.answered(StatusCode::OK, Version::HTTP_2);
    drop(call);
    let served = Served {
        began: Instant::now(),
        method: &Method::GET,
        path: Some("/v1/lab/reports"),
        status: Some(200),
        code: None,
        request_id: "r-1",
        company: Some("42"),
        plugin: Some("lab"),
        peer: "127.0.0.1",
        bytes_in: 0,
        bytes_out: 12,
    };
    tracer.finish(&served, spans, SystemTime::now());
}

#[test]
#[ignore = "figures, for a release build on a quiet machine"]
fn a_request_that_is_recorded_costs_less_than_3_us_and_one_that_is_not_less_than_100_ns() {
    let random = Random::continued(7);
    let path = "/reports".parse().unwrap();
    let host = HeaderValue::from_static("lab.example:8443");
    let all = tracer(Sampler::ALWAYS);
    let sampled = each(|round| {
        let mut trace = Trace::begin(u128::from(round) + 1);
        if let Some(spans) = all.begin(&mut trace, &random, asked) {
            recorded(&all, &spans, &host, &path);
        }
    });
    // One in a hundred, of which none comes here: what the others pay.
    let few = tracer(Sampler::ratio(0.01).parent_based());
    let mut taken = 0;
    let unsampled = each(|round| {
        let mut trace = Trace::begin(u128::from(u64::MAX - u64::from(round)));
        taken += u32::from(few.begin(black_box(&mut trace), &random, asked).is_some());
    });
    println!("a request that is recorded: {sampled:?}; one that is not: {unsampled:?}");
    assert_eq!(taken, 0);
    assert!(
        cfg!(debug_assertions) || sampled < Duration::from_micros(3),
        "{sampled:?}"
    );
    assert!(
        cfg!(debug_assertions) || unsampled < Duration::from_nanos(100),
        "{unsampled:?}"
    );
}
