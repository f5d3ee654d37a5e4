//! Plain http upstreams: no sidecar, so each request is signed for the plugin, or says nothing of
//! the caller.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_tests::mesh::TestMesh;
use gapura_tests::program::Invocation;
use gapura_tests::tokens::unix_now;
use gapura_tests::within;
use serde_json::{Value, json};

const SECRET: &str = "a-signing-secret-of-more-than-32-bytes";

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
        .as_ref()
        .to_vec()
}

fn secret_file(dir: &Path) -> String {
    let path = dir.join("signing-secret");
    gapura_tests::certs::write_private(&path, &format!("{SECRET}\n"));
    path.display().to_string()
}

/// Puts the plugin itself, without its sidecar, at `/direct`.
fn direct(mesh: &TestMesh, fields: Value) {
    let mut entry = json!({"name": "direct", "version": "1.0.0", "mount": "/direct", "upstream": mesh.plugin.url(), "auth_mode": "gateway_verified", "health": false, "openapi": false});
    for (name, value) in fields.as_object().unwrap() {
        entry[name] = value.clone();
    }
    mesh.write_registry("direct", &entry);
}

#[test]
fn a_signature_says_who_called_what_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path());
    let mesh = TestMesh::new()
        .gateway_flag("--signing-secret-file", &secret)
        .start();
    direct(&mesh, json!({}));
    within(
        std::time::Duration::from_secs(5),
        "the plugin is reached directly",
        || (mesh.get("/direct/x").token_of("7", "42").send().status == 200).then_some(()),
    );
    let acted = mesh.signer.token(&gapura_tests::tokens::claims_with(
        &json!({"act": {"sub": "support-1"}}),
    ));
    let seen = mesh
        .get("/direct//report%73?a=%2f")
        .token(&acted)
        .header("X-Internal-Signature", "v1,0,spoof")
        .seen_by_plugin();
    let signature = seen.header("x-internal-signature").unwrap();
    let parts: Vec<&str> = signature.split(',').collect();
    let [version, seconds, given] = parts[..] else {
        panic!("{signature}")
    };
    assert_eq!(version, "v2");
    assert!(
        unix_now().abs_diff(seconds.parse().unwrap()) < 30,
        "{signature}"
    );
    let key = mac(SECRET.as_bytes(), "gapura-sign-v1\ndirect");
    let request_id = seen.header("x-request-id").unwrap();
    assert_eq!(seen.target, "/reports?a=%2f");
    let lines = [
        "v2",
        "direct",
        seconds,
        "GET",
        &seen.target,
        request_id,
        "7",
        "42",
        "member",
        "support-1",
    ]
    .join("\n");
    assert_eq!(
        given,
        URL_SAFE_NO_PAD.encode(mac(&key, &lines)),
        "{lines:?}"
    );
    assert_eq!(seen.header("x-company-id"), Some("42"));

    let printed = Invocation::new()
        .args(&["signing-key", "direct", "--signing-secret-file", &secret])
        .run("gapura-gateway");
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        printed.stdout.contains(&URL_SAFE_NO_PAD.encode(&key)) || printed.stdout.contains(&hex),
        "{}",
        printed.stdout
    );
    assert!(!printed.stdout.contains(SECRET));
}

#[test]
fn the_older_form_is_refused_where_a_rule_names_actors() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path());
    let mesh = TestMesh::new()
        .gateway_flag("--signing-secret-file", &secret)
        .start();
    // In force under v2.
    direct(&mesh, json!({"allow": [{"actors": "none"}]}));
    within(
        std::time::Duration::from_secs(5),
        "the plugin is reached directly",
        || (mesh.get("/direct/x").token_of("7", "42").send().status == 200).then_some(()),
    );
    let check = |form: &str| {
        Invocation::new()
            .arg("--check")
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin-dir", mesh.dir().join("plugins.d"))
            .flag("--mesh-dir", mesh.dir().join("mesh-gateway"))
            .flag("--jwks", mesh.dir().join("jwks.json"))
            .flag("--signing-secret-file", &secret)
            .flag("--signature", form)
            .run("gapura-gateway")
    };
    let refused = check("v1");
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("direct.json") && refused.stderr.contains("--signature v2"),
        "{}",
        refused.stderr
    );
    let taken = check("v2");
    assert_eq!(taken.code, Some(0), "{}", taken.stderr);
}

