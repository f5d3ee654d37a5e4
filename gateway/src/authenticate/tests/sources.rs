//! Where keys come from: settings, secrets, files, and files that change.

use super::*;
use crate::authenticate::keys::Reload;

/// What a look at the files comes to.
fn reread(keys: &Keys, alarms: &Alarms) -> Reload {
    keys.take(&keys.reader()().content, alarms)
}

#[test]
fn a_short_secret_is_refused_with_the_command_that_makes_a_good_one() {
    let folder = Folder::new();
    for (algorithm, least) in [
        (HmacAlgorithm::Hs256, 32),
        (HmacAlgorithm::Hs384, 48),
        (HmacAlgorithm::Hs512, 64),
    ] {
        let file = |bytes: &[u8]| {
            issuer(KeySource::SecretFile {
                path: folder.write("secret", bytes),
                algorithm,
            })
        };
        for entry in [
            issuer(secret(&SECRET[..least - 1], algorithm)),
            file(&SECRET[..least - 1]),
            file(&[&SECRET[..least - 1], b"\n"].concat()),
        ] {
            let problems = load(vec![entry]).err().unwrap();
            assert!(
                problems[0].contains("openssl rand -base64 48")
                    && problems[0].contains(&format!("at least {least}")),
                "{problems:?}"
            );
            assert!(!problems[0].contains("0123"), "{problems:?}");
        }
        for entry in [
            issuer(secret(&SECRET[..least], algorithm)),
            file(&SECRET[..least]),
            file(&[&SECRET[..least], b"\n"].concat()),
        ] {
            assert!(load(vec![entry]).is_ok());
        }
    }
}

#[test]
fn one_trailing_newline_is_not_part_of_a_secret_file() {
    let folder = Folder::new();
    let token = Signers::ours().token(&json!({"alg": "HS256"}), &claims());
    for (end, is_the_secret) in [
        ("", true),
        ("\n", true),
        ("\r\n", true),
        ("\n\n", false),
        (" \n", false),
        ("\r", false),
    ] {
        let path = folder.write("secret", [SECRET, end.as_bytes()].concat());
        let gate = load(vec![issuer(KeySource::SecretFile {
            path,
            algorithm: HmacAlgorithm::Hs256,
        })])
        .unwrap();
        assert_eq!(
            judged(&gate, &token),
            if is_the_secret {
                good()
            } else {
                refused(Reason::Signature)
            },
            "{end:?}"
        );
    }
}

#[test]
fn every_fault_of_the_settings_is_told_at_once() {
    let folder = Folder::new();
    let named = |name: &str, keys| IssuerSettings {
        issuer: Some(name.parse().unwrap()),
        audience: vec![String::new()],
        ..issuer(keys)
    };
    let problems = load(vec![
        named("a", KeySource::JwksFile(folder.0.path().join("absent"))),
        named("a", KeySource::JwksFile(folder.0.path().to_owned())),
        named("b", secret(b"short", HmacAlgorithm::Hs256)),
        issuer(KeySource::JwksFile(
            folder.write("large", vec![b' '; 1 << 21]),
        )),
    ])
    .err()
    .unwrap();
    for says in [
        "cannot be read",
        "configured twice",
        "is empty",
        "has no \"tenants\"",
        "5 bytes",
        "not a regular file",
        "has no issuer",
        "larger than 1 MiB",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(says)),
            "{says}: {problems:?}"
        );
    }
}

#[test]
fn what_is_left_open_is_warned_of() {
    let open = by_secret().keys.ring().warnings();
    assert!(
        open.len() == 2 && open[0].contains("no issuer") && open[1].contains("no audience"),
        "{open:?}"
    );
    let entry = IssuerSettings {
        issuer: Some("i".parse().unwrap()),
        audience: vec!["a".into()],
        ..issuer(secret(SECRET, HmacAlgorithm::Hs256))
    };
    assert!(load(vec![entry]).unwrap().keys.ring().warnings().is_empty());
    let private = with(Signers::ours().jwk("EdDSA"), &json!({"d": encode([1; 32])}));
    assert!(
        warnings_of(&jwks(&[private]))
            .iter()
            .any(|warning| warning.contains("private half"))
    );
}

pub(super) fn alarms() -> Alarms {
    Alarms::new(Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap())
}

#[test]
fn a_changed_file_is_taken_and_what_was_remembered_is_forgotten() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let (folder, alarms) = (Folder::new(), alarms());
    let path = folder.write("jwks.json", jwks(&[ours.jwk("ES256")]));
    let gate = load(vec![issuer(KeySource::JwksFile(path))]).unwrap();
    let keys = gate.keys.clone();
    let header = json!({"alg": "ES256"});
    let (old, new) = (
        ours.token(&header, &claims()),
        theirs.token(&header, &claims()),
    );
    assert_eq!(
        (judged(&gate, &old), judged(&gate, &new)),
        (good(), refused(Reason::Signature))
    );
    assert_eq!(reread(&keys, &alarms), Reload::Unchanged);
    let before = keys.ring().generation();
    folder.write("jwks.json", jwks(&[theirs.jwk("ES256")]));
    assert_eq!(reread(&keys, &alarms), Reload::Taken);
    assert!(keys.ring().generation() > before);
    assert_eq!(
        (judged(&gate, &old), judged(&gate, &new)),
        (refused(Reason::Signature), good())
    );
}

