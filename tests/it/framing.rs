//! Which HTTP/1.1 is unambiguous: raw bytes at the front door, and how many requests the plugin saw
//! of them.
//!
//! Each attack ends in a request for `/smuggled`: whatever the gateway answers, the plugin must
//! never see that.

use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;

const SMUGGLED: &str = "GET /echo/smuggled HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\n\r\n";
const SOON: Duration = Duration::from_secs(5);

/// Sends `head` with a good token; holds the answer to a refusal with this status and the
/// connection to its end.
#[track_caller]
fn refused(mesh: &TestMesh, what: &str, request: &str, status: u16) {
    let before = mesh.plugin.seen().len();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(request.replace("AUTH", auth.trim_end()) + SMUGGLED);
    let answer = wire
        .try_response("GET")
        .unwrap_or_else(|why| panic!("{what}: no answer: {why}"));
    assert_eq!(
        answer.status,
        status,
        "{what}: {answer:?} {}",
        answer.text()
    );
    if answer.header("content-type") == Some("application/json") {
        assert_eq!(answer.json()["ok"], false, "{what}");
    }
    assert!(
        wire.is_closed_within(SOON),
        "{what}: the connection stays open"
    );
    assert_eq!(
        mesh.plugin.seen().len(),
        before,
        "{what}: something reached the plugin"
    );
}

/// Where HTTP/1 leaves a choice: 400, or exactly one request, framed anew, followed by a close.
#[track_caller]
fn refused_or_one(mesh: &TestMesh, what: &str, request: &str) {
    let before = mesh.plugin.seen().len();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(request.replace("AUTH", auth.trim_end()) + SMUGGLED);
    let answer = wire
        .try_response("POST")
        .unwrap_or_else(|why| panic!("{what}: no answer: {why}"));
    assert!(matches!(answer.status, 200 | 400), "{what}: {answer:?}");
    assert!(
        wire.is_closed_within(SOON),
        "{what}: the connection stays open"
    );
    let new = mesh.plugin.seen().split_off(before);
    assert_eq!(
        new.len(),
        usize::from(answer.status == 200),
        "{what}: {new:?}"
    );
    for seen in new {
        let lengths = seen.all("content-length").len() + seen.all("transfer-encoding").len();
        assert!(
            lengths <= 1,
            "{what}: passed on with the same doubt: {seen:?}"
        );
    }
    assert!(!mesh.plugin.got_bytes("x-smuggled"), "{what}: smuggled");
}

#[test]
fn two_lengths_or_an_odd_length_are_refused() {
    let mesh = TestMesh::new().start();
    for (what, lines) in [
        (
            "two different lengths",
            "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        ),
        ("a plus sign", "Content-Length: +2\r\n\r\nhi"),
        ("a minus sign", "Content-Length: -2\r\n\r\nhi"),
        ("hexadecimal", "Content-Length: 0x2\r\n\r\nhi"),
        ("a list of lengths", "Content-Length: 2, 2\r\n\r\nhi"),
        (
            "a list of different lengths",
            "Content-Length: 2, 3\r\n\r\nhi",
        ),
        ("an empty length", "Content-Length: \r\n\r\n"),
        ("zeros before a length", "Content-Length: 0002\r\n\r\nhi"),
        ("two zeros", "Content-Length: 00\r\n\r\n"),
        (
            "a length beyond 64 bits",
            "Content-Length: 18446744073709551618\r\n\r\nhi",
        ),
    ] {
        refused(
            &mesh,
            what,
            &format!("POST /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\n{lines}"),
            400,
        );
    }
    refused(
        &mesh,
        "two equal lengths",
        "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        400,
    );
}

#[test]
fn one_length_or_one_chunked_coding_passes() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    for framed in [
        "Content-Length: 2\r\n\r\nhi",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "Transfer-Encoding: Chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhi\r\n0\r\n\r\n",
    ] {
        wire.send(format!(
            "POST /echo/x HTTP/1.1\r\nHost: localhost\r\n{auth}{framed}"
        ));
        assert_eq!(wire.response().status, 200, "{framed}");
    }
    let seen = mesh.plugin.seen();
    assert_eq!(seen.len(), 4, "four requests on one connection");
    assert!(seen.iter().all(|seen| seen.text() == "hi" && seen.complete));
}