#[test]
fn the_older_form_signs_as_it_always_did_and_a_second_secret_only_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing-secret");
    let next = "the-next-signing-secret-of-32-bytes-and-more";
    gapura_tests::certs::write_private(&path, &format!("{SECRET}\n{next}\n"));
    let secret = path.display().to_string();
    let mesh = TestMesh::new()
        .gateway_flag("--signing-secret-file", &secret)
        .gateway_flag("--signature", "v1")
        .start();
    direct(&mesh, json!({}));
    within(
        std::time::Duration::from_secs(5),
        "the plugin is reached directly",
        || (mesh.get("/direct/x").token_of("7", "42").send().status == 200).then_some(()),
    );
    let seen = mesh.get("/direct/x").token_of("7", "42").seen_by_plugin();
    let signature = seen.header("x-internal-signature").unwrap();
    let parts: Vec<&str> = signature.split(',').collect();
    let request_id = seen.header("x-request-id").unwrap();
    let lines = format!(
        "v1\ndirect\n{}\nGET\n/x\n{request_id}\n7\n42\nmember",
        parts[1]
    );
    let key = |secret: &str| mac(secret.as_bytes(), "gapura-sign-v1\ndirect");
    let wanted = URL_SAFE_NO_PAD.encode(mac(&key(SECRET), &lines));
    assert_eq!((parts[0], parts[2]), ("v1", wanted.as_str()));
    let printed = Invocation::new()
        .args(&["signing-key", "direct", "--signing-secret-file", &secret])
        .run("gapura-gateway");
    let both = [SECRET, next].map(|secret| URL_SAFE_NO_PAD.encode(key(secret)));
    assert_eq!(
        printed.stdout.lines().collect::<Vec<_>>(),
        both,
        "{}",
        printed.stderr
    );
}

#[test]
fn without_a_secret_a_forwarded_token_goes_alone() {
    let mesh = TestMesh::new().start();
    direct(&mesh, json!({"auth_mode": "forward_jwt"}));
    within(
        std::time::Duration::from_secs(5),
        "the plugin is reached directly",
        || (mesh.get("/direct/x").token_of("7", "42").send().status == 200).then_some(()),
    );
    let token = mesh.signer.token_of("7", "42");
    let seen = mesh
        .get("/direct/x")
        .token(&token)
        .header("X-Company-Id", "spoof")
        .seen_by_plugin();
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
    for name in [
        "x-user-id",
        "x-company-id",
        "x-role",
        "x-internal-signature",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert!(
        seen.headers
            .iter()
            .all(|(name, _)| !name.to_ascii_lowercase().starts_with("x-gapura")),
        "{:?}",
        seen.headers
    );
}

#[test]
fn a_verified_caller_is_never_told_unsigned() {
    let mesh = TestMesh::new().start();
    direct(&mesh, json!({}));
    let line = within(
        std::time::Duration::from_secs(5),
        "the file is refused",
        || {
            mesh.gateway.log().into_iter().find(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("direct.json"))
            })
        },
    );
    let message = line["message"].as_str().unwrap();
    assert!(
        message.contains("--signing-secret-file") && message.contains("sidecar"),
        "both ways out: {message}"
    );
    let response = mesh.get("/direct/x").token_of("7", "42").send();
    response.assert_refusal(503, "upstream_unavailable", "gateway");
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn a_plugin_without_a_sidecar_can_not_pass_its_answer_off_as_one() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/made",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Gapura-Made: internal\r\n\r\n",
        gapura_tests::plugin::Then::Keep,
    );
    direct(&mesh, json!({"auth_mode": "public"}));
    within(std::time::Duration::from_secs(5), "it is in force", || {
        (mesh.get("/direct/x").send().status == 200).then_some(())
    });
    let response = mesh
        .get("/direct/made")
        .header("X-Request-Id", "made-up")
        .send();
    assert_eq!(
        (response.status, response.header("x-gapura-made")),
        (200, None)
    );
    let line = mesh.gateway.wait_for_line("the request", |line| {
        line["event"] == "request" && line["request_id"] == "made-up"
    });
    assert_eq!(
        (&line["code"], &line["stripped"]),
        (&json!(null), &json!(1)),
        "{line}"
    );
}

