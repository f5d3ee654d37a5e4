//! Renewal: new leaves where old ones are, with new keys unless told otherwise, and fresh CRLs for
//! everyone.
//!
//! Nothing here looks at whether the old certificate is still valid: what has ended is renewed like
//! the rest.

use std::collections::HashSet;

use crate::ca::Signer;
use crate::error::Error;
use crate::issue::{IssueRequest, Issued, KeyWanted};
use crate::ledger::{Authority, AuthorityState, Crl, Leaf, Ledger};
use crate::pki::{Change, Pki};
use crate::publish::Republished;
use crate::standing::{Standing, Standings};
use crate::target::Target;
use crate::timestamp::Timestamp;

/// What is to be renewed.
#[derive(Clone, Debug, Default)]
pub struct RenewRequest {
    /// These; none: all.
    pub targets: Vec<Target>,
    /// Only those that are due: 2/5 of their life is left or less, they have not begun, or their
    /// issuer no longer signs.
    pub due_only: bool,
    /// Keep the key. A new one is better: whoever copied the old one has it for as long as it is
    /// used.
    pub reuse_key: bool,
    /// Say what would be done and do nothing.
    pub dry_run: bool,
}

/// What was renewed.
#[derive(Clone, Debug, Default)]
pub struct Renewed {
    /// The new leaves.
    pub issued: Vec<Issued>,
    /// What was renewed before its time, because its directory was not as it should be.
    pub mended: Vec<(String, String)>,
    /// What was passed over, and why.
    pub skipped: Vec<(String, String)>,
    /// What should have been renewed and could not be.
    pub failed: Vec<(String, String)>,
    /// What was done about an issuing CA near its end, or why nothing could be.
    pub issuing_ca: Vec<String>,
    /// The CRLs that were made.
    pub crls: Vec<Crl>,
    /// Authorities whose CRL could not be made, because their key is kept offline.
    pub crls_skipped: Vec<String>,
    /// The other mesh directories, which got the fresh CRLs.
    pub republished: Vec<Republished>,
}

/// Leaves that were issued, and those that could not be with the reason.
pub(crate) type IssuedOrNot = (Vec<Issued>, Vec<(String, String)>);

impl Pki {
    /// Renews leaves and CRLs.
    ///
    /// # Errors
    /// A name that nothing was issued to, or that was revoked; a key that can't be opened.
    pub fn renew(&self, request: &RenewRequest) -> Result<Renewed, Error> {
        let mut change = if request.dry_run {
            self.hold()?
        } else {
            self.hold_to_publish(&[])?
        };
        let mut done = Renewed::default();
        if !request.dry_run && request.targets.is_empty() {
            done.issuing_ca = self.roll_issuer(&mut change)?;
        }
        let (issuer, signer) = self.active_issuer(&change)?;
        // What is refused is refused before CRLs are signed, which everybody would have to get.
        let requests = self.wanted(&change, request, &mut done)?;
        if !request.dry_run {
            (done.crls, done.crls_skipped) = self.refresh_crls(&mut change)?;
        }
        let made = self.issue_each(&mut change, (&issuer, &signer), &requests, request);
        // A fault of the one that was named is told when the others have got the CRLs that were
        // signed a moment ago.
        let fault = match made {
            Ok((issued, failed)) => {
                done.issued = issued;
                done.failed.extend(failed);
                None
            }
            Err(why) => Some(why),
        };
        if !request.dry_run {
            let fresh: HashSet<_> = done
                .issued
                .iter()
                .map(|issued| issued.leaf.out.clone())
                .collect();
            done.republished = self.republish_but(&change, &fresh)?;
            self.forget_keys(&change)?;
        }
        fault.map_or(Ok(done), Err)
    }

    /// Issues all requests together or, where a directory can't be written, one by one: it must not
    /// keep the others from theirs. Of one that was named alone the fault is the command's.
    pub(crate) fn issue_each(
        &self,
        change: &mut Change,
        issuer: (&Authority, &Signer),
        requests: &[IssueRequest],
        renewal: &RenewRequest,
    ) -> Result<IssuedOrNot, Error> {
        let dry_run = renewal.dry_run;
        let alone = requests.len() == 1 && !renewal.targets.is_empty();
        match self.issue_held(change, issuer, requests, dry_run) {
            Ok(issued) => return Ok((issued, Vec::new())),
            Err(why) if !alone && why.is_of_one_directory() => {}
            Err(why) => return Err(why),
        }
        let (mut issued, mut failed) = (Vec::new(), Vec::new());
        for one in requests {
            match self.issue_held(change, issuer, std::slice::from_ref(one), dry_run) {
                Ok(made) => issued.extend(made),
                Err(why) => failed.push((format!("{}/{}", one.role, one.name), why.to_string())),
            }
        }
        Ok((issued, failed))
    }

