//! What a set of keys may hold, and which of its keys a token meets.

use super::*;

#[test]
fn kid_chooses_among_the_configured_keys_only() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let gate = by_jwks(&[
        with(ours.jwk("ES256"), &json!({"kid": "a"})),
        with(theirs.jwk("ES256"), &json!({"kid": "b"})),
        with(ours.jwk("RS256"), &json!({"kid": "c"})),
    ]);
    let by = |signers: &Signers, header: Value| judged(&gate, &signers.token(&header, &claims()));
    assert_eq!(by(ours, json!({"alg": "ES256", "kid": "a"})), good());
    assert_eq!(by(theirs, json!({"alg": "ES256", "kid": "b"})), good());
    assert_eq!(
        by(ours, json!({"alg": "ES256", "kid": "b"})),
        refused(Reason::Signature)
    );
    assert_eq!(
        by(ours, json!({"alg": "ES256", "kid": "c"})),
        refused(Reason::Algorithm)
    );
    assert_eq!(
        by(ours, json!({"alg": "ES256"})),
        refused(Reason::AmbiguousKey)
    );
    assert_eq!(by(ours, json!({"alg": "RS256"})), good());
    assert_eq!(
        by(ours, json!({"alg": "EdDSA"})),
        refused(Reason::Algorithm)
    );
    for kid in [
        "",
        "A",
        "a ",
        "../../dev/null",
        "' OR 1=1 --",
        "http://evil/",
        "a\u{0}",
        &"k".repeat(10_000)[..4_000],
    ] {
        assert_eq!(
            by(ours, json!({"alg": "ES256", "kid": kid})),
            refused(Reason::UnknownKid),
            "{kid}"
        );
    }
}

#[test]
fn a_key_narrows_what_it_is_for() {
    let ours = Signers::ours();
    let narrowed = by_jwks(&[with(
        ours.jwk("RS256"),
        &json!({"alg": "PS384", "use": "sig", "key_ops": ["verify"]}),
    )]);
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token = ours.token(&json!({"alg": alg}), &claims());
        assert_eq!(
            judged(&narrowed, &token),
            if alg == "PS384" {
                good()
            } else {
                refused(Reason::Algorithm)
            },
            "{alg}"
        );
    }
    for change in [
        json!({"use": "enc"}),
        json!({"use": "SIG"}),
        json!({"use": 1}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": []}),
        json!({"key_ops": "verify"}),
        json!({"alg": "RSA-OAEP"}),
        json!({"alg": "ES256"}),
        json!({"alg": "HS256"}),
        json!({"alg": 1}),
        json!({"kid": 1}),
        json!({"kty": "rsa"}),
        json!({"kty": 1}),
        json!({"n": "AQAB"}),
        json!({"n": 1}),
        json!({"e": "AQ"}),
        json!({"e": "Ag"}),
        json!({"e": ""}),
        json!({"e": "AQAB="}),
        json!({"e": "AQAAAAAB"}),
        json!({"n": encode([0x80; 256])}),
        json!({"n": encode([0xff; 1025])}),
    ] {
        let spoiled = with(ours.jwk("RS256"), &change);
        assert!(
            load_jwks(&jwks(std::slice::from_ref(&spoiled))).is_err(),
            "{change}"
        );
        let beside = by_jwks(&[spoiled, ours.jwk("ES256")]);
        assert_eq!(
            judged(&beside, &ours.token(&json!({"alg": "ES256"}), &claims())),
            good(),
            "{change}"
        );
        assert_eq!(
            judged(&beside, &ours.token(&json!({"alg": "RS256"}), &claims())),
            refused(Reason::Algorithm),
            "{change}"
        );
    }
}

#[test]
fn an_rsa_key_is_measured_in_bits() {
    // 2047 bits in 256 bytes, and 2048 behind a zero octet.
    let n = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        Signers::ours().jwk("RS256")["n"].as_str().unwrap(),
    )
    .unwrap();
    let mut short = n.clone();
    short[0] = 0x7f;
    let problem = load_jwks(&jwks(&[with(
        Signers::ours().jwk("RS256"),
        &json!({"n": encode(&short)}),
    )]))
    .err()
    .unwrap();
    assert!(problem[0].contains("2047 bits"), "{problem:?}");
    let even = [&n[..255], &[n[255] & 0xfe]].concat();
    let problem = load_jwks(&jwks(&[with(
        Signers::ours().jwk("RS256"),
        &json!({"n": encode(&even)}),
    )]))
    .err()
    .unwrap();
    assert!(problem[0].contains("is even"), "{problem:?}");
    let padded = with(
        Signers::ours().jwk("RS256"),
        &json!({"n": encode([vec![0], n].concat())}),
    );
    assert_eq!(
        judged(
            &by_jwks(&[padded]),
            &Signers::ours().token(&json!({"alg": "RS256"}), &claims())
        ),
        good()
    );
}

