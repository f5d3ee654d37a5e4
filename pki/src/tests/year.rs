//! A year in which the daily run dies once a day, each time somewhere else, and is started again.

use std::time::Duration;

use gapura_protocol::identity::Role;

use super::Bench;
use crate::tests::faults::{Fault, Plan};
use crate::{Reason, RenewRequest, RevokeRequest};

#[test]
fn a_crash_a_day_for_a_year_leaves_nothing_to_be_mended() {
    const DAY: usize = 86_400;
    // The issuing CA comes to its end within the year and has to be followed by another.
    let bench = Bench::with_leaves(|settings| {
        settings.issuer_ttl = Duration::from_secs(240 * 86_400);
    });
    let mut died = 0;
    for day in 0..365_usize {
        bench.clock.shift(i64::try_from((day + 1) * DAY).unwrap());
        let plan = Plan::new(&bench.live(), Fault::Dies, day * 61 % 173);
        let _ = bench.pki().renew(&RenewRequest {
            due_only: true,
            ..RenewRequest::default()
        });
        died += usize::from(!plan.steps().1.is_empty());
        drop(plan);
        let _spare = Plan::new(&bench.live(), Fault::None, 0);
        if day % 60 == 7 {
            let name = format!("guest-{day}");
            bench
                .pki()
                .issue(&bench.request(Role::Plugin, &name))
                .unwrap();
        }
        if day % 60 == 19 {
            let name = format!("plugin/guest-{}", day - 12);
            let target = RevokeRequest::Name(name.parse().unwrap());
            bench.pki().revoke(&target, Reason::Cessation).unwrap();
        }
        bench.timer();
        if day % 7 == 0 {
            bench.is_content(&format!("day {day}"));
        }
        let ledger = bench.pki().ledger().unwrap();
        let now = bench.pki().now();
        for leaf in ledger.in_use() {
            let revoked = ledger.revocation(&leaf.issuer, &leaf.serial).is_some();
            assert!(
                revoked || ledger.is_live(leaf, now),
                "day {day}: {}",
                leaf.label()
            );
        }
    }
    assert!(died > 300, "only {died} runs died; the test proves little");
    let issuers = bench.pki().ledger().unwrap().authorities().len();
    assert!(issuers > 2, "no issuing CA followed the first");
}
