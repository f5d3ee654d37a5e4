//! Revocation. It is done when the CRL that says so is signed, read back and in every mesh
//! directory. Done again it finishes what a run that died left undone.

use std::collections::{BTreeSet, HashSet};

use x509_parser::prelude::{FromDer, X509Certificate};

use gapura_protocol::text::hex;

use crate::ca::{self, Signer};
use crate::error::Error;
use crate::key_rules::lost_key;
use crate::keys::unhex;
use crate::ledger::{Authority, Crl, Event, Ledger, Reason, Revoked};
use crate::pem;
use crate::pki::{Change, Pki};
use crate::publish::Republished;
use crate::target::Target;
use crate::timestamp::Timestamp;

/// What is to be revoked.
#[derive(Clone, Debug)]
pub enum RevokeRequest {
    /// Every serial of an identity that is still within its dates.
    Name(Target),
    /// One serial, in hexadecimal.
    Serial(String),
    /// One certificate, PEM or DER; also one that the inventory lost.
    Certificate(Vec<u8>),
}

/// What was revoked.
#[derive(Clone, Debug)]
pub struct RevocationDone {
    /// The new revocations.
    pub revoked: Vec<Revoked>,
    /// Serials that had been revoked before.
    pub already: Vec<String>,
    /// The CRLs that list them.
    pub crls: Vec<Crl>,
    /// The mesh directories that got them.
    pub republished: Vec<Republished>,
}

impl Pki {
    /// Revokes, and tells every mesh directory.
    ///
    /// # Errors
    /// Nothing to revoke; a key that can't be opened; a CRL that does not read back.
    pub fn revoke(&self, request: &RevokeRequest, reason: Reason) -> Result<RevocationDone, Error> {
        let mut change = self.hold_to_publish(&[])?;
        let (revoked, already) = self.find(&change, request, reason)?;
        // Of what was revoked before too: a run that died may not have come to the CRL.
        let behind: Vec<&Authority> = change
            .inventory
            .ledger()
            .published_issuers(change.now)
            .filter(|issuer| self.crl_is_behind(change.inventory.ledger(), issuer, change.now))
            .collect();
        let issuers: BTreeSet<String> = revoked
            .iter()
            .map(|revoked| revoked.issuer.clone())
            .chain(behind.into_iter().map(|issuer| issuer.id.clone()))
            .collect();
        let signers = self.signers_of(&change, &issuers)?; // a wrong passphrase changes nothing
        let mut events: Vec<Event> = revoked.iter().cloned().map(Event::Revoked).collect();
        if let RevokeRequest::Name(target) = request {
            events.extend(target.void_joins(change.inventory.ledger(), change.now));
        }
        if !events.is_empty() {
            change.append(events)?;
        }
        let crls: Vec<Crl> = signers
            .iter()
            .map(|signer| self.sign_crl(&mut change, signer))
            .collect::<Result<_, Error>>()?;
        let republished = if crls.is_empty() && revoked.is_empty() && !change.crls_changed {
            self.republish_behind(&change, &HashSet::new())?
        } else {
            self.republish(&change)?
        };
        Ok(RevocationDone {
            revoked,
            already,
            crls,
            republished,
        })
    }

    /// The keys that sign the CRLs. An issuer that is tainted, or whose root is no longer trusted,
    /// needs none: all its leaves are refused.
    fn signers_of(
        &self,
        change: &Change,
        issuers: &BTreeSet<String>,
    ) -> Result<Vec<Signer>, Error> {
        let published = change.inventory.ledger().published_issuers(change.now);
        published
            .filter(|issuer| issuers.contains(&issuer.id))
            .map(|issuer| self.signer(issuer))
            .collect()
    }

