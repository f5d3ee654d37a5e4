//! What lasts goes on where it began, whatever a reload or a canary's change does to what comes
//! next: a WebSocket by a library, and events read by curl.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Plugin, Then};
use serde_json::json;

use crate::canary::Canaried;
use crate::clients;

/// A program whose lines are read one by one; ends with the test.
struct Client {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    stdin: Option<ChildStdin>,
}

impl Client {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            stdin: child.stdin.take(),
            child,
        }
    }

    /// Its next line that says something.
    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("it says more").unwrap();
            if !line.is_empty() {
                return line;
            }
        }
    }

    /// It waits for a line from us.
    fn go_on(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn ends_well(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plugin that says who it is over WebSockets and in events; of those the first comes at once,
/// and the second once the gate opens.
fn speaks(plugin: &Plugin, own: &'static str) -> Gate {
    plugin.on("/ws", move |exchange| {
        clients::echo_frames(exchange, format!("{own} ").as_bytes())
    });
    let gate = Gate::new();
    let until = gate.clone();
    plugin.on("/events", move |exchange| {
        let event = |number: u32| {
            let text = format!("data: {own} {number}\n\n");
            format!("{:x}\r\n{text}\r\n", text.len())
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        exchange.write((head.to_owned() + &event(1)).as_bytes());
        let _ = until.wait();
        exchange.write((event(2) + "0\r\n\r\n").as_bytes());
        Then::Close
    });
    gate
}

const SOCKET: &str = "
import ssl, sys, websocket
port, root, token = sys.argv[1:]
ws = websocket.create_connection(f'wss://localhost:{port}/echo/ws', sslopt={'ca_certs': root}, timeout=60, header=['Authorization: Bearer ' + token])
for text in ['first', 'second']:
    ws.send(text)
    print(ws.recv(), flush=True)
    sys.stdin.readline()
ws.close()
";

fn socket(mesh: &TestMesh) -> Client {
    Client::start(
        Command::new(clients::python())
            .args(["-c", SOCKET])
            .arg(mesh.public().port().to_string())
            .arg(mesh.public_root_file())
            .arg(mesh.signer.token_of("7", "42")),
    )
}

fn events(mesh: &TestMesh) -> Client {
    let token = mesh.signer.token_of("7", "42");
    Client::start(
        Command::new("curl")
            .args(["--silent", "--no-buffer", "--max-time", "100", "--cacert"])
            .arg(mesh.public_root_file())
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .arg(clients::url(mesh, "/echo/events")),
    )
}

#[test]
fn what_began_goes_on_across_a_reload_and_a_canarys_change_and_what_comes_next_goes_there() {
    let canaried = Canaried::start(&json!({"percent": 0}));
    let mesh = &canaried.mesh;
    let gate = speaks(&mesh.plugin, "main");
    let canarys = speaks(&canaried.canary, "canary");
    let (mut old, mut reader) = (socket(mesh), events(mesh));
    assert_eq!(old.line(), "main first");
    assert_eq!(reader.line(), "data: main 1");
    // A reload, and by it the company goes to the canary.
    canaried.set(&json!({"percent": 100}));
    let (mut new, mut readers) = (socket(mesh), events(mesh));
    assert_eq!(new.line(), "canary first");
    assert_eq!(readers.line(), "data: canary 1");
    old.go_on();
    assert_eq!(old.line(), "main second");
    gate.open();
    assert_eq!(reader.line(), "data: main 2");
    reader.ends_well();
    // And back: what began at the canary ends there.
    canaried.set(&json!({"percent": 0}));
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    new.go_on();
    assert_eq!(new.line(), "canary second");
    canarys.open();
    assert_eq!(readers.line(), "data: canary 2");
    readers.ends_well();
    for mut one in [old, new] {
        one.go_on();
        one.ends_well();
    }
}
