//! What has not begun waits for its time, and what is older than what was in force before a restart
//! lets nobody in.

use std::time::{Duration, UNIX_EPOCH};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::mint::{Ca, DAY, Dir, GATEWAY, Leaf, PLUGIN, now, options, serial, valid};
use crate::set::{TrustError, TrustOptions, TrustSet};
use gapura_certificates::marks::Marks;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::Refusal;
use gapura_protocol::identity::Role;

fn judged(set: &TrustSet, leaf: &Leaf, at: i64) -> Result<(), &'static str> {
    let time = UNIX_EPOCH + Duration::from_secs(at.unsigned_abs());
    set.judge(&leaf.chain, Purpose::Client, time)
        .map(drop)
        .map_err(|refusal| refusal.reason())
}

fn own(root: &Ca, from: i64) -> Leaf {
    root.leaf(PLUGIN, &[ServerAuth], valid(from, 30 * DAY))
}

/// A list that begins so many seconds from now and is due a fortnight later.
fn list(ca: &Ca, number: u64, revoked: &[u64], from: i64) -> String {
    ca.crl_due(number, revoked, now() + from + 14 * DAY)
}

#[test]
fn a_set_that_has_not_begun_does_not_follow_one_that_has() {
    let root = Ca::root("r");
    let options = options(Role::Plugin);
    let dir = Dir::of(&own(&root, -DAY), &root.pem, Some(&root.crl(1, &[])));
    let first = dir.load(&options, None).unwrap();
    dir.publish(&own(&root, 300), &root.pem, Some(&root.crl(2, &[])));
    let waits = dir.load(&options, Some(&first)).err().unwrap();
    assert!(
        waits
            .begins()
            .is_some_and(|begins| begins > first.own().not_before),
        "{waits}"
    );
    assert!(waits.to_string().contains("begins at"), "{waits}");
    options.clock.shift(400);
    assert!(dir.load(&options, Some(&first)).is_ok());
    // At a start there is nothing to stay with: it starts, and is not ready until then.
    options.clock.shift(0);
    let early = dir.load(&options, None).unwrap();
    let clock = &options.clock;
    assert!(!early.is_in_date(clock.now()) && early.not_begun(clock.now()).is_some());
    assert!(matches!(
        early.own_refusal(clock.now()),
        Some(Refusal::NotYetValid { .. })
    ));
    clock.shift(400);
    assert!(early.is_in_date(clock.now()) && early.not_begun(clock.now()).is_none());
    assert_eq!(early.own_refusal(clock.now()), None);
}

#[test]
fn a_ca_of_the_chain_that_has_not_begun_is_waited_for_as_well() {
    let root = Ca::root("r");
    let issuing = root.issuing("i", valid(300, 300 * DAY));
    let options = options(Role::Plugin);
    let crls = format!("{}{}", root.crl(1, &[]), issuing.crl(1, &[]));
    let dir = Dir::of(&own(&root, -DAY), &root.pem, Some(&root.crl(1, &[])));
    let first = dir.load(&options, None).unwrap();
    dir.publish(
        &own(&issuing, -DAY).behind(&issuing),
        &root.pem,
        Some(&crls),
    );
    let waits = dir.load(&options, Some(&first)).err().unwrap();
    assert!(waits.begins().is_some(), "{waits}");
    let alone = dir.load(&options, None).unwrap();
    assert!(!alone.is_in_date(options.clock.now()));
    options.clock.shift(400);
    assert!(alone.is_in_date(options.clock.now()));
    assert!(dir.load(&options, Some(&first)).is_ok());
}

#[test]
fn a_list_from_the_future_counts_when_it_begins_and_not_before() {
    let root = Ca::root("r");
    let options = options(Role::Plugin);
    let gateway = root.leaf(GATEWAY, &[ClientAuth], serial(7));
    let dir = Dir::of(
        &own(&root, -DAY),
        &root.pem,
        Some(&list(&root, 1, &[], -60)),
    );
    let first = dir.load(&options, None).unwrap();
    // Alone it is waited for.
    dir.write("crl.pem", &list(&root, 2, &[7], 300));
    let waits = dir.load(&options, Some(&first)).err().unwrap();
    assert!(
        waits.begins().is_some() && waits.to_string().contains("crl.pem"),
        "{waits}"
    );
    // Beside one that is in force it waits by itself, and its mark does too.
    let both = format!("{}{}", list(&root, 1, &[], -60), list(&root, 2, &[7], 300));
    dir.write("crl.pem", &both);
    let second = dir.load(&options, Some(&first)).unwrap();
    assert_eq!(judged(&second, &gateway, now()), Ok(()));
    let marks = second.marks(options.clock.now());
    assert_eq!(judged(&second, &gateway, now() + 400), Err("revoked"));
    options.clock.shift(400);
    assert_ne!(second.marks(options.clock.now()), marks);
    // From now on the first one alone would be a step back.
    dir.write("crl.pem", &list(&root, 1, &[], -60));
    assert!(matches!(
        dir.load(&options, Some(&second)).err(),
        Some(TrustError::Crl(..))
    ));
    options.clock.shift(0);
    // At a start with such a list alone nobody is let in until it begins.
    dir.write("crl.pem", &list(&root, 2, &[], 300));
    let early = dir.load(&options, None).unwrap();
    assert_eq!(judged(&early, &gateway, now()), Err("crl_not_begun"));
    assert!(
        early
            .not_begun(options.clock.now())
            .unwrap()
            .contains("CN=r")
    );
    assert!(early.own_refusal(options.clock.now()).is_some());
    assert_eq!(judged(&early, &gateway, now() + 400), Ok(()));
}

