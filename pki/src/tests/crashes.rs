//! Every command dies, and meets a full disk, at every single step it does on the disk; the next
//! daily run, and the same command once more, each leave nothing to be mended.

use std::time::Duration;

use gapura_protocol::identity::Role;

use super::Bench;
use crate::error::Error;
use crate::keys;
use crate::ledger::{AuthorityKind, AuthorityState};
use crate::passphrase::KeyProtection;
use crate::seal::PassphraseChange;
use crate::settings::Settings;
use crate::tests::faults::{Fault, Plan};
use crate::{Pki, Reason, RenewRequest, RevokeRequest, RotateRequest, Step};

type Run = fn(&Bench) -> Result<(), Error>;

/// Lets `run` fail at every step, and looks at what is left each time: after the daily run, and
/// after `run` once more.
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
            // Once more: the same code from there on, so that every third time will do.
            if let Some(again) = again.filter(|_| fault == Fault::Dies && at % 3 == 0) {
                again(bench).unwrap_or_else(|why| panic!("again after {after}: {why}"));
                bench.is_content(&format!("{after}, and once more"));
            }
            drop(spare);
            at += if fault == Fault::Full { 5 } else { 1 }; // a full disk stays full, so neighbours are much alike
        }
    }
}

/// Lets `run` die at every step, or meet a full disk; done once more, it finishes by itself, and
/// `wanted` holds.
fn finishes_by_itself(
    bench: &Bench,
    run: impl Fn(&Bench) -> Result<(), Error>,
    wanted: impl Fn(&Bench, &str),
) {
    bench.save();
    for fault in [Fault::Dies, Fault::Full] {
        let mut at = 0;
        loop {
            bench.put_back();
            let plan = Plan::new(&bench.live(), fault, at);
            let result = run(bench);
            let (steps, failed) = plan.steps();
            drop(plan);
            let _spare = Plan::new(&bench.live(), Fault::None, 0);
            if failed.is_empty() {
                result.unwrap();
                assert!(steps > 4, "it did {steps} steps; the test proves nothing");
                wanted(bench, "nothing");
                break;
            }
            let after = format!("{fault:?} at {failed} ({result:?})");
            run(bench).unwrap_or_else(|why| panic!("again after {after}: {why}"));
            wanted(bench, &after);
            at += if fault == Fault::Full { 5 } else { 1 };
        }
    }
}

/// What was done already is refused when it is asked for again.
fn or_done_before(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Refused(_)) => Ok(()),
        result => result,
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
    let revoke = |bench: &Bench| {
        let target = RevokeRequest::Name("plugin/billing".parse().unwrap());
        let done = bench.pki().revoke(&target, Reason::KeyCompromise)?;
        assert_eq!(done.revoked.len() + done.already.len(), 1);
        Ok(())
    };
    finishes_by_itself(&standing_bench(), revoke, |bench, after| {
        bench.is_content(after);
        let target = RevokeRequest::Name("plugin/billing".parse().unwrap());
        let again = bench.pki().revoke(&target, Reason::KeyCompromise).unwrap();
        assert!(again.crls.is_empty() && again.republished.is_empty());
    });
}

#[test]
fn of_forget_which_done_again_finishes_by_itself() {
    let bench = standing_bench();
    std::fs::remove_dir_all(bench.dir("lab")).unwrap();
    let forget = |bench: &Bench| {
        let target = "plugin/lab".parse().unwrap();
        bench.pki().forget(&target, None, "scrapped").map(|_| ())
    };
    finishes_by_itself(&bench, forget, |bench, after| {
        assert_eq!(bench.pki().ledger().unwrap().in_use().len(), 2, "{after}");
        bench.is_content(after);
    });
}

#[test]
fn of_adopt_which_done_again_finishes_by_itself() {
    let bench = standing_bench();
    std::fs::rename(bench.dir("lab"), bench.dir("moved")).unwrap();
    let adopt = |bench: &Bench| bench.pki().adopt_dir(&bench.dir("moved")).map(|_| ());
    finishes_by_itself(&bench, adopt, |bench, after| {
        let ledger = bench.pki().ledger().unwrap();
        let places: Vec<_> = ledger
            .in_use()
            .iter()
            .map(|leaf| leaf.out.clone())
            .collect();
        assert!(
            places.contains(&bench.dir("moved")) && !places.contains(&bench.dir("lab")),
            "after {after}: {places:?}"
        );
        bench.is_content(after);
    });
}

