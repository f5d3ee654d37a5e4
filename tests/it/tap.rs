//! Finished requests, live on the operator's side: what is shown, to whom, and that nobody is
//! slower for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gapura_tests::mesh::TestMesh;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::{Response, Wire};
use gapura_tests::{PATIENCE, eventually};
use serde_json::{Value, json};

/// Somebody who looks. HTTP/1.0, so that nothing is cut into chunks.
struct Viewer {
    stream: BufReader<TcpStream>,
    head: String,
}

/// One event: its kind, and what it says.
type Event = (String, Value);

impl Viewer {
    fn open(program: &Program, query: &str) -> Self {
        Self::at(program.address("admin"), query, "")
    }

    fn at(address: SocketAddr, query: &str, lines: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /tap{query} HTTP/1.0\r\nHost: {address}\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut viewer = Self {
            stream: BufReader::new(stream),
            head: String::new(),
        };
        while !viewer.head.ends_with("\r\n\r\n") {
            let read = viewer.stream.read_line(&mut viewer.head).unwrap();
            assert!(read > 0, "cut in the head: {}", viewer.head);
        }
        viewer
    }

    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn rest(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).unwrap();
        text
    }

    fn next(&mut self) -> Event {
        let (mut kind, mut data) = (String::new(), Value::Null);
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).unwrap();
            assert!(read > 0, "the stream has ended");
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut kind);
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = serde_json::from_str(text).unwrap();
            } else if line.is_empty() && data != Value::Null {
                return (kind, data);
            }
        }
    }

    /// The event of that request.
    fn next_of(&mut self, id: &str) -> Event {
        loop {
            let event = self.next();
            if event.1["request_id"] == id {
                return event;
            }
        }
    }

    /// The ids of the next requests, in order: each worker tells of its own when it has gathered
    /// some.
    fn some(&mut self, count: usize) -> Vec<String> {
        let ids = (0..count).map(|_| self.next().1["request_id"].as_str().unwrap().to_owned());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }

    /// The ids of the requests up to that one.
    fn until(&mut self, last: &str) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.last().is_none_or(|id| id != last) {
            let (kind, line) = self.next();
            assert_eq!(kind, "", "{line}");
            ids.push(line["request_id"].as_str().unwrap().to_owned());
        }
        ids
    }
}

fn sent(mesh: &TestMesh, path: &str, id: &str) -> Response {
    let request = mesh.get(path).header("X-Request-Id", id);
    request.token_of("7", "42").send()
}

