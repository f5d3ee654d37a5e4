//! Forgetting what is gone for good, and adopting what was moved or lost: the operator's word on
//! what the inventory can't see.
//!
//! Neither signs anything. Forgetting revokes nothing: a certificate that somebody may still hold
//! is revoked first. Adopting gives a directory back the care of `renew`, and only one whose leaf
//! was signed by a CA of this installation for a name of its own domain.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::keys::sha256_hex;
use crate::ledger::{Event, Forgotten, Leaf, Ledger};
use crate::mesh_dir;
use crate::pki::Pki;
use crate::publish::Republished;
use crate::renew::is_there;
use crate::target::Target;
use crate::unknown::{Adopted, read_leaf};

/// A reason is a line of text for people, not a file.
const LONGEST_REASON: usize = 500;

/// What was forgotten; nothing where it had been before.
#[derive(Clone, Debug, Default)]
pub struct ForgottenNow {
    /// The leaves nobody waits for any more.
    pub leaves: Vec<Leaf>,
    /// Those of them that are still let in, because they have neither ended nor been revoked.
    pub still_valid: Vec<Leaf>,
}

/// What was adopted.
#[derive(Clone, Debug)]
pub struct AdoptedDir {
    /// The leaf, as the inventory has it now.
    pub leaf: Leaf,
    /// Whether the inventory had it already, in this very directory.
    pub already: bool,
    /// The mesh directory it was in before, which shows it no more.
    pub moved_from: Option<PathBuf>,
    /// The mesh directories that got roots and CRLs, this one among them.
    pub republished: Vec<Republished>,
}

impl Pki {
    /// Stops looking after an identity that is gone for good, in the mesh directory `out` or in all
    /// of them.
    ///
    /// # Errors
    /// Nothing of that name is in use; or a mesh directory still shows it, so it is not gone.
    pub fn forget(
        &self,
        target: &Target,
        out: Option<&Path>,
        reason: &str,
    ) -> Result<ForgottenNow, Error> {
        if reason.trim().is_empty()
            || reason.chars().count() > LONGEST_REASON
            || reason.chars().any(char::is_control)
        {
            return Err(Error::Usage(format!(
                "--reason is a line of 1 to {LONGEST_REASON} characters, e.g. --reason \"host scrapped\""
            )));
        }
        let out = out
            .map(|out| match out.to_str() {
                Some(text) if text.starts_with("join:") => Ok(out.to_owned()),
                _ => std::path::absolute(out).map_err(Error::io("find", out)),
            })
            .transpose()?;
        let mut change = self.hold()?;
        let ledger = change.inventory.ledger();
        let in_use = ledger.in_use();
        let named = match target.pick(&in_use, self.trust_domain()) {
            // Once more, after a run that died when it had written it down.
            Err(Error::Failed(_)) if self.was_forgotten(ledger, target) => {
                return Ok(ForgottenNow::default());
            }
            named => named?,
        };
        let leaves: Vec<Leaf> = named
            .into_iter()
            .filter(|leaf| out.as_ref().is_none_or(|out| *out == leaf.out))
            .cloned()
            .collect();
        let Some(first) = leaves.first() else {
            return Err(Error::Failed(format!(
                "{target} is not in use in {}; see `gapura-pki list`",
                out.unwrap_or_default().display()
            )));
        };
        let revoked = |leaf: &Leaf| ledger.revocation(&leaf.issuer, &leaf.serial).is_some();
        if let Some(there) = leaves
            .iter()
            .find(|leaf| !revoked(leaf) && is_there(&change.standings, leaf))
        {
            return Err(Error::Refused(format!(
                "{} is not gone: {} shows its certificate, until {}. Remove that folder, or revoke it with `gapura-pki revoke {}`, then repeat",
                there.label(),
                there.out.display(),
                there.not_after,
                there.label()
            )));
        }
        let still_valid = leaves
            .iter()
            .filter(|leaf| ledger.is_live(leaf, change.now))
            .cloned()
            .collect();
        let event = Event::Forgotten(Forgotten {
            role: first.role,
            name: first.name.clone(),
            out,
            reason: reason.to_owned(),
        });
        let mut events = vec![event];
        events.extend(target.void_joins(change.inventory.ledger(), change.now));
        change.append(events)?;
        Ok(ForgottenNow {
            leaves,
            still_valid,
        })
    }

    fn was_forgotten(&self, ledger: &Ledger, target: &Target) -> bool {
        let all: Vec<&Leaf> = ledger.leaves().iter().collect();
        let named = target.pick(&all, self.trust_domain());
        named.is_ok_and(|named| named.into_iter().any(|leaf| ledger.is_forgotten(leaf)))
    }

    /// Looks after the mesh directory `dir` from now on: one that was moved, or that the inventory
    /// has lost.
    ///
    /// # Errors
    /// It shows no leaf of this installation, or one that was revoked.
    pub fn adopt_dir(&self, dir: &Path) -> Result<AdoptedDir, Error> {
        let out = std::path::absolute(dir).map_err(Error::io("find", dir))?;
        let shown = mesh_dir::current(&out)?.ok_or_else(|| {
            Error::Failed(format!(
                "{} holds no certificate; is it a mesh directory, as `issue --out` makes them?",
                out.display()
            ))
        })?;
        let der = shown
            .chain
            .first()
            .cloned()
            .unwrap_or_else(|| Vec::new().into());
        let id = crate::csr::identity_of(&der);
        let more: Vec<_> = id.map(|id| (out.clone(), id)).into_iter().collect();
        let mut change = self.hold_to_publish(&more)?; // takes in an unknown leaf by itself
        let ledger = change.inventory.ledger();
        let authorities = self.known_authorities(ledger);
        let read = read_leaf(&der, &authorities, self.trust_domain(), shown.key.is_some());
        let (_, mut leaf) = read.ok_or_else(|| {
            Error::Refused(format!(
                "{}: its certificate was not signed by an issuing CA of {} for a name of {}; see it with `gapura-pki inspect {}`",
                out.display(),
                self.dir().display(),
                self.trust_domain(),
                out.display()
            ))
        })?;
        leaf.out.clone_from(&out);
        if ledger.revocation(&leaf.issuer, &leaf.serial).is_some() {
            return Err(Error::Refused(format!(
                "{}: the certificate of {} there (serial {}) was revoked; issue a new one with `gapura-pki issue {} {} --out {}`",
                out.display(),
                leaf.label(),
                leaf.serial,
                leaf.role,
                leaf.name,
                out.display()
            )));
        }
        let print = sha256_hex(&der);
        let in_use = ledger.in_use();
        let met = |known: &Adopted| known.found_in == out && known.what == "leaf";
        let just_now = self.adopted().iter().any(met);
        let here = in_use
            .iter()
            .any(|known| known.fingerprint == print && known.out == out);
        // The same leaf under another directory that shows it no more: it was moved.
        let before = in_use
            .iter()
            .find(|known| {
                known.fingerprint == print
                    && known.out != out
                    && !is_there(&change.standings, known)
            })
            .map(|known| (*known).clone());
        let mut events = Vec::new();
        if !here {
            events.push(Event::LeafAdopted(leaf.clone()));
        }
        if let Some(before) = &before {
            events.push(Event::Forgotten(Forgotten {
                role: before.role,
                name: before.name.clone(),
                out: Some(before.out.clone()),
                reason: format!("moved to {}", out.display()),
            }));
        }
        if !events.is_empty() {
            change.append(events)?;
        }
        Ok(AdoptedDir {
            leaf,
            already: here && !just_now,
            moved_from: before.map(|before| before.out),
            republished: self.republish(&change)?,
        })
    }
}
