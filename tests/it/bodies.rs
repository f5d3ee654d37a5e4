//! Bodies: streamed both ways, ended early by either side, or never.

use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};
use serde_json::json;

#[test]
fn a_body_goes_up_and_another_comes_down_unchanged() {
    for unix in [false, true] {
        let builder = TestMesh::new();
        let mesh = if unix {
            builder.over_unix_socket().start()
        } else {
            builder.start()
        };
        mesh.plugin.on("/mirror", |exchange| {
            exchange.read_body();
            exchange.answer("201 Created", "Content-Type: text/plain\r\n", b"done");
            Then::Keep
        });
        let body: Vec<u8> = (0..300_000_u32)
            .flat_map(u32::to_le_bytes)
            .take(1_000_000)
            .collect();
        let response = mesh
            .post("/echo/mirror", body.clone())
            .token_of("7", "42")
            .send();
        assert_eq!((response.status, response.text().as_str()), (201, "done"));
        let seen = mesh.plugin.wait_for("the upload", |seen| seen.complete);
        assert_eq!(seen.body_length, 1_000_000);
        assert!(seen.body == body, "the bytes are the client's");
    }
}

#[test]
fn what_is_sent_arrives_before_the_rest_is_there() {
    let mesh = TestMesh::new().start();
    let (first_seen, second_may_go) = (Gate::new(), Gate::new());
    let (seen, go) = (first_seen.clone(), second_may_go.clone());
    mesh.plugin.on("/live", move |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n9\r\ndata: 1\n\n\r\n");
        let mut got = Vec::new();
        while !got.windows(5).any(|window| window == b"first") {
            got.extend(exchange.read_some());
        }
        seen.open();
        assert!(go.wait());
        exchange.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        Then::Close
    });
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!("POST /echo/live HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"));
    assert!(
        first_seen.wait(),
        "the first part of the body reaches the plugin while the body is open"
    );
    assert_eq!(wire.response_head().status, 200);
    let mut text = String::new();
    while !text.contains("data: 1") {
        text += &String::from_utf8(wire.read(1)).unwrap();
    }
    second_may_go.open();
    wire.send("0\r\n\r\n");
    let rest = String::from_utf8(wire.read(20)).unwrap();
    assert!(rest.contains("data: 2"), "{rest}");
}

#[test]
fn answers_without_a_body_leave_the_connection_good() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/204",
        "HTTP/1.1 204 No Content\r\nX-Mark: a\r\n\r\n",
        Then::Keep,
    );
    mesh.plugin.answer_raw(
        "/304",
        "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
        Then::Keep,
    );
    mesh.plugin.answer_raw(
        "/head",
        "HTTP/1.1 200 OK\r\nContent-Length: 123\r\nX-Mark: b\r\n\r\n",
        Then::Keep,
    );
    mesh.plugin.answer_raw(
        "/empty",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Then::Keep,
    );
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    for (method, path, status) in [
        ("GET", "/echo/204", 204),
        ("GET", "/echo/304", 304),
        ("HEAD", "/echo/head", 200),
        ("GET", "/echo/empty", 200),
        ("GET", "/echo/x", 200),
    ] {
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"
        ));
        let response = wire.try_response(method).unwrap();
        assert_eq!(response.status, status, "{path}");
        if method == "HEAD" {
            assert_eq!(
                response.header("content-length"),
                Some("123"),
                "HEAD tells what GET would"
            );
        }
        if status == 204 {
            assert_eq!(response.header("content-length"), None);
        }
    }
    let head = mesh
        .plugin
        .wait_for("the HEAD", |seen| seen.target == "/head");
    assert_eq!(head.method, "HEAD");
}

