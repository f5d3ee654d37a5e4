//! What a plugin may say and do, good and bad, and what the sidecar makes of it: tried at the
//! sidecar itself, over both versions of HTTP on the hop.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::{Response, Wire};
use http::Request;
use serde_json::Value;

const CONTEXT: &str =
    "X-User-Id: 7\r\nX-Company-Id: 42\r\nX-Role: member\r\nX-Gapura-Auth: verified\r\n";

/// The head of a request on the hop, but for its last line.
fn head(method: &str, path: &str, id: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n{CONTEXT}")
}

fn ask(wire: &mut Wire, method: &str, path: &str, id: &str) -> Result<Response, String> {
    wire.send(head(method, path, id) + "\r\n");
    wire.try_response(method)
}

/// The sidecar's access line of a request.
fn line(mesh: &TestMesh, id: &str) -> Value {
    mesh.sidecar.wait_for_line(id, |line| {
        line["event"] == "request" && line["request_id"] == id
    })
}

/// Answers that break off, and what the line says of each.
const CUT: [(&str, &str, &str); 6] = [
    (
        "short",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "fewer bytes",
    ),
    (
        "head-alone",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "fewer bytes",
    ),
    (
        "no-last-chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        "broke off",
    ),
    (
        "half-a-chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
        "broke off",
    ),
    (
        "no-chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
        "chunk",
    ),
    (
        "folded-trailer",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\na: b\r\n c\r\n\r\n",
        "folded",
    ),
];

#[test]
fn an_answer_cut_short_is_passed_on_as_cut_and_logged_as_cut() {
    let mesh = TestMesh::new().start();
    for (name, bytes, reason) in CUT {
        mesh.plugin
            .answer_raw(&format!("/{name}"), bytes, Then::Close);
        let id = format!("h1-{name}");
        let mut wire = mesh.connect_hop();
        wire.send(head("GET", &format!("/{name}"), &id) + "\r\n");
        assert_eq!(wire.response_head().status, 200, "{name}: the head comes");
        let rest = wire.to_end().unwrap_or_default();
        assert!(
            !rest.ends_with(b"0\r\n\r\n"),
            "{name}: not as if it were whole"
        );
        let line = line(&mesh, &id);
        assert_eq!(line["code"], "answer_cut", "{name}: {line}");
        assert_eq!(line["status"], 200, "{name}: {line}");
        assert_eq!(line["level"], "warn", "{name}: {line}");
        assert!(
            line["reason"].as_str().unwrap().contains(reason),
            "{name}: {line}"
        );
    }
    let good = [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nonly this",
    ];
    for (at, bytes) in good.into_iter().enumerate() {
        mesh.plugin
            .answer_raw(&format!("/good{at}"), bytes, Then::Close);
        let id = format!("good-{at}");
        let answer = ask(&mut mesh.connect_hop(), "GET", &format!("/good{at}"), &id).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "only this"));
        let line = line(&mesh, &id);
        assert_eq!(line["code"], Value::Null, "{line}");
        assert_eq!(line["level"], "info", "{line}");
    }
    let cut = mesh.metric(
        &mesh.sidecar,
        "gapura_rejections_total{code=\"answer_cut\"}",
    );
    assert!(cut >= 6.0, "{cut} are counted");
}

fn over_h2(path: &str, id: &str) -> Request<()> {
    Request::get(format!("https://a{path}"))
        .header("x-request-id", id)
        .header("x-user-id", "7")
        .header("x-company-id", "42")
        .header("x-role", "member")
        .header("x-gapura-auth", "verified")
        .body(())
        .unwrap()
}

#[test]
fn the_same_over_http2_and_the_connection_goes_on() {
    let mesh = TestMesh::new().start();
    let tls = mesh.hop_tls(Some(&mesh.gateway_cert), &["h2"]);
    let mut client = Http2::connect(mesh.hop(), &tls, 1 << 20);
    for (name, bytes, _) in CUT {
        mesh.plugin
            .answer_raw(&format!("/{name}"), bytes, Then::Close);
        let id = format!("h2-{name}");
        let answer = client
            .open(over_h2(&format!("/{name}"), &id), true)
            .answer();
        assert_eq!(answer.head.status, 200, "{name}: the head comes");
        assert!(answer.try_whole().is_err(), "{name}: its stream is reset");
        assert_eq!(line(&mesh, &id)["code"], "answer_cut", "{name}");
    }
    let good = client.exchange(over_h2("/x", "h2-good"), None);
    assert_eq!(good.status, 200);
    assert_eq!(line(&mesh, "h2-good")["code"], Value::Null);
}