#[test]
fn a_finished_request_is_seen_live_at_both_ends_and_nothing_secret_of_it() {
    for access in ["on", "off"] {
        let mesh = TestMesh::new()
            .fields(json!({"auth_mode": "forward_jwt"}))
            .invocations(|invocation, _| invocation.flag("--access-log", access))
            .start();
        let mut viewers = [&mesh.gateway, &mesh.sidecar].map(|program| Viewer::open(program, ""));
        for viewer in &viewers {
            assert_eq!(viewer.status(), 200);
            let head = viewer.head.to_ascii_lowercase();
            assert!(head.contains("content-type: text/event-stream"), "{head}");
            assert!(head.contains("cache-control: no-store"), "{head}");
        }
        let token = mesh.signer.token_of("7", "42");
        let answer = mesh
            .post("/echo/reports?key=in-the-query", "in-the-body")
            .token(&token)
            .header("X-Request-Id", "one")
            .header("Cookie", "session=in-the-cookie")
            .send();
        assert_eq!(answer.status, 200);
        for (viewer, path) in viewers.iter_mut().zip(["/echo/reports", "/reports"]) {
            // The gateway's own questions are requests at the sidecar too.
            let (kind, line) = viewer.next_of("one");
            assert_eq!(kind, "");
            for (name, value) in [
                ("event", json!("request")),
                ("request_id", json!("one")),
                ("method", json!("POST")),
                ("path", json!(path)),
                ("status", json!(200)),
                ("company_id", json!("42")),
                ("plugin", json!("echo")),
                ("bytes_in", json!(11)),
                ("code", Value::Null),
            ] {
                assert_eq!(line[name], value, "--access-log {access}: {name} of {line}");
            }
            assert!(line["latency_ms"].is_number() && line["peer"].is_string());
            let text = line.to_string();
            for secret in ["in-the-", token.as_str(), "Bearer"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
        // A refusal too, with its code.
        assert_eq!(mesh.get("/nowhere").send().status, 404);
        let (_, line) = viewers[0].next();
        assert_eq!(
            (&line["status"], &line["code"]),
            (&json!(404), &json!("no_route"))
        );
        assert_eq!(line["plugin"], Value::Null);
        if access == "on" {
            // It is the line of the log, but for the moment at which each was written.
            let mut logged = mesh.gateway.wait_for_line("the refusal", |logged| {
                logged["event"] == "request" && logged["status"] == 404
            });
            logged["ts"] = line["ts"].clone();
            assert_eq!(logged, line);
        }
    }
}

#[test]
fn a_viewer_sees_what_it_asked_for_and_nothing_else() {
    let mesh = TestMesh::new().also("other", json!({})).start();
    mesh.plugin.on("/slow", |exchange| {
        exchange.read_body();
        std::thread::sleep(Duration::from_millis(400)); // what is slow is the test's subject
        exchange.answer("200 OK", "", b"late");
        gapura_tests::plugin::Then::Keep
    });
    let queries = [
        ("", vec!["a", "b", "c", "d", "slow", "end"]),
        ("?plugin=other", vec!["b", "end"]),
        ("?plugin=none", vec!["c"]),
        ("?company=43", vec!["d"]),
        ("?status=404", vec!["c"]),
        ("?status=4xx", vec!["c"]),
        ("?slow_ms=400&plugin=echo", vec!["slow"]),
        (
            "?plugin=other&status=2xx&company=42&slow_ms=",
            vec!["b", "end"],
        ),
    ];
    let mut viewers =
        queries.map(|(query, expected)| (Viewer::open(&mesh.gateway, query), query, expected));
    assert_eq!(sent(&mesh, "/echo/a", "a").status, 200);
    assert_eq!(sent(&mesh, "/other/b", "b").status, 200);
    assert_eq!(sent(&mesh, "/nowhere", "c").status, 404);
    let of43 = mesh.get("/echo/d").header("X-Request-Id", "d");
    assert_eq!(of43.token_of("7", "43").send().status, 200);
    assert_eq!(sent(&mesh, "/echo/slow", "slow").status, 200);
    assert_eq!(sent(&mesh, "/other/end", "end").status, 200);
    for (viewer, query, expected) in &mut viewers {
        assert_eq!(viewer.status(), 200, "{query}");
        expected.sort_unstable();
        assert_eq!(&viewer.some(expected.len()), expected, "{query}");
    }
}

#[test]
fn a_question_that_makes_no_sense_is_refused_with_a_sentence() {
    let mesh = TestMesh::new().start();
    for (query, said) in [
        ("?status=6xx", "status: must be a status from 100 to 599"),
        ("?slow_ms=1s", "slow_ms: must be a whole number"),
        ("?plugin=a&plugin=b", "plugin: may be asked for once"),
        ("?company=%f", "company: is not encoded"),
        (
            "?path=/x",
            "plugin, company, status (404 or 5xx) and slow_ms",
        ),
    ] {
        let mut viewer = Viewer::open(&mesh.gateway, query);
        assert_eq!(viewer.status(), 400, "{query}");
        let text = viewer.rest();
        assert!(text.contains(said), "{query}: {text}");
    }
}

#[test]
fn eight_may_look_and_who_leaves_makes_room() {
    let mesh = TestMesh::new().start();
    let mut viewers: Vec<Viewer> = (0..8).map(|_| Viewer::open(&mesh.gateway, "")).collect();
    assert!(viewers.iter().all(|viewer| viewer.status() == 200));
    let mut ninth = Viewer::open(&mesh.gateway, "");
    assert_eq!(ninth.status(), 503);
    let text = ninth.rest();
    assert!(text.contains("\"message\": \"Eight look"), "{text}");
    assert_eq!(sent(&mesh, "/echo/x", "one").status, 200);
    for viewer in &mut viewers {
        assert_eq!(viewer.until("one"), ["one"]);
    }
    drop(viewers.pop());
    eventually("there is room again", || {
        (Viewer::open(&mesh.gateway, "").status() == 200).then_some(())
    });
    // Others have eight of their own.
    assert_eq!(Viewer::open(&mesh.sidecar, "").status(), 200);
}

#[test]
fn the_tap_is_for_who_may_use_the_operators_side() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    gapura_tests::certs::write_private(&file, "a-token-for-the-operators-of-this-test\n");
    let mesh = TestMesh::new()
        .gateway_flag("--admin-token-file", file.to_str().unwrap())
        .start();
    let address = mesh.gateway.address("admin");
    let with = |lines: &str| Viewer::at(address, "", lines).status();
    assert_eq!(with(""), 401);
    assert_eq!(with("Authorization: Bearer wrong\r\n"), 401);
    let right = "Authorization: Bearer a-token-for-the-operators-of-this-test\r\n";
    assert_eq!(with(right), 200);
    let ask = |request: &str| {
        let mut wire = Wire::plain(address);
        wire.send(request);
        wire.try_response("GET").unwrap().status
    };
    let rebound = format!("GET /tap HTTP/1.1\r\nHost: evil.example\r\n{right}\r\n");
    assert_eq!(ask(&rebound), 403);
    let posted =
        format!("POST /tap HTTP/1.1\r\nHost: {address}\r\n{right}Content-Length: 0\r\n\r\n");
    assert_eq!(ask(&posted), 405);
    assert_eq!(mesh.get("/tap").send().status, 404, "not at the front door");
    let _ = mesh.gateway.wait_for_event("tap_closed");
    // In the terminal likewise.
    let tap = |token: Option<&str>| {
        let mut tap = Invocation::new()
            .arg("tap")
            .flag("--admin", address.to_string());
        if let Some(token) = token {
            tap = tap.flag("--admin-token-file", token);
        }
        tap
    };
    let refused = tap(None).run("gapura");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("401"), "{}", refused.stderr);
    let terminal = Terminal::start(&tap(file.to_str()), &mesh.gateway);
    assert_eq!(sent(&mesh, "/echo/x", "one").status, 200);
    assert!(terminal.line().contains("id=one"));
}

