//! What the inventory says and what is out there may differ: an old backup, a second copy, a clock
//! that was ahead, a folder that was moved. The next run mends it and says so.

use std::fs;
use std::path::Path;

use gapura_pki::{IssueRequest, KeyProtection, Pki};
use gapura_protocol::clock::Clock;
use serde_json::Value;

use super::{Scratch, copy, judged_by_openssl, openssl};

/// The CRL of the issuing CA in a mesh directory: its number, and all that OpenSSL says of it.
fn crl(dir: &Path) -> (u64, String) {
    let file = dir.join("crl.pem");
    let ask = |what| openssl(&["crl", "-in", file.to_str().unwrap(), "-noout", what]).1;
    let number = ask("-crlnumber");
    let number = number.trim().rsplit("0x").next().unwrap();
    (u64::from_str_radix(number, 16).unwrap(), ask("-text"))
}

fn serial(dir: &Path) -> String {
    let file = dir.join("cert.pem");
    let said = openssl(&["x509", "-in", file.to_str().unwrap(), "-noout", "-serial"]).1;
    said.trim().rsplit('=').next().unwrap().to_lowercase()
}

fn adopted<'a>(said: &'a Value, what: &str) -> Vec<&'a Value> {
    let all = said["adopted"].as_array().unwrap();
    all.iter().filter(|one| one["what"] == what).collect()
}

#[test]
fn a_backup_older_than_the_last_renewal_heals_and_a_stolen_plugin_stays_out() {
    let scratch = Scratch::with_ca();
    for name in ["a", "b"] {
        scratch.ok(&["issue", "plugin", name, "--out", &scratch.text(name)]);
    }
    scratch.ok(&["backup", &scratch.text("backup.tar")]);
    scratch.ok(&["renew", "--all"]);
    scratch.ok(&["revoke", "plugin/b", "--reason", "key-compromise"]);
    for _ in 0..3 {
        scratch.ok(&["crl", "refresh"]);
    }
    let (before, stolen) = (serial(&scratch.path("a")), serial(&scratch.path("b")));
    let number = crl(&scratch.path("a")).0;

    fs::remove_dir_all(scratch.path("pki")).unwrap();
    scratch.ok(&["restore", &scratch.text("backup.tar")]);
    assert_eq!(
        scratch.run(&["check"]).code,
        Some(3),
        "it sees the difference"
    );
    let done = scratch.ok(&["renew", "--all"]);
    assert_eq!(adopted(&done, "leaf").len(), 2, "{done}");
    assert_eq!(adopted(&done, "revocation").len(), 2, "{done}");
    assert!(
        done["adopted"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["expected"] == true),
        "{done}"
    );
    let renewed: Vec<_> = done["renewed"].as_array().unwrap().iter().collect();
    assert_eq!(renewed.len(), 1, "{done}");
    assert_eq!(renewed[0]["name"], "a");
    assert_ne!(serial(&scratch.path("a")), before);
    for dir in ["a", "b"] {
        let (after, text) = crl(&scratch.path(dir));
        assert!(after > number, "{dir}: {after} is not above {number}");
        assert!(text.to_lowercase().contains(&stolen), "{dir}: {text}");
    }
    assert!(judged_by_openssl(&scratch.path("a"), "sslserver").0);
    assert!(!judged_by_openssl(&scratch.path("b"), "sslserver").0);
    // Its key is still known as compromised, though no line of the backup had the certificate.
    let sentence = scratch.fails(5, &["renew", "plugin/b"]);
    assert!(sentence.contains("was revoked"), "{sentence}");
    assert_eq!(
        scratch.ok(&["renew", "--all"])["adopted"],
        serde_json::json!([])
    );
    assert_eq!(scratch.run(&["check"]).code, Some(0));
    scratch.ok(&["inventory", "verify"]);
}

#[test]
fn ensure_lets_nobody_back_in_after_an_old_backup() {
    let scratch = Scratch::with_ca();
    let out = scratch.text("b");
    scratch.ok(&["issue", "plugin", "b", "--out", &out]);
    scratch.ok(&["backup", &scratch.text("backup.tar")]);
    scratch.ok(&["renew", "--all"]);
    scratch.ok(&["revoke", "plugin/b"]);
    let stolen = serial(&scratch.path("b"));
    fs::remove_dir_all(scratch.path("pki")).unwrap();
    scratch.ok(&["restore", &scratch.text("backup.tar")]);
    fs::write(scratch.path("who"), format!("plugin b {out}\n")).unwrap();
    let ensure = ["ensure", "--trust-domain", "test.internal", "--from"];
    let done = scratch.ok(&[&ensure[..], &[&scratch.text("who")]].concat());
    assert_eq!(done["revoked"], serde_json::json!(["plugin/b"]), "{done}");
    assert_eq!(serial(&scratch.path("b")), stolen);
}

