//! The first certificate: for a join token, once, within its hour, for its identity and for a key
//! that stays on the host.

use std::collections::BTreeSet;

use gapura_protocol::clock::{Clock, parse_rfc3339, unix};

use super::host::{Host, alarms, metric, openssl};

const ENROL: &str = "/.well-known/est/simpleenroll";

#[test]
fn a_join_token_is_good_for_one_certificate_and_the_inventory_has_it_first() {
    let host = Host::new();
    let ca = host.start();
    let token = host.token(&["plugin", "billing"]);
    host.request("billing", &[]);
    let all = host.keep(&host.enrol(&ca, &token, "billing"), "billing");
    assert_eq!(
        all.matches("BEGIN CERTIFICATE").count(),
        2,
        "leaf and issuing CA"
    );
    // What it says is the inventory's: the request named nobody.
    let said = host.described("billing");
    assert!(
        said.contains("URI:spiffe://test.internal/plugin/billing"),
        "{said}"
    );
    assert!(said.contains("DNS:billing.plugin.test.internal"), "{said}");
    assert!(
        said.contains("TLS Web Server Authentication") && !said.contains("Client"),
        "{said}"
    );
    let (pem, ca_pem) = (host.text("billing.pem"), host.text("ca-1/ca.pem"));
    openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        &ca_pem,
        "-untrusted",
        &pem,
        &pem,
    ]);
    let listed = host.listed("billing");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["serial"], host.serial("billing"));
    assert_eq!(listed[0]["state"], "live");
    let place = format!("join:{}", token.facts["id"].as_str().unwrap());
    assert_eq!(listed[0]["out"], place);
    // A day, unless the server says otherwise.
    let left = listed[0]["left_seconds"].as_u64().unwrap();
    assert!((86_000..=86_400).contains(&left), "{left}");
    let line = ca.wait_for_event("granted");
    assert_eq!(
        (line["how"].as_str(), line["id"].as_str()),
        (
            Some("joined"),
            Some("spiffe://test.internal/plugin/billing")
        )
    );
    assert_eq!(metric(&ca, "gapura_ca_granted_total{how=\"joined\"}"), 1.0);

    // Another key for the same token is somebody else.
    host.request("thief", &[]);
    let (code, why) = host.enrol(&ca, &token, "thief").refused(401);
    assert_eq!(code, "token_used");
    assert!(
        why.contains("has been used") && why.contains("gapura-pki token"),
        "{why}"
    );
    assert_eq!(host.listed("billing").len(), 1);
    // Its twin with a token of its own is let through.
    let other = host.token(&["plugin", "billing"]);
    assert_eq!(host.enrol(&ca, &other, "thief").status, 200);
    assert!(alarms(&ca).is_empty());
    // The host that lost the answer gets the very same once more.
    let before = host.serial("billing");
    host.keep(&host.enrol(&ca, &token, "billing"), "billing");
    assert_eq!(host.serial("billing"), before);
    let lines = ca.log_text();
    let secret = token.user();
    let secret = secret.split_once(':').unwrap().1;
    assert!(!lines.contains(secret), "the log shows the secret");
}

