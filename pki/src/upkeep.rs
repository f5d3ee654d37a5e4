//! What `renew` does for the CAs on the way, so that nobody has to think of it: the issuing CA
//! before its end, keys that are of no use any more.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::Error;
use crate::ledger::{Authority, AuthorityKind, AuthorityState};
use crate::pki::{Change, Pki};
use crate::rotate::{RotateRequest, SETTLE, prepared};
use crate::store;

impl Pki {
    /// What an issuing CA needs so that no one has to think of it: made anew when a third of its
    /// life is left, let in when every directory knows it; at once when it has ended. Says what was
    /// done, or why nothing could be.
    pub(crate) fn roll_issuer(&self, change: &mut Change) -> Result<Vec<String>, Error> {
        let ledger = change.inventory.ledger();
        let Some(active) = ledger
            .in_state(AuthorityKind::Issuer, AuthorityState::Active)
            .cloned()
        else {
            return Ok(Vec::new());
        };
        let left = active.not_after.since(change.now);
        if left > active.not_after.since(active.not_before) / 3 {
            return Ok(Vec::new());
        }
        let root = active
            .parent
            .as_deref()
            .and_then(|id| ledger.authority(id))
            .cloned();
        if root
            .as_ref()
            .is_some_and(|root| !self.root_key_at_hand(root))
        {
            return Ok(vec![format!(
                "{} ends at {} and its root's key is offline; run `gapura-pki ca rotate issuer --offline-root DIR`",
                active.id, active.not_after
            )]);
        }
        if root.is_some_and(|root| change.now >= root.not_after) {
            return Ok(Vec::new()); // `active_issuer` tells how to mend that
        }
        let ended = left == 0;
        let request = RotateRequest {
            settle: Duration::ZERO,
            ..RotateRequest::next(AuthorityKind::Issuer)
        };
        let waiting: Vec<Authority> = prepared(ledger, AuthorityKind::Issuer)
            .into_iter()
            .cloned()
            .collect();
        if waiting.is_empty() {
            let mut steps = self.prepare(change, AuthorityKind::Issuer)?.steps;
            if ended {
                let fresh: Vec<Authority> =
                    prepared(change.inventory.ledger(), AuthorityKind::Issuer)
                        .into_iter()
                        .cloned()
                        .collect();
                steps.extend(self.switch(change, &fresh, AuthorityState::Draining)?);
            }
            return Ok(steps);
        }
        let settled = waiting
            .iter()
            .filter_map(|authority| ledger.crl(&authority.id))
            .all(|crl| change.now.since(crl.made_at) >= SETTLE.as_secs());
        if ended {
            return self.switch(change, &waiting, AuthorityState::Draining);
        }
        if !settled {
            return Ok(Vec::new()); // the next run of the timer will find everyone ready
        }
        match self.activate(change, &request) {
            Ok(done) => Ok(done.steps),
            Err(Error::Refused(why)) => Ok(vec![format!("the new issuing CA waits: {why}")]),
            Err(why) => Err(why),
        }
    }

    /// Destroys the keys of CAs that nobody trusts any more, or that nothing within its dates was
    /// signed by: a key that is not there can't be stolen.
    pub(crate) fn forget_keys(&self, change: &Change) -> Result<(), Error> {
        let ledger = change.inventory.ledger();
        let published: HashSet<&str> = ledger
            .published_issuers(change.now)
            .map(|issuer| issuer.id.as_str())
            .collect();
        for authority in ledger.authorities() {
            let over = matches!(
                authority.state,
                AuthorityState::Retired | AuthorityState::Tainted
            );
            if over && !published.contains(authority.id.as_str()) {
                store::remove_if_there(
                    &crate::ca::folder(self.dir(), &authority.id).join("key.pem"),
                )?;
            }
        }
        Ok(())
    }
}
