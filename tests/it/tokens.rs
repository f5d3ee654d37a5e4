//! A good token, and all the others, as a client meets them. The rules one by one are tested beside
//! the code.

use gapura_tests::mesh::TestMesh;
use gapura_tests::program::Invocation;
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, claims_with, jwks, unix_now};
use serde_json::{Value, json};

#[test]
fn without_a_bearer_token_nothing_reaches_the_plugin() {
    let mesh = TestMesh::new().start();
    let token = mesh.signer.token_of("7", "42");
    for (what, response) in [
        ("none", mesh.get("/echo/x").send()),
        (
            "another scheme",
            mesh.get("/echo/x")
                .header("Authorization", "Basic dXNlcjpwYXNz")
                .send(),
        ),
        (
            "in the query",
            mesh.get(&format!("/echo/x?access_token={token}")).send(),
        ),
        (
            "in a cookie",
            mesh.get("/echo/x")
                .header("Cookie", &format!("access_token={token}"))
                .send(),
        ),
        (
            "in another header",
            mesh.get("/echo/x")
                .header("X-Authorization", &format!("Bearer {token}"))
                .send(),
        ),
    ] {
        assert_eq!(response.status, 401, "{what}");
        response.assert_refusal(401, "token_missing", "gateway");
        assert!(
            response
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Bearer")),
            "{what}: {response:?}"
        );
    }
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn the_scheme_may_be_written_in_any_case() {
    let mesh = TestMesh::new().start();
    let token = mesh.signer.token_of("7", "42");
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(
            mesh.get("/echo/x")
                .header("Authorization", &format!("{scheme} {token}"))
                .send()
                .status,
            200,
            "{scheme}"
        );
    }
}

