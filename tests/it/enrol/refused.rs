//! What goes wrong, and what is said about it: one clear sentence each, and what is there stays in
//! force.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use gapura_protocol::clock::{Clock, Rfc3339};
use gapura_tests::inside::Inside;
use gapura_tests::program::{Ended, Program};
use gapura_tests::{eventually, within};

use super::impostor::Impostor;
use super::{Installation, PATIENT, alarm, page, secret, serial};

/// What `--once` says for the mesh directory `name` with this token.
fn once(installation: &Installation, name: &str, token: &PathBuf) -> Ended {
    installation
        .agent(name)
        .flag("--token-file", token)
        .arg("--once")
        .run("gapura-agent")
}

/// It fails with `code`, and says all of `wanted`.
#[track_caller]
fn says(ended: &Ended, code: i32, wanted: &[&str]) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{said}");
    for wanted in wanted {
        assert!(ended.stderr.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(
        ended.stderr.trim().lines().count(),
        1,
        "one sentence: {said}"
    );
}

#[test]
fn a_token_is_good_once_in_time_and_for_its_own_identity_and_root() {
    let installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &[]);
    assert_eq!(once(&installation, "echo", &token).code, Some(0));
    // Twice: another host has another key.
    let twice = once(&installation, "copy", &token);
    says(&twice, 1, &["token_used", "gapura-pki token"]);
    assert!(!installation.path("copy").exists());
    // Late.
    let late = installation.token("plugin", "late", &["--ttl", "1s"]);
    let made = Instant::now();
    within(PATIENT, "its time is over", || {
        (made.elapsed() > Duration::from_secs(3)).then_some(())
    });
    let ended = once(&installation, "late", &late);
    says(
        &ended,
        1,
        &["the join token ended at", "gapura-pki token plugin late"],
    );
    // For another identity than the directory holds.
    let other = installation.token("plugin", "other", &[]);
    let ended = once(&installation, "echo", &other);
    says(&ended, 2, &["plugin/other", "plugin/echo", "own directory"]);
    // Of another CA: the root is not the one it names.
    let elsewhere = Installation::start("24h");
    let foreign = elsewhere.token("plugin", "echo", &[]);
    let ended = once(&installation, "foreign", &foreign);
    says(&ended, 1, &["SHA-256", "that the join token names"]);
    // Cut, and open to others.
    let text = fs::read_to_string(&other).unwrap();
    let cut = installation.path("cut.token");
    secret(&cut, &text[..text.len() - 9]);
    says(
        &once(&installation, "cut", &cut),
        2,
        &["--token-file", "cut"],
    );
    let ended = installation.agent("none").arg("--once").run("gapura-agent");
    says(&ended, 2, &["holds no certificate", "gapura-pki token"]);
}

#[test]
fn a_secret_of_a_token_stands_in_no_line() {
    let installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &[]);
    let text = fs::read_to_string(&token).unwrap();
    let mut agent = installation
        .agent("echo")
        .flag("--token-file", &token)
        .start("gapura-agent");
    agent.wait_until_started();
    let _ = agent.wait_for_event("published");
    let (_, inside) = text.trim().split_once('.').unwrap();
    let ca = installation.ca.as_ref().unwrap();
    for said in [
        agent.log_text(),
        agent.errors(),
        ca.log_text(),
        ca.errors(),
        page(&agent, "/status").to_string(),
    ] {
        assert!(
            !said.contains(inside) && !said.contains(&inside[20..60]),
            "{said}"
        );
    }
}

#[test]
fn a_ca_server_that_is_down_harms_nobody_and_is_found_again() {
    let mut installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &[]);
    let mut agent = installation
        .agent("echo")
        .flag("--token-file", token)
        .flag("--news-alarm", "3s")
        .start("gapura-agent");
    agent.wait_until_started();
    let _ = agent.wait_for_event("published");
    let address = installation.address.to_string();
    drop(installation.ca.take());
    let line = agent.wait_for_line("it is away", |line| line["event"] == "news_failed");
    let told = line["message"].as_str().unwrap();
    assert!(told.contains("can't be reached"), "{told}");
    let told = within(PATIENT, "the alarm", || alarm(&agent, "news"));
    assert!(told.contains("nothing was heard of the CA"), "{told}");
    // It comes back, with a revocation that was made meanwhile.
    installation.pki(&[
        "issue",
        "plugin",
        "gone",
        "--out",
        &installation.text("gone"),
    ]);
    installation.pki(&["revoke", "plugin/gone"]);
    let ca = installation.server("24h", &address).start("gapura-ca");
    installation.serve(ca);
    within(PATIENT, "it is heard again", || {
        (alarm(&agent, "news").is_none()
            && page(&agent, "/certificates")["crls"]
                .to_string()
                .contains("\"revoked\":1"))
        .then_some(())
    });
}

