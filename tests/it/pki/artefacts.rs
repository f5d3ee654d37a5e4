//! Everything `gapura-pki` writes, read and judged by OpenSSL.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Scratch, judged_by_openssl, openssl, secret};

#[test]
fn openssl_accepts_each_leaf_for_its_own_side_only() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
    ]);
    for (name, own, other) in [
        ("edge", "sslclient", "sslserver"),
        ("billing", "sslserver", "sslclient"),
    ] {
        let (good, said) = judged_by_openssl(&scratch.path(name), own);
        assert!(good, "{name} as {own}: {said}");
        assert!(
            !judged_by_openssl(&scratch.path(name), other).0,
            "{name} passes as {other}"
        );
    }
}

#[test]
fn a_leaf_says_exactly_what_its_role_is_and_nothing_more() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
        "--dns",
        "b.test.internal",
    ]);
    let text = |name: &str| {
        openssl(&[
            "x509",
            "-in",
            &scratch.text(&format!("{name}/cert.pem")),
            "-noout",
            "-text",
        ])
        .1
    };
    for wanted in [
        "Subject: \n",
        "X509v3 Subject Alternative Name: critical",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "CA:FALSE",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
        "NIST CURVE: P-256",
        "ecdsa-with-SHA256",
    ] {
        assert!(
            text("edge").contains(wanted),
            "{wanted:?} is not in {}",
            text("edge")
        );
        assert!(
            text("billing").contains(wanted),
            "{wanted:?} is not in {}",
            text("billing")
        );
    }
    let names = |text: &str| {
        text.lines()
            .find(|line| line.contains("URI:"))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(
        names(&text("edge")),
        "URI:spiffe://test.internal/gateway/edge"
    );
    assert_eq!(
        names(&text("billing")),
        "URI:spiffe://test.internal/plugin/billing, DNS:billing.plugin.test.internal, DNS:b.test.internal"
    );
    let purpose = |text: &str| {
        let mut lines = text
            .lines()
            .skip_while(|line| !line.contains("Extended Key Usage"));
        lines.nth(1).unwrap().trim().to_owned()
    };
    assert_eq!(purpose(&text("edge")), "TLS Web Client Authentication");
    assert_eq!(purpose(&text("billing")), "TLS Web Server Authentication");
}

#[test]
fn the_cas_are_bounded() {
    let scratch = Scratch::with_ca();
    let text = |id: &str| {
        openssl(&[
            "x509",
            "-in",
            &scratch.text(&format!("pki/authorities/{id}/cert.pem")),
            "-noout",
            "-text",
        ])
        .1
    };
    assert!(
        text("root-g1").contains("CA:TRUE, pathlen:2"),
        "{}",
        text("root-g1")
    );
    for wanted in [
        "CA:TRUE, pathlen:0",
        "Name Constraints: critical",
        "DNS:test.internal",
        "IP:0.0.0.0/0.0.0.0",
        "Certificate Sign, CRL Sign",
    ] {
        assert!(
            text("iss-g1-001").contains(wanted),
            "{wanted:?} is not in {}",
            text("iss-g1-001")
        );
    }
}

#[test]
fn openssl_refuses_what_is_revoked_and_reads_why() {
    let scratch = Scratch::with_ca();
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
    ]);
    scratch.ok(&[
        "issue",
        "plugin",
        "orders",
        "--out",
        &scratch.text("orders"),
    ]);
    let before = scratch.ok(&["crl", "show"])["crls"][0]["number"]
        .as_u64()
        .unwrap();
    scratch.ok(&["revoke", "billing", "--reason", "key-compromise"]);
    let (good, said) = judged_by_openssl(&scratch.path("billing"), "sslserver");
    assert!(!good && said.contains("certificate revoked"), "{said}");
    assert!(
        judged_by_openssl(&scratch.path("orders"), "sslserver").0,
        "another plugin goes on"
    );
    let crl = openssl(&[
        "crl",
        "-in",
        &scratch.text("orders/crl.pem"),
        "-noout",
        "-text",
    ])
    .1;
    assert!(
        crl.contains("Key Compromise")
            && crl.contains("X509v3 Authority Key Identifier")
            && crl.contains("X509v3 CRL Number"),
        "{crl}"
    );
    let after = scratch.ok(&["crl", "show"])["crls"][0]["number"]
        .as_u64()
        .unwrap();
    assert!(
        after > before,
        "CRL number {after} does not rise above {before}"
    );
}

#[test]
fn openssl_opens_an_encrypted_ca_key_with_its_passphrase_only() {
    let scratch = Scratch::new();
    secret(&scratch.path("pass"), "correct horse\n");
    let pass = scratch.text("pass");
    let ended = scratch
        .invocation()
        .args(&[
            "init",
            "--trust-domain",
            "test.internal",
            "--passphrase-file",
            &pass,
        ])
        .run("gapura-pki");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for id in ["root-g1", "iss-g1-001"] {
        let key = scratch.path(&format!("pki/authorities/{id}/key.pem"));
        assert!(
            fs::read_to_string(&key)
                .unwrap()
                .starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        );
        let key = key.to_str().unwrap();
        let (good, said) = openssl(&[
            "pkey",
            "-in",
            key,
            "-passin",
            "pass:correct horse",
            "-noout",
        ]);
        assert!(good, "{said}");
        assert!(!openssl(&["pkey", "-in", key, "-passin", "pass:wrong horse", "-noout"]).0);
    }
}

