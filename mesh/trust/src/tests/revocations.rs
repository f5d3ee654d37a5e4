//! Which CRLs count, which certificates they end, and how long they clear the others.

use std::time::{Duration, UNIX_EPOCH};

use rcgen::ExtendedKeyUsagePurpose::ClientAuth;
use rcgen::{
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, KeyUsagePurpose, SerialNumber,
};

use super::mint::{Ca, DAY, Dir, GATEWAY, Leaf, now, options, serial};
use crate::set::{TrustError, TrustSet};
use gapura_certificates::crl::{Crl, CrlError, Part};
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::Refusal;
use gapura_certificates::revocation::RevocationError;
use gapura_files::pem;
use gapura_protocol::identity::Role;

fn judged(set: &TrustSet, leaf: &Leaf, at: i64) -> Result<(), &'static str> {
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap());
    set.judge(&leaf.chain, Purpose::Client, time)
        .map(drop)
        .map_err(|refusal| refusal.reason())
}

fn leaf(ca: &Ca, number: u64) -> Leaf {
    ca.leaf(GATEWAY, &[ClientAuth], serial(number))
}

/// A sidecar's directory under `root` with this `crl.pem`.
fn dir(root: &Ca, crl: &str) -> Dir {
    Dir::of(&root.plugin(), &root.pem, Some(crl))
}

fn load(dir: &Dir, previous: Option<&TrustSet>) -> Result<TrustSet, TrustError> {
    dir.load(&options(Role::Plugin), previous)
}

