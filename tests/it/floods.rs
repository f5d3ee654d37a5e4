//! Who does too much of what costs nothing over HTTP/2 is told to calm down, and nobody else feels
//! it; who breaks the protocol leaves a line.

use gapura_tests::h2::{Frame, Frames, Http2};
use gapura_tests::mesh::TestMesh;
use http::Request;
use serde_json::Value;

/// ENHANCE_YOUR_CALM (RFC 9113, section 7).
const CALM: u32 = 11;

fn frames(mesh: &TestMesh) -> Frames {
    Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]))
}

/// The code that the connection ends with.
fn code(frames: &mut Frames) -> Option<u32> {
    std::iter::from_fn(|| frames.next()).find_map(|frame| match frame {
        Frame::GoAway(code) => Some(code),
        _ => None,
    })
}

#[test]
fn floods_end_their_connection_and_another_client_is_served_all_along() {
    let mesh = TestMesh::new().one_worker().start();
    let mut neighbour = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let mut ask = move |token: &str| {
        let request = Request::get("https://localhost/echo/n")
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .unwrap();
        neighbour.exchange(request, None).status
    };
    let token = mesh.signer.token_of("7", "42");
    let authorization = format!("Bearer {token}");
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/echo/x"),
        ("authorization", authorization.as_str()),
    ];
    for (what, kind, stream, payload) in [
        ("PING", 6, 0, &[0; 8][..]),
        ("SETTINGS", 4, 0, &[]),
        ("DATA without data", 0, 1, &[]),
        ("PRIORITY", 2, 1, &[0, 0, 0, 3, 7]),
        ("WINDOW_UPDATE of the connection", 8, 0, &[0, 0, 0, 1]),
        ("WINDOW_UPDATE of a stream", 8, 1, &[0, 0, 0, 1]),
        ("an unknown kind", 0xbe, 0, &[]),
    ] {
        let mut flood = frames(&mesh);
        flood.head(1, &head, false);
        for _ in 0..3000 {
            flood.send(kind, 0, stream, payload);
        }
        assert_eq!(code(&mut flood), Some(CALM), "{what}");
        assert_eq!(ask(&token), 200, "{what}: the neighbour");
    }
    let closed = mesh.gateway.wait_for_event("connection_closed");
    assert_eq!(
        (&closed["side"], &closed["reason"]),
        (&"client".into(), &"http2".into())
    );
    let said = closed["message"].as_str().unwrap();
    assert!(said.contains("ENHANCE_YOUR_CALM"), "{said}");
    // What any client does is none: a hundred pings, settings and updates between requests.
    let mut calm = frames(&mesh);
    for stream in [1, 3] {
        for (kind, payload) in [(6, &[0; 8][..]), (4, &[]), (8, &[0, 0, 0, 1])] {
            (0..100).for_each(|_| calm.send(kind, 0, 0, payload));
        }
        calm.head(stream, &head, true);
        let answered = Some(Frame::Head(stream, Some(200)));
        let answer = std::iter::from_fn(|| calm.next())
            .find(|frame| !matches!(frame, Frame::Other(_) | Frame::Data(..)));
        assert_eq!(answer, answered);
    }
}

#[test]
fn a_head_that_is_too_large_is_refused_whole_up_to_eight_times_the_bound() {
    let mesh = TestMesh::new().start();
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let token = mesh.signer.token_of("7", "42");
    for (size, status) in [
        (31, 200),
        (33, 431),
        (63, 431),
        (66, 431),
        (130, 431),
        (250, 431),
    ] {
        let id = format!("of-{size}-kib");
        let request = Request::get("https://localhost/echo/large")
            .header("authorization", format!("Bearer {token}"))
            .header("x-request-id", &id)
            .header("a", "b".repeat(size * 1024))
            .body(())
            .unwrap();
        let answer = client.exchange(request, None);
        assert_eq!(answer.status, status, "{size} KiB");
        if status == 431 {
            answer.assert_refusal(431, "headers_too_large", "gateway");
            assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
        }
        let line = mesh
            .gateway
            .wait_for_line(&id, |line| line["request_id"] == id.as_str());
        assert_eq!(line["status"], status, "{line}");
    }
    assert_eq!(mesh.plugin.seen_at("/large").len(), 1);
}

#[test]
fn what_is_refused_without_an_answer_leaves_a_line() {
    let mesh = TestMesh::new().start();
    let base = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/echo/x"),
    ];
    let mut malformed = frames(&mesh);
    malformed.head(1, &[&base[..], &[("connection", "close")]].concat(), true);
    assert_eq!(malformed.outcome(), Some(Frame::Reset(1, 1)));
    let line = mesh.gateway.wait_for_line("a malformed head", |line| {
        line["event"] == "request" && line["code"] == "bad_request"
    });
    assert_eq!(
        (&line["status"], &line["path"]),
        (&400.into(), &Value::Null),
        "{line}"
    );
    assert_eq!(line["peer"], "127.0.0.1", "{line}");
    let before = mesh.metric(
        &mesh.gateway,
        "gapura_rejections_total{code=\"bad_request\"}",
    );
    assert!(before >= 1.0, "{before}");
    // A block that does not decode ends the connection.
    let mut broken = frames(&mesh);
    broken.send(1, 5, 1, &[0xff; 8]);
    assert!(code(&mut broken).is_some());
    let closed = mesh.gateway.wait_for_event("connection_closed");
    assert_eq!(closed["reason"], "http2", "{closed}");
    // The twin: the same head without the field that has no place in HTTP/2.
    let mut good = frames(&mesh);
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    good.head(1, &[&base[..], &[("authorization", &token)]].concat(), true);
    assert_eq!(good.outcome(), Some(Frame::Head(1, Some(200))));
}
