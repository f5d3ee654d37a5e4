//! Who may do what: the rules of a plugin's file, as callers meet them. The rules one by one are
//! tested beside the code.

use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::program::Invocation;
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, claims_with, jwks};
use gapura_tests::within;
use serde_json::{Value, json};

/// The promise is two seconds; the rest is the machine's.
const IN_FORCE: Duration = Duration::from_secs(10);

fn asked(mesh: &TestMesh, method: &str, path: &str, claims: Value) -> u16 {
    let token = mesh.signer.token(&claims_with(&claims));
    mesh.request(method, path).token(&token).send().status
}

#[test]
fn a_rule_lets_through_and_none_refuses() {
    let mesh = TestMesh::new()
        .fields(json!({"allow": [
            {"path": "/secret/**", "effect": "deny"},
            {"methods": ["GET"], "path": "/reports/**", "roles": ["member", "admin"]},
            {"methods": ["POST"], "path": "/reports", "scopes": ["reports:write"], "actors": "none"},
            {"path": "/c/{company_id}/**"},
            {"path": "/u/{user_id}"},
            {"path": "/**", "roles": ["admin"]}
        ]}))
        .start();
    for (method, path, claims, status) in [
        ("GET", "/echo/reports", json!({}), 200),
        ("HEAD", "/echo/reports/7", json!({}), 200),
        ("GET", "/echo/REPORTS/7/", json!({}), 200),
        ("GET", "/echo/reports", json!({"role": "guest"}), 403),
        ("GET", "/echo/reports", json!({"role": null}), 403),
        (
            "GET",
            "/echo/reports",
            json!({"role": ["guest", "admin"]}),
            200,
        ),
        ("POST", "/echo/reports", json!({}), 403),
        (
            "POST",
            "/echo/reports",
            json!({"scope": "profile reports:write"}),
            200,
        ),
        (
            "POST",
            "/echo/reports",
            json!({"scp": ["reports:write"]}),
            200,
        ),
        (
            "POST",
            "/echo/reports",
            json!({"scope": "reports:writes"}),
            403,
        ),
        (
            "POST",
            "/echo/reports",
            json!({"scope": "reports:write", "act": {"sub": "svc"}}),
            403,
        ),
        ("GET", "/echo/c/42/x", json!({}), 200),
        ("GET", "/echo/c/43/x", json!({}), 403),
        ("GET", "/echo/c/43/x", json!({"role": "admin"}), 403),
        ("GET", "/echo/u/7", json!({}), 200),
        ("GET", "/echo/u/8", json!({}), 403),
        ("GET", "/echo/other", json!({}), 403),
        ("GET", "/echo/other", json!({"role": "admin"}), 200),
        ("GET", "/echo/secret/1", json!({"role": "admin"}), 403),
        ("GET", "/echo/SECRET", json!({"role": "admin"}), 403),
        ("GET", "/echo//secret//1", json!({"role": "admin"}), 403),
        ("GET", "/echo/s%65cret/1", json!({"role": "admin"}), 403),
        ("GET", "/echo/", json!({"role": "admin"}), 200),
    ] {
        assert_eq!(
            asked(&mesh, method, path, claims.clone()),
            status,
            "{method} {path} {claims}"
        );
    }
    let before = mesh.plugin.seen().len();
    let refused = mesh.get("/echo/other").token_of("7", "42").send();
    refused.assert_refusal(403, "forbidden", "gateway");
    assert!(
        !refused.text().contains("rule"),
        "no hint to who is refused"
    );
    assert_eq!(
        mesh.plugin.seen().len(),
        before,
        "nothing reached the plugin"
    );
    let line = mesh.gateway.wait_for_event("turned_away");
    assert!(line["message"].as_str().unwrap().contains("rule"), "{line}");
    mesh.get("/echo/other")
        .send()
        .assert_refusal(401, "token_missing", "gateway");
}

