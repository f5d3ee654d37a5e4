//! Every wait has an end.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gapura_tests::h2::{Frame, Frames};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};
use serde_json::json;

#[test]
fn a_plugin_that_does_not_answer_in_time_is_a_504_and_the_next_request_is_served() {
    let mesh = TestMesh::new().fields(json!({"timeout_ms": 400})).start();
    mesh.plugin.on("/never", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let begun = Instant::now();
    mesh.get("/echo/never")
        .token_of("7", "42")
        .send()
        .assert_refusal(504, "upstream_timeout", "gateway");
    let took = begun.elapsed();
    assert!(
        (Duration::from_millis(400)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    gapura_tests::eventually("the plugin is let go", || {
        (mesh.plugin.seen_at("/never").len() == 1 && mesh.plugin.open() <= 1).then_some(())
    });
}

#[test]
fn the_time_runs_from_the_requests_last_byte_to_the_answers_last_header() {
    let mesh = TestMesh::new().fields(json!({"timeout_ms": 700})).start();
    mesh.plugin.on("/slow-body", |exchange| {
        exchange.read_body();
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12");
        std::thread::sleep(Duration::from_millis(1200)); // what is tested is that this does not count
        exchange.write(b"34");
        Then::Keep
    });
    assert_eq!(
        mesh.get("/echo/slow-body")
            .token_of("7", "42")
            .send()
            .text(),
        "1234"
    );
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "POST /echo/x HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 4\r\n\r\n12"
    ));
    assert!(
        wire.is_silent_for(Duration::from_millis(1200)),
        "a slow sender is not yet late"
    );
    wire.send("34");
    assert_eq!(wire.response().status, 200);
}

/// The fixed times of the contract, all waited for at once, because waiting is all that this test
/// does.
#[test]
fn a_stalled_client_is_let_go_in_its_time() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/stalls", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12");
        exchange.wait_for_close();
        Then::Close
    });
    let public = mesh.public();
    let auth = mesh.authorization("7", "42");
    let span = |seconds: u64| Duration::from_secs(seconds)..Duration::from_secs(seconds + 8);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tcp = TcpStream::connect(public).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let begun = Instant::now();
            let mut answer = Vec::new();
            let _ = tcp.read_to_end(&mut answer);
            assert!(
                span(9).contains(&begun.elapsed()),
                "TLS handshake: {:?}",
                begun.elapsed()
            );
        });
        scope.spawn(|| {
            let mut wire = mesh.connect();
            let begun = Instant::now();
            wire.send("GET /echo/x HTTP/1.1\r\nHost: local");
            let refusal = wire.response();
            assert!(
                span(9).contains(&begun.elapsed()),
                "request head: {:?}",
                begun.elapsed()
            );
            refusal.assert_refusal(408, "request_timeout", "gateway");
            assert!(refusal.header("x-request-id").is_some());
            assert!(wire.is_closed_within(Duration::from_secs(10)));
        });
        scope.spawn(|| {
            let mut wire = mesh.connect();
            let begun = Instant::now();
            wire.send(format!("POST /echo/upload HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 10\r\n\r\n12345"));
            assert!(wire.is_closed_within(Duration::from_secs(45)));
            assert!(span(29).contains(&begun.elapsed()), "request body: {:?}", begun.elapsed());
            let answer = wire.response();
            assert_eq!(answer.status, 408, "{answer:?}");
            assert_eq!(answer.json()["errors"]["code"], "request_timeout");
        });
        scope.spawn(|| {
            let mut wire = mesh.connect();
            wire.get("/healthz", "");
            assert_eq!(wire.response().status, 200);
            let begun = Instant::now();
            assert!(wire.is_closed_within(Duration::from_secs(75)));
            assert!(
                span(58).contains(&begun.elapsed()),
                "idle: {:?}",
                begun.elapsed()
            );
        });
        scope.spawn(|| {
            let mut wire = mesh.connect();
            wire.get("/echo/stalls", &auth);
            let begun = Instant::now();
            assert_eq!(wire.response_head().status, 200);
            assert!(wire.is_closed_within(Duration::from_secs(75)));
            assert!(
                span(58).contains(&begun.elapsed()),
                "answer body: {:?}",
                begun.elapsed()
            );
        });
    });
}

#[test]
fn an_upload_that_nobody_takes_is_given_up_after_a_minute() {
    let mesh = TestMesh::new().start();
    let over = Gate::new();
    let until = over.clone();
    mesh.plugin.on("/deaf", move |_| {
        let _ = until.wait(); // a minute at most, and reads nothing all the while
        std::thread::sleep(Duration::from_secs(40));
        Then::Close
    });
    let auth = mesh.authorization("7", "42");
    let mut wire = mesh.connect();
    wire.send(format!(
        "POST /echo/deaf HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 50000000\r\n\r\n"
    ));
    let begun = Instant::now();
    let part = vec![b'a'; 1 << 16];
    while wire.try_send(&part).is_ok() {} // until nobody takes more: the harness gives up on a write after its own patience
    assert!(wire.is_closed_within(Duration::from_secs(85)));
    assert!(
        (58..85).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
    let line = mesh.gateway.wait_for_line("the upload", |line| {
        line["event"] == "request" && line["path"] == "/echo/deaf"
    });
    assert_eq!(line["status"], 504, "{line}");
}

#[test]
fn an_idle_client_of_http2_is_told_goodbye_after_a_minute() {
    let mesh = TestMesh::new().start();
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    frames.head(
        1,
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/healthz"),
        ],
        true,
    );
    let begun = Instant::now();
    let mut goodbye = None;
    while let Some(frame) = frames.next_within(Duration::from_secs(85)) {
        if let Frame::GoAway(code) = frame {
            goodbye.get_or_insert((code, begun.elapsed()));
        }
        if frame == Frame::Head(1, Some(200)) {
            frames.send(6, 0, 0, b"are you?"); // a PING is no request, and no sign that one begins
        }
    }
    let (code, after) = goodbye.expect("a GOAWAY before the end");
    assert_eq!(code, 0, "without reproach");
    assert!((58..68).contains(&after.as_secs()), "{after:?}");
}

#[test]
fn a_gateway_that_stalls_is_let_go_too() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect_hop();
    let begun = Instant::now();
    wire.send("GET /x HTTP/1.1\r\nHost: local");
    let refusal = wire.response();
    assert!(
        (9..18).contains(&begun.elapsed().as_secs()),
        "request head: {:?}",
        begun.elapsed()
    );
    refusal.assert_refusal(408, "request_timeout", "sidecar");
    assert!(wire.is_closed_within(Duration::from_secs(10)));
}