#[test]
fn a_refusal_to_head_has_no_body_either() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    wire.send("HEAD /echo/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(wire.try_response("HEAD").unwrap().status, 401);
    wire.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(
        wire.response().status,
        200,
        "the next answer begins where it should"
    );
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_where_its_body_is_wanted() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!("POST /echo/x HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(wire.response_head().status, 100);
    wire.send("hi");
    assert_eq!(wire.response().status, 200);
    assert_eq!(
        mesh.plugin
            .wait_for("the body", |seen| seen.complete)
            .text(),
        "hi"
    );

    let mut wire = mesh.connect();
    wire.send("POST /echo/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(wire.response().status, 401, "no 100 before a refusal");
}

#[test]
fn an_early_answer_arrives_while_the_body_is_still_open() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/early", |exchange| {
        exchange.answer("409 Conflict", "", b"early");
        Then::Close
    });
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "POST /echo/early HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 1000000\r\n\r\nsome"
    ));
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (409, "early"));
    // Whatever becomes of the connection, the unsent rest of the body is never read as a request.
    let _ = wire.try_send(format!(
        "GET /echo/smuggled HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"
    ));
    let next = mesh.get("/echo/after").token_of("7", "42").send();
    assert_eq!(next.status, 200);
    assert!(mesh.plugin.seen_at("/smuggled").is_empty());
}

#[test]
fn the_plugin_learns_that_the_client_has_gone() {
    let mesh = TestMesh::new().start();
    let gone = Gate::new();
    let told = gone.clone();
    mesh.plugin.on("/wait", move |exchange| {
        exchange.wait_for_close();
        told.open();
        Then::Close
    });
    let mut wire = mesh.connect();
    wire.get("/echo/wait", &mesh.authorization("7", "42"));
    let _ = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/wait");
    drop(wire);
    assert!(gone.wait());
    eventually("nothing is in flight any more", || {
        (mesh.metric(&mesh.gateway, "gapura_requests_in_flight{plugin=\"echo\"}") == 0.0)
            .then_some(())
    });
}

#[test]
fn an_upload_that_breaks_off_is_never_a_whole_one() {
    let mesh = TestMesh::new().start();
    for (sent, framed) in (1..).zip([
        "Content-Length: 100\r\n\r\nonly this",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ]) {
        let mut wire = mesh.connect();
        let auth = mesh.authorization("7", "42");
        wire.send(format!(
            "POST /echo/broken HTTP/1.1\r\nHost: localhost\r\n{auth}{framed}"
        ));
        eventually("its first bytes reach the plugin", || {
            let arrived = mesh
                .plugin
                .seen_at("/broken")
                .iter()
                .filter(|seen| seen.body_length == 9)
                .count();
            (arrived == sent).then_some(())
        });
        drop(wire);
    }
    eventually("both connections to the plugin are closed", || {
        (mesh.plugin.open() == 0).then_some(())
    });
    let seen = mesh.plugin.seen_at("/broken");
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| !seen.complete), "{seen:?}");
}

#[test]
fn an_answer_that_breaks_off_does_not_end_as_if_it_were_whole() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/short",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        Then::Close,
    );
    mesh.plugin.answer_raw(
        "/cut",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        Then::Close,
    );
    for path in ["/echo/short", "/echo/cut"] {
        let mut wire = mesh.connect();
        wire.get(path, &mesh.authorization("7", "42"));
        let answer = wire.try_response("GET");
        if let Ok(answer) = &answer {
            assert_eq!(answer.status, 502, "{path}: {answer:?}");
        }
    }
    assert_eq!(
        mesh.get("/echo/x").token_of("7", "42").send().status,
        200,
        "and the mesh goes on"
    );
}

