//! `--push`, `--exec` and `check --metrics`: what happens beyond this host after a change.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Scratch;

/// A script that notes what it is told of, and fails while the file `down` is there.
fn hook(scratch: &Scratch, name: &str) -> String {
    let path = scratch.path(name);
    let text = format!(
        "#!/bin/sh\n[ ! -e {0}/down ] || exit 7\necho \"$1 $GAPURA_PKI_HOOK_ROLE/$GAPURA_PKI_HOOK_NAME $GAPURA_PKI_HOOK_ID $GAPURA_PKI_HOOK_GENERATION $(openssl x509 -in $GAPURA_PKI_HOOK_DIR/cert.pem -noout -serial)\" >> {0}/{name}.log\necho noise\n",
        scratch.path("").display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn told(scratch: &Scratch, name: &str) -> Vec<String> {
    fs::read_to_string(scratch.path(&format!("{name}.log")))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_directory_that_changed_is_pushed_once_and_a_failed_push_is_repeated() {
    let scratch = Scratch::with_ca();
    let push = format!("{} 'two words'", hook(&scratch, "push"));
    let exec = hook(&scratch, "exec");
    let both = ["--push", push.as_str(), "--exec", exec.as_str()];
    let run = |args: &[&str]| scratch.run(&[args, &both, &["--json"]].concat());
    let (a, b) = (scratch.text("a"), scratch.text("b"));

    assert_eq!(run(&["issue", "plugin", "a", "--out", &a]).code, Some(0));
    let first = told(&scratch, "push");
    assert_eq!(first.len(), 1, "{first:?}");
    let wanted = "two words plugin/a spiffe://test.internal/plugin/a 1 serial=";
    assert!(first[0].starts_with(wanted), "{first:?}");
    assert_eq!(told(&scratch, "exec").len(), 1);

    // What did not change is not told of again.
    assert_eq!(run(&["issue", "plugin", "b", "--out", &b]).code, Some(0));
    assert_eq!(told(&scratch, "push").len(), 2);

    // A change while the other side is down: the run says so, `check` says so, nothing else fails.
    fs::write(scratch.path("down"), "").unwrap();
    let failed = run(&["renew", "a"]);
    assert_eq!(failed.code, Some(3), "{}{}", failed.stdout, failed.stderr);
    let said: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(said["delivered"].as_array().unwrap().len(), 2, "{said}");
    assert_eq!(told(&scratch, "exec").len(), 2, "not before it was pushed");
    let found = scratch.run(&["check"]);
    assert_eq!(found.code, Some(3), "{}", found.stdout);
    assert!(
        found.stdout.contains("PUSH_BEHIND") && found.stdout.contains("exit status: 7"),
        "{}",
        found.stdout
    );

    // The next run, of whatever command, repeats it.
    fs::remove_file(scratch.path("down")).unwrap();
    assert_eq!(run(&["revoke", "b"]).code, Some(0));
    let all = told(&scratch, "push");
    assert!(
        all.iter()
            .any(|line| line.contains("plugin/a") && !first.contains(line)),
        "{all:?}"
    );
    assert_eq!(scratch.run(&["check"]).code, Some(0));
}

#[test]
fn a_change_without_the_flag_is_pushed_by_the_next_run_with_it() {
    let scratch = Scratch::with_ca();
    let push = hook(&scratch, "push");
    let a = scratch.text("a");
    scratch.ok(&["issue", "plugin", "a", "--out", &a, "--push", &push]);
    scratch.ok(&["renew", "a"]);
    assert_eq!(scratch.run(&["check"]).code, Some(3));
    scratch.ok(&["renew", "--all", "--due", "--push", &push]);
    assert_eq!(told(&scratch, "push").len(), 2);
    assert_eq!(scratch.run(&["check"]).code, Some(0));
}

#[test]
fn a_command_that_is_none_is_told_before_anything_is_done() {
    let scratch = Scratch::with_ca();
    let a = scratch.text("a");
    for bad in ["", "push 'a"] {
        scratch.fails(2, &["issue", "plugin", "a", "--out", &a, "--push", bad]);
        assert!(!scratch.path("a").exists());
    }
    let ended = scratch.run(&[
        "issue",
        "plugin",
        "a",
        "--out",
        &a,
        "--push",
        "/no/such program",
    ]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("can't be started"),
        "{}",
        ended.stdout
    );
}

#[test]
fn metrics_say_what_is_left_and_when_all_was_well() {
    let scratch = Scratch::with_ca();
    let a = scratch.text("a");
    scratch.ok(&["issue", "plugin", "a", "--out", &a]);
    let file = scratch.text("pki.prom");
    scratch.ok(&["check", "--metrics", &file]);
    assert!(!fs::read_to_string(&file).unwrap().contains("last_success"));
    scratch.ok(&["renew", "--all", "--due"]);
    scratch.ok(&["check", "--metrics", &file]);
    let text = fs::read_to_string(&file).unwrap();
    let value = |start: &str| -> i64 {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let month = 30 * 86_400;
    let leaf = format!("gapura_pki_leaf_seconds_left{{name=\"plugin/a\",dir=\"{a}\"}}");
    assert!((month - 600..=month).contains(&value(&leaf)), "{text}");
    assert!(value("gapura_pki_ca_seconds_left{ca=\"root-g1\"}") > 9 * 365 * 86_400);
    assert!(value("gapura_pki_crl_seconds_left{ca=\"iss-g1-001\"}") > month - 600);
    assert_eq!(value("gapura_pki_pushes_failed"), 0);
    assert_eq!(value("gapura_pki_findings{level=\"critical\"}"), 0);
    assert!(value("gapura_pki_last_success_timestamp_seconds") > 1_700_000_000);
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644);
    let sentence = scratch.fails(2, &["check", "--metrics", &scratch.text("none/pki.prom")]);
    assert!(sentence.contains("there is no folder"), "{sentence}");
}