    fn find(
        &self,
        change: &Change,
        request: &RevokeRequest,
        reason: Reason,
    ) -> Result<(Vec<Revoked>, Vec<String>), Error> {
        let ledger = change.inventory.ledger();
        let mut candidates: Vec<(String, String, Timestamp)> = Vec::new();
        match request {
            RevokeRequest::Name(target) => {
                let all: Vec<_> = ledger.leaves().iter().collect();
                let named = target.pick(&all, self.trust_domain())?;
                let open = named.iter().filter(|leaf| leaf.not_after > change.now);
                candidates.extend(
                    open.map(|leaf| (leaf.issuer.clone(), leaf.serial.clone(), leaf.not_after)),
                );
                if candidates.is_empty() {
                    return Err(Error::Failed(format!(
                        "every certificate of {target} has ended by itself; there is nothing to revoke"
                    )));
                }
            }
            RevokeRequest::Serial(text) => {
                let wanted = unhex(text).ok_or_else(|| {
                    Error::Usage(format!("`{text}` is not a serial in hexadecimal"))
                })?;
                let leaf = ledger.leaf(&hex(&wanted));
                let unknown =
                    "is not in the inventory; if it is of this CA, revoke it with --cert FILE";
                let leaf = leaf
                    .ok_or_else(|| Error::Failed(format!("serial {} {unknown}", hex(&wanted))))?;
                candidates.push((leaf.issuer.clone(), leaf.serial.clone(), leaf.not_after));
            }
            RevokeRequest::Certificate(bytes) => candidates.push(self.read(ledger, bytes)?),
        }
        // A directory that was moved is in the inventory twice.
        candidates.sort_by(|one, other| one.1.cmp(&other.1));
        candidates.dedup();
        let key = match request {
            RevokeRequest::Certificate(bytes) => lost_key(ledger, bytes),
            RevokeRequest::Name(_) | RevokeRequest::Serial(_) => None,
        };
        let (mut revoked, mut already) = (Vec::new(), Vec::new());
        for (issuer, serial, not_after) in candidates {
            match ledger.revocation(&issuer, &serial) {
                // That its key is in other hands may turn out later, and bars the key for good.
                Some(known) if known.reason == reason || reason != Reason::KeyCompromise => {
                    already.push(serial)
                }
                Some(known) => revoked.push(Revoked {
                    reason,
                    ..known.clone()
                }),
                None => revoked.push(Revoked {
                    issuer,
                    serial,
                    revoked_at: change.now,
                    reason,
                    not_after,
                    key: key.clone(),
                }),
            }
        }
        Ok((revoked, already))
    }

    /// A certificate from a file: whose it is, by signature and not by what the inventory
    /// remembers.
    fn read(&self, ledger: &Ledger, bytes: &[u8]) -> Result<(String, String, Timestamp), Error> {
        let der = match bytes.first() {
            Some(0x30) => bytes.to_vec(),
            _ => pem::certificates(bytes)
                .map_err(Error::Usage)?
                .first()
                .map(|first| first.to_vec())
                .unwrap_or_default(),
        };
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| Error::Usage("the file is not a certificate".to_owned()))?;
        if parsed.is_ca() {
            let way = "a CA is given up with `gapura-pki ca rotate issuer --emergency --taint`, or `root` in its place";
            return Err(Error::Refused(format!(
                "this is the certificate of a CA; {way}"
            )));
        }
        for authority in ledger.authorities() {
            let certificate = ca::certificate(self.dir(), authority)?;
            let Ok((_, issuer)) = X509Certificate::from_der(&certificate) else {
                continue;
            };
            if issuer.subject().as_raw() == parsed.issuer().as_raw()
                && parsed.verify_signature(Some(issuer.public_key())).is_ok()
            {
                let serial = hex(parsed
                    .raw_serial()
                    .strip_prefix(&[0])
                    .unwrap_or(parsed.raw_serial()));
                let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
                return Ok((authority.id.clone(), serial, Timestamp(end)));
            }
        }
        Err(Error::Refused(format!(
            "this certificate was not signed by a CA of {}",
            self.dir().display()
        )))
    }
}
