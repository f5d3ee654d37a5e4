//! Callers who have proven who they are and are no longer welcome: the deny list and the companies'
//! files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::Then;
use gapura_tests::program::Invocation;
use gapura_tests::tokens::{ISSUER, claims_with, unix_now};
use gapura_tests::wire::Wire;
use gapura_tests::within;
use serde_json::{Value, json};

/// The promise is two seconds; the rest is the machine's.
const IN_FORCE: Duration = Duration::from_secs(10);

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tenants.d")).unwrap();
        let files = Self(dir);
        files.put("deny.json", &json!({}));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, value: &Value) {
        put(&self.path(name), &value.to_string());
    }

    fn mesh(&self) -> Builder {
        TestMesh::new()
            .gateway_flag("--deny", self.path("deny.json").to_str().unwrap())
            .gateway_flag("--tenants", self.path("tenants.d").to_str().unwrap())
    }
}

fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

fn asked(mesh: &TestMesh, claims: Value) -> (u16, Value) {
    let token = mesh.signer.token(&claims_with(&claims));
    let response = mesh.get("/echo/x").token(&token).send();
    let code = if response.status == 200 {
        Value::Null
    } else {
        response.json()["errors"]["code"].clone()
    };
    (response.status, code)
}

fn becomes(mesh: &TestMesh, claims: Value, status: u16, code: Value) {
    within(IN_FORCE, &format!("{claims} is {status} {code}"), || {
        (asked(mesh, claims.clone()) == (status, code.clone())).then_some(())
    });
}

