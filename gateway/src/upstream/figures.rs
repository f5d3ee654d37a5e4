//! What choosing, health and a place cost while nothing is wrong, printed: `cargo test --release -p
//! gapura-gateway --lib -- --ignored --nocapture figures`. With limits
//! (`rate_limit/tests/figures.rs`) it is to be less than half a microsecond a request. Nothing is
//! promised by a machine that does other work meanwhile, so nothing about time is asserted.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // figures are printed, and rounded

use std::future::{Future, pending};
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use gapura_protocol::context::TenantId;

use super::admission::{Admission, InFlight, Party};
use super::balance::{Choice, Rank, Rota};
use super::budget::Budget;
use super::instance::{Address, Epoch, Instance, Place};

const REQUESTS: u32 = 1_000_000;

fn place(admission: &Arc<Admission>) -> InFlight {
    let party = || Party::Company(TenantId::parse(b"42").unwrap());
    let entering = pin!(admission.enter(256, party, pending));
    match entering.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(place)) => place,
        other => panic!("nobody waits: {other:?}"),
    }
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let mut rota = Rota::default();
    let instance = |last: u8| {
        let at = Address::Tcp(([10, 0, 0, last], 1).into());
        let place = Place { at, weight: 1 };
        Rc::new(Rank::new(Arc::new(Instance::new(place, None))))
    };
    rota.set((1..=3).map(instance).collect());
    let (epoch, budget, admission) = (Epoch::begin(), Budget::default(), Arc::default());
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        seed ^ (seed >> 29)
    };
    let mut under_way = Vec::new();
    let begun = Instant::now();
    for count in 0..REQUESTS {
        let place = place(&admission);
        budget.request(1);
        let at = Instant::now();
        let Choice::One(chosen) = rota.choose(1, true, epoch.at(at), &mut random) else {
            panic!("all of them are in");
        };
        let rank = rota.rank(chosen).cloned().unwrap();
        let load = rank.load.begin(epoch, at);
        under_way.push((place, rank, load));
        // Some tens of them are under way all the while.
        if count % 64 == 63 {
            for (place, rank, mut load) in under_way.drain(..) {
                load.answered(Instant::now());
                assert!(black_box(rank.instance.health.is_spotless()));
                drop((place, load));
            }
        }
    }
    println!(
        "a place, one of three instances, and how it went:  {:.3} us",
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS)
    );
}
