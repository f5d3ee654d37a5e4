//! Whose keys count and for whom: keys from the network, several issuers, who acts for whom, and
//! tokens bound to a certificate.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_tests::certs::{Authority, Certificate, Leaf};
use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::program::Invocation;
use gapura_tests::provider::Provider;
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, claims_with, jwks};
use gapura_tests::wire::{Response, Tls, Wire};
use serde_json::{Value, json};

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn status(mesh: &TestMesh, token: &str) -> u16 {
    mesh.get("/echo/x").token(token).send().status
}

#[test]
fn keys_are_fetched_and_a_rotation_loses_no_valid_request() {
    let provider = Provider::start();
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    provider.serve("/keys", Some(jwks(&[&old])));
    let dir = tempfile::tempdir().unwrap();
    let mesh = TestMesh::new()
        .without_keys()
        .gateway_flag("--jwks", &provider.url("/keys"))
        .gateway_flag("--issuer", ISSUER)
        .gateway_flag("--audience", AUDIENCE)
        .gateway_flag(
            "--issuer-ca",
            &file(dir.path(), "ca.pem", provider.root_pem()),
        )
        .start();
    assert_eq!(
        status(&mesh, &old.token_of("7", "42")),
        200,
        "waits for the first keys"
    );
    provider.serve("/keys", Some(jwks(&[&old, &new])));
    for _ in 0..20 {
        assert_eq!(status(&mesh, &new.token_of("7", "42")), 200);
        assert_eq!(status(&mesh, &old.token_of("7", "42")), 200);
    }
    assert_eq!(provider.asked("/keys"), 2);
    // Signed by nobody known, under a name nobody has: not a word about it until the provider was
    // asked again.
    let stranger = Signer::es256("stranger").token_of("7", "42");
    let first = mesh.get("/echo/x").token(&stranger).send();
    first.assert_refusal(503, "keys_unavailable", "gateway");
    assert!(first.header("retry-after").is_some(), "{first:?}");
    eventually("the provider has denied the key", || {
        (status(&mesh, &stranger) == 401).then_some(())
    });
    assert_eq!(provider.asked("/keys"), 3);
}

