//! Leaf, issuing CA and root replaced under a running pair and load; revocation that cuts.

use std::path::PathBuf;
use std::time::Duration;

use gapura_tests::pair::Pair;
use gapura_tests::within;
use serde_json::Value;

use super::Scratch;

/// Ten times the two seconds within which a change is in force.
const SOON: Duration = Duration::from_secs(20);

/// A pair that lives on what `gapura-pki` wrote.
fn start() -> (Pair, Scratch) {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    scratch.ok(&["issue", "plugin", "echo", "--out", &scratch.text("echo")]);
    (Pair::start(&scratch.path("")), scratch)
}

/// Waits until the wire shows the serial that the inventory has for the sidecar, and the gateway
/// has its own.
fn wait_until_shown(pair: &Pair, scratch: &Scratch) {
    let listed = |name: &str| {
        let listed = scratch.ok(&["list", "--name", name]);
        let serial = &listed["certificates"][0]["serial"];
        serial.as_str().unwrap().to_owned()
    };
    let (echo, edge) = (listed("plugin/echo"), listed("gateway/edge"));
    let hop = pair.sidecar.address("hop").to_string();
    within(SOON, "the wire shows the new serial", || {
        let shown = scratch.ok(&["inspect", &hop]);
        (shown["items"][0]["serial"] == echo.as_str()).then_some(())
    });
    within(SOON, "the gateway has its new leaf", || {
        let held = pair.certificates(&pair.gateway).to_string();
        held.contains(&edge).then_some(())
    });
}

#[test]
fn leaf_issuer_and_root_are_rotated_under_load_without_a_failed_request() {
    let (pair, scratch) = start();
    let ok = |args: &[&str]| scratch.ok(args);
    pair.under_load(|| {
        ok(&["renew", "--all"]);
        wait_until_shown(&pair, &scratch);
    });
    for kind in ["issuer", "root"] {
        pair.under_load(|| {
            ok(&["ca", "rotate", kind, "--step", "prepare"]);
            ok(&["ca", "rotate", kind, "--step", "activate"]);
            ok(&["renew", "--all"]);
            wait_until_shown(&pair, &scratch);
            ok(&["ca", "rotate", kind, "--step", "retire"]);
            wait_until_shown(&pair, &scratch);
        });
    }
    let hop = pair.sidecar.address("hop").to_string();
    let checked = ok(&["check", "--endpoint", &hop]);
    assert_eq!(checked["status"], "ok", "{checked}");
    within(SOON, "the old root is gone from the gateway", || {
        let roots = pair.certificates(&pair.gateway)["roots"].clone();
        (roots.as_array().unwrap().len() == 1).then_some(())
    });
}

#[test]
fn a_revoked_sidecar_is_cut_off_and_its_next_handshake_refused_by_name() {
    let (pair, scratch) = start();
    scratch.ok(&["revoke", "plugin/echo", "--reason", "key-compromise"]);
    within(SOON, "requests are refused", || {
        (pair.get() == 502).then_some(())
    });
    let told = |line: &Value| {
        let text = line.to_string();
        text.contains("revoked") && line["event"] != "request"
    };
    pair.gateway.wait_for_line("the revocation", told);
    assert_eq!(
        scratch
            .run(&[
                "check",
                "--endpoint",
                &pair.sidecar.address("hop").to_string()
            ])
            .code,
        Some(4)
    );
    // Issued anew it is back, without a restart.
    scratch.ok(&["issue", "plugin", "echo", "--out", &scratch.text("echo")]);
    within(SOON, "requests go through again", || {
        (pair.get() == 200).then_some(())
    });
}

#[test]
fn a_revoked_gateway_is_refused_by_every_sidecar() {
    let (pair, scratch) = start();
    scratch.ok(&["revoke", "gateway/edge"]);
    within(SOON, "requests are refused", || {
        (pair.get() == 502).then_some(())
    });
    pair.sidecar.wait_for_line("the revocation", |line| {
        line.to_string().contains("revoked") && line["event"] != "request"
    });
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    within(SOON, "requests go through again", || {
        (pair.get() == 200).then_some(())
    });
}

#[test]
fn a_tainted_root_is_replaced_and_the_pair_finds_together_again() {
    let (pair, scratch) = start();
    scratch.ok(&["ca", "rotate", "root", "--emergency", "--taint"]);
    within(SOON, "requests go through under the new root", || {
        let roots = pair.certificates(&pair.gateway)["roots"].to_string();
        (roots.contains("root-g2") && !roots.contains("root-g1") && pair.get() == 200).then_some(())
    });
}

#[test]
fn a_program_shows_what_check_and_inspect_compare() {
    let (pair, scratch) = start();
    let hop = pair.sidecar.address("hop").to_string();
    let shown = scratch.ok(&["inspect", &hop]);
    assert_eq!(
        shown["items"][0]["id"],
        "spiffe://test.internal/plugin/echo"
    );
    let old: PathBuf = scratch.path("echo/current");
    let before = std::fs::read_link(&old).unwrap();
    scratch.ok(&["renew", "echo"]);
    wait_until_shown(&pair, &scratch);
    assert_ne!(std::fs::read_link(&old).unwrap(), before);
    assert_eq!(scratch.ok(&["check", "--endpoint", &hop])["status"], "ok");
}
