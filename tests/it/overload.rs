//! One company sends more than a plugin can take, and no other notices: `max_in_flight`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::wire::Wire;
use gapura_tests::{PATIENCE, eventually};
use serde_json::json;

/// The promise is a second; the rest is the machine's.
const WAITED: Duration = Duration::from_secs(10);

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A plugin that takes `most` at a time; at `/hold` it answers once the gate is open.
fn mesh(most: u32) -> (TestMesh, Gate) {
    let mesh = TestMesh::new()
        .fields(json!({"max_in_flight": most}))
        .start();
    let gate = mesh.plugin.hold("/hold");
    (mesh, gate)
}

/// A request that is under way until the gate opens.
fn held(mesh: &TestMesh, company: &str) -> Wire {
    let before = mesh.plugin.seen_at("/hold").len();
    let mut wire = mesh.connect();
    wire.get("/echo/hold", &mesh.authorization("7", company));
    eventually("it is under way", || {
        (mesh.plugin.seen_at("/hold").len() > before).then_some(())
    });
    wire
}

fn waiting(mesh: &TestMesh) -> f64 {
    mesh.metric(&mesh.gateway, "gapura_requests_waiting{plugin=\"echo\"}")
}

fn in_flight(mesh: &TestMesh) -> u64 {
    let page = mesh.admin(&mesh.gateway, "/plugins").json();
    page["plugins"][0]["in_flight"].as_u64().unwrap()
}

fn client(mesh: &TestMesh) -> Http2 {
    Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20)
}

fn request(mesh: &TestMesh, path: &str, company: &str) -> http::Request<()> {
    let token = mesh.signer.token_of("7", company);
    http::Request::get(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap()
}

#[test]
fn what_is_over_the_limit_waits_a_second_at_most_and_is_told_to_come_again() {
    let (mesh, gate) = mesh(1);
    let mut first = held(&mesh, "42");
    let begun = Instant::now();
    let refused = mesh.get("/echo/x").token_of("7", "43").send();
    assert!(begun.elapsed() < WAITED, "{:?}", begun.elapsed());
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "it did not wait"
    );
    refused.assert_refusal(503, "overloaded", "gateway");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(
        mesh.plugin.seen_at("/x").is_empty(),
        "what is shed reaches no plugin"
    );
    let line = mesh.gateway.wait_for_line("the refusal", |line| {
        line["event"] == "request" && line["status"] == 503
    });
    assert!(
        line["reason"].as_str().unwrap().contains("max_in_flight"),
        "{line}"
    );
    // The twin: it waits, and there is room in time.
    let mut quick = client(&mesh);
    let second = quick.open(request(&mesh, "/echo/x", "43"), true);
    eventually("it waits", || (waiting(&mesh) == 1.0).then_some(()));
    gate.open();
    assert_eq!(first.response().status, 200);
    assert_eq!(second.answer().whole().status, 200);
    eventually("nobody is left", || (in_flight(&mesh) == 0).then_some(()));
}

/// Ten of one company wait, then one of another: how many went before that one. Nothing where the
/// machine was too slow for it: who waits is gone after a second.
fn before_the_late_one(mesh: &TestMesh, turn: usize) -> Option<usize> {
    let gate = mesh.plugin.hold("/hold");
    let (mut flooding, mut quiet) = (client(mesh), client(mesh));
    let _first = held(mesh, "42");
    let flood: Vec<_> = (0..10)
        .map(|_| flooding.open(request(mesh, &format!("/echo/flood{turn}"), "42"), true))
        .collect();
    let soon = |count: f64| {
        let begun = Instant::now();
        while waiting(mesh) < count && begun.elapsed() < Duration::from_millis(500) {}
        waiting(mesh) == count
    };
    let ten = soon(10.0);
    let late = quiet.open(request(mesh, &format!("/echo/quiet{turn}"), "43"), true);
    let all = ten && soon(11.0);
    gate.open();
    let late = late.answer().whole().status;
    for one in flood {
        let _ = one.answer().whole();
    }
    eventually("nobody is left", || (in_flight(mesh) == 0).then_some(()));
    if !all || late != 200 {
        return None;
    }
    let seen = mesh.plugin.seen();
    let own = seen
        .iter()
        .filter(|seen| seen.target.ends_with(&turn.to_string()));
    own.map(|seen| &seen.target)
        .position(|target| target.starts_with("/quiet"))
}

