//! Going down without losing a request.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use gapura_tests::eventually;
use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::program::Invocation;
use gapura_tests::wire::Wire;

const SOON: Duration = Duration::from_secs(10);

fn mesh_with_a_slow_answer(delay: &str) -> (TestMesh, Gate) {
    let mesh = TestMesh::new().gateway_flag("--drain-delay", delay).start();
    let gate = Gate::new();
    let opened = gate.clone();
    mesh.plugin.on("/slow", move |exchange| {
        exchange.read_body();
        let _ = opened.wait();
        exchange.answer("200 OK", "", b"after all");
        Then::Keep
    });
    (mesh, gate)
}

#[test]
fn what_is_in_flight_is_finished_and_then_the_gateway_goes() {
    let (mut mesh, gate) = mesh_with_a_slow_answer("0s");
    let public = mesh.public();
    let mut wire = mesh.connect();
    wire.get("/echo/slow", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/slow");
    mesh.gateway.signal("TERM");
    eventually("new connections are refused", || {
        TcpStream::connect(public).is_err().then_some(())
    });
    assert!(mesh.gateway.runs(), "a request is still in flight");
    gate.open();
    let response = wire.response();
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "after all")
    );
    assert!(
        response
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close")),
        "{response:?}"
    );
    assert_eq!(mesh.gateway.wait_for_end(SOON).code(), Some(0));
}

#[test]
fn during_the_delay_it_is_not_ready_and_still_serves() {
    let (mut mesh, _gate) = mesh_with_a_slow_answer("3s");
    let mut idle = mesh.connect();
    idle.get("/healthz", "");
    assert_eq!(idle.response().status, 200);
    let begun = Instant::now();
    mesh.gateway.signal("TERM");
    let not_ready = eventually("it says that it goes", || {
        let response = mesh.get("/readyz").send();
        (response.status == 503).then_some(response)
    });
    assert!(
        not_ready
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close")),
        "{not_ready:?}"
    );
    let response = mesh.get("/echo/x").token_of("7", "42").send();
    assert_eq!(response.status, 200, "balancers need a moment to notice");
    assert!(
        response
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close")),
        "{response:?}"
    );
    assert_eq!(mesh.gateway.wait_for_end(SOON).code(), Some(0));
    assert!(
        begun.elapsed() >= Duration::from_millis(2900),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut mesh, _gate) = mesh_with_a_slow_answer("0s");
    let mut wire = mesh.connect();
    wire.get("/echo/slow", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/slow");
    mesh.gateway.signal("TERM");
    assert!(wire.is_silent_for(Duration::from_millis(300)));
    assert!(mesh.gateway.runs());
    mesh.gateway.signal("TERM");
    let _ = mesh.gateway.wait_for_end(Duration::from_secs(3));
}

#[test]
fn what_does_not_finish_in_time_is_cut() {
    let mesh = TestMesh::new()
        .gateway_flag("--drain-timeout", "1s")
        .start();
    mesh.plugin.on("/never", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let mut mesh = mesh;
    let mut wire = mesh.connect();
    wire.get("/echo/never", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/never");
    mesh.gateway.signal("TERM");
    // Who would never get an answer is told so, and may ask elsewhere.
    let response = wire.response();
    response.assert_refusal(503, "draining", "gateway");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(wire.is_closed_within(SOON));
    assert_eq!(mesh.gateway.wait_for_end(SOON).code(), Some(0));
    let line = mesh.gateway.wait_for_line("the refusal", |line| {
        line["event"] == "request" && line["code"] == "draining"
    });
    assert_eq!(line["status"], 503);
}

#[test]
fn a_sidecar_tells_what_does_not_finish_in_time_too() {
    let mut mesh = TestMesh::new()
        .sidecar_args(&["--drain-timeout", "1s"])
        .start();
    mesh.plugin.on("/never", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let mut wire = mesh.connect();
    wire.send(format!(
        "POST /echo/never HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 2\r\n\r\nhi",
        mesh.authorization("7", "42")
    ));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/never");
    mesh.sidecar.signal("TERM");
    wire.response().assert_refusal(503, "draining", "sidecar");
    assert_eq!(mesh.sidecar.wait_for_end(SOON).code(), Some(0));
}

#[test]
fn a_sidecar_that_goes_loses_nothing_in_flight_either() {
    let (mut mesh, gate) = mesh_with_a_slow_answer("0s");
    let mut wire = mesh.connect();
    wire.get("/echo/slow", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/slow");
    let hop = mesh.hop();
    mesh.sidecar.signal("TERM");
    eventually("the sidecar refuses new connections", || {
        TcpStream::connect(hop).is_err().then_some(())
    });
    gate.open();
    let response = wire.response();
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "after all")
    );
    assert_eq!(mesh.sidecar.wait_for_end(SOON).code(), Some(0));
    mesh.get("/echo/x")
        .token_of("7", "42")
        .send()
        .assert_refusal(502, "upstream_unreachable", "gateway");
}

#[test]
fn idle_programs_go_at_once() {
    let mut mesh = TestMesh::new().start();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let mut idle = Wire::tls(mesh.public(), &mesh.client_tls(&["http/1.1"])).unwrap();
    for name in ["INT", "TERM"] {
        let begun = Instant::now();
        let program = if name == "INT" {
            &mut mesh.gateway
        } else {
            &mut mesh.sidecar
        };
        program.signal(name);
        assert_eq!(program.wait_for_end(SOON).code(), Some(0));
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
    }
    assert!(idle.is_closed_within(SOON));
}

#[test]
fn an_idle_connection_brings_one_more_request_whose_answer_says_that_it_was_the_last() {
    let mut mesh = TestMesh::new().start();
    let (lines, mut wires) = (mesh.authorization("7", "42"), Vec::new());
    for _ in 0..4 {
        let mut wire = mesh.connect();
        wire.get("/echo/first", &lines);
        let response = wire.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, None)
        );
        wires.push(wire);
    }
    let public = mesh.public();
    mesh.gateway.signal("TERM");
    eventually("new connections are refused", || {
        TcpStream::connect(public).is_err().then_some(())
    });
    // The listener is gone; nobody could have told these clients.
    for wire in &mut wires {
        wire.get("/echo/last", &lines);
    }
    for wire in &mut wires {
        let response = wire.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, Some("close"))
        );
        assert!(wire.is_closed_within(SOON));
    }
    assert_eq!(mesh.gateway.wait_for_end(SOON).code(), Some(0));
}