/// What a verifier of `examples/verify-signature` is asked: the keys, and a request as its plugin
/// saw it.
pub(crate) struct Question {
    mesh: TestMesh,
    keys: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Question {
    /// A plugin without a sidecar, of whose two secrets the first signs.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing-secret");
        let next = "the-next-signing-secret-of-32-bytes-and-more";
        gapura_tests::certs::write_private(&path, &format!("{SECRET}\n{next}\n"));
        let secret = path.display().to_string();
        let mesh = TestMesh::new()
            .gateway_flag("--signing-secret-file", &secret)
            .start();
        direct(&mesh, json!({}));
        let soon = std::time::Duration::from_secs(5);
        within(soon, "the plugin is reached directly", || {
            (mesh.get("/direct/x").token_of("7", "42").send().status == 200).then_some(())
        });
        let printed = Invocation::new()
            .args(&["signing-key", "direct", "--signing-secret-file", &secret])
            .run("gapura-gateway");
        let keys: Vec<String> = printed.stdout.lines().map(str::to_owned).collect();
        assert_eq!(keys.len(), 2);
        Self {
            mesh,
            keys,
            _dir: dir,
        }
    }

    /// Every question with the answer that it must get: the request as it came, and each part of it
    /// changed.
    pub(crate) fn all(&self) -> Vec<(Value, bool)> {
        let token = self.mesh.signer.token(&gapura_tests::tokens::claims_with(
            &json!({"act": {"sub": "support-1"}, "role": ["admin", "lab:read"]}),
        ));
        let seen = self
            .mesh
            .get("/direct/report%73?a=%2f")
            .token(&token)
            .seen_by_plugin();
        let mut headers = json!({});
        let names = [
            "x-request-id",
            "x-user-id",
            "x-company-id",
            "x-role",
            "x-actor-id",
            "x-internal-signature",
        ];
        for name in names {
            headers[name] = json!(seen.header(name).unwrap());
        }
        let asked = json!({"keys": self.keys, "plugin": "direct", "method": "GET", "target": seen.target,
            "headers": headers, "now": unix_now()});
        let mut all = vec![(asked.clone(), true)];
        let mut changed = |name: &str, value: Value, is_good: bool| {
            let mut asked = asked.clone();
            asked[name] = value;
            all.push((asked, is_good));
        };
        changed("keys", json!([self.keys[1], self.keys[0]]), true);
        changed("keys", json!([self.keys[1]]), false);
        changed("keys", json!([]), false);
        changed("plugin", json!("other"), false);
        changed("method", json!("POST"), false);
        changed("target", json!("/reports"), false);
        changed("now", json!(unix_now() + 120), false);
        changed("now", json!(unix_now() - 120), false);
        for (name, value) in [
            ("x-user-id", json!("8")),
            ("x-company-id", json!("43")),
            ("x-role", json!("admin")),
            ("x-actor-id", json!("")),
            ("x-request-id", json!("another")),
            ("x-internal-signature", json!("")),
            ("x-internal-signature", json!("v2,1,")),
            ("x-internal-signature", json!("v2,x,AAAA")),
            (
                "x-internal-signature",
                json!(format!("{},", seen.header("x-internal-signature").unwrap())),
            ),
        ] {
            let mut headers = headers.clone();
            headers[name] = value;
            changed("headers", headers, false);
        }
        let mut headers = headers.clone();
        headers
            .as_object_mut()
            .unwrap()
            .remove("x-internal-signature");
        changed("headers", headers, false);
        all
    }
}

/// Asks a verifier everything, by a program that reads a list of questions and prints a list of
/// answers.
pub(crate) fn verify_all(question: &Question, mut program: std::process::Command) {
    let all = question.all();
    let questions: Vec<&Value> = all.iter().map(|(question, _)| question).collect();
    let asked = json!(questions).to_string();
    let output = program.arg(asked).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<bool> = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    for ((question, is_good), answer) in all.iter().zip(answers) {
        assert_eq!(answer, *is_good, "{question}");
    }
}

#[test]
fn the_verifier_in_python_takes_what_the_gateway_signed_and_nothing_else() {
    let script = "import json, sys; sys.path.insert(0, sys.argv[1]); from verify import is_from_the_gateway
print(json.dumps([is_from_the_gateway(q['keys'], q['plugin'], q['method'], q['target'], q['headers'], q['now']) for q in json.loads(sys.argv[2])]))";
    let mut python = std::process::Command::new("python3");
    python
        .args(["-B", "-c", script])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/verify-signature"));
    verify_all(&Question::new(), python);
}