#[test]
fn a_company_that_comes_late_goes_before_most_of_one_that_floods() {
    let (mesh, _gate) = mesh(1);
    let before = (1..10).find_map(|turn| before_the_late_one(&mesh, turn));
    let before = before.expect("one of nine rounds is quick enough");
    assert!(before <= 1, "behind {before} others");
}

#[test]
fn a_place_is_free_again_however_its_request_ends() {
    let (mesh, gate) = mesh(1);
    gate.open();
    mesh.plugin.on("/endless", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"4000\r\n".to_vec(), vec![b'a'; 0x4000], b"\r\n".to_vec()].concat();
        while exchange.write(&chunk) {}
        Then::Close
    });
    mesh.plugin
        .answer_raw("/nonsense", "nonsense\r\n\r\n", Then::Close);
    mesh.plugin.answer_raw(
        "/cut",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        Then::Close,
    );
    mesh.plugin.answer_raw("/silent", "", Then::Close);
    mesh.plugin.on("/never", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let auth = mesh.authorization("7", "42");
    for path in [
        "/echo/nonsense",
        "/echo/cut",
        "/echo/silent",
        "/echo/endless",
        "/echo/never",
        "/echo/x",
    ] {
        let mut wire = mesh.connect();
        wire.get(path, &auth);
        match path {
            "/echo/never" => drop(mesh.plugin.wait_for("it", |seen| seen.target == "/never")),
            _ => assert!(wire.response_head().status >= 200),
        }
        drop(wire); // and gone, whatever is still under way
        let freed = Instant::now();
        eventually(path, || (in_flight(&mesh) == 0).then_some(()));
        assert!(freed.elapsed() < PATIENCE);
        let next = mesh.get("/echo/next").token_of("7", "43").send();
        assert_eq!(next.status, 200, "after {path}");
    }
}

#[test]
fn streams_that_last_for_as_long_as_their_readers_like_hold_no_place() {
    let (mesh, _gate) = mesh(1);
    mesh.plugin.on("/ws", |exchange| {
        exchange.write(SWITCHED);
        exchange.wait_for_close();
        Then::Close
    });
    mesh.plugin.on("/events", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    mesh.plugin.on("/lines", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    let open = |path: &str, more: &str| {
        let mut wire = mesh.connect();
        wire.get(path, &(mesh.authorization("7", "42") + more));
        let head = wire.response_head();
        (head.status, wire)
    };
    let streams: Vec<_> = [("/echo/ws", UPGRADE), ("/echo/events", "")]
        .into_iter()
        .flat_map(|(path, more)| [open(path, more), open(path, more)])
        .collect();
    let statuses: Vec<u16> = streams.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [101, 101, 200, 200]);
    assert_eq!(in_flight(&mesh), 0);
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    // Any other answer that goes on and on holds its place.
    let (status, lines) = open("/echo/lines", "");
    assert_eq!((status, in_flight(&mesh)), (200, 1));
    let refused = mesh.get("/echo/x").token_of("7", "42").send();
    refused.assert_refusal(503, "overloaded", "gateway");
    drop(lines);
    eventually("it is free", || (in_flight(&mesh) == 0).then_some(()));
}

#[test]
fn answers_that_wait_for_their_readers_give_their_places_to_who_waits() {
    let (mesh, _gate) = mesh(2);
    mesh.plugin.on("/much", |exchange| {
        exchange.answer("200 OK", "", &vec![b'a'; 4 << 20]);
        Then::Close
    });
    // As little as there may be: the plugin is asked for no more than the windows on the way take.
    let mut slow = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1);
    let unread: Vec<_> = (0..2)
        .map(|_| slow.open(request(&mesh, "/echo/much", "42"), true).answer())
        .collect();
    assert_eq!(in_flight(&mesh), 2, "while nobody waits they keep them");
    // The promise is a second; who comes before they have been waited for for long enough may be
    // shed.
    eventually("another company is served", || {
        let answer = mesh.get("/echo/x").token_of("7", "43").send();
        (answer.status == 200).then_some(())
    });
    assert_eq!(mesh.get("/echo/x").token_of("7", "43").send().status, 200);
    // Nothing is lost of what they did not read in time.
    drop(unread);
    eventually("nobody is left", || (in_flight(&mesh) == 0).then_some(()));
}

