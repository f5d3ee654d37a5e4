//! All steps of a rotation at once: everybody is moved, whoever is cut off for a moment.
//!
//! In: what is to be replaced, and whether its key is in other hands. Out: what was done. Where the
//! key is in other hands its issuer is listed as revoked, or its root dropped, before the first
//! leaf under the new one is used.

use std::collections::HashSet;

use super::request::{RotateRequest, Rotated};
use super::stage::{prepared, replaced_by};
use crate::ca::Signer;
use crate::error::Error;
use crate::ledger::{Authority, AuthorityKind, AuthorityState, Event, Ledger, Reason, Revoked};
use crate::pki::{Change, Pki};
use crate::renew::{self, IssuedOrNot, RenewRequest};
use crate::timestamp::Timestamp;

impl Pki {
    /// All steps at once.
    pub(super) fn emergency(
        &self,
        change: &mut Change,
        request: &RotateRequest,
    ) -> Result<Rotated, Error> {
        let mut done = Rotated::default();
        // A root that has ended takes its issuers with it, so replacing the issuer alone would mend
        // nothing; `make` says so.
        let waiting = prepared(change.inventory.ledger(), request.kind)
            .into_iter()
            .cloned()
            .collect::<Vec<_>>();
        let fresh = if waiting.is_empty() || request.taint {
            let made = self.make(change, request.kind, AuthorityState::Prepared)?;
            let ledger = change.inventory.ledger();
            made.iter()
                .filter_map(|id| ledger.authority(id))
                .cloned()
                .collect()
        } else {
            waiting
        };
        let active: Vec<Authority> = replaced_by(change.inventory.ledger(), request.kind)
            .into_iter()
            .cloned()
            .collect();
        let old_state = if request.taint {
            AuthorityState::Tainted
        } else {
            AuthorityState::Draining
        };
        // The key that is needed to give the old issuer up is opened before anything changes.
        let root = self.root_of_the_tainted(change.inventory.ledger(), request)?;
        let given_up = root
            .as_ref()
            .map_or_else(Vec::new, |root| revocations(&active, root, change.now));
        done.steps = self.switch_and(change, &fresh, old_state, given_up)?;
        if let Some(root) = root {
            self.sign_crl(change, &root)?;
            done.steps.push(format!(
                "{} lists {} as revoked",
                root.id(),
                active
                    .iter()
                    .map(|old| old.id.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        // Everyone learns of the new CA before the first leaf under it, if only by a moment.
        self.republish(change)?;
        let (issuer, signer) = self.active_issuer(change)?;
        let (issued, failed) = self.reissue(change, (&issuer, &signer))?;
        let renewed: HashSet<_> = issued
            .iter()
            .map(|issued| issued.leaf.out.clone())
            .collect();
        done.steps
            .push(format!("{} leaves issued anew", issued.len()));
        done.republished = self.republish_but(change, &renewed)?;
        (done.issued, done.failed) = (issued, failed);
        Ok(done)
    }

    /// The root that has to list a tainted issuer; a tainted root is dropped from `ca.pem` instead,
    /// which takes no signature.
    fn root_of_the_tainted(
        &self,
        ledger: &Ledger,
        request: &RotateRequest,
    ) -> Result<Option<Signer>, Error> {
        if !request.taint || request.kind == AuthorityKind::Root {
            return Ok(None);
        }
        let root = ledger.in_state(AuthorityKind::Root, AuthorityState::Active);
        root.map(|root| self.signer(root)).transpose()
    }

    /// Issues every leaf in use once more, as far as its directory can be seen; one that can't be
    /// written stops no other.
    fn reissue(
        &self,
        change: &mut Change,
        issuer: (&Authority, &Signer),
    ) -> Result<IssuedOrNot, Error> {
        let ledger = change.inventory.ledger();
        let wanted: Vec<_> = ledger
            .in_use()
            .into_iter()
            .filter(|leaf| {
                ledger.revocation(&leaf.issuer, &leaf.serial).is_none()
                    && leaf.issuer != issuer.0.id
                    && renew::is_there(&change.standings, leaf)
            })
            .map(|leaf| renew::again(leaf, false))
            .collect();
        self.issue_each(change, issuer, &wanted, &RenewRequest::default())
    }
}

/// That `root` revokes those of `issuers` that are its own.
fn revocations(issuers: &[Authority], root: &Signer, now: Timestamp) -> Vec<Event> {
    issuers
        .iter()
        .filter(|issuer| issuer.parent.as_deref() == Some(root.id()))
        .map(|issuer| {
            Event::Revoked(Revoked {
                issuer: root.id().to_owned(),
                serial: issuer.serial.clone(),
                revoked_at: now,
                reason: Reason::CaCompromise,
                not_after: issuer.not_after,
                key: None,
            })
        })
        .collect()
}
