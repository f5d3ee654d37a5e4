//! Refusals and deadlines in the form that gRPC's clients read: HTTP 200, `grpc-status` and
//! `grpc-message`, no body.

use std::time::{Duration, Instant};

use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::wire::Response;
use http::Request;
use serde_json::json;

/// A call without a message, with these headers beside the token of a member of company 42.
fn call(mesh: &TestMesh, path: &str, token: bool, headers: &[(&str, &str)]) -> Response {
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let mut request = Request::post(format!("https://localhost{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    if token {
        let token = mesh.signer.token_of("7", "42");
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.exchange(request.body(()).unwrap(), Some(&[0; 5]))
}

#[track_caller]
fn assert_status(response: &Response, status: &str) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("grpc-status"), Some(status), "{response:?}");
    let message = response.header("grpc-message").expect("a sentence");
    assert!(message.ends_with('.'), "{message}");
    assert_eq!(
        response.header("content-type"),
        Some("application/grpc+proto")
    );
    assert!(response.header("x-request-id").is_some());
    assert!(
        response.body.is_empty() && response.trailers.is_empty(),
        "{response:?}"
    );
}

#[test]
fn each_refusal_has_its_status_and_other_clients_keep_their_envelope() {
    let mesh = TestMesh::new()
        .fields(json!({"allow": [{"path": "/open/**"}]}))
        .also("gone", json!({"upstream": "https://127.0.0.1:1"}))
        .also("off", json!({"enabled": false}))
        .start();
    for (path, token, status) in [
        ("/echo/open/x", false, "16"), // UNAUTHENTICATED
        ("/echo/closed", true, "7"),   // PERMISSION_DENIED
        ("/nothing", true, "12"),      // UNIMPLEMENTED
        ("/gone/x", true, "14"),       // UNAVAILABLE
        ("/off/x", true, "14"),
    ] {
        assert_status(&call(&mesh, path, token, &[]), status);
    }
    assert_eq!(
        call(&mesh, "/echo/open/x", true, &[]).header("grpc-status"),
        None
    );
    let plain = mesh.post("/echo/open/x", "hi").send();
    plain.assert_refusal(401, "token_missing", "gateway");
    // Its line says what any refusal's does.
    let line = mesh.gateway.wait_for_line("a refused call", |line| {
        line["event"] == "request" && line["code"] == "forbidden"
    });
    assert_eq!(line["status"], 403);
}

#[test]
fn what_the_sidecar_refuses_comes_in_the_same_form() {
    let mesh = TestMesh::new().start();
    mesh.plugin
        .answer_raw("/nonsense", "nonsense\r\n\r\n", Then::Close);
    assert_status(&call(&mesh, "/echo/nonsense", true, &[]), "13");
    let line = mesh
        .gateway
        .wait_for_line("a refusal of the sidecar's", |line| {
            line["event"] == "request" && line["code"] == "upstream_protocol"
        });
    assert_eq!(line["status"], 502);
    mesh.post("/echo/nonsense", "hi")
        .token_of("7", "42")
        .send()
        .assert_refusal(502, "upstream_protocol", "sidecar");
}

#[test]
fn a_deadline_that_runs_out_here_is_told_as_one() {
    let mesh = TestMesh::new()
        .fields(json!({"timeout_ms": 60_000}))
        .also("quick", json!({"timeout_ms": 300}))
        .start();
    mesh.plugin.on("/never", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let begun = Instant::now();
    assert_status(
        &call(&mesh, "/echo/never", true, &[("grpc-timeout", "300m")]),
        "4",
    );
    assert_status(
        &call(&mesh, "/quick/never", true, &[("grpc-timeout", "1H")]),
        "4",
    );
    assert_status(&call(&mesh, "/quick/never", true, &[]), "4");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    let line = mesh.gateway.wait_for_line("a deadline", |line| {
        line["event"] == "request" && line["code"] == "upstream_timeout"
    });
    assert_eq!(line["status"], 504);
    // In time there is an answer, and the plugin learns of the deadline.
    let good = call(&mesh, "/echo/x", true, &[("grpc-timeout", "20S")]);
    assert_eq!((good.status, good.header("grpc-status")), (200, None));
    let seen = mesh.plugin.wait_for("the call", |seen| seen.target == "/x");
    assert!(seen.header("grpc-timeout").is_some());
}

#[test]
fn a_deadline_that_nobody_can_read_is_refused() {
    let mesh = TestMesh::new().start();
    for timeout in ["soon", "5", "1s", "123456789S"] {
        assert_status(
            &call(&mesh, "/echo/x", true, &[("grpc-timeout", timeout)]),
            "13",
        );
    }
    assert!(mesh.plugin.seen().is_empty());
    // To who speaks no gRPC it is a header like any other.
    let response = mesh
        .post("/echo/x", "hi")
        .token_of("7", "42")
        .header("grpc-timeout", "soon")
        .send();
    assert_eq!(response.status, 200);
}