#[test]
fn a_reload_changes_the_limit_and_loses_nobody() {
    let (mesh, gate) = mesh(1);
    let mut first = held(&mesh, "42");
    mesh.write_registry("echo", &mesh.entry(&json!({"max_in_flight": 2})));
    // Its own request is what shows that it is in force: it goes on beside the first.
    let second = eventually("two are under way", || {
        let mut wire = mesh.connect();
        wire.get("/echo/hold", &mesh.authorization("7", "43"));
        let in_flight = || (mesh.plugin.seen_at("/hold").len() == 2).then_some(());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            if in_flight().is_some() {
                return Some(wire);
            }
        }
        None
    });
    assert_eq!(in_flight(&mesh), 2);
    gate.open();
    assert_eq!(first.response().status, 200);
    let mut second = second;
    assert_eq!(second.response().status, 200);
    eventually("nobody is left", || (in_flight(&mesh) == 0).then_some(()));
}

/// How long each of a company's requests took, one after another on one connection, for as long as
/// `more` says; and how many failed.
pub(crate) fn send_on(
    mesh: &TestMesh,
    (path, company): (&str, &str),
    mut more: impl FnMut(usize) -> bool,
) -> (Vec<Duration>, usize) {
    let auth = mesh.authorization("7", company);
    let (mut wire, mut took, mut failed) = (mesh.connect(), Vec::new(), 0);
    while more(took.len() + failed) {
        let begun = Instant::now();
        wire.get(path, &auth);
        if wire.response().status == 200 {
            took.push(begun.elapsed());
        } else {
            failed += 1;
        }
    }
    (took, failed)
}

/// How long requests took, each list in order: a quiet company's alone, and beside a flood, and the
/// flood's own.
pub(crate) struct Beside {
    pub(crate) alone: Vec<Duration>,
    pub(crate) beside: Vec<Duration>,
    pub(crate) flood: Vec<Duration>,
}

impl Beside {
    /// `quiet` requests of company 43 at `path`, one after another, alone and then beside `many`
    /// of `flood` at once, as soon as `full` says that those are in the way; none of the company's
    /// fails.
    fn measure(
        mesh: &TestMesh,
        (path, quiet): (&str, usize),
        (many, flood): (usize, impl Fn(&AtomicBool) -> Vec<Duration> + Sync),
        full: impl Fn() -> bool,
    ) -> Self {
        let alike = || {
            let (took, failed) = send_on(mesh, (path, "43"), |count| count < quiet);
            assert_eq!(failed, 0, "the quiet company's requests");
            took
        };
        let mut alone = alike();
        let over = AtomicBool::new(false);
        let (mut beside, mut flood) = std::thread::scope(|scope| {
            let flooding: Vec<_> = (0..many).map(|_| scope.spawn(|| flood(&over))).collect();
            eventually("the flood is in the way", || full().then_some(()));
            let beside = alike();
            over.store(true, Ordering::Relaxed);
            let flood = flooding.into_iter();
            let flood = flood.flat_map(|one| one.join().unwrap());
            (beside, flood.collect::<Vec<_>>())
        });
        for took in [&mut alone, &mut beside, &mut flood] {
            took.sort_unstable();
        }
        Self {
            alone,
            beside,
            flood,
        }
    }
}