#[test]
fn a_length_beside_a_coding_is_never_two_requests() {
    let mesh = TestMesh::new().start();
    for (what, lines) in [
        (
            "length, then chunked",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked, then length",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        ),
        (
            "a length that covers the next request",
            "Content-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ] {
        refused_or_one(
            &mesh,
            what,
            &format!("POST /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\n{lines}"),
        );
    }
}

#[test]
fn any_coding_but_one_chunked_is_refused() {
    let mesh = TestMesh::new().start();
    for (what, lines) in [
        (
            "gzip, chunked",
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked, chunked",
            "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("xchunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("gzip alone", "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
        ("an empty coding", "Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
        (
            "a space before the colon",
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a vertical tab",
            "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        ),
    ] {
        refused(
            &mesh,
            what,
            &format!("POST /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\n{lines}"),
            400,
        );
    }
    refused(
        &mesh,
        "chunked in HTTP/1.0",
        "POST /echo/x HTTP/1.0\r\nHost: localhost\r\nAUTH\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    );
}

#[test]
fn broken_chunks_end_the_connection() {
    let mesh = TestMesh::new().start();
    for (what, chunks) in [
        ("line feeds alone", "2\nhi\n0\n\n"),
        ("no size", "\r\nhi\r\n0\r\n\r\n"),
        ("a size with a sign", "+2\r\nhi\r\n0\r\n\r\n"),
        ("a size in 0x form", "0x2\r\nhi\r\n0\r\n\r\n"),
        (
            "a size beyond 64 bits",
            "10000000000000002\r\nhi\r\n0\r\n\r\n",
        ),
        ("a chunk longer than said", "1\r\nhi\r\n0\r\n\r\n"),
    ] {
        let mut wire = mesh.connect();
        let auth = mesh.authorization("7", "42");
        let head = format!(
            "POST /echo/x HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n"
        );
        let _ = wire.try_send(head + chunks + SMUGGLED);
        let status = wire.try_response("POST").map(|answer| answer.status);
        assert!(!matches!(status, Ok(200..300)), "{what}: {status:?}");
        assert!(
            wire.is_closed_within(SOON),
            "{what}: the connection stays open"
        );
        assert!(!mesh.plugin.got_bytes("x-smuggled"), "{what}: smuggled");
        assert!(
            mesh.plugin.seen().iter().all(|seen| !seen.complete),
            "{what}: a whole request reached the plugin"
        );
    }
}

#[test]
fn broken_heads_are_refused() {
    let mesh = TestMesh::new().start();
    for (what, request) in [
        (
            "a folded line",
            "GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\nX-A: 1\r\n X-Company-Id: 9\r\n\r\n",
        ),
        (
            "a bare CR in a value",
            "GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\nX-A: 1\rX-Company-Id: 9\r\n\r\n",
        ),
        (
            "a NUL in a value",
            "GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\nX-A: 1\0\r\n\r\n",
        ),
        (
            "a line without a colon",
            "GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\nX-A\r\n\r\n",
        ),
        (
            "a name with a space",
            "GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\nX A: 1\r\n\r\n",
        ),
        (
            "a space before the first name",
            "GET /echo/x HTTP/1.1\r\n Host: localhost\r\nHost: localhost\r\nAUTH\r\n\r\n",
        ),
        (
            "an unknown version",
            "GET /echo/x HTTP/2.1\r\nHost: localhost\r\nAUTH\r\n\r\n",
        ),
        (
            "no version",
            "GET /echo/x\r\nHost: localhost\r\nAUTH\r\n\r\n",
        ),
    ] {
        refused(&mesh, what, request, 400);
    }
}

#[test]
fn a_bare_line_feed_is_at_most_one_request() {
    let mesh = TestMesh::new().start();
    refused_or_one(
        &mesh,
        "line feeds alone",
        "GET /echo/x HTTP/1.1\nHost: localhost\nAUTH\n\n",
    );
    refused_or_one(
        &mesh,
        "one line feed alone",
        "GET /echo/x HTTP/1.1\r\nHost: localhost\nAUTH\r\n\r\n",
    );
}

#[test]
fn the_host_is_one_and_a_host() {
    let mesh = TestMesh::new().start();
    for (what, lines) in [
        ("no Host", ""),
        ("two Hosts", "Host: localhost\r\nHost: evil\r\n"),
        ("two equal Hosts", "Host: localhost\r\nHost: localhost\r\n"),
        ("userinfo", "Host: a@evil\r\n"),
        ("a path", "Host: localhost/evil\r\n"),
        ("a port that is no number", "Host: localhost:b\r\n"),
        ("a space inside", "Host: local host\r\n"),
        ("an empty Host", "Host:\r\n"),
    ] {
        refused(
            &mesh,
            what,
            &format!("GET /echo/x HTTP/1.1\r\n{lines}AUTH\r\n\r\n"),
            400,
        );
    }
    refused(
        &mesh,
        "absolute form for another host",
        "GET http://evil/echo/x HTTP/1.1\r\nHost: localhost\r\nAUTH\r\n\r\n",
        400,
    );
}

#[test]
fn a_good_host_passes_in_each_form() {
    let mesh = TestMesh::new().start();
    let port = mesh.public().port();
    for host in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        "127.0.0.1".to_owned(),
        "[::1]:8443".to_owned(),
        "API.Example".to_owned(),
    ] {
        let seen = mesh
            .get("/echo/x")
            .token_of("7", "42")
            .header("Host", &host)
            .seen_by_plugin();
        assert_eq!(seen.header("host"), Some(host.as_str()));
    }
    let seen = mesh
        .get("https://localhost/echo/x")
        .token_of("7", "42")
        .seen_by_plugin();
    assert_eq!(
        (seen.target.as_str(), seen.header("host")),
        ("/x", Some("localhost")),
        "absolute form for our own host"
    );
}

#[test]
fn targets_that_are_no_path_are_refused() {
    let mesh = TestMesh::new().start();
    for target in ["echo/x", "*", "?a=1", "#x", "http:", "//", "\\echo"] {
        let mut wire = mesh.connect();
        let auth = mesh.authorization("7", "42");
        wire.send(format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"
        ));
        let status = wire.response().status;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
        assert!(status == 400 || target == "//", "{target}: {status}");
    }
    assert!(mesh.plugin.seen().is_empty());
    // A fragment is no part of a request: refused, or gone.
    let fragment = mesh.get("/echo/x#y").token_of("7", "42").send();
    assert!(matches!(fragment.status, 200 | 400), "{fragment:?}");
    assert!(mesh.plugin.seen().iter().all(|seen| seen.target == "/x"));
}

#[test]
fn no_tunnel_is_ever_opened() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    wire.send(format!(
        "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n{}\r\n",
        mesh.authorization("7", "42")
    ));
    wire.response()
        .assert_refusal(405, "method_not_allowed", "gateway");
    let response = mesh.request("TRACE", "/echo/x").token_of("7", "42").send();
    response.assert_refusal(405, "method_not_allowed", "gateway");
    assert!(
        response
            .header("allow")
            .is_some_and(|served| served.contains("POST") && !served.contains("TRACE")),
        "{response:?}"
    );
    for method in ["DELETE", "PUT", "PATCH", "OPTIONS", "PROPFIND"] {
        assert_eq!(
            mesh.request(method, "/echo/x")
                .token_of("7", "42")
                .send()
                .status,
            200,
            "{method}"
        );
    }
    assert_eq!(mesh.plugin.seen().len(), 5);
}

#[test]
fn two_authorizations_are_no_authorization() {
    let mesh = TestMesh::new().start();
    let token = mesh.signer.token_of("7", "42");
    mesh.get("/echo/x")
        .token(&token)
        .token(&token)
        .send()
        .assert_refusal(400, "bad_request", "gateway");
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn a_head_has_a_size_and_a_number_of_fields() {
    let mesh = TestMesh::new().start();
    let with_fields = |count: usize| {
        let mut request = mesh.get("/echo/x").token_of("7", "42"); // Host and Authorization make two
        for number in 0..count - 2 {
            request = request.header(&format!("A-{number}"), "1");
        }
        request.send()
    };
    assert_eq!(with_fields(100).status, 200);
    assert_eq!(with_fields(101).status, 431);
    let with_size = |size: usize| {
        mesh.get("/echo/x")
            .token_of("7", "42")
            .header("A", &"a".repeat(size))
            .send()
    };
    assert_eq!(with_size(30 * 1024).status, 200);
    assert_eq!(with_size(33 * 1024).status, 431);
    let with_target = |size: usize| {
        mesh.get(&format!("/echo/{}", "a".repeat(size - 6)))
            .token_of("7", "42")
            .send()
    };
    assert_eq!(with_target(8 * 1024).status, 200);
    with_target(8 * 1024 + 1).assert_refusal(414, "uri_too_long", "gateway");
    assert_eq!(
        mesh.plugin.seen().len(),
        3,
        "what the door accepts is never refused behind it"
    );
}

#[test]
fn a_refused_request_with_a_body_leaves_no_body_behind_as_the_next_request() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    let hidden = format!("GET /echo/smuggled HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n");
    wire.send(format!(
        "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{hidden}",
        hidden.len()
    ));
    assert_eq!(wire.response().status, 401);
    if !wire.is_closed_within(Duration::from_millis(300)) {
        wire.get("/echo/next", &auth);
        assert_eq!(wire.response().status, 200);
    }
    assert!(mesh.plugin.seen_at("/smuggled").is_empty());
}

#[test]
fn a_late_body_of_a_refused_request_is_no_head() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    wire.send("POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n");
    assert_eq!(wire.response().status, 401);
    let auth = mesh.authorization("7", "42");
    let _ = wire.try_send(format!(
        "lines\nof\na\nlate\nbodyGET /echo/next HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"
    ));
    // Closed, or the next request is what it is: never the body taken for a head.
    if let Ok(next) = wire.try_response("GET") {
        assert_eq!(next.status, 200, "{next:?}");
    }
}

#[test]
fn requests_in_one_flight_are_answered_in_their_order() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/n", |exchange| {
        let body = exchange.head.target.clone();
        exchange.answer("200 OK", "", body.as_bytes());
        Then::Keep
    });
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    let flight: String = (0..10)
        .map(|n| format!("GET /echo/n{n} HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"))
        .collect();
    wire.send(flight);
    for n in 0..10 {
        assert_eq!(wire.response().text(), format!("/n{n}"));
    }
}