#[test]
fn two_copies_of_one_ca_notice_each_other() {
    let scratch = Scratch::with_ca();
    for name in ["a", "b"] {
        scratch.ok(&["issue", "plugin", name, "--out", &scratch.text(name)]);
    }
    copy(&scratch.path("pki"), &scratch.path("copy"));
    let other = scratch.text("copy");
    let by_other = |args: &[&str]| scratch.run(&[&["--dir", &other][..], args].concat());
    assert_eq!(by_other(&["renew", "a"]).code, Some(0));
    assert_eq!(by_other(&["revoke", "b"]).code, Some(0));

    let seen = scratch.run(&["check"]);
    assert_eq!(seen.code, Some(3), "{}", seen.stdout);
    assert!(seen.stdout.contains("another copy"), "{}", seen.stdout);
    let ended = scratch.run(&["renew", "--all"]);
    assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stdout.contains("another copy of this CA is at work")
            && ended.stdout.contains("plugin/a serial"),
        "{}",
        ended.stdout
    );
    // What the other one revoked, this one never lets in again.
    assert!(!judged_by_openssl(&scratch.path("b"), "sslserver").0);
    assert!(scratch.fails(5, &["renew", "b"]).contains("was revoked"));
    // And the other way round: numbers go on above the highest that either has published.
    let number = crl(&scratch.path("a")).0;
    let ended = by_other(&["crl", "refresh"]);
    assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
    assert!(crl(&scratch.path("a")).0 > number);
}

#[test]
fn a_directory_is_believed_for_its_own_identity_only() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "plugin", "lab", "--out", &scratch.text("lab")]);
    scratch.ok(&["backup", &scratch.text("backup.tar")]);
    // The backup does not know the gateway; whoever owns lab's directory lays the gateway's public
    // certificate into it.
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    fs::remove_dir_all(scratch.path("pki")).unwrap();
    scratch.ok(&["restore", &scratch.text("backup.tar")]);
    let (cert, own) = (
        scratch.path("edge/cert.pem"),
        scratch.path("lab/current/cert.pem"),
    );
    let before = fs::read(&own).unwrap();
    fs::copy(&cert, &own).unwrap();
    let ended = scratch.run(&["renew", "--all", "--json"]);
    assert_eq!(
        ended.code,
        Some(3),
        "it names the foreign certificate: {}",
        ended.stdout
    );
    let done: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(adopted(&done, "leaf").len(), 0, "{done}");
    assert_eq!(done["renewed"], serde_json::json!([]), "{done}");
    let names = scratch.ok(&["list"]);
    assert!(!names.to_string().contains("edge"), "{names}");
    fs::write(&own, before).unwrap();
    // The operator may say it of the gateway's own directory.
    scratch.ok(&["adopt", &scratch.text("edge")]);
    assert!(scratch.ok(&["list"]).to_string().contains("edge"));
    scratch.ok(&["renew", "edge"]);
}