#[test]
fn what_is_no_answer_is_a_502_with_its_reason() {
    let mesh = TestMesh::new().start();
    let long = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n",
        "a".repeat(70 * 1024)
    );
    let cases = [
        (
            "/two",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "Content-Length",
        ),
        (
            "/both",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding",
        ),
        ("/long", &long, ""),
        (
            "/folded",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
            "folded",
        ),
        (
            "/control",
            "HTTP/1.1 200 OK\r\nX-A: b\x01c\r\nContent-Length: 2\r\n\r\nok",
            "control",
        ),
        ("/bare", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", ""),
        ("/ftp", "220 ready\r\n", ""),
    ];
    for (path, bytes, reason) in cases {
        mesh.plugin.answer_raw(path, bytes, Then::Close);
        let answer = ask(&mut mesh.connect_hop(), "GET", path, &path[1..]).unwrap();
        answer.assert_refusal(502, "upstream_protocol", "sidecar");
        let line = line(&mesh, &path[1..]);
        assert_eq!(line["code"], "upstream_protocol", "{line}");
        let said = line["reason"].as_str().unwrap_or_default();
        assert!(!said.is_empty() && said.contains(reason), "{path}: {line}");
    }
    let head_of_64 = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 2\r\n\r\nok",
        "a".repeat(60 * 1024)
    );
    mesh.plugin.answer_raw("/wide", head_of_64, Then::Keep);
    let answer = ask(&mut mesh.connect_hop(), "GET", "/wide", "wide").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn a_plugin_that_breaks_off_right_behind_its_head_is_never_an_empty_close() {
    let mesh = TestMesh::new().start();
    let served = AtomicUsize::new(0);
    mesh.plugin.on("/crash", move |exchange| {
        exchange.read_body();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
        // Whole heads, and heads that break off themselves.
        let at = served.fetch_add(1, Ordering::Relaxed);
        let end = if at.is_multiple_of(2) { head.len() } else { 20 };
        exchange.write(&head.as_bytes()[..end]);
        Then::Close
    });
    for round in 0..20 {
        let id = format!("crash-{round}");
        let mut wire = mesh.connect_hop();
        wire.send(head("POST", "/crash", &id) + "Content-Length: 3\r\n\r\nabc");
        let status = wire.response_head().status;
        let code = line(&mesh, &id)["code"].clone();
        if round % 2 == 0 {
            assert_eq!(status, 200, "the head, and then the cut");
            assert!(wire.to_end().unwrap_or_default().is_empty());
            assert_eq!(code, "answer_cut");
        } else {
            assert_eq!(status, 502);
            assert_eq!(code, "upstream_protocol");
        }
    }
    assert_eq!(mesh.plugin.seen_at("/crash").len(), 20, "each once");
}

#[test]
fn a_head_that_is_refused_has_its_envelope_its_id_and_its_line() {
    let mesh = TestMesh::new().start();
    let long = "a".repeat(70 * 1024);
    let many = "X-A: b\r\n".repeat(130);
    let cases = [
        (
            "two",
            "GET",
            "/x?secret=1".to_owned(),
            "Content-Length: 1\r\nContent-Length: 2\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "fold",
            "GET",
            "/x".to_owned(),
            "X-A: b\r\n c\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "many",
            "GET",
            "/x".to_owned(),
            many,
            431,
            "headers_too_large",
        ),
        (
            "long",
            "GET",
            "/x".to_owned(),
            format!("X-A: {long}\r\n"),
            431,
            "headers_too_large",
        ),
        (
            "target",
            "GET",
            format!("/{}", &long[..20 * 1024]),
            String::new(),
            414,
            "uri_too_long",
        ),
    ];
    for (id, method, target, lines, status, code) in cases {
        let mut wire = mesh.connect_hop();
        // It may be refused before all of it was read.
        let _ = wire.try_send(head(method, &target, id) + &lines + "\r\n");
        let answer = wire.try_response(method).unwrap();
        answer.assert_refusal(status, code, "sidecar");
        assert!(wire.is_closed_within(gapura_tests::PATIENCE), "{id}");
        assert_eq!(answer.header("x-request-id"), Some(id));
        let line = line(&mesh, id);
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["code"], code, "{line}");
        assert_eq!(line["method"], "GET", "{line}");
        assert!(line["reason"].is_string(), "{line}");
        assert!(!line.to_string().contains("secret"), "no query: {line}");
    }
    let mut wire = mesh.connect_hop();
    wire.send(head("HEAD", "/x", "head") + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(wire.try_response("HEAD").unwrap().status, 400);
    assert!(
        wire.to_end().unwrap_or_default().is_empty(),
        "HEAD gets no body"
    );
    let mut wire = mesh.connect_hop();
    wire.send("\x16\x03\x01 nonsense\r\n\r\n");
    assert_eq!(wire.response_head().status, 400);
    mesh.sidecar
        .wait_for_line("what has no request line", |line| {
            line["event"] == "request" && line["method"] == "-" && line["status"] == 400
        });
    assert!(mesh.plugin.seen().is_empty());
    let good = ask(&mut mesh.connect_hop(), "GET", "/x", "good").unwrap();
    assert_eq!(good.status, 200);
}