#[test]
fn a_bare_line_feed_is_seen_in_a_later_request_of_the_same_flight() {
    let mesh = TestMesh::new().start();
    let auth = mesh.authorization("7", "42");
    for (framing, body) in [
        ("", ""),
        ("Content-Length: 2\r\n", "hi"),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
    ] {
        let mut wire = mesh.connect();
        wire.send(format!(
            "POST /echo/first HTTP/1.1\r\nHost: localhost\r\n{auth}{framing}\r\n{body}GET /echo/bare HTTP/1.1\nHost: localhost\r\n{auth}\r\n"
        ));
        let _ = wire.response(); // the first may be answered, or refused with the second in the same breath
        assert!(
            wire.try_response("GET")
                .map_or(true, |second| second.status == 400),
            "{framing}"
        );
        assert!(wire.is_closed_within(gapura_tests::PATIENCE), "{framing}");
    }
    assert!(mesh.plugin.seen_at("/bare").is_empty());
}

#[test]
fn the_rest_of_a_body_whose_answer_came_early_is_no_head() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/early", |exchange| {
        exchange.answer("200 OK", "", b"early");
        exchange.read_body();
        Then::Keep
    });
    let auth = mesh.authorization("7", "42");
    let mut wire = mesh.connect();
    wire.send(format!(
        "POST /echo/early HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 20\r\n\r\n"
    ));
    assert_eq!(wire.response().text(), "early");
    wire.send("lines\nof\na\nlate\nbody");
    let seen = mesh.plugin.wait_for("the whole body", |seen| {
        seen.target == "/early" && seen.complete
    });
    assert_eq!(seen.body_length, 20);
    wire.get("/echo/next", &auth);
    let next = wire.response();
    assert_eq!(next.status, 200, "{}", next.text());
}
