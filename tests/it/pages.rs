//! Pages of other origins: what browsers are told of answers, and how a page's WebSocket brings its
//! token.

use std::fs;
use std::time::Duration;

use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::Then;
use gapura_tests::tokens::claims_with;
use gapura_tests::wire::Response;
use serde_json::json;

const APP: &str = "https://app.example.com";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn cors() -> Builder {
    TestMesh::new().fields(json!({"cors": {"origins": [APP, "https://*.shop.test"]}}))
}

fn preflight(mesh: &TestMesh, path: &str, origin: &str) -> Response {
    mesh.request("OPTIONS", path)
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "authorization")
        .send()
}

fn shown(response: &Response) -> Option<&str> {
    response.header("access-control-allow-origin")
}

#[test]
fn a_preflight_is_answered_before_anybody_is_asked_who_they_are() {
    let mesh = cors().also("plain", json!({})).start();
    let answer = preflight(&mesh, "/echo/x", APP);
    assert_eq!(answer.status, 204);
    assert_eq!(shown(&answer), Some(APP));
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, HEAD, POST, PUT, PATCH, DELETE")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("Authorization, Content-Type, X-Request-Id")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_eq!(answer.header("vary"), Some("Origin"));
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(
        shown(&preflight(&mesh, "/echo/x", "https://a.shop.test")),
        Some("https://a.shop.test")
    );
    for foreign in [
        "https://evil.test",
        "https://a.b.shop.test",
        "https://shop.test",
        "null",
        "http://app.example.com",
    ] {
        let answer = preflight(&mesh, "/echo/x", foreign);
        assert_eq!((answer.status, shown(&answer)), (204, None), "{foreign}");
        assert_eq!(answer.header("access-control-allow-methods"), None);
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    // An OPTIONS that asks for nothing is a request like others, and so is one at a mount without
    // cors.
    let plain = mesh
        .request("OPTIONS", "/echo/x")
        .header("Origin", APP)
        .send();
    assert_eq!((plain.status, shown(&plain)), (401, Some(APP)));
    assert_eq!(preflight(&mesh, "/plain/x", APP).status, 401);
    assert!(mesh.plugin.seen().is_empty());
    assert_eq!(
        mesh.request("OPTIONS", "/echo/x")
            .header("Origin", APP)
            .token_of("7", "42")
            .send()
            .status,
        200
    );
}

#[test]
fn every_answer_of_the_mount_can_be_read_by_its_pages_alone() {
    let mesh = TestMesh::new()
        .fields(
            json!({"cors": {"origins": [APP], "expose": ["X-Total"], "credentials": true},
            "allow": [{"methods": ["GET"]}], "max_body_bytes": 10}),
        )
        .start();
    mesh.plugin.answer_raw(
        "/own",
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: X-Secret\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nok",
        Then::Keep,
    );
    let readable = |response: &Response, status: u16| {
        assert_eq!(
            (response.status, shown(response)),
            (status, Some(APP)),
            "{response:?}"
        );
        assert_eq!(response.all("access-control-allow-origin").len(), 1);
        assert_eq!(
            response.header("access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(
            response.header("access-control-expose-headers"),
            Some("X-Total")
        );
        assert!(
            response
                .all("vary")
                .iter()
                .any(|line| line.contains("Origin")),
            "{response:?}"
        );
    };
    readable(
        &mesh
            .get("/echo/x")
            .header("Origin", APP)
            .token_of("7", "42")
            .send(),
        200,
    );
    readable(
        &mesh
            .get("/echo/own")
            .header("Origin", APP)
            .token_of("7", "42")
            .send(),
        200,
    );
    readable(&mesh.get("/echo/x").header("Origin", APP).send(), 401);
    readable(
        &mesh
            .post("/echo/x", "hi")
            .header("Origin", APP)
            .token_of("7", "42")
            .send(),
        403,
    );
    let nobody = mesh
        .signer
        .token(&claims_with(&json!({"company_id": null})));
    readable(
        &mesh
            .get("/echo/x")
            .header("Origin", APP)
            .token(&nobody)
            .send(),
        403,
    );
    for origin in [None, Some("https://evil.test")] {
        let mut request = mesh.get("/echo/own").token_of("7", "42");
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        let answer = request.send();
        assert_eq!(answer.status, 200);
        assert!(
            [
                "access-control-allow-origin",
                "access-control-allow-credentials",
                "access-control-expose-headers"
            ]
            .iter()
            .all(|name| answer.header(name).is_none()),
            "the plugin's own are gone: {answer:?}"
        );
        assert_eq!(answer.all("vary"), ["Accept", "Origin"]);
    }
    // Refused before its path is looked up, and still an answer of the mount.
    let long = format!("/echo/x?{}", "a".repeat(9000));
    readable(&mesh.get(&long).header("Origin", APP).send(), 414);
    mesh.write_registry("echo", &mesh.entry(&json!({"cors": {"origins": [APP], "expose": ["X-Total"], "credentials": true}, "enabled": false})));
    gapura_tests::eventually("it is off", || {
        (mesh.get("/echo/x").send().status == 503).then_some(())
    });
    readable(&mesh.get("/echo/x").header("Origin", APP).send(), 503);
    assert_eq!(
        shown(&mesh.get("/nowhere").header("Origin", APP).send()),
        None
    );
}

#[test]
fn any_page_may_read_what_is_for_everybody() {
    let mesh = TestMesh::new()
        .fields(json!({"cors": {"origins": ["*"], "methods": ["GET"], "headers": ["X-A"], "max_age_s": 5}}))
        .start();
    let answer = preflight(&mesh, "/echo/x", "https://any.test");
    assert_eq!((answer.status, shown(&answer)), (204, Some("*")));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("X-A"));
    assert_eq!(answer.header("access-control-max-age"), Some("5"));
    let answer = mesh
        .get("/echo/x")
        .header("Origin", "null")
        .token_of("7", "42")
        .send();
    assert_eq!((answer.status, shown(&answer)), (200, Some("*")));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(
        exposed.contains("X-Request-Id")
            && exposed.contains("Retry-After")
            && exposed.contains("RateLimit")
    );
}

#[test]
fn a_companys_own_pages_read_its_own_answers() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, value: serde_json::Value| {
        fs::write(dir.path().join(name), value.to_string()).unwrap();
    };
    put(
        "a.json",
        json!({"company_id": "42", "cors_origins": ["https://a.test"]}),
    );
    put(
        "b.json",
        json!({"company_id": "43", "cors_origins": ["https://b.test"]}),
    );
    let mesh = cors()
        .also("plain", json!({}))
        .gateway_flag("--tenants", dir.path().to_str().unwrap())
        .start();
    let asked = |path: &str, origin: &str, company: Option<&str>| {
        let request = mesh.get(path).header("Origin", origin);
        let answer = match company {
            Some(company) => request.token_of("7", company).send(),
            None => request.send(),
        };
        shown(&answer).map(str::to_owned)
    };
    for (origin, company, is_shown) in [
        ("https://a.test", Some("42"), true),
        ("https://a.test", Some("43"), false),
        ("https://b.test", Some("43"), true),
        ("https://a.test", Some("44"), false),
        (APP, Some("44"), true),
        // Before the company is known: as a preflight, so that a 401 can be read.
        ("https://a.test", None, true),
        ("https://c.test", None, false),
    ] {
        let expected = is_shown.then(|| origin.to_owned());
        assert_eq!(
            asked("/echo/x", origin, company),
            expected,
            "{origin} {company:?}"
        );
    }
    assert_eq!(asked("/plain/x", "https://a.test", Some("42")), None);
    for origin in ["https://a.test", "https://b.test"] {
        assert_eq!(shown(&preflight(&mesh, "/echo/x", origin)), Some(origin));
    }
    // A company that is suspended can still read why.
    put(
        "a.json",
        json!({"company_id": "42", "cors_origins": ["https://a.test"], "suspended": true}),
    );
    let refused = gapura_tests::eventually("it is suspended", || {
        let answer = mesh
            .get("/echo/x")
            .header("Origin", "https://a.test")
            .token_of("7", "42")
            .send();
        (answer.status == 403).then_some(answer)
    });
    assert_eq!(shown(&refused), Some("https://a.test"));
}