#[test]
fn what_is_wrong_with_an_upload_is_not_the_plugins_fault() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect_hop();
    wire.send(
        head("POST", "/up", "chunk") + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    );
    wire.response()
        .assert_refusal(400, "bad_request", "sidecar");
    let told = line(&mesh, "chunk");
    assert_eq!(told["code"], "bad_request", "{told}");
    let mut wire = mesh.connect_hop();
    wire.send(head("POST", "/up", "gone") + "Content-Length: 100\r\n\r\nabc");
    mesh.plugin
        .wait_for("the beginning", |seen| seen.all("x-request-id") == ["gone"]);
    drop(wire);
    let told = line(&mesh, "gone");
    assert_eq!(told["status"], 499, "{told}");
    assert_eq!(told["code"], "client_gone", "{told}");
    assert!(
        mesh.plugin.seen_at("/up").iter().all(|seen| !seen.complete),
        "neither was whole"
    );
    let mut wire = mesh.connect_hop();
    wire.send(head("POST", "/up", "whole") + "Content-Length: 3\r\n\r\nabc");
    assert_eq!(wire.response().status, 200);
}

#[test]
fn a_plugin_that_closes_at_reuse_costs_no_get_and_doubles_no_post() {
    let mesh = TestMesh::new().start();
    for (method, status, times) in [("GET", 200, 2), ("POST", 502, 1)] {
        let mut wire = mesh.connect_hop();
        let first = ask(&mut wire, "GET", "/x", &format!("{method}-first")).unwrap();
        assert_eq!(first.status, 200);
        let path = format!("/reuse-{method}");
        let calls = AtomicUsize::new(0);
        mesh.plugin.on(&path, move |exchange| {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                return Then::Close;
            }
            exchange.answer("200 OK", "", b"again");
            Then::Keep
        });
        let answer = ask(&mut wire, method, &path, method).unwrap();
        assert_eq!(answer.status, status, "{method}");
        assert_eq!(mesh.plugin.seen_at(&path).len(), times, "{method}");
    }
}

#[test]
fn a_103_passes_and_other_interim_answers_end_here() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/hints",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Company-Id: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Then::Keep,
    );
    let mut wire = mesh.connect_hop();
    let hints = ask(&mut wire, "GET", "/hints", "hints").unwrap();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.header("link"), Some("</a.css>"));
    assert_eq!(hints.header("x-company-id"), None, "nothing internal");
    let last = wire.try_response("GET").unwrap();
    assert_eq!((last.status, last.text().as_str()), (200, "ok"));
    let plain = ask(&mut wire, "GET", "/x", "plain").unwrap();
    assert_eq!(plain.status, 200);
}

#[test]
fn a_plugin_of_http_1_0_is_served_in_each_of_its_forms() {
    let mesh = TestMesh::new().start();
    for (path, bytes, then) in [
        ("/close", "HTTP/1.0 200 OK\r\n\r\nonly this", Then::Close),
        (
            "/length",
            "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nonly this",
            Then::Close,
        ),
        (
            "/keep",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\nonly this",
            Then::Keep,
        ),
    ] {
        mesh.plugin.answer_raw(path, bytes, then);
        let mut wire = mesh.connect_hop();
        for round in 0..2 {
            let id = format!("{}-{round}", &path[1..]);
            let answer = ask(&mut wire, "GET", path, &id).unwrap();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "only this"),
                "{path}"
            );
            assert_eq!(answer.version, "HTTP/1.1", "the hop speaks its own version");
        }
    }
    let kept: Vec<_> = mesh
        .plugin
        .seen_at("/keep")
        .iter()
        .map(|seen| seen.connection)
        .collect();
    assert_eq!(kept.len(), 2);
    assert_eq!(
        kept[0], kept[1],
        "one that keeps its connection is asked on it again"
    );
}

