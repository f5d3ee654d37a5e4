//! The passphrase of the CA keys: a slip of the hand seals nothing, a change is whole or can be
//! finished, others can't read it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gapura_tests::program::Ended;

use super::{Scratch, secret};

struct Sealed(Scratch);

impl Sealed {
    fn new() -> Self {
        let this = Self(Scratch::new());
        for (name, text) in [
            ("good", "correct horse"),
            ("typo", "corect horse"),
            ("new", "staple"),
        ] {
            secret(&this.0.path(name), text);
        }
        this.ok("good", &["init", "--trust-domain", "test.internal"]);
        this
    }

    fn run(&self, file: &str, args: &[&str]) -> Ended {
        let with = ["--passphrase-file", &self.0.text(file)];
        self.0
            .invocation()
            .args(&[args, &with].concat())
            .run("gapura-pki")
    }

    fn ok(&self, file: &str, args: &[&str]) -> String {
        let ended = self.run(file, args);
        assert_eq!(
            ended.code,
            Some(0),
            "{args:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        ended.stdout
    }

    fn change(&self, old: &str, new: &str) -> Ended {
        let new = self.0.text(new);
        self.run(
            old,
            &["passphrase", "change", "--new-passphrase-file", &new],
        )
    }
}

#[test]
fn a_mistyped_passphrase_seals_no_new_key() {
    let sealed = Sealed::new();
    let record = sealed.0.path("pki/inventory.jsonl");
    let before = fs::read(&record).unwrap();
    for args in [
        &["ca", "rotate", "root", "--step", "prepare"][..],
        &["ca", "rotate", "issuer", "--step", "prepare"],
        &["ca", "rotate", "root", "--emergency"],
    ] {
        let ended = sealed.run("typo", args);
        assert_eq!(
            ended.code,
            Some(7),
            "{args:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        assert!(ended.stderr.contains("does not open"), "{}", ended.stderr);
        assert_eq!(fs::read(&record).unwrap(), before, "{args:?}");
    }
    sealed.ok("good", &["ca", "rotate", "root", "--step", "prepare"]);
    assert_eq!(sealed.run("good", &["check"]).code, Some(0));
    let ended = sealed.run("typo", &["check"]);
    assert_eq!(ended.code, Some(4));
    assert!(
        ended.stdout.contains("CA_KEY_CLOSED") && ended.stdout.contains("root-g1"),
        "{}",
        ended.stdout
    );
    let without = sealed.0.invocation().args(&["check"]).run("gapura-pki");
    assert_eq!(
        without.code,
        Some(0),
        "check needs none: {}",
        without.stdout
    );
}

#[test]
fn what_was_prepared_can_be_dropped_again() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "plugin", "a", "--out", &scratch.text("a")]);
    for (kind, ids) in [
        ("issuer", vec!["iss-g1-002"]),
        ("root", vec!["root-g2", "iss-g2-001"]),
    ] {
        let cancel = ["ca", "rotate", kind, "--step", "cancel"];
        let sentence = scratch.fails(5, &cancel);
        assert!(sentence.contains("nothing to cancel"), "{sentence}");
        scratch.ok(&["ca", "rotate", kind, "--step", "prepare"]);
        scratch.ok(&cancel);
        let show = scratch.ok(&["ca", "show"]);
        for id in ids {
            let authorities = show["authorities"].as_array().unwrap();
            let one = authorities.iter().find(|one| one["id"] == id).unwrap();
            assert_eq!(one["state"], "retired", "{one}");
            assert!(
                one["kind"] == "issuer" || one["in_bundle"] == false,
                "{one}"
            );
            assert!(
                !scratch
                    .path(&format!("pki/authorities/{id}/key.pem"))
                    .exists()
            );
        }
        assert!(show["next_step"][kind].is_null(), "{show}");
        scratch.ok(&["bundle", "verify", &scratch.text("a")]);
        assert_eq!(scratch.ok(&["check"])["status"], "ok");
        // And the rotation can be begun anew.
        scratch.ok(&["ca", "rotate", kind, "--step", "prepare"]);
        scratch.ok(&["ca", "rotate", kind, "--step", "activate", "--settle", "0s"]);
        scratch.ok(&["renew", "--all"]);
        scratch.ok(&["ca", "rotate", kind, "--step", "retire", "--settle", "0s"]);
    }
}

