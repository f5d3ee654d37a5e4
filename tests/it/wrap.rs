//! `gapura-sidecar run -- COMMAND`: the plugin and its sidecar begin, live and end as one.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use gapura_tests::certs::{Authority, Certificate, DOMAIN, Leaf, MeshDir};
use gapura_tests::eventually;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::{Tls, Wire};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

/// A mesh directory, and a folder in which plugins leave word. Their standard output is the
/// sidecar's, which is a log.
struct Files {
    dir: TempDir,
    authority: Authority,
    gateway: Certificate,
    mesh: MeshDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::two_tier("test mesh");
        let mesh = MeshDir::create(
            &dir.path().join("mesh"),
            &authority.files_for(&authority.issue(&Leaf::plugin("echo"))),
        );
        let gateway = authority.issue(&Leaf::gateway("edge"));
        Self {
            dir,
            authority,
            gateway,
            mesh,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn invocation(&self, plugin: &str, command: &[&str]) -> Invocation {
        Invocation::new()
            .args(&[
                "run",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--workers",
                "1",
                "--drain-timeout",
                "5s",
            ])
            .flag("--plugin", plugin)
            .flag("--mesh-dir", self.mesh.path())
            .arg("--")
            .args(command)
            .env("FILES", &self.dir.path().display().to_string())
    }

    fn shell(&self, script: &str) -> Invocation {
        self.invocation("http://127.0.0.1:1", &["sh", "-c", script])
    }

    fn connect(&self, hop: SocketAddr) -> Wire {
        let name = format!("echo.plugin.{DOMAIN}");
        Wire::tls(
            hop,
            &Tls::showing(
                &self.authority.root_pem(),
                &name,
                &["http/1.1"],
                &self.gateway,
            ),
        )
        .unwrap()
    }
}

/// What the gateway sends along.
const CONTEXT: &str =
    "X-Request-Id: r1\r\nX-User-Id: 7\r\nX-Company-Id: 42\r\nX-Gapura-Auth: verified\r\n";

#[test]
fn the_plugins_exit_code_is_the_sidecars() {
    let files = Files::new();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let ended = files.shell(script).run("gapura-sidecar");
        assert_eq!(
            ended.code,
            Some(code),
            "{script}: {}{}",
            ended.stdout,
            ended.stderr
        );
        let at = |event: &str| {
            ended
                .stdout
                .find(&format!("\"event\":\"{event}\""))
                .unwrap_or_else(|| panic!("{event}: {}", ended.stdout))
        };
        assert!(
            at("started") < at("plugin_started") && at("plugin_started") < at("plugin_ended"),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named_and_nothing_is_served() {
    let files = Files::new();
    let plain = files.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    for (command, code) in [("/nowhere/at-all", 127), (plain.to_str().unwrap(), 126)] {
        let ended = files
            .invocation("http://127.0.0.1:1", &[command])
            .run("gapura-sidecar");
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(command) && ended.stderr.lines().count() == 1,
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_sidecar_that_cannot_start_starts_no_plugin() {
    let files = Files::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let script = "touch $FILES/began";
    let ended = files
        .shell(script)
        .env("GAPURA_HEALTH", &taken)
        .run("gapura-sidecar");
    assert!(
        ended.code != Some(0) && ended.stderr.contains("in use"),
        "{}",
        ended.stderr
    );
    assert!(!files.path("began").exists());
    assert_eq!(files.shell(script).run("gapura-sidecar").code, Some(0));
    assert!(files.path("began").exists());
}

#[test]
fn signals_are_passed_on_and_systemds_variables_are_not() {
    let files = Files::new();
    let script = "for name in HUP USR1 USR2 QUIT; do trap \"echo $name >> $FILES/got\" $name; done
        trap 'exit 5' TERM
        echo \"[$NOTIFY_SOCKET$LISTEN_FDS$WATCHDOG_USEC]\" > $FILES/env; touch $FILES/ready
        while :; do sleep 0.02; done";
    let mut sidecar = files
        .shell(script)
        .env("NOTIFY_SOCKET", "/nowhere")
        .env("WATCHDOG_USEC", "1000000")
        .start("gapura-sidecar");
    eventually("the plugin is ready", || {
        files.path("ready").exists().then_some(())
    });
    for name in ["HUP", "USR1", "USR2", "QUIT"] {
        sidecar.signal(name);
        eventually(&format!("the plugin got {name}"), || {
            files.read("got").contains(name).then_some(())
        });
    }
    assert!(sidecar.runs(), "the sidecar lives on");
    assert_eq!(files.read("env").trim(), "[]");
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait_for_end(SOON).code(), Some(5));
}

#[test]
fn the_sidecar_drains_before_the_plugin_is_told_to_end() {
    let files = Files::new();
    let (mut sidecar, hop) = slow_plugin(&files);
    let mut wire = files.connect(hop);
    wire.get("/slow", CONTEXT);
    eventually("the request is with the plugin", || {
        files.path("asked").exists().then_some(())
    });
    sidecar.signal("TERM");
    eventually("new connections are refused", || {
        TcpStream::connect(hop).is_err().then_some(())
    });
    assert!(
        !files.path("told").exists(),
        "the plugin still has a request"
    );
    fs::write(files.path("go"), "").unwrap();
    let response = wire.response();
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "after all")
    );
    assert_eq!(sidecar.wait_for_end(SOON).code(), Some(0));
    assert!(files.path("told").exists());
}

#[test]
fn a_second_signal_ends_both_at_once() {
    let files = Files::new();
    let (mut sidecar, hop) = slow_plugin(&files);
    let mut wire = files.connect(hop);
    wire.get("/slow", CONTEXT);
    eventually("the request is with the plugin", || {
        files.path("asked").exists().then_some(())
    });
    sidecar.signal("TERM");
    eventually("it drains", || {
        TcpStream::connect(hop).is_err().then_some(())
    });
    sidecar.signal("TERM");
    let _ = sidecar.wait_for_end(Duration::from_secs(4));
    assert!(!files.path("go").exists());
}

#[test]
fn a_plugin_that_does_not_end_is_ended() {
    let files = Files::new();
    let script = "trap '' TERM; touch $FILES/ready; while :; do sleep 0.02; done";
    let mut sidecar = files
        .shell(script)
        .env("GAPURA_DRAIN_TIMEOUT", "")
        .start("gapura-sidecar");
    eventually("the plugin is ready", || {
        files.path("ready").exists().then_some(())
    });
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait_for_end(SOON).code(), Some(137));
}

/// A plugin in Python that answers `/slow` once the file `go` is there, and leaves word when it is
/// told to end.
fn slow_plugin(files: &Files) -> (Program, SocketAddr) {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let script = format!(
        "
import http.server, os, signal, sys, time
files = os.environ['FILES'] + '/'
def told(*_):
    open(files + 'told', 'w').close()
    os._exit(0)
signal.signal(signal.SIGTERM, told)
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(files + 'asked', 'w').close()
        while not os.path.exists(files + 'go'): time.sleep(0.01)
        self.send_response(200)
        self.send_header('Content-Length', '9')
        self.end_headers()
        self.wfile.write(b'after all')
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', {port}), Slow)
open(files + 'up', 'w').close()
server.serve_forever()
"
    );
    let sidecar = files
        .invocation(
            &format!("http://127.0.0.1:{port}"),
            &["python3", "-c", &script],
        )
        .start("gapura-sidecar");
    let hop = sidecar.address("hop");
    eventually("the plugin is up", || {
        files.path("up").exists().then_some(())
    });
    (sidecar, hop)
}