#[test]
fn a_certificate_that_ended_takes_a_new_token_and_says_so() {
    let mut installation = Installation::start("12s");
    let token = installation.token("plugin", "echo", &[]);
    let mut agent = installation
        .agent("echo")
        .flag("--token-file", &token)
        .start("gapura-agent");
    agent.wait_until_started();
    let _ = agent.wait_for_event("published");
    let first = serial(&installation, "echo");
    let address = installation.address.to_string();
    drop(installation.ca.take());
    let told = within(PATIENT, "it has ended", || {
        alarm(&agent, "certificate").filter(|told| told.contains("has ended"))
    });
    assert!(told.contains("gapura-pki token plugin echo"), "{told}");
    let ca = installation.server("24h", &address).start("gapura-ca");
    installation.serve(ca);
    let renewal = within(PATIENT, "it can't renew", || {
        let failed = &page(&agent, "/status")["failed"]["certificate"]["message"];
        failed
            .as_str()
            .filter(|why| why.contains("token_used"))
            .map(str::to_owned)
    });
    assert!(
        renewal.contains("gapura-pki token plugin echo"),
        "{renewal}"
    );
    // What is public it hears all the same.
    installation.pki(&[
        "issue",
        "plugin",
        "gone",
        "--out",
        &installation.text("gone"),
    ]);
    installation.pki(&["revoke", "plugin/gone"]);
    agent_hears_as_nobody(&agent);
    // What an operator brings is found without a restart.
    installation.token("plugin", "echo", &[]);
    within(PATIENT, "it is back", || {
        (alarm(&agent, "certificate").is_none() && serial(&installation, "echo") != first)
            .then_some(())
    });
}

fn agent_hears_as_nobody(agent: &Program) {
    within(PATIENT * 2, "it hears without its certificate", || {
        let news = &page(agent, "/status")["news"];
        (news["by_certificate"] == false && revoked_at(agent) == Some(1)).then_some(())
    });
    assert_eq!(alarm(agent, "news"), None);
}

/// An agent that holds a revocation, beside a CA whose host was put back to a snapshot of before
/// it.
fn put_back() -> (Installation, Program, String) {
    let mut installation = Installation::start("24h");
    let agent = installation.joined("plugin", "echo");
    let address = installation.address.to_string();
    // All of the CA's host, as a snapshot has it.
    for name in ["pki", "ca1"] {
        let copied = Command::new("cp")
            .arg("-a")
            .args([
                installation.path(name),
                installation.path(&format!("old-{name}")),
            ])
            .status();
        assert!(copied.unwrap().success());
    }
    installation.pki(&[
        "issue",
        "plugin",
        "gone",
        "--out",
        &installation.text("gone"),
    ]);
    let gone = serial(&installation, "gone");
    installation.pki(&["revoke", "plugin/gone"]);
    within(PATIENT, "the revocation is here", || {
        (revoked_at(&agent) == Some(1)).then_some(())
    });
    drop(installation.ca.take());
    for name in ["pki", "ca1", "gone"] {
        fs::rename(
            installation.path(name),
            installation.path(&format!("new-{name}")),
        )
        .unwrap();
    }
    for name in ["pki", "ca1"] {
        fs::rename(
            installation.path(&format!("old-{name}")),
            installation.path(name),
        )
        .unwrap();
    }
    installation.address = address.parse().unwrap();
    (installation, agent, gone)
}

/// How many serials the issuing CA's list names by which an agent's host goes.
fn revoked_at(agent: &Program) -> Option<u64> {
    let page = page(agent, "/certificates");
    let lists = page["crls"].as_array()?.iter();
    Some(lists.filter_map(|list| list["revoked"].as_u64()).sum())
}

