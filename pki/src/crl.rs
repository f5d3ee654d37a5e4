//! CRLs: signed, numbered, checked, stored; refreshed before they are out of date.
//!
//! Invariant: a number is in the inventory before its CRL is on the disk, and never used twice,
//! whatever crashed in between.

use std::collections::HashSet;
use std::path::PathBuf;

use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::ca::{self, Signer};
use crate::error::Error;
use crate::inspect::serial;
use crate::ledger::{Authority, AuthorityKind, Crl, Event, Ledger};
use crate::pem;
use crate::pki::{Change, Pki};
use crate::publish::Republished;
use crate::store::{self, Access};
use crate::timestamp::Timestamp;

/// What a refresh did.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The CRLs that were made.
    pub made: Vec<Crl>,
    /// Authorities whose CRL could not be made, because their key is kept offline.
    pub skipped: Vec<String>,
    /// The mesh directories that got them.
    pub republished: Vec<Republished>,
}

impl Pki {
    /// Signs every CRL anew and gives them to all mesh directories.
    ///
    /// # Errors
    /// A key can't be opened, or something can't be written.
    pub fn crl_refresh(&self) -> Result<Refreshed, Error> {
        let mut change = self.hold_to_publish(&[])?;
        let (made, skipped) = self.refresh_crls(&mut change)?;
        let republished = self.republish(&change)?;
        Ok(Refreshed {
            made,
            skipped,
            republished,
        })
    }

    /// Signs the CRL of every authority that peers may meet.
    pub(crate) fn refresh_crls(
        &self,
        change: &mut Change,
    ) -> Result<(Vec<Crl>, Vec<String>), Error> {
        let ledger = change.inventory.ledger();
        let wanted: Vec<Authority> = ledger
            .published_issuers(change.now)
            .chain(ledger.trusted_roots(change.now))
            .cloned()
            .collect();
        let (mut signers, mut skipped) = (Vec::new(), Vec::new());
        for authority in &wanted {
            if authority.kind == AuthorityKind::Root && !self.root_key_at_hand(authority) {
                skipped.push(authority.id.clone());
            } else {
                signers.push(self.signer(authority)?); // all keys open before the first number is used
            }
        }
        let made = signers
            .iter()
            .map(|signer| self.sign_crl(change, signer))
            .collect::<Result<_, Error>>()?;
        Ok((made, skipped))
    }

    /// Makes anew the CRLs that a leaf of `signer` hangs on, if half of their life is over, so that
    /// nobody gets one that is out of date. Says whether any was.
    pub(crate) fn freshen(&self, change: &mut Change, signer: &Signer) -> Result<bool, Error> {
        let ledger = change.inventory.ledger();
        let old = |id: &str| {
            ledger.crl(id).is_none_or(|crl| {
                crl.next_update.since(change.now) * 2 < crl.next_update.since(crl.made_at)
            })
        };
        let root = ledger
            .authority(signer.id())
            .and_then(|issuer| issuer.parent.as_deref());
        // And those of any other CA that a run which died did not come to.
        let wanted: Vec<Authority> = ledger
            .published_issuers(change.now)
            .chain(ledger.trusted_roots(change.now))
            .filter(|authority| {
                let hangs_on = authority.id == signer.id() || Some(authority.id.as_str()) == root;
                (hangs_on && old(&authority.id))
                    || self.crl_is_behind(ledger, authority, change.now)
            })
            .filter(|authority| {
                authority.kind == AuthorityKind::Issuer || self.root_key_at_hand(authority)
            })
            .cloned()
            .collect();
        for authority in &wanted {
            if authority.id == signer.id() {
                self.sign_crl(change, signer)?;
            } else {
                let other = self.signer(authority)?;
                self.sign_crl(change, &other)?;
            }
        }
        Ok(!wanted.is_empty())
    }

    /// Whether the CRL on the disk is not the one that the inventory wants: absent, damaged, an
    /// earlier one, or without a serial that was revoked.
    pub(crate) fn crl_is_behind(
        &self,
        ledger: &Ledger,
        authority: &Authority,
        now: Timestamp,
    ) -> bool {
        let Ok(der) = self.stored_crl(authority) else {
            return true;
        };
        let Ok((_, parsed)) = CertificateRevocationList::from_der(&der) else {
            return true;
        };
        let listed: HashSet<String> = parsed
            .iter_revoked_certificates()
            .map(|entry| serial(entry.raw_serial()))
            .collect();
        let number = parsed
            .crl_number()
            .and_then(|number| u64::try_from(number).ok());
        number < ledger.crl(&authority.id).map(|crl| crl.number)
            || ledger
                .revoked_by(&authority.id, now)
                .iter()
                .any(|revoked| !listed.contains(&revoked.serial))
    }