#[test]
fn what_is_gone_is_forgotten_and_what_was_moved_is_adopted() {
    let scratch = Scratch::with_ca();
    for name in ["a", "b"] {
        scratch.ok(&["issue", "plugin", name, "--out", &scratch.text(name)]);
    }
    let sentence = scratch.fails(5, &["forget", "a", "--reason", "scrapped"]);
    assert!(
        sentence.contains("is not gone") && sentence.contains("revoke"),
        "{sentence}"
    );
    fs::remove_dir_all(scratch.path("a")).unwrap();
    let sentence = scratch.fails(2, &["forget", "a", "--reason", "two\nlines"]);
    assert!(sentence.contains("--reason"), "{sentence}");
    let done = scratch.ok(&["forget", "plugin/a", "--reason", "host scrapped"]);
    assert_eq!(done["still_valid"].as_array().unwrap().len(), 1, "{done}");
    let record = fs::read_to_string(scratch.path("pki/inventory.jsonl")).unwrap();
    assert!(record.lines().last().unwrap().contains("host scrapped"));
    assert_eq!(
        scratch.ok(&["list"])["certificates"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let check = scratch.ok(&["check"]).to_string();
    assert!(!check.contains("plugin/a"), "{check}");
    scratch.ok(&["revoke", "plugin/a"]); // it can still be revoked
    scratch.ok(&["issue", "plugin", "a", "--out", &scratch.text("a")]);
    assert_eq!(
        scratch.ok(&["list"])["certificates"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    fs::rename(scratch.path("b"), scratch.path("elsewhere")).unwrap();
    let done = scratch.ok(&["adopt", &scratch.text("elsewhere")]);
    assert_eq!(done["moved_from"], scratch.text("b"), "{done}");
    assert_eq!(
        scratch.ok(&["adopt", &scratch.text("elsewhere")])["already"],
        true
    );
    let renewed = scratch.ok(&["renew", "b"]);
    assert_eq!(renewed["renewed"][0]["out"], scratch.text("elsewhere"));
    assert!(!scratch.path("b").exists());
    let stranger = Scratch::with_ca();
    stranger.ok(&["issue", "plugin", "c", "--out", &stranger.text("c")]);
    let sentence = scratch.fails(5, &["adopt", &stranger.text("c")]);
    assert!(
        sentence.contains("not signed by an issuing CA"),
        "{sentence}"
    );
    scratch.fails(1, &["adopt", &scratch.text("nowhere")]);
}

#[test]
fn leaves_of_a_clock_that_was_ahead_are_found_and_renewed() {
    let scratch = Scratch::new();
    let clock = Clock::system();
    clock.shift(5 * 3600);
    let pki = Pki::init(
        &scratch.path("pki"),
        &"test.internal".parse().unwrap(),
        KeyProtection::Plaintext,
        &Clock::system(),
    )
    .unwrap();
    drop(pki);
    let ahead = Pki::open(&scratch.path("pki"), KeyProtection::Plaintext, &clock).unwrap();
    let request = |name: &str| {
        IssueRequest::new("plugin".parse().unwrap(), name.parse().unwrap())
            .into_dir(scratch.path(name))
    };
    ahead.issue(&request("a")).unwrap();
    ahead.crl_refresh().unwrap();

    let ended = scratch.run(&["check", "--json"]);
    assert_eq!(ended.code, Some(4));
    for wanted in ["LEAF_NOT_BEGUN", "CRL_NOT_BEGUN", "CLOCK"] {
        assert!(ended.stdout.contains(wanted), "{wanted}: {}", ended.stdout);
    }
    for args in [
        &["issue", "plugin", "b"][..],
        &["renew", "--all", "--due"],
        &["ca", "rotate", "issuer", "--step", "prepare"],
    ] {
        let sentence = scratch.fails(5, args);
        assert!(
            sentence.contains("--clock-is-right") && sentence.contains("clock says"),
            "{args:?}: {sentence}"
        );
    }
    // A revocation does not wait for a clock, and hides nothing from the next command.
    scratch.ok(&["crl", "refresh"]);
    scratch.fails(5, &["issue", "plugin", "b"]);
    let done = scratch.ok(&["renew", "--all", "--due", "--clock-is-right"]);
    assert_eq!(done["renewed"].as_array().unwrap().len(), 1, "{done}");
    assert!(judged_by_openssl(&scratch.path("a"), "sslserver").0);
    assert_eq!(scratch.run(&["check"]).code, Some(0));
    scratch.ok(&["issue", "plugin", "b"]);
}

#[test]
fn a_crl_that_says_less_than_the_inventory_is_made_anew_by_whatever_comes_next() {
    let scratch = Scratch::with_ca();
    for name in ["a", "b"] {
        scratch.ok(&["issue", "plugin", name, "--out", &scratch.text(name)]);
    }
    copy(&scratch.path("pki/crl"), &scratch.path("crl"));
    copy(&scratch.path("a"), &scratch.path("before"));
    scratch.ok(&["revoke", "b"]);
    // As a run leaves it that died between its line and the CRL.
    fs::remove_dir_all(scratch.path("pki/crl")).unwrap();
    fs::rename(scratch.path("crl"), scratch.path("pki/crl")).unwrap();
    fs::remove_dir_all(scratch.path("a")).unwrap();
    fs::rename(scratch.path("before"), scratch.path("a")).unwrap();
    scratch.ok(&["issue", "plugin", "c", "--out", &scratch.text("c")]);
    for dir in ["a", "b", "c"] {
        let text = crl(&scratch.path(dir)).1.to_lowercase();
        assert!(text.contains(&serial(&scratch.path("b"))), "{dir}: {text}");
    }
    assert_eq!(scratch.run(&["check"]).code, Some(0));
}
