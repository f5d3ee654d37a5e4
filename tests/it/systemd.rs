//! What a service manager is told, and the sockets it hands over.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gapura_tests::certs::{Authority, Leaf, MeshDir, write_private};
use gapura_tests::eventually;
use gapura_tests::program::{Invocation, built};
use gapura_tests::wire::Wire;
use tempfile::TempDir;

const PROGRAMS: [&str; 2] = ["gapura-gateway", "gapura-sidecar"];

/// A socket as systemd listens on, and the files both programs start from.
struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
    authority: Authority,
    gateway: MeshDir,
    sidecar: MeshDir,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::two_tier("test mesh");
        let mesh = |name: &str, leaf: &Leaf| {
            MeshDir::create(
                &dir.path().join(name),
                &authority.files_for(&authority.issue(leaf)),
            )
        };
        let (gateway, sidecar) = (
            mesh("gateway", &Leaf::gateway("edge")),
            mesh("sidecar", &Leaf::plugin("echo")),
        );
        fs::create_dir(dir.path().join("plugins.d")).unwrap();
        write_private(
            &dir.path().join("secret"),
            "a-secret-of-forty-bytes-for-tests-only-0\n",
        );
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self {
            dir,
            socket,
            authority,
            gateway,
            sidecar,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn bare(&self, program: &str) -> Invocation {
        let common = Invocation::new().args(&[
            "--workers",
            "1",
            "--admin",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
        ]);
        if program == "gapura-sidecar" {
            return common
                .flag("--plugin", "http://127.0.0.1:1")
                .flag("--mesh-dir", self.sidecar.path());
        }
        common
            .flag("--mesh-dir", self.gateway.path())
            .flag("--plugin-dir", self.path("plugins.d"))
            .flag("--jwt-secret-file", self.path("secret"))
    }

    fn invocation(&self, program: &str) -> Invocation {
        self.bare(program)
            .env("NOTIFY_SOCKET", &self.path("notify"))
    }

    /// The next message that `wanted` takes, with all before it.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut heard = Vec::new();
        eventually(what, || {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes).ok()?;
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            heard
                .last()
                .is_some_and(|message| wanted(message))
                .then_some(())
        });
        heard
    }
}

fn says(message: &str, line: &str) -> bool {
    message.lines().any(|found| found == line)
}

#[test]
fn a_manager_hears_of_readiness_of_a_reload_and_of_the_end() {
    for name in PROGRAMS {
        let manager = Manager::new();
        let mut program = manager.invocation(name).start(name);
        let heard = manager.until("ready", |message| says(message, "READY=1"));
        assert_eq!(heard.len(), 1, "nothing before it is ready: {heard:?}");
        let listener = if name == "gapura-gateway" {
            "public"
        } else {
            "hop"
        };
        assert!(
            heard[0].contains(&format!(
                "STATUS=serving on {} ({listener})",
                program.address(listener)
            )),
            "{heard:?}"
        );

        program.signal("HUP");
        let heard = manager.until("ready again", |message| says(message, "READY=1"));
        assert!(
            says(&heard[0], "RELOADING=1") && heard.len() == 2,
            "{heard:?}"
        );

        program.signal("TERM");
        let _ = manager.until("stopping", |message| says(message, "STOPPING=1"));
        assert_eq!(
            program.wait_for_end(Duration::from_secs(10)).code(),
            Some(0)
        );
    }
}