/// Resets a stream once so much of it was taken that its head must have been: a reset drops what
/// waits in front of it.
async fn cut_once_read(mut body: h2::SendStream<bytes::Bytes>) {
    const PIECE: usize = 16 * 1024;
    for _ in 0..64 {
        body.reserve_capacity(PIECE);
        while body.capacity() < PIECE {
            let Some(Ok(_)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else {
                return;
            };
        }
        let piece = bytes::Bytes::from_static(&[0; PIECE]);
        body.send_data(piece, false).unwrap();
    }
    body.send_reset(h2::Reason::INTERNAL_ERROR);
}

/// A plugin that speaks HTTP/2 without TLS: `/cut` breaks off behind its first bytes, `/reset`
/// before its head, the rest says whose company it was asked for, with a trailer behind it.
fn h2c_plugin() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if request.uri().path() == "/reset" {
                            respond.send_reset(h2::Reason::INTERNAL_ERROR);
                            continue;
                        }
                        let company = request.headers()["x-company-id"].clone();
                        let mut body = respond
                            .send_response(http::Response::new(()), false)
                            .unwrap();
                        let said = bytes::Bytes::copy_from_slice(company.as_bytes());
                        body.send_data(said, false).unwrap();
                        if request.uri().path() == "/cut" {
                            tokio::spawn(cut_once_read(body));
                        } else {
                            let mut trailers = http::HeaderMap::new();
                            trailers.insert("grpc-status", "0".parse().unwrap());
                            body.send_trailers(trailers).unwrap();
                        }
                    }
                });
            }
        });
    });
    address
}

#[test]
fn a_plugin_of_http2_is_served_and_its_cuts_are_seen() {
    let mesh = TestMesh::new().start();
    let sidecar = sidecar_of(&mesh, &format!("h2c://{}", h2c_plugin()));
    let tls = mesh.hop_tls(Some(&mesh.gateway_cert), &["h2"]);
    let mut client = Http2::connect(sidecar.address("hop"), &tls, 1 << 20);
    let told = |id: &str| {
        sidecar.wait_for_line(id, |line| {
            line["event"] == "request" && line["request_id"] == id
        })
    };
    for round in 0..2 {
        let id = format!("whole-{round}");
        let whole = client.exchange(over_h2("/x", &id), None);
        assert_eq!((whole.status, whole.text().as_str()), (200, "42"));
        assert_eq!(whole.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
        assert_eq!(told(&id)["code"], Value::Null);
        let id = format!("cut-{round}");
        let cut = client.open(over_h2("/cut", &id), true).answer();
        assert_eq!(cut.head.status, 200);
        assert!(cut.try_whole().is_err(), "it is passed on as cut");
        assert_eq!(told(&id)["code"], "answer_cut");
        let id = format!("reset-{round}");
        let reset = client.exchange(over_h2("/reset", &id), None);
        reset.assert_refusal(502, "upstream_protocol", "sidecar");
    }
}

/// Python's own server: one thread, HTTP/1.1, each connection served until it closes.
struct Python {
    child: Child,
    port: u16,
}

impl Python {
    fn start() -> Self {
        let script = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed where these tests run");
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let port = first.trim().parse().unwrap();
        Self { child, port }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sidecar_of(mesh: &TestMesh, plugin: &str) -> Program {
    let mut sidecar = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--plugin", plugin)
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .flag("--admin", "127.0.0.1:0")
        .flag("--workers", "2")
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    sidecar
}

#[test]
fn a_plugin_with_one_thread_that_keeps_connections_is_served_without_a_wait() {
    let mesh = TestMesh::new().start();
    let python = Python::start();
    let sidecar = sidecar_of(&mesh, &format!("http://127.0.0.1:{}", python.port));
    let tls = mesh.hop_tls(Some(&mesh.gateway_cert), &["http/1.1"]);
    // Each goes to the worker with the fewest connections: in turn to both, which keep connections
    // of their own.
    let mut wires: Vec<_> = (0..4)
        .map(|_| Wire::tls(sidecar.address("hop"), &tls).unwrap())
        .collect();
    let begun = Instant::now();
    for round in 0..5 {
        for (at, wire) in wires.iter_mut().enumerate() {
            let answer = ask(wire, "GET", "/x", &format!("python-{round}-{at}")).unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        }
    }
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(6),
        "20 requests took {took:?}: each further connection waits for a kept one to grow old, 3 s each"
    );
    // And all at once.
    let begun = Instant::now();
    for (at, wire) in wires.iter_mut().enumerate() {
        wire.send(head("GET", "/x", &format!("python-at-once-{at}")) + "\r\n");
    }
    for wire in &mut wires {
        assert_eq!(wire.response().status, 200);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "4 at once took {took:?}");
}