#[test]
fn a_bad_token_is_refused_and_its_good_twin_is_not() {
    let mesh = TestMesh::new().start();
    let signer = &mesh.signer;
    let header = signer.header().to_string();
    let good = claims_with(&json!({})).to_string();
    let claims = |changes: Value| signer.token(&claims_with(&changes));
    let with_header = |changes: Value| {
        let mut header = signer.header();
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        signer.sign(&header.to_string(), &good)
    };
    assert_eq!(
        mesh.get("/echo/x")
            .token(&signer.sign(&header, &good))
            .send()
            .status,
        200
    );
    assert_eq!(
        mesh.get("/echo/x")
            .token(&with_header(
                json!({"typ": "at+jwt", "jku": "https://evil/keys"})
            ))
            .send()
            .status,
        200
    );

    let cut = signer.sign(&header, &good);
    let unsigned = {
        let parts: Vec<&str> = cut.split('.').collect();
        format!("{}.{}.", parts[0], parts[1])
    };
    let tampered = {
        let other = signer.sign(
            &header,
            &claims_with(&json!({"company_id": "43"})).to_string(),
        );
        let (mine, theirs): (Vec<&str>, Vec<&str>) =
            (cut.split('.').collect(), other.split('.').collect());
        format!("{}.{}.{}", mine[0], theirs[1], mine[2])
    };
    let now = unix_now();
    for (what, token, code) in [
        ("not a token", "nonsense".to_owned(), "token_invalid"),
        ("without its signature", unsigned, "token_invalid"),
        ("with other claims", tampered, "token_invalid"),
        (
            "of another key",
            Signer::es256("test-key").token_of("7", "42"),
            "token_invalid",
        ),
        (
            "of another key's name",
            with_header(json!({"kid": "other"})),
            "token_invalid",
        ),
        (
            "alg none",
            with_header(json!({"alg": "none"})),
            "token_invalid",
        ),
        (
            "alg HS256 with the public key as the secret",
            {
                let secret = mesh.signer.jwk().to_string();
                Signer::hs256(secret.as_bytes()).token_of("7", "42")
            },
            "token_invalid",
        ),
        (
            "crit",
            with_header(json!({"crit": ["exp"]})),
            "token_invalid",
        ),
        (
            "another typ",
            with_header(json!({"typ": "dpop+jwt"})),
            "token_invalid",
        ),
        (
            "a claim twice",
            signer.sign(&header, &good.replacen('{', "{\"company_id\":\"9\",", 1)),
            "token_invalid",
        ),
        ("without exp", claims(json!({"exp": null})), "token_invalid"),
        (
            "exp as text",
            claims(json!({"exp": "never"})),
            "token_invalid",
        ),
        (
            "expired",
            claims(json!({"exp": now - 100})),
            "token_expired",
        ),
        (
            "of tomorrow",
            claims(json!({"nbf": now + 86_400})),
            "token_invalid",
        ),
        ("without iss", claims(json!({"iss": null})), "token_invalid"),
        (
            "another iss",
            claims(json!({"iss": "https://evil.test"})),
            "token_invalid",
        ),
        ("without aud", claims(json!({"aud": null})), "token_invalid"),
        (
            "another aud",
            claims(json!({"aud": ["others"]})),
            "token_invalid",
        ),
        (
            "without a user",
            claims(json!({"user_id": null})),
            "token_invalid",
        ),
        (
            "a user of two lines",
            claims(json!({"user_id": "7\r\nX-Role: admin"})),
            "token_invalid",
        ),
        (
            "a role of two lines",
            claims(json!({"role": "a\r\nX-User-Id: 1"})),
            "token_invalid",
        ),
        (
            "a company of two lines",
            claims(json!({"company_id": "42\r\nX-Role: admin"})),
            "token_invalid",
        ),
        (
            "a company that is a list",
            claims(json!({"company_id": ["42"]})),
            "token_invalid",
        ),
        (
            "a company with a comma",
            claims(json!({"company_id": "42,43"})),
            "token_invalid",
        ),
        (
            "a negative company",
            claims(json!({"company_id": -42})),
            "token_invalid",
        ),
        (
            "a fraction of a company",
            claims(json!({"company_id": 4.2})),
            "token_invalid",
        ),
        (
            "longer than 8 KiB",
            claims(json!({"padding": "a".repeat(8 * 1024)})),
            "token_invalid",
        ),
    ] {
        let response = mesh.get("/echo/x").token(&token).send();
        assert_eq!(
            response.status,
            401,
            "{what}: {response:?} {}",
            response.text()
        );
        assert_eq!(response.json()["errors"]["code"], code, "{what}");
        assert!(
            response
                .header("www-authenticate")
                .is_some_and(|value| value.contains("invalid_token")),
            "{what}: {response:?}"
        );
    }
    assert_eq!(mesh.plugin.seen().len(), 2);
}

#[test]
fn a_key_that_a_token_brings_along_or_names_by_a_path_counts_for_nothing() {
    let mesh = TestMesh::new().start();
    let good = claims_with(&json!({})).to_string();
    let stranger = Signer::es256("test-key");
    let mut jwk = stranger.jwk();
    jwk["kid"] = json!("brought");
    let secret = Signer::hs256(b"a-secret-of-forty-bytes-for-tests-only-0");
    let path = mesh.dir().join("secret-of-the-path");
    std::fs::write(&path, "a-secret-of-forty-bytes-for-tests-only-0").unwrap();
    for (what, signer, changes) in [
        ("jwk", &stranger, json!({"jwk": jwk})),
        (
            "jwk and its kid",
            &stranger,
            json!({"jwk": jwk, "kid": "brought"}),
        ),
        ("jku", &stranger, json!({"jku": "https://127.0.0.1:1/keys"})),
        ("x5u", &stranger, json!({"x5u": "https://127.0.0.1:1/cert"})),
        ("x5c", &stranger, json!({"x5c": ["MIIB"]})),
        (
            "a path",
            &secret,
            json!({"kid": path.display().to_string()}),
        ),
        (
            "a path upwards",
            &secret,
            json!({"kid": format!("../../../../..{}", path.display())}),
        ),
        ("a query", &secret, json!({"kid": "x' OR '1'='1"})),
        ("2 KiB", &secret, json!({"kid": "k".repeat(2048)})),
    ] {
        let mut header = signer.header();
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        mesh.get("/echo/x")
            .token(&signer.sign(&header.to_string(), &good))
            .send()
            .assert_refusal(401, "token_invalid", "gateway");
        // The same in the header of a token by the right key changes nothing, but for the name of
        // its key.
        let mut header = mesh.signer.header();
        for (name, value) in changes
            .as_object()
            .unwrap()
            .iter()
            .filter(|(n, _)| *n != "kid")
        {
            header[name] = value.clone();
        }
        let twin = mesh.signer.sign(&header.to_string(), &good);
        assert_eq!(
            mesh.get("/echo/x").token(&twin).send().status,
            200,
            "{what}"
        );
    }
    assert_eq!(mesh.plugin.seen().len(), 9);
}

