//! All loads of the threat model at once for a minute, within the memory of the containers, and a
//! normal client beside them. Not part of a usual run: `cargo test --locked -p gapura-tests --test
//! it -- --ignored --nocapture siege::`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::h2::{Frames, Http2};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::wire::Wire;
use serde_json::json;

use crate::sums::{Group, MIB, deaf, stalled};

/// How long it lasts, and how long after it memory is looked at again.
const MINUTE: Duration = Duration::from_secs(60);

fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Opens and resets streams as fast as it may, on one connection after another.
fn resets(mesh: &TestMesh, stop: &AtomicBool) {
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    while !stop.load(Ordering::Relaxed) {
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        for stream in 0..500_u32 {
            let head = [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", "/echo/x"),
                ("authorization", token.as_str()),
            ];
            frames.head(stream * 2 + 1, &head, true);
            frames.send(3, 0, stream * 2 + 1, &[0, 0, 0, 8]);
        }
        let _ = frames.is_closed_within(Duration::from_millis(100));
    }
}

/// Frames that cost their sender nothing: pings, settings, DATA without data, updates of windows.
fn floods(mesh: &TestMesh, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for (kind, payload) in [(6, &[0; 8][..]), (4, &[]), (8, &[0, 0, 0, 1]), (0xbe, &[])] {
            let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
            for _ in 0..3000 {
                frames.send(kind, 0, 0, payload);
            }
            let _ = frames.is_closed_within(Duration::from_millis(100));
        }
    }
}

/// A thousand clients of a byte a second each, by what is left of a head.
fn slow(mesh: &TestMesh, stop: &AtomicBool) {
    let mut all: Vec<Wire> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while all.len() < 1000 && !stop.load(Ordering::Relaxed) {
            let last = u8::try_from(all.len() % 200).unwrap_or(0) + 20;
            if let Ok(wire) = Wire::tls_from(
                loopback(last),
                mesh.public(),
                &mesh.client_tls(&["http/1.1"]),
            ) {
                all.push(wire);
            }
        }
        all.retain_mut(|wire| wire.try_send("G").is_ok());
        std::thread::sleep(Duration::from_secs(1)); // a byte a second
    }
}

/// What a client did that is like any other: each answer's time, and how many failed.
#[derive(Default)]
struct Normal {
    took: Vec<Duration>,
    failed: usize,
}

impl Normal {
    /// Asks ten times a second, from an address of its own.
    fn asks(mesh: &TestMesh, for_so_long: Duration) -> Self {
        let (mut this, begun) = (Self::default(), Instant::now());
        let auth = mesh.authorization("7", "43");
        let tls = mesh.client_tls(&["http/1.1"]);
        let mut wire = None;
        while begun.elapsed() < for_so_long {
            let asked = Instant::now();
            let mut on = match wire.take() {
                Some(on) => on,
                None => match Wire::tls_from(loopback(9), mesh.public(), &tls) {
                    Ok(on) => on,
                    Err(_) => {
                        this.failed += 1;
                        continue;
                    }
                },
            };
            let sent = on.try_send(format!(
                "GET /other/x HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"
            ));
            let answer = sent
                .map_err(|_| ())
                .and_then(|()| on.try_response("GET").map_err(drop));
            match answer {
                Ok(answer) if answer.status == 200 => {
                    this.took.push(asked.elapsed());
                    wire = Some(on);
                }
                _ => this.failed += 1,
            }
            std::thread::sleep(Duration::from_millis(100)); // ten a second
        }
        this.took.sort_unstable();
        this
    }

    fn told(&self, what: &str) -> String {
        let at = |percent: usize| {
            let last = self.took.len().saturating_sub(1);
            self.took.get((self.took.len() * percent / 100).min(last))
        };
        let (p50, p99, failed) = (at(50), at(99), self.failed);
        let count = self.took.len();
        format!("{what}: {count} answers, p50 {p50:?}, p99 {p99:?}, failed {failed}")
    }
}

#[test]
#[ignore = "takes three minutes and all of the machine"]
fn all_loads_at_once_for_a_minute_within_the_memory_of_the_containers() {
    let groups = (
        Group::new("siege-gateway", 256 * MIB),
        Group::new("siege-sidecar", 64 * MIB),
    );
    let (Some(gateway), Some(sidecar)) = groups else {
        println!("skipped: no control group can be made here");
        return;
    };
    let builder = TestMesh::new()
        .also("other", json!({}))
        .invocations(|program, name| {
            program.group(if name == "gateway" {
                &gateway.0
            } else {
                &sidecar.0
            })
        });
    let mut mesh = builder.start();
    mesh.plugin.on("/mib", |exchange| {
        exchange.answer("200 OK", "", &vec![0x55; MIB]);
        Then::Keep
    });
    let quiet = Normal::asks(&mesh, MINUTE / 4);
    println!("{}", quiet.told("quiet"));
    let held =
        |mesh: &TestMesh| [&mesh.gateway, &mesh.sidecar].map(|one| one.anonymous_kib() >> 10);
    let before = held(&mesh);
    let stop = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        let (mesh, stop) = (&mesh, &stop);
        scope.spawn(move || resets(mesh, stop)); // C1
        scope.spawn(move || floods(mesh, stop)); // C1
        scope.spawn(move || slow(mesh, stop)); // C2
        scope.spawn(move || {
            // A1: who does not read, in either way. A2 and C2: who says nothing, of one address.
            // A3: uploads without a length.
            let readers: Vec<_> = (0..8).map(|_| stalled(mesh)).collect();
            let deaf: Vec<_> = (0..30).map(|_| deaf(mesh)).collect();
            let idle: Vec<_> = (0..1000).map(|_| Wire::plain(mesh.public())).collect();
            let tls = mesh.client_tls(&["h2"]);
            let token = mesh.signer.token_of("7", "42");
            let mut uploads: Vec<Http2> = (0..6)
                .map(|_| Http2::connect(mesh.public(), &tls, 1 << 20))
                .collect();
            let mut open = Vec::new();
            for client in &mut uploads {
                for _ in 0..100 {
                    let request = http::Request::post("https://localhost/echo/up")
                        .header("authorization", format!("Bearer {token}"));
                    open.push(client.open(request.body(()).unwrap(), false));
                }
            }
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100)); // for as long as it lasts
            }
            drop((readers, deaf, idle, open));
        });
        let beside = Normal::asks(mesh, MINUTE);
        stop.store(true, Ordering::Relaxed);
        beside
    });
    println!("{}", beside.told("beside all of them"));
    let peaks = [gateway.peak_mib(), sidecar.peak_mib()];
    println!("memory: before {before:?} MiB, at the peak {peaks:?} of [256, 64] MiB");
    std::thread::sleep(MINUTE); // that long after it memory is looked at again
    let after = held(&mesh);
    println!("memory a minute later: {after:?} MiB");
    assert!(mesh.gateway.runs() && mesh.sidecar.runs());
    assert!(
        beside.failed * 100 <= beside.took.len(),
        "{}",
        beside.told("beside")
    );
    drop(mesh);
}
