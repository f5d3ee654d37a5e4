//! The inventory stays whole, whoever writes at the same time, whatever dies in the middle, and
//! whoever edits it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gapura_tests::program::built;

use super::{Scratch, judged_by_openssl, openssl};

fn lines(scratch: &Scratch) -> u64 {
    scratch.ok(&["inventory", "verify"])["lines"]
        .as_u64()
        .unwrap()
}

#[test]
fn twenty_runs_at_once_all_get_their_certificate_and_keep_the_record_whole() {
    let scratch = Scratch::with_ca();
    let before = lines(&scratch);
    std::thread::scope(|scope| {
        for number in 0..20 {
            let scratch = &scratch;
            scope.spawn(move || {
                let name = format!("p{number}");
                scratch.ok(&["issue", "plugin", &name, "--out", &scratch.text(&name)]);
            });
        }
    });
    assert_eq!(lines(&scratch), before + 20);
    let list = scratch.ok(&["list"]);
    let certificates = list["certificates"].as_array().unwrap();
    let serials: HashSet<&str> = certificates
        .iter()
        .map(|one| one["serial"].as_str().unwrap())
        .collect();
    assert_eq!(serials.len(), 20);
    for number in 0..20 {
        assert!(judged_by_openssl(&scratch.path(&format!("p{number}")), "sslserver").0);
    }
    assert_eq!(scratch.ok(&["check"])["status"], "ok");
}

#[test]
fn a_run_that_may_not_wait_says_who_is_in_the_way() {
    let scratch = Scratch::with_ca();
    let lock = fs::File::options()
        .write(true)
        .open(scratch.path("pki/.lock"))
        .unwrap();
    lock.lock().unwrap();
    let sentence = scratch.fails(6, &["issue", "plugin", "a", "--lock-timeout", "0s"]);
    assert!(
        sentence.contains("another run holds") && sentence.contains("--lock-timeout"),
        "{sentence}"
    );
    scratch.ok(&["list"]);
    drop(lock);
    scratch.ok(&["issue", "plugin", "a"]);
}

/// Starts the command and kills it at `moment`, unless it has ended by itself. Says whether it
/// died.
fn killed(scratch: &Scratch, args: &[&str], moment: Duration) -> bool {
    let mut child = Command::new(built("gapura-pki"))
        .args(args)
        .env("GAPURA_PKI_DIR", scratch.path("pki"))
        .env("GAPURA_PKI_PLAINTEXT_KEYS", "true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(moment); // the moment of death, not a wait for something
    let _ = child.kill(); // SIGKILL
    !child.wait().unwrap().success()
}

/// Everything a reader may meet in a mesh directory is nothing, or one whole set.
fn whole_or_nothing(dir: &Path) -> bool {
    if !dir.join("cert.pem").exists() {
        return false;
    }
    let (good, said) = judged_by_openssl(dir, "sslserver");
    assert!(good, "{}: {said}", dir.display());
    let public = |args: &[&str]| openssl(args).1;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let of_cert = public(&["x509", "-in", cert.to_str().unwrap(), "-noout", "-pubkey"]);
    assert_eq!(
        of_cert,
        public(&["pkey", "-in", key.to_str().unwrap(), "-pubout"]),
        "{}",
        dir.display()
    );
    true
}

#[test]
fn killed_at_any_moment_nothing_is_half_written() {
    let scratch = Scratch::with_ca();
    let out = scratch.text("m");
    let began = Instant::now();
    scratch.ok(&["issue", "plugin", "a", "--out", &out]);
    let whole_run = began.elapsed();
    let (mut died, mut kept) = (0, 0);
    for round in 0..48 {
        let name = scratch.text(&format!("n{}", round % 7));
        let args: &[&str] = match round % 3 {
            0 => &["issue", "plugin", "a", "--out", &out],
            1 => &["issue", "plugin", "b", "--out", &name],
            _ => &["renew", "--all"],
        };
        // A run that finds more directories than the first one did, or has to mend some, takes
        // longer than it.
        died += u32::from(killed(&scratch, args, whole_run * (round % 20) / 8));
        assert!(
            whole_or_nothing(&scratch.path("m")),
            "the set that was there is gone"
        );
        kept += u32::from(round % 3 == 1 && whole_or_nothing(name.as_ref()));
        lines(&scratch); // the record reads, every time
    }
    assert!(
        died > 5,
        "only {died} runs were caught in the middle; the test proves nothing"
    );
    assert!(kept > 0, "every run was caught; the test proves nothing");
    // The next run sweeps up, and nothing needs mending by hand.
    scratch.ok(&["renew", "--all"]);
    let hidden = |dir: &Path| {
        fs::read_dir(dir)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with(".new-")
            })
            .count()
    };
    assert_eq!(
        (hidden(&scratch.path("m")), hidden(&scratch.path("pki"))),
        (0, 0)
    );
    // A directory whose first certificate was caught before it got its name counts as well.
    let found = scratch.run(&["check"]);
    assert_eq!(found.code, Some(0), "{}", found.stdout);
}