fn streaming(mesh: &TestMesh) {
    mesh.plugin.on("/ws", |exchange| {
        exchange.write(SWITCHED);
        loop {
            let bytes = exchange.read_some();
            if bytes.is_empty() || !exchange.write(&bytes) {
                return Then::Close;
            }
        }
    });
    mesh.plugin.on("/events", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    mesh.plugin.on("/lines", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
}

fn stream(mesh: &TestMesh, path: &str, company: &str) -> Wire {
    let mut wire = mesh.connect();
    let lines = if path.ends_with("/ws") { UPGRADE } else { "" };
    wire.get(path, &(mesh.authorization("7", company) + lines));
    let status = wire.response_head().status;
    assert!(matches!(status, 101 | 200), "{path}: {status}");
    if lines.is_empty() {
        assert!(String::from_utf8_lossy(&wire.read(11)).contains("hello"));
    } else {
        wire.send("hi");
        assert_eq!(wire.read(2), b"hi");
    }
    wire
}

#[test]
fn what_the_deny_list_names_is_revoked() {
    let files = Files::new();
    let mesh = files.mesh().start();
    let now = unix_now();
    let revoked = || json!("token_revoked");
    for (list, in_it, outside) in [
        (
            json!({"jti": ["t1"]}),
            json!({"jti": "t1"}),
            json!({"jti": "t2"}),
        ),
        (
            json!({"sub": ["ann"]}),
            json!({"sub": "ann"}),
            json!({"sub": "bob"}),
        ),
        (json!({"sub": ["7"]}), json!({}), json!({"user_id": "8"})),
        (json!({"sid": ["s1"]}), json!({"sid": "s1"}), json!({})),
        (
            json!({"company_id": ["42"]}),
            json!({}),
            json!({"company_id": "43"}),
        ),
        (
            json!({"sub": [{"iss": ISSUER, "value": "ann"}, {"iss": "https://other", "value": "bob"}]}),
            json!({"sub": "ann"}),
            json!({"sub": "bob"}),
        ),
        (
            json!({"sub": [{"iss": ISSUER, "value": "ann", "issued_before": now}]}),
            json!({"sub": "ann", "iat": now - 1}),
            json!({"sub": "ann", "iat": now}),
        ),
        (
            json!({"sub": [{"iss": ISSUER, "value": "ann", "issued_before": now}]}),
            json!({"sub": "ann"}),
            json!({}),
        ),
    ] {
        files.put("deny.json", &list);
        becomes(&mesh, in_it.clone(), 401, revoked());
        assert_eq!(asked(&mesh, outside.clone()).0, 200, "{list}: {outside}");
        files.put("deny.json", &json!({}));
        becomes(&mesh, in_it, 200, Value::Null);
    }
    files.put("deny.json", &json!({"jti": ["t1"]}));
    becomes(&mesh, json!({"jti": "t1"}), 401, revoked());
    let token = mesh.signer.token(&claims_with(&json!({"jti": "t1"})));
    let refused = mesh.get("/echo/x").token(&token).send();
    refused.assert_refusal(401, "token_revoked", "gateway");
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer") && challenge.contains("invalid_token"),
        "{challenge}"
    );
}

#[test]
fn a_suspended_companys_streams_end_and_nobody_elses() {
    let files = Files::new();
    let mesh = files.mesh().start();
    streaming(&mesh);
    let closed = "gapura_revoked_connections_closed_total{side=\"client\"}";
    let paths = ["/echo/ws", "/echo/events", "/echo/lines"];
    let mut theirs: Vec<Wire> = paths.iter().map(|path| stream(&mesh, path, "42")).collect();
    let mut others: Vec<Wire> = paths.iter().map(|path| stream(&mesh, path, "43")).collect();
    assert_eq!(mesh.metric(&mesh.gateway, closed), 0.0);
    let begun = Instant::now();
    files.put(
        "tenants.d/acme.json",
        &json!({"company_id": "42", "suspended": true}),
    );
    for (path, wire) in paths.iter().zip(&mut theirs) {
        assert!(wire.is_closed_within(IN_FORCE), "{path}");
        assert!(begun.elapsed() < IN_FORCE, "{path}: {:?}", begun.elapsed());
    }
    becomes(&mesh, json!({}), 403, json!("tenant_suspended"));
    assert_eq!(mesh.metric(&mesh.gateway, closed), 3.0);
    for wire in &mut others {
        assert!(wire.is_silent_for(Duration::from_millis(300)));
    }
    assert_eq!(asked(&mesh, json!({"company_id": "43"})).0, 200);
    // The deny list does the same to the others.
    files.put("deny.json", &json!({"company_id": ["43"]}));
    for wire in &mut others {
        assert!(wire.is_closed_within(IN_FORCE));
    }
    becomes(
        &mesh,
        json!({"company_id": "43"}),
        401,
        json!("token_revoked"),
    );
    assert_eq!(mesh.metric(&mesh.gateway, closed), 6.0);
    files.put(
        "tenants.d/acme.json",
        &json!({"company_id": "42", "suspended": false}),
    );
    becomes(&mesh, json!({}), 200, Value::Null);
}

#[test]
fn a_company_may_be_bound_to_its_addresses() {
    let files = Files::new();
    files.put(
        "tenants.d/a.json",
        &json!({"company_id": "42", "cidrs": ["10.0.0.0/8"]}),
    );
    files.put(
        "tenants.d/b.json",
        &json!({"company_id": "43", "cidrs": ["127.0.0.0/8", "::1"]}),
    );
    let mesh = files.mesh().start();
    assert_eq!(asked(&mesh, json!({})), (403, json!("forbidden")));
    assert_eq!(asked(&mesh, json!({"company_id": "43"})).0, 200);
    assert_eq!(
        asked(&mesh, json!({"company_id": "44"})).0,
        200,
        "without a file there are no limits"
    );
}

#[test]
fn a_faulty_file_closes_a_company_that_nothing_good_speaks_for() {
    let files = Files::new();
    files.put("tenants.d/known.json", &json!({"company_id": "42"}));
    let mesh = files.mesh().start();
    let alarm =
        |name: &str| mesh.metric(&mesh.gateway, &format!("gapura_alarms{{name=\"{name}\"}}"));
    assert_eq!(alarm("tenants"), 0.0);
    put(
        &files.path("tenants.d/new.json"),
        "{\"company_id\": \"43\", \"suspended\": no}",
    );
    put(
        &files.path("tenants.d/known.json"),
        "{\"company_id\": \"42\", \"suspendet\": true}",
    );
    becomes(
        &mesh,
        json!({"company_id": "43"}),
        403,
        json!("tenant_suspended"),
    );
    assert_eq!(asked(&mesh, json!({})).0, 200, "its last good version");
    assert_eq!(alarm("tenants"), 1.0);
    put(
        &files.path("tenants.d/new.json"),
        "{\"company_id\": \"43\"}",
    );
    put(
        &files.path("tenants.d/known.json"),
        "{\"company_id\": \"42\"}",
    );
    becomes(&mesh, json!({"company_id": "43"}), 200, Value::Null);
    within(IN_FORCE, "the alarm is over", || {
        (alarm("tenants") == 0.0).then_some(())
    });
    // Two files for one company: the one in force keeps it.
    files.put(
        "tenants.d/other.json",
        &json!({"company_id": "42", "suspended": true}),
    );
    within(IN_FORCE, "the alarm", || {
        (alarm("tenants") == 1.0).then_some(())
    });
    assert_eq!(asked(&mesh, json!({})).0, 200);
    fs::remove_file(files.path("tenants.d/other.json")).unwrap();
    // A deny list that cannot be read keeps the last one.
    files.put("deny.json", &json!({"company_id": ["43"]}));
    becomes(
        &mesh,
        json!({"company_id": "43"}),
        401,
        json!("token_revoked"),
    );
    put(&files.path("deny.json"), "{");
    within(IN_FORCE, "the alarm", || {
        (alarm("deny") == 1.0).then_some(())
    });
    assert_eq!(asked(&mesh, json!({"company_id": "43"})).0, 401);
    files.put("deny.json", &json!({}));
    becomes(&mesh, json!({"company_id": "43"}), 200, Value::Null);
    within(IN_FORCE, "the alarm is over", || {
        (alarm("deny") == 0.0).then_some(())
    });
}

#[test]
fn the_file_of_a_suspended_company_that_vanishes_holds_a_while_and_is_told() {
    let files = Files::new();
    files.put(
        "tenants.d/a.json",
        &json!({"company_id": "42", "suspended": true}),
    );
    files.put("tenants.d/b.json", &json!({"company_id": "43"}));
    let mesh = files.mesh().start();
    assert_eq!(asked(&mesh, json!({})).0, 403);
    fs::remove_file(files.path("tenants.d/a.json")).unwrap();
    let line = mesh.gateway.wait_for_event("tenants_warning");
    assert!(
        line["message"].as_str().unwrap().contains("company 42"),
        "{line}"
    );
    assert_eq!(asked(&mesh, json!({})).0, 403, "held");
    within(Duration::from_secs(15), "it is let in again", || {
        (asked(&mesh, json!({})).0 == 200).then_some(())
    });
    let line = mesh.gateway.wait_for_event("tenants_warning");
    assert_eq!(line["level"], "warn");
}

#[test]
fn what_is_wrong_at_the_start_stops_it_with_every_fault() {
    let files = Files::new();
    put(&files.path("deny.json"), "{\"jit\": []}");
    put(
        &files.path("tenants.d/a.json"),
        "{\"company_id\": \"42\",\n\"cidrs\": []}",
    );
    let run = |invocation: Invocation| {
        let ended = invocation
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin-dir", files.path("tenants.d"))
            .flag("--mesh-dir", files.path("nowhere"))
            .run("gapura-gateway");
        (ended.code, ended.stderr)
    };
    let (code, said) = run(Invocation::new()
        .flag("--deny", files.path("deny.json"))
        .flag("--tenants", files.path("tenants.d")));
    assert_eq!(code, Some(2), "{said}");
    for words in [
        "deny.json:1:2",
        "\"jti\"",
        "a.json:2:10",
        "\"cidrs\" is an empty list",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (code, said) = run(Invocation::new()
        .flag("--deny", files.path("none"))
        .flag("--tenants", files.path("none")));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--deny") && said.contains("--tenants") && said.contains("can't be read"),
        "{said}"
    );
    for name in ["GAPURA_DENY", "GAPURA_TENANTS"] {
        let (code, said) = run(Invocation::new().env(name, ""));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(name) && said.contains("unset it"), "{said}");
    }
}