#[test]
fn what_is_kept_of_a_token_is_a_hash_and_the_token_names_the_root() {
    let host = Host::new();
    let token = host.token(&[
        "plugin",
        "billing",
        "--url",
        "https://ca.test.internal:9443",
    ]);
    let inventory = std::fs::read_to_string(host.path("pki/inventory.jsonl")).unwrap();
    let user = token.user();
    let secret = user.split_once(':').unwrap().1;
    assert!(!inventory.contains(secret) && !inventory.contains(&token.text));
    let read = gapura_enrol::token::JoinToken::parse(token.text.as_bytes()).unwrap();
    let hash = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert!(inventory.contains(&hash(&read.secret.sha256())));
    assert_eq!(read.url.as_deref(), Some("https://ca.test.internal:9443"));
    let print = openssl(&[
        "x509",
        "-in",
        &host.text("ca-1/ca.pem"),
        "-noout",
        "-fingerprint",
        "-sha256",
    ]);
    let print = print
        .trim()
        .rsplit_once('=')
        .unwrap()
        .1
        .replace(':', "")
        .to_lowercase();
    assert_eq!(token.facts["root_sha256"], print);
    // The token alone on its line, for a file.
    let ended = host.try_pki(&["token", "gateway", "edge"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.starts_with("gapura-join-v1.") && ended.stdout.lines().count() == 1);
    // No host joins as a CA server, and no token lives for ever.
    for (words, says) in [
        (
            &["token", "pki", "ca-2"][..],
            "does not join over the network",
        ),
        (
            &["token", "plugin", "billing", "--ttl", "30d"],
            "choose --ttl between them",
        ),
        (
            &["token", "plugin", "billing", "--dns", "example.com"],
            "permitted_dns",
        ),
    ] {
        let ended = host.try_pki(words);
        assert_eq!(ended.code, Some(5), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
    for words in [
        &["token", "sidecar", "x"][..],
        &["token", "plugin", "x", "--url", "http://a"],
    ] {
        assert_eq!(host.try_pki(words).code, Some(2), "{words:?}");
    }
}

#[test]
fn a_token_that_is_late_unknown_or_anothers_is_refused_with_its_code() {
    let host = Host::new();
    let ca = host.start();
    host.request("key", &[]);
    let late = host.token(&["plugin", "billing", "--ttl", "1s"]);
    let good = host.token(&["plugin", "billing"]);
    let end = late.facts["expires"].as_str().unwrap();
    let end = unix(parse_rfc3339(end).unwrap());
    gapura_tests::eventually("the token ends", || {
        (Clock::system().unix() > end).then_some(())
    });
    let (code, _) = host.enrol(&ca, &late, "key").refused(401);
    assert_eq!(code, "token_expired");
    let body = format!("@{}", host.text("key.csr"));
    let enrol = |user: &str| {
        let words = ["--user", user, "--data-binary", &body];
        host.curl(&ca, ENROL, &words)
    };
    let (_, secret) = good
        .user()
        .split_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let (code, why) = enrol(&format!("plugin/orders:{secret}")).refused(403);
    assert_eq!(code, "token_identity");
    assert!(why.contains("plugin/orders"), "{why}");
    let stranger = "A".repeat(43);
    let (code, _) = enrol(&format!("plugin/billing:{stranger}")).refused(401);
    assert_eq!(code, "token_unknown");
    for user in ["plugin/billing:short", "billing:x", "pki/ca-1:x"] {
        assert_eq!(enrol(user).refused(401).0, "token_missing", "{user}");
    }
    let none = host
        .curl(&ca, ENROL, &["--data-binary", &body])
        .refused(401);
    assert_eq!(none.0, "token_missing");
    // Each of these is a line that tells from where it came, and the token is as good as it was.
    let codes: BTreeSet<String> = ca
        .log()
        .iter()
        .filter(|line| line["event"] == "refused")
        .map(|line| line["code"].as_str().unwrap().to_owned())
        .collect();
    let wanted = [
        "token_expired",
        "token_identity",
        "token_missing",
        "token_unknown",
    ];
    assert_eq!(codes, wanted.map(str::to_owned).into());
    assert_eq!(enrol(&good.user()).status, 200);
}

#[test]
fn a_request_for_more_than_a_leaf_of_its_own_name_is_refused_and_uses_up_nothing() {
    let host = Host::new();
    let ca = host.start();
    let token = host.token(&["plugin", "billing", "--dns", "pay.test.internal"]);
    let cases: [(&str, &[&str], u16, &str, &str); 5] = [
        (
            "other",
            &[
                "-addext",
                "subjectAltName=URI:spiffe://test.internal/plugin/orders",
            ],
            403,
            "csr_identity",
            "plugin/orders",
        ),
        (
            "dns",
            &["-addext", "subjectAltName=DNS:orders.plugin.test.internal"],
            403,
            "csr_identity",
            "orders.plugin.test.internal",
        ),
        (
            "ca",
            &["-addext", "basicConstraints=critical,CA:TRUE"],
            400,
            "csr_invalid",
            "CA:TRUE",
        ),
        (
            "curve",
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            400,
            "csr_invalid",
            "secp256k1",
        ),
        (
            "rsa",
            &["-newkey", "rsa:1024"],
            400,
            "csr_invalid",
            "RSA of 1024 bits",
        ),
    ];
    for (name, words, status, code, says) in cases {
        host.request(name, words);
        let (found, why) = host.enrol(&ca, &token, name).refused(status);
        assert_eq!(found, code, "{name}: {why}");
        assert!(why.contains(says), "{name}: {why}");
    }
    // Bodies that are none.
    std::fs::write(host.path("junk.csr"), "bm8gcmVxdWVzdA==").unwrap();
    assert_eq!(
        host.enrol(&ca, &token, "junk").refused(400).0,
        "csr_invalid"
    );
    std::fs::write(host.path("text.csr"), "-----BEGIN").unwrap();
    assert_eq!(
        host.enrol(&ca, &token, "text").refused(400).0,
        "csr_invalid"
    );
    std::fs::write(host.path("large.csr"), "A".repeat(1 << 20)).unwrap();
    let (code, why) = host.enrol(&ca, &token, "large").refused(413);
    assert!(code == "body_too_large" && why.contains("64 KiB"), "{why}");
    // One that asks for what the inventory gives anyway is taken, in one line of base64 as well as
    // in many.
    host.request(
        "good",
        &[
            "-addext",
            "subjectAltName=URI:spiffe://test.internal/plugin/billing,DNS:pay.test.internal",
        ],
    );
    let lines = std::fs::read_to_string(host.path("good.csr")).unwrap();
    std::fs::write(host.path("good.csr"), lines.replace('\n', "")).unwrap();
    host.keep(&host.enrol(&ca, &token, "good"), "good");
    assert!(host.described("good").contains("DNS:pay.test.internal"));
    assert_eq!(host.listed("billing").len(), 1);
    // A key serves one identity.
    let orders = host.token(&["plugin", "orders"]);
    host.request("taken", &[]);
    std::fs::copy(host.path("good.csr"), host.path("taken.csr")).unwrap();
    let (code, why) = host.enrol(&ca, &orders, "taken").refused(403);
    // The request names billing, so that is what is said first.
    assert_eq!(code, "csr_identity", "{why}");
}

#[test]
fn a_token_made_before_its_identity_was_revoked_or_forgotten_counts_no_more() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    let before = host.token(&["plugin", "billing"]);
    let other = host.token(&["plugin", "orders"]);
    host.pki(&["revoke", "plugin/billing", "--reason", "key-compromise"]);
    host.request("next", &[]);
    let (code, why) = host.enrol(&ca, &before, "next").refused(401);
    assert!(
        code == "token_unknown" && why.contains("counts no more"),
        "{why}"
    );
    assert_eq!(host.enrol(&ca, &other, "next").status, 200);
    // The key that was revoked as compromised is nobody's; another one is let in.
    let again = host.token(&["plugin", "billing"]);
    assert_eq!(
        host.enrol(&ca, &again, "billing").refused(403).0,
        "key_taken"
    );
    host.request("fresh", &[]);
    assert_eq!(host.enrol(&ca, &again, "fresh").status, 200);
}