#[test]
fn a_broken_file_keeps_its_last_good_keys_under_an_alarm() {
    let (folder, alarms) = (Folder::new(), alarms());
    let text = jwks(&[Signers::ours().jwk("ES256")]);
    let path = folder.write("jwks.json", &text);
    let gate = load(vec![issuer(KeySource::JwksFile(path.clone()))]).unwrap();
    let token = Signers::ours().token(&json!({"alg": "ES256"}), &claims());
    assert_eq!(judged(&gate, &token), good());
    let generation = gate.keys.ring().generation();
    let raised = || {
        alarms
            .raised()
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    for broken in [Some(""), Some("{"), Some(r#"{"keys":[]}"#), None] {
        match broken {
            Some(text) => drop(folder.write("jwks.json", text)),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert_eq!(reread(&gate.keys, &alarms), Reload::Kept, "{broken:?}");
        assert_eq!(reread(&gate.keys, &alarms), Reload::Unchanged, "{broken:?}");
        assert_eq!(raised(), ["keys"]);
        assert_eq!(judged(&gate, &token), good());
    }
    assert_eq!(gate.keys.ring().generation(), generation);
    folder.write("jwks.json", &text);
    assert_eq!(reread(&gate.keys, &alarms), Reload::Taken);
    assert!(raised().is_empty());
    assert_eq!(judged(&gate, &token), good());
}

#[test]
fn one_broken_file_does_not_hold_up_another() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let (folder, alarms) = (Folder::new(), alarms());
    let entry = |name: &str, keys| IssuerSettings {
        issuer: Some(name.parse().unwrap()),
        tenants: only(&["4"]),
        ..issuer(keys)
    };
    let set = |name: &str, signers: &Signers| folder.write(name, jwks(&[signers.jwk("ES256")]));
    let secret_file = KeySource::SecretFile {
        path: folder.write("c", SECRET),
        algorithm: HmacAlgorithm::Hs256,
    };
    let gate = load(vec![
        entry("a", KeySource::JwksFile(set("a", ours))),
        entry("b", KeySource::JwksFile(set("b", ours))),
        entry("c", secret_file),
    ])
    .unwrap();
    folder.write("a", "broken");
    set("b", theirs);
    assert_eq!(reread(&gate.keys, &alarms), Reload::Taken);
    assert!(alarms.raised()[0].1.contains("not valid JSON"));
    let by = |signers: &Signers, iss: &str| {
        judged(
            &gate,
            &signers.token(
                &json!({"alg": "ES256"}),
                &with(claims(), &json!({ "iss": iss })),
            ),
        )
    };
    assert_eq!(
        (by(ours, "a"), by(theirs, "b"), by(ours, "b")),
        (good(), good(), refused(Reason::Signature))
    );
    folder.write("c", "short");
    assert_eq!(reread(&gate.keys, &alarms), Reload::Kept);
    let both = alarms.raised()[0].1.clone();
    assert!(
        both.contains("openssl rand") && both.contains("not valid JSON"),
        "{both}"
    );
    // One mended, the other broken anew, in one look.
    set("a", theirs);
    folder.write("c", "shorter");
    assert_eq!(reread(&gate.keys, &alarms), Reload::Taken);
    assert!(!alarms.raised()[0].1.contains("not valid JSON"));
    assert_eq!(
        (
            by(theirs, "a"),
            judged(
                &gate,
                &ours.token(
                    &json!({"alg": "HS256"}),
                    &with(claims(), &json!({"iss": "c"}))
                )
            )
        ),
        (good(), good())
    );
}

#[test]
fn a_public_key_in_pem_serves_the_tokens_of_its_kind() {
    let folder = Folder::new();
    let spki = |jwk: &Value, head: &[u8]| {
        let number = |name: &str| {
            let text = jwk[name].as_str().unwrap_or_default();
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
        };
        let point = if jwk["kty"] == "EC" {
            [&[4], number("x").as_slice(), &number("y")].concat()
        } else {
            number("x")
        };
        let der = [head, &point].concat();
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    };
    let p256 = spki(
        &Signers::ours().jwk("ES256"),
        &[
            0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86,
            0x48, 0xce, 0x3d, 3, 1, 7, 3, 0x42, 0,
        ],
    );
    let ed25519 = spki(
        &Signers::ours().jwk("EdDSA"),
        &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0],
    );
    let rsa = {
        let der = Signers::ours().rsa_der();
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    };
    let gate = |text: &str| {
        load(vec![issuer(KeySource::JwksFile(
            folder.write("key.pem", text),
        ))])
    };
    for (pem, algs) in [
        (&p256, &["ES256"][..]),
        (&ed25519, &["EdDSA"]),
        (&rsa, &["RS256", "RS512", "PS256"]),
        (
            &[p256.as_str(), &ed25519, &rsa].concat(),
            &["ES256", "EdDSA", "PS384"],
        ),
    ] {
        let gate = gate(pem).unwrap();
        for alg in algs {
            let token = Signers::ours().token(&json!({ "alg": alg }), &claims());
            assert_eq!(judged(&gate, &token), good(), "{alg}");
            let theirs = Signers::theirs().token(&json!({"alg": alg}), &claims());
            assert_eq!(judged(&gate, &theirs), refused(Reason::Signature), "{alg}");
        }
        let public_as_secret = token_by(pem.as_bytes(), &json!({"alg": "HS256"}), &claims());
        assert_eq!(judged(&gate, &public_as_secret), refused(Reason::Algorithm));
    }
    let said = gate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(said.err().unwrap()[0].contains("no -----BEGIN PUBLIC KEY-----"));
}
