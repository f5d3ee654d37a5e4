//! Where keys come from: settings, secrets, files, and files that change.

use super::*;

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
        issuer: Some(name.to_owned()),
        audience: vec![String::new()],
        keys,
    };
    let problems = load(vec![
        named("a", KeySource::JwksFile(folder.0.path().join("absent"))),
        named("a", KeySource::JwksFile(folder.0.path().to_owned())),
        named("", secret(b"short", HmacAlgorithm::Hs256)),
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
        issuer: Some("i".into()),
        audience: vec!["a".into()],
        keys: secret(SECRET, HmacAlgorithm::Hs256),
    };
    assert!(load(vec![entry]).unwrap().keys.ring().warnings().is_empty());
    let private = with(Signers::ours().jwk("EdDSA"), &json!({"d": encode([1; 32])}));
    assert!(
        warnings_of(&jwks(&[private]))
            .iter()
            .any(|warning| warning.contains("private half"))
    );
}

fn alarms() -> Alarms {
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
    assert_eq!(keys.reload_if_changed(&alarms), Reload::Unchanged);
    let before = keys.ring().generation();
    folder.write("jwks.json", jwks(&[theirs.jwk("ES256")]));
    assert_eq!(keys.reload_if_changed(&alarms), Reload::Taken);
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
        assert_eq!(
            gate.keys.reload_if_changed(&alarms),
            Reload::Kept,
            "{broken:?}"
        );
        assert_eq!(
            gate.keys.reload_if_changed(&alarms),
            Reload::Unchanged,
            "{broken:?}"
        );
        assert_eq!(raised(), ["keys"]);
        assert_eq!(judged(&gate, &token), good());
    }
    assert_eq!(gate.keys.ring().generation(), generation);
    folder.write("jwks.json", &text);
    assert_eq!(gate.keys.reload_if_changed(&alarms), Reload::Taken);
    assert!(raised().is_empty());
    assert_eq!(judged(&gate, &token), good());
}

#[test]
fn one_broken_file_does_not_hold_up_another() {
    let (ours, theirs) = (Signers::ours(), Signers::theirs());
    let (folder, alarms) = (Folder::new(), alarms());
    let entry = |name: &str, keys| IssuerSettings {
        issuer: Some(name.to_owned()),
        audience: vec![],
        keys,
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
    assert_eq!(gate.keys.reload_if_changed(&alarms), Reload::Taken);
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
    assert_eq!(gate.keys.reload_if_changed(&alarms), Reload::Kept);
    let both = alarms.raised()[0].1.clone();
    assert!(
        both.contains("openssl rand") && both.contains("not valid JSON"),
        "{both}"
    );
    // One mended, the other broken anew, in one look.
    set("a", theirs);
    folder.write("c", "shorter");
    assert_eq!(gate.keys.reload_if_changed(&alarms), Reload::Taken);
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
fn other_settings_take_the_place_of_all_that_was() {
    let (gate, alarms) = (by_secret(), alarms());
    let token = Signers::ours().token(&json!({"alg": "HS256"}), &claims());
    assert_eq!(judged(&gate, &token), good());
    let stricter = IssuerSettings {
        issuer: Some("i".into()),
        ..issuer(secret(SECRET, HmacAlgorithm::Hs256))
    };
    let faulty = settings(vec![issuer(secret(b"short", HmacAlgorithm::Hs256))]);
    assert!(gate.keys.replace(faulty, &alarms).is_err());
    assert_eq!(judged(&gate, &token), good());
    gate.keys
        .replace(settings(vec![stricter]), &alarms)
        .unwrap();
    assert_eq!(judged(&gate, &token), refused(Reason::Issuer));
}