#[test]
fn points_have_the_length_and_curve_of_their_key() {
    let ours = Signers::ours();
    let key = ours.jwk("ES256");
    for change in [
        json!({"crv": "P-384"}),
        json!({"crv": "secp256k1"}),
        json!({"crv": "P-521"}),
        json!({"crv": null}),
        json!({"x": encode([1; 31])}),
        json!({"x": encode([1; 33])}),
        json!({"y": encode([1; 32])}),
        json!({"y": null}),
        json!({"x": format!("{}=", key["x"].as_str().unwrap())}),
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
    ] {
        assert!(
            load_jwks(&jwks(&[with(key.clone(), &change)])).is_err(),
            "{change}"
        );
    }
    for change in [
        json!({"crv": "X25519"}),
        json!({"crv": "Ed448"}),
        json!({"x": encode([1; 31])}),
        json!({"x": encode([1; 33])}),
        json!({"alg": "ES256"}),
    ] {
        assert!(
            load_jwks(&jwks(&[with(ours.jwk("EdDSA"), &change)])).is_err(),
            "{change}"
        );
    }
    // Points for which anybody who knows them can sign: of order one, two and four, and one in a
    // second spelling.
    let edge = |first: u8, between: u8, last: u8| {
        let mut point = [between; 32];
        (point[0], point[31]) = (first, last);
        point
    };
    for point in [
        edge(1, 0, 0),
        edge(1, 0, 0x80),
        edge(0xec, 0xff, 0x7f),
        edge(0, 0, 0),
        edge(0xee, 0xff, 0x7f),
    ] {
        let change = json!({"x": encode(point)});
        let faults = load_jwks(&jwks(&[with(ours.jwk("EdDSA"), &change)])).err();
        let faults = faults.unwrap();
        assert!(faults[0].contains("small order"), "{faults:?}");
    }
    let short = load_jwks(&jwks(&[with(
        key.clone(),
        &json!({"x": encode([1; 31]), "y": encode([1; 33])}),
    )]))
    .err()
    .unwrap();
    assert!(short[0].contains("not 32 bytes each"), "{short:?}");
    assert!(
        load_jwks(&jwks(&[
            with(key, &json!({"alg": "ES256"})),
            with(ours.jwk("EdDSA"), &json!({"alg": "EdDSA", "y": "ignored"}))
        ]))
        .is_ok()
    );
}

#[test]
fn a_secret_in_a_set_verifies_nothing_and_is_named() {
    let oct = json!({"kty": "oct", "k": encode(SECRET), "kid": "shh", "alg": "HS256"});
    let problems = load_jwks(&jwks(std::slice::from_ref(&oct))).err().unwrap();
    assert!(
        problems[0].contains("key 1 (kid \"shh\")") && problems[0].contains("oct"),
        "{problems:?}"
    );
    let text = jwks(&[Signers::ours().jwk("RS256"), oct]);
    assert!(
        warnings_of(&text)
            .iter()
            .any(|warning| warning.contains("key 2 (kid \"shh\") is not used")),
        "{:?}",
        warnings_of(&text)
    );
    let gate = load_jwks(&text).unwrap();
    assert_eq!(
        judged(
            &gate,
            &Signers::ours().token(&json!({"alg": "HS256"}), &claims())
        ),
        refused(Reason::Algorithm)
    );
    assert_eq!(
        judged(
            &gate,
            &Signers::ours().token(&json!({"alg": "HS256", "kid": "shh"}), &claims())
        ),
        refused(Reason::UnknownKid)
    );
    assert_eq!(
        judged(
            &gate,
            &Signers::ours().token(&json!({"alg": "RS256"}), &claims())
        ),
        good()
    );
}

#[test]
fn a_set_that_is_none_is_refused_with_a_sentence() {
    let key = Signers::ours().jwk("ES256").to_string();
    for (text, says) in [
        (String::new(), "not valid JSON"),
        ("[]".to_owned(), "has no list `keys`"),
        (key.clone(), "put the key into a set"),
        (r#"{"keys":{}}"#.to_owned(), "has no list `keys`"),
        (r#"{"keys":[]}"#.to_owned(), "holds no key"),
        (r#"{"keys":[{"kty":"AKP"}]}"#.to_owned(), "holds no key"),
        (r#"{"keys":[1]}"#.to_owned(), "it has no `kty`"),
        (format!(r#"{{"keys":[],"keys":[{key}]}}"#), "named twice"),
        (
            r#"{"keys":[{"kty":"EC","kty":"RSA"}]}"#.to_owned(),
            "named twice, at line 1 column",
        ),
    ] {
        let problems = load_jwks(&text).err().unwrap();
        assert!(
            problems.len() == 1
                && problems[0].contains("the JWKS file ")
                && problems[0].contains(says),
            "{text}: {problems:?}"
        );
    }
}

#[test]
fn two_keys_no_token_can_tell_apart_are_refused() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let named = |signers: &Signers, alg| with(signers.jwk(alg), &json!({"kid": "a"}));
    for pair in [
        [ours.jwk("ES256"), theirs.jwk("ES256")],
        [named(ours, "RS256"), named(theirs, "RS256")],
    ] {
        assert!(load_jwks(&jwks(&pair)).err().unwrap()[0].contains("is ambiguous: key 2"));
    }
    // The same key twice is no question, nor is one kid for keys of two kinds (RFC 7517, section
    // 4.5).
    let gate = by_jwks(&[
        named(ours, "ES256"),
        named(ours, "ES256"),
        named(ours, "RS256"),
    ]);
    for alg in ["ES256", "RS256"] {
        assert_eq!(
            judged(
                &gate,
                &ours.token(&json!({"alg": alg, "kid": "a"}), &claims())
            ),
            good()
        );
    }
}
