//! A new program takes the listeners over from the running one, and nobody is refused.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gapura_tests::eventually;
use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::program::Invocation;
use gapura_tests::wire::{Tls, Wire};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// A mesh whose programs offer their listeners in a folder of their own.
fn mesh() -> (Builder, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mesh = TestMesh::new()
        .gateway_flag("--takeover", &path("gateway"))
        .sidecar_args(&["--takeover", &path("sidecar")]);
    (mesh, folder)
}

/// Clients that keep their connections, and clients that open one for each request, until they are
/// told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(mesh: &TestMesh) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<AtomicU64>::default(),
        );
        let clients = (0..4).map(|at| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let (address, tls) = (mesh.public(), mesh.client_tls(&["http/1.1"]));
            let lines = mesh.authorization("7", "42");
            std::thread::spawn(move || {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut wire = kept.take().unwrap_or_else(|| open(address, &tls));
                    wire.get("/echo/x", &lines);
                    let response = wire
                        .try_response("GET")
                        .unwrap_or_else(|why| panic!("a request was lost: {why}"));
                    assert_eq!(response.status, 200, "{}", response.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                    let goes = response
                        .header("connection")
                        .is_some_and(|value| value == "close");
                    kept = (at % 2 == 0 && !goes).then_some(wire);
                }
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            answered,
        }
    }

    /// Waits until so many more requests were answered.
    fn goes_on(&self, more: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        eventually("requests are answered", || {
            let lost = self.clients.iter().any(JoinHandle::is_finished);
            (lost || self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("no request fails");
        }
    }
}

fn open(address: std::net::SocketAddr, tls: &Tls) -> Wire {
    Wire::tls(address, tls).unwrap_or_else(|why| panic!("a connection was refused: {why}"))
}

#[test]
fn gateways_follow_one_another_and_no_request_fails() {
    let (mesh, _folder) = mesh();
    let mut mesh = mesh.start();
    let (public, admin) = (mesh.public(), mesh.gateway.address("admin"));
    let load = Load::on(&mesh);
    for _ in 0..3 {
        load.goes_on(50);
        let mut before = mesh.next_gateway();
        assert_eq!(
            (mesh.public(), mesh.gateway.address("admin")),
            (public, admin)
        );
        let _ = before.wait_for_event("taken_over");
        let _ = mesh.gateway.wait_for_event("took_over");
        assert_eq!(before.wait_for_end(SOON).code(), Some(0));
        assert_eq!(mesh.admin(&mesh.gateway, "/readyz").status, 200);
    }
    load.goes_on(50);
    load.end();
}

#[test]
fn sidecars_follow_one_another_and_no_request_fails() {
    let (mesh, folder) = mesh();
    let socket = folder.path().join("hop.sock");
    let listen = format!("unix:{}", socket.display());
    let mut mesh = mesh.sidecar_args(&["--listen", &listen]).start();
    let hop = mesh.hop();
    let load = Load::on(&mesh);
    for _ in 0..3 {
        load.goes_on(50);
        let mut before = mesh.next_sidecar();
        assert_eq!(mesh.hop(), hop);
        assert_eq!(before.wait_for_end(SOON).code(), Some(0));
        assert!(
            UnixStream::connect(&socket).is_ok(),
            "the socket passes too"
        );
    }
    load.goes_on(50);
    load.end();
}

#[test]
fn what_is_in_flight_at_the_old_one_is_finished_there() {
    let (mesh, _folder) = mesh();
    let mut mesh = mesh.start();
    let gate = Gate::new();
    let opened = gate.clone();
    mesh.plugin.on("/slow", move |exchange| {
        exchange.read_body();
        let _ = opened.wait();
        exchange.answer("200 OK", "", b"after all");
        Then::Keep
    });
    let mut wire = mesh.connect();
    wire.get("/echo/slow", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/slow");
    let mut before = mesh.next_gateway();
    let _ = before.wait_for_event("taken_over");
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    assert!(before.runs(), "a request is still in flight");
    gate.open();
    let response = wire.response();
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "after all")
    );
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(before.wait_for_end(SOON).code(), Some(0));
}

#[test]
fn a_next_one_that_does_not_start_or_breaks_off_changes_nothing() {
    let (mesh, folder) = mesh();
    let mut mesh = mesh.start();
    let still_serves = |mesh: &mut TestMesh| {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
        assert!(mesh.gateway.runs());
    };
    // Settings at fault are found before anybody is asked for anything.
    let ended = mesh
        .gateway_invocation()
        .flag("--deny", folder.path().join("none"))
        .run("gapura-gateway");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    still_serves(&mut mesh);
    // A listener of its own that cannot be bound, once it has those of the old one.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let ended = mesh
        .gateway_invocation()
        .flag("--health", &taken)
        .run("gapura-gateway");
    assert!(
        ended.code == Some(2) && ended.stderr.contains("in use"),
        "{}",
        ended.stderr
    );
    still_serves(&mut mesh);
    // Whoever says nothing, something else, or goes away in the middle.
    let path = folder.path().join("gateway");
    let greeting = "gapura-takeover 1 gateway\n";
    for (words, last) in [
        ("", ""),
        ("hello\n", ""),
        (greeting, ""),
        (greeting, "serves\n"),
    ] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        if words == greeting {
            stream.read_exact(&mut [0; 9]).unwrap();
        }
        stream.write_all(last.as_bytes()).unwrap();
        drop(stream);
        still_serves(&mut mesh);
    }
    // The last of them had said that it serves.
    let _ = mesh.gateway.wait_for_line("its end", |line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["event"] == "takeover_failed" && message.contains("as soon as it served")
    });
    still_serves(&mut mesh);
    let mut before = mesh.next_gateway();
    assert_eq!(before.wait_for_end(SOON).code(), Some(0));
    still_serves(&mut mesh);
}

