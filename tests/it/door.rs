//! How clients come in: what a balancer in front says of them, which TLS they speak, and by what
//! they shall come from now on.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use gapura_tests::h2::{Frame, Frames};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::wire::{Response, Wire};
use rustls::version::{TLS12, TLS13};

const SOON: Duration = Duration::from_secs(5);

/// A header of the PROXY protocol, version 2, for a client at `client`.
fn introduction(client: &str) -> Vec<u8> {
    let client: SocketAddrV4 = client.parse().unwrap();
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend(client.ip().octets());
    bytes.extend(Ipv4Addr::LOCALHOST.octets());
    bytes.extend(client.port().to_be_bytes());
    bytes.extend([0x20, 0xfb]);
    bytes
}

/// One of a balancer's own.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn get(mesh: &TestMesh, wire: &mut Wire, lines: &str) -> Response {
    let auth = mesh.authorization("7", "42");
    wire.get("/echo/x", &format!("{auth}{lines}"));
    wire.response()
}

#[test]
fn a_trusted_balancer_says_in_front_of_a_connection_whose_it_is() {
    let mesh = TestMesh::new()
        .gateway_flag("--trusted-proxy", "127.0.0.0/8")
        .gateway_arg("--proxy-protocol")
        .start();
    let tls = mesh.client_tls(&["http/1.1"]);
    let behind = |preamble: &[u8]| Wire::tls_behind(preamble, mesh.public(), &tls);
    let mut wire = behind(&introduction("203.0.113.9:4711")).unwrap();
    // The client is no proxy: what it says by itself counts for nothing.
    let answer = get(&mesh, &mut wire, "X-Forwarded-For: 198.51.100.1\r\n");
    assert_eq!(answer.status, 200);
    let seen = mesh.plugin.wait_for("the request", |_| true);
    assert_eq!(seen.all("x-forwarded-for"), ["203.0.113.9"]);
    let id = seen.header("x-request-id").unwrap();
    let line = mesh.gateway.wait_for_line("the request", |line| {
        line["event"] == "request" && line["request_id"] == id
    });
    assert_eq!(line["peer"], "203.0.113.9");
    // A second request of the connection is the same client's.
    assert_eq!(get(&mesh, &mut wire, "").status, 200);
    // A health check of the balancer's own.
    assert_eq!(get(&mesh, &mut behind(LOCAL).unwrap(), "").status, 200);
    // Whom the balancer names may be a proxy of ours too, and is then believed.
    let mut wire = behind(&introduction("127.0.0.5:1")).unwrap();
    let _ = get(&mesh, &mut wire, "X-Forwarded-For: 198.51.100.1\r\n");
    mesh.plugin.wait_for("the address behind both", |seen| {
        seen.all("x-forwarded-for") == ["198.51.100.1"]
    });
}

#[test]
fn a_trusted_balancer_that_says_nothing_or_nonsense_is_closed() {
    let mesh = TestMesh::new()
        .plain_public()
        .gateway_flag("--trusted-proxy", "127.0.0.0/8")
        .gateway_arg("--proxy-protocol")
        .start();
    let mut good = introduction("203.0.113.9:4711");
    let plain = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    good.extend(&plain);
    let mut wire = Wire::plain(mesh.public());
    wire.send(&good);
    assert_eq!(wire.response().status, 200);
    let first = b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n".to_vec();
    let mut short = good.clone();
    short[15] = 11;
    let mut later = good.clone();
    later[12] = 0x31;
    for nonsense in [plain, first, short, later] {
        let mut wire = Wire::plain(mesh.public());
        wire.send(&nonsense);
        assert!(wire.is_closed_within(SOON), "{nonsense:?}");
    }
    let line = mesh.gateway.wait_for_event("handshake_failed");
    assert_eq!(line["reason"], "proxy_protocol", "{line}");
    assert_eq!(mesh.plugin.seen().len(), 0);
}

