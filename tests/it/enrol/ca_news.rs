//! Roots and CRLs: to anybody, and to whoever has a certificate at once when there are others.

use std::time::{Duration, Instant};

use super::host::{Answer, Host, openssl};

const TRUST: &str = "/v1/trust";

/// The words by which `NAME` is shown.
fn as_words(shown: &[String; 4]) -> Vec<&str> {
    shown.iter().map(String::as_str).collect()
}

#[test]
fn a_revocation_is_with_whoever_waits_within_seconds() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    host.join(&ca, "orders");
    let shown = host.shown("billing");
    let news = host.curl(&ca, TRUST, &as_words(&shown)).json();
    let generation = news["generation"].as_str().unwrap().to_owned();
    // What came is what the mesh directory of the server has.
    let roots = news["roots"].as_str().unwrap();
    let own = std::fs::read_to_string(host.path("ca-1/ca.pem")).unwrap();
    assert!(roots.starts_with(&own), "the roots come first");
    assert_eq!(
        roots.matches("BEGIN CERTIFICATE").count(),
        2,
        "and the issuing CA behind them"
    );
    assert_eq!(
        news["crls"],
        std::fs::read_to_string(host.path("ca-1/crl.pem")).unwrap()
    );
    let as_of = gapura_protocol::clock::parse_rfc3339(news["as_of"].as_str().unwrap());
    assert!(as_of.is_some());
    // Another generation is answered at once.
    let old = format!("{TRUST}?after=00");
    assert_eq!(
        host.curl(&ca, &old, &as_words(&shown)).json()["generation"],
        generation
    );
    // The same one waits, until something is to be told.
    let waiting = host.curling(
        &ca,
        &format!("{TRUST}?after={generation}"),
        &as_words(&shown),
    );
    gapura_tests::eventually("it waits", || {
        (super::host::metric(&ca, "gapura_ca_polls ") == 1.0).then_some(())
    });
    let begun = Instant::now();
    host.pki(&["revoke", "plugin/orders", "--reason", "key-compromise"]);
    let told = Answer::of(waiting).json();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}"); // the promise is two seconds
    println!("a revocation was with who waited after {took:?}");
    assert_ne!(told["generation"], generation);
    let crls = host.path("crls.pem");
    std::fs::write(&crls, told["crls"].as_str().unwrap()).unwrap();
    let said = openssl(&["crl", "-in", crls.to_str().unwrap(), "-noout", "-text"]);
    assert!(
        said.to_lowercase().contains(&host.serial("orders")),
        "{said}"
    );
}

#[test]
fn a_new_root_is_told_before_anything_hangs_on_it() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    let shown = host.shown("billing");
    let ask = || host.curl(&ca, TRUST, &as_words(&shown)).json();
    let count = |news: &serde_json::Value| {
        let roots = news["roots"].as_str().unwrap();
        roots.matches("BEGIN CERTIFICATE").count()
    };
    assert_eq!(count(&ask()), 2);
    host.pki(&[
        "ca", "rotate", "root", "--step", "prepare", "--settle", "0s",
    ]);
    gapura_tests::eventually("two roots, two issuing CAs", || {
        (count(&ask()) == 4).then_some(())
    });
    // EST's own way of asking, for anybody.
    let cacerts = host.curl(&ca, "/.well-known/est/cacerts", &[]);
    let all = host.keep(&cacerts, "cacerts");
    assert_eq!(all.matches("BEGIN CERTIFICATE").count(), 4);
}

#[test]
fn a_stranger_gets_what_is_public_at_once_and_no_path_is_served_by_another_name() {
    let host = Host::new();
    let ca = host.start();
    let news = host.curl(&ca, TRUST, &[]).json();
    // Who is not known does not wait for other news, and leaves nothing behind.
    let known = format!("{TRUST}?after={}", news["generation"].as_str().unwrap());
    let quickly = ["--max-time", "20"];
    assert_eq!(
        host.curl(&ca, &known, &quickly).json()["generation"],
        news["generation"]
    );
    assert!(!host.path("pki/agents.json").exists());
    let crls = ["--data-binary", "x"];
    assert_eq!(
        host.curl(&ca, "/v1/crls", &crls).refused(401).0,
        "certificate_missing"
    );
    assert_eq!(host.curl(&ca, "/metrics", &[]).refused(404).0, "not_found");
    assert_eq!(
        host.curl(&ca, TRUST, &["--data", "x"]).refused(405).0,
        "method_not_allowed"
    );
    assert_eq!(host.curl(&ca, "/.well-known/est/cacerts", &[]).status, 200);
    let old = ["--tls-max", "1.2", "--tlsv1.2"];
    assert_eq!(
        host.curl(&ca, "/.well-known/est/cacerts", &old).status,
        0,
        "TLS 1.3 alone"
    );
}

