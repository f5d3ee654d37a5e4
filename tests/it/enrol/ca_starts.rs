//! How a CA server begins and ends, and what it says of what is missing.

use std::time::Duration;

use gapura_tests::program::Invocation;

use super::host::{Answer, Host, alarms, page};

#[test]
fn every_fault_is_named_before_anything_is_bound() {
    let host = Host::new();
    let bare = || {
        Invocation::new()
            .flag("--listen", "127.0.0.1:0")
            .flag("--admin", "127.0.0.1:0")
    };
    let fails = |invocation: Invocation| {
        let ended = invocation.run("gapura-ca");
        assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
        ended.stderr
    };
    let said = fails(bare());
    assert!(
        said.contains("--mesh-dir") && said.contains("gapura-pki issue pki"),
        "{said}"
    );
    let said = fails(
        bare()
            .flag("--dir", host.path("none"))
            .flag("--mesh-dir", host.path("none")),
    );
    assert!(
        said.contains("--dir") && said.lines().count() >= 2,
        "both are named: {said}"
    );
    // Of another installation.
    let other = Host::new();
    let pki = other.text("pki-2");
    let ended = Invocation::new()
        .env("GAPURA_PKI_PLAINTEXT_KEYS", "true")
        .args(&["--dir", &pki, "init", "--trust-domain", "other.internal"])
        .run("gapura-pki");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = fails(
        bare()
            .flag("--dir", &pki)
            .flag("--mesh-dir", host.path("ca-1")),
    );
    assert!(
        said.contains("other.internal") && said.contains("test.internal"),
        "{said}"
    );
    // Without the issuing CA's key.
    let key = host.path("pki/authorities/iss-g1-001/key.pem");
    std::fs::rename(&key, host.path("key")).unwrap();
    let said = fails(host.invocation());
    assert!(
        said.contains("iss-g1-001") && said.contains("key"),
        "{said}"
    );
    std::fs::rename(host.path("key"), &key).unwrap();
    let good = host.invocation().arg("--check").run("gapura-ca");
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(good.stdout.contains("\"ttl\""), "{}", good.stdout);
}

#[test]
fn the_roots_key_is_not_needed_and_the_passphrase_is() {
    let host = Host::new();
    let (dir, root) = (host.text("sealed"), host.text("stick"));
    let pass = host.path("pass");
    std::fs::write(&pass, "a passphrase of some length\n").unwrap();
    std::fs::set_permissions(&pass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pass = pass.to_str().unwrap();
    let pki = |args: &[&str]| {
        let words = ["--dir", &dir, "--passphrase-file", pass];
        let ended = Invocation::new().args(&words).args(args).run("gapura-pki");
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    };
    pki(&[
        "init",
        "--trust-domain",
        "sealed.internal",
        "--offline-root",
        &root,
    ]);
    pki(&["issue", "pki", "ca", "--out", &host.text("sealed-ca")]);
    std::fs::rename(&root, host.path("stick-is-away")).unwrap();
    let bare = Invocation::new()
        .flag("--dir", &dir)
        .flag("--mesh-dir", host.path("sealed-ca"))
        .flag("--listen", "127.0.0.1:0")
        .flag("--admin", "127.0.0.1:0");
    let ended = bare.clone().run("gapura-ca");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("--passphrase-file"),
        "{}",
        ended.stderr
    );
    let ca = host.start_with(bare.flag("--passphrase-file", pass));
    assert_eq!(page(&ca, "/readyz").status, 200);
}

#[test]
fn while_another_command_holds_the_record_a_request_waits_and_then_goes_on() {
    let host = Host::new();
    let ca = host.start();
    let token = host.token(&["plugin", "billing"]);
    host.request("billing", &[]);
    // flock(1) takes the very lock that gapura-pki takes by hand.
    let lock = host.text("pki/.lock");
    let mut holder = std::process::Command::new("flock")
        .args([&lock, "sh", "-c", "echo held; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("flock is installed");
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    let (user, body) = (token.user(), format!("@{}", host.text("billing.csr")));
    let words = ["--user", &user, "--data-binary", &body];
    let waiting = host.curling(&ca, "/.well-known/est/simpleenroll", &words);
    gapura_tests::eventually("it waits", || {
        (super::host::metric(&ca, "gapura_ca_requests_waiting ") == 1.0).then_some(())
    });
    assert!(
        host.listed("billing").is_empty(),
        "nothing is written without the lock"
    );
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(Answer::of(waiting).status, 200);
}

#[test]
fn a_record_that_can_not_be_written_is_an_alarm_and_nothing_is_lost() {
    let host = Host::new();
    let ca = host.start();
    let token = host.token(&["plugin", "billing"]);
    host.request("billing", &[]);
    // A folder where the head is to be replaced fails for root too, as a full disk does.
    let temporary = host.path("pki/inventory.head");
    let before = std::fs::read(&temporary).unwrap();
    let inventory = std::fs::read(host.path("pki/inventory.jsonl")).unwrap();
    std::fs::write(
        host.path("pki/inventory.jsonl"),
        &inventory[..inventory.len() / 2],
    )
    .unwrap();
    let (code, why) = host.enrol(&ca, &token, "billing").refused(503);
    assert_eq!(code, "unavailable");
    assert!(
        !why.contains("inventory"),
        "what is for the operator stands in the log: {why}"
    );
    let alarm = ca.wait_for_line("the alarm", |line| line["name"] == "issuing");
    assert!(
        alarm["message"]
            .as_str()
            .unwrap()
            .contains("inventory.jsonl"),
        "{alarm}"
    );
    assert_eq!(page(&ca, "/readyz").status, 503);
    // Put back what was there, as it says.
    std::fs::write(host.path("pki/inventory.jsonl"), &inventory).unwrap();
    assert_eq!(std::fs::read(&temporary).unwrap(), before);
    assert_eq!(
        host.enrol(&ca, &token, "billing").status,
        200,
        "the token was not used up"
    );
    gapura_tests::eventually("the alarms end", || alarms(&ca).is_empty().then_some(()));
    assert_eq!(page(&ca, "/readyz").status, 200);
}

#[test]
fn whoever_waits_for_news_is_answered_when_the_server_goes() {
    let host = Host::new();
    let mut ca = host.start();
    host.join(&ca, "billing");
    let shown = host.shown("billing");
    let words: Vec<&str> = shown.iter().map(String::as_str).collect();
    let generation = host.curl(&ca, "/v1/trust", &words).json()["generation"].clone();
    let path = format!("/v1/trust?after={}", generation.as_str().unwrap());
    let waiting = host.curling(&ca, &path, &words);
    gapura_tests::eventually("it waits", || {
        (super::host::metric(&ca, "gapura_ca_polls ") == 1.0).then_some(())
    });
    ca.signal("TERM");
    assert_eq!(Answer::of(waiting).json()["generation"], generation);
    assert!(ca.wait_for_end(Duration::from_secs(50)).success());
}