#[test]
fn a_request_of_openssl_is_signed_and_one_of_ours_is_read_by_openssl() {
    let scratch = Scratch::with_ca();
    let (key, csr) = (scratch.text("k.pem"), scratch.text("k.csr"));
    for kind in [
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"][..],
        &["ed25519"],
        &["rsa:2048"],
    ] {
        let mut args = vec!["req", "-new", "-newkey"];
        args.extend(kind);
        args.extend([
            "-nodes",
            "-keyout",
            &key,
            "-subj",
            "/CN=billing",
            "-out",
            &csr,
        ]);
        let (made, said) = openssl(&args);
        assert!(made, "{said}");
        let out = scratch.text(kind[0]);
        scratch.ok(&["issue", "plugin", "billing", "--csr", &csr, "--out", &out]);
        let (good, said) = judged_by_openssl(out.as_ref(), "sslserver");
        assert!(good, "{kind:?}: {said}");
        let public = |file: &str, how: &str| {
            openssl(&[
                how,
                "-in",
                file,
                "-noout",
                if how == "x509" { "-pubkey" } else { "-pubout" },
            ])
            .1
        };
        assert_eq!(
            public(&format!("{out}/cert.pem"), "x509"),
            openssl(&["pkey", "-in", &key, "-pubout"]).1
        );
    }
    scratch.ok(&[
        "csr",
        "plugin",
        "orders",
        "--trust-domain",
        "test.internal",
        "--out",
        &scratch.text("orders"),
    ]);
    let (good, said) = openssl(&[
        "req",
        "-in",
        &scratch.text("orders/request.csr"),
        "-verify",
        "-noout",
        "-text",
    ]);
    assert!(
        good && said.contains("URI:spiffe://test.internal/plugin/orders"),
        "{said}"
    );
    scratch.ok(&[
        "issue",
        "plugin",
        "orders",
        "--csr",
        &scratch.text("orders/request.csr"),
        "--out",
        &scratch.text("orders"),
    ]);
    assert!(judged_by_openssl(&scratch.path("orders"), "sslserver").0);
    let checked = scratch.run(&["check"]);
    assert_eq!(
        checked.code,
        Some(3),
        "the three directories of OpenSSL's requests lack their keys: {}",
        checked.stdout
    );
}

#[test]
fn openssl_follows_every_step_of_a_rotation() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
    ]);
    let judge = |when: &str| {
        for (name, purpose) in [("edge", "sslclient"), ("billing", "sslserver")] {
            let (good, said) = judged_by_openssl(&scratch.path(name), purpose);
            assert!(good, "{when}, {name}: {said}");
        }
    };
    for kind in ["issuer", "root"] {
        for step in ["prepare", "activate"] {
            scratch.ok(&["ca", "rotate", kind, "--step", step, "--settle", "0s"]);
            judge(step);
        }
        scratch.ok(&["renew", "--all"]);
        judge("renewed");
        scratch.ok(&["ca", "rotate", kind, "--step", "retire", "--settle", "0s"]);
        judge("retired");
    }
    scratch.ok(&["ca", "rotate", "issuer", "--emergency", "--taint"]);
    judge("tainted");
    assert_eq!(scratch.ok(&["check"])["status"], "ok");
}

#[test]
fn keys_and_folders_are_their_owners_alone_and_each_renewal_makes_a_new_key() {
    let scratch = Scratch::with_ca();
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
    ]);
    let mode = |name: &str| {
        fs::metadata(scratch.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for key in [
        "pki/authorities/root-g1/key.pem",
        "pki/authorities/iss-g1-001/key.pem",
        "billing/key.pem",
        "pki/inventory.jsonl",
    ] {
        assert_eq!(mode(key), 0o600, "{key}");
    }
    for dir in ["pki", "pki/authorities", "billing", "billing/gen-000001"] {
        assert_eq!(mode(dir), 0o700, "{dir}");
    }
    let key = || fs::read(scratch.path("billing/key.pem")).unwrap();
    let first = key();
    scratch.ok(&["renew", "billing"]);
    let second = key();
    assert_ne!(first, second);
    scratch.ok(&["renew", "billing", "--reuse-key"]);
    assert_eq!(key(), second);
    assert_eq!(
        fs::read_link(scratch.path("billing/current"))
            .unwrap()
            .to_str(),
        Some("gen-000003")
    );
}

#[test]
fn no_private_key_is_ever_said() {
    let scratch = Scratch::with_ca();
    let mut said = String::new();
    let out = scratch.text("billing");
    for args in [
        &["issue", "plugin", "billing", "--out", &out][..],
        &["renew", "--all"],
        &["inspect", &out],
        &["inspect", &format!("{out}/key.pem")],
        &["check"],
        &["bundle", "export"],
        &["ca", "rotate", "issuer"],
        &["list"],
    ] {
        for json in [&[][..], &["--json"]] {
            let ended = scratch.run(&[args, json].concat());
            said += &ended.stdout;
            said += &ended.stderr;
        }
    }
    assert!(said.contains("private key"), "the key was looked at");
    let inventory = fs::read_to_string(scratch.path("pki/inventory.jsonl")).unwrap();
    for key in [
        "billing/key.pem",
        "pki/authorities/iss-g1-001/key.pem",
        "pki/authorities/root-g1/key.pem",
    ] {
        let pem = fs::read_to_string(scratch.path(key)).unwrap();
        let body: String = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        // The secret number itself, which any encoding of the key begins to show after its fixed
        // head.
        let secret = &body[48..88];
        assert!(
            !said.contains(secret) && !said.contains("BEGIN PRIVATE"),
            "{key} was said"
        );
        assert!(!inventory.contains(secret));
    }
}
