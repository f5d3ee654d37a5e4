//! What `check` must find, and what it must not cry out about; and directories that are not as they
//! should be, mended by the daily run.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use gapura_protocol::identity::Role;

use super::Bench;
use crate::check::{Checkup, Level};
use crate::passphrase::KeyProtection;
use crate::{Outcome, Pki, RenewRequest};

const DAY: i64 = 86_400;

fn levels(checkup: &Checkup, id: &str, about: &str) -> Vec<Level> {
    let of = checkup.findings.iter();
    of.filter(|one| one.id == id && one.object.contains(about))
        .map(|one| one.level)
        .collect()
}

#[test]
fn a_directory_that_cannot_be_seen_warns_of_its_end_like_every_other() {
    let bench = Bench::with_leaves(|_| {});
    fs::remove_dir_all(bench.dir("lab")).unwrap();
    let check = || bench.pki().check(&[]).unwrap();
    assert_eq!(levels(&check(), "DIR_GONE", "lab"), [Level::Info]);
    assert!(levels(&check(), "LEAF_EXPIRY", "lab").is_empty());
    bench.clock.shift(21 * DAY);
    assert_eq!(levels(&check(), "LEAF_EXPIRY", "lab"), [Level::Warning]);
    bench.clock.shift(28 * DAY);
    assert_eq!(levels(&check(), "LEAF_EXPIRY", "lab"), [Level::Critical]);
}

#[test]
fn a_directory_that_lost_current_is_found_and_mended() {
    let bench = Bench::with_leaves(|_| {});
    fs::remove_file(bench.dir("lab").join("current")).unwrap();
    let found = bench.pki().check(&[]).unwrap();
    assert_eq!(levels(&found, "DIR_DRIFT", "lab"), [Level::Warning]);
    bench.clock.shift(21 * DAY);
    let found = bench.pki().check(&[]).unwrap();
    assert_eq!(levels(&found, "LEAF_EXPIRY", "lab"), [Level::Warning]);
    bench.clock.shift(0);
    bench.timer();
    bench.is_content("current was lost");
}

#[test]
fn a_lost_or_exchanged_key_brings_a_new_certificate() {
    let bench = Bench::with_leaves(|_| {});
    let key = bench.dir("lab").join("current/key.pem");
    let other = fs::read(bench.dir("billing").join("key.pem")).unwrap();
    fs::remove_file(&key).unwrap();
    let found = bench.pki().check(&[]).unwrap();
    assert_eq!(levels(&found, "DIR_KEY", "lab"), [Level::Critical]);
    bench.timer();
    bench.is_content("the key was lost");
    fs::write(bench.dir("lab").join("current/key.pem"), &other).unwrap();
    let told = bench.pki().crl_refresh().unwrap();
    let lab = told
        .republished
        .iter()
        .find(|one| one.label == "plugin/lab");
    assert!(
        matches!(lab.unwrap().outcome, Outcome::Failed(_)),
        "{told:?}"
    );
    bench.timer();
    bench.is_content("the key was exchanged");
    assert_ne!(fs::read(bench.dir("lab").join("key.pem")).unwrap(), other);
}

#[test]
fn what_another_ca_put_there_is_left_alone_and_never_passed_over_in_silence() {
    let bench = Bench::with_leaves(|_| {});
    let theirs = Bench::with_leaves(|_| {});
    let lab = bench.dir("lab");
    fs::remove_dir_all(&lab).unwrap();
    Bench::copy(&theirs.dir("lab"), &lab);
    let before = fs::read(lab.join("cert.pem")).unwrap();
    let request = RenewRequest::default();
    for _ in 0..2 {
        let done = bench.pki().renew(&request).unwrap();
        let foreign = done.republished.iter().find(|one| one.out == lab).unwrap();
        assert_eq!(foreign.outcome, Outcome::Foreign);
        assert_eq!(fs::read(lab.join("cert.pem")).unwrap(), before);
        assert_eq!(done.issued.len(), 2, "the others got theirs");
    }
    let found = bench.pki().check(&[]).unwrap();
    assert_eq!(levels(&found, "DIR_DRIFT", "lab"), [Level::Warning]);
}