#[track_caller]
fn is_reminded(installation: &mut Installation, agent: &Program, gone: &str) {
    let ca = installation.server("24h", &installation.address.to_string());
    installation.serve(ca.start("gapura-ca"));
    let ca = installation.ca.as_ref().unwrap();
    let line = ca.wait_for_line("the record is reminded", |line| {
        line["event"] == "remembered" && line["what"].to_string().contains(gone)
    });
    assert_eq!(line["id"], "spiffe://test.internal/plugin/echo");
    // The CA tells everybody again, and the agent takes what it tells.
    within(PATIENT, "the agent goes on", || {
        let page = page(agent, "/status");
        let well = page["failed"]["news"].is_null() && page["alarms"] == serde_json::json!([]);
        well.then_some(())
    });
    let shown = installation.pki(&["crl", "show"]);
    let listed = shown["crls"].to_string().contains(gone);
    assert!(listed, "the CA's own list names it again: {shown}");
    assert_eq!(revoked_at(agent), Some(1));
    let told = agent.wait_for_line("what happened is told", |line| {
        line["event"] == "news_failed" && line["reason"] == "rolled_back"
    });
    let told = told["message"].as_str().unwrap();
    assert!(
        told.contains("older backup") && told.contains("knows it again"),
        "{told}"
    );
}

#[test]
fn a_ca_that_was_put_back_to_a_backup_is_reminded_of_whom_it_had_revoked() {
    let (mut installation, agent, gone) = put_back();
    is_reminded(&mut installation, &agent, &gone);
}

#[test]
fn a_ca_that_forgot_a_revocation_and_signed_anew_is_reminded_too() {
    let (mut installation, agent, gone) = put_back();
    // Its number follows the clock, and is higher than that of the list that names the serial.
    installation.pki(&["crl", "refresh"]);
    let shown = installation.pki(&["crl", "show"]);
    assert!(!shown["crls"].to_string().contains(&gone), "{shown}");
    is_reminded(&mut installation, &agent, &gone);
}

#[test]
fn how_old_the_news_are_is_known_after_a_restart() {
    let mut installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &[]);
    let start = |installation: &Installation| {
        let agent = installation.agent("echo").flag("--token-file", &token);
        let mut agent = agent.start("gapura-agent");
        agent.wait_until_started();
        agent
    };
    let heard = installation.path("echo.state/heard-at");
    let agent = start(&installation);
    within(PATIENT, "it is written down", || {
        heard.exists().then_some(())
    });
    drop(agent);
    let address = installation.address.to_string();
    drop(installation.ca.take());
    // As if the host had been off for a day.
    let day_ago = gapura_protocol::clock::from_unix(Clock::system().unix() - 86_400);
    let day_ago = Rfc3339(day_ago).to_string();
    fs::write(&heard, &day_ago).unwrap();
    let agent = start(&installation);
    let told = within(PATIENT, "the alarm", || alarm(&agent, "news"));
    assert!(told.contains("nothing was heard of the CA"), "{told}");
    let status = page(&agent, "/status");
    assert_eq!(status["news"]["heard_at"], day_ago.as_str());
    assert!(status["news"]["age_seconds"].as_u64().unwrap() >= 86_400);
    let ca = installation.server("24h", &address).start("gapura-ca");
    installation.serve(ca);
    within(PATIENT, "it is heard again", || {
        alarm(&agent, "news").is_none().then_some(())
    });
    drop(agent);
    // The twin: what is fresh is no alarm, with the CA away or not.
    drop(installation.ca.take());
    let agent = start(&installation);
    let _ = agent.wait_for_event("news_failed");
    assert_eq!(alarm(&agent, "news"), None);
}

#[test]
fn a_ca_server_whose_own_certificate_ended_is_named() {
    let mut installation = Installation::bare();
    installation.pki(&[
        "issue",
        "pki",
        "short",
        "--ttl",
        "20s",
        "--out",
        &installation.text("short"),
    ]);
    let server = |name: &str, listen: &str| {
        gapura_tests::program::Invocation::new()
            .flag("--dir", installation.path("pki"))
            .flag("--mesh-dir", installation.path(name))
            .flag("--listen", listen)
            .flag("--admin", "127.0.0.1:0")
    };
    let ca = server("short", "127.0.0.1:0").start("gapura-ca");
    let next = server("ca1", &ca.address("enrol").to_string());
    installation.serve(ca);
    let agent = installation.joined("plugin", "echo");
    let told = within(PATIENT, "the alarm", || alarm(&agent, "news"));
    for wanted in [
        "out of date by our clock",
        "the certificate ended at",
        "gapura-pki renew",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    drop(installation.ca.take());
    installation.serve(next.start("gapura-ca"));
    within(PATIENT, "it is heard again", || {
        alarm(&agent, "news").is_none().then_some(())
    });
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &["--ttl", "7d"]);
    const DAY: i64 = 86_400;
    for (name, shift, wanted) in [
        ("ahead", 3 * DAY, "our clock says"),
        ("behind", -3 * DAY, "after our clock"),
    ] {
        let agent = Inside::agent(
            &[
                ("--ca", &installation.url()),
                ("--mesh-dir", &installation.text(name)),
                ("--state-dir", &installation.text(&format!("{name}.state"))),
                ("--token-file", token.to_str().unwrap()),
                ("--admin", "127.0.0.1:0"),
            ],
            shift,
        );
        let line = eventually("the alarm", || {
            let log = agent.log();
            log.into_iter()
                .find(|line| line["event"] == "alarm" && line["name"] == "clock")
        });
        let told = line["message"].as_str().unwrap();
        assert!(
            told.contains(wanted) && told.contains("NTP"),
            "{name}: {told}"
        );
        assert!(!installation.path(name).exists(), "nothing is written");
        // Put right, it goes on by itself.
        agent.clock.shift(0);
        within(PATIENT, "the certificate comes", || {
            installation
                .path(name)
                .join("cert.pem")
                .exists()
                .then_some(())
        });
        installation.pki(&["revoke", "plugin/echo"]);
        installation.token("plugin", "echo", &["--ttl", "7d"]);
    }
}