#[test]
fn a_provider_is_found_by_its_metadata_and_its_trouble_is_its_own() {
    let provider = Provider::start();
    let (theirs, ours) = (Signer::es256("theirs"), Signer::es256("ours"));
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"issuers": [
        {"oidc-issuer": provider.url("/realm"), "audience": AUDIENCE, "tenants": [42],
         "issuer-ca": file(dir.path(), "ca.pem", provider.root_pem())},
        {"issuer": ISSUER, "audience": AUDIENCE, "tenants": "*",
         "jwks": file(dir.path(), "jwks.json", &jwks(&[&ours]))},
    ]});
    let config = file(dir.path(), "gapura.json", &config.to_string());
    let mesh = TestMesh::new()
        .without_keys()
        .gateway_flag("--config", &config)
        .start();
    let by_provider = claims_with(&json!({"iss": provider.url("/realm"), "company_id": 42}));
    let by_provider = theirs.token(&by_provider);
    let by_us = ours.token_of("7", "43");
    let refused = mesh.get("/echo/x").token(&by_provider).send();
    refused.assert_refusal(503, "keys_unavailable", "gateway");
    assert_eq!(status(&mesh, &by_us), 200, "the other issuer is unharmed");
    mesh.gateway.wait_for_line("the alarm", |line| {
        line["event"] == "alarm" && line["name"] == "keys"
    });
    let metadata = json!({"issuer": provider.url("/realm"), "jwks_uri": provider.url("/keys")});
    provider.serve(
        "/realm/.well-known/openid-configuration",
        Some(metadata.to_string()),
    );
    provider.serve("/keys", Some(jwks(&[&theirs])));
    eventually("the provider is well again", || {
        (status(&mesh, &by_provider) == 200).then_some(())
    });
    eventually("the alarm has ended", || {
        (mesh.metric(&mesh.gateway, r#"gapura_alarms{name="keys"}"#) == 0.0).then_some(())
    });
}

#[test]
fn no_issuer_speaks_for_anothers_companies() {
    let (a, b) = (Signer::es256("a"), Signer::es256("b"));
    let dir = tempfile::tempdir().unwrap();
    let template = "https://login.test/{company_id}/v2.0";
    let config = json!({"issuers": [
        {"issuer": ISSUER, "audience": AUDIENCE, "tenants": "*", "jwks": file(dir.path(), "a.json", &jwks(&[&a]))},
        {"issuer": template, "audience": AUDIENCE, "tenants": [42, "acme"], "algorithms": ["ES256"],
         "jwks": file(dir.path(), "b.json", &jwks(&[&b]))},
    ]});
    let config = file(dir.path(), "gapura.json", &config.to_string());
    let mesh = TestMesh::new()
        .without_keys()
        .gateway_flag("--config", &config)
        .start();
    let of = |signer: &Signer, iss: &str, company: Value| {
        let token = signer.token(&claims_with(&json!({"iss": iss, "company_id": company})));
        let response = mesh.get("/echo/x").token(&token).send();
        match response.status {
            200 => "ok".to_owned(),
            _ => response.json()["errors"]["code"]
                .as_str()
                .unwrap()
                .to_owned(),
        }
    };
    assert_eq!(of(&a, ISSUER, json!("43")), "ok");
    assert_eq!(of(&b, "https://login.test/42/v2.0", json!(42)), "ok");
    assert_eq!(of(&b, "https://login.test/acme/v2.0", json!("acme")), "ok");
    let reached = mesh.plugin.seen().len();
    for (what, code) in [
        ("a company of the other", of(&a, ISSUER, json!("42"))),
        (
            "a tenant anybody opened",
            of(&b, "https://login.test/evil/v2.0", json!("42")),
        ),
        (
            "its own segment, a foreign company",
            of(&b, "https://login.test/42/v2.0", json!("acme")),
        ),
        (
            "a company of its own",
            of(&b, "https://login.test/evil/v2.0", json!("evil")),
        ),
        ("the other's name", of(&b, ISSUER, json!("43"))),
        (
            "the other's template",
            of(&a, "https://login.test/42/v2.0", json!("42")),
        ),
        ("nobody's name", of(&a, "https://evil.test", json!("43"))),
    ] {
        assert_eq!(code, "token_invalid", "{what}");
    }
    assert_eq!(mesh.plugin.seen().len(), reached);
    let counted = mesh.metric(
        &mesh.gateway,
        r#"gapura_tokens_rejected_total{reason="tenant_not_issuers"}"#,
    );
    assert!((counted - 4.0).abs() < 0.1, "{counted}");
}

#[test]
fn who_acts_for_the_user_is_told_to_the_plugin_and_not_to_the_log() {
    let mesh = TestMesh::new().start();
    let acted = |act: Value| mesh.signer.token(&claims_with(&json!({ "act": act })));
    let seen = mesh
        .get("/echo/x")
        .token(&acted(
            json!({"sub": "support-9", "act": {"sub": "earlier"}}),
        ))
        .header("X-Actor-Id", "spoof")
        .seen_by_plugin();
    assert_eq!(seen.header("x-actor-id"), Some("support-9"));
    assert_eq!(seen.header("x-user-id"), Some("7"));
    let plain = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("X-Actor-Id", "spoof")
        .seen_by_plugin();
    assert_eq!(plain.all("x-actor-id"), [""; 0]);
    for bad in [
        json!({}),
        json!({"sub": ""}),
        json!("x"),
        json!({"act": {"sub": "a"}}),
    ] {
        let response = mesh.get("/echo/x").token(&acted(bad)).send();
        response.assert_refusal(401, "token_invalid", "gateway");
    }
    for program in [&mesh.gateway, &mesh.sidecar] {
        let id = seen.header("x-request-id").unwrap();
        let line = program.wait_for_line("the request", |line| {
            line["event"] == "request" && line["request_id"] == id
        });
        assert_eq!(line["actor"], json!(true), "{line}");
        assert!(!program.log_text().contains("support-9"));
    }
}

#[test]
fn who_acted_for_whom_is_named_where_the_operator_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "gapura.json", r#"{"log-actors": true}"#);
    let mesh = TestMesh::new().gateway_flag("--config", &config).start();
    let acted = mesh
        .signer
        .token(&claims_with(&json!({"act": {"sub": "support-9"}})));
    let seen = mesh.get("/echo/x").token(&acted).seen_by_plugin();
    let line = mesh.gateway.wait_for_event("actor");
    assert_eq!(line["actor_id"], "support-9");
    assert_eq!(line["user_id"], "7");
    assert_eq!(line["request_id"], seen.header("x-request-id").unwrap());
}

