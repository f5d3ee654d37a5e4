//! What the operator's side shows, and to whom.

use std::time::{Duration, Instant};

use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::{Response, Wire};
use serde_json::json;

/// Ten times what an answer may take.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn readers_that_say_nothing_delay_nobody() {
    let mesh = TestMesh::new()
        .gateway_flag("--health", "127.0.0.1:0")
        .start();
    for listener in ["admin", "health"] {
        let address = mesh.gateway.address(listener);
        let mut silent: Vec<Wire> = (0..200).map(|_| Wire::plain(address)).collect();
        let begun = Instant::now();
        let mut wire = Wire::plain(address);
        wire.send(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert_eq!(wire.response().status, 200);
        let took = begun.elapsed();
        assert!(took < SOON / 2, "{listener}: {took:?}");
        // The last of them still has its place.
        let last = silent.last_mut().unwrap();
        last.send(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert_eq!(last.response().status, 200);
    }
}

fn ask(program: &Program, request: &str) -> Response {
    let mut wire = Wire::plain(program.address("admin"));
    wire.send(request);
    wire.try_response(request.split(' ').next().unwrap())
        .unwrap()
}

#[test]
fn requests_and_refusals_are_counted() {
    let mesh = TestMesh::new().start();
    for _ in 0..3 {
        assert_eq!(
            mesh.get("/echo/x")
                .token_of("7", "42")
                .header("X-A", "1")
                .header("X_Company_Id", "1")
                .send()
                .status,
            200
        );
    }
    assert_eq!(mesh.get("/echo/x").send().status, 401);
    assert_eq!(mesh.get("/nowhere").send().status, 404);
    let metric = |series: &str| mesh.metric(&mesh.gateway, series);
    gapura_tests::eventually("the finished requests are counted", || {
        (metric("gapura_requests_total{plugin=\"echo\",status=\"200\"}") == 3.0).then_some(())
    });
    assert_eq!(
        metric("gapura_requests_total{plugin=\"echo\",status=\"401\"}"),
        1.0
    );
    assert_eq!(
        metric("gapura_requests_total{plugin=\"none\",status=\"404\"}"),
        1.0
    );
    assert_eq!(
        metric("gapura_rejections_total{code=\"token_missing\"}"),
        1.0
    );
    assert_eq!(metric("gapura_rejections_total{code=\"no_route\"}"), 1.0);
    assert_eq!(
        metric("gapura_request_duration_seconds_count{plugin=\"echo\"}"),
        4.0
    );
    assert_eq!(
        metric("gapura_upstream_duration_seconds_count{plugin=\"echo\"}"),
        3.0
    );
    assert_eq!(metric("gapura_requests_in_flight{plugin=\"echo\"}"), 0.0);
    assert_eq!(metric("gapura_headers_stripped_total{kind=\"alias\"}"), 3.0);
    assert!(metric("gapura_headers_stripped_total{kind=\"x\"}") >= 3.0);
    assert_eq!(
        mesh.metric(
            &mesh.sidecar,
            "gapura_requests_total{plugin=\"echo\",status=\"200\"}"
        ),
        3.0
    );
}

#[test]
fn every_metric_of_the_contract_is_there_with_its_kind() {
    let mesh = TestMesh::new().start();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let response = mesh.admin(&mesh.gateway, "/metrics");
    assert!(
        response
            .header("content-type")
            .unwrap()
            .starts_with("text/plain"),
        "{response:?}"
    );
    let text = response.text();
    for (name, kind) in [
        ("gapura_requests_total", "counter"),
        ("gapura_request_duration_seconds", "histogram"),
        ("gapura_upstream_duration_seconds", "histogram"),
        ("gapura_requests_in_flight", "gauge"),
        ("gapura_rejections_total", "counter"),
        ("gapura_connections", "gauge"),
        ("gapura_handshake_failures_total", "counter"),
        ("gapura_headers_stripped_total", "counter"),
        ("gapura_tokens_rejected_total", "counter"),
        ("gapura_registry_reloads_total", "counter"),
        ("gapura_registry_faulty_files", "gauge"),
        ("gapura_certificate_not_after_seconds", "gauge"),
        ("gapura_crl_next_update_seconds", "gauge"),
        ("gapura_trust_reloads_total", "counter"),
        ("gapura_revoked_connections_closed_total", "counter"),
        ("gapura_alarms", "gauge"),
        ("gapura_log_lines_dropped_total", "counter"),
        ("http_server_request_duration_seconds", "histogram"),
        ("gapura_build_info", "gauge"),
    ] {
        assert!(
            text.contains(&format!("# TYPE {name} {kind}\n")),
            "{name} {kind} in\n{text}"
        );
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    let not_after = mesh.metric(
        &mesh.gateway,
        "gapura_certificate_not_after_seconds{name=\"mesh\"}",
    );
    let expected = mesh
        .gateway_cert
        .not_after
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        .floor();
    assert!(
        (not_after - expected).abs() < 2.0,
        "{not_after}, not {expected}"
    );
    assert!(
        mesh.metric(
            &mesh.gateway,
            "gapura_certificate_not_after_seconds{name=\"public\"}"
        ) > 0.0
    );
}

#[test]
fn a_request_can_not_choose_a_label() {
    let mesh = TestMesh::new().start();
    for n in 0..20 {
        let _ = mesh
            .request(&format!("M{n}"), &format!("/nowhere/{n}"))
            .token_of(&format!("u{n}"), &format!("c{n}"))
            .send();
    }
    let text = mesh.admin(&mesh.gateway, "/metrics").text();
    for secret in ["M7", "nowhere", "u7", "c7"] {
        assert!(!text.contains(&format!("\"{secret}")), "{secret}");
    }
}

#[test]
fn dashboards_for_opentelemetry_find_requests_by_method_status_and_route() {
    let mesh = TestMesh::new().also("other", json!({})).start();
    for (method, path, status) in [
        ("GET", "/echo/x", 200),
        ("GET", "/echo/y", 200),
        ("PUT", "/other/x", 200),
        ("BREW", "/echo/x", 200),
        ("BREW-MORE", "/echo/x", 200),
        ("GET", "/nowhere", 404),
    ] {
        let answer = mesh.request(method, path).token_of("7", "42").send();
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let name = "http_server_request_duration_seconds_count";
    let counted = |program: &Program, method: &str, status: u16, route: &str| {
        let labels = format!(
            "http_request_method=\"{method}\",http_response_status_code=\"{status}\"{route}"
        );
        mesh.metric(program, &format!("{name}{{{labels}}}"))
    };
    let (echo, other) = (",http_route=\"/echo\"", ",http_route=\"/other\"");
    eventually("all are counted", || {
        (counted(&mesh.gateway, "GET", 404, "") == 1.0).then_some(())
    });
    assert_eq!(counted(&mesh.gateway, "GET", 200, echo), 2.0);
    assert_eq!(counted(&mesh.gateway, "PUT", 200, other), 1.0);
    assert_eq!(counted(&mesh.gateway, "_OTHER", 200, echo), 2.0);
    let text = mesh.admin(&mesh.gateway, "/metrics").text();
    assert!(!text.contains("BREW"), "a client chose a label");
    // Our own histogram says the same, and the sidecar has no mounts to name.
    let ours = "gapura_request_duration_seconds_count{plugin=\"echo\"}";
    assert_eq!(mesh.metric(&mesh.gateway, ours), 4.0);
    assert_eq!(counted(&mesh.sidecar, "GET", 200, ""), 2.0);
    // A plugin that is served no more is nobody's route.
    std::fs::remove_file(mesh.plugins.join("other.json")).unwrap();
    eventually("its route is gone", || {
        (counted(&mesh.gateway, "PUT", 200, other) == 0.0).then_some(())
    });
}

#[test]
fn the_state_is_shown_without_secrets() {
    let mesh = TestMesh::new()
        .fields(json!({"inject_headers": {"X-Plugin-Key": "very-secret-value"}}))
        .start();
    let key = mesh.gateway_cert.key.lines().nth(1).unwrap().to_owned();
    let mut all = String::new();
    for path in ["/certificates", "/plugins", "/config", "/page.json"] {
        let response = mesh.admin(&mesh.gateway, path);
        assert_eq!(response.status, 200, "{path}");
        let _ = response.json();
        all += &response.text();
    }
    all += &mesh.admin(&mesh.sidecar, "/certificates").text();
    assert!(
        all.contains("spiffe://test.internal/gateway/edge")
            && all.contains("spiffe://test.internal/plugin/echo"),
        "{all}"
    );
    assert!(
        all.contains("/echo") && all.contains("X-Plugin-Key") || all.contains("x-plugin-key"),
        "names of injected headers: {all}"
    );
    assert!(!all.contains("very-secret-value") && !all.contains(&key));
}

#[test]
fn the_operators_side_answers_get_and_head_to_those_who_call_it_by_its_address() {
    let mesh = TestMesh::new().start();
    for program in [&mesh.gateway, &mesh.sidecar] {
        for path in ["/healthz", "/readyz", "/metrics", "/certificates"] {
            for host in ["127.0.0.1", "localhost", "localhost:9901", "[::1]:9901"] {
                assert_eq!(
                    ask(
                        program,
                        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
                    )
                    .status,
                    200,
                    "{path} at {host}"
                );
            }
            let head = ask(
                program,
                &format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            );
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            let rebound = ask(
                program,
                &format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            );
            assert!(
                (400..500).contains(&rebound.status),
                "a page that has rebound its name: {rebound:?}"
            );
            assert_eq!(
                ask(
                    program,
                    &format!(
                        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                    )
                )
                .status,
                405,
                "{path}"
            );
        }
        assert_eq!(
            ask(program, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").status,
            404
        );
    }
}

#[test]
fn the_operators_pages_are_not_on_the_public_side() {
    let mesh = TestMesh::new().start();
    for path in ["/metrics", "/certificates", "/plugins", "/config"] {
        assert_eq!(mesh.get(path).send().status, 404, "{path}");
    }
}

#[test]
fn a_health_listener_shows_health_and_nothing_else() {
    let mesh = TestMesh::new()
        .gateway_flag("--health", "127.0.0.1:0")
        .sidecar_args(&["--health", "127.0.0.1:0"])
        .start();
    for program in [&mesh.gateway, &mesh.sidecar] {
        let address = program.address("health");
        let status = |path: &str| {
            let mut wire = Wire::plain(address);
            wire.send(format!(
                "GET {path} HTTP/1.1\r\nHost: 10.0.0.7:9000\r\n\r\n"
            ));
            wire.response().status
        };
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(status(path), 200, "{path}");
        }
        for path in ["/certificates", "/config", "/plugins", "/"] {
            assert_eq!(status(path), 404, "{path}");
        }
    }
}

#[test]
fn the_running_gateway_explains_a_request_and_to_no_foreign_page() {
    let mesh = TestMesh::new()
        .fields(json!({"allow": [{"methods": ["GET"], "roles": ["member"]}]}))
        .start();
    let token = mesh.signer.token_of("7", "42");
    let posted = |lines: &str, body: &str| {
        let address = mesh.gateway.address("admin");
        let length = body.len();
        ask(
            &mesh.gateway,
            &format!(
                "POST /explain HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{lines}\r\n{body}"
            ),
        )
    };
    let asked = |question: serde_json::Value| {
        let answer = posted("Content-Type: application/json\r\n", &question.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let allowed = asked(json!({"method": "GET", "path": "/echo/x", "token": token}));
    assert_eq!(allowed["plugin"], "echo");
    assert_eq!(allowed["status"], serde_json::Value::Null, "{allowed}");
    let refused = asked(json!({"method": "POST", "path": "/echo/x", "token": token}));
    assert_eq!(refused["code"], "forbidden", "{refused}");
    assert!(refused.to_string().contains("echo.json:1"), "{refused}");
    assert!(!refused.to_string().contains(&token), "no token is shown");
    assert_eq!(
        asked(json!({"method": "GET", "path": "/no"}))["code"],
        "no_route"
    );
    // It is the running table that is asked.
    mesh.write_registry(
        "other",
        &mesh.entry(&json!({"name": "other", "mount": "/no", "auth_mode": "public"})),
    );
    gapura_tests::eventually("the new mount is explained", || {
        (asked(json!({"method": "GET", "path": "/no"}))["plugin"] == "other").then_some(())
    });
    let json_type = "Content-Type: application/json\r\n";
    for (lines, body, status) in [
        ("", "{}", 415),
        ("Content-Type: text/plain\r\n", "{}", 415),
        (json_type, "{", 400),
        (json_type, "{\"method\": \"GET\"}", 400),
        (
            "Content-Type: application/json\r\nOrigin: https://evil.example\r\n",
            "{}",
            403,
        ),
    ] {
        assert_eq!(posted(lines, body).status, status, "{lines}{body}");
    }
    let long = format!("{{\"method\": \"{}\"}}", "x".repeat(70_000));
    assert_eq!(posted(json_type, &long).status, 413);
    let address = mesh.gateway.address("admin");
    let by_get = ask(
        &mesh.gateway,
        &format!("GET /explain HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    );
    assert_eq!((by_get.status, by_get.header("allow")), (405, Some("POST")));
    let by_name = "POST /explain HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}";
    assert_eq!(ask(&mesh.gateway, by_name).status, 403);
    let elsewhere = mesh.sidecar.address("admin");
    let on_sidecar =
        format!("POST /explain HTTP/1.1\r\nHost: {elsewhere}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(ask(&mesh.sidecar, &on_sidecar).status, 405);
}

#[test]
fn the_gateways_own_paths_are_explained_too() {
    let mesh = TestMesh::new()
        .also("root", json!({"mount": "/"}))
        .gateway_arg("--docs")
        .start();
    let token = mesh.signer.token_of("7", "42");
    let asked = |question: &serde_json::Value| {
        let (address, body) = (mesh.gateway.address("admin"), question.to_string());
        let length = body.len();
        ask(
            &mesh.gateway,
            &format!(
                "POST /explain HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n\r\n{body}"
            ),
        )
        .json()
    };
    for (method, path, token, code, says) in [
        (
            "GET",
            "/healthz",
            None,
            json!(null),
            "for as long as the gateway lives",
        ),
        ("HEAD", "/readyz", None, json!(null), "once it can serve"),
        (
            "POST",
            "/version",
            None,
            json!("method_not_allowed"),
            "are for reading",
        ),
        (
            "GET",
            "/openapi.json",
            Some(&token),
            json!(null),
            "whose rules leave this caller",
        ),
        (
            "GET",
            "/openapi.json",
            None,
            json!("token_missing"),
            "--openapi token",
        ),
        ("GET", "/docs", None, json!(null), "with --docs"),
        (
            "GET",
            "/docs/page.js",
            None,
            json!(null),
            "no mount gets it",
        ),
        (
            "GET",
            "/.gapura/x",
            None,
            json!("no_route"),
            "nothing is there",
        ),
        (
            "POST",
            "/.gapura/backchannel-logout",
            None,
            json!("no_route"),
            "without --backchannel-logout",
        ),
    ] {
        let mut question = json!({"method": method, "path": path});
        if let Some(token) = token {
            question["token"] = token.as_str().into();
        }
        let told = asked(&question);
        assert_eq!(
            (&told["own"], &told["plugin"]),
            (&json!(true), &json!(null)),
            "{told}"
        );
        assert_eq!(told["code"], code, "{path}: {told}");
        assert!(told["steps"].to_string().contains(says), "{path}: {told}");
        // What is told is what is done.
        let mut request = mesh.request(method, path);
        if let Some(token) = token {
            request = request.token(token);
        }
        let answer = request.send();
        match code.as_str() {
            None => assert_eq!(answer.status, 200, "{path}"),
            Some(_) => assert_eq!(told["status"], answer.status, "{path}"),
        }
    }
    let other = asked(&json!({"method": "GET", "path": "/docs/other", "token": token}));
    assert_eq!(
        (&other["own"], &other["plugin"]),
        (&json!(false), &json!("root"))
    );
    // On the command line, by the same settings.
    let explained = |flags: &[&str], path: &str| {
        let invocation = mesh.gateway_invocation().args(flags);
        let ended = invocation
            .args(&["explain", "GET", path])
            .run("gapura-gateway");
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    assert!(explained(&[], "/docs").contains("with --docs"));
    let public = explained(&["--openapi", "public"], "/openapi.json");
    assert!(public.contains("200 with all of it"), "{public}");
}

#[test]
fn status_tells_what_is_well_and_what_is_not() {
    let mesh = TestMesh::new().start();
    let (gateway, sidecar) = (mesh.gateway.address("admin"), mesh.sidecar.address("admin"));
    let status = |admins: &[String]| {
        let mut invocation = Invocation::new().arg("status");
        for admin in admins {
            invocation = invocation.flag("--admin", admin);
        }
        invocation
    };
    let both = [gateway.to_string(), sidecar.to_string()];
    let ended = status(&both).run("gapura");
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for word in [
        "/gateway/edge: well",
        "/plugin/echo: well",
        "echo 1.0.0 at /echo",
        "mesh until",
    ] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    mesh.write_registry("broken", &json!({"name": "broken"}));
    eventually("the fault is seen", || {
        (status(&both).run("gapura").code == Some(3)).then_some(())
    });
    let ended = status(&both).arg("--json").run("gapura");
    let lines: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["health"], &lines[1]["health"]),
        (&"warning".into(), &"well".into())
    );
    let nobody = status(&["127.0.0.1:1".to_owned()]).run("gapura");
    assert_eq!(nobody.code, Some(4), "{}", nobody.stdout);
    assert!(
        nobody.stdout.contains("does not answer"),
        "{}",
        nobody.stdout
    );
}
