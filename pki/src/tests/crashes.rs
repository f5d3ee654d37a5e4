//! Every command dies, and meets a full disk, at every single step it does on the disk; the next daily run, and the same command once
//! more, each leave nothing to be mended.

use std::time::Duration;

use gapura_protocol::identity::Role;

use super::Bench;
use crate::error::Error;
use crate::ledger::AuthorityKind;
use crate::passphrase::KeyProtection;
use crate::settings::Settings;
use crate::tests::faults::{Fault, Plan};
use crate::{Pki, Reason, RenewRequest, RevokeRequest, RotateRequest, Step};

type Run = fn(&Bench) -> Result<(), Error>;

/// Lets `run` fail at every step, and looks at what is left each time: after the daily run, and after `run` once more.
fn at_every_step(bench: &Bench, run: Run, again: Option<Run>) {
    bench.save();
    for fault in [Fault::Dies, Fault::Full] {
        let mut at = 0;
        loop {
            bench.put_back();
            let plan = Plan::new(&bench.live(), fault, at);
            let result = run(bench);
            let (steps, failed) = plan.steps();
            drop(plan);
            if failed.is_empty() {
                result.unwrap();
                assert!(steps > 4, "it did {steps} steps; the test proves nothing");
                break;
            }
            let after = format!("{fault:?} at {failed} ({result:?})");
            let spare = Plan::new(&bench.live(), Fault::None, 0); // no real syncs
            bench.timer();
            bench.is_content(&after);
            if let Some(again) = again.filter(|_| fault == Fault::Dies) {
                again(bench).unwrap_or_else(|why| panic!("again after {after}: {why}"));
                bench.is_content(&format!("{after}, and once more"));
            }
            drop(spare);
            at += if fault == Fault::Full { 3 } else { 1 }; // a full disk stays full, so neighbours are much alike
        }
    }
}

fn standing_bench() -> Bench {
    Bench::with_leaves(|_| {})
}

fn rotate(bench: &Bench, kind: AuthorityKind, step: Step) -> Result<(), Error> {
    let request = RotateRequest {
        settle: Duration::ZERO,
        ..RotateRequest::next(kind).step(step)
    };
    bench.pki().rotate(&request).map(|_| ())
}

fn emergency(bench: &Bench, kind: AuthorityKind) -> Result<(), Error> {
    let request = RotateRequest {
        emergency: true,
        taint: true,
        settle: Duration::ZERO,
        ..RotateRequest::next(kind)
    };
    bench.pki().rotate(&request).map(|_| ())
}

#[test]
fn of_init() {
    of_init_with(false);
}

#[test]
fn of_init_with_the_roots_key_elsewhere() {
    of_init_with(true);
}

fn of_init_with(offline_root: bool) {
    let init = |bench: &Bench| {
        Pki::init_with(
            &bench.state(),
            Settings::for_domain("mylab.internal".parse().unwrap()),
            KeyProtection::Plaintext,
            (offline_root.then(|| bench.live().join("stick")), None),
            &bench.clock,
        )
        .map(|_| ())
    };
    let bench = Bench::new();
    bench.save();
    for fault in [Fault::Dies, Fault::Full] {
        for at in 0.. {
            bench.put_back();
            let plan = Plan::new(&bench.live(), fault, at);
            let result = init(&bench);
            let (_, failed) = plan.steps();
            drop(plan);
            if failed.is_empty() {
                result.unwrap();
                break;
            }
            if !bench.state().join("pki.json").exists() {
                init(&bench).unwrap_or_else(|why| panic!("after {failed}: {why}"));
            }
            bench
                .pki()
                .issue(&bench.request(Role::Plugin, "lab"))
                .unwrap();
            bench.is_content(&failed);
        }
    }
}

#[test]
fn of_issue_in_a_new_directory() {
    let run: Run = |bench| {
        let request = bench.request(Role::Plugin, "fresh");
        bench.pki().issue(&request).map(|_| ())
    };
    at_every_step(&standing_bench(), run, Some(run));
}

#[test]
fn of_issue_over_a_directory_in_use() {
    let run: Run = |bench| {
        let request = bench.request(Role::Plugin, "lab");
        bench.pki().issue(&request).map(|_| ())
    };
    at_every_step(&standing_bench(), run, Some(run));
}

#[test]
fn of_renew() {
    let run: Run = |bench| {
        let done = bench.pki().renew(&RenewRequest::default())?;
        match done.failed.into_iter().next() {
            Some((_, why)) => Err(Error::Failed(why)),
            None => Ok(()),
        }
    };
    at_every_step(&standing_bench(), run, Some(run));
}

#[test]
fn of_revoke() {
    let run: Run = |bench| {
        let target = RevokeRequest::Name("plugin/billing".parse().unwrap());
        bench.pki().revoke(&target, Reason::KeyCompromise)?;
        Ok(())
    };
    at_every_step(&standing_bench(), run, Some(run));
}

/// Not the daily run but the same command is what an operator tries first.
#[test]
fn of_revoke_which_done_again_finishes_by_itself() {
    let bench = standing_bench();
    bench.save();
    let revoke = || {
        let target = RevokeRequest::Name("plugin/billing".parse().unwrap());
        bench.pki().revoke(&target, Reason::KeyCompromise)
    };
    for at in 0.. {
        bench.put_back();
        let plan = Plan::new(&bench.live(), Fault::Dies, at);
        let result = revoke();
        let (_, failed) = plan.steps();
        drop(plan);
        let again = revoke().unwrap();
        assert_eq!(again.revoked.len() + again.already.len(), 1, "{failed}");
        bench.is_content(&failed);
        if failed.is_empty() {
            result.unwrap();
            assert!(again.crls.is_empty() && again.republished.is_empty());
            break;
        }
    }
}

#[test]
fn of_crl_refresh() {
    let run: Run = |bench| bench.pki().crl_refresh().map(|_| ());
    at_every_step(&standing_bench(), run, Some(run));
}

#[test]
fn of_ensure() {
    let run: Run = |bench| {
        let wanted = ["lab", "fresh"].map(|name| bench.request(Role::Plugin, name));
        bench.pki().ensure(&wanted).map(|_| ())
    };
    at_every_step(&standing_bench(), run, Some(run));
}

#[test]
fn of_rotating_the_issuer() {
    let bench = standing_bench();
    let kind = AuthorityKind::Issuer;
    at_every_step(
        &bench,
        |bench| rotate(bench, AuthorityKind::Issuer, Step::Prepare),
        None,
    );
    bench.put_back();
    rotate(&bench, kind, Step::Prepare).unwrap();
    at_every_step(
        &bench,
        |bench| rotate(bench, AuthorityKind::Issuer, Step::Activate),
        None,
    );
    bench.put_back();
    rotate(&bench, kind, Step::Activate).unwrap();
    bench.timer();
    at_every_step(
        &bench,
        |bench| rotate(bench, AuthorityKind::Issuer, Step::Retire),
        None,
    );
}

#[test]
fn of_preparing_a_root() {
    let run: Run = |bench| rotate(bench, AuthorityKind::Root, Step::Prepare);
    at_every_step(&standing_bench(), run, None);
}

#[test]
fn of_giving_up_an_issuer_in_other_hands() {
    let run: Run = |bench| emergency(bench, AuthorityKind::Issuer);
    at_every_step(&standing_bench(), run, None);
}

#[test]
fn of_giving_up_a_root_in_other_hands() {
    let run: Run = |bench| emergency(bench, AuthorityKind::Root);
    at_every_step(&standing_bench(), run, None);
}