    /// Signs, checks and stores the CRL of one authority.
    pub(crate) fn sign_crl(&self, change: &mut Change, signer: &Signer) -> Result<Crl, Error> {
        let ledger = change.inventory.ledger();
        let missing = || Error::Failed(format!("{} is not in the inventory", signer.id()));
        let authority = ledger.authority(signer.id()).ok_or_else(missing)?;
        let ttl = if self.is_offline(authority) {
            self.settings().offline_root_crl_ttl
        } else {
            self.settings().crl_ttl
        };
        let revoked = ledger.revoked_by(signer.id(), change.now);
        // The time as the number: it rises even where a restored backup no longer knows the last
        // one.
        let number = ledger
            .crl(signer.id())
            .map_or(0, |last| last.number.saturating_add(1))
            .max(change.now.0);
        // Verifiers whose clock is behind must take it too; but no earlier than the CA itself.
        let this_update = change
            .now
            .minus(crate::profile::BACKDATE)
            .max(authority.not_before);
        let life = (this_update, change.now.plus(ttl.as_secs()));
        let der = signer.sign_crl(number, life, &revoked)?;
        check(&der, signer.certificate(), number, revoked.len()).map_err(Error::SelfCheck)?;
        let record = Crl {
            issuer: signer.id().to_owned(),
            number,
            made_at: change.now,
            this_update: life.0,
            next_update: life.1,
            entries: revoked.len(),
        };
        change.append(vec![Event::Crl(record.clone())])?;
        let path = self.crl_path(signer.id());
        if let Some(folder) = path.parent() {
            store::make_dir(folder)?;
            store::sweep(folder)?;
        }
        store::replace(
            &path,
            pem::encode("X509 CRL", &der).as_bytes(),
            Access::Everyone,
        )?;
        Ok(record)
    }

    /// The last CRL of an authority, as DER.
    pub(crate) fn stored_crl(&self, authority: &Authority) -> Result<Vec<u8>, Error> {
        let path = self.crl_path(&authority.id);
        let mend = "run `gapura-pki crl refresh`";
        let bytes = store::read_if_there(&path)?
            .ok_or_else(|| Error::damaged(&path, format!("not there; {mend}")))?;
        let found =
            pem::crls(&bytes).map_err(|why| Error::damaged(&path, format!("{why}; {mend}")))?;
        let [der] = <[_; 1]>::try_from(found)
            .map_err(|_| Error::damaged(&path, format!("not exactly one CRL; {mend}")))?;
        verify(&der, &ca::certificate(self.dir(), authority)?)
            .map_err(|why| Error::damaged(&path, format!("{why}; {mend}")))?;
        Ok(der)
    }

    /// Where the CRL of an authority is kept.
    pub(crate) fn crl_path(&self, id: &str) -> PathBuf {
        self.dir().join("crl").join(format!("{id}.pem"))
    }
}

/// Whether `crl` was signed by the CA of `certificate`, both DER.
///
/// # Errors
/// A sentence about what doesn't fit.
pub fn verify(crl: &[u8], certificate: &[u8]) -> Result<(), String> {
    let (_, ca) = X509Certificate::from_der(certificate)
        .map_err(|_| "the CA certificate can't be read".to_owned())?;
    let (rest, parsed) =
        CertificateRevocationList::from_der(crl).map_err(|_| "not a CRL".to_owned())?;
    if !rest.is_empty() {
        return Err("bytes follow the CRL".to_owned());
    }
    if parsed.issuer().as_raw() != ca.subject().as_raw() {
        return Err(format!(
            "the CRL is of `{}`, not of `{}`",
            parsed.issuer(),
            ca.subject()
        ));
    }
    parsed
        .verify_signature(ca.public_key())
        .map_err(|_| format!("the CRL's signature is not by `{}`", ca.subject()))
}

/// Reads a CRL back as a verifier would, before anyone sees it.
fn check(crl: &[u8], certificate: &[u8], number: u64, entries: usize) -> Result<(), String> {
    verify(crl, certificate)?;
    let (_, parsed) =
        CertificateRevocationList::from_der(crl).map_err(|_| "not a CRL".to_owned())?;
    let found = parsed
        .crl_number()
        .and_then(|number| u64::try_from(number).ok());
    if found != Some(number) {
        return Err(format!("CRL number {found:?}, wanted {number}"));
    }
    let listed = parsed.iter_revoked_certificates().count();
    if listed == entries {
        Ok(())
    } else {
        Err(format!("{listed} entries, wanted {entries}"))
    }
}
