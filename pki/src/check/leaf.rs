//! Each leaf in use, and the mesh directory it is in: when it ends, wherever it is, and what is
//! amiss with what is shown.
//!
//! In: the inventory, and the directories, read by handle, several at a time, each within its time
//! limit. Out: findings.

use gapura_files::directory::{MeshFiles, Stamp};
use gapura_trust::set::{TrustOptions, TrustSet};
use zeroize::Zeroizing;

use crate::check::checkup::{Checkup, EndOf, Level};
use crate::error::Error;
use crate::held_dir;
use crate::ledger::{Leaf, Ledger};
use crate::mesh_dir::{self, Current};
use crate::parallel;
use crate::pki::Pki;
use crate::standing::{self, Standing};
use crate::timestamp::Timestamp;

/// How a directory stands, and what it shows, if that can be read.
type Found = (Standing, Option<Current>);

/// Looks at all of them.
pub(super) fn check_all(
    pki: &Pki,
    checkup: &mut Checkup,
    ledger: &Ledger,
    now: Timestamp,
) -> Result<(), Error> {
    let crls = pki.trust_material().ok().and_then(|(_, crls, _)| crls);
    let leaves: Vec<&Leaf> = ledger
        .in_use()
        .into_iter()
        .filter(|leaf| ledger.revocation(&leaf.issuer, &leaf.serial).is_none())
        .collect();
    let own = pki.own(ledger);
    let found = parallel::each_within(
        leaves.iter().map(|leaf| (*leaf).clone()).collect(),
        mesh_dir::LIMIT,
        move |leaf: Leaf| -> Found {
            if leaf.is_enrolled() {
                return (Standing::Gone, None);
            }
            let standing = standing::look(&leaf, &own, false)
                .unwrap_or_else(|why| Standing::Unreadable(why.to_string()));
            let shown = held_dir::open(&leaf.out).ok().flatten();
            let shown = shown.and_then(|dir| mesh_dir::shown(&dir).ok().flatten());
            (standing, shown)
        },
        |at| {
            let late = leaves.get(at).map(|leaf| held_dir::late(&leaf.out));
            let why = late.map_or_else(String::new, |late| late.to_string());
            (Standing::Late(why), None)
        },
    )?;
    for (leaf, found) in leaves.iter().zip(found) {
        check(pki, checkup, ledger, leaf, (now, crls.as_deref()), found);
    }
    Ok(())
}

/// A leaf that an agent looks after, on another host: what is to be seen from here is whether it
/// was renewed in time.
fn check_enrolled(checkup: &mut Checkup, ledger: &Ledger, leaf: &Leaf, now: Timestamp) {
    let place = leaf.out.display();
    let object = format!("{} by {place}", leaf.label());
    let fix = format!(
        "see `gapura-agent status` on its host; if it is no more: gapura-pki forget {} --out {place} --reason \"...\"",
        leaf.label()
    );
    let life = (leaf.issued_at(), leaf.not_after);
    // An agent renews when a third is left, and a little later where the CA server was busy.
    if leaf.not_after.since(now) * 4 < leaf.not_after.since(leaf.issued_at()) {
        checkup.age("LEAF_EXPIRY", &object, life, now, &fix);
    }
    checkup.ends(EndOf::Leaf(leaf.label(), leaf.out.clone()), leaf.not_after);
    checkup.live_leaves += usize::from(ledger.is_live(leaf, now));
}

