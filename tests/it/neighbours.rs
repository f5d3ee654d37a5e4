//! Floods: the offender ends, nobody else notices, and the memory comes back.

use std::time::{Duration, Instant};

use gapura_tests::h2::{Frame, Frames, block};
use gapura_tests::mesh::TestMesh;
use gapura_tests::wire::Wire;

/// Ten times what somebody else's answer may take beside a flood.
const SOON: Duration = Duration::from_secs(5);

const KIB_OF_16_MIB: u64 = 16 * 1024;

#[track_caller]
fn assert_prompt(mesh: &TestMesh, what: &str) {
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(
            mesh.get("/echo/x").token_of("7", "42").send().status,
            200,
            "{what}"
        );
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    }
}

/// Runs `flood` against a mesh that is warm, beside a client that is served, and holds the
/// gateway's peak to 16 MiB more.
#[track_caller]
fn beside(what: &str, flood: impl FnOnce(&TestMesh)) {
    let mesh = TestMesh::new().start();
    assert_prompt(&mesh, "before");
    mesh.gateway.forget_peak();
    let before = mesh.gateway.resident_kib();
    flood(&mesh);
    assert_prompt(&mesh, what);
    let grown = mesh.gateway.peak_kib().saturating_sub(before);
    assert!(grown < KIB_OF_16_MIB, "{what}: {grown} KiB");
}

fn connect(mesh: &TestMesh) -> Frames {
    Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]))
}

/// Whether the connection ends within so many frames.
fn ends(frames: &mut Frames) -> bool {
    (0..20_000).any(|_| matches!(frames.next(), Some(Frame::GoAway(_)) | None))
}

#[test]
fn streams_that_are_opened_and_reset_end_their_connection() {
    beside("beside rapid resets", |mesh| {
        let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/echo/reset"),
            ("authorization", token.as_str()),
        ];
        for _ in 0..5 {
            let mut frames = connect(mesh);
            for n in 0..5000_u32 {
                frames.head(2 * n + 1, &fields, true);
                frames.send(3, 0, 2 * n + 1, &8_u32.to_be_bytes());
            }
            assert!(ends(&mut frames));
        }
    });
}

#[test]
fn heads_that_never_end_end_their_connection() {
    beside("beside heads without an end", |mesh| {
        for _ in 0..20 {
            let mut frames = connect(mesh);
            frames.send(1, 1, 1, &[]);
            for _ in 0..500 {
                frames.send(9, 0, 1, &block(&[("a", &"b".repeat(4000))]));
            }
            assert!(frames.is_closed_within(SOON));
        }
    });
}

#[test]
fn a_small_head_that_unfolds_to_a_large_one_is_refused() {
    beside("beside heads that unfold", |mesh| {
        // One field is put into the table; each byte behind it stands for the whole of it: 16 KiB
        // for 60 MiB.
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/echo/bomb"),
        ];
        let value = "b".repeat(3900);
        let mut bomb = block(&fields);
        bomb.extend([0x40, 1, b'a', 0x7f]);
        let mut rest = value.len() - 127;
        while rest >= 128 {
            bomb.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        bomb.push(rest as u8);
        bomb.extend(value.as_bytes());
        bomb.resize(16 * 1024, 0xbe); // the newest entry of the table, again and again
        for _ in 0..20 {
            let mut frames = connect(mesh);
            frames.send(1, 5, 1, &bomb);
            let outcome = frames.outcome();
            let refused = match outcome {
                Some(Frame::Head(_, Some(status))) => status == 431,
                Some(Frame::Reset(..) | Frame::GoAway(_)) | None => true,
                _ => false,
            };
            assert!(refused, "{outcome:?}");
        }
        assert!(mesh.plugin.seen_at("/bomb").is_empty());
    });
}

#[test]
fn a_cookie_in_ten_thousand_crumbs_is_ten_thousand_fields() {
    beside("beside crumbs", |mesh| {
        let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
        let mut fields = vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/echo/crumbs"),
            ("authorization", token.as_str()),
        ];
        fields.extend([("cookie", "a")].repeat(101));
        let mut frames = connect(mesh);
        frames.head(1, &fields, true);
        assert_eq!(frames.outcome(), Some(Frame::Head(1, Some(431))));
        // The twin with as many as there may be.
        fields.truncate(60);
        let mut frames = connect(mesh);
        frames.head(1, &fields, true);
        assert_eq!(frames.outcome(), Some(Frame::Head(1, Some(200))));
        let head = block(&fields[..5]);
        let crumbs = block(&[("cookie", "a")].repeat(1000));
        let mut frames = connect(mesh);
        frames.send(1, 1, 1, &head);
        for _ in 0..10 {
            frames.send(9, 0, 1, &crumbs);
        }
        frames.send(9, 4, 1, &[]);
        let outcome = frames.outcome();
        assert!(
            !matches!(outcome, Some(Frame::Head(_, Some(200)))),
            "{outcome:?}"
        );
        let seen = mesh.plugin.seen_at("/crumbs");
        assert!(
            seen.iter().all(|seen| seen.all("cookie").len() == 1),
            "{seen:?}"
        );
    });
}

#[test]
fn a_thousand_clients_of_a_byte_a_second_delay_nobody() {
    let mesh = TestMesh::new().plain_public().start();
    let mut slow: Vec<Wire> = (0..1000).map(|_| Wire::plain(mesh.public())).collect();
    let head = b"GET /echo/slow HTTP/1.1\r\n";
    let begun = Instant::now();
    for byte in head.iter().take(5) {
        for wire in &mut slow {
            let _ = wire.try_send([*byte]);
        }
        let once = Instant::now();
        let mut wire = Wire::plain(mesh.public());
        wire.get("/echo/x", &mesh.authorization("7", "42"));
        assert_eq!(wire.response().status, 200);
        assert!(once.elapsed() < SOON, "{:?}", once.elapsed());
    }
    // Ten seconds for a head, and each of them gets its answer.
    let refused = slow.first_mut().unwrap().try_response("GET").unwrap();
    assert_eq!(refused.status, 408, "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(100));
    gapura_tests::within(Duration::from_secs(60), "their places are free", || {
        (mesh.gateway.open_files() < 100).then_some(())
    });
}
