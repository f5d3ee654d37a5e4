//! Many connections, silent ones, and more than there is room for, keep nobody else out.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::wire::Wire;

/// Ten times what somebody else's answer may take.
const SOON: Duration = Duration::from_secs(5);

fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// One request from an address of loopback, answered in time.
#[track_caller]
fn served(mesh: &TestMesh, from: u8) {
    let begun = Instant::now();
    let mut wire = Wire::plain_from(loopback(from), mesh.public()).unwrap();
    wire.get("/echo/x", &mesh.authorization("7", "42"));
    let answer = wire.try_response("GET");
    assert_eq!(
        answer.map(|answer| answer.status),
        Ok(200),
        "127.0.0.{from}"
    );
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
}

fn sharing(most: &str) -> Builder {
    TestMesh::new()
        .plain_public()
        .gateway_flag("--connections-per-address", most)
}

#[test]
fn at_its_share_an_address_loses_its_own_idlest_and_nobody_elses() {
    let mesh = sharing("5").start();
    let mut other = Wire::plain_from(loopback(2), mesh.public()).unwrap();
    other.get("/echo/x", &mesh.authorization("7", "42"));
    assert_eq!(other.response().status, 200);
    let mut idle: Vec<Wire> = Vec::new();
    for _ in 0..5 {
        let mut wire = Wire::plain(mesh.public());
        wire.get("/echo/x", &mesh.authorization("7", "42"));
        assert_eq!(wire.response().status, 200);
        idle.push(wire);
    }
    served(&mesh, 1);
    assert!(
        idle[0].is_closed_within(SOON),
        "the one that has idled longest"
    );
    for wire in idle[1..].iter_mut().chain([&mut other]) {
        wire.get("/echo/x", &mesh.authorization("7", "42"));
        assert_eq!(wire.response().status, 200);
    }
    let line = mesh.gateway.wait_for_event("address_full");
    assert!(
        line["message"].as_str().unwrap().contains("127.0.0.1"),
        "{line}"
    );
}

#[test]
fn what_carries_a_request_is_never_closed_for_another() {
    let mesh = sharing("3").start();
    let gate = Gate::new();
    let held = gate.clone();
    mesh.plugin.on("/slow", move |exchange| {
        let _ = held.wait();
        exchange.answer("200 OK", "", b"slow");
        Then::Keep
    });
    let auth = mesh.authorization("7", "42");
    let mut busy: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::plain(mesh.public());
            wire.get("/echo/slow", &auth);
            wire
        })
        .collect();
    gapura_tests::eventually("all three are under way", || {
        (mesh.plugin.seen_at("/slow").len() == 3).then_some(())
    });
    for _ in 0..20 {
        let mut turned_away = Wire::plain(mesh.public());
        assert!(turned_away.is_closed_within(SOON));
    }
    served(&mesh, 2);
    gate.open();
    for wire in &mut busy {
        assert_eq!(wire.response().text(), "slow");
    }
    let told = mesh.gateway.log();
    let told = told.iter().filter(|line| line["event"] == "address_full");
    assert_eq!(told.count(), 1, "a line a change of state");
}

#[test]
fn a_trusted_proxy_has_as_many_as_there_are() {
    let mesh = sharing("3")
        .gateway_flag("--trusted-proxy", "127.0.0.9")
        .start();
    let auth = mesh.authorization("7", "42");
    let mut all: Vec<Wire> = (0..20)
        .map(|_| Wire::plain_from(loopback(9), mesh.public()).unwrap())
        .collect();
    for wire in &mut all {
        wire.get("/echo/x", &auth);
        assert_eq!(wire.response().status, 200);
    }
}

#[test]
fn with_few_files_idle_clients_make_room_and_it_is_told_once() {
    let mesh = TestMesh::new()
        .plain_public()
        .invocations(|program, _| program.files(256))
        .start();
    let mut silent = Vec::new();
    for turn in 0_u8..40 {
        for _ in 0..10 {
            let wire = Wire::plain_from(loopback(10 + turn), mesh.public());
            silent.push(wire.unwrap());
        }
        if turn % 8 == 7 {
            served(&mesh, 2);
        }
    }
    let told = mesh.gateway.log();
    let told = |event: &str| told.iter().filter(|line| line["event"] == event).count();
    assert_eq!((told("connections_full"), told("accept_failed")), (1, 0));
    drop(silent);
    served(&mesh, 2);
    let _ = mesh.gateway.wait_for_event("connections_free");
}