#[test]
fn a_bound_token_is_good_only_for_who_proves_its_key() {
    let clients = Authority::two_tier("clients");
    let [alice, bob] = [0, 1].map(|_| clients.issue(&Leaf::gateway("client")));
    let stranger = Authority::two_tier("strangers").issue(&Leaf::gateway("client"));
    let dir = tempfile::tempdir().unwrap();
    let ca = file(dir.path(), "clients.pem", &clients.root_pem());
    let crl = file(dir.path(), "clients.crl", &clients.crl(&[]));
    let mesh = TestMesh::new()
        .gateway_flag("--client-ca", &ca)
        .gateway_flag("--client-crl", &crl)
        .start();
    let root = fs::read_to_string(mesh.public_root_file()).unwrap();
    let connect = |own: &Certificate| {
        let tls = Tls::showing(&root, "localhost", &["http/1.1"], own);
        Wire::tls(mesh.public(), &tls).unwrap()
    };
    let thumbprint = |own: &Certificate| {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &own.chain_der()[0]))
    };
    let bound = |cnf: Value| mesh.signer.token(&claims_with(&json!({ "cnf": cnf })));
    let to_alice = bound(json!({"x5t#S256": thumbprint(&alice)}));
    let ask = |wire: &mut Wire, token: &str| -> Response {
        wire.get("/echo/x", &format!("Authorization: Bearer {token}\r\n"));
        wire.response()
    };
    let (mut of_alice, mut of_bob) = (connect(&alice), connect(&bob));
    for _ in 0..2 {
        assert_eq!(ask(&mut of_alice, &to_alice).status, 200);
        let by_bob = ask(&mut of_bob, &to_alice);
        by_bob.assert_refusal(401, "token_invalid", "gateway");
        let bare = mesh.get("/echo/x").token(&to_alice).send();
        bare.assert_refusal(401, "token_invalid", "gateway");
    }
    for cnf in [
        json!({}),
        json!({"jkt": "x"}),
        json!({"x5t#S256": thumbprint(&alice), "jkt": "x"}),
    ] {
        let response = ask(&mut of_alice, &bound(cnf));
        response.assert_refusal(401, "token_invalid", "gateway");
    }
    let plain = mesh.signer.token_of("7", "42");
    assert_eq!(
        ask(&mut of_bob, &plain).status,
        200,
        "a bearer token needs no certificate"
    );
    assert_eq!(mesh.get("/echo/x").token(&plain).send().status, 200);
    let tls = Tls::showing(&root, "localhost", &["http/1.1"], &stranger);
    let refused = Wire::tls(mesh.public(), &tls).is_ok_and(|mut wire| {
        wire.try_send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .is_ok()
            && wire.try_response("GET").is_ok()
    });
    assert!(!refused, "a certificate of nobody's");
    let tls = Tls::showing(&root, "localhost", &["http/1.1"], &alice);
    for _ in 0..2 {
        let mut wire = Wire::tls(mesh.public(), &tls).unwrap();
        assert_eq!(ask(&mut wire, &to_alice).status, 200);
        assert!(!wire.was_resumed(), "no handshake is skipped");
    }
    fs::write(dir.path().join("clients.crl"), clients.crl(&[&alice])).unwrap();
    assert!(
        of_alice.is_closed_within(Duration::from_secs(20)),
        "revoked"
    );
    assert_eq!(ask(&mut of_bob, &plain).status, 200);
    let closed = mesh.metric(
        &mesh.gateway,
        r#"gapura_revoked_connections_closed_total{side="client"}"#,
    );
    assert!(closed >= 1.0, "{closed}");
}

