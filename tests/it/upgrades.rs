//! `Upgrade` passes for `websocket` only, and no byte after it goes on before the plugin has
//! said 101.

use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::wire::Wire;
use serde_json::json;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn echoing() -> TestMesh {
    let mesh = TestMesh::new().fields(json!({"timeout_ms": 1500})).start();
    mesh.plugin.on("/ws", |exchange| {
        exchange.write(SWITCHED);
        loop {
            let bytes = exchange.read_some();
            if bytes.is_empty() || !exchange.write(&bytes) {
                return Then::Close;
            }
        }
    });
    mesh
}

fn open(mesh: &TestMesh) -> Wire {
    let mut wire = mesh.connect();
    wire.get("/echo/ws", &(mesh.authorization("7", "42") + UPGRADE));
    let response = wire.response_head();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    wire
}

#[test]
fn bytes_go_both_ways_once_the_plugin_has_switched() {
    let mesh = echoing();
    let mut wire = open(&mesh);
    for size in [1, 100, 70_000] {
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        wire.send(&bytes);
        assert_eq!(wire.read(size as usize), bytes);
    }
    let seen = mesh
        .plugin
        .wait_for("the upgrade", |seen| seen.target == "/ws");
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert!(
        seen.header("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    assert_eq!(
        seen.header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    assert_eq!(seen.header("x-company-id"), Some("42"));
}

#[test]
fn an_upgraded_stream_is_not_under_the_timeout_of_requests() {
    let mesh = echoing();
    let mut wire = open(&mesh);
    assert!(
        wire.is_silent_for(Duration::from_millis(2500)),
        "longer than timeout_ms"
    );
    wire.send("still here");
    assert_eq!(wire.read(10), b"still here");
}

#[test]
fn either_end_ends_both() {
    let mesh = echoing();
    drop(open(&mesh));
    gapura_tests::eventually("the plugin's side closes", || {
        (mesh.plugin.open() == 0).then_some(())
    });
    let mut wire = open(&mesh);
    mesh.plugin.cut();
    assert!(wire.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn early_bytes_wait_for_the_101() {
    let mesh = TestMesh::new().start();
    let switch = Gate::new();
    let switched = switch.clone();
    mesh.plugin.on("/ws", move |exchange| {
        assert!(switched.wait());
        exchange.write(SWITCHED);
        let bytes = exchange.read_some();
        exchange.write(&bytes);
        Then::Close
    });
    let mut wire = mesh.connect();
    wire.get("/echo/ws", &(mesh.authorization("7", "42") + UPGRADE));
    wire.send("early!");
    let _ = mesh
        .plugin
        .wait_for("the upgrade", |seen| seen.target == "/ws");
    assert!(wire.is_silent_for(Duration::from_millis(200)));
    assert!(
        !mesh.plugin.got_bytes("early!"),
        "bytes went on before the 101"
    );
    switch.open();
    assert_eq!(wire.response_head().status, 101);
    assert_eq!(wire.read(6), b"early!");
}

#[test]
fn a_request_glued_to_a_refused_upgrade_is_no_request_of_the_plugins() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "GET /echo/plain HTTP/1.1\r\nHost: localhost\r\n{auth}{UPGRADE}\r\nGET /admin HTTP/1.1\r\nHost: localhost\r\nX-Company-Id: spoof\r\n\r\n"
    ));
    assert_eq!(
        wire.response().status,
        200,
        "a plugin that does not switch answers as it likes"
    );
    // The second may be answered by the gateway as a request of its own (404, no such mount) or not
    // at all.
    if let Ok(second) = wire.try_response("GET") {
        assert!(matches!(second.status, 400 | 404), "{second:?}");
    }
    assert!(mesh.plugin.seen_at("/admin").is_empty());
    assert!(!mesh.plugin.got_bytes("spoof"));
}

#[test]
fn nothing_but_websocket_is_switched_to() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw("/eager", SWITCHED, Then::Close);
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\nSec-WebSocket-Version: 13\r\n",
    ] {
        let auth = mesh.authorization("7", "42");
        let mut wire = mesh.connect();
        wire.get("/echo/asked", &format!("{auth}{lines}"));
        let status = wire.response().status;
        assert!(matches!(status, 200 | 400), "{lines}: {status}");
        let mut wire = mesh.connect();
        wire.get("/echo/eager", &format!("{auth}{lines}"));
        let status = wire.response().status;
        assert!(
            matches!(status, 400 | 502),
            "{lines}: a 101 that nobody asked for: {status}"
        );
    }
    assert!(mesh.plugin.seen_at("/asked").iter().all(|seen| seen.header("upgrade").is_none() && seen.header("http2-settings").is_none()));
}

