//! The JSON Schema of plugin files, read by a validator that no one here wrote.

use std::fs;
use std::path::Path;

use gapura_tests::program::Invocation;
use serde_json::{Value, json};

use super::{python, run};

const SCRIPT: &str = "
import json, jsonschema, sys
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
for file in sys.argv[2:]:
    print('good' if validator.is_valid(json.load(open(file))) else 'bad')
";

/// What a file has that says everything there is to say.
fn everything() -> Value {
    json!({
        "$schema": "../plugin.schema.json", "name": "a", "version": "1.0.0", "mount": "/a",
        "upstream": ["https://10.0.0.7:19443", {"url": "https://10.0.0.8:19443", "weight": 2}],
        "auth_mode": "gateway_verified", "keep_mount_prefix": false, "timeout_ms": 5000,
        "forward_headers": ["X-Trace-*"], "strip_headers": ["Cookie"],
        "inject_headers": {"X-Plugin-Key": "k"}, "verify": true, "identity": "plugin/a",
        "plaintext_upstream": false, "shadow": false, "tenants": {"except": ["7", 8]},
        "allow": [{"methods": ["GET"], "path": "/{company_id}/**", "roles": ["admin"], "tenants": [42],
                   "scopes": ["read"], "actors": "none", "effect": "allow"}, {"effect": "deny"}],
        "tests": [{"as": {"company_id": "42", "user_id": "u", "roles": ["admin"], "scopes": ["read"]},
                   "request": "GET /42/x", "expect": "allow"},
                  {"as": {"company_id": 43, "user_id": "u"}, "request": "GET /42/x", "expect": "deny"}],
        "cors": {"origins": ["https://app.example.com"], "methods": ["GET"], "headers": ["Authorization"],
                 "expose": [], "max_age_s": 60, "credentials": true},
        "ws_token": true, "outlive_token": false, "enabled": true, "max_body_bytes": 1000,
        "retry": {"attempts": 1, "budget_percent": 20},
        "health": {"path": "/healthz", "interval_ms": 1000, "unhealthy_after": 3, "healthy_after": 1},
        "openapi": "/openapi.json", "openapi_breaking": "refuse", "envelope": "check", "max_in_flight": 100, "min_version": "1.0.0",
        "canary": {"upstream": "https://10.0.0.9:19443", "identity": "plugin/next", "plaintext_upstream": false,
                   "auth_mode": "gateway_verified", "tenants": [42], "percent": 1, "mirror": true, "mirror_token": false},
        "rate_limit": {"requests": 10, "per_s": 1, "burst": 20, "key": "tenant", "shadow": true}
    })
}

#[test]
fn what_loads_fits_the_schema_and_what_is_wrong_in_itself_does_not() {
    let Some(python) = python("jsonschema") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema");
    let printed = Invocation::new().arg("schema").run("gapura-gateway");
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    fs::write(&schema, printed.stdout).unwrap();

    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins.d/lab-reporting.json");
    let sample = serde_json::from_str(&fs::read_to_string(sample).unwrap()).unwrap();
    let with = |name: &str, value: Value| {
        let mut file = everything();
        file[name] = value;
        file
    };
    let without = |name: &str| {
        let mut file = everything();
        file.as_object_mut().unwrap().remove(name);
        file
    };
    let good = [
        sample,
        everything(),
        with("health", json!(false)),
        with("tests", json!([])),
    ];
    let bad = [
        json!([]),
        without("name"),
        without("auth_mode"),
        with("timeuot_ms", json!(1)),
        with("name", json!("A b")),
        with("version", json!(1)),
        with("mount", json!("a")),
        with("upstream", json!([])),
        with("upstream", json!("ftp://a:1")),
        with("auth_mode", json!("none")),
        with("timeout_ms", json!(0)),
        with("timeout_ms", json!("5s")),
        with("shadow", json!("yes")),
        with("health", json!(true)),
        with("allow", json!([])),
        with("allow", json!([{"path": "x"}])),
        with("allow", json!([{"methds": ["GET"]}])),
        with(
            "tests",
            json!([{"as": null, "request": "GET /", "expect": "maybe"}]),
        ),
        with("tenants", json!(["7"])),
        with("cors", json!({})),
        with("retry", json!({"attempts": 11})),
        with("rate_limit", json!({"requests": 1, "per_s": 1})),
        with("max_in_flight", json!(0)),
        with("min_version", json!("new")),
        with("canary", json!({"percent": 5})),
        with("inject_headers", json!({"X-Plugin-Key": 1})),
        with(
            "rate_limit",
            json!({"requests": 1, "per_s": 1, "key": "nobody"}),
        ),
    ];
    let mut files = Vec::new();
    for (at, file) in good.iter().chain(&bad).enumerate() {
        let path = dir.path().join(format!("{at}.json"));
        fs::write(&path, file.to_string()).unwrap();
        // The loader is of the same mind, file by file.
        let alone = dir.path().join(at.to_string());
        fs::create_dir(&alone).unwrap();
        fs::write(alone.join("a.json"), file.to_string()).unwrap();
        let ended = Invocation::new()
            .args(&["--check", "--only", "plugins"])
            .flag("--plugin-dir", &alone)
            .run("gapura-gateway");
        let wanted = if at < good.len() { 0 } else { 2 };
        assert_eq!(ended.code, Some(wanted), "{file:#}: {}", ended.stderr);
        files.push(path.display().to_string());
    }
    let mut args = vec![schema.to_str().unwrap()];
    args.extend(files.iter().map(String::as_str));
    let said = run(&python, SCRIPT, &args);
    for (at, said) in said.lines().enumerate() {
        let wanted = if at < good.len() { "good" } else { "bad" };
        let file = good.iter().chain(&bad).nth(at).unwrap();
        assert_eq!(said, wanted, "{file:#}");
    }
}