fn crl_error(result: Result<TrustSet, TrustError>) -> RevocationError {
    match result.err().unwrap() {
        TrustError::Crl(path, err) => {
            assert!(path.ends_with("crl.pem") && !err.to_string().is_empty());
            err
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn a_named_serial_is_revoked_and_its_neighbours_are_not() {
    let root = Ca::root("r");
    // Serial numbers of which one is a prefix of another, and one that DER writes with a leading
    // zero.
    let set = load(&dir(&root, &root.crl(1, &[0x80, 0x0101, 7, 7])), None).unwrap();
    for (number, wanted) in [
        (0x80, Err("revoked")),
        (0x0101, Err("revoked")),
        (7, Err("revoked")),
        (1, Ok(())),
        (0x8000, Ok(())),
        (0x70, Ok(())),
        (0x0102, Ok(())),
    ] {
        assert_eq!(
            judged(&set, &leaf(&root, number), now()),
            wanted,
            "{number:x}"
        );
    }
    let refusal = set
        .judge(
            &leaf(&root, 0x80).chain,
            Purpose::Client,
            UNIX_EPOCH + Duration::from_secs(now().unsigned_abs()),
        )
        .unwrap_err();
    assert_eq!(
        refusal,
        Refusal::Revoked {
            serial: "80".to_owned(),
            leaf: GATEWAY.to_owned()
        }
    );
    assert!(refusal.to_string().contains("serial 80"));
}

#[test]
fn a_serial_is_its_issuers_alone() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let roots = format!("{}{}", one.pem, two.pem);
    let crls = format!("{}{}", one.crl(1, &[7]), two.crl(1, &[8]));
    let set = load(&Dir::of(&one.plugin(), &roots, Some(&crls)), None).unwrap();
    assert_eq!(judged(&set, &leaf(&one, 7), now()), Err("revoked"));
    assert_eq!(judged(&set, &leaf(&two, 7), now()), Ok(()));
    assert_eq!(judged(&set, &leaf(&one, 8), now()), Ok(()));
    assert_eq!(judged(&set, &leaf(&two, 8), now()), Err("revoked"));
}

#[test]
fn two_cas_of_one_name_are_told_apart_by_their_keys() {
    let one = Ca::root("same");
    let two = one.impostor();
    let roots = format!("{}{}", one.pem, two.pem);
    let crls = format!("{}{}", two.crl(1, &[8]), one.crl(1, &[7]));
    let set = load(&Dir::of(&one.plugin(), &roots, Some(&crls)), None).unwrap();
    assert_eq!(judged(&set, &leaf(&one, 7), now()), Err("revoked"));
    assert_eq!(judged(&set, &leaf(&one, 8), now()), Ok(()));
    assert_eq!(judged(&set, &leaf(&two, 8), now()), Err("revoked"));
}

#[test]
fn an_issuer_without_a_crl_in_a_set_that_has_any_has_its_leaves_refused() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let roots = format!("{}{}", one.pem, two.pem);
    let set = load(
        &Dir::of(&one.plugin(), &roots, Some(&one.crl(1, &[]))),
        None,
    )
    .unwrap();
    assert_eq!(judged(&set, &leaf(&one, 1), now()), Ok(()));
    assert_eq!(judged(&set, &leaf(&two, 1), now()), Err("no_crl"));
    let both = format!("{}{}", one.crl(1, &[]), two.crl(1, &[]));
    let set = load(&Dir::of(&one.plugin(), &roots, Some(&both)), None).unwrap();
    assert_eq!(judged(&set, &leaf(&two, 1), now()), Ok(()));
}

#[test]
fn an_issuing_ca_needs_its_own_crl_and_its_root_none() {
    let root = Ca::root("r");
    let issuing = root.issuing("i", serial(5));
    let with = |crl: &str| {
        load(
            &Dir::of(&issuing.plugin().behind(&issuing), &root.pem, Some(crl)),
            None,
        )
    };
    let peer = leaf(&issuing, 9).behind(&issuing);
    assert_eq!(
        judged(&with(&issuing.crl(1, &[])).unwrap(), &peer, now()),
        Ok(())
    );
    assert_eq!(
        judged(&with(&root.crl(1, &[])).unwrap(), &peer, now()),
        Err("no_crl")
    );
    let both = |root_revokes: &[u64], issuing_revokes: &[u64]| {
        format!(
            "{}{}",
            root.crl(1, root_revokes),
            issuing.crl(1, issuing_revokes)
        )
    };
    assert_eq!(
        judged(&with(&both(&[], &[])).unwrap(), &peer, now()),
        Ok(())
    );
    assert_eq!(
        judged(&with(&both(&[9], &[5])).unwrap(), &peer, now()),
        Ok(())
    );
    assert_eq!(
        judged(&with(&both(&[5], &[])).unwrap(), &peer, now()),
        Err("revoked")
    );
    assert_eq!(
        judged(&with(&both(&[], &[9])).unwrap(), &peer, now()),
        Err("revoked")
    );
}

#[test]
fn no_crl_at_all_is_a_choice() {
    let root = Ca::root("r");
    let files = Dir::of(&root.plugin(), &root.pem, None);
    assert!(matches!(
        load(&files, None).err(),
        Some(TrustError::NoCrl(_))
    ));
    let mut without = options(Role::Plugin);
    without.no_crl = true;
    let set = files.load(&without, None).unwrap();
    assert_eq!(judged(&set, &leaf(&root, 1), now()), Ok(()));
    assert_eq!(set.crl_next_update(), None);
    // Where there is one it counts, and then it may not vanish.
    files.write("crl.pem", &root.crl(1, &[1]));
    let set = files.load(&without, Some(&set)).unwrap();
    assert_eq!(judged(&set, &leaf(&root, 1), now()), Err("revoked"));
    std::fs::remove_file(files.path().join("crl.pem")).unwrap();
    assert!(matches!(
        files.load(&without, Some(&set)).err(),
        Some(TrustError::CrlGone(_))
    ));
}

#[test]
fn numbers_never_go_back_per_issuer() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let roots = format!("{}{}", one.pem, two.pem);
    let files = Dir::of(&one.plugin(), &roots, Some(&one.crl(0x0100, &[])));
    let publish = |crls: String, previous: &TrustSet| {
        files.write("crl.pem", &crls);
        load(&files, Some(previous))
    };
    let first = load(&files, None).unwrap();
    let back = publish(one.crl(0xff, &[7]), &first);
    assert!(matches!(crl_error(back), RevocationError::GoesBack { .. }));
    // The same again, a higher one, another issuer's low one: all fine.
    assert!(publish(one.crl(0x0100, &[7]), &first).is_ok());
    let second = publish(
        format!("{}{}", one.crl(0x0200, &[7]), two.crl(1, &[])),
        &first,
    )
    .unwrap();
    assert!(matches!(
        crl_error(publish(one.crl(0x0101, &[]), &second)),
        RevocationError::GoesBack { .. }
    ));
    // A set without the issuer's list does not forget how far it had come.
    let third = publish(two.crl(2, &[]), &second).unwrap();
    assert!(matches!(
        crl_error(publish(one.crl(0x0101, &[]), &third)),
        RevocationError::GoesBack { .. }
    ));
    assert!(publish(one.crl(0x0201, &[]), &third).is_ok());
    // A new start knows nothing of it.
    files.write("crl.pem", &one.crl(1, &[]));
    assert!(load(&files, None).is_ok());
}

#[test]
fn of_two_lists_of_one_issuer_the_higher_number_counts_in_either_order() {
    let root = Ca::root("r");
    let (old, new) = (root.crl_due(1, &[], now() - 30 * DAY), root.crl(2, &[7]));
    for crls in [format!("{old}{new}"), format!("{new}{old}")] {
        let set = load(&dir(&root, &crls), None).unwrap();
        assert_eq!(judged(&set, &leaf(&root, 7), now()), Err("revoked"));
        assert_eq!(judged(&set, &leaf(&root, 8), now()), Ok(()));
    }
}

