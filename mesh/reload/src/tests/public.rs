//! The gateway's public certificate: how one pair follows another.

use std::path::Path;
use std::time::Duration;

use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_trust::public::{PublicCertificate, PublicStore};

use super::mint::{Ca, DAY, Leaf, valid, write_secret};
use super::watching::{Lines, eventually};
use crate::asked::Reloads;
use crate::public::{PublicReloader, run};

fn edge(ca: &Ca, days: i64) -> Leaf {
    ca.leaf(
        "spiffe://x/gateway/x",
        &[rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        |params| {
            params.subject_alt_names =
                vec![rcgen::SanType::DnsName("edge.test".try_into().unwrap())];
            valid(-DAY, days * DAY)(params);
        },
    )
}

fn publish(dir: &Path, leaf: &Leaf) {
    write_secret(&dir.join("edge.crt"), &leaf.cert);
    write_secret(&dir.join("edge.key"), &leaf.key);
}

fn load(dir: &Path) -> PublicCertificate {
    PublicCertificate::load(&dir.join("edge.crt"), &dir.join("edge.key")).unwrap()
}

#[tokio::test]
async fn files_replaced_one_by_one_are_taken_once_they_fit() {
    let (ca, dir) = (Ca::root("public"), tempfile::tempdir().unwrap());
    publish(dir.path(), &edge(&ca, 30));
    let store = PublicStore::new(load(dir.path()));
    let (first, lines, clock) = (
        store.load().serial_hex().to_owned(),
        Lines::default(),
        Clock::system(),
    );
    let log = Log::to("gateway", clock.clone(), Box::new(lines.clone())).unwrap();
    let alarms = Alarms::new(log.clone());
    let asked = Reloads::default().subscribe();
    let reloader = PublicReloader {
        store: store.clone(),
        cert: dir.path().join("edge.crt"),
        key: dir.path().join("edge.key"),
        clock: clock.clone(),
        alarms: alarms.clone(),
        log,
    };
    let task = tokio::spawn(run(reloader, asked));
    let next = edge(&ca, 60);
    write_secret(&dir.path().join("edge.crt"), &next.cert);
    eventually("the misfit is told", || {
        lines.have("public_certificate_refused")
    })
    .await;
    assert_eq!(store.load().serial_hex(), first);
    write_secret(&dir.path().join("edge.key"), &next.key);
    let took = eventually("the new pair is in force", || {
        store.load().serial_hex() != first
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    // One that has not begun is waited for.
    let current = store.load().serial_hex().to_owned();
    let early = ca.leaf(
        "spiffe://x/gateway/x",
        &[rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        valid(300, 60 * DAY),
    );
    publish(dir.path(), &early);
    eventually("the wait is told", || lines.have("begins at")).await;
    assert_eq!(store.load().serial_hex(), current);
    clock.shift(400);
    eventually("it has begun", || store.load().serial_hex() != current).await;
    clock.shift(61 * DAY);
    eventually("it has ended", || {
        alarms
            .raised()
            .iter()
            .any(|(name, _)| *name == "public_certificate")
    })
    .await;
    publish(dir.path(), &edge(&ca, 90));
    eventually("it is mended", || alarms.raised().is_empty()).await;
    task.abort();
}