#[test]
fn where_it_is_taken_out_nobody_looks() {
    let mesh = TestMesh::new()
        .gateway_arg("--no-tap")
        .invocations(|invocation, program| match program {
            "sidecar" => invocation.env("GAPURA_NO_TAP", "true"),
            _ => invocation,
        })
        .start();
    for program in [&mesh.gateway, &mesh.sidecar] {
        let mut viewer = Viewer::open(program, "");
        assert_eq!(viewer.status(), 404);
        let text = viewer.rest();
        assert!(text.contains("--no-tap"), "{text}");
        let ended = Invocation::new()
            .arg("tap")
            .flag("--admin", program.address("admin").to_string())
            .run("gapura");
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("--no-tap"), "{}", ended.stderr);
    }
    let shown = mesh.admin(&mesh.gateway, "/config").json();
    assert_eq!(shown["no-tap"], json!({"value": true, "from": "--no-tap"}));
    let checked = mesh
        .gateway_invocation()
        .arg("--check")
        .run("gapura-gateway");
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("\"no-tap\""), "{}", checked.stdout);
    let there = TestMesh::new().start();
    let shown = there.admin(&there.gateway, "/config").json();
    assert_eq!(shown["no-tap"], json!({"value": false, "from": "default"}));
    assert_eq!(Viewer::open(&there.gateway, "").status(), 200);
}

