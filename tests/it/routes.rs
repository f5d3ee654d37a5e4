//! Mounts, the gateway's own paths, and what the gateway believes of the network around it.

use gapura_tests::mesh::TestMesh;
use serde_json::json;

#[test]
fn the_gateways_own_paths_are_never_a_plugins() {
    let mesh = TestMesh::new().also("root", json!({"mount": "/"})).start();
    for path in ["/healthz", "/readyz", "/version"] {
        let response = mesh.get(path).send();
        assert_eq!(response.status, 200, "{path}: {response:?}");
        assert!(response.header("x-request-id").is_some(), "{path}");
    }
    assert_eq!(
        mesh.get("/openapi.json").send().status,
        401,
        "who may read it has a token"
    );
    assert!(mesh.plugin.seen().is_empty());
    for path in ["/healthzz", "/versions", "/"] {
        let seen = mesh.get(path).token_of("7", "42").seen_by_plugin();
        assert_eq!(seen.target, path, "the fallback takes the rest");
    }
}

#[test]
fn a_public_route_wants_no_token_and_a_verified_one_beside_it_does() {
    let mesh = TestMesh::new()
        .also("open", json!({"auth_mode": "public"}))
        .sidecar_args(&["--allow-no-tenant"])
        .start();
    assert_eq!(mesh.get("/open/x").send().status, 200);
    assert_eq!(
        mesh.get("/open/x")
            .header("Authorization", "Bearer nonsense")
            .send()
            .status,
        200
    );
    mesh.get("/echo/x")
        .send()
        .assert_refusal(401, "token_missing", "gateway");
}

#[test]
fn a_sidecar_lets_nobody_in_without_a_company_unless_told_so() {
    let mesh = TestMesh::new()
        .also("open", json!({"auth_mode": "public"}))
        .start();
    mesh.get("/open/x")
        .send()
        .assert_refusal(403, "tenant_missing", "sidecar");
    let narrowed = TestMesh::new()
        .also("open", json!({"auth_mode": "public"}))
        .sidecar_args(&["--allow-no-tenant", "--public-path", "/hooks"])
        .start();
    assert_eq!(narrowed.get("/open/hooks").send().status, 200);
    assert_eq!(narrowed.get("/open/hooks/github").send().status, 200);
    narrowed
        .get("/open/hooksx")
        .send()
        .assert_refusal(403, "tenant_missing", "sidecar");
    narrowed
        .get("/open/other")
        .send()
        .assert_refusal(403, "tenant_missing", "sidecar");
}

#[test]
fn only_a_trusted_proxy_is_believed_about_the_client() {
    let mesh = TestMesh::new()
        .gateway_flag("--trusted-proxy", "127.0.0.0/8")
        .start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("X-Forwarded-For", "203.0.113.9, 198.51.100.7, 127.0.0.9")
        .header("X-Forwarded-Proto", "http")
        .seen_by_plugin();
    let forwarded = seen.header("x-forwarded-for").unwrap();
    assert!(
        !forwarded.contains("203.0.113.9"),
        "what stands before the right-most untrusted address is anybody's word: {forwarded}"
    );
    assert!(forwarded.starts_with("198.51.100.7"), "{forwarded}");
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    // The client's own word stands to the left of the proxy's, on its line or on one before; our
    // own end speaks TLS.
    for (lines, scheme) in [
        (&["https", "http"][..], "http"),
        (&["https, http"], "http"),
        (&["http", "WSS"], "https"),
        (&["http", "Https"], "https"),
        (&["http", "nonsense"], "https"),
        (&["http", ""], "https"),
    ] {
        let mut request = mesh.get("/echo/x").token_of("7", "42");
        for line in lines {
            request = request.header("X-Forwarded-Proto", line);
        }
        let seen = request
            .header("X-Forwarded-For", "203.0.113.9")
            .seen_by_plugin();
        assert_eq!(seen.all("x-forwarded-proto"), [scheme], "{lines:?}");
    }
    let id = seen.header("x-request-id").unwrap();
    let line = mesh.gateway.wait_for_line("the request", |line| {
        line["event"] == "request" && line["request_id"] == id
    });
    assert!(
        line["peer"].as_str().unwrap().starts_with("198.51.100.7"),
        "{line}"
    );
}

#[test]
fn nobody_else_is_believed_about_the_client() {
    let mesh = TestMesh::new()
        .gateway_flag("--trusted-proxy", "203.0.113.0/24")
        .start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("X-Forwarded-For", "198.51.100.7")
        .header("X-Forwarded-Proto", "http")
        .header("X-Forwarded-Proto", "http")
        .seen_by_plugin();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
}

#[test]
fn another_hosts_request_is_misdirected_once_the_host_is_set() {
    let mesh = TestMesh::new()
        .gateway_flag("--public-host", "api.example")
        .start();
    assert_eq!(
        mesh.get("/echo/x")
            .token_of("7", "42")
            .header("Host", "api.example")
            .send()
            .status,
        200
    );
    assert_eq!(
        mesh.get("/echo/x")
            .token_of("7", "42")
            .header("Host", "API.example:8443")
            .send()
            .status,
        200
    );
    mesh.get("/echo/x")
        .token_of("7", "42")
        .header("Host", "evil.example")
        .send()
        .assert_refusal(421, "misdirected", "gateway");
}

#[test]
fn a_plugins_own_answer_passes_whatever_its_status() {
    let mesh = TestMesh::new().start();
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "418 I'm a teapot",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        let number: u16 = status[..3].parse().unwrap();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nmine!"
        );
        mesh.plugin.answer_raw(
            &format!("/{number}"),
            answer,
            gapura_tests::plugin::Then::Keep,
        );
        let response = mesh
            .get(&format!("/echo/{number}"))
            .token_of("7", "42")
            .send();
        assert_eq!(
            (response.status, response.text().as_str()),
            (number, "mine!")
        );
        assert_eq!(response.header("content-type"), Some("text/plain"));
    }
}

#[test]
fn the_gateways_own_paths_are_for_reading() {
    let mesh = TestMesh::new().start();
    for path in ["/healthz", "/readyz", "/version"] {
        assert_eq!(mesh.request("HEAD", path).send().status, 200, "{path}");
        let refusal = mesh.post(path, "").send();
        refusal.assert_refusal(405, "method_not_allowed", "gateway");
        assert_eq!(refusal.header("allow"), Some("GET, HEAD"), "{path}");
    }
}
