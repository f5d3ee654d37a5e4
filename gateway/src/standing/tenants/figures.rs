//! What ten thousand companies' files cost, printed: `cargo test --release -p gapura-gateway --
//! --ignored --nocapture figures`. Nothing is promised by a machine that does other work meanwhile,
//! so nothing about time is asserted.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // figures are printed, and rounded

use std::hint::black_box;
use std::net::IpAddr;

use super::*;

const COMPANIES: usize = 10_000;
const LOOKUPS: usize = 1_000_000;

#[test]
#[ignore = "prints figures"]
fn figures() {
    let folder = tempfile::tempdir().unwrap();
    for id in 1..=COMPANIES {
        let text = format!(
            r#"{{"company_id": {id}, "cidrs": ["10.0.0.0/8"], "rate_limit": {{"requests": 100, "per_s": 1}}}}"#
        );
        std::fs::write(folder.path().join(format!("{id}.json")), text).unwrap();
    }
    let now = Instant::now();
    let read = Snapshot::take_within(folder.path(), &BOUNDS);
    let built = build(None, &read, now);
    println!(
        "{COMPANIES} companies' files read and built:  {:.1} ms",
        now.elapsed().as_secs_f64() * 1e3
    );
    assert_eq!((built.table.len(), built.faults.len()), (COMPANIES, 0));

    let again = Instant::now();
    let read = Snapshot::take_within(folder.path(), &BOUNDS);
    let rebuilt = build(Some(&built.state), &read, again);
    println!(
        "the same with nothing changed:        {:.1} ms",
        again.elapsed().as_secs_f64() * 1e3
    );

    let names: Vec<String> = (1..=COMPANIES).map(|id| id.to_string()).collect();
    let client: IpAddr = [10, 1, 2, 3].into();
    let begun = Instant::now();
    for at in 0..LOOKUPS {
        // A prime step, so that neighbours in the table are not neighbours in time.
        let company = &names[at * 7919 % COMPANIES];
        let tenant = rebuilt.table.of(company).unwrap();
        assert!(black_box(tenant.takes(client) && !tenant.suspended));
    }
    println!(
        "a company found, its networks asked:  {:.3} us",
        begun.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64
    );
}