#[test]
fn of_cancelling_which_done_again_finishes_by_itself() {
    for kind in [AuthorityKind::Issuer, AuthorityKind::Root] {
        let bench = standing_bench();
        rotate(&bench, kind, Step::Prepare).unwrap();
        let cancel = |bench: &Bench| rotate(bench, kind, Step::Cancel);
        let again = |bench: &Bench| or_done_before(cancel(bench));
        cancelled(&bench, again);
    }
}

fn cancelled(bench: &Bench, cancel: impl Fn(&Bench) -> Result<(), Error>) {
    finishes_by_itself(bench, cancel, |bench, after| {
        bench.is_content(after);
        for authority in bench.pki().ledger().unwrap().authorities() {
            let folder = bench.state().join("authorities").join(&authority.id);
            let dropped = authority.state == AuthorityState::Retired;
            assert_eq!(folder.join("key.pem").exists(), !dropped, "after {after}");
        }
    });
}

#[test]
fn of_changing_the_passphrase_which_done_again_finishes_by_itself() {
    let under = || KeyProtection::Passphrase("staple".to_owned().into());
    let change = |bench: &Bench| {
        let wanted = PassphraseChange {
            new: under(),
            new_for_roots: None,
        };
        bench.pki().change_passphrase(&wanted).map(|_| ())
    };
    finishes_by_itself(&standing_bench(), change, |bench, after| {
        bench.is_content(after);
        let pki = Pki::open(&bench.state(), under(), &bench.clock).unwrap();
        pki.crl_refresh()
            .unwrap_or_else(|why| panic!("after {after}: {why}"));
        for id in ["root-g1", "iss-g1-001"] {
            let key = bench.state().join("authorities").join(id).join("key.pem");
            let text = std::fs::read_to_string(key).unwrap();
            assert!(!keys::is_plain(&text), "after {after}: {id}");
        }
    });
}

#[test]
fn of_backup_which_done_again_finishes_by_itself() {
    let bench = standing_bench();
    let to = |bench: &Bench| bench.live().join("backup.tar");
    let backup = |bench: &Bench| match bench.pki().backup(&to(bench)) {
        Err(Error::Failed(why)) if why.contains("exists") => Ok(()),
        done => done.map(|_| ()),
    };
    finishes_by_itself(&bench, backup, |bench, after| {
        let other = bench.live().join("other");
        crate::backup::restore(&other, &to(bench), &bench.clock)
            .unwrap_or_else(|why| panic!("after {after}: {why}"));
    });
}

#[test]
fn of_restore_which_done_again_finishes_by_itself_and_forgets_no_revocation() {
    let bench = standing_bench();
    let from = |bench: &Bench| bench.live().join("backup.tar");
    bench.pki().backup(&from(&bench)).unwrap();
    let target = RevokeRequest::Name("plugin/billing".parse().unwrap());
    bench.pki().revoke(&target, Reason::KeyCompromise).unwrap();
    let record = bench.state().join("inventory.jsonl");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(
        &record,
        text.replacen("\"name\":\"lab\"", "\"name\":\"lob\"", 1),
    )
    .unwrap();
    // Nothing but the damaged inventory may know of the revocation.
    for name in ["edge", "lab", "billing"] {
        std::fs::remove_dir_all(bench.dir(name)).unwrap();
    }
    std::fs::remove_dir_all(bench.state().join("crl")).unwrap();
    let restore = |bench: &Bench| {
        let done = crate::backup::restore(&bench.state(), &from(bench), &bench.clock);
        or_done_before(done.map(|_| ()))
    };
    finishes_by_itself(&bench, restore, |bench, after| {
        let ledger = bench.pki().ledger().unwrap();
        let billing = ledger
            .leaves()
            .iter()
            .find(|leaf| leaf.name.as_str() == "billing");
        let billing = billing.unwrap();
        assert!(
            ledger
                .revocation(&billing.issuer, &billing.serial)
                .is_some(),
            "after {after}: the revocation is forgotten"
        );
        bench.pki().crl_refresh().unwrap();
        bench.is_content(after);
        let names = std::fs::read_dir(bench.state()).unwrap();
        let hidden = names.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".new-")
        });
        assert_eq!(hidden.count(), 0, "after {after}");
    });
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
        Some(|bench| or_done_before(rotate(bench, AuthorityKind::Issuer, Step::Prepare))),
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