#[test]
fn only_and_except_name_companies() {
    let mesh = TestMesh::new()
        .fields(json!({"tenants": {"only": ["42", "43"]}}))
        .also("most", json!({"tenants": {"except": ["42"]}}))
        .start();
    for (path, company, status) in [
        ("/echo/x", "42", 200),
        ("/echo/x", "44", 403),
        ("/most/x", "42", 403),
        ("/most/x", "44", 200),
    ] {
        let response = mesh.get(path).token_of("7", company).send();
        assert_eq!(response.status, status, "{path} {company}");
        if status == 403 {
            response.assert_refusal(403, "forbidden", "gateway");
        }
    }
}

#[test]
fn rules_that_only_watch_let_through_and_count() {
    let mesh = TestMesh::new()
        .fields(
            json!({"allow": [{"methods": ["GET"]}], "tenants": {"except": ["13"]}, "shadow": true}),
        )
        .start();
    assert_eq!(asked(&mesh, "GET", "/echo/x", json!({})), 200);
    let series = "gapura_shadow_refusals_total{plugin=\"echo\"}";
    assert_eq!(mesh.metric(&mesh.gateway, series), 0.0);
    assert_eq!(asked(&mesh, "POST", "/echo/x", json!({})), 200);
    assert_eq!(
        asked(&mesh, "GET", "/echo/x", json!({"company_id": "13"})),
        200
    );
    assert_eq!(mesh.metric(&mesh.gateway, series), 2.0);
    let line = mesh.gateway.wait_for_event("shadow_refusal");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("no rule allows it"),
        "{line}"
    );
    assert_eq!(line["plugin"], "echo");
    mesh.get("/echo/x")
        .send()
        .assert_refusal(401, "token_missing", "gateway");
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"allow": [{"methods": ["GET"]}]})),
    );
    within(IN_FORCE, "the rules are in force", || {
        (asked(&mesh, "POST", "/echo/x", json!({})) == 403).then_some(())
    });
    // And back again, which is said aloud.
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"allow": [{"methods": ["GET"]}], "shadow": true})),
    );
    let _ = mesh.gateway.wait_for_line("the warning", |line| {
        line["event"] == "registry_warning"
            && line["message"]
                .as_str()
                .is_some_and(|said| said.contains("shadow is on"))
    });
}

#[test]
fn a_plugin_that_is_not_enabled_answers_503_within_two_seconds() {
    let mesh = TestMesh::new().also("root", json!({"mount": "/"})).start();
    assert_eq!(asked(&mesh, "GET", "/echo/x", json!({})), 200);
    mesh.write_registry("echo", &mesh.entry(&json!({"enabled": false})));
    let refused = within(IN_FORCE, "the mount is off", || {
        let response = mesh.get("/echo/x").token_of("7", "42").send();
        (response.status != 200).then_some(response)
    });
    refused.assert_refusal(503, "upstream_unavailable", "gateway");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(mesh.get("/echo/x").send().status, 503, "whoever asks");
    assert_eq!(
        asked(&mesh, "GET", "/other", json!({})),
        200,
        "the others go on"
    );
    mesh.write_registry("echo", &mesh.entry(&json!({"enabled": true})));
    within(IN_FORCE, "it is on again", || {
        (asked(&mesh, "GET", "/echo/x", json!({})) == 200).then_some(())
    });
}

#[test]
fn a_file_whose_tests_fail_never_comes_into_force() {
    let mesh = TestMesh::new().start();
    let tests = json!([{"as": {"company_id": "42", "user_id": "7", "roles": ["member"]}, "request": "GET /x", "expect": "allow"}]);
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"allow": [{"roles": ["admin"]}], "tests": tests})),
    );
    let line = mesh.gateway.wait_for_event("registry_fault");
    let said = line["message"].as_str().unwrap();
    assert!(
        said.contains("tests[0]")
            && said.contains("GET /x should be \"allow\", but no rule allows it"),
        "{said}"
    );
    assert_eq!(
        asked(&mesh, "GET", "/echo/x", json!({})),
        200,
        "the last good version"
    );
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"allow": [{"roles": ["member"]}], "tests": tests})),
    );
    within(IN_FORCE, "its twin is in force", || {
        (asked(&mesh, "GET", "/echo/x", json!({"role": "admin"})) == 403).then_some(())
    });
    assert_eq!(asked(&mesh, "GET", "/echo/x", json!({})), 200);
}