#[test]
fn nobody_else_says_whose_a_connection_is() {
    let mesh = TestMesh::new()
        .plain_public()
        .gateway_flag("--trusted-proxy", "203.0.113.0/24")
        .gateway_arg("--proxy-protocol")
        .start();
    let mut wire = Wire::plain(mesh.public());
    wire.send(introduction("203.0.113.9:4711"));
    wire.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = wire.try_response("GET");
    assert!(
        !matches!(&answer, Ok(answer) if answer.status != 400),
        "{answer:?}"
    );
    // Its twin speaks HTTP from the first byte.
    let mut wire = Wire::plain(mesh.public());
    assert_eq!(get(&mesh, &mut wire, "").status, 200);
    let seen = mesh.plugin.wait_for("the request", |_| true);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn browsers_are_told_to_come_by_https_alone_and_only_over_https() {
    let hsts = "strict-transport-security";
    let mesh = TestMesh::new().gateway_flag("--hsts", "365d").start();
    mesh.plugin.on("/own", |exchange| {
        let own = "Strict-Transport-Security: max-age=5\r\n";
        exchange.answer("200 OK", own, b"ok");
        Then::Keep
    });
    for path in ["/echo/x", "/echo/own", "/nowhere", "/healthz", "/echo/../x"] {
        let answer = mesh.get(path).token_of("7", "42").send();
        assert_eq!(answer.all(hsts), ["max-age=31536000"], "{path}");
    }
    let mut wire = mesh.connect();
    wire.send("nonsense\r\n\r\n");
    let refusal = wire.try_response("GET").unwrap();
    assert_eq!(refusal.all(hsts), ["max-age=31536000"], "{refusal:?}");

    let behind = TestMesh::new()
        .plain_public()
        .gateway_flag("--hsts", "1h")
        .gateway_flag("--trusted-proxy", "127.0.0.0/8")
        .start();
    let by = |proto| {
        let get = behind.get("/echo/x").token_of("7", "42");
        get.header("X-Forwarded-Proto", proto).send()
    };
    assert_eq!(by("https").all(hsts), ["max-age=3600"]);
    assert_eq!(by("http").all(hsts), [""; 0]);

    let silent = TestMesh::new().start();
    let answer = silent.get("/echo/x").token_of("7", "42").send();
    assert_eq!(answer.all(hsts), [""; 0]);
}

#[test]
fn the_oldest_tls_is_the_operators_choice() {
    let strict = TestMesh::new().gateway_flag("--tls-min", "1.3").start();
    let lenient = TestMesh::new().start();
    for (mesh, old_is_taken) in [(&strict, false), (&lenient, true)] {
        let old = Wire::tls(mesh.public(), &mesh.client_tls_of(&TLS12));
        assert_eq!(old.is_ok(), old_is_taken);
        let new = Wire::tls(mesh.public(), &mesh.client_tls_of(&TLS13));
        assert_eq!(get(mesh, &mut new.unwrap(), "").status, 200);
    }
    let line = strict.gateway.wait_for_event("handshake_failed");
    assert_eq!(line["reason"], "version", "{line}");
}

/// RFC 8446, section 6.1: without that word nobody can tell an end from a line that was cut.
#[test]
fn the_end_of_a_connection_is_said_in_tls_before_it_is_in_tcp() {
    let mut mesh = TestMesh::new().start();
    let mut asked = mesh.connect();
    let answer = get(&mesh, &mut asked, "Connection: close\r\n");
    assert_eq!(answer.status, 200);
    assert!(asked.is_ended_well(), "behind a last answer");
    let mut refused = mesh.connect();
    refused.send("GET /echo/x HTTP/1.1\r\nHost: localhost\r\nHost: twice\r\n\r\n");
    assert_eq!(refused.response().status, 400);
    assert!(refused.is_ended_well(), "behind a refusal");
    // And at the end of the program: who idles, over either HTTP.
    let mut idle = mesh.connect();
    assert_eq!(get(&mesh, &mut idle, "").status, 200);
    let mut over_http2 = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    let head = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/echo/x"),
        ("authorization", token.as_str()),
    ];
    over_http2.head(1, &head, true);
    assert_eq!(over_http2.outcome(), Some(Frame::Head(1, Some(200))));
    mesh.gateway.signal("TERM");
    assert!(idle.is_ended_well(), "HTTP/1.1 at the end");
    assert!(over_http2.is_ended_well(), "HTTP/2 at the end");
    let _ = mesh.gateway.wait_for_end(SOON * 4);
    // The twin: who is cut off hears no such word.
    let mut mesh = TestMesh::new().start();
    let mut cut = mesh.connect();
    assert_eq!(get(&mesh, &mut cut, "").status, 200);
    mesh.gateway.signal("KILL");
    let _ = mesh.gateway.wait_for_end(SOON * 4);
    assert!(!cut.is_ended_well());
}
