//! The next certificate: over mutual TLS, for the one that is presented, and by the inventory's
//! word alone.

use super::host::{Host, alarms, metric};

#[test]
fn a_leaf_renews_itself_until_its_end_and_a_lost_answer_is_asked_for_again() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    let first = host.serial("billing");
    host.request("second", &[]);
    host.keep(&host.renew(&ca, "billing", "second"), "second");
    assert_ne!(host.serial("second"), first);
    let said = host.described("second");
    assert!(
        said.contains("URI:spiffe://test.internal/plugin/billing"),
        "{said}"
    );
    assert!(
        said.contains("TLS Web Server Authentication") && !said.contains("Client"),
        "{said}"
    );
    // The answer was lost: the same leaf, the same request.
    host.keep(&host.renew(&ca, "billing", "second"), "second");
    assert_eq!(metric(&ca, "gapura_ca_granted_total{how=\"renewed\"}"), 2.0);
    // And on from there.
    host.request("third", &[]);
    host.keep(&host.renew(&ca, "second", "third"), "third");
    assert!(alarms(&ca).is_empty(), "nobody has copied a key");
    let states: Vec<String> = host
        .listed("billing")
        .iter()
        .map(|leaf| leaf["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        states.iter().filter(|state| *state == "live").count(),
        1,
        "{states:?}"
    );
    assert_eq!(states.len(), 4);
    // By hand nobody renews what an agent looks after.
    let renewed = host.pki(&["renew", "--all"]);
    let skipped = renewed["skipped"].to_string();
    assert!(
        skipped.contains("plugin/billing") && skipped.contains("agent"),
        "{skipped}"
    );
    assert_eq!(host.try_pki(&["renew", "billing"]).code, Some(5));
    host.pki(&["check"]);
}

#[test]
fn a_gateways_leaf_renews_to_a_gateways() {
    let host = Host::new();
    let ca = host.start();
    let token = host.token(&["gateway", "edge"]);
    host.request("edge", &[]);
    host.keep(&host.enrol(&ca, &token, "edge"), "edge");
    host.request("next", &[]);
    host.keep(&host.renew(&ca, "edge", "next"), "next");
    let said = host.described("next");
    assert!(
        said.contains("spiffe://test.internal/gateway/edge"),
        "{said}"
    );
    assert!(
        said.contains("TLS Web Client Authentication") && !said.contains("Server"),
        "{said}"
    );
}

#[test]
fn a_key_in_two_hands_is_an_alarm_until_its_leaves_are_revoked() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    host.join(&ca, "orders");
    host.request("mine", &[]);
    host.request("thiefs", &[]);
    host.keep(&host.renew(&ca, "billing", "mine"), "mine");
    assert!(alarms(&ca).is_empty());
    host.keep(&host.renew(&ca, "billing", "thiefs"), "thiefs");
    let alarm = ca.wait_for_line("the alarm", |line| {
        line["event"] == "alarm" && line["name"] == "copied_key"
    });
    let message = alarm["message"].as_str().unwrap();
    assert!(
        message.contains("plugin/billing") && message.contains(&host.serial("mine")),
        "{message}"
    );
    assert_eq!(metric(&ca, "gapura_alarms{name=\"copied_key\"}"), 1.0);
    host.pki(&["revoke", "plugin/billing", "--reason", "key-compromise"]);
    gapura_tests::eventually("the alarm ends", || alarms(&ca).is_empty().then_some(()));
}

#[test]
fn what_is_revoked_forgotten_anothers_or_issued_by_hand_never_renews() {
    let host = Host::new();
    let ca = host.start();
    for name in ["billing", "orders", "stock"] {
        host.join(&ca, name);
        host.request(&format!("{name}-2"), &[]);
    }
    // As another.
    host.request(
        "as-orders",
        &[
            "-addext",
            "subjectAltName=URI:spiffe://test.internal/plugin/orders",
        ],
    );
    let (code, why) = host.renew(&ca, "billing", "as-orders").refused(403);
    assert!(
        code == "csr_identity" && why.contains("plugin/orders"),
        "{why}"
    );
    let line = ca.wait_for_line("the refusal", |line| line["code"] == "csr_identity");
    assert_eq!(line["id"], "spiffe://test.internal/plugin/billing");
    // With the key of another.
    std::fs::copy(host.path("orders.csr"), host.path("borrowed.csr")).unwrap();
    assert_eq!(
        host.renew(&ca, "billing", "borrowed").refused(403).0,
        "key_taken"
    );
    // Forgotten.
    host.pki(&["forget", "plugin/stock", "--reason", "no longer sold"]);
    let (code, why) = host.renew(&ca, "stock", "stock-2").refused(403);
    assert!(
        code == "forgotten" && why.contains("gone for good"),
        "{why}"
    );
    // Issued by hand.
    let out = host.text("by-hand");
    host.pki(&["issue", "plugin", "archive", "--out", &out]);
    std::fs::copy(host.path("by-hand/cert.pem"), host.path("archive.pem")).unwrap();
    std::fs::copy(host.path("by-hand/key.pem"), host.path("archive.key")).unwrap();
    let (code, why) = host.renew(&ca, "archive", "billing-2").refused(403);
    assert!(code == "not_enrolled" && why.contains("by hand"), "{why}");
    // Nobody.
    let body = format!("@{}", host.text("billing-2.csr"));
    let nobody = host.curl(
        &ca,
        "/.well-known/est/simplereenroll",
        &["--data-binary", &body],
    );
    assert_eq!(nobody.refused(401).0, "certificate_missing");
    // Revoked: by the record at once, and in the handshake when the lists are there.
    host.pki(&["revoke", "plugin/billing"]);
    let line = gapura_tests::eventually("the handshake refuses it", || {
        let answer = host.renew(&ca, "billing", "billing-2");
        assert_ne!(answer.status, 200, "a revoked one renewed");
        let refused = |line: &serde_json::Value| {
            line["event"] == "handshake_failed" && line["reason"] == "revoked"
        };
        ca.log().into_iter().find(refused)
    });
    assert_eq!(line["certificate"], "spiffe://test.internal/plugin/billing");
    assert_eq!(host.renew(&ca, "orders", "orders-2").status, 200);
    assert_eq!(host.listed("billing").len(), 1);
}

#[test]
fn a_record_that_was_put_back_is_told_of_and_never_renews_what_it_does_not_know() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    super::host::copy(&host.path("pki"), &host.path("snapshot"));
    host.join(&ca, "orders");
    host.request("next", &[]);
    // Under the running server, as a snapshot of the machine comes back.
    for name in ["inventory.jsonl", "inventory.head"] {
        std::fs::copy(
            host.path("snapshot").join(name),
            host.path("pki").join(name),
        )
        .unwrap();
    }
    let (code, why) = host.renew(&ca, "orders", "next").refused(403);
    assert!(
        code == "certificate_unknown" && why.contains("older backup"),
        "{why}"
    );
    let alarm = ca.wait_for_line("the alarm", |line| line["name"] == "rolled_back");
    let message = alarm["message"].as_str().unwrap();
    assert!(
        message.contains("plugin/orders") && message.contains("gapura-pki restore"),
        "{message}"
    );
    // Whom it knows goes on.
    assert_eq!(host.renew(&ca, "billing", "next").status, 200);
}