#[test]
fn a_stale_list_clears_for_a_day_and_revokes_for_ever() {
    let root = Ca::root("r");
    let due = now();
    let set = load(&dir(&root, &root.crl_due(1, &[7], due)), None).unwrap();
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs((due + seconds).unsigned_abs());
    for (after, wanted, alarm) in [
        (0, Ok(()), false),
        (1, Ok(()), true),
        (DAY, Ok(()), true),
        (DAY + 1, Err("crl_too_old"), true),
        (20 * DAY, Err("crl_too_old"), true),
    ] {
        assert_eq!(
            judged(&set, &leaf(&root, 8), due + after),
            wanted,
            "{after}"
        );
        assert_eq!(
            judged(&set, &leaf(&root, 7), due + after),
            Err("revoked"),
            "{after}"
        );
        assert_eq!(set.crl_stale(at(after)).is_some(), alarm, "{after}");
    }
    assert_eq!(set.crl_next_update(), Some(due.unsigned_abs()));
}

#[test]
fn only_an_issuer_of_the_set_can_sign() {
    let (root, other) = (Ca::root("r"), Ca::root("other"));
    assert!(matches!(
        crl_error(load(&dir(&root, &other.crl(1, &[])), None)),
        RevocationError::UnknownIssuer { .. }
    ));
    assert!(matches!(
        crl_error(load(&dir(&root, &root.impostor().crl(1, &[])), None)),
        RevocationError::BadSignature { .. }
    ));
    let mute = Ca::root_with("mute", |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign]
    });
    assert!(matches!(
        crl_error(load(&dir(&mute, &mute.crl(1, &[])), None)),
        RevocationError::MayNotSign { .. }
    ));
    let open = Ca::root_with("open", |params| params.key_usages.clear());
    assert!(load(&dir(&open, &open.crl(1, &[])), None).is_ok());
    // One good list does not carry a bad one.
    let both = format!("{}{}", root.crl(1, &[]), other.crl(1, &[]));
    assert!(load(&dir(&root, &both), None).is_err());
}

#[test]
fn a_changed_byte_is_noticed() {
    let root = Ca::root("r");
    let pem = root.crl(1, &[1, 2, 3]);
    let der = pem::crls(pem.as_bytes()).unwrap().remove(0).to_vec();
    let provider = crate::provider::mesh_provider();
    let roots = gapura_certificates::roots::Roots::new(std::slice::from_ref(&root.der)).unwrap();
    let issuers: Vec<_> = roots.issuers().collect();
    let load = |der: Vec<u8>| {
        let algorithms = provider.signature_verification_algorithms.all;
        gapura_certificates::revocation::RevocationSet::new(
            &[der.into()],
            &issuers,
            algorithms,
            None,
        )
    };
    assert!(load(der.clone()).is_ok());
    for at in 0..der.len() {
        let mut bad = der.clone();
        bad[at] ^= 0x21;
        assert!(load(bad).is_err(), "{at}");
        assert!(load(der[..at].to_vec()).is_err(), "{at}");
    }
}

#[test]
fn a_partial_list_is_not_taken_for_a_whole_one() {
    let root = Ca::root("r");
    let with = |scope: Option<CrlScope>| {
        let mut params = root.crl_params(1, vec![SerialNumber::from(7)], now() + DAY);
        let distribution_point = CrlDistributionPoint {
            uris: vec!["http://crl.test/1".to_owned()],
        };
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point,
            scope,
        });
        params.signed_by(&root.crl_issuer()).unwrap().der().to_vec()
    };
    assert!(Crl::read(&with(None)).is_ok());
    assert_eq!(
        Crl::read(&with(Some(CrlScope::UserCertsOnly))).err(),
        Some(CrlError::Partial(Part::Users))
    );
    assert_eq!(
        Crl::read(&with(Some(CrlScope::CaCertsOnly))).err(),
        Some(CrlError::Partial(Part::Cas))
    );
}

#[test]
fn a_list_of_a_hundred_thousand_loads_and_finds_each() {
    let root = Ca::root("r");
    let serials = (0..100_000_u64)
        .map(|number| SerialNumber::from(number * 3 + 1))
        .collect();
    let crl = root
        .crl_params(1, serials, now() + DAY)
        .signed_by(&root.crl_issuer())
        .unwrap()
        .pem()
        .unwrap();
    let files = dir(&root, &crl);
    let begun = std::time::Instant::now();
    let set = load(&files, None).unwrap();
    println!("100,000 entries: {:?}", begun.elapsed());
    assert_eq!(
        judged(&set, &leaf(&root, 3 * 77_777 + 1), now()),
        Err("revoked")
    );
    assert_eq!(judged(&set, &leaf(&root, 3 * 77_777 + 2), now()), Ok(()));
    assert_eq!(set.certificates()["crls"][0]["revoked"], 100_000);
}

proptest::proptest! {
    #[test]
    fn reading_a_list_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        if let Ok(crl) = Crl::read(&bytes) {
            let _ = crl.for_each_revoked(|_| {});
        }
    }
}