#[test]
fn whoever_was_in_line_when_the_listener_closed_is_served() {
    let mut mesh = TestMesh::new().plain_public().one_worker().start();
    let public = mesh.public();
    // Stopped, it accepts nobody; the signal and the clients wait for it together.
    mesh.gateway.signal("STOP");
    let mut wires: Vec<Wire> = (0..8).map(|_| Wire::plain(public)).collect();
    for wire in &mut wires {
        wire.get("/healthz", "");
    }
    mesh.gateway.signal("TERM");
    mesh.gateway.signal("CONT");
    for wire in &mut wires {
        let response = wire.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, Some("close"))
        );
    }
    assert_eq!(mesh.gateway.wait_for_end(SOON).code(), Some(0));
}

#[test]
fn started_in_any_order_the_mesh_heals() {
    let mut mesh = TestMesh::new().start();
    let hop = mesh.hop().to_string();
    let request = |mesh: &TestMesh| mesh.get("/echo/x").token_of("7", "42").send();
    assert_eq!(request(&mesh).status, 200);
    // The plugin's sidecar is away, and comes later than the gateway.
    mesh.sidecar.signal("KILL");
    let _ = mesh.sidecar.wait_for_end(SOON);
    mesh.gateway.signal("KILL");
    let _ = mesh.gateway.wait_for_end(SOON);
    let _ = mesh.next_gateway();
    request(&mesh).assert_refusal(502, "upstream_unreachable", "gateway");
    let mut sidecar = Invocation::new()
        .flag("--listen", &hop)
        .flag("--plugin", mesh.plugin.url())
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .args(&["--admin", "127.0.0.1:0"])
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    let begun = Instant::now();
    eventually("it heals", || (request(&mesh).status == 200).then_some(()));
    assert!(begun.elapsed() < SOON, "within 2 s: {:?}", begun.elapsed());
}

#[test]
fn a_sidecar_that_goes_takes_new_requests_until_its_delay_is_over() {
    let mesh = TestMesh::new()
        .sidecar_args(&["--drain-delay", "6s"])
        .start();
    let gate = Gate::new();
    let opened = gate.clone();
    mesh.plugin.on("/slow", move |exchange| {
        let _ = opened.wait();
        exchange.answer("200 OK", "", b"after all");
        Then::Keep
    });
    let mut wire = mesh.connect();
    wire.get("/echo/slow", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/slow");
    mesh.sidecar.signal("TERM");
    eventually("the sidecar is not ready", || {
        (mesh.admin(&mesh.sidecar, "/readyz").status == 503).then_some(())
    });
    for turn in 0..10 {
        let response = mesh.get("/echo/x").token_of("7", "42").send();
        assert_eq!(
            response.status,
            200,
            "request {turn} beside one that keeps the old connection: {}",
            response.text()
        );
    }
    gate.open();
    assert_eq!(wire.response().text(), "after all");
}

#[test]
fn a_client_of_http2_that_connects_during_the_delay_is_served() {
    let mut mesh = TestMesh::new().gateway_flag("--drain-delay", "4s").start();
    mesh.gateway.signal("TERM");
    eventually("it says that it goes", || {
        (mesh.get("/readyz").send().status == 503).then_some(())
    });
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    for _ in 0..2 {
        let token = mesh.signer.token_of("7", "42");
        let request = http::Request::get("https://localhost/echo/x")
            .header("authorization", format!("Bearer {token}"));
        assert_eq!(client.exchange(request.body(()).unwrap(), None).status, 200);
    }
    assert_eq!(
        mesh.gateway.wait_for_end(SOON).code(),
        Some(0),
        "an idle connection keeps nobody"
    );
}

#[test]
fn a_websocket_can_still_be_opened_during_the_delay() {
    let mesh = TestMesh::new()
        .sidecar_args(&["--drain-delay", "6s"])
        .start();
    mesh.plugin.on("/ws", |exchange| {
        exchange.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let bytes = exchange.read_some();
        exchange.write(&bytes);
        Then::Close
    });
    mesh.sidecar.signal("TERM");
    eventually("the sidecar is not ready", || {
        (mesh.admin(&mesh.sidecar, "/readyz").status == 503).then_some(())
    });
    let mut wire = mesh.connect();
    wire.get(
        "/echo/ws",
        &(mesh.authorization("7", "42") + "Connection: upgrade\r\nUpgrade: websocket\r\n"),
    );
    let response = wire.response_head();
    assert_eq!(
        (response.status, response.header("connection")),
        (101, Some("upgrade"))
    );
    wire.send("hi");
    assert_eq!(wire.read(2), b"hi");
}
