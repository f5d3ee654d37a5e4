//! The same rules over HTTP/2, and what only HTTP/2 makes possible.

use std::time::Duration;

use gapura_tests::h2::{Frame, Frames, Http2};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use http::{HeaderMap, Request};
use serde_json::json;

fn client(mesh: &TestMesh) -> Http2 {
    Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20)
}

fn request(mesh: &TestMesh, method: &str, path: &str) -> http::request::Builder {
    let token = mesh.signer.token_of("7", "42");
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {token}"))
}

#[test]
fn a_request_over_http2_is_treated_like_any_other() {
    let mesh = TestMesh::new().start();
    let mut client = client(&mesh);
    let response = client.exchange(
        request(&mesh, "POST", "/echo/x?q=1")
            .header("x-company-id", "spoof")
            .header("x_user_id", "spoof")
            .header("x.role", "spoof")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap(),
        Some(b"hi"),
    );
    assert_eq!(response.status, 200);
    assert!(response.header("x-request-id").is_some());
    let seen = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/x?q=1");
    assert_eq!(
        (
            seen.header("x-company-id"),
            seen.header("x-user-id"),
            seen.header("x-role")
        ),
        (Some("42"), Some("7"), Some("member"))
    );
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.header("host"), Some("localhost"));
    assert_eq!(seen.text(), "hi");
    assert!(!mesh.plugin.got_bytes("spoof"));
    let refusal = client.exchange(
        Request::get("https://localhost/echo/x").body(()).unwrap(),
        None,
    );
    refusal.assert_refusal(401, "token_missing", "gateway");
}

#[test]
fn many_streams_share_a_connection() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/n", |exchange| {
        let target = exchange.head.target.clone();
        exchange.answer("200 OK", "", target.as_bytes());
        Then::Keep
    });
    let mut client = client(&mesh);
    let open: Vec<_> = (0..50)
        .map(|n| {
            client.open(
                request(&mesh, "GET", &format!("/echo/n{n}"))
                    .body(())
                    .unwrap(),
                true,
            )
        })
        .collect();
    for (n, stream) in open.into_iter().enumerate() {
        assert_eq!(stream.answer().whole().text(), format!("/n{n}"));
    }
}

#[test]
fn trailers_come_back_and_only_harmless_ones_go_on() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/rpc",
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTrailer: grpc-status\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\nX-Company-Id: leak\r\n\r\n",
        Then::Keep,
    );
    let mut client = client(&mesh);
    let mut open = client.open(
        request(&mesh, "POST", "/echo/rpc")
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .unwrap(),
        false,
    );
    open.data(b"hi", false);
    let mut trailers = HeaderMap::new();
    for name in ["x-company-id", "x_role", "x-gapura-auth", "other"] {
        trailers.insert(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static("spoof"),
        );
    }
    trailers.insert("grpc-note", http::HeaderValue::from_static("kept"));
    open.trailers(trailers);
    let response = open.answer().whole();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(
        response.trailers,
        [("grpc-status".to_owned(), "0".to_owned())]
    );
    let seen = mesh.plugin.wait_for("the request", |seen| seen.complete);
    let names: Vec<_> = seen
        .trailers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    assert!(names.iter().all(|name| name == "grpc-note"), "{names:?}");
    assert!(!mesh.plugin.got_bytes("spoof"));
}