#[test]
fn an_init_that_was_killed_can_be_begun_anew() {
    let began = Instant::now();
    Scratch::with_ca();
    let whole_run = began.elapsed();
    let mut died = 0;
    for round in 0..20 {
        let scratch = Scratch::new();
        died += u32::from(killed(
            &scratch,
            &["init", "--trust-domain", "test.internal"],
            whole_run * round / 16,
        ));
        if !scratch.path("pki/pki.json").exists() {
            scratch.ok(&["init", "--trust-domain", "test.internal"]);
        }
        scratch.ok(&["issue", "plugin", "a"]);
        assert_eq!(scratch.ok(&["check"])["status"], "ok");
    }
    assert!(
        died > 1,
        "no run was caught in the middle; the test proves nothing"
    );
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let scratch = Scratch::with_ca();
    let out = scratch.text("a");
    scratch.ok(&["issue", "plugin", "a", "--out", &out]);
    let (record, cert) = (
        scratch.path("pki/inventory.jsonl"),
        scratch.path("a/cert.pem"),
    );
    let before = (fs::read(&record).unwrap(), fs::read(&cert).unwrap());
    // A write beyond the limit fails like one to a full disk, after a part of it was written. At 1
    // block no certificate fits; at the size of the record all of them do, and the record is what
    // fails.
    let blocks = (before.0.len() / 512).max(4);
    for limit in [1, blocks] {
        let script =
            format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" issue plugin a --out \"$1\"");
        let output = Command::new("sh")
            .args(["-c", &script, built("gapura-pki").to_str().unwrap(), &out])
            .env("GAPURA_PKI_DIR", scratch.path("pki"))
            .env("GAPURA_PKI_PLAINTEXT_KEYS", "true")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "limit {limit}: {said}");
        assert!(
            said.contains("cannot") && said.contains("File too large"),
            "{said}"
        );
        assert_eq!(
            (fs::read(&record).unwrap(), fs::read(&cert).unwrap()),
            before,
            "limit {limit}"
        );
    }
    scratch.ok(&["issue", "plugin", "a", "--out", &out]);
    lines(&scratch);
}

#[test]
fn an_inventory_edited_by_hand_is_refused_by_every_command_and_restored() {
    let scratch = Scratch::with_ca();
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
    ]);
    scratch.ok(&["backup", &scratch.text("backup.tar")]);
    scratch.ok(&[
        "issue",
        "plugin",
        "orders",
        "--out",
        &scratch.text("orders"),
    ]);
    scratch.ok(&["revoke", "orders"]);
    let record = scratch.path("pki/inventory.jsonl");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(
        &record,
        text.replacen("\"name\":\"billing\"", "\"name\":\"invoice\"", 1),
    )
    .unwrap();
    for args in [
        &["list"][..],
        &["issue", "plugin", "x"],
        &["revoke", "billing"],
        &["check"],
        &["inventory", "verify"],
    ] {
        let sentence = scratch.fails(1, args);
        assert!(
            sentence.contains("line 6 was changed") && sentence.contains("gapura-pki restore"),
            "{args:?}: {sentence}"
        );
    }
    let ended = scratch.run(&["restore", &scratch.text("backup.tar"), "--json"]);
    let done: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, &done["kept_revocations"], &done["lost_leaves"]),
        (Some(3), &1.into(), &1.into()),
        "{done}"
    );
    scratch.ok(&["crl", "refresh"]);
    let (good, said) = judged_by_openssl(&scratch.path("billing"), "sslserver");
    assert!(good, "{said}");
    let crl = openssl(&[
        "crl",
        "-in",
        &scratch.text("billing/crl.pem"),
        "-noout",
        "-text",
    ])
    .1;
    assert!(
        crl.contains("Serial Number:"),
        "the revocation that only the edited record knew of is gone: {crl}"
    );
    lines(&scratch);
}

#[test]
fn a_restore_never_goes_back_from_a_sound_state() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["backup", &scratch.text("backup.tar")]);
    scratch.ok(&["issue", "plugin", "a"]);
    let sentence = scratch.fails(5, &["restore", &scratch.text("backup.tar")]);
    assert!(
        sentence.contains("is sound and has 6 events, the backup 5"),
        "{sentence}"
    );
    let into = scratch.text("elsewhere");
    scratch.ok(&["--dir", &into, "restore", &scratch.text("backup.tar")]);
    scratch.ok(&[
        "--dir",
        &into,
        "issue",
        "plugin",
        "b",
        "--out",
        &scratch.text("b"),
    ]);
    assert!(judged_by_openssl(&scratch.path("b"), "sslserver").0);
    fs::write(
        scratch.path("backup.tar"),
        &fs::read(scratch.path("backup.tar")).unwrap()[..3000],
    )
    .unwrap();
    assert!(
        scratch
            .fails(
                1,
                &[
                    "--dir",
                    &scratch.text("third"),
                    "restore",
                    &scratch.text("backup.tar")
                ]
            )
            .contains("not a backup")
    );
}

#[test]
fn a_revocation_reaches_every_mesh_directory_and_says_which_it_did_not() {
    let scratch = Scratch::with_ca();
    for name in ["a", "b", "c"] {
        scratch.ok(&["issue", "plugin", name, "--out", &scratch.text(name)]);
    }
    fs::remove_dir_all(scratch.path("b")).unwrap();
    let ended = scratch.run(&["revoke", "c", "--json"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    let done: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let results: Vec<&str> = done["republished"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["published", "missing", "published"]);
    assert!(
        !scratch.path("b").exists(),
        "what was taken down is not put up again"
    );
    let ended = scratch.run(&["renew", "--all", "--json"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    let renewed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let skipped = renewed["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    let said = scratch.run(&["crl", "refresh"]).stdout;
    assert!(
        said.contains("MISSING") && said.contains("gapura-pki forget plugin/b"),
        "{said}"
    );
    // Nobody waits for what was forgotten, or for what was revoked.
    scratch.ok(&["forget", "b", "--reason", "taken down"]);
    fs::remove_dir_all(scratch.path("c")).unwrap();
    for args in [&["renew", "--all"][..], &["crl", "refresh"]] {
        scratch.ok(args);
    }
}