/// What a gateway says that is to take over at `path`.
fn refused(mesh: &TestMesh, path: &Path) -> String {
    let invocation: Invocation = mesh.gateway_invocation();
    let ended = invocation.flag("--takeover", path).run("gapura-gateway");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains(&format!("--takeover {}", path.display())),
        "{}",
        ended.stderr
    );
    ended.stderr
}

#[test]
fn a_socket_that_others_could_use_is_refused_and_ours_is_for_us_alone() {
    let mesh = TestMesh::new().start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    fs::write(at("file"), "").unwrap();
    assert!(refused(&mesh, &at("file")).contains("no socket"));
    let _other = UnixListener::bind(at("open")).unwrap();
    fs::set_permissions(at("open"), Permissions::from_mode(0o666)).unwrap();
    assert!(refused(&mesh, &at("open")).contains("0600"));
    fs::create_dir(at("folder")).unwrap();
    fs::set_permissions(at("folder"), Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&mesh, &at("folder/socket")).contains("others can write"));

    let mut program = mesh
        .gateway_invocation()
        .flag("--takeover", at("ours"))
        .start("gapura-gateway");
    program.wait_until_started();
    let mode = fs::metadata(at("ours")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_sidecar_takes_nothing_from_a_gateway() {
    let (mesh, folder) = mesh();
    let mesh = mesh.start();
    let invocation = Invocation::new()
        .args(&[
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--plugin",
            "http://127.0.0.1:1",
        ])
        .flag("--mesh-dir", mesh.sidecar_dir.path());
    let ended = invocation
        .clone()
        .flag("--takeover", folder.path().join("gateway"))
        .run("gapura-sidecar");
    assert!(
        ended.code == Some(2) && ended.stderr.contains("this is a gateway"),
        "{}",
        ended.stderr
    );
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    // The plugin that a sidecar starts itself could not pass on.
    let run = Invocation::new()
        .arg("run")
        .args(&["--takeover", "/nowhere/at/all"]);
    let run = run.flag("--mesh-dir", mesh.sidecar_dir.path()).args(&[
        "--plugin",
        "http://127.0.0.1:1",
        "--",
        "true",
    ]);
    let ended = run.run("gapura-sidecar");
    assert!(
        ended.code == Some(2) && ended.stderr.contains("--takeover"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_socket_that_a_dead_program_left_is_taken() {
    let (mesh, folder) = mesh();
    let mut mesh = mesh.start();
    let public = mesh.public();
    mesh.gateway.signal("KILL");
    let _ = mesh.gateway.wait_for_end(SOON);
    assert!(folder.path().join("gateway").exists());
    assert!(TcpStream::connect(public).is_err());
    let _ = mesh.next_gateway();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let mut before = mesh.next_gateway();
    assert_eq!(before.wait_for_end(SOON).code(), Some(0));
}
