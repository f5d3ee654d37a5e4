//! What a program remembers over a restart: how far the CRLs had come.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use gapura_tests::certs::{Authority, Certificate, DOMAIN, Leaf, MeshDir};
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::{Tls, Wire};
use gapura_tests::{eventually, within};
use serde_json::Value;

const IN_FORCE: Duration = Duration::from_secs(5);

/// A sidecar, or a gateway without plugins, that can be started again and again.
struct Bench {
    dir: tempfile::TempDir,
    authority: Authority,
    own: Certificate,
    mesh: MeshDir,
    program: &'static str,
}

impl Bench {
    fn new(program: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::two_tier("bench");
        let own = authority.issue(&match program {
            "gapura-gateway" => Leaf::gateway("edge"),
            _ => Leaf::plugin("echo"),
        });
        fs::create_dir(dir.path().join("plugins.d")).unwrap();
        let mesh = MeshDir::create(&dir.path().join("mesh"), &authority.files_for(&own));
        Self {
            dir,
            authority,
            own,
            mesh,
            program,
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn publish(&self, crl: String) {
        let files = self.authority.files_for(&self.own);
        self.mesh.publish(&files.with_crl(Some(crl)));
    }

    fn invocation(&self) -> Invocation {
        let common = Invocation::new()
            .flag("--listen", "127.0.0.1:0")
            .flag("--admin", "127.0.0.1:0")
            .flag("--mesh-dir", self.mesh.path())
            .flag("--workers", "1");
        match self.program {
            "gapura-gateway" => common
                .flag("--plugin-dir", self.dir.path().join("plugins.d"))
                .env("JWT_SECRET", "a-secret-of-forty-bytes-for-tests-only-0"),
            _ => common.flag("--plugin", "http://127.0.0.1:1"),
        }
    }

    fn start(&self, more: &[&str]) -> Program {
        let mut program = self
            .invocation()
            .flag("--state-dir", self.state())
            .args(more)
            .start(self.program);
        program.wait_until_started();
        program
    }

    /// Runs once in good order, and leaves the marks of the newest list behind.
    fn run_once(&self) {
        let mut program = self.start(&[]);
        let marks = self.state().join("crl-marks.json");
        eventually("marks are kept", || marks.exists().then_some(()));
        assert_eq!(page(&program, "/readyz").0, 200);
        program.signal("TERM");
        assert!(program.wait_for_end(Duration::from_secs(20)).success());
    }

    /// Whether a gateway of the same authority is let in.
    fn lets_in(&self, program: &Program) -> bool {
        let gateway = self.authority.issue(&Leaf::gateway("other"));
        let name = format!("echo.plugin.{DOMAIN}");
        let tls = Tls::showing(&self.authority.root_pem(), &name, &["http/1.1"], &gateway);
        let mut wire = Wire::tls(program.address("hop"), &tls).unwrap();
        let _ = wire.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.try_response("GET").is_ok()
    }
}

fn page(program: &Program, path: &str) -> (u16, String) {
    let address = program.address("admin");
    let mut wire = Wire::plain(address);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let response = wire.response();
    (response.status, response.text())
}

fn alarms(program: &Program) -> Vec<Value> {
    let lines = program.log().into_iter();
    lines.filter(|line| line["event"] == "alarm").collect()
}

#[test]
fn an_older_crl_after_a_restart_lets_nobody_in_and_says_so_until_a_newer_one_comes() {
    let bench = Bench::new("gapura-sidecar");
    let old = bench.authority.crl(&[]);
    bench.publish(bench.authority.crl(&[]));
    bench.run_once();

    // A backup is played back while it is down.
    bench.publish(old);
    let program = bench.start(&[]);
    let alarm = eventually("an alarm", || {
        alarms(&program)
            .into_iter()
            .find(|alarm| alarm["name"] == "revoked")
    });
    let message = alarm["message"].as_str().unwrap();
    assert!(
        message.contains("CN=bench") && message.contains("never go back"),
        "{message}"
    );
    let (status, text) = page(&program, "/readyz");
    assert!(
        status == 503 && text.contains("revocation lists"),
        "{status} {text}"
    );
    assert_eq!(page(&program, "/healthz").0, 200);
    assert!(!bench.lets_in(&program));
    assert!(
        page(&program, "/metrics")
            .1
            .contains("gapura_alarms{name=\"revoked\"} 1")
    );

    bench.publish(bench.authority.crl(&[]));
    within(IN_FORCE, "it heals", || {
        (page(&program, "/readyz").0 == 200).then_some(())
    });
    assert!(bench.lets_in(&program));
}

#[test]
fn the_gateway_remembers_as_well() {
    let bench = Bench::new("gapura-gateway");
    let old = bench.authority.crl(&[]);
    bench.publish(bench.authority.crl(&[]));
    bench.run_once();
    bench.publish(old);
    let program = bench.start(&[]);
    let (status, text) = page(&program, "/readyz");
    assert!(
        status == 503 && text.contains("revocation lists"),
        "{status} {text}"
    );
    bench.publish(bench.authority.crl(&[]));
    within(IN_FORCE, "it heals", || {
        (page(&program, "/readyz").0 == 200).then_some(())
    });
}

#[test]
fn one_issuer_may_begin_anew_when_the_operator_says_so_and_the_log_tells() {
    let bench = Bench::new("gapura-sidecar");
    bench.publish(bench.authority.crl(&[]));
    bench.publish(bench.authority.crl(&[]));
    bench.run_once();
    let anew = bench.authority.crl_numbered(
        1,
        &[],
        std::time::SystemTime::now() + Duration::from_secs(86_400),
    );
    bench.publish(anew);
    let other = bench.start(&["--accept-crl-reset", "CN=bench root"]);
    assert_eq!(
        page(&other, "/readyz").0,
        503,
        "another issuer's marks stay"
    );
    drop(other);
    let program = bench.start(&["--accept-crl-reset", "CN=bench issuing"]);
    assert_eq!(page(&program, "/readyz").0, 200);
    assert!(bench.lets_in(&program));
    program.wait_for_line("it is told", |line| {
        line["level"] == "warn"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("--accept-crl-reset CN=bench issuing"))
    });
    drop(program);
    // From now on it goes on from there.
    let program = bench.start(&[]);
    assert_eq!(page(&program, "/readyz").0, 200);
}

#[test]
fn without_a_state_directory_it_is_a_warning_and_ends_with_the_process() {
    let bench = Bench::new("gapura-sidecar");
    let old = bench.authority.crl(&[]);
    bench.publish(bench.authority.crl(&[]));
    for crl in [None, Some(old)] {
        if let Some(crl) = crl {
            bench.publish(crl);
        }
        let mut program = bench.invocation().start("gapura-sidecar");
        program.wait_until_started();
        program.wait_for_line("a warning", |line| {
            line["level"] == "warn"
                && line["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("--state-dir"))
        });
        assert_eq!(page(&program, "/readyz").0, 200);
        program.signal("TERM");
        assert!(program.wait_for_end(Duration::from_secs(20)).success());
    }
}

#[test]
fn a_state_directory_that_cannot_be_relied_on_is_refused() {
    for program in ["gapura-sidecar", "gapura-gateway"] {
        let bench = Bench::new(program);
        let refused = |invocation: Invocation, words: &[&str]| {
            let ended = invocation.run(program);
            assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
            for word in words {
                assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
            }
        };
        refused(
            bench.invocation().flag("--accept-crl-reset", "CN=x"),
            &["accept-crl-reset", "--state-dir"],
        );
        let state = bench.state();
        let with_state = || bench.invocation().flag("--state-dir", &state);
        fs::write(&state, "").unwrap();
        refused(with_state(), &["--state-dir", "is no folder"]);
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
        refused(with_state(), &["--state-dir", "others can write"]);
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(with_state().arg("--check").run(program).code, Some(0));
        fs::write(state.join("crl-marks.json"), "{").unwrap();
        refused(with_state(), &["crl-marks.json", "remove it"]);
    }
}

#[test]
fn a_certificate_that_begins_tomorrow_is_waited_for_under_the_alarm_clock() {
    let bench = Bench::new("gapura-sidecar");
    let tomorrow = bench.authority.issue(&Leaf::plugin("echo").of_tomorrow());
    let mut program = bench.invocation().start("gapura-sidecar");
    program.wait_until_started();
    bench.mesh.publish(&bench.authority.files_for(&tomorrow));
    let clock = |program: &Program| {
        alarms(program)
            .into_iter()
            .find(|alarm| alarm["name"] == "clock")
    };
    let alarm = eventually("an alarm", || clock(&program));
    assert!(
        alarm["message"].as_str().unwrap().contains("begins at"),
        "{alarm}"
    );
    assert_eq!(page(&program, "/readyz").0, 200, "the one in force stays");
    assert!(bench.lets_in(&program));
    drop(program);
    // With nothing else to show it starts all the same.
    let mut program = bench.invocation().start("gapura-sidecar");
    program.wait_until_started();
    let _ = eventually("an alarm", || clock(&program));
    let (status, text) = page(&program, "/readyz");
    assert!(
        status == 503 && text.contains("begins at"),
        "{status} {text}"
    );
    bench.mesh.publish(&bench.authority.files_for(&bench.own));
    within(IN_FORCE, "it heals", || {
        (page(&program, "/readyz").0 == 200).then_some(())
    });
}