    /// The requests that renew what was named.
    fn wanted(
        &self,
        change: &Change,
        request: &RenewRequest,
        done: &mut Renewed,
    ) -> Result<Vec<IssueRequest>, Error> {
        let (ledger, now) = (change.inventory.ledger(), change.now);
        let in_use = ledger.in_use();
        let mut leaves: Vec<&Leaf> = Vec::new();
        for target in &request.targets {
            for leaf in target.pick(&in_use, self.trust_domain())? {
                if ledger.revocation(&leaf.issuer, &leaf.serial).is_some() {
                    let again = format!(
                        "gapura-pki issue {} {} --out {}",
                        leaf.role,
                        leaf.name,
                        leaf.out.display()
                    );
                    return Err(Error::Refused(format!(
                        "{} was revoked and is not renewed; to take it back: {again}",
                        leaf.label()
                    )));
                }
                if !leaves.contains(&leaf) {
                    leaves.push(leaf);
                }
            }
        }
        let named = !request.targets.is_empty();
        if !named {
            leaves = in_use;
        }
        let mut wanted = Vec::new();
        for leaf in leaves {
            if leaf.is_enrolled() {
                let why = "its agent renews it, on its host";
                if named {
                    return Err(Error::Refused(format!(
                        "{} is not renewed here: {why}; see `gapura-agent status` there",
                        leaf.label()
                    )));
                }
                done.skipped.push((leaf.label(), why.to_owned()));
                continue;
            }
            if ledger.revocation(&leaf.issuer, &leaf.serial).is_some() {
                done.skipped.push((leaf.label(), "revoked".to_owned()));
                continue;
            }
            let place = leaf.out.display();
            let standing = if is_last_of(ledger, leaf) {
                change.standings.get(&leaf.out)
            } else {
                None
            };
            match standing {
                Some(Standing::Late(why)) if !named => {
                    done.failed.push((leaf.label(), why.clone()));
                    continue;
                }
                // A certificate that never came to be shown is issued anew, due or not; so is one
                // whose key is lost, and what can't be read is written over.
                Some(Standing::Behind(why)) => {
                    done.mended.push((leaf.label(), why.clone()));
                    wanted.push(again(leaf, request.reuse_key));
                    continue;
                }
                Some(Standing::Keyless(why) | Standing::Unreadable(why)) => {
                    done.mended.push((leaf.label(), why.clone()));
                    wanted.push(again(leaf, request.reuse_key && named));
                    continue;
                }
                _ => {}
            }
            if request.due_only && !is_due(ledger, leaf, now) {
                done.skipped.push((leaf.label(), "not due".to_owned()));
            } else if named || matches!(standing, Some(Standing::Shows(_))) {
                wanted.push(again(leaf, request.reuse_key));
            } else {
                let why = match standing {
                    None => format!("{place} is another's by now"),
                    Some(Standing::Foreign(why)) => format!("{place}: {why}"),
                    Some(_) => format!("{place} is gone"),
                };
                done.skipped.push((leaf.label(), why));
            }
        }
        Ok(wanted)
    }
}

/// Whether nothing was published in the directory of `leaf` after it.
fn is_last_of(ledger: &Ledger, leaf: &Leaf) -> bool {
    let last = ledger.leaves().iter().rev().find(|one| one.out == leaf.out);
    last.is_some_and(|last| last.serial == leaf.serial)
}

/// Whether a leaf should be renewed now. A little before `check` warns, which is at 1/3 of its
/// life.
#[must_use]
pub fn is_due(ledger: &Ledger, leaf: &Leaf, now: Timestamp) -> bool {
    let left = leaf.not_after.since(now);
    let active = ledger
        .authority(&leaf.issuer)
        .is_some_and(|issuer| issuer.state == AuthorityState::Active);
    // One that has not begun, of a day when this machine's clock was ahead, is refused by every
    // peer.
    !active || leaf.not_before > now || left * 5 <= leaf.not_after.since(leaf.not_before) * 2
}

/// Whether the mesh directory of a leaf is still there and ours.
pub(crate) fn is_there(standings: &Standings, leaf: &Leaf) -> bool {
    matches!(
        standings.get(&leaf.out),
        Some(
            Standing::Shows(_)
                | Standing::Behind(_)
                | Standing::Keyless(_)
                | Standing::Unreadable(_)
        )
    )
}

/// The request that makes `leaf` once more.
pub(crate) fn again(leaf: &Leaf, reuse_key: bool) -> IssueRequest {
    let key = match (&leaf.csr_key, reuse_key) {
        (Some(known), _) => KeyWanted::Known(known.clone()),
        (None, true) => KeyWanted::Kept,
        (None, false) => KeyWanted::New,
    };
    IssueRequest {
        role: leaf.role,
        name: leaf.name.clone(),
        ttl: Some(std::time::Duration::from_secs(leaf.ttl)),
        dns: leaf.dns.clone(),
        key,
        out: Some(leaf.out.clone()),
    }
}
