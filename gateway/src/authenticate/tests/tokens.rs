//! Which tokens are taken and which are refused.

use super::*;

#[test]
fn every_algorithm_of_public_keys_verifies_and_only_with_its_own_key() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    for alg in PUBLIC {
        let gate = by_jwks(&[ours.jwk(alg)]);
        let header = json!({"alg": alg, "typ": "JWT"});
        assert_eq!(
            judged(&gate, &ours.token(&header, &claims())),
            good(),
            "{alg}"
        );
        assert_eq!(
            judged(&gate, &theirs.token(&header, &claims())),
            refused(Reason::Signature),
            "{alg}"
        );
        let other = with(header, &json!({"alg": "HS256"}));
        assert_eq!(
            judged(&gate, &ours.token(&other, &claims())),
            refused(Reason::Algorithm),
            "{alg}"
        );
    }
}

#[test]
fn a_shared_secret_means_one_algorithm() {
    let all = [
        ("HS256", HmacAlgorithm::Hs256),
        ("HS384", HmacAlgorithm::Hs384),
        ("HS512", HmacAlgorithm::Hs512),
    ];
    for (own, algorithm) in all {
        let gate = load(vec![issuer(secret(SECRET, algorithm))]).unwrap();
        for (alg, _) in all {
            let token = Signers::ours().token(&json!({"alg": alg}), &claims());
            assert_eq!(
                judged(&gate, &token),
                if alg == own {
                    good()
                } else {
                    refused(Reason::Algorithm)
                },
                "{own} {alg}"
            );
        }
        let token = token_by(
            b"another secret of some length, but not the right one 0123456789",
            &json!({"alg": own}),
            &claims(),
        );
        assert_eq!(judged(&gate, &token), refused(Reason::Signature));
        let named = Signers::ours().token(&json!({"alg": own, "kid": "theirs"}), &claims());
        assert_eq!(judged(&gate, &named), good());
    }
}

#[test]
fn a_public_key_taken_for_a_secret_opens_nothing() {
    let ours = Signers::ours();
    let key = ours.jwk("RS256");
    let gate = by_jwks(&[with(key.clone(), &json!({"kid": "a"}))]);
    let der = ours.rsa_der();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der)
    );
    for guess in [
        key.to_string().as_bytes(),
        key["n"].as_str().unwrap().as_bytes(),
        &der,
        pem.as_bytes(),
        b"",
    ] {
        for alg in ["HS256", "HS384", "HS512"] {
            for header in [json!({"alg": alg}), json!({"alg": alg, "kid": "a"})] {
                assert_eq!(
                    judged(&gate, &token_by(guess, &header, &claims())),
                    refused(Reason::Algorithm)
                );
            }
        }
    }
    assert_eq!(
        judged(
            &gate,
            &ours.token(&json!({"alg": "RS256", "kid": "a"}), &claims())
        ),
        good()
    );
    // The other way round: signed with a key pair, where a secret is configured.
    assert_eq!(
        judged(
            &by_secret(),
            &ours.token(&json!({"alg": "RS256"}), &claims())
        ),
        refused(Reason::Algorithm)
    );
}

#[test]
fn none_is_no_algorithm() {
    for gate in [by_secret(), by_jwks(&[Signers::ours().jwk("RS256")])] {
        for alg in ["none", "None", "NONE", "nOnE"] {
            let unsigned = format!(
                "{}.{}.",
                encode(json!({ "alg": alg }).to_string()),
                encode(claims().to_string())
            );
            assert_eq!(
                judged(&gate, &unsigned),
                refused(Reason::Algorithm),
                "{alg}"
            );
        }
        let stripped = format!(
            "{}.{}.",
            encode(r#"{"alg":"HS256"}"#),
            encode(claims().to_string())
        );
        assert!(judged(&gate, &stripped).is_err());
    }
}

#[test]
fn a_key_in_the_token_is_not_believed() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let gate = by_jwks(&[ours.jwk("ES256")]);
    let header = json!({"alg": "ES256", "jwk": theirs.jwk("ES256"), "jku": "https://evil/jwks", "x5u": "https://evil/x", "x5c": ["AA"]});
    assert_eq!(
        judged(&gate, &theirs.token(&header, &claims())),
        refused(Reason::Signature)
    );
    assert_eq!(judged(&gate, &ours.token(&header, &claims())), good());
}

