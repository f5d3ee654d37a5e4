//! What a stolen key of a plugin is good for: not to be the CA, not to become another, and nothing
//! once it is revoked.

use gapura_tests::within;

use super::impostor::Impostor;
use super::{Installation, PATIENT, reenrol};

#[test]
fn it_cannot_pose_as_the_ca_server() {
    let mut installation = Installation::start("24h");
    let agent = installation.joined("plugin", "echo");
    installation.pki(&[
        "issue",
        "plugin",
        "thief",
        "--out",
        &installation.text("thief"),
    ]);
    let token = installation.token("plugin", "other", &[]);
    let address = installation.address.to_string();
    drop(installation.ca.take());
    // It answers at the CA server's address, by a certificate of the same authority, and shows the
    // true root.
    let roots = installation.path("thief").join("ca.pem");
    let impostor = Impostor::start(&installation.path("thief"), &roots, &address);
    let line = agent.wait_for_line("the refusal", |line| {
        line["event"] == "news_failed" && line["reason"] == "distrusted"
    });
    let told = line["message"].as_str().unwrap();
    for wanted in [
        "spiffe://test.internal/plugin/thief",
        "is no CA server",
        "told nothing",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    // Nor does a host that joins show it the token: it asks for what is public, and no more.
    let once = installation
        .agent("other")
        .flag("--token-file", token)
        .arg("--once")
        .run("gapura-agent");
    assert_eq!(once.code, Some(1), "{}", once.stdout);
    assert!(once.stderr.contains("is no CA server"), "{}", once.stderr);
    let seen = impostor.seen();
    assert!(!seen.is_empty(), "the public part was asked for");
    for request in seen {
        assert!(
            request.starts_with("GET /.well-known/est/cacerts "),
            "{request}"
        );
        assert!(
            !request.to_lowercase().contains("authorization"),
            "{request}"
        );
    }
    assert!(!installation.path("other").exists());
}

#[test]
fn it_cannot_renew_as_another_nor_after_it_was_revoked() {
    let installation = Installation::start("24h");
    drop(installation.joined("plugin", "echo"));
    drop(installation.joined("plugin", "other"));
    let stolen = installation.path("echo");
    let ask = |id: &str| reenrol(&installation, &stolen, id);
    let ca = installation.ca.as_ref().unwrap();
    let (status, said) = ask("spiffe://test.internal/plugin/other");
    assert_eq!(status, 403, "{said}");
    assert!(said.contains("csr_identity"), "{said}");
    let line = ca.wait_for_line("who asked for what", |line| line["code"] == "csr_identity");
    assert_eq!(line["id"], "spiffe://test.internal/plugin/echo", "{line}");
    installation.pki(&["revoke", "plugin/echo", "--reason", "key-compromise"]);
    within(PATIENT, "it is refused", || {
        let (status, said) = ask("spiffe://test.internal/plugin/echo");
        assert_ne!(status, 200, "{said}");
        (status == 0 || said.contains("revoked")).then_some(())
    });
    ca.wait_for_line("the revocation", |line| {
        let text = line.to_string();
        text.contains("revoked") && text.contains("plugin/echo")
    });
}