#[test]
fn the_wish_for_a_websocket_carries_nothing_that_only_we_may_say() {
    let mesh = echoing();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.get(
        "/echo/ws",
        &format!(
            "{auth}{UPGRADE}X-Role: spoof\r\nX_Company_Id: spoof\r\nX.User.Id: spoof\r\nConnection: X-Company-Id, x-user-id\r\n"
        ),
    );
    assert_eq!(wire.response_head().status, 101);
    let seen = mesh
        .plugin
        .wait_for("the upgrade", |seen| seen.target == "/ws");
    assert_eq!(
        (
            seen.header("x-user-id"),
            seen.header("x-company-id"),
            seen.header("x-role")
        ),
        (Some("7"), Some("42"), Some("member"))
    );
    assert!(!mesh.plugin.got_bytes("spoof"));
}

#[test]
fn an_upgrade_without_a_token_reaches_nothing() {
    let mesh = echoing();
    let mut wire = mesh.connect();
    wire.get("/echo/ws", UPGRADE);
    wire.response()
        .assert_refusal(401, "token_missing", "gateway");
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn a_websocket_leaves_a_line_when_it_begins_and_one_when_it_ends() {
    let mesh = echoing();
    let mut wire = open(&mesh);
    let of = |event: &str| {
        let event = event.to_owned();
        move |line: &serde_json::Value| line["event"] == *event && line["path"] == "/echo/ws"
    };
    let begins = mesh.gateway.wait_for_line("its beginning", of("websocket"));
    assert_eq!(
        (&begins["status"], &begins["company_id"]),
        (&json!(101), &json!("42"))
    );
    wire.send("twelve bytes");
    assert_eq!(wire.read(12), b"twelve bytes");
    assert!(wire.is_silent_for(Duration::from_millis(300)));
    let line = of("request");
    assert!(!mesh.gateway.log().iter().any(line), "it has not ended");
    let in_flight = "gapura_requests_in_flight{plugin=\"echo\"}";
    assert!(mesh.metric(&mesh.gateway, in_flight) > 0.5);
    drop(wire);
    let ends = mesh.gateway.wait_for_line("its end", of("request"));
    assert_eq!(ends["request_id"], begins["request_id"]);
    assert_eq!(
        (&ends["bytes_in"], &ends["bytes_out"]),
        (&json!(12), &json!(12)),
        "{ends}"
    );
    assert_eq!(
        (&ends["status"], &ends["code"]),
        (&json!(101), &json!(null))
    );
    let lasted = ends["latency_ms"].as_f64().unwrap();
    assert!(lasted >= 300.0, "{ends}");
    // The sidecar tells the same of its side.
    let ends = mesh.sidecar.wait_for_line("its end", |line| {
        line["status"] == 101 && line["event"] == "request"
    });
    assert_eq!(
        (&ends["bytes_in"], &ends["bytes_out"]),
        (&json!(12), &json!(12)),
        "{ends}"
    );
    // How long it lasted is no measure of how fast anybody answers.
    let sum = "gapura_request_duration_seconds_sum{plugin=\"echo\"}";
    let counted = mesh.metric(&mesh.gateway, sum) * 1000.0;
    assert!(counted < lasted - 250.0, "{counted} of {lasted}");
}

#[test]
fn a_websocket_that_is_cut_at_the_end_of_the_program_leaves_its_line() {
    let mesh = TestMesh::new()
        .gateway_flag("--drain-timeout", "1s")
        .start();
    mesh.plugin.on("/ws", |exchange| {
        exchange.write(SWITCHED);
        exchange.write(b"hello");
        exchange.wait_for_close();
        Then::Close
    });
    let mut mesh = mesh;
    let mut wire = open(&mesh);
    assert_eq!(wire.read(5), b"hello");
    mesh.gateway.signal("TERM");
    let _ = mesh.gateway.wait_for_end(Duration::from_secs(20));
    let line = mesh
        .gateway
        .wait_for_line("its end", |line| line["event"] == "request");
    assert_eq!(
        (&line["status"], &line["bytes_out"]),
        (&json!(101), &json!(5)),
        "{line}"
    );
}

#[test]
fn a_revoked_sidecar_is_cut_off_in_the_middle_of_a_websocket() {
    let mesh = echoing();
    let mut wire = open(&mesh);
    wire.send("hi");
    assert_eq!(wire.read(2), b"hi");
    let revoked = mesh
        .authority
        .files_for(&mesh.gateway_cert)
        .with_crl(Some(mesh.authority.crl(&[&mesh.sidecar_cert])));
    mesh.gateway_dir.publish(&revoked);
    assert!(
        wire.is_closed_within(Duration::from_secs(5)),
        "the WebSocket outlives its sidecar's certificate"
    );
}
