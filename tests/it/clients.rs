//! Clients that no one here wrote: curl, Python's own HTTP client, and a WebSocket library.

use std::process::{Command, Output, Stdio};

use gapura_tests::PATIENCE;
use gapura_tests::h2::{Frames, Http2};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Exchange, Then};

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|err| {
        panic!("{command:?}: {err}; `tests/run` installs what the tests need")
    })
}

/// What curl says of this; it has to end well.
pub(crate) fn curl(mesh: &TestMesh, args: &[&str]) -> String {
    let root = mesh.public_root_file();
    let output = run(Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
        .arg(root)
        .args(args));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn url(mesh: &TestMesh, path: &str) -> String {
    format!("https://localhost:{}{path}", mesh.public().port())
}

/// A Python that has the library `websocket`: Debian's, or the first on the path.
pub(crate) fn python() -> &'static str {
    let has_library = |python: &&str| {
        let probe = Command::new(python)
            .args(["-c", "import websocket"])
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    };
    let python = ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(has_library);
    python.expect("a Python with the library `websocket`: install python3-websocket, or run `tests/run`, which does")
}

/// What a script of it says; it has to end well.
fn said_by_python(script: &str, args: &[&str]) -> String {
    let output = run(Command::new(python()).args(["-c", script]).args(args));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_over_both_versions_of_http() {
    let mesh = TestMesh::new().start();
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let format = "\n%{http_code} %{http_version}";
        let answer = curl(
            &mesh,
            &[
                flag,
                "-w",
                format,
                "-H",
                &token,
                "-H",
                "X-Company-Id: 9",
                &url(&mesh, "/echo/reports?page=2"),
            ],
        );
        assert!(
            answer.contains("\"ok\":true") && answer.ends_with(&format!("200 {version}")),
            "{answer}"
        );
        let posted = curl(
            &mesh,
            &[
                flag,
                "-w",
                format,
                "-H",
                &token,
                "-d",
                "title=a",
                &url(&mesh, "/echo/reports"),
            ],
        );
        assert!(posted.ends_with(&format!("200 {version}")), "{posted}");
        let refused = curl(&mesh, &[flag, "-w", format, &url(&mesh, "/echo/reports")]);
        assert!(
            refused.contains("token_missing") && refused.ends_with(&format!("401 {version}")),
            "{refused}"
        );
        let head = curl(
            &mesh,
            &[flag, "-I", "-H", &token, &url(&mesh, "/echo/reports")],
        );
        assert!(
            head.to_ascii_lowercase().contains("x-request-id:"),
            "{head}"
        );
    }
    let seen = mesh.plugin.seen();
    assert_eq!(seen.len(), 6);
    assert!(
        seen.iter()
            .all(|seen| seen.header("x-company-id") == Some("42")
                && seen.header("authorization").is_none())
    );
}

#[test]
fn curl_uploads_a_file_of_some_size() {
    let mesh = TestMesh::new().start();
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    let file = mesh.dir().join("upload");
    std::fs::write(&file, vec![b'a'; 5_000_000]).unwrap();
    for flag in ["--http1.1", "--http2"] {
        let answer = curl(
            &mesh,
            &[
                flag,
                "-H",
                &token,
                "-T",
                file.to_str().unwrap(),
                &url(&mesh, "/echo/upload"),
            ],
        );
        assert!(answer.contains("\"ok\":true"), "{answer}");
    }
    let seen = mesh.plugin.seen();
    assert!(
        seen.len() == 2
            && seen
                .iter()
                .all(|seen| seen.method == "PUT" && seen.complete && seen.body_length == 5_000_000),
        "{seen:?}"
    );
}

#[test]
fn pythons_own_client_keeps_its_connection() {
    let mesh = TestMesh::new().start();
    let script = "
import http.client, json, ssl, sys
port, root, token = sys.argv[1:]
c = http.client.HTTPSConnection('localhost', int(port), context=ssl.create_default_context(cafile=root), timeout=30)
for n in range(3):
    c.request('GET', f'/echo/n{n}', headers={'Authorization': 'Bearer ' + token, 'X-Role': 'admin'})
    r = c.getresponse()
    assert r.status == 200, r.status
    assert json.loads(r.read())['ok'] is True
    assert r.getheader('X-Request-Id')
c.request('POST', '/echo/chunked', body=iter([b'some ', b'chunks']), headers={'Authorization': 'Bearer ' + token}, encode_chunked=True)
r = c.getresponse(); r.read()
assert r.status == 200, r.status
c.request('GET', '/echo/x')
r = c.getresponse()
print(r.status, json.loads(r.read())['errors']['code'])
";
    let port = mesh.public().port().to_string();
    let said = said_by_python(
        script,
        &[
            &port,
            mesh.public_root_file().to_str().unwrap(),
            &mesh.signer.token_of("7", "42"),
        ],
    );
    assert_eq!(said.trim(), "401 token_missing");
    assert_eq!(mesh.plugin.seen_at("/chunked")[0].text(), "some chunks");
    assert!(
        mesh.plugin
            .seen()
            .iter()
            .all(|seen| seen.header("x-role") == Some("member"))
    );
}