fn sockets(mode: &str, more: serde_json::Value) -> TestMesh {
    let mut fields = json!({"cors": {"origins": [APP]}, "ws_token": true, "auth_mode": mode});
    for (name, value) in more.as_object().unwrap() {
        fields[name] = value.clone();
    }
    let mesh = TestMesh::new().fields(fields).start();
    let switch = |protocol: &'static str| {
        move |exchange: &mut gapura_tests::plugin::Exchange<'_>| {
            let line = if protocol.is_empty() {
                String::new()
            } else {
                format!("Sec-WebSocket-Protocol: {protocol}\r\n")
            };
            exchange.write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{line}\r\n").as_bytes());
            exchange.wait_for_close();
            Then::Close
        }
    };
    mesh.plugin.on("/ws", switch(""));
    mesh.plugin.on("/chosen", switch("app.v2"));
    mesh.plugin.on("/echoing", switch("bearer.abc"));
    mesh
}

fn open(mesh: &TestMesh, path: &str, lines: &str) -> Response {
    let mut wire = mesh.connect();
    wire.get(path, &format!("{UPGRADE}{lines}"));
    wire.response_head()
}

#[test]
fn a_pages_websocket_brings_its_token_as_a_subprotocol() {
    let mesh = sockets("gateway_verified", json!({}));
    let token = mesh.signer.token_of("7", "42");
    let offers = |names: &str| format!("Origin: {APP}\r\nSec-WebSocket-Protocol: {names}\r\n");
    let answer = open(
        &mesh,
        "/echo/ws",
        &offers(&format!("app.v1, bearer.{token}, app.v2")),
    );
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(
        answer.all("sec-websocket-protocol"),
        ["app.v1"],
        "the first other name"
    );
    let seen = mesh
        .plugin
        .wait_for("the upgrade", |seen| seen.target == "/ws");
    assert_eq!(seen.all("sec-websocket-protocol"), ["app.v1, app.v2"]);
    assert_eq!(seen.header("x-company-id"), Some("42"));
    assert!(seen.header("authorization").is_none());
    assert!(!mesh.plugin.got_bytes(&token), "the token went no further");
    let two_lines = format!(
        "{}Sec-WebSocket-Protocol: app.v2\r\n",
        offers(&format!("bearer.{token}"))
    );
    let answer = open(&mesh, "/echo/chosen", &two_lines);
    assert_eq!(
        (answer.status, answer.all("sec-websocket-protocol")),
        (101, vec!["app.v2"])
    );
    // What the door does not take.
    for (names, lines, status) in [
        (format!("bearer.{token}"), String::new(), 400),
        (
            format!("app, bearer.{token}, bearer.{token}"),
            String::new(),
            400,
        ),
        (
            format!("app, bearer.{token}"),
            format!("Authorization: Bearer {token}\r\n"),
            400,
        ),
        ("app, bearer.nonsense".to_owned(), String::new(), 401),
        ("app".to_owned(), String::new(), 401),
    ] {
        let answer = open(&mesh, "/echo/ws", &(offers(&names) + &lines));
        assert_eq!(answer.status, status, "{names} {lines}");
    }
    for origin in ["Origin: https://evil.test\r\n", "", "Origin: null\r\n"] {
        let lines = format!("{origin}Sec-WebSocket-Protocol: app, bearer.{token}\r\n");
        assert_eq!(open(&mesh, "/echo/ws", &lines).status, 403, "{origin:?}");
    }
    // Who is no browser needs no page.
    let lines = format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: app\r\n");
    let answer = open(&mesh, "/echo/ws", &lines);
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, None)
    );
    // A plugin that says the token again is not passed on.
    let answer = open(
        &mesh,
        "/echo/echoing",
        &offers(&format!("app, bearer.{token}")),
    );
    assert_eq!(answer.status, 502);
}

