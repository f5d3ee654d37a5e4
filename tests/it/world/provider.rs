//! Providers that no one here wrote: idpyoidc, an OpenID provider of the identity community
//! (discovery, its own tokens, keys that rotate under load, logout), and Authlib, of another
//! family, beside it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::tokens::AUDIENCE;
use serde_json::{Value, json};

/// The running provider; ends with the test.
struct Provider {
    child: Child,
    wishes: ChildStdin,
    answers: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    /// `None` where it is not installed, which is said.
    fn start(dir: &Path) -> Option<Self> {
        Self::start_of("idpyoidc", include_str!("provider.py"), dir)
    }

    fn start_of(package: &str, script: &str, dir: &Path) -> Option<Self> {
        let python = super::python(package)?;
        let mut child = Command::new(python)
            .args(["-c", script])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let wishes = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let issuer = read(&mut answers)["issuer"].as_str().unwrap().to_owned();
        Some(Self {
            child,
            wishes,
            answers,
            issuer,
        })
    }

    fn wish(&mut self, wish: &Value) -> Value {
        writeln!(self.wishes, "{wish}").unwrap();
        read(&mut self.answers)
    }

    fn token(&mut self, claims: Value, kid: Option<&str>) -> String {
        let wish = json!({"do": "token", "claims": claims, "aud": [AUDIENCE], "kid": kid});
        self.wish(&wish)["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(answers: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_provider_that_no_one_here_wrote_rotates_its_keys_and_no_valid_request_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut provider) = Provider::start(dir.path()) else {
        return;
    };
    let mesh = TestMesh::new()
        .without_keys()
        .gateway_flag("--oidc-issuer", &provider.issuer)
        .gateway_flag("--audience", AUDIENCE)
        .start();
    let claims = || json!({"sub": "user-7", "company_id": 42, "role": "member", "scope": "openid"});
    let old = provider.token(claims(), None);
    let seen = mesh.get("/echo/x").token(&old).seen_by_plugin();
    assert_eq!(
        (seen.header("x-user-id"), seen.header("x-company-id")),
        (Some("user-7"), Some("42"))
    );
    let kid = provider.wish(&json!({"do": "rotate"}))["kid"]
        .as_str()
        .unwrap()
        .to_owned();
    let new = provider.token(claims(), Some(&kid));
    assert_ne!(
        old.split('.').next(),
        new.split('.').next(),
        "another key signs"
    );
    for _ in 0..50 {
        for token in [&old, &new] {
            assert_eq!(mesh.get("/echo/x").token(token).send().status, 200);
        }
    }
    let acted = provider.token(
        json!({"sub": "user-7", "company_id": 42, "act": {"sub": "service-1"}}),
        Some(&kid),
    );
    let seen = mesh.get("/echo/x").token(&acted).seen_by_plugin();
    assert_eq!(seen.header("x-actor-id"), Some("service-1"));
    let other = provider.token(json!({"sub": "user-7"}), Some(&kid));
    let refused = mesh.get("/echo/x").token(&other).send();
    refused.assert_refusal(403, "tenant_missing", "gateway");
}

#[test]
fn a_logout_at_the_provider_cuts_the_session_here_and_not_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut provider) = Provider::start(dir.path()) else {
        return;
    };
    let state = dir.path().join("state");
    let config = dir.path().join("gapura.json");
    std::fs::write(&config, r#"{"backchannel-logout": true}"#).unwrap();
    let mesh = TestMesh::new()
        .without_keys()
        .gateway_flag("--config", config.to_str().unwrap())
        .gateway_flag("--oidc-issuer", &provider.issuer)
        .gateway_flag("--audience", AUDIENCE)
        .gateway_flag("--logout-audience", "door")
        .gateway_flag("--state-dir", state.to_str().unwrap())
        .start();
    mesh.plugin.on("/events", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    let session = |sid: &str| json!({"sub": "user-7", "company_id": 42, "sid": sid});
    let (ended, next) = (
        provider.token(session("s-1"), None),
        provider.token(session("s-2"), None),
    );
    let mut stream = mesh.connect();
    stream.get(
        "/echo/events",
        &format!("Authorization: Bearer {ended}\r\n"),
    );
    assert_eq!(stream.response_head().status, 200);
    assert!(String::from_utf8_lossy(&stream.read(11)).contains("hello"));
    let begun = std::time::Instant::now();
    let told = provider.wish(&json!({"do": "logout", "sid": "s-1", "client": "door",
        "uri": format!("https://localhost:{}/.gapura/backchannel-logout", mesh.public().port()),
        "ca": mesh.public_root_file().to_str().unwrap()}));
    assert_eq!(told, json!({"status": 200, "cache": "no-store"}));
    assert!(stream.is_closed_within(std::time::Duration::from_secs(10)));
    println!(
        "from the logout at the provider to the cut: {:?}",
        begun.elapsed()
    );
    let refused = mesh.get("/echo/x").token(&ended).send();
    refused.assert_refusal(401, "token_revoked", "gateway");
    assert_eq!(mesh.get("/echo/x").token(&next).send().status, 200);
}

#[test]
fn two_providers_of_two_families_speak_each_for_their_own_companies() {
    let dir = tempfile::tempdir().unwrap();
    let second = include_str!("second_provider.py");
    let (Some(mut first), Some(mut second)) = (
        Provider::start(dir.path()),
        Provider::start_of("authlib", second, dir.path()),
    ) else {
        return;
    };
    let config = dir.path().join("gapura.json");
    let issuers = json!({"issuers": [
        {"oidc-issuer": first.issuer, "audience": AUDIENCE, "tenants": [42]},
        {"oidc-issuer": second.issuer, "audience": AUDIENCE, "tenants": [7]},
    ]});
    std::fs::write(&config, issuers.to_string()).unwrap();
    let mesh = TestMesh::new()
        .without_keys()
        .gateway_flag("--config", config.to_str().unwrap())
        .start();
    let mut of_first = |company: u64| first.token(json!({"sub": "u", "company_id": company}), None);
    let mut of_second = |client: &str| {
        let answer = second.wish(&json!({"client": client}));
        answer["token"].as_str().unwrap().to_owned()
    };
    for (token, company) in [(of_first(42), "42"), (of_second("bank"), "7")] {
        let seen = mesh.get("/echo/x").token(&token).seen_by_plugin();
        assert_eq!(seen.header("x-company-id"), Some(company));
    }
    for token in [of_first(7), of_second("clinic")] {
        let refused = mesh.get("/echo/x").token(&token).send();
        refused.assert_refusal(401, "token_invalid", "gateway");
    }
}