/// The marks of a program that had this list in force.
fn marks(root: &Ca, options: &TrustOptions, crl: &str) -> Marks {
    let dir = Dir::of(&own(root, -DAY), &root.pem, Some(crl));
    dir.load(options, None).unwrap().marks(options.clock.now())
}

#[test]
fn a_set_older_than_the_marks_starts_and_lets_nobody_in() {
    let root = Ca::root("r");
    let options = options(Role::Plugin);
    let gateway = root.leaf(GATEWAY, &[ClientAuth], serial(9));
    let known = marks(&root, &options, &root.crl(5, &[7]));
    let start = |crl: &str, marks: &Marks| {
        let dir = Dir::of(&own(&root, -DAY), &root.pem, Some(crl));
        let set = TrustSet::start(dir.path(), &options, marks).unwrap();
        (dir, set)
    };
    for number in [5, 6] {
        let (_, set) = start(&root.crl(number, &[]), &known);
        assert_eq!(
            (judged(&set, &gateway, now()), set.went_back()),
            (Ok(()), None)
        );
    }
    let (dir, old) = start(&root.crl(4, &[]), &known);
    assert_eq!(judged(&old, &gateway, now()), Err("crl_went_back"));
    let sentence = old.went_back().unwrap();
    assert!(
        sentence.contains("CN=r") && sentence.contains("0x04") && sentence.contains("0x05"),
        "{sentence}"
    );
    assert!(matches!(
        old.own_refusal(options.clock.now()),
        Some(Refusal::CrlWentBack { .. })
    ));
    // What was known is not forgotten by it, and a newer set heals.
    assert_eq!(old.marks(options.clock.now()), known);
    dir.write("crl.pem", &root.crl(3, &[]));
    assert!(dir.load(&options, Some(&old)).is_err());
    dir.write("crl.pem", &root.crl(6, &[]));
    let healed = dir.load(&options, Some(&old)).unwrap();
    assert_eq!(
        (judged(&healed, &gateway, now()), healed.went_back()),
        (Ok(()), None)
    );
    // The marks are an issuer's own, and an operator may have them forgotten.
    let its = root.impostor();
    let same_name = marks(&its, &options, &its.crl(9, &[]));
    let (_, set) = start(&root.crl(1, &[]), &same_name);
    assert_eq!(set.went_back(), None);
    let mut forgotten = known.clone();
    assert_eq!((forgotten.forget("CN=r"), forgotten.forget("CN=x")), (1, 0));
    let (_, set) = start(&root.crl(4, &[]), &forgotten);
    assert_eq!(judged(&set, &gateway, now()), Ok(()));
}

#[test]
fn one_that_is_new_enough_and_has_not_begun_is_waited_for_beside_an_old_one() {
    let root = Ca::root("r");
    let options = options(Role::Plugin);
    let gateway = root.leaf(GATEWAY, &[ClientAuth], serial(9));
    let known = marks(&root, &options, &list(&root, 5, &[], -60));
    let both = format!("{}{}", list(&root, 4, &[], -60), list(&root, 6, &[], 300));
    let dir = Dir::of(&own(&root, -DAY), &root.pem, Some(&both));
    let set = TrustSet::start(dir.path(), &options, &known).unwrap();
    assert_eq!(judged(&set, &gateway, now()), Err("crl_not_begun"));
    assert!(set.not_begun(options.clock.now()).is_some() && set.again_at().is_some());
    options.clock.shift(400);
    let later = dir.load(&options, Some(&set)).unwrap();
    assert_eq!(judged(&later, &gateway, now() + 400), Ok(()));
}