#[test]
fn a_directory_that_is_full_of_something_else_stops_no_other() {
    let bench = Bench::with_leaves(|_| {});
    let lab = bench.dir("lab");
    fs::remove_dir_all(&lab).unwrap();
    fs::write(&lab, "no folder").unwrap();
    let done = bench.pki().renew(&RenewRequest::default()).unwrap();
    assert_eq!((done.issued.len(), done.failed.len()), (2, 1), "{done:?}");
    let wanted = [
        bench.request(Role::Plugin, "lab"),
        bench.request(Role::Plugin, "new"),
    ];
    let done = bench.pki().ensure(&wanted).unwrap();
    assert_eq!(done.issued.len(), 1, "{done:?}");
    assert!(!done.renewed.failed.is_empty());
    // Named alone its fault is the command's; the others have got the CRLs that were signed for it.
    let request = RenewRequest {
        targets: vec!["plugin/lab".parse().unwrap()],
        ..RenewRequest::default()
    };
    bench.pki().renew(&request).unwrap_err();
    let crl = bench.pki().bundle().unwrap().crl;
    for name in ["edge", "billing", "new"] {
        let shown = fs::read_to_string(bench.dir(name).join("crl.pem")).unwrap();
        assert_eq!(shown, crl, "{name}");
    }
    fs::remove_file(&lab).unwrap();
    bench.pki().ensure(&wanted).unwrap();
    bench.is_content("the folder was made free");
}

#[test]
fn a_ca_key_that_is_cut_or_empty_or_anothers_is_found() {
    let bench = Bench::with_leaves(|_| {});
    let key = bench.state().join("authorities/iss-g1-001/key.pem");
    let root = fs::read(bench.state().join("authorities/root-g1/key.pem")).unwrap();
    let whole = fs::read(&key).unwrap();
    let found = || {
        let checkup = bench.pki().check(&[]).unwrap();
        levels(&checkup, "CA_KEY_DAMAGED", "iss-g1-001")
    };
    assert!(found().is_empty());
    for bad in [&whole[..0], &whole[..whole.len() / 2], &root, b"\xff\xfe"] {
        fs::write(&key, bad).unwrap();
        assert_eq!(found(), [Level::Critical]);
    }
    let sealed = Bench::new();
    let passphrase = || KeyProtection::Passphrase("correct horse".to_owned().into());
    let domain = "mylab.internal".parse().unwrap();
    Pki::init(&sealed.state(), &domain, passphrase(), &sealed.clock).unwrap();
    let key = sealed.state().join("authorities/iss-g1-001/key.pem");
    let look = |state: &Path| {
        let pki = Pki::open(state, passphrase(), &sealed.clock).unwrap();
        levels(&pki.check(&[]).unwrap(), "CA_KEY_DAMAGED", "iss")
    };
    assert!(look(&sealed.state()).is_empty());
    let whole = fs::read(&key).unwrap();
    for bad in [&whole[..0], &whole[..whole.len() / 2]] {
        fs::write(&key, bad).unwrap();
        assert_eq!(look(&sealed.state()), [Level::Critical]);
    }
}

#[test]
fn beside_a_constant_writer_nobody_cries_wolf() {
    let bench = Bench::with_leaves(|_| {});
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                bench
                    .pki()
                    .issue(&bench.request(Role::Plugin, "lab"))
                    .unwrap();
            }
        });
        let looks: Vec<_> = (0..25)
            .map(|_| bench.pki().check(&[]).unwrap())
            .filter(|checkup| checkup.worst() >= Some(Level::Warning))
            .map(|checkup| checkup.findings)
            .collect();
        over.store(true, Ordering::Relaxed);
        assert!(looks.is_empty(), "{looks:#?}");
    });
}