#[test]
fn what_was_written_before_a_reload_is_in_force_when_ready_is_said() {
    for name in PROGRAMS {
        let manager = Manager::new();
        let program = manager.invocation(name).start(name);
        let _ = manager.until("ready", |message| says(message, "READY=1"));
        let page = |path: &str| {
            let mut wire = Wire::plain(program.address("admin"));
            wire.get(path, "");
            wire.response().text()
        };
        let (leaf, dir) = if name == "gapura-gateway" {
            (Leaf::gateway("edge"), &manager.gateway)
        } else {
            (Leaf::plugin("echo"), &manager.sidecar)
        };
        for round in 0..5 {
            let before = page("/certificates");
            dir.publish(&manager.authority.files_for(&manager.authority.issue(&leaf)));
            let plugin = format!("round-{round}");
            let file = format!(
                r#"{{"name": "{plugin}", "version": "1.0.0", "mount": "/{plugin}", "upstream": "https://127.0.0.1:1", "auth_mode": "gateway_verified"}}"#
            );
            fs::write(manager.dir.path().join("plugins.d/a.json"), file).unwrap();
            program.signal("HUP");
            let _ = manager.until("ready again", |message| says(message, "READY=1"));
            assert_ne!(page("/certificates"), before, "{name}, round {round}");
            if name == "gapura-gateway" {
                let plugins = page("/plugins");
                assert!(plugins.contains(&plugin), "round {round}: {plugins}");
            }
        }
    }
}

#[test]
fn the_watchdog_is_fed_twice_an_interval() {
    for name in PROGRAMS {
        let manager = Manager::new();
        let _program = manager
            .invocation(name)
            .env("WATCHDOG_USEC", "400000")
            .start(name);
        let fed = |message: &str| says(message, "WATCHDOG=1");
        let _ = manager.until("the first time", fed);
        let begun = Instant::now();
        for _ in 0..5 {
            let _ = manager.until("the next time", fed);
        }
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(700),
            "once in 200 ms is enough: {took:?}"
        );
    }
}

#[test]
fn a_stopped_program_feeds_no_watchdog() {
    let manager = Manager::new();
    let program = manager
        .invocation("gapura-sidecar")
        .env("WATCHDOG_USEC", "100000")
        .start("gapura-sidecar");
    let _ = manager.until("the watchdog", |message| says(message, "WATCHDOG=1"));
    program.signal("STOP");
    let until = Instant::now() + Duration::from_secs(20);
    // What was sent before the signal has been heard once nothing comes for five intervals.
    manager
        .socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {
        assert!(
            Instant::now() < until,
            "a stopped program goes on telling that it is alive"
        );
    }
    program.signal("CONT");
    let _ = manager.until("the watchdog again", |message| says(message, "WATCHDOG=1"));
}

#[test]
fn an_alarm_and_its_end_stand_in_the_status() {
    let manager = Manager::new();
    let _program = manager.invocation("gapura-sidecar").start("gapura-sidecar");
    let _ = manager.until("ready", |message| says(message, "READY=1"));
    let other = Authority::two_tier("another mesh");
    let stranger = other.files_for(&other.issue(&Leaf::plugin("echo")));
    let authority = Authority::two_tier("a third");
    manager
        .sidecar
        .publish(&stranger.with_ca(authority.root_pem()));
    let heard = manager.until("the alarm", |message| message.starts_with("STATUS=ALARM"));
    assert!(heard.last().unwrap().lines().count() == 1, "{heard:?}");
}

#[test]
fn why_a_program_did_not_start_stands_in_the_status() {
    for name in PROGRAMS {
        let manager = Manager::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        let ended = manager.invocation(name).flag("--health", &taken).run(name);
        assert_ne!(ended.code, Some(0));
        let heard = manager.until("the reason", |message| message.starts_with("STATUS="));
        assert!(
            heard.len() == 1 && heard[0].contains(&taken) && heard[0].contains("in use"),
            "{heard:?}"
        );
    }
}

/// Starts a program as systemd does with a socket: at descriptor 3, named in the environment.
fn with_socket(invocation: Command, socket: TcpListener, names: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null",
        "sh",
    ]);
    shell
        .arg(invocation.get_program())
        .args(invocation.get_args());
    shell.envs(
        invocation
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    shell
}