#[test]
fn nonsense_from_the_plugin_is_a_502_of_the_sidecar() {
    let mesh = TestMesh::new().start();
    for (path, answer) in [
        ("/garbage", "this is not HTTP\r\n\r\n".to_owned()),
        ("/nothing", String::new()),
        (
            "/lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!".to_owned(),
        ),
        (
            "/codings",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "/doubt",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
        (
            "/switch",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
                .to_owned(),
        ),
        (
            "/large",
            format!(
                "HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 0\r\n\r\n",
                "a".repeat(70 * 1024)
            ),
        ),
        (
            "/many",
            format!(
                "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
                (0..130)
                    .map(|n| format!("A-{n}: 1\r\n"))
                    .collect::<String>()
            ),
        ),
    ] {
        mesh.plugin.answer_raw(path, answer, Then::Close);
        let response = mesh.get(&format!("/echo{path}")).token_of("7", "42").send();
        assert_eq!(response.status, 502, "{path}: {response:?}");
        let code = response.json()["errors"]["code"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            code == "upstream_protocol" || (path == "/nothing" && code == "upstream_unreachable"),
            "{path}: {code}"
        );
        assert_eq!(response.json()["errors"]["by"], "sidecar", "{path}");
    }
    let fits = format!(
        "HTTP/1.1 200 OK\r\nX-Large: {}\r\n{}Content-Length: 0\r\n\r\n",
        "a".repeat(50 * 1024),
        (0..100)
            .map(|n| format!("A-{n}: 1\r\n"))
            .collect::<String>()
    );
    mesh.plugin.answer_raw("/fits", fits, Then::Keep);
    assert_eq!(
        mesh.get("/echo/fits").token_of("7", "42").send().status,
        200
    );
}

#[test]
fn a_plugin_that_is_down_is_a_502_that_says_whose() {
    let mesh = TestMesh::new().start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let away = json!({"name": "away", "version": "1.0.0", "mount": "/away", "upstream": format!("https://{closed}"), "auth_mode": "gateway_verified"});
    mesh.write_registry("away", &away);
    let response = eventually("the new mount is in force", || {
        let response = mesh.get("/away/x").token_of("7", "42").send();
        (response.status != 404).then_some(response)
    });
    response.assert_refusal(502, "upstream_unreachable", "gateway");

    let lone = without_plugin(TestMesh::new().start());
    lone.get("/echo/x")
        .token_of("7", "42")
        .send()
        .assert_refusal(502, "upstream_unreachable", "sidecar");
}

/// The mesh with its plugin gone and another, which nobody knows, in its place.
fn without_plugin(mut mesh: TestMesh) -> TestMesh {
    let old = std::mem::replace(&mut mesh.plugin, gapura_tests::plugin::Plugin::tcp());
    let address = old.url();
    drop(old);
    eventually("the plugin is gone", || {
        std::net::TcpStream::connect(address.trim_start_matches("http://"))
            .is_err()
            .then_some(())
    });
    mesh
}

#[test]
fn a_body_over_the_limit_is_refused_and_one_within_is_not() {
    let mesh = TestMesh::new()
        .fields(json!({"max_body_bytes": 1000}))
        .start();
    assert_eq!(
        mesh.post("/echo/x", vec![b'a'; 1000])
            .token_of("7", "42")
            .send()
            .status,
        200
    );
    mesh.post("/echo/x", vec![b'a'; 1001])
        .token_of("7", "42")
        .send()
        .assert_refusal(413, "body_too_large", "gateway");
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    let part = format!("1f5\r\n{}\r\n", "a".repeat(0x1f5));
    wire.send(format!("POST /echo/chunked HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{part}{part}0\r\n\r\n"));
    assert_eq!(wire.response().status, 413);
    assert!(
        mesh.plugin
            .seen_at("/chunked")
            .iter()
            .all(|seen| !seen.complete)
    );
}

#[test]
fn a_client_of_http_1_0_gets_a_body_it_understands() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Then::Keep,
    );
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "GET /echo/chunks HTTP/1.0\r\nHost: localhost\r\n{auth}\r\n"
    ));
    let answer = String::from_utf8(wire.to_end().unwrap()).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("transfer-encoding"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[test]
fn a_reused_connection_that_the_plugin_has_closed_costs_nobody_a_request() {
    let mesh = TestMesh::new().start();
    for _ in 0..10 {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
        mesh.plugin.cut();
        eventually("closed", || (mesh.plugin.open() == 0).then_some(()));
    }
}