#[test]
fn no_company_is_not_a_bad_token_and_still_reaches_nothing() {
    let mesh = TestMesh::new()
        .also("passed", json!({"auth_mode": "forward_jwt"}))
        .start();
    for company in [Value::Null, json!(""), json!(0)] {
        let mut claims = claims_with(&json!({}));
        if company.is_null() {
            claims.as_object_mut().unwrap().remove("company_id");
        } else {
            claims["company_id"] = company.clone();
        }
        for path in ["/echo/x", "/passed/x"] {
            mesh.get(path)
                .token(&mesh.signer.token(&claims))
                .header("X-Company-Id", "42")
                .send()
                .assert_refusal(403, "tenant_missing", "gateway");
        }
    }
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn claims_arrive_as_they_were_written() {
    let mesh = TestMesh::new().start();
    for (changes, user, company, role) in [
        (
            json!({"company_id": 42, "user_id": 7}),
            "7",
            "42",
            Some("member"),
        ),
        (
            json!({"company_id": 18_446_744_073_709_551_615_u64}),
            "7",
            "18446744073709551615",
            Some("member"),
        ),
        (
            json!({"company_id": "acme.eu:west_1"}),
            "7",
            "acme.eu:west_1",
            Some("member"),
        ),
        (
            json!({"role": ["admin", "lab manager"]}),
            "7",
            "42",
            Some("admin,lab manager"),
        ),
        (
            json!({"role": "admin,billing"}),
            "7",
            "42",
            Some("admin,billing"),
        ),
        (
            json!({"user_id": null, "sub": "auth0|5f7c"}),
            "auth0|5f7c",
            "42",
            Some("member"),
        ),
        (
            json!({"sub": "other", "user_id": "a@b.c"}),
            "a@b.c",
            "42",
            Some("member"),
        ),
        (
            json!({"aud": ["others", AUDIENCE]}),
            "7",
            "42",
            Some("member"),
        ),
    ] {
        let token = mesh.signer.token(&claims_with(&changes));
        let seen = mesh.get("/echo/x").token(&token).seen_by_plugin();
        assert_eq!(seen.header("x-user-id"), Some(user), "{changes}");
        assert_eq!(seen.header("x-company-id"), Some(company), "{changes}");
        assert_eq!(seen.header("x-role"), role, "{changes}");
    }
}

#[test]
fn each_kind_of_key_in_one_set_serves_its_own_tokens() {
    let mesh = TestMesh::new().start();
    let signers = [
        Signer::es256("ec"),
        Signer::eddsa("ed"),
        Signer::rs256("rsa"),
        Signer::ps256("pss"),
    ];
    let keys = mesh.dir().join("jwks.json");
    std::fs::write(mesh.dir().join("next.json"), jwks(&signers.each_ref())).unwrap();
    std::fs::rename(mesh.dir().join("next.json"), keys).unwrap();
    gapura_tests::eventually("the new keys are in force", || {
        (mesh
            .get("/echo/x")
            .token(&signers[0].token_of("7", "42"))
            .send()
            .status
            == 200)
            .then_some(())
    });
    for signer in &signers {
        assert_eq!(
            mesh.get("/echo/x")
                .token(&signer.token_of("7", "42"))
                .send()
                .status,
            200,
            "{}",
            signer.alg()
        );
    }
    mesh.get("/echo/x")
        .token_of("7", "42")
        .send()
        .assert_refusal(401, "token_invalid", "gateway");
}

#[test]
fn a_shared_secret_serves_tokens_of_hs256() {
    let mesh = TestMesh::new().with_secret().start();
    let seen = mesh.get("/echo/x").token_of("7", "42").seen_by_plugin();
    assert_eq!(seen.header("x-company-id"), Some("42"));
    let other = Signer::hs256(b"another-secret-of-forty-bytes-for-tests1").token_of("7", "42");
    mesh.get("/echo/x")
        .token(&other)
        .send()
        .assert_refusal(401, "token_invalid", "gateway");
}

#[test]
fn no_answer_and_no_line_tells_the_token() {
    let mesh = TestMesh::new()
        .also("passed", json!({"auth_mode": "forward_jwt"}))
        .start();
    let good = mesh.signer.token_of("7-secret-user", "42");
    let bad =
        Signer::es256("test-key").token(&json!({"iss": ISSUER, "exp": 1, "company_id": "43"}));
    for path in [
        "/echo/x?query=of-the-client",
        "/passed/x?query=of-the-client",
    ] {
        assert_eq!(mesh.get(path).token(&good).send().status, 200);
        let refusal = mesh.get(path).token(&bad).send();
        assert_eq!(refusal.status, 401);
        assert!(!format!("{refusal:?}{}", refusal.text()).contains(&bad));
    }
    for program in [&mesh.gateway, &mesh.sidecar] {
        let log = program.log_text();
        for secret in [
            good.as_str(),
            bad.as_str(),
            good.rsplit('.').next().unwrap(),
            "7-secret-user",
            "of-the-client",
        ] {
            assert!(!log.contains(secret), "{secret} stands in a log");
        }
    }
}

#[test]
fn a_token_is_explained_offline_with_everything_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::es256("k");
    let keys = dir.path().join("jwks.json");
    std::fs::write(&keys, jwks(&[&signer])).unwrap();
    let inspect = |token: &str| {
        let file = dir.path().join("token");
        std::fs::write(&file, format!("Bearer {token}\n")).unwrap();
        Invocation::new()
            .args(&["token", "inspect"])
            .arg(&file)
            .flag("--jwks", &keys)
            .flag("--issuer", ISSUER)
            .flag("--audience", AUDIENCE)
            .run("gapura")
    };
    let good = inspect(&signer.token_of("7", "42"));
    assert_eq!(good.code, Some(0), "{}{}", good.stdout, good.stderr);
    assert!(good.stdout.contains("it would be taken") && good.stdout.contains("verifies"));
    let bad =
        json!({"exp": unix_now() - 100, "aud": "others", "company_id": 0, "cnf": {"jkt": "x"}});
    let token = signer.token(&claims_with(&bad));
    let bad = inspect(&token);
    assert_eq!(bad.code, Some(1), "{}{}", bad.stdout, bad.stderr);
    for says in [
        "401 token_expired",
        "403 tenant_missing",
        "its aud is not",
        "bound to a key",
    ] {
        assert!(bad.stdout.contains(says), "{says}: {}", bad.stdout);
    }
    assert!(!bad.stdout.contains(token.rsplit('.').next().unwrap()));
    let nothing = Invocation::new()
        .args(&["token", "inspect", "/nowhere/token"])
        .run("gapura");
    assert_eq!(nothing.code, Some(1), "{}", nothing.stderr);
}