#[test]
fn a_thousand_idle_clients_delay_nobody() {
    let mesh = TestMesh::new().plain_public().start();
    let auth = mesh.authorization("7", "42");
    let mut idle: Vec<Wire> = (0..1000)
        .map(|n| Wire::plain_from(loopback((n % 50) as u8 + 10), mesh.public()).unwrap())
        .collect();
    for _ in 0..20 {
        served(&mesh, 2);
    }
    let last = idle.last_mut().unwrap();
    last.get("/echo/x", &auth);
    assert_eq!(
        last.response().status,
        200,
        "and each of them is still served"
    );
}

#[test]
fn half_open_handshakes_delay_nobody() {
    let mesh = TestMesh::new().start();
    let mut half: Vec<Wire> = (0..200).map(|_| Wire::plain(mesh.public())).collect();
    for wire in &mut half {
        wire.send([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]); // the beginning of a ClientHello
    }
    let begun = Instant::now();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let held = || mesh.gateway.open_files();
    assert!(held() > 200);
    // Ten seconds each, and they are gone.
    gapura_tests::within(Duration::from_secs(60), "their places are free", || {
        (held() < 100).then_some(())
    });
}

#[test]
fn nobody_without_a_certificate_keeps_the_gateway_from_a_sidecar() {
    let mesh = TestMesh::new().start();
    let mut silent: Vec<Wire> = (0..600)
        .map(|n| Wire::plain_from(loopback((n % 3) as u8 + 10), mesh.hop()).unwrap())
        .collect();
    // The gateway has no connection yet: its handshake is among them.
    let begun = Instant::now();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(
        silent[0].is_closed_within(SOON),
        "the oldest of them made room"
    );
    let open = mesh.sidecar.open_files();
    assert!(open < 256 + 100, "{open} files");
}

/// The first words of a handshake.
fn hello(mesh: &TestMesh) -> Vec<u8> {
    let tls = mesh.client_tls(&["http/1.1"]);
    let mut client = rustls::ClientConnection::new(tls.config(), tls.name()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Shakes hands on all of these at once, sends a request beside them, and tells how long that took,
/// and how long all of them did.
fn beside_handshakes(mesh: &TestMesh, quiet: &mut Wire, crowd: usize) -> (Duration, Duration) {
    let hello = hello(mesh);
    let connect = |_| TcpStream::connect(mesh.public()).unwrap();
    let mut all: Vec<TcpStream> = (0..crowd).map(connect).collect();
    let auth = mesh.authorization("8", "43");
    let begun = Instant::now();
    for one in &mut all {
        one.write_all(&hello).unwrap();
    }
    quiet.get("/echo/x", &auth);
    assert_eq!(quiet.response().status, 200);
    let took = begun.elapsed();
    for one in &mut all {
        one.set_read_timeout(Some(SOON * 6)).unwrap();
        one.read_exact(&mut [0; 5]).unwrap();
    }
    (took, begun.elapsed())
}

#[test]
fn a_crowd_that_shakes_hands_delays_no_request() {
    let mesh = TestMesh::new().one_worker().start();
    let mut quiet = mesh.connect();
    quiet.get("/echo/x", &mesh.authorization("8", "43"));
    assert_eq!(quiet.response().status, 200);
    // A machine that does other work meanwhile may be slow once.
    let rounds: Vec<_> = (0..5)
        .map(|_| beside_handshakes(&mesh, &mut quiet, 120))
        .collect();
    println!("a request, and all handshakes: {rounds:?}");
    let is_prompt = |(one, all): &(Duration, Duration)| *one * 3 < *all;
    assert!(rounds.iter().any(is_prompt), "{rounds:?}");
}