#[test]
fn a_check_fetches_and_prints_whose_keys_there_are() {
    let provider = Provider::start();
    provider.serve(
        "/keys",
        Some(jwks(&[&Signer::es256("k1"), &Signer::eddsa("k2")])),
    );
    let mesh = TestMesh::new().start();
    let ca = file(mesh.dir(), "provider.pem", provider.root_pem());
    let check = || {
        Invocation::new()
            .arg("--check")
            .flag("--plugin-dir", &mesh.plugins)
            .flag("--mesh-dir", mesh.gateway_dir.path())
            .flag("--listen", "127.0.0.1:0")
            .flag("--jwks", provider.url("/keys"))
            .flag("--issuer", ISSUER)
            .flag("--audience", AUDIENCE)
            .flag("--issuer-ca", &ca)
            .run("gapura-gateway")
    };
    let good = check();
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    for said in ["kid \"k1\": ES256", "kid \"k2\": EdDSA", ISSUER] {
        assert!(good.stdout.contains(said), "{said}: {}", good.stdout);
    }
    provider.serve("/keys", Some("<html>".to_owned()));
    let bad = check();
    assert_eq!(bad.code, Some(2), "{}", bad.stdout);
    assert!(bad.stderr.contains("not valid JSON"), "{}", bad.stderr);
}

#[test]
fn a_provider_that_misbehaves_is_503_for_its_own_issuer_alone() {
    let ours = Signer::es256("ours");
    let theirs = Signer::es256("theirs");
    let keys = jwks(&[&theirs]);
    let huge = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(300 * 1024));
    for (what, page, is_vouched_for) in [
        (
            "a page for people",
            "<!doctype html><p>Sign in".to_owned(),
            true,
        ),
        ("more than 256 KiB", huge, true),
        (
            "a certificate that nobody here vouches for",
            keys.clone(),
            false,
        ),
    ] {
        let provider = Provider::start();
        provider.serve("/keys", Some(page));
        let dir = tempfile::tempdir().unwrap();
        let stranger = Provider::start();
        let roots = if is_vouched_for { &provider } else { &stranger }.root_pem();
        let config = json!({"issuers": [
            {"issuer": "https://theirs.test", "jwks": provider.url("/keys"), "audience": AUDIENCE, "tenants": [42],
             "issuer-ca": file(dir.path(), "ca.pem", roots)},
            {"issuer": ISSUER, "audience": AUDIENCE, "tenants": "*",
             "jwks": file(dir.path(), "jwks.json", &jwks(&[&ours]))},
        ]});
        let mesh = TestMesh::new()
            .without_keys()
            .gateway_flag(
                "--config",
                &file(dir.path(), "gapura.json", &config.to_string()),
            )
            .start();
        let by_them = theirs.token(&claims_with(&json!({"iss": "https://theirs.test"})));
        let refused = mesh.get("/echo/x").token(&by_them).send();
        assert_eq!(refused.status, 503, "{what}");
        refused.assert_refusal(503, "keys_unavailable", "gateway");
        assert_eq!(status(&mesh, &ours.token_of("7", "43")), 200, "{what}");
        mesh.gateway.wait_for_line("the alarm", |line| {
            line["event"] == "alarm" && line["name"] == "keys"
        });
        if is_vouched_for {
            provider.serve("/keys", Some(keys.clone()));
            eventually("the provider is well again", || {
                (status(&mesh, &by_them) == 200).then_some(())
            });
        }
    }
}
