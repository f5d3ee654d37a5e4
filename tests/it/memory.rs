//! What a stream, a stalled stream and an idle program hold in memory.

use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::program::Program;
use gapura_tests::within;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const KIB_OF_16_MIB: u64 = 16 * 1024;

/// A mesh that has served a few requests, so that what each program needs anyway is there already.
fn warm() -> TestMesh {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/gib", |exchange| {
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n").as_bytes());
        let part = vec![0x55; MIB as usize];
        for _ in 0..GIB / MIB {
            if !exchange.write(&part) {
                break;
            }
        }
        Then::Keep
    });
    for _ in 0..20 {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    }
    mesh
}

fn before(mesh: &TestMesh) -> [u64; 2] {
    [&mesh.gateway, &mesh.sidecar].map(|program| {
        program.forget_peak();
        program.resident_kib()
    })
}

#[track_caller]
fn assert_grew_less_than_16_mib(mesh: &TestMesh, before: [u64; 2]) {
    for (program, before) in [&mesh.gateway, &mesh.sidecar].into_iter().zip(before) {
        let grown = program.peak_kib().saturating_sub(before);
        assert!(
            grown < KIB_OF_16_MIB,
            "{} KiB more than the {before} KiB before",
            grown
        );
    }
}

#[test]
fn a_gibibyte_comes_down_in_little_memory() {
    let mesh = warm();
    let before = before(&mesh);
    let mut wire = mesh.connect();
    wire.get(
        "/echo/gib",
        &(mesh.authorization("7", "42") + "Connection: close\r\n"),
    );
    let head = wire.response_head();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("1073741824"))
    );
    assert_eq!(wire.count_to_end(Duration::from_secs(180)), GIB);
    assert_grew_less_than_16_mib(&mesh, before);
}

#[test]
fn a_gibibyte_goes_up_in_little_memory() {
    let mesh = warm();
    let before = before(&mesh);
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "POST /echo/up HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: {GIB}\r\n\r\n"
    ));
    let part = vec![0x55; MIB as usize];
    for _ in 0..GIB / MIB {
        wire.send(&part);
    }
    assert_eq!(wire.response().status, 200);
    assert_eq!(
        mesh.plugin
            .wait_for("the upload", |seen| seen.complete && seen.target == "/up")
            .body_length,
        GIB
    );
    assert_grew_less_than_16_mib(&mesh, before);
}

#[test]
fn what_nobody_reads_is_bounded() {
    let mesh = warm();
    let before = before(&mesh);
    let auth = mesh.authorization("7", "42");
    let stalled: Vec<_> = (0..40)
        .map(|_| {
            let mut wire = mesh.connect();
            wire.get("/echo/gib", &auth);
            assert_eq!(wire.response_head().status, 200);
            wire
        })
        .collect();
    // The sockets and windows fill until nothing moves: what is resident stops growing.
    let mut last = (0, 0);
    gapura_tests::eventually("nothing grows any more", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = (mesh.gateway.resident_kib(), mesh.sidecar.resident_kib());
        let same = now == last;
        last = now;
        same.then_some(())
    });
    for (program, before) in [&mesh.gateway, &mesh.sidecar].into_iter().zip(before) {
        let grown = program.peak_kib().saturating_sub(before);
        assert!(
            grown < 48 * 1024,
            "{grown} KiB for forty stalled downloads: 32 MiB of streams and some for their connections"
        );
    }
    drop(stalled);
}

/// The promise is made for what ships; a debug build is held to what would show a leak or a table
/// allocated in full.
#[test]
fn an_idle_program_is_small() {
    let mesh = TestMesh::new().start();
    let limit = |program: &Program, release_kib: u64, debug_kib: u64| {
        let limit = if cfg!(debug_assertions) {
            debug_kib
        } else {
            release_kib
        };
        let resident = program.resident_kib();
        assert!(resident < limit, "{resident} KiB, not {limit}");
    };
    limit(&mesh.gateway, 14 * 1024, 40 * 1024);
    limit(&mesh.sidecar, 8 * 1024, 32 * 1024);
}

#[test]
fn connections_leave_nothing_behind() {
    let mesh = warm();
    let open = || (mesh.gateway.open_files(), mesh.sidecar.open_files());
    let round = || {
        for _ in 0..100 {
            drop(mesh.connect());
            let mut wire = mesh.connect();
            wire.get("/echo/x", &mesh.authorization("7", "42"));
        }
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    };
    round();
    let before = open();
    round();
    gapura_tests::eventually("as many files are open as before", || {
        let now = open();
        (now.0 <= before.0 + 4 && now.1 <= before.1 + 4).then_some(())
    });
}