#[test]
fn a_head_that_two_readers_could_read_differently_is_refused() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    let base = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/echo/x"),
        ("authorization", token.as_str()),
    ];
    let changed = |name: &str, value: &'static str| {
        base.map(|(n, v)| if n == name { (n, value) } else { (n, v) })
            .to_vec()
    };
    let without = |name: &str| {
        base.iter()
            .copied()
            .filter(|(n, _)| *n != name)
            .collect::<Vec<_>>()
    };
    let with = |more: &[(&'static str, &'static str)]| {
        base.iter()
            .copied()
            .chain(more.iter().copied())
            .collect::<Vec<_>>()
    };
    for (what, fields) in [
        ("host unlike :authority", with(&[("host", "evil")])),
        (
            "two hosts",
            with(&[("host", "localhost"), ("host", "evil")]),
        ),
        (
            "another host alone, twice",
            [
                without(":authority"),
                vec![("host", "localhost"), ("host", "localhost")],
            ]
            .concat(),
        ),
        ("neither :authority nor host", without(":authority")),
        ("userinfo", changed(":authority", "a@evil")),
        ("no :path", without(":path")),
        ("an empty :path", changed(":path", "")),
        (":path without a slash", changed(":path", "echo/x")),
        (":path as a URL", changed(":path", "http://evil/echo/x")),
        (":path *", changed(":path", "*")),
        (":path with dots", changed(":path", "/echo/../x")),
        ("no :method", without(":method")),
        ("no :scheme", without(":scheme")),
        ("another scheme", changed(":scheme", "gopher")),
        (":path twice", with(&[(":path", "/echo/y")])),
        (
            "a pseudo-header late",
            with(&[("a", "1"), (":path", "/echo/y")]),
        ),
        ("an unknown pseudo-header", with(&[(":company", "42")])),
        ("connection", with(&[("connection", "x-company-id")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("te: gzip", with(&[("te", "gzip")])),
        ("an upper-case name", with(&[("X-Company-Id", "9")])),
        (
            "two lines in a value",
            with(&[("a", "1\r\nx-company-id: 9")]),
        ),
        ("an empty name", with(&[("", "1")])),
        ("a space in a name", with(&[("a b", "1")])),
        ("two authorizations", with(&[("authorization", "Bearer a")])),
        (
            "two lengths",
            with(&[("content-length", "0"), ("content-length", "1")]),
        ),
        ("a length without a body", with(&[("content-length", "5")])),
        ("an empty length", with(&[("content-length", "")])),
        ("zeros before a length", with(&[("content-length", "000")])),
        ("a list of lengths", with(&[("content-length", "0, 0")])),
        (":path with broken text", changed(":path", "/echo/a%ff")),
        (
            ":path with dots and a cut",
            changed(":path", "/echo/..%3F/x"),
        ),
        (
            "CONNECT",
            vec![(":method", "CONNECT"), (":authority", "localhost:443")],
        ),
        (
            "extended CONNECT",
            with(&[(":protocol", "websocket")])
                .into_iter()
                .map(|(n, v)| {
                    if n == ":method" {
                        (n, "CONNECT")
                    } else {
                        (n, v)
                    }
                })
                .collect(),
        ),
        ("TRACE", changed(":method", "TRACE")),
    ] {
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        // Pseudo-headers go first, but for the cases that are about their place.
        let mut fields = fields;
        if !what.contains("late") {
            fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        }
        frames.head(1, &fields, true);
        let outcome = frames.outcome();
        let refused = match &outcome {
            Some(Frame::Head(_, Some(status))) => {
                matches!(status, 400 | 405) || (*status == 401 && what.contains("CONNECT"))
            }
            Some(Frame::Reset(_, _) | Frame::GoAway(_)) | None => true,
            _ => false,
        };
        assert!(refused, "{what}: {outcome:?}");
    }
    assert!(mesh.plugin.seen().is_empty(), "{:?}", mesh.plugin.seen());
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    frames.head(1, &with(&[("host", "localhost")]), true);
    assert_eq!(
        frames.outcome(),
        Some(Frame::Head(1, Some(200))),
        "a host equal to :authority is no doubt"
    );
    // What stands behind a `#` is no part of any target, and nobody sees it.
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    frames.head(1, &changed(":path", "/echo/y#/../z"), true);
    match frames.outcome() {
        Some(Frame::Head(_, Some(200))) => {
            let seen = mesh
                .plugin
                .wait_for("the request", |seen| seen.target.starts_with("/y"));
            assert_eq!(seen.target, "/y");
        }
        outcome => assert!(
            matches!(
                outcome,
                Some(Frame::Head(_, Some(400)) | Frame::Reset(..) | Frame::GoAway(_)) | None
            ),
            "{outcome:?}"
        ),
    }
}

#[test]
fn a_body_of_another_length_than_said_is_never_a_whole_request() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    for (said, sent) in [("9", "hi"), ("1", "hi")] {
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/echo/x"),
            ("authorization", &token),
            ("content-length", said),
        ];
        frames.head(1, &fields, false);
        frames.send(0, 1, 1, sent.as_bytes());
        let outcome = frames.outcome();
        assert!(
            !matches!(outcome, Some(Frame::Head(_, Some(200)))),
            "{said}: {outcome:?}"
        );
    }
    assert!(
        mesh.plugin.seen().iter().all(|seen| !seen.complete),
        "{:?}",
        mesh.plugin.seen()
    );
}

