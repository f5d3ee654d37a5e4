//! grpcio, gRPC's own library for Python, at both ends: all four kinds of calls, deadlines, a
//! cancel, refusals, and a reload or the change of a canary in between.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::program::{Invocation, Program};
use serde_json::json;

/// The plugin; ends with the test.
struct Server {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(python: &Path) -> Self {
        Self::named(python, &[])
    }

    /// One whose answers end in these words.
    fn named(python: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(python)
            .args(["-c", include_str!("grpc_server.py")])
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let kept = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, port, said }
    }

    fn wait_for(&self, line: &str) {
        eventually(&format!("the plugin says {line:?}"), || {
            let said = self.said.lock().unwrap();
            said.iter().any(|said| said == line).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mesh whose registry leads to that plugin, at the path that its service has.
struct World {
    mesh: TestMesh,
    server: Server,
    sidecar: Program,
    python: PathBuf,
}

/// A sidecar before such a plugin.
fn before(server: &Server, mesh: &TestMesh) -> Program {
    let mut sidecar = Invocation::new()
        .args(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .flag("--plugin", format!("h2c://127.0.0.1:{}", server.port))
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    sidecar
}

impl World {
    fn start() -> Option<Self> {
        let python = super::python("grpc")?;
        let server = Server::start(&python);
        let mesh = TestMesh::new().start();
        let sidecar = before(&server, &mesh);
        let entry = |name: &str, changes: serde_json::Value| {
            let mut entry = json!({
                "name": name, "mount": format!("/{name}"), "keep_mount_prefix": true,
                "identity": "plugin/echo", "upstream": format!("https://{}", sidecar.address("hop")),
            });
            for (field, value) in changes.as_object().unwrap() {
                entry[field] = value.clone();
            }
            mesh.write_registry(entry["name"].as_str().unwrap(), &mesh.entry(&entry));
        };
        entry("grpc", json!({"mount": "/world.Echo"}));
        // The same service under the mounts' own rules.
        entry(
            "short",
            json!({"mount": "/world.Echo/Slow", "timeout_ms": 400}),
        );
        entry(
            "away",
            json!({"mount": "/world.Away", "upstream": "https://127.0.0.1:1"}),
        );
        entry(
            "closed",
            json!({"mount": "/world.Closed", "allow": [{"path": "/nowhere"}]}),
        );
        eventually("the registry is in force", || {
            mesh.admin(&mesh.gateway, "/plugins")
                .text()
                .contains("world.Closed")
                .then_some(())
        });
        Some(Self {
            mesh,
            server,
            sidecar,
            python,
        })
    }

    /// What a client's script says, which gets a channel and good metadata. It may ask for
    /// `pause()`, that the test goes on meanwhile.
    fn client(&self, script: &str, meanwhile: impl Fn()) -> String {
        let whole = format!("{CLIENT}{script}");
        let mut child = Command::new(&self.python)
            .args(["-c", &whole])
            .arg(self.mesh.public().port().to_string())
            .arg(self.mesh.public_root_file())
            .arg(self.mesh.signer.token_of("7", "42"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdin = child.stdin.take().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line == "pause" {
                meanwhile();
                stdin.write_all(b"\n").unwrap();
            } else {
                said.push_str(&line);
                said.push('\n');
            }
        }
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}{errors}");
        said.trim().to_owned()
    }
}

const CLIENT: &str = "
import grpc, sys, time
port, root, token = sys.argv[1:]
channel = grpc.secure_channel(f'localhost:{port}', grpc.ssl_channel_credentials(open(root, 'rb').read()))
good = (('authorization', 'Bearer ' + token),)
def pause():
    print('pause', flush=True)
    sys.stdin.readline()
def code(call):
    try:
        return call()
    except grpc.RpcError as e:
        return e.code().name + ': ' + e.details()
unary = lambda name: channel.unary_unary('/world.Echo/' + name)
";

#[test]
fn all_four_kinds_of_calls_across_a_reload() {
    let Some(world) = World::start() else { return };
    let script = "
import threading
print(unary('Unary')(b'hi', metadata=good, timeout=20).decode())
print(b' '.join(channel.unary_stream('/world.Echo/Down')(b'5', metadata=good)).decode())
print(channel.stream_unary('/world.Echo/Up')(iter([b'a', b'b', b'c']), metadata=good).decode())
more = threading.Event()
def requests():
    yield b'before'
    more.wait()
    yield b'after'
answers = channel.stream_stream('/world.Echo/Both')(requests(), metadata=good)
print(next(answers).decode())
pause()
more.set()
print(next(answers).decode(), len(list(answers)))
value, call = unary('Unary').with_call(b'x', metadata=good)
print(dict(call.trailing_metadata()).get('x-note'))
big = bytes(3 << 20)
print(len(unary('Unary')(big, metadata=good)) - len(big))
print(code(lambda: unary('Fails')(b'', metadata=good)))
";
    let said = world.client(script, || {
        let before = world.mesh.metric(
            &world.mesh.gateway,
            "gapura_registry_reloads_total{result=\"ok\"}",
        );
        let changed = world.mesh.entry(&json!({"timeout_ms": 9000}));
        world.mesh.write_registry("echo", &changed);
        eventually("a reload", || {
            let now = world.mesh.metric(
                &world.mesh.gateway,
                "gapura_registry_reloads_total{result=\"ok\"}",
            );
            (now > before).then_some(())
        });
    });
    let wanted = "hi of 42\n0 1 2 3 4\na,b,c\nerofeb\nretfa 0\nunary\n6\nFAILED_PRECONDITION: the plugin's own: ä";
    assert_eq!(said, wanted);
}

#[test]
fn a_call_under_way_stays_where_it_is_when_a_canary_takes_its_company_and_the_next_goes_there() {
    let Some(world) = World::start() else { return };
    let mesh = &world.mesh;
    let canary = Server::named(&world.python, &["canary"]);
    let beside = before(&canary, mesh);
    let at = |sidecar: &Program| format!("https://{}", sidecar.address("hop"));
    let move_to = |percent: u32| {
        mesh.write_registry(
            "grpc",
            &mesh.entry(&json!({
                "name": "grpc", "mount": "/world.Echo", "keep_mount_prefix": true,
                "identity": "plugin/echo", "upstream": at(&world.sidecar),
                "canary": {"upstream": at(&beside), "identity": "plugin/echo", "percent": percent},
            })),
        );
        eventually("the canary's share is in force", || {
            let page = mesh.admin(&mesh.gateway, "/plugins").json();
            let plugins = page["plugins"].as_array().unwrap();
            let shown = plugins
                .iter()
                .find(|plugin| plugin["name"] == "grpc")
                .unwrap();
            (shown["canary"]["percent"] == percent).then_some(())
        });
    };
    let script = "
import queue
def both():
    asked = queue.Queue()
    answers = channel.stream_stream('/world.Echo/Both')(iter(asked.get, None), metadata=good)
    def ask(what):
        asked.put(what)
        return next(answers).decode()
    def end():
        asked.put(None)
        return len(list(answers))
    return ask, end
ask, end = both()
print(ask(b'one'))
pause()
print(ask(b'two'))
print(unary('Unary')(b'hi', metadata=good, timeout=20).decode())
there, there_end = both()
print(there(b'six'))
pause()
print(there(b'ten'), there_end(), ask(b'old'), end())
print(unary('Unary')(b'hi', metadata=good, timeout=20).decode())
";
    let turn = std::cell::Cell::new(100);
    let said = world.client(script, || move_to(turn.replace(0)));
    let wanted = "eno\nowt\nhi of 42 at canary\nxis at canary\nnet at canary 0 dlo 0\nhi of 42";
    assert_eq!(said, wanted);
}

#[test]
fn refusals_are_what_a_client_of_grpc_expects() {
    let Some(world) = World::start() else { return };
    let script = "
print(code(lambda: unary('Unary')(b'hi', timeout=20)))
print(code(lambda: unary('Unary')(b'hi', timeout=20, metadata=(('authorization', 'Bearer nonsense'),))))
for service in ['Closed', 'Away', 'Nothing']:
    print(code(lambda: channel.unary_unary(f'/world.{service}/Unary')(b'hi', timeout=20, metadata=good)))
print(code(lambda: unary('Slow')(b'hi', metadata=good)))
";
    let said = world.client(script, || {});
    let wanted = "UNAUTHENTICATED: A bearer token is required.
UNAUTHENTICATED: The bearer token is not valid.
PERMISSION_DENIED: The caller may not do this.
UNAVAILABLE: The service cannot be reached.
UNIMPLEMENTED: Nothing is served at this path.
DEADLINE_EXCEEDED: The service took too long to answer.";
    // The last part of the mount's path is another: without it nothing is mounted there.
    assert_eq!(said, wanted);
    let line = world.mesh.gateway.wait_for_line("the deadline", |line| {
        line["event"] == "request" && line["code"] == "upstream_timeout"
    });
    assert_eq!(
        (&line["status"], &line["plugin"]),
        (&json!(504), &json!("short"))
    );
}

#[test]
fn a_deadline_reaches_the_plugin_and_a_cancel_does() {
    let Some(world) = World::start() else { return };
    let script = "
begun = time.monotonic()
print(code(lambda: unary('Slow')(b'hi', metadata=good, timeout=0.3)).split(':')[0])
assert time.monotonic() - begun < 10
ticks = channel.unary_stream('/world.Echo/Endless')(b'', metadata=good)
next(ticks), next(ticks)
ticks.cancel()
print(code(lambda: next(ticks)).split(':')[0])
";
    let said = world.client(script, || {});
    assert_eq!(said, "DEADLINE_EXCEEDED\nCANCELLED");
    world.server.wait_for("slow deadline");
    world.server.wait_for("slow over");
    world.server.wait_for("endless cancelled");
}