#[test]
fn a_change_seals_every_key_and_an_interrupted_one_is_finished() {
    let sealed = Sealed::new();
    sealed.ok("good", &["ca", "rotate", "issuer", "--step", "prepare"]);
    let key = |id: &str| sealed.0.path(&format!("pki/authorities/{id}/key.pem"));
    let old = fs::read(key("iss-g1-002")).unwrap();
    let wrong = sealed.change("typo", "new");
    assert_eq!(wrong.code, Some(7), "{}{}", wrong.stdout, wrong.stderr);
    assert_eq!(
        fs::read(key("iss-g1-002")).unwrap(),
        old,
        "nothing was changed"
    );
    assert_eq!(sealed.change("good", "new").code, Some(0));
    let mode = fs::metadata(key("root-g1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // As if the run had died before the last key.
    secret(&key("iss-g1-002"), "");
    fs::write(key("iss-g1-002"), &old).unwrap();
    assert_eq!(sealed.run("new", &["check"]).code, Some(4));
    assert_eq!(sealed.change("good", "new").code, Some(0));
    assert_eq!(sealed.run("new", &["check"]).code, Some(0));
    sealed.ok("new", &["renew", "--due"]);
    sealed.ok(
        "new",
        &[
            "ca", "rotate", "issuer", "--step", "activate", "--settle", "0s",
        ],
    );
    assert_eq!(sealed.run("good", &["crl", "refresh"]).code, Some(7));
    let ended = sealed.run("new", &["passphrase", "change"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("--new-passphrase-fd"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_root_that_is_away_is_named_and_changed_when_it_is_brought() {
    let scratch = Scratch::new();
    secret(&scratch.path("old"), "correct horse");
    secret(&scratch.path("new"), "staple");
    let (usb, old, new) = (
        scratch.text("usb"),
        scratch.text("old"),
        scratch.text("new"),
    );
    let run = |args: &[&str]| scratch.invocation().args(args).run("gapura-pki");
    let init = [
        "init",
        "--trust-domain",
        "test.internal",
        "--offline-root",
        &usb,
    ];
    assert_eq!(
        run(&[&init[..], &["--passphrase-file", &old]].concat()).code,
        Some(0)
    );
    let change = [
        "passphrase",
        "change",
        "--passphrase-file",
        &old,
        "--new-passphrase-file",
        &new,
    ];
    let ended = run(&change);
    assert_eq!(ended.code, Some(3), "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stdout.contains("root-g1  STILL UNDER THE OLD"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        run(&[&change[..], &["--offline-root", &usb]].concat()).code,
        Some(0)
    );
    let refresh = [
        "crl",
        "refresh",
        "--offline-root",
        &usb,
        "--passphrase-file",
    ];
    assert_eq!(run(&[&refresh[..], &[&new]].concat()).code, Some(0));
}

#[test]
fn a_passphrase_file_that_others_can_read_is_refused() {
    let sealed = Sealed::new();
    let chmod = |mode| {
        fs::set_permissions(sealed.0.path("good"), fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o644, 0o604, 0o660, 0o620, 0o602] {
        chmod(mode);
        let ended = sealed.run("good", &["crl", "refresh"]);
        assert_eq!(ended.code, Some(7), "{mode:o}: {}", ended.stdout);
        assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
        let new = sealed.change("new", "good");
        assert_eq!(new.code, Some(7), "as the new one too");
    }
    for mode in [0o600, 0o400] {
        chmod(mode);
        sealed.ok("good", &["crl", "refresh"]);
    }
}