#[test]
fn a_viewer_that_does_not_read_loses_lines_hears_how_many_and_slows_nobody() {
    let mesh = TestMesh::new().plain_public().start();
    let mut asleep = Viewer::open(&mesh.gateway, "");
    let mut awake = Viewer::open(&mesh.gateway, "?status=200");
    // Each leaves a long line: more of them than a socket and the ring behind it can hold.
    let path = format!("/nowhere/{}", "a".repeat(7000));
    let mut wire = mesh.connect();
    let begun = Instant::now();
    for _ in 0..2500 {
        wire.get(&path, "");
        assert_eq!(wire.response().status, 404);
    }
    let took = begun.elapsed();
    println!("2,500 requests beside a viewer that sleeps: {took:?}");
    assert!(took < PATIENCE * 5, "{took:?}");
    assert_eq!(sent(&mesh, "/echo/x", "last").status, 200);
    assert_eq!(awake.until("last"), ["last"], "another loses nothing");
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < 2501 {
        let (kind, data) = asleep.next();
        match kind.as_str() {
            "dropped" => lost += data["dropped"].as_u64().unwrap(),
            _ => seen += 1,
        }
    }
    assert_eq!(seen + lost, 2501);
    assert!(lost > 0 && seen > 0, "{lost} lost, {seen} seen");
    // It goes on.
    assert_eq!(sent(&mesh, "/echo/x", "later").status, 200);
    assert_eq!(asleep.until("later"), ["later"]);
}

#[test]
fn who_looked_is_in_the_log() {
    let mesh = TestMesh::new().start();
    let viewer = Viewer::open(&mesh.gateway, "?company=42");
    let opened = mesh.gateway.wait_for_event("tap_opened");
    assert_eq!(
        (&opened["company_id"], &opened["plugin"]),
        (&json!("42"), &Value::Null)
    );
    drop(viewer);
    let closed = mesh.gateway.wait_for_event("tap_closed");
    assert_eq!(closed["company_id"], "42");
}

/// `gapura tap` in a terminal; ends with the test.
struct Terminal {
    child: Child,
    lines: Receiver<String>,
}

impl Terminal {
    /// Started, and looking at `program`.
    fn start(invocation: &Invocation, program: &Program) -> Self {
        let opened = || {
            let log = program.log();
            log.iter()
                .filter(|line| line["event"] == "tap_opened")
                .count()
        };
        let before = opened();
        let mut command = invocation.command("gapura");
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (found, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = found.send(line);
            }
        });
        eventually("the tap is open", || (opened() > before).then_some(()));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn in_the_terminal_each_request_is_a_line() {
    let mut mesh = TestMesh::new().start();
    let tap = Invocation::new()
        .arg("tap")
        .flag("--admin", mesh.gateway.address("admin").to_string());
    let asked = tap
        .clone()
        .args(&["--plugin", "none", "--status", "4xx", "--slow", "0ms"]);
    let people = Terminal::start(&asked, &mesh.gateway);
    assert_eq!(sent(&mesh, "/echo/x", "not-this").status, 200);
    assert_eq!(sent(&mesh, "/nowhere?secret", "this").status, 404);
    let line = people.line();
    assert!(
        line.contains(" 404 ") && line.contains(" GET /nowhere "),
        "{line}"
    );
    assert!(
        line.contains("code=no_route") && line.contains("id=this"),
        "{line}"
    );
    let mut programs = Terminal::start(&tap.clone().arg("--json"), &mesh.gateway);
    assert_eq!(sent(&mesh, "/echo/x", "json").status, 200);
    let line: Value = serde_json::from_str(&programs.line()).unwrap();
    assert_eq!(
        (&line["request_id"], &line["status"]),
        (&json!("json"), &json!(200))
    );
    for (wrong, said) in [
        ("--status=6xx", "5xx"),
        ("--slow=fast", "20s"),
        ("--admin=here", "127.0.0.1"),
    ] {
        let ended = Invocation::new().arg("tap").arg(wrong).run("gapura");
        assert_eq!(ended.code, Some(2), "{wrong}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{wrong}: {}", ended.stderr);
    }
    // When the program ends the tap says so.
    mesh.gateway.signal("TERM");
    let _ = mesh.gateway.wait_for_end(PATIENCE);
    let status = eventually("the tap ends", || programs.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
}