#[test]
fn the_tokens_issuer_picks_its_entry_and_no_other() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let folder = Folder::new();
    let entry = |name: &str, audience: &[&str], keys| IssuerSettings {
        issuer: Some(name.parse().unwrap()),
        audience: audience.iter().map(|text| (*text).to_owned()).collect(),
        tenants: only(&["4"]),
        ..issuer(keys)
    };
    let gate = load(vec![
        entry(
            "a",
            &[],
            KeySource::JwksFile(folder.write("a", jwks(&[ours.jwk("ES256")]))),
        ),
        entry(
            "b",
            &["api"],
            KeySource::JwksFile(folder.write("b", jwks(&[theirs.jwk("ES256")]))),
        ),
        entry("c", &[], secret(SECRET, HmacAlgorithm::Hs256)),
    ])
    .unwrap();
    let by = |signers: &Signers, alg: &str, changes: Value| {
        judged(
            &gate,
            &signers.token(&json!({ "alg": alg }), &with(claims(), &changes)),
        )
    };
    assert_eq!(by(ours, "ES256", json!({"iss": "a"})), good());
    assert_eq!(
        by(theirs, "ES256", json!({"iss": "b", "aud": "api"})),
        good()
    );
    assert_eq!(by(ours, "HS256", json!({"iss": "c"})), good());
    assert_eq!(
        by(theirs, "ES256", json!({"iss": "b"})),
        refused(Reason::Audience)
    );
    assert_eq!(
        by(ours, "ES256", json!({"iss": "b", "aud": "api"})),
        refused(Reason::Signature)
    );
    assert_eq!(
        by(ours, "HS256", json!({"iss": "a"})),
        refused(Reason::Algorithm)
    );
    for iss in [
        json!({}),
        json!({"iss": "d"}),
        json!({"iss": ["a"]}),
        json!({"iss": null}),
    ] {
        assert_eq!(by(ours, "ES256", iss), refused(Reason::Issuer));
    }
    let twice = ours.token_of_text("ES256", r#"{"alg":"ES256"}"#, r#"{"iss":"a","iss":"b"}"#);
    assert_eq!(judged(&gate, &twice), refused(Reason::DuplicateName));
}

#[test]
fn without_keys_it_is_our_fault_but_a_missing_token_is_not() {
    let gate = load(vec![]).unwrap();
    let token = Signers::ours().token(&json!({"alg": "HS256"}), &claims());
    assert_eq!(judged(&gate, &token), Err(Error::KeysUnavailable));
    assert_eq!(
        gate.verify_offline(AuthMode::ForwardJwt, &HeaderMap::new(), NOW)
            .unwrap_err(),
        Error::TokenMissing
    );
}

#[test]
fn the_route_says_what_is_asked_of_a_token() {
    let gate = by_secret();
    let (none, wrong) = (HeaderMap::new(), headers("not-a-token"));
    let right = headers(&Signers::ours().token(&json!({"alg": "HS256"}), &claims()));
    for mode in [AuthMode::GatewayVerified, AuthMode::ForwardJwt] {
        assert_eq!(
            gate.verify_offline(mode, &none, NOW).unwrap_err(),
            Error::TokenMissing
        );
        assert_eq!(
            gate.verify_offline(mode, &wrong, NOW).unwrap_err(),
            Reason::Malformed.into()
        );
        assert!(matches!(
            gate.verify_offline(mode, &right, NOW),
            Ok(Caller::Verified(_))
        ));
    }
    assert_eq!(
        gate.verify_offline(AuthMode::ForwardUnverified, &none, NOW)
            .unwrap_err(),
        Error::TokenMissing
    );
    for unread in [&wrong, &right] {
        assert!(matches!(
            gate.verify_offline(AuthMode::ForwardUnverified, unread, NOW),
            Ok(Caller::Unverified)
        ));
    }
    for unseen in [&none, &wrong, &right] {
        assert!(matches!(
            gate.verify_offline(AuthMode::Public, unseen, NOW),
            Ok(Caller::Public)
        ));
    }
}

