//! Root keeps the mesh directories of a user who means ill: nothing of root's, or of another
//! directory's, gets into that user's hands, and nobody is held up. The user acts through a child
//! process of its own; without root there is no such thing, and the tests say so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Scratch;

const OTHER: u32 = 65_534;

/// A gateway's directory of root's and a plugin's that belongs to the other user, in folders that
/// user can reach; `None` without root.
#[allow(clippy::print_stderr, reason = "what is not tested is said")]
fn bench() -> Option<Scratch> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: this needs root, to act as two users");
        return None;
    }
    let scratch = Scratch::with_ca();
    fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(scratch.path("lab")).unwrap();
    chown(scratch.path("lab"), Some(OTHER), Some(OTHER)).unwrap();
    for (role, name) in [("gateway", "edge"), ("plugin", "lab"), ("plugin", "other")] {
        scratch.ok(&["issue", role, name, "--out", &scratch.text(name)]);
    }
    Some(scratch)
}

fn as_other(scratch: &Scratch, line: &str) {
    let status = Command::new("sh")
        .args(["-c", line])
        .uid(OTHER)
        .gid(OTHER)
        .current_dir(scratch.path(""))
        .status()
        .unwrap();
    assert!(status.success(), "{line}");
}

/// No file below the user's directory that the user can read holds `secret`.
fn holds(scratch: &Scratch, secret: &[u8]) -> bool {
    let found = Command::new("find")
        .arg(scratch.path("lab"))
        .args(["-type", "f"])
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    text.lines().any(|path| fs::read(path).unwrap() == secret)
}

#[test]
fn a_link_to_a_secret_is_not_followed_by_any_command() {
    let Some(scratch) = bench() else { return };
    let passphrase = scratch.path("passphrase");
    fs::write(&passphrase, "correct horse").unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    let targets = [
        scratch.path("edge/current/key.pem"),
        scratch.path("pki/authorities/iss-g1-001/key.pem"),
        passphrase,
    ];
    for target in targets {
        let secret = fs::read(&target).unwrap();
        let target = target.display();
        for args in [
            &["crl", "refresh"][..],
            &["revoke", "other"],
            &["renew", "--all", "--due"],
            &["check"],
            &["renew", "lab", "--reuse-key"],
        ] {
            as_other(&scratch, &format!("ln -sf {target} lab/current/key.pem"));
            scratch.run(args);
            assert!(!holds(&scratch, &secret), "{args:?} gave {target} away");
            as_other(&scratch, &format!("ln -sf {target} lab/key.pem"));
            scratch.run(args);
            assert!(!holds(&scratch, &secret), "{args:?} gave {target} away");
        }
        let found = fs::metadata(target.to_string()).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o077), (0, 0), "{target}");
    }
    // Nor where `current` itself leads to another's directory.
    let secret = fs::read(scratch.path("edge/key.pem")).unwrap();
    let edge = scratch.text("edge/current");
    as_other(
        &scratch,
        &format!("rm lab/current && ln -s {edge} lab/current"),
    );
    assert_eq!(scratch.run(&["crl", "refresh"]).code, Some(3));
    assert!(!holds(&scratch, &secret));
    // The honest twin: after it is taken away everything is as it should be.
    as_other(&scratch, "rm -f lab/current lab/key.pem");
    scratch.ok(&["renew", "lab"]);
    assert_eq!(scratch.ok(&["check"])["status"], "ok");
    as_other(&scratch, "cat lab/key.pem > /dev/null");
}

#[test]
fn whoever_is_to_be_revoked_cannot_stop_it() {
    let Some(scratch) = bench() else { return };
    for name in ["key.pem", "cert.pem", "crl.pem"] {
        as_other(
            &scratch,
            &format!("rm -f lab/current/{name} && mkfifo lab/current/{name}"),
        );
        let began = Instant::now();
        let found = scratch.run(&["check"]);
        assert_ne!(found.code, Some(0), "{}", found.stdout);
        let refreshed = scratch.run(&["crl", "refresh", "--json"]);
        assert_eq!(refreshed.code, Some(3), "{}", refreshed.stderr);
        let said: serde_json::Value = serde_json::from_str(&refreshed.stdout).unwrap();
        for one in said["republished"].as_array().unwrap() {
            let wanted = match one["name"].as_str().unwrap() {
                "plugin/lab" => "failed",
                _ => "published",
            };
            assert_eq!(one["result"], wanted, "{said}");
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        // It is written over by the next renewal.
        scratch.ok(&["renew", "--all", "--due"]);
        assert_eq!(scratch.ok(&["check"])["status"], "ok");
    }
    as_other(
        &scratch,
        "rm -f lab/current/key.pem && mkfifo lab/current/key.pem",
    );
    let revoked = scratch.run(&["revoke", "lab", "--reason", "key-compromise"]);
    assert_eq!(revoked.code, Some(3), "{}", revoked.stderr);
    let list = fs::read(scratch.path("edge/crl.pem")).unwrap();
    assert!(list == fs::read(scratch.path("other/crl.pem")).unwrap());
    let crl = super::openssl(&[
        "crl",
        "-in",
        &scratch.text("edge/crl.pem"),
        "-noout",
        "-text",
    ])
    .1;
    assert!(
        crl.contains("Serial Number:"),
        "the revocation reached the gateway: {crl}"
    );
}
