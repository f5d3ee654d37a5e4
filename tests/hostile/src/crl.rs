//! A list of the revoked is read whole or not at all, the same each time, and never when its end is
//! missing.

use gapura_certificates::crl::Crl;
use gapura_files::pem;

/// Holds the file's sentence to one input, PEM or DER.
pub fn check(bytes: &[u8]) {
    if let Ok(lists) = pem::crls(bytes) {
        for list in lists {
            check_list(&list);
        }
    }
    check_list(bytes);
}

fn check_list(der: &[u8]) {
    let Ok(list) = Crl::read(der) else { return };
    assert!(!list.issuer_label().contains('\n'), "a label of two lines");
    let serials = || {
        let mut all: Vec<Vec<u8>> = Vec::new();
        let count = list.for_each_revoked(|entry| all.push(entry.serial.to_vec()));
        count.map(|count| (count, all))
    };
    if let (Ok((count, first)), Ok((_, again))) = (serials(), serials()) {
        assert_eq!(first, again);
        assert_eq!(count, first.len());
    }
    assert!(
        Crl::read(&der[..der.len() - 1]).is_err(),
        "a list without its end was taken"
    );
}