#[test]
fn with_forward_jwt_the_token_goes_on_where_it_belongs() {
    let mesh = sockets("forward_jwt", json!({}));
    let token = mesh.signer.token_of("7", "42");
    let lines = format!("Origin: {APP}\r\nSec-WebSocket-Protocol: app, bearer.{token}\r\n");
    assert_eq!(open(&mesh, "/echo/ws", &lines).status, 101);
    let seen = mesh
        .plugin
        .wait_for("the upgrade", |seen| seen.target == "/ws");
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
    assert_eq!(seen.header("sec-websocket-protocol"), Some("app"));
}

#[test]
fn a_stream_may_outlast_its_token_where_the_file_says_so() {
    let mesh = TestMesh::new()
        .gateway_flag("--leeway", "0s")
        .also("long", json!({"outlive_token": true}))
        .start();
    mesh.plugin.on("/events", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    let exp = gapura_tests::tokens::unix_now() + 2;
    let token = mesh.signer.token(&claims_with(&json!({"exp": exp})));
    let mut wires = ["/echo/events", "/long/events"].map(|path| {
        let mut wire = mesh.connect();
        wire.get(path, &format!("Authorization: Bearer {token}\r\n"));
        assert_eq!(wire.response_head().status, 200);
        assert!(String::from_utf8_lossy(&wire.read(11)).contains("hello"));
        wire
    });
    assert_eq!(wires[0].read(5), b"0\r\n\r\n", "it ends with the token");
    assert!(wires[1].is_silent_for(Duration::from_secs(1)), "it goes on");
}