#[test]
fn a_socket_that_was_handed_over_is_served_and_outlives_the_program() {
    for (name, names) in [
        ("gapura-gateway", "gapura-gateway.socket"),
        ("gapura-gateway", "public"),
        ("gapura-sidecar", "hop"),
    ] {
        let manager = Manager::new();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let handed = socket.try_clone().unwrap();
        let mut child = with_socket(manager.invocation(name).command(name), handed, names)
            .spawn()
            .unwrap();
        let heard = manager.until("ready", |message| says(message, "READY=1"));
        assert!(heard[0].contains(&address.to_string()), "{heard:?}");
        if name == "gapura-gateway" {
            let mut wire = Wire::plain(address);
            wire.get("/healthz", "");
            assert_eq!(wire.response().status, 200);
        } else {
            drop(TcpStream::connect(address).unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Nobody is refused while the program is away: the next one finds them waiting.
        assert!(TcpStream::connect(address).is_ok());
        drop(socket);
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_socket_under_a_wrong_name_or_wider_than_was_said_is_refused() {
    let manager = Manager::new();
    let refused = |program: &str, address: &str, names: &str, word: &str| {
        let socket = TcpListener::bind(address).unwrap();
        let ended = with_socket(manager.bare(program).command(program), socket, names)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(
            ended.status.code() == Some(2) && said.contains(word),
            "{names}: {said}"
        );
    };
    refused(
        "gapura-gateway",
        "127.0.0.1:0",
        "health",
        "FileDescriptorName=",
    );
    refused("gapura-gateway", "0.0.0.0:0", "public", "plain HTTP");
    refused("gapura-gateway", "0.0.0.0:0", "admin", "--admin-token-file");
    refused("gapura-sidecar", "0.0.0.0:0", "admin", "--admin-token-file");
    assert!(built("gapura-gateway").is_file());
}

/// A tree in which the units of `deploy/systemd` and the programs they name are installed.
fn installed() -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let to = |folder: &str| {
        let path = dir.path().join(folder);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let system = to("etc/systemd/system");
    let copied = Command::new("cp")
        .args(["-r", "/lib/systemd/system"])
        .arg(to("lib/systemd"))
        .status()
        .unwrap();
    assert!(copied.success(), "systemd's own units");
    let mut units = Vec::new();
    for entry in
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")).unwrap()
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if [".service", ".socket", ".timer"]
            .iter()
            .any(|kind| name.ends_with(kind))
        {
            fs::copy(&path, system.join(&name)).unwrap();
            units.push(name);
        }
    }
    for (folder, programs) in [
        (
            "usr/bin",
            &[
                "gapura-gateway",
                "gapura-sidecar",
                "gapura-pki",
                "gapura-agent",
                "gapura-ca",
                "lab-reporting",
                "systemd-cat",
            ][..],
        ),
        ("bin", &["kill", "echo", "sh"][..]),
    ] {
        for program in programs {
            let path = to(folder).join(program);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    units.sort();
    (dir, units)
}

#[test]
#[allow(clippy::print_stderr, reason = "what is not tested is said")]
fn the_shipped_units_are_sound_and_exposed_to_little() {
    if !Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_ok_and(|found| found.status.success())
    {
        return eprintln!(
            "systemd: there is no systemd-analyze here, so the units are not looked at"
        );
    }
    let (root, units) = installed();
    assert!(units.len() >= 7, "{units:?}");
    for unit in &units {
        let named = unit.replace("@.", "@lab-reporting.");
        let verify = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(format!("--root={}", root.path().display()))
            .arg(&named)
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&verify.stdout),
            String::from_utf8_lossy(&verify.stderr)
        );
        assert!(
            verify.status.success() && said.trim().is_empty(),
            "{unit}: {said}"
        );
        if unit.ends_with(".service") {
            // The threshold is in tenths: 20 is an exposure of 2.0.
            let path = root.path().join("etc/systemd/system").join(unit);
            let security = Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager", "--threshold=19"])
                .arg(path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&security.stdout).into_owned();
            assert!(
                security.status.success() && said.contains("Overall exposure level"),
                "{unit}: {said}{}",
                String::from_utf8_lossy(&security.stderr)
            );
        }
    }
}
