//! Renewed, revoked, rotated under a running pair, with no file copied by hand.

use std::time::Instant;

use gapura_tests::pair::Pair;
use gapura_tests::within;

use super::{Installation, PATIENT, serial};

/// Waits until both agents have put another leaf there than these.
fn moved_on(installation: &Installation, from: &[String; 2]) -> [String; 2] {
    within(PATIENT, "both agents have renewed", || {
        let now = ["edge", "echo"].map(|name| serial(installation, name));
        (now[0] != from[0] && now[1] != from[1]).then_some(now)
    })
}

/// Repeats a step of a rotation until nobody depends on the state before it.
fn step_passes(installation: &Installation, kind: &str, step: &str) {
    let (began, mut last) = (Instant::now(), String::new());
    within(PATIENT * 2, &format!("{kind}: {step}"), || {
        let done = installation.try_pki(&["ca", "rotate", kind, "--step", step]);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(matches!(done.code, Some(0 | 5)), "{said}");
        if said != last {
            println!("{kind}: {step}, after {:?}: {said}", began.elapsed());
            last = said;
        }
        (done.code == Some(0)).then_some(())
    });
}

#[test]
fn certificates_are_renewed_in_time_and_no_request_fails() {
    let installation = Installation::start("30s");
    let _agents = [
        installation.joined("gateway", "edge"),
        installation.joined("plugin", "echo"),
    ];
    let pair = Pair::start(installation.dir.path());
    let first = ["edge", "echo"].map(|name| serial(&installation, name));
    pair.under_load(|| {
        let second = moved_on(&installation, &first);
        let _ = moved_on(&installation, &second);
    });
}

#[test]
fn issuer_and_root_are_rotated_through_agents_without_a_failed_request() {
    let installation = Installation::start("30s");
    let _agents = [
        installation.joined("gateway", "edge"),
        installation.joined("plugin", "echo"),
    ];
    let pair = Pair::start(installation.dir.path());
    for kind in ["issuer", "root"] {
        pair.under_load(|| {
            let before = ["edge", "echo"].map(|name| serial(&installation, name));
            installation.pki(&["ca", "rotate", kind, "--step", "prepare"]);
            // It waits until every agent has said that it holds what was prepared.
            step_passes(&installation, kind, "activate");
            // The CA server's own leaf lies on the CA's host, and is renewed by hand there.
            installation.pki(&["renew", "pki/ca1"]);
            let _ = moved_on(&installation, &before);
            // It waits for the last leaf under the old one to end.
            step_passes(&installation, kind, "retire");
        });
    }
    within(PATIENT, "the old root is gone from both", || {
        let gone = |program| {
            let roots = pair.certificates(program)["roots"].to_string();
            roots.contains("root-g2") && !roots.contains("root-g1")
        };
        (gone(&pair.gateway) && gone(&pair.sidecar)).then_some(())
    });
    assert_eq!(pair.get(), 200);
}

#[test]
fn what_is_revoked_is_cut_off_on_every_host_and_never_renews() {
    let installation = Installation::start("24h");
    let _edge = installation.joined("gateway", "edge");
    let echo = installation.joined("plugin", "echo");
    let pair = Pair::start(installation.dir.path());
    let began = Instant::now();
    installation.pki(&["revoke", "plugin/echo", "--reason", "key-compromise"]);
    within(PATIENT, "requests are refused", || {
        (pair.get() == 502).then_some(())
    });
    println!("from the command to the refusal: {:?}", began.elapsed());
    pair.gateway.wait_for_line("the cut", |line| {
        line["event"] == "connection_cut" && line["reason"] == "revoked"
    });
    // The host itself is told why nobody speaks to it any more.
    let told = within(PATIENT, "the agent knows", || {
        super::alarm(&echo, "revoked")
    });
    assert!(told.contains("revoked"), "{told}");
    let told = within(PATIENT, "the agent says what to do", || {
        super::alarm(&echo, "renewal")
    });
    assert!(told.contains("gapura-pki token plugin echo"), "{told}");
    // A new token brings it back, without a restart.
    installation.token("plugin", "echo", &[]);
    within(PATIENT, "requests go through again", || {
        (pair.get() == 200).then_some(())
    });
    within(PATIENT, "nothing is wrong any more", || {
        let alarms = &super::page(&echo, "/status")["alarms"];
        (alarms.as_array().unwrap().is_empty()).then_some(())
    });
}
