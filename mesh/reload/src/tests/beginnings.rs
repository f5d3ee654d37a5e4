//! What has not begun is waited for, and how far the lists had come is kept.

use std::time::Duration;

use gapura_certificates::marks::Marks;
use gapura_protocol::identity::Role;
use gapura_trust::set::{TrustOptions, TrustSet};
use gapura_trust::state::StateDir;
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;

use super::mint::{Ca, DAY, Dir, Leaf, PLUGIN, options, valid};
use super::watching::{Kept, eventually};

fn own(root: &Ca, from: i64) -> Leaf {
    root.leaf(PLUGIN, &[ServerAuth], valid(from, 30 * DAY))
}

/// The marks of a program that had this list in force.
fn marks(root: &Ca, options: &TrustOptions, crl: &str) -> Marks {
    let dir = Dir::of(&own(root, -DAY), &root.pem, Some(crl));
    dir.load(options, None).unwrap().marks(options.clock.now())
}

#[tokio::test]
async fn a_keeper_waits_for_what_begins_under_the_alarm_clock_and_takes_it_then() {
    let kept = Kept::start(Ca::plugin);
    let early = own(&kept.root, 300);
    kept.dir
        .publish(&early, &kept.root.pem, Some(&kept.root.crl(2, &[])));
    eventually("the wait is an alarm", || kept.raised("clock")).await;
    assert_eq!(kept.generation(), 1);
    // Longer than a misfit may last: it is none.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!kept.raised("trust") && kept.raised("clock"));
    kept.clock.shift(400);
    eventually("it has begun", || {
        kept.generation() == 2 && !kept.raised("clock")
    })
    .await;
    kept.end().await;
}

#[tokio::test]
async fn a_start_with_what_has_not_begun_heals_by_itself() {
    let kept = Kept::start(|root| own(root, 300));
    eventually("an alarm", || kept.raised("clock")).await;
    assert!(!kept.raised("certificate"));
    kept.clock.shift(400);
    eventually("healed", || !kept.raised("clock")).await;
    kept.end().await;
}

#[tokio::test]
async fn how_far_the_lists_have_come_is_kept_for_the_next_start() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(&parent.path().join("state")).unwrap();
    let kept = Kept::start_with(Ca::plugin, Some(state.clone()));
    eventually("the first marks", || {
        state.marks().unwrap() != Marks::default()
    })
    .await;
    let first = state.marks().unwrap();
    kept.dir.write("crl.pem", &kept.root.crl(2, &[]));
    eventually("the next marks", || state.marks().unwrap() != first).await;
    // The next start meets an old backup of the directory.
    kept.dir.write("crl.pem", &kept.root.crl(1, &[]));
    let known = state.marks().unwrap();
    let set = TrustSet::start(kept.dir.path(), &options(Role::Plugin), &known).unwrap();
    assert!(set.went_back().is_some());
    kept.end().await;
}

#[tokio::test]
async fn a_start_with_old_lists_is_the_alarm_revoked_until_new_ones_come() {
    let root = Ca::root("r");
    let known = marks(&root, &options(Role::Plugin), &root.crl(5, &[]));
    let kept = Kept::start_from(root, Ca::plugin, &known);
    eventually("an alarm", || kept.raised("revoked")).await;
    kept.dir.write("crl.pem", &kept.root.crl(6, &[]));
    eventually("healed", || {
        kept.generation() == 2 && !kept.raised("revoked")
    })
    .await;
    kept.end().await;
}
