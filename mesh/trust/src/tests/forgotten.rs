//! Which revocations a newer list may leave out.

use std::collections::BTreeSet;

use rcgen::SerialNumber;
use rustls::pki_types::CertificateRevocationListDer;

use super::mint::{Ca, DAY, at, now};
use gapura_certificates::forgotten::{Forgotten, forgotten};
use gapura_files::pem;

/// A list that names these serials, each revoked so many days ago.
fn list(ca: &Ca, number: u64, revoked: &[(u64, i64)]) -> CertificateRevocationListDer<'static> {
    let serials = revoked
        .iter()
        .map(|(serial, _)| SerialNumber::from(*serial));
    let mut params = ca.crl_params(number, serials.collect(), now() + 7 * DAY);
    for (entry, (_, ago)) in params.revoked_certs.iter_mut().zip(revoked) {
        entry.revocation_time = at(now() - ago * DAY);
    }
    let text = params.signed_by(&ca.crl_issuer()).unwrap().pem().unwrap();
    pem::crls(text.as_bytes()).unwrap().remove(0)
}

fn lost(
    before: &[CertificateRevocationListDer<'static>],
    after: &[CertificateRevocationListDer<'static>],
) -> Vec<String> {
    let since = u64::try_from(now() - 90 * DAY).unwrap();
    let lost: BTreeSet<Forgotten> = forgotten(before, after, since).unwrap();
    lost.into_iter().map(|one| one.serial).collect()
}

#[test]
fn a_revocation_that_a_newer_list_lacks_is_lost_unless_it_is_old() {
    let ca = Ca::root("r");
    let before = [list(&ca, 1, &[(7, 2), (0x80, 89), (9, 91)])];
    assert_eq!(lost(&before, &[list(&ca, 2, &[])]), ["07", "80"]);
    assert_eq!(lost(&before, &[list(&ca, 2, &[(7, 2)])]), ["80"]);
    // The twins: all are there, with more; or there was nothing.
    let all = [list(&ca, 2, &[(7, 2), (0x80, 89), (11, 0)])];
    assert!(lost(&before, &all).is_empty());
    assert!(lost(&[list(&ca, 1, &[])], &all).is_empty());
    assert!(lost(&[], &all).is_empty());
}

#[test]
fn lists_are_compared_by_their_issuers() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let before = [list(&one, 1, &[(7, 1)]), list(&two, 1, &[(8, 1)])];
    // A serial that another issuer names is none of ours; and an issuer without any list lets
    // nobody in.
    let after = [list(&one, 2, &[(8, 1)])];
    assert_eq!(lost(&before, &after), ["07"]);
    let after = [list(&one, 2, &[(7, 1)]), list(&two, 2, &[])];
    assert_eq!(lost(&before, &after), ["08"]);
}