#[test]
fn what_has_ended_leaves_nothing_behind() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/ws", |exchange| {
        exchange.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let bytes = exchange.read_some();
        exchange.write(&bytes);
        Then::Close
    });
    mesh.plugin.on("/early", |exchange| {
        exchange.answer("409 Conflict", "", b"early");
        Then::Close
    });
    mesh.plugin.on("/endless", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"4000\r\n".to_vec(), vec![b'a'; 0x4000], b"\r\n".to_vec()].concat();
        while exchange.write(&chunk) {}
        Then::Close
    });
    let auth = mesh.authorization("7", "42");
    let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
    let round = || {
        for (path, rest) in [
            ("/echo/x", "\r\n".to_owned()),
            ("/echo/..", "\r\n".to_owned()),
            ("/echo/up", format!("{chunked}0\r\n\r\n")),
            ("/echo/early", format!("{chunked}0\r\n\r\n")),
            ("/echo/early", chunked.to_owned()),
            ("/echo/broken", chunked.to_owned()),
            ("/echo/endless", "\r\n".to_owned()),
            (
                "/echo/ws",
                "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nhi".to_owned(),
            ),
        ] {
            let method = if rest.starts_with("Transfer") {
                "POST"
            } else {
                "GET"
            };
            let mut wire = mesh.connect();
            wire.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{auth}{rest}"
            ));
            if path != "/echo/broken" {
                let _ = wire.response_head(); // and gone, whatever is still under way
            }
        }
    };
    let settled = |program: &Program| {
        gapura_tests::eventually("nothing is in flight", || {
            (mesh.metric(program, "gapura_requests_in_flight{plugin=\"echo\"}") == 0.0)
                .then_some(())
        });
        program.resident_kib()
    };
    (0..20).for_each(|_| round());
    let before = [settled(&mesh.gateway), settled(&mesh.sidecar)];
    (0..60).for_each(|_| round());
    for (program, before) in [&mesh.gateway, &mesh.sidecar].into_iter().zip(before) {
        let grown = settled(program).saturating_sub(before);
        assert!(
            grown < 3 * 1024,
            "{grown} KiB more after five hundred requests that ended in every way"
        );
    }
    gapura_tests::eventually("no client is held", || {
        (mesh.metric(&mesh.gateway, "gapura_connections{side=\"client\"}") == 0.0).then_some(())
    });
}

#[test]
fn what_a_crowd_took_goes_back_to_the_system() {
    let mesh = warm();
    let before = mesh.gateway.anonymous_kib();
    let crowd: Vec<_> = (0..500).map(|_| mesh.connect()).collect();
    let peak = mesh.gateway.anonymous_kib();
    assert!(peak > before + 4096, "{before} KiB, then {peak}");
    drop(crowd);
    // The allocator keeps what it was given back, unless each worker asks it now and then.
    within(Duration::from_secs(100), "it is given back", || {
        (mesh.gateway.anonymous_kib() < before + (peak - before) / 3).then_some(())
    });
}

#[test]
fn an_idle_client_holds_little_beside_its_tls() {
    const CLIENTS: u64 = 200;
    let mesh = TestMesh::new().one_worker().start();
    let auth = mesh.authorization("7", "42");
    let connected = |count: u64| -> Vec<_> {
        (0..count)
            .map(|_| {
                let mut wire = mesh.connect();
                wire.get("/echo/x", &auth);
                assert_eq!(wire.response().status, 200);
                wire
            })
            .collect()
    };
    let warm = connected(30);
    let before = mesh.gateway.resident_kib();
    let idle = connected(CLIENTS);
    let grown = mesh.gateway.resident_kib().saturating_sub(before);
    println!(
        "an idle client connection over TLS: {} bytes",
        grown * 1024 / CLIENTS
    );
    // A buffer and a parser that stayed would be 16 KiB on top; what is there is the session's.
    assert!(grown / CLIENTS < 18, "{grown} KiB for {CLIENTS} clients");
    // They are still good.
    for mut wire in warm.into_iter().chain(idle) {
        wire.get("/echo/again", &auth);
        assert_eq!(wire.response().status, 200);
    }
}