#[test]
fn opening_and_resetting_without_end_ends_the_connection_and_nothing_else() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/echo/x"),
        ("authorization", &token),
    ];
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    for n in 0..3000_u32 {
        frames.head(2 * n + 1, &fields, true);
        frames.send(3, 0, 2 * n + 1, &8_u32.to_be_bytes());
    }
    let mut ended = false;
    for _ in 0..10_000 {
        match frames.next() {
            Some(Frame::GoAway(_)) | None => {
                ended = true;
                break;
            }
            _ => {}
        }
    }
    assert!(ended, "ten thousand frames and no end");
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

#[test]
fn a_header_block_without_end_ends_the_connection() {
    let mesh = TestMesh::new().start();
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    frames.send(1, 1, 1, &[]); // a head that goes on
    for _ in 0..2000 {
        let name = gapura_tests::h2::block(&[("a", &"b".repeat(1000))]);
        frames.send(9, 0, 1, &name);
    }
    assert!(frames.is_closed_within(Duration::from_secs(10)));
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

#[test]
fn a_head_has_the_same_size_over_http2() {
    let mesh = TestMesh::new().start();
    let mut client = client(&mesh);
    let mut fits = request(&mesh, "GET", "/echo/fits");
    for n in 0..95 {
        fits = fits.header(format!("a-{n}"), "1");
    }
    assert_eq!(client.exchange(fits.body(()).unwrap(), None).status, 200);
    let mut many = request(&mesh, "GET", "/echo/many");
    for n in 0..105 {
        many = many.header(format!("a-{n}"), "1");
    }
    assert_eq!(client.exchange(many.body(()).unwrap(), None).status, 431);
    let large = request(&mesh, "GET", "/echo/large").header("a", "b".repeat(31_000));
    assert_eq!(
        client.exchange(large.body(()).unwrap(), None).status,
        200,
        "what the door accepts is never refused behind it"
    );
    let larger = request(&mesh, "GET", "/echo/larger").header("a", "b".repeat(34_000));
    match client.open(larger.body(()).unwrap(), true).try_answer() {
        Ok(answer) => assert_eq!(answer.head.status, 431),
        Err(err) => assert!(err.is_reset() || err.is_go_away(), "{err}"),
    }
    let long = request(&mesh, "GET", &format!("/echo/{}", "a".repeat(8200)));
    assert_eq!(client.exchange(long.body(()).unwrap(), None).status, 414);
    assert!(mesh.plugin.seen_at("/many").is_empty() && mesh.plugin.seen_at("/larger").is_empty());
}

#[test]
fn a_body_over_the_limit_is_refused_over_http2() {
    let mesh = TestMesh::new()
        .fields(json!({"max_body_bytes": 1000}))
        .start();
    let mut client = client(&mesh);
    assert_eq!(
        client
            .exchange(
                request(&mesh, "POST", "/echo/x").body(()).unwrap(),
                Some(&[b'a'; 1000])
            )
            .status,
        200
    );
    assert_eq!(
        client
            .exchange(
                request(&mesh, "POST", "/echo/y").body(()).unwrap(),
                Some(&[b'a'; 1001])
            )
            .status,
        413
    );
    assert!(mesh.plugin.seen_at("/y").iter().all(|seen| !seen.complete));
}

#[test]
fn an_upload_that_is_reset_without_reproach_is_no_whole_one_either() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    for turn in 1..=10 {
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/echo/up"),
            ("authorization", &token),
        ];
        frames.head(1, &fields, false);
        frames.send(0, 0, 1, b"half of it");
        gapura_tests::eventually("its first bytes reach the plugin", || {
            (mesh
                .plugin
                .seen_at("/up")
                .iter()
                .filter(|seen| seen.body_length == 10)
                .count()
                == turn)
                .then_some(())
        });
        frames.send(3, 0, 1, &0_u32.to_be_bytes()); // NO_ERROR
        drop(frames);
    }
    gapura_tests::eventually("the plugin is let go", || {
        (mesh.plugin.open() == 0).then_some(())
    });
    assert!(
        mesh.plugin.seen_at("/up").iter().all(|seen| !seen.complete),
        "{:?}",
        mesh.plugin.seen_at("/up")
    );
}