#[test]
fn a_clock_that_jumps_a_year_is_named_and_changes_nothing_that_is_there() {
    let installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &[]);
    let agent = Inside::agent(
        &[
            ("--ca", &installation.url()),
            ("--mesh-dir", &installation.text("echo")),
            ("--state-dir", &installation.text("echo.state")),
            ("--token-file", token.to_str().unwrap()),
            ("--admin", "127.0.0.1:0"),
        ],
        0,
    );
    let cert = installation.path("echo").join("cert.pem");
    within(PATIENT, "the certificate comes", || {
        cert.exists().then_some(())
    });
    let status = || agent.admin("/status").json();
    let is_well = || {
        let status = status();
        (status["alarms"] == serde_json::json!([]) && status["failed"] == serde_json::json!({}))
            .then_some(())
    };
    within(PATIENT, "all is well", is_well);
    let before = fs::read(&cert).unwrap();
    const YEAR: i64 = 365 * 86_400;
    for shift in [YEAR, -YEAR] {
        agent.clock.shift(shift);
        // What waits for news goes on waiting; whoever is asked to look anew sees it.
        installation.pki(&["crl", "refresh"]);
        let told = within(PATIENT, "the alarm", || {
            let status = status();
            let alarms = status["alarms"].as_array().unwrap().clone();
            let clock = alarms.into_iter().find(|alarm| alarm["name"] == "clock")?;
            clock["message"].as_str().map(str::to_owned)
        });
        assert!(told.contains("NTP"), "{shift}: {told}");
        assert_eq!(fs::read(&cert).unwrap(), before, "{shift}");
        agent.clock.shift(0);
        within(PATIENT * 2, "all is well again", is_well);
        assert_eq!(fs::read(&cert).unwrap(), before, "{shift}");
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let installation = Installation::start("24h");
    let small = installation.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: no tmpfs can be mounted here");
        return;
    }
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(small.clone());
    let filler = small.join("filler");
    let fill = || {
        // As much as there is room for.
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=4096", "status=none"])
            .arg(format!("of={}", filler.display()))
            .status();
    };
    let token = installation.token("plugin", "echo", &[]);
    let agent = gapura_tests::program::Invocation::new()
        .flag("--ca", installation.url())
        .flag("--mesh-dir", small.join("echo"))
        .flag("--state-dir", installation.path("echo.state"))
        .flag("--token-file", &token);
    fill();
    let failed = agent.clone().arg("--once").run("gapura-agent");
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(failed.stderr.contains("--mesh-dir"), "{}", failed.stderr);
    fs::remove_file(&filler).unwrap();
    // The same token, the same key, the same certificate: there is room again.
    let done = agent.arg("--once").run("gapura-agent");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let listed = installation.pki(&["list", "--name", "plugin/echo"]);
    assert_eq!(
        listed["certificates"].as_array().unwrap().len(),
        1,
        "{listed}"
    );
}

#[test]
fn another_installation_at_the_same_address_is_not_believed() {
    let mut installation = Installation::start("24h");
    let agent = installation.joined("plugin", "echo");
    let elsewhere = Installation::bare();
    let address = installation.address.to_string();
    drop(installation.ca.take());
    let impostor = Impostor::start(
        &elsewhere.path("ca1"),
        &elsewhere.path("ca1").join("ca.pem"),
        &address,
    );
    let line = agent.wait_for_line("the refusal", |line| {
        line["event"] == "news_failed" && line["reason"] == "distrusted"
    });
    assert!(
        line["message"].to_string().contains("no chain leads"),
        "{line}"
    );
    assert!(impostor.seen().is_empty(), "{:?}", impostor.seen());
}