/// At `path` the plugin does work that takes as long as `takes` says.
fn work_at(mesh: &TestMesh, path: &str, takes: fn() -> Duration) {
    mesh.plugin.on(path, move |exchange| {
        std::thread::sleep(takes()); // what the work takes
        if exchange.answer("200 OK", "", b"done") {
            Then::Keep
        } else {
            Then::Close
        }
    });
}

/// Beside another company that keeps sixty requests going, at a plugin that takes four at a time,
/// each for as long as `takes` says.
pub(crate) fn beside_a_flood(quiet: usize, takes: fn() -> Duration) -> Beside {
    let (mesh, _gate) = mesh(4);
    work_at(&mesh, "/work", takes);
    let flood = |over: &AtomicBool| {
        let more = |_| !over.load(Ordering::Relaxed);
        send_on(&mesh, ("/echo/work", "42"), more).0
    };
    let full = || waiting(&mesh) > 30.0;
    Beside::measure(&mesh, ("/echo/work", quiet), (60, flood), full)
}

/// 20 ms each: 200 a second. Of two companies one keeps sixty requests going, the other one.
#[test]
fn beside_a_company_that_floods_the_quiet_one_fails_never_and_waits_for_its_turn_alone() {
    let Beside {
        alone,
        beside,
        flood,
    } = beside_a_flood(50, || Duration::from_millis(20));
    let (before, beside, flooding) = (alone[25], beside[49], flood[flood.len() / 2]);
    let figures = format!(
        "alone {before:?}, beside the flood at worst {beside:?}, the flood itself {flooding:?}"
    );
    println!("{figures}");
    assert!(beside < flooding, "{figures}");
    assert!(
        beside < before * 20,
        "ten times what is promised: {figures}"
    );
}

/// A company's requests over HTTP/2, sixty at a time on one connection, until it is over: how long
/// each took.
fn flood_on(mesh: &TestMesh, path: &str, over: &AtomicBool) -> Vec<Duration> {
    let (mut client, request) = (client(mesh), request(mesh, path, "42"));
    let mut took = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let open: Vec<_> = (0..60)
            .map(|_| client.open(request.clone(), true))
            .collect();
        for one in open {
            assert_eq!(one.answer().whole().status, 200);
            took.push(begun.elapsed());
        }
    }
    took
}

/// Beside another company that keeps hundreds of requests going on few connections. The plugin
/// answers those at once, and the gateway's one worker is what is full; the quiet company's take as
/// long there as `takes` says.
pub(crate) fn beside_a_flooded_gateway(quiet: usize, takes: fn() -> Duration) -> Beside {
    let mesh = TestMesh::new().one_worker().start();
    work_at(&mesh, "/work", takes);
    // Straight to the plugin, so that nobody else is full before the gateway is.
    let direct = json!({"mount": "/direct", "name": "direct", "upstream": mesh.plugin.url(), "auth_mode": "forward_jwt", "health": false});
    mesh.write_registry("direct", &mesh.entry(&direct));
    eventually("it is in force", || {
        let answer = mesh.get("/direct/x").token_of("7", "43").send();
        (answer.status == 200).then_some(())
    });
    let flood = |over: &AtomicBool| flood_on(&mesh, "/direct/x", over);
    let full = || mesh.plugin.seen_at("/x").len() > 360;
    Beside::measure(&mesh, ("/direct/work", quiet), (6, flood), full)
}

#[test]
fn beside_a_company_that_floods_the_gateway_the_quiet_one_waits_for_its_turns_alone() {
    let Beside { beside, flood, .. } = beside_a_flooded_gateway(40, || Duration::ZERO);
    let (quiet, flood) = (beside[20], flood[flood.len() / 2]);
    println!("the quiet one {quiet:?}, the flood {flood:?}");
    assert!(quiet * 4 < flood, "{quiet:?} beside {flood:?}");
}