fn check(
    pki: &Pki,
    checkup: &mut Checkup,
    ledger: &Ledger,
    leaf: &Leaf,
    (now, crls): (Timestamp, Option<&[Vec<u8>]>),
    (standing, shown): Found,
) {
    if leaf.is_enrolled() {
        return check_enrolled(checkup, ledger, leaf, now);
    }
    let object = format!("{} in {}", leaf.label(), leaf.out.display());
    let fix = format!("gapura-pki renew {}", leaf.label());
    let is_gone = standing == Standing::Gone;
    let life = (leaf.issued_at(), leaf.not_after);
    let gone = format!(
        "{fix}; if it is no more: gapura-pki revoke {} --reason cessation",
        leaf.label()
    );
    checkup.age(
        "LEAF_EXPIRY",
        &object,
        life,
        now,
        if is_gone { &gone } else { &fix },
    );
    checkup.ends(EndOf::Leaf(leaf.label(), leaf.out.clone()), leaf.not_after);
    match &standing {
        Standing::Gone => {
            // Moved to another machine, or taken down: what is left to say is when it ends.
            if leaf.not_after > now {
                let found = "its mesh directory can't be seen from here".to_owned();
                let what = (found, "a mesh directory", gone.as_str());
                checkup.add(Level::Info, "DIR_GONE", &object, what);
            }
            return;
        }
        Standing::Late(why) | Standing::Unreadable(why) => {
            let what = (why.clone(), "files that can be read", fix.as_str());
            return checkup.add(Level::Critical, "DIR_FILE", &object, what);
        }
        Standing::Behind(why) => {
            let fix = "gapura-pki renew --all --due";
            let found = format!("{why}: serial {}", leaf.serial);
            let what = (found, "the certificate that was issued last", fix);
            checkup.add(Level::Warning, "DIR_DRIFT", &object, what);
        }
        Standing::Foreign(why) => {
            let want = "the certificate that was issued last";
            return checkup.add(
                Level::Warning,
                "DIR_DRIFT",
                &object,
                (why.clone(), want, &fix),
            );
        }
        Standing::Keyless(why) => {
            let what = (why.clone(), "the key of its certificate", fix.as_str());
            checkup.add(Level::Critical, "DIR_KEY", &object, what);
        }
        Standing::Shows(_) if ledger.is_live(leaf, now) => checkup.live_leaves += 1,
        Standing::Shows(_) => {}
    }
    let Some(shown) = shown else { return };
    if crls.is_some_and(|crls| !crls.iter().all(|crl| shown.crls.contains(crl))) {
        let last = ledger.crl(&leaf.issuer).map_or(0, |crl| crl.number);
        let found = format!("its crl.pem is not the last one, number {last}");
        let what = (found, "the CRLs of this CA", "gapura-pki crl refresh");
        checkup.add(Level::Warning, "DIR_CRL", &object, what);
    }
    if let Some(mode) = shown.key_mode.filter(|mode| mode & 0o077 != 0) {
        let key = leaf.out.join("key.pem").display().to_string();
        let fix = format!("chmod 0600 {key}");
        let what = (format!("mode {mode:04o}"), "0600", fix.as_str());
        checkup.add(Level::Critical, "KEY_MODE", &key, what);
    }
    if matches!(standing, Standing::Shows(_)) {
        check_fit(pki, checkup, leaf, &object, shown);
    }
}

/// What the program beside it will say when it starts.
fn check_fit(pki: &Pki, checkup: &mut Checkup, leaf: &Leaf, object: &str, shown: Current) {
    let Some(key) = shown.key else {
        let found = "it holds no key.pem".to_owned();
        let way = "put the key that made the request beside cert.pem, mode 0600";
        let what = (found, "the key of its certificate", way);
        return checkup.add(Level::Warning, "DIR_KEY", object, what);
    };
    let [cert, ca, crl] = shown.raw;
    let files = MeshFiles {
        cert,
        key: Zeroizing::new(key.to_vec()),
        ca,
        crl: Some(crl).filter(|crl| !crl.is_empty()),
        hash: [0; 32],
        stamp: Stamp::default(),
    };
    let options = TrustOptions {
        own_role: leaf.role,
        no_crl: false,
        clock: pki.clock().clone(),
    };
    if let Err(why) = TrustSet::build(&leaf.out, &files, &options, None) {
        let fix = format!("gapura-pki renew {}", leaf.label());
        let what = (
            why.to_string(),
            "a set that gateway or sidecar takes",
            fix.as_str(),
        );
        checkup.add(Level::Critical, "DIR_UNFIT", object, what);
    }
}