#[test]
fn headers_that_a_file_strips_do_not_reach_the_plugin() {
    let mesh = TestMesh::new()
        .fields(json!({"strip_headers": ["Accept-Language", "Sec-Fetch-*"], "forward_headers": ["X-Shop-*"]}))
        .start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("Accept-Language", "id")
        .header("Sec-Fetch-Site", "cross-site")
        .header("Accept", "text/plain")
        .header("X-Shop-Cart", "1")
        .seen_by_plugin();
    assert_eq!(seen.header("accept"), Some("text/plain"));
    assert_eq!(seen.header("x-shop-cart"), Some("1"));
    assert!(seen.header("accept-language").is_none() && seen.header("sec-fetch-site").is_none());
}

/// The blocks of a page between the fences of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    page.split("\n```")
        .filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_examples_of_the_page_load_and_say_what_the_page_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let page = std::fs::read_to_string(root.join("docs/permissions.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for folder in ["plugins.d", "tenants.d"] {
        std::fs::create_dir(path(folder)).unwrap();
    }
    for block in blocks(&page, "json") {
        let value: Value = serde_json::from_str(&block).unwrap();
        let file = match (value["name"].as_str(), value["company_id"].as_str()) {
            (Some(name), _) => format!("plugins.d/{name}.json"),
            (_, Some(company)) => format!("tenants.d/{company}.json"),
            _ => "deny.json".to_owned(),
        };
        std::fs::write(path(&file), block).unwrap();
    }
    let signer = Signer::es256("test-key");
    std::fs::write(path("jwks.json"), jwks(&[&signer])).unwrap();
    let token = signer.token(&claims_with(&json!({"exp": 4_102_444_800_u64})));
    std::fs::write(path("ann.jwt"), token).unwrap();
    let explained = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let mut invocation = Invocation::new();
        for word in words {
            invocation = match word {
                "ann.jwt" => invocation.arg(path(word)),
                word => invocation.arg(word),
            };
        }
        let ended = invocation
            .flag("--plugin-dir", path("plugins.d"))
            .flag("--tenants", path("tenants.d"))
            .flag("--deny", path("deny.json"))
            .flag("--jwks", path("jwks.json"))
            .flag("--issuer", ISSUER)
            .flag("--audience", AUDIENCE)
            .run("gapura-gateway");
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        ended.stdout.replace("unknown.invalid", "mylab.internal")
    };
    let mut told = 0;
    let mut wrong = String::new();
    for block in blocks(&page, "console") {
        let (line, says) = block.split_once('\n').unwrap_or((&block, ""));
        let found = explained(line.strip_prefix("$ ").unwrap());
        if found.trim() != says.trim() {
            wrong += &format!("\n{line}\n{found}");
        }
        told += 1;
    }
    assert!(wrong.is_empty(), "the page should say:{wrong}");
    assert!(told >= 5, "the page was not understood");
    let text = explained(
        "gapura-gateway explain GET /v1/reports/company/43/7 --token-file ann.jwt --json",
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value["plugin"], &value["status"], &value["code"]),
        (&json!("reports"), &json!(403), &json!("forbidden"))
    );
    assert!(
        value["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["stage"] == "rules")
    );
    let text = explained(
        "gapura-gateway explain GET /v1/reports/7 --token-file ann.jwt --client 192.0.2.1 --json",
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["code"], "forbidden", "from elsewhere");
}