#[test]
fn a_websocket_library_talks_to_a_websocket_plugin() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/ws", |exchange| echo_frames(exchange, b""));
    let script = "
import ssl, sys, websocket
port, root, token = sys.argv[1:]
try:
    websocket.create_connection(f'wss://localhost:{port}/echo/ws', sslopt={'ca_certs': root}, timeout=30)
    raise SystemExit('without a token')
except websocket.WebSocketBadStatusException as e:
    assert e.status_code == 401, e
ws = websocket.create_connection(f'wss://localhost:{port}/echo/ws', sslopt={'ca_certs': root}, timeout=30, header=['Authorization: Bearer ' + token])
for text in ['hello', 'x' * 60000, '']:
    ws.send(text)
    assert ws.recv() == text
ws.send_binary(bytes(range(256)))
assert ws.recv() == bytes(range(256))
ws.close()
print('good')
";
    let port = mesh.public().port().to_string();
    let said = said_by_python(
        script,
        &[
            &port,
            mesh.public_root_file().to_str().unwrap(),
            &mesh.signer.token_of("7", "42"),
        ],
    );
    assert_eq!(said.trim(), "good");
}

/// A plugin's side of a WebSocket that answers each message with the same, behind these bytes.
pub(crate) fn echo_frames(exchange: &mut Exchange<'_>, own: &[u8]) -> Then {
    let key = exchange
        .head
        .header("sec-websocket-key")
        .unwrap()
        .to_owned();
    exchange.write(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept(&key)
        )
        .as_bytes(),
    );
    let mut pending = Vec::new();
    loop {
        let bytes = exchange.read_some();
        if bytes.is_empty() {
            return Then::Close;
        }
        pending.extend(bytes);
        while let Some((opcode, payload)) = take_frame(&mut pending) {
            if opcode == 8 {
                exchange.write(&frame(opcode, &payload));
                return Then::Close;
            }
            exchange.write(&frame(opcode, &[own, &payload].concat()));
        }
    }
}

/// RFC 6455, section 4.2.2: SHA-1 of the key and a fixed text.
fn accept(key: &str) -> String {
    use base64::Engine;
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// One whole masked frame of a client (section 5.2), if it is there.
fn take_frame(pending: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let opcode = pending.first()? & 0x0f;
    let (length, start) = match pending.get(1)? & 0x7f {
        126 => (
            usize::from(u16::from_be_bytes(pending.get(2..4)?.try_into().unwrap())),
            4,
        ),
        127 => (
            usize::try_from(u64::from_be_bytes(pending.get(2..10)?.try_into().unwrap())).unwrap(),
            10,
        ),
        short => (usize::from(short), 2),
    };
    let mask: [u8; 4] = pending.get(start..start + 4)?.try_into().unwrap();
    let payload = pending
        .get(start + 4..start + 4 + length)?
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    pending.drain(..start + 4 + length);
    Some((opcode, payload))
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => out.push(short as u8),
        long => {
            out.push(126);
            out.extend((long as u16).to_be_bytes());
        }
    }
    out.extend(payload);
    out
}

#[test]
fn an_empty_body_over_http2_is_served_once() {
    let mesh = TestMesh::new().start();
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    for flag in ["--http1.1", "--http2"] {
        // It has to be there whole, and once: a client that sees a reset instead asks again.
        let code = [
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            flag,
            "-d",
            "",
            "-H",
        ];
        let target = url(&mesh, "/echo/empty");
        let answer = curl(&mesh, &[&code[..], &[&token, &target]].concat());
        assert_eq!(answer, "200", "{flag}");
    }
    assert_eq!(mesh.plugin.seen_at("/empty").len(), 2);
}

#[test]
fn a_head_that_is_no_request_is_refused_whole() {
    let mesh = TestMesh::new().start();
    let long = "a".repeat(9000);
    let many = "X: 1\r\n".repeat(101);
    for (request, status, code) in [
        (
            "GET / HTTP/1.1\r\nX y: 1\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            414,
            "uri_too_long",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
            431,
            "headers_too_large",
        ),
    ] {
        let mut wire = mesh.connect();
        wire.send(&request);
        wire.response().assert_refusal(status, code, "gateway");
    }
    let mut wire = mesh.connect();
    wire.send("GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n");
    assert_eq!(wire.response().status, 200);
}