/// A head of these fields over frames, and what a good one is.
fn head_of<'a>(method: &'a str, path: &'a str, token: &'a str) -> [(&'a str, &'a str); 5] {
    [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("authorization", token),
    ]
}

/// Whether the connection ends, whatever comes before that.
fn ends(frames: &mut Frames) -> bool {
    (0..30_000).any(|_| matches!(frames.next(), Some(Frame::GoAway(_)) | None))
}

#[test]
fn trailers_that_do_not_end_their_stream_are_no_request() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    for (path, flags) in [("/echo/open", 4), ("/echo/ended", 5)] {
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        frames.head(1, &head_of("POST", path, &token), false);
        frames.send(0, 0, 1, b"hi");
        frames.send(1, flags, 1, &gapura_tests::h2::block(&[("grpc-note", "x")]));
        let outcome = frames.outcome();
        if flags == 5 {
            assert_eq!(
                outcome,
                Some(Frame::Head(1, Some(200))),
                "trailers that end it"
            );
        } else {
            let refused = matches!(outcome, Some(Frame::Reset(..) | Frame::GoAway(_)) | None);
            assert!(
                refused || matches!(outcome, Some(Frame::Head(1, Some(400)))),
                "{outcome:?}"
            );
        }
    }
    assert!(
        mesh.plugin
            .seen_at("/open")
            .iter()
            .all(|seen| !seen.complete)
    );
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

#[test]
fn a_client_that_makes_us_reset_its_streams_without_end_is_ended() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
    for n in 0..3000_u32 {
        frames.head(2 * n + 1, &head_of("POST", "/echo/x", &token), false);
        frames.send(8, 0, 2 * n + 1, &0_u32.to_be_bytes()); // a window that grows by nothing: our reset, not theirs
    }
    assert!(ends(&mut frames), "thirty thousand frames and no end");
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

#[test]
fn a_head_that_grows_when_it_is_unpacked_is_refused() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    let with_copies = |path: &str, size: usize, copies: usize| {
        let mut block = gapura_tests::h2::block(&head_of("GET", path, &token));
        let entry = gapura_tests::h2::block(&[("a", &"b".repeat(size))]);
        block.push(0x40); // a literal that goes into the table
        block.extend(&entry[1..]);
        block.extend(vec![0x80 | 62; copies]); // the table's newest entry, a byte each time
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        frames.send(1, 5, 1, &block);
        frames.outcome()
    };
    mesh.gateway.forget_peak();
    let before = mesh.gateway.resident_kib();
    for _ in 0..20 {
        let outcome = with_copies("/echo/bomb", 3500, 11_000); // 38 MiB out of 15 KiB
        assert!(
            !matches!(outcome, Some(Frame::Head(_, Some(200)))),
            "{outcome:?}"
        );
    }
    let grown = mesh.gateway.peak_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    assert_eq!(
        with_copies("/echo/few", 100, 20),
        Some(Frame::Head(1, Some(200))),
        "a field that stands in the table may be named"
    );
    assert!(mesh.plugin.seen_at("/bomb").is_empty());
}

#[test]
fn frames_that_carry_nothing_cost_nobody_else_anything() {
    let mesh = TestMesh::new().start();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    for kind in ["empty DATA", "PING", "SETTINGS"] {
        let mut frames = Frames::connect(mesh.public(), &mesh.client_tls(&["h2"]));
        if kind == "empty DATA" {
            frames.head(1, &head_of("POST", "/echo/nothing", &token), false);
        }
        for _ in 0..5000 {
            match kind {
                "empty DATA" => frames.send(0, 0, 1, &[]),
                "PING" => frames.send(6, 0, 0, &[0; 8]),
                _ => frames.send(4, 0, 0, &[]),
            }
        }
        let asked = std::time::Instant::now();
        assert_eq!(
            mesh.get("/echo/x").token_of("7", "42").send().status,
            200,
            "{kind}"
        );
        assert!(asked.elapsed() < Duration::from_secs(5), "{kind}");
    }
    gapura_tests::eventually("no stream is left at the plugin", || {
        (mesh.plugin.open() <= 2).then_some(())
    });
}
