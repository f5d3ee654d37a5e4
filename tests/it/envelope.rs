//! Plugins that do not answer in the envelope: passed on, counted, or put into it.

use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::wire::Response;
use serde_json::{Value, json};

/// A mesh whose plugin answers at each path as its name says.
fn mesh(envelope: &str) -> TestMesh {
    let mesh = TestMesh::new()
        .fields(json!({"envelope": envelope}))
        .start();
    let json = "application/json";
    for (path, status, kind, body) in [
        (
            "/good",
            "200 OK",
            json,
            r#"{"ok": true, "message": "m", "data": 1}"#,
        ),
        (
            "/good-error",
            "422 Unprocessable Content",
            json,
            r#"{"ok": false, "message": "m", "errors": {"name": "x"}}"#,
        ),
        ("/no-ok", "200 OK", json, r#"{"message": "m"}"#),
        ("/no-message", "200 OK", json, r#"{"ok": true}"#),
        (
            "/no-errors",
            "409 Conflict",
            json,
            r#"{"ok": false, "message": "m"}"#,
        ),
        ("/list", "200 OK", json, "[1]"),
        ("/nonsense", "200 OK", json, "{"),
        (
            "/detail",
            "404 Not Found",
            json,
            r#"{"detail": "no such thing"}"#,
        ),
        ("/text", "500 Internal Server Error", "text/plain", "boom\n"),
        ("/html", "502 Bad Gateway", "text/html", "<h1>Bad</h1>"),
        ("/csv", "200 OK", "text/csv", "a,b"),
        (
            "/zipped",
            "400 Bad Request",
            "application/json\r\nContent-Encoding: gzip\r\nETag: \"x\"",
            "not really",
        ),
        (
            "/events",
            "503 Service Unavailable",
            "text/event-stream",
            "data: x\n\n",
        ),
    ] {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nX-Own: 1\r\n\r\n",
            body.len()
        );
        mesh.plugin.on(path, move |exchange| {
            exchange.read_body();
            exchange.write(head.as_bytes());
            if exchange.head.method != "HEAD" {
                exchange.write(body.as_bytes());
            }
            Then::Keep
        });
    }
    mesh.plugin.answer_raw(
        "/empty",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        Then::Keep,
    );
    mesh
}

fn get(mesh: &TestMesh, path: &str) -> Response {
    mesh.get(&format!("/echo{path}")).token_of("7", "42").send()
}

fn count(mesh: &TestMesh, kind: &str) -> f64 {
    let series = format!("gapura_envelope_violations_total{{plugin=\"echo\",kind=\"{kind}\"}}");
    mesh.metric(&mesh.gateway, &series)
}

#[test]
fn what_breaks_the_envelope_is_counted_by_how_and_passes_byte_for_byte() {
    let mesh = mesh("check");
    for (path, kind, body) in [
        ("/no-ok", "ok", r#"{"message": "m"}"#),
        ("/no-message", "message", r#"{"ok": true}"#),
        ("/no-errors", "errors", r#"{"ok": false, "message": "m"}"#),
        ("/list", "not_object", "[1]"),
        ("/nonsense", "not_json", "{"),
        ("/html", "bare", "<h1>Bad</h1>"),
    ] {
        assert!(count(&mesh, kind) < 0.5, "{kind}");
        assert_eq!(get(&mesh, path).text(), body);
        eventually(kind, || (count(&mesh, kind) > 0.5).then_some(()));
    }
    let page = || mesh.admin(&mesh.gateway, "/plugins").json()["plugins"][0].clone();
    let before = page()["envelope_violations"].clone();
    assert_eq!(page()["envelope"], "check");
    assert_eq!(before["bare"], 1);
    for path in ["/good", "/good-error", "/csv", "/events"] {
        let _ = get(&mesh, path);
    }
    let head = mesh
        .request("HEAD", "/echo/no-ok")
        .token_of("7", "42")
        .send();
    assert_eq!(head.status, 200);
    // A refusal of the sidecar's own is in the envelope, and no answer of the plugin's.
    let _ = get(&mesh, "/text");
    eventually("the next one is counted", || {
        (count(&mesh, "bare") > 1.5).then_some(())
    });
    let mut expected = before;
    expected["bare"] = json!(2);
    assert_eq!(page()["envelope_violations"], expected);
}

#[test]
fn a_bare_error_is_put_into_the_envelope_and_keeps_its_status() {
    let mesh = mesh("wrap");
    let wrapped = |path: &str, status: u16| -> Value {
        let answer = get(&mesh, path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(
            answer.header("content-length"),
            Some(&*answer.body.len().to_string())
        );
        let id = answer.header("x-request-id").unwrap().to_owned();
        let body = answer.json();
        assert_eq!(
            (&body["ok"], &body["errors"]["by"]),
            (&json!(false), &json!("plugin"))
        );
        assert_eq!(body["errors"]["request_id"], id);
        assert_eq!(body["errors"]["code"], "plugin_error");
        body
    };
    let detail = wrapped("/detail", 404);
    assert_eq!(detail["message"], "no such thing");
    assert_eq!(detail["errors"]["answer"]["detail"], "no such thing");
    assert_eq!(wrapped("/text", 500)["errors"]["answer"], "boom");
    assert_eq!(
        wrapped("/html", 502)["message"],
        "The service answered 502 Bad Gateway."
    );
    assert_eq!(
        wrapped("/empty", 403)["message"],
        "The service answered 403 Forbidden."
    );
    let zipped = get(&mesh, "/zipped");
    assert!(zipped.header("content-encoding").is_none() && zipped.header("etag").is_none());
    assert_eq!((zipped.status, &zipped.json()["ok"]), (400, &json!(false)));
    assert_eq!(zipped.header("x-own"), Some("1"), "all else stays");

    // What is in it, or has none, stays as it is.
    for (path, status, body) in [
        ("/good", 200, r#"{"ok": true, "message": "m", "data": 1}"#),
        (
            "/good-error",
            422,
            r#"{"ok": false, "message": "m", "errors": {"name": "x"}}"#,
        ),
        ("/no-errors", 409, r#"{"ok": false, "message": "m"}"#),
        ("/no-ok", 200, r#"{"message": "m"}"#),
        ("/csv", 200, "a,b"),
        ("/events", 503, "data: x\n\n"),
    ] {
        let answer = get(&mesh, path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (status, body),
            "{path}"
        );
    }
    let head = mesh
        .request("HEAD", "/echo/html")
        .token_of("7", "42")
        .send();
    assert_eq!((head.status, head.body.len()), (502, 0));
    assert_eq!(head.header("content-type"), Some("application/json"));
    // The connection goes on behind each of them.
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    for _ in 0..3 {
        wire.get("/echo/html", &auth);
        assert_eq!(wire.response().status, 502);
    }
}

#[test]
fn an_error_too_long_to_look_at_passes_as_it_is_and_one_that_stalls_is_not_held_back() {
    let mesh = mesh("wrap");
    let long = format!("{{\"detail\": \"{}\"}}", "a".repeat(100_000));
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{long}",
        long.len()
    );
    mesh.plugin.answer_raw("/long", answer, Then::Keep);
    assert_eq!(get(&mesh, "/long").text(), long);
    mesh.plugin.on("/stalls", |exchange| {
        exchange.read_body();
        exchange.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{");
        exchange.wait_for_close();
        Then::Close
    });
    let mut wire = mesh.connect();
    wire.get("/echo/stalls", &mesh.authorization("7", "42"));
    let head = wire.response_head();
    assert_eq!(
        (head.status, head.header("content-length")),
        (400, Some("9"))
    );
    assert_eq!(wire.read(1), b"{");
}

#[test]
fn without_the_field_nothing_is_touched_and_nothing_counted() {
    let mesh = mesh("pass");
    assert_eq!(get(&mesh, "/html").text(), "<h1>Bad</h1>");
    assert_eq!(get(&mesh, "/list").text(), "[1]");
    let metrics = mesh.admin(&mesh.gateway, "/metrics").text();
    assert!(
        !metrics.contains("gapura_envelope_violations_total{"),
        "{metrics}"
    );
}