#[test]
fn the_gateways_own_paths_need_no_host_from_http10_and_a_plugin_does() {
    let mesh = TestMesh::new().start();
    let ask = |request: &str| {
        let mut wire = mesh.connect();
        wire.send(request);
        wire.response().status
    };
    assert_eq!(ask("GET /healthz HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(ask("GET /echo/x HTTP/1.0\r\n\r\n"), 400);
    assert_eq!(ask("GET /healthz HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"), 204);
    assert_eq!(ask("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
    let whole = "GET https://localhost/healthz HTTP/1.1\r\nHost: localhost:443\r\n\r\n";
    assert_eq!(ask(whole), 200);
}

#[test]
fn a_refused_head_has_no_data_over_http2_either() {
    let mesh = TestMesh::new().start();
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    let fields = [
        (":method", "HEAD"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/echo/x"),
    ];
    frames.head(1, &fields, true);
    let answer = std::iter::from_fn(|| frames.raw_within(PATIENCE)).find(|frame| frame.stream == 1);
    let answer = answer.expect("an answer");
    assert_eq!(
        (answer.kind, answer.flags & 1),
        (1, 1),
        "a head, and its end: {answer:?}"
    );
    frames.send(6, 0, 0, &[7; 8]);
    let behind = std::iter::from_fn(|| frames.raw_within(PATIENCE)).find(|frame| frame.kind != 4);
    assert_eq!(
        behind.map(|frame| frame.kind),
        Some(6),
        "nothing but the ping's answer"
    );
}

#[test]
fn curl_sends_bodies_to_methods_that_seldom_have_one() {
    let mesh = TestMesh::new().start();
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    let target = url(&mesh, "/echo/odd");
    for version in ["--http1.1", "--http2"] {
        for method in ["GET", "DELETE", "OPTIONS"] {
            let known = ["-X", method, "-d", "a body", "-H", &token, version, &target];
            assert!(curl(&mesh, &known).contains("\"ok\":true"), "{method}");
        }
        // Of a length that nobody knows before its end.
        let file = mesh.dir().join("body");
        std::fs::write(&file, "a body").unwrap();
        let unknown = format!("@{}", file.display());
        let unknown = [
            "-X",
            "GET",
            "--data-binary",
            &unknown,
            "-H",
            "Transfer-Encoding: chunked",
        ];
        let rest = ["-H", &token, version, &target];
        assert!(curl(&mesh, &[&unknown[..], &rest].concat()).contains("\"ok\":true"));
    }
    let seen = mesh.plugin.seen_at("/odd");
    assert_eq!(seen.len(), 8, "each once");
    assert!(
        seen.iter()
            .all(|seen| seen.complete && seen.text() == "a body"),
        "{seen:?}"
    );
}

#[test]
fn a_client_that_has_said_all_and_closed_its_half_is_answered() {
    let plain = TestMesh::new().plain_public().start();
    let tls = TestMesh::new().start();
    for mesh in [&plain, &tls] {
        mesh.plugin.on("/slow", |exchange| {
            std::thread::sleep(std::time::Duration::from_millis(700)); // beyond the look after a half-closed client
            exchange.answer("200 OK", "", b"late");
            Then::Keep
        });
        let auth = mesh.authorization("7", "42");
        let mut wire = mesh.connect();
        wire.send(format!(
            "POST /echo/slow HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 4\r\n\r\nbody"
        ));
        wire.finish();
        let answer = wire.response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
        assert_eq!(mesh.plugin.seen_at("/slow").len(), 1);
    }
}

#[test]
fn what_health_checks_of_a_proxy_ask_is_answered() {
    let mesh = TestMesh::new().plain_public().start();
    // HAProxy's `option httpchk GET /healthz`, and its `http-check send` with a version and a host.
    for check in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "HEAD /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ] {
        let mut wire = mesh.connect();
        wire.send(check);
        let answer = String::from_utf8(wire.to_end().unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{check}: {answer}");
    }
}

#[test]
fn an_answer_has_one_date_and_its_names_in_lower_case_and_expect_ends_at_the_door() {
    let mesh = TestMesh::new().start();
    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let dated = format!("HTTP/1.1 200 OK\r\nDATE: {OLD}\r\nContent-Length: 2\r\n\r\nok");
    mesh.plugin.answer_raw("/dated", dated, Then::Keep);
    let auth = mesh.authorization("7", "42");
    let token = auth.trim_end().split_once(' ').unwrap().1.to_owned();
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    for (path, kept) in [("/echo/dated", true), ("/echo/undated", false)] {
        let mut wire = mesh.connect();
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(wire.try_response("POST").unwrap().status, 100);
        wire.send("hi");
        let over_h1 = wire.try_response("POST").unwrap();
        let request = http::Request::get(format!("https://localhost{path}"))
            .header("authorization", &token)
            .body(())
            .unwrap();
        let over_h2 = client.exchange(request, None);
        for answer in [&over_h1, &over_h2] {
            let dates = answer.all("date");
            assert_eq!(dates.len(), 1, "{answer:?}");
            assert_eq!(dates[0] == OLD, kept, "{answer:?}");
            let mixed = answer
                .headers
                .iter()
                .find(|(name, _)| *name != name.to_ascii_lowercase());
            assert_eq!(mixed, None, "{answer:?}");
        }
    }
    let seen = mesh.plugin.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter().all(|seen| seen.header("expect").is_none()),
        "{seen:?}"
    );
}