#[test]
fn a_claim_named_twice_is_refused_though_it_is_signed() {
    let gate = by_secret();
    let token = |claims: &str| Signers::ours().token_of_text("HS256", r#"{"alg":"HS256"}"#, claims);
    let rest = format!(r#""exp":{},"user_id":7"#, NOW + 60);
    assert_eq!(
        judged(&gate, &token(&format!(r#"{{{rest},"company_id":4}}"#))),
        good()
    );
    for twice in [
        r#""company_id":4,"company_id":5"#,
        r#""company_id":4,"company\u005fid":4"#,
        r#""company_id":4,"a":[{"b":1,"b":1}]"#,
    ] {
        assert_eq!(
            judged(&gate, &token(&format!("{{{rest},{twice}}}"))),
            refused(Reason::DuplicateName),
            "{twice}"
        );
    }
    for other in ["", "[]", "null", "\"x\"", "{", "{}x", "{\"exp\":1e999}"] {
        assert_eq!(
            judged(&gate, &token(other)),
            refused(Reason::Malformed),
            "{other}"
        );
    }
}

#[test]
fn a_remembered_token_expires_on_time() {
    let gate = by_secret();
    let token = Signers::ours().token(
        &json!({"alg": "HS256"}),
        &with(claims(), &json!({"nbf": NOW - 10})),
    );
    assert_eq!(judged_at(&gate, &token, NOW), good());
    assert_eq!(judged_at(&gate, &token, NOW + 89), good());
    for now in [NOW + 90, NOW + 91, u64::MAX] {
        assert_eq!(judged_at(&gate, &token, now), Err(Error::TokenExpired));
    }
    assert_eq!(
        judged_at(&gate, &token, NOW - 41),
        refused(Reason::NotYetValid)
    );
    assert_eq!(judged_at(&gate, &token, NOW - 40), good());
}

#[test]
fn only_a_token_that_is_good_throughout_is_remembered() {
    let gate = by_secret();
    let header = json!({"alg": "HS256"});
    let good_one = Signers::ours().token(&header, &claims());
    let bad_ones = [
        Signers::ours().token(&header, &with(claims(), &json!({"company_id": null}))),
        Signers::ours().token(&header, &with(claims(), &json!({"exp": 1}))),
        token_by(b"wrong", &header, &claims()),
    ];
    let remembered = |token: &str| gate.cache.borrow_mut().get(token.as_bytes()).is_some();
    for bad in bad_ones {
        assert!(judged(&gate, &bad).is_err());
        assert!(!remembered(&bad));
    }
    assert_eq!(judged(&gate, &good_one), good());
    assert!(remembered(&good_one));
    let both = [
        gate.verify_offline(AuthMode::ForwardJwt, &headers(&good_one), NOW),
        gate.verify_offline(AuthMode::GatewayVerified, &headers(&good_one), NOW),
    ];
    assert!(
        matches!(both, [Ok(Caller::Verified(a)), Ok(Caller::Verified(b))] if Rc::ptr_eq(&a, &b))
    );
}

/// The examples of RFC 7515, appendix A, were signed for a service without our claims: they come as
/// far as the rules.
#[test]
fn the_examples_of_the_rfcs_verify() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret_of_a1 = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    )
    .unwrap();
    let a1 = load(vec![issuer(secret(&secret_of_a1, HmacAlgorithm::Hs256))]).unwrap();
    let a2 = by_jwks(&[
        json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}),
    ]);
    let a3 = by_jwks(&[
        json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
    ]);
    let ed = by_jwks(&[
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
    ]);
    for (gate, header, signature) in [
        (
            &a1,
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            &a2,
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            &a3,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let token = format!("{header}.{payload}.{signature}");
        assert_eq!(
            judged_at(gate, &token, 1_300_819_380),
            refused(Reason::User),
            "{header}"
        );
        assert_eq!(
            judged_at(gate, &token, 1_300_819_380 + 30),
            Err(Error::TokenExpired),
            "{header}"
        );
        let forged = format!(
            "{header}.{}.{signature}",
            payload.replace("JqUi", "JqVi").replace("joe", "jane") + "AA"
        );
        assert_eq!(
            judged_at(gate, &forged, 1_300_819_380),
            refused(Reason::Signature),
            "{header}"
        );
    }
    // RFC 8037, appendix A.4; its payload is a sentence.
    let a4 = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(judged(&ed, a4), refused(Reason::Malformed));
    assert_eq!(
        judged(&ed, &a4.replace("hgyY", "hgyZ")),
        refused(Reason::Signature)
    );
}

/// Tokens of a library that nobody here wrote.
#[test]
fn tokens_of_another_maker_verify() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("any".into());
    let token = encode(&header, &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(judged(&by_secret(), &token), good());
    let thumbed = with(
        Signers::ours().jwk("RS256"),
        &json!({"kid": thumb(&Signers::ours().jwk("RS256"))}),
    );
    assert_eq!(
        judged(&by_jwks(&[thumbed]), &token),
        refused(Reason::UnknownKid)
    );
}

#[test]
fn two_issuers_never_speak_for_each_others_companies() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let folder = Folder::new();
    let entry = |name: &str, signers: &Signers, tenants| IssuerSettings {
        issuer: Some(name.parse().unwrap()),
        tenants,
        ..issuer(KeySource::JwksFile(
            folder.write(name, jwks(&[signers.jwk("ES256")])),
        ))
    };
    let gate = load(vec![
        entry("a", ours, only(&["4", "5"])),
        entry("b", theirs, Tenants::Rest),
    ])
    .unwrap();
    let by = |signers: &Signers, iss: &str, company: &str| {
        let claims = with(claims(), &json!({"iss": iss, "company_id": company}));
        judged(&gate, &signers.token(&json!({"alg": "ES256"}), &claims))
    };
    for (signers, iss, company, wanted) in [
        (ours, "a", "4", good()),
        (ours, "a", "5", good()),
        (ours, "a", "6", refused(Reason::TenantNotIssuers)),
        (theirs, "b", "6", good()),
        (theirs, "b", "4", refused(Reason::TenantNotIssuers)),
        (theirs, "a", "4", refused(Reason::Signature)),
        (ours, "b", "6", refused(Reason::Signature)),
    ] {
        assert_eq!(by(signers, iss, company), wanted, "{iss} {company}");
    }
}

#[test]
fn an_issuer_may_take_fewer_algorithms_than_its_keys() {
    let folder = Folder::new();
    let path = folder.write("k", jwks(&[Signers::ours().jwk("RS256")]));
    let gate = load(vec![IssuerSettings {
        algorithms: Some(vec![Algorithm::Ps256]),
        ..issuer(KeySource::JwksFile(path))
    }])
    .unwrap();
    let by = |alg: &str| {
        judged(
            &gate,
            &Signers::ours().token(&json!({ "alg": alg }), &claims()),
        )
    };
    assert_eq!(by("PS256"), good());
    for other in ["RS256", "PS384", "ES256"] {
        assert_eq!(by(other), refused(Reason::Algorithm), "{other}");
    }
}

#[test]
fn a_remembered_bound_token_needs_its_key_on_every_connection() {
    let gate = by_secret();
    let bound = with(claims(), &json!({"cnf": {"x5t#S256": encode([7; 32])}}));
    let token = headers(&Signers::ours().token(&json!({"alg": "HS256"}), &bound));
    let over = |certificate: Option<&Thumbprint>| {
        gate.judge(AuthMode::GatewayVerified, &token, certificate, NOW)
            .is_ok()
    };
    for _ in 0..2 {
        assert!(!over(None));
        assert!(!over(Some(&[8; 32])));
        assert!(over(Some(&[7; 32])));
    }
}

#[test]
fn each_issuer_may_name_its_own_claims() {
    let own = ClaimNames {
        tenant: "/org/id".parse().unwrap(),
        ..ClaimNames::default()
    };
    let gate = load(vec![IssuerSettings {
        claims: Some(own),
        ..issuer(secret(SECRET, HmacAlgorithm::Hs256))
    }])
    .unwrap();
    let by = |changes: Value| {
        let token = Signers::ours().token(&json!({"alg": "HS256"}), &with(claims(), &changes));
        judged(&gate, &token)
    };
    assert_eq!(by(json!({"org": {"id": 9}})), good());
    assert_eq!(by(json!({})), Err(Error::TenantMissing));
}
