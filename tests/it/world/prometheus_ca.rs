//! The alarms of a CA server and of its agents, each by what really causes it, through Prometheus
//! and Alertmanager.

use std::fs;

use gapura_telemetry::alarms::Alarm;

use super::has;
use super::prometheus::{Told, alertmanager, prometheus};
use crate::enrol::{Installation, reenrol, secret};

#[test]
fn each_alarm_of_a_ca_server_and_its_agents_reaches_whoever_is_on_call() {
    if !has("prometheus") || !has("prometheus-alertmanager") {
        return;
    }
    let mut installation = Installation::start("24h");
    let joined = |installation: &Installation, name: &str| {
        let token = installation.token("plugin", name, &[]);
        let agent = installation.agent(name).flag("--token-file", token);
        let mut agent = agent.flag("--news-alarm", "3s").start("gapura-agent");
        agent.wait_until_started();
        let _ = agent.wait_for_event("published");
        agent
    };
    let (echo, orders) = (
        joined(&installation, "echo"),
        joined(&installation, "orders"),
    );
    let files = tempfile::tempdir().unwrap();
    let told = Told::default();
    let alertmanager = alertmanager(files.path(), told.listen());
    let ca = installation.ca.take().unwrap();
    let _prometheus = prometheus(
        files.path(),
        alertmanager.address,
        &[("gapura-ca", &[&ca]), ("gapura-agent", &[&echo, &orders])],
    );

    // One certificate, renewed for two keys: somebody has a copy.
    let id = |name: &str| format!("spiffe://test.internal/plugin/{name}");
    let renew = |installation: &Installation, name: &str| {
        reenrol(installation, &installation.path(name), &id(name)).0
    };
    assert_eq!(renew(&installation, "orders"), 200);
    assert_eq!(renew(&installation, "orders"), 200);
    told.wait_for(Alarm::CopiedKey, &ca, "firing");
    // So it is revoked, and its agent can't renew until it has a new token.
    installation.pki(&["revoke", "plugin/orders", "--reason", "key-compromise"]);
    told.wait_for(Alarm::CopiedKey, &ca, "resolved");
    told.wait_for(Alarm::Renewal, &orders, "firing");
    let token = installation.token("plugin", "orders", &[]);
    assert!(token.exists(), "the agent reads it again");
    told.wait_for(Alarm::Renewal, &orders, "resolved");

    // Half of the record is gone: nobody can be issued anything, and it is put back.
    let record = installation.path("pki/inventory.jsonl");
    let whole = fs::read(&record).unwrap();
    let late = installation.token("plugin", "late", &[]);
    let once = |installation: &Installation| {
        let agent = installation.agent("late").flag("--token-file", &late);
        agent.arg("--once").run("gapura-agent").code
    };
    let with_token = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    assert_ne!(once(&installation), Some(0));
    told.wait_for(Alarm::Issuing, &ca, "firing");
    told.wait_for(Alarm::Record, &ca, "firing");
    fs::write(&record, &with_token).unwrap();
    assert_eq!(once(&installation), Some(0));
    told.wait_for(Alarm::Issuing, &ca, "resolved");
    told.wait_for(Alarm::Record, &ca, "resolved");

    // The server is away for longer than its agents may be without news.
    let address = installation.address.to_string();
    drop(ca);
    told.wait_for(Alarm::News, &echo, "firing");
    let ca = installation.server("24h", &address).start("gapura-ca");
    installation.serve(ca);
    told.wait_for(Alarm::News, &echo, "resolved");
}

#[test]
fn a_record_that_was_put_back_reaches_whoever_is_on_call() {
    if !has("prometheus") || !has("prometheus-alertmanager") {
        return;
    }
    let installation = Installation::start("24h");
    let files = tempfile::tempdir().unwrap();
    let told = Told::default();
    let alertmanager = alertmanager(files.path(), told.listen());
    let ca = installation.ca.as_ref().unwrap();
    let _prometheus = prometheus(files.path(), alertmanager.address, &[("gapura-ca", &[ca])]);
    let names =
        ["inventory.jsonl", "inventory.head"].map(|name| installation.path("pki").join(name));
    let before = names.clone().map(|name| fs::read(name).unwrap());
    let agent = installation.joined("plugin", "orders");
    drop(agent);
    for (name, text) in names.iter().zip(before) {
        secret(name, std::str::from_utf8(&text).unwrap());
    }
    let (status, _) = reenrol(
        &installation,
        &installation.path("orders"),
        "spiffe://test.internal/plugin/orders",
    );
    assert_eq!(status, 403);
    told.wait_for(Alarm::RolledBack, ca, "firing");
}