#[test]
fn whoever_is_revoked_is_cut_while_it_waits() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    let shown = host.shown("billing");
    let generation = host.curl(&ca, TRUST, &as_words(&shown)).json()["generation"]
        .as_str()
        .unwrap()
        .to_owned();
    host.pki(&["revoke", "plugin/billing"]);
    // By the news or by the cut: it learns of its own end, and is let in no more.
    gapura_tests::eventually("it is refused", || {
        let path = format!("{TRUST}?after={generation}");
        (host.curl(&ca, &path, &as_words(&shown)).status == 0).then_some(())
    });
}

#[test]
fn a_rotation_waits_for_the_hosts_that_have_not_heard_of_it() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    let shown = host.shown("billing");
    let news = || host.curl(&ca, TRUST, &as_words(&shown)).json();
    let old = news()["generation"].as_str().unwrap().to_owned();
    // An agent that holds the old news waits for other; curl gives up after a moment.
    let says = |generation: &str, seconds: &str| {
        let words = [&as_words(&shown)[..], &["--max-time", seconds]].concat();
        host.curl(&ca, &format!("{TRUST}?after={generation}"), &words)
    };
    says(&old, "1");
    host.pki(&["ca", "rotate", "issuer", "--step", "prepare"]);
    let activate = [
        "ca", "rotate", "issuer", "--step", "activate", "--settle", "0s",
    ];
    gapura_tests::eventually("it is known what the host holds", || {
        let ended = host.try_pki(&activate);
        assert_eq!(ended.code, Some(5), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains("plugin/billing"), "{}", ended.stderr);
        ended.stderr.contains("do not hold").then_some(())
    });
    // Once it holds the new news, it is waited for no more.
    let generation = gapura_tests::eventually("other news", || {
        let generation = news()["generation"].as_str().unwrap().to_owned();
        (generation != old).then_some(generation)
    });
    says(&generation, "1");
    gapura_tests::eventually("the rotation goes on", || {
        (host.try_pki(&activate).code == Some(0)).then_some(())
    });
}

#[test]
fn what_hosts_give_back_counts_only_if_the_ca_signed_it() {
    let (host, elsewhere) = (Host::new(), Host::new());
    let ca = host.start();
    host.join(&ca, "billing");
    elsewhere.pki(&["issue", "plugin", "gone", "--out", &elsewhere.text("gone")]);
    elsewhere.pki(&["revoke", "plugin/gone"]);
    let inventory = || std::fs::read_to_string(host.path("pki/inventory.jsonl")).unwrap();
    let before = inventory();
    let shown = host.shown("billing");
    let give = |body: &str| {
        let words = [&as_words(&shown)[..], &["--data-binary", body]].concat();
        host.curl(&ca, "/v1/crls", &words)
    };
    let foreign = format!("@{}", elsewhere.text("ca-1/crl.pem"));
    assert_eq!(give(&foreign).status, 200, "it says nothing of this CA");
    let own = format!("@{}", host.text("ca-1/crl.pem"));
    assert_eq!(give(&own).status, 200, "it says nothing new");
    assert_eq!(give("x").refused(400).0, "bad_request");
    assert_eq!(inventory(), before, "nothing of it is written");
    let large = host.path("large");
    std::fs::write(&large, vec![b'x'; 17 << 20]).unwrap();
    let (code, why) = give(&format!("@{}", large.display())).refused(413);
    assert_eq!(code, "body_too_large");
    assert!(why.contains("16384 KiB"), "{why}");
}
