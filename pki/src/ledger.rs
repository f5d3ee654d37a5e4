//! What the inventory says has happened, and what follows from it: who may sign, who is trusted,
//! which leaves live.
//!
//! In: [`Event`]s in the order in which they were written. Out: a [`Ledger`] that answers questions
//! and changes nothing. There is no other state: an authority is active, a serial revoked, because
//! an event says so. The lines themselves are in `record`, the tokens that hosts join by in `join`.

mod as_text;
mod join;
mod record;

use std::collections::HashMap;
use std::path::PathBuf;

use gapura_protocol::identity::{Name, Role, TrustDomain};

pub use self::join::{Join, JoinState, Joins};
pub use self::record::{
    Authority, AuthorityKind, AuthorityState, Crl, Event, Forgotten, Leaf, Reason, Revoked,
};
use crate::timestamp::Timestamp;

/// All records together.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    trust_domain: Option<TrustDomain>,
    authorities: Vec<Authority>,
    leaves: Vec<Leaf>,
    revoked: HashMap<(String, String), Revoked>,
    crls: HashMap<String, Crl>,
    /// What was forgotten, and how many leaves there were by then: a later one of that name counts
    /// again.
    forgotten: Vec<(Forgotten, usize)>,
    joins: Joins,
    /// Where each serial stands among the leaves, the last of them where a directory was moved.
    by_serial: HashMap<String, usize>,
}

/// What tells two certificates in use apart: the same identity may serve from several mesh
/// directories.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    role: Role,
    name: Name,
    out: PathBuf,
}

impl Ledger {
    /// Takes in one more event.
    ///
    /// # Errors
    /// A sentence about what doesn't fit the events before it.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Created { trust_domain } => {
                if self.trust_domain.is_some() {
                    return Err("a second beginning".to_owned());
                }
                self.trust_domain = Some(
                    trust_domain
                        .parse()
                        .map_err(|why| format!("{trust_domain:?}: {why}"))?,
                );
            }
            Event::Authority(authority) => {
                if self.authority(&authority.id).is_some() {
                    return Err(format!("{} is made twice", authority.id));
                }
                self.authorities.push(authority);
            }
            Event::AuthorityState { id, state } => {
                let known = self
                    .authorities
                    .iter_mut()
                    .find(|authority| authority.id == id);
                known.ok_or_else(|| format!("{id} was never made"))?.state = state;
            }
            Event::Issued(leaf) | Event::LeafAdopted(leaf) => {
                self.by_serial
                    .insert(leaf.serial.clone(), self.leaves.len());
                self.leaves.push(leaf);
            }
            Event::Revoked(revoked) | Event::RevocationAdopted(revoked) => {
                self.revoked
                    .insert((revoked.issuer.clone(), revoked.serial.clone()), revoked);
            }
            Event::Crl(crl) | Event::CrlAdopted(crl) => {
                let last = self.crls.get(&crl.issuer).map_or(0, |last| last.number);
                if crl.number <= last {
                    return Err(format!(
                        "CRL number {} of {} does not rise above {last}",
                        crl.number, crl.issuer
                    ));
                }
                self.crls.insert(crl.issuer.clone(), crl);
            }
            Event::Forgotten(forgotten) => self.forgotten.push((forgotten, self.leaves.len())),
            Event::JoinMade(join) => self.joins.make(join),
            Event::JoinUsed {
                id,
                serial,
                certificate,
            } => self.joins.turn(&id, JoinState::Used(serial, certificate))?,
            Event::JoinVoid { id } => self.joins.turn(&id, JoinState::Void)?,
            Event::Restored { .. }
            | Event::ClockIsRight { .. }
            | Event::PassphraseChanged { .. } => {}
        }
        Ok(())
    }

    /// The join tokens, and what became of each.
    #[must_use]
    pub fn joins(&self) -> &Joins {
        &self.joins
    }

    /// Leaves that work at `now` and were renewed from one and the same leaf, for different keys: a
    /// host that never got its answer asks again with the key that it has made, so somebody else
    /// holds the key of that leaf. Each with the serial of what both renew.
    #[must_use]
    pub fn copied(&self, now: Timestamp) -> Vec<(&str, Vec<&Leaf>)> {
        let mut heirs: HashMap<&str, Vec<&Leaf>> = HashMap::new();
        for leaf in self.leaves.iter().filter(|leaf| self.is_live(leaf, now)) {
            if let Some(renews) = leaf.renews.as_deref() {
                heirs.entry(renews).or_default().push(leaf);
            }
        }
        heirs.retain(|_, heirs| {
            let first = heirs.first().map(|heir| &heir.key);
            heirs.iter().any(|heir| Some(&heir.key) != first)
        });
        let mut copied: Vec<_> = heirs.into_iter().collect();
        copied.sort_by_key(|(renewed, _)| *renewed);
        copied
    }

    /// Whether an event is taken whatever else happens with it, so that no copy is needed to try it
    /// on.
    pub(crate) fn simply_takes(&self, event: &Event) -> bool {
        match event {
            Event::Issued(_) => true,
            Event::JoinUsed { id, .. } => self.joins.know(id),
            _ => false,
        }
    }

    /// The name all identities live under; `None` before `init`.
    #[must_use]
    pub fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }

    /// All CAs, oldest first.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The CA of that id.
    #[must_use]
    pub fn authority(&self, id: &str) -> Option<&Authority> {
        self.authorities.iter().find(|authority| authority.id == id)
    }

    /// The CA of that kind in that state, if there is one.
    #[must_use]
    pub fn in_state(&self, kind: AuthorityKind, state: AuthorityState) -> Option<&Authority> {
        self.authorities
            .iter()
            .rev()
            .find(|authority| authority.kind == kind && authority.state == state)
    }

    /// The roots that peers are told to trust at `now`.
    pub fn trusted_roots(&self, now: Timestamp) -> impl Iterator<Item = &Authority> {
        self.authorities.iter().filter(move |authority| {
            let trusted = matches!(
                authority.state,
                AuthorityState::Prepared | AuthorityState::Active | AuthorityState::Draining
            );
            authority.kind == AuthorityKind::Root && trusted && authority.not_after > now
        })
    }

    /// The issuers whose certificates peers may still meet: their CRLs are published. A retired one
    /// stays until its last leaf has ended, since a leaf whose issuer has no CRL is refused and
    /// would be cut off in the middle of a request.
    pub fn published_issuers(&self, now: Timestamp) -> impl Iterator<Item = &Authority> {
        let roots: Vec<&str> = self
            .trusted_roots(now)
            .map(|root| root.id.as_str())
            .collect();
        self.authorities.iter().filter(move |authority| {
            let wanted = match authority.state {
                AuthorityState::Prepared | AuthorityState::Active | AuthorityState::Draining => {
                    authority.not_after > now
                }
                AuthorityState::Retired => self
                    .leaves
                    .iter()
                    .any(|leaf| leaf.issuer == authority.id && leaf.not_after > now),
                AuthorityState::Tainted => false,
            };
            authority.kind == AuthorityKind::Issuer
                && wanted
                && authority
                    .parent
                    .as_deref()
                    .is_some_and(|parent| roots.contains(&parent))
        })
    }

    /// All leaves ever issued, oldest first.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The newest leaf of each identity in each mesh directory and by each join token: what is in
    /// use, be it expired or revoked, but not forgotten.
    #[must_use]
    pub fn in_use(&self) -> Vec<&Leaf> {
        let mut newest: HashMap<Slot, usize> = HashMap::new();
        for (at, leaf) in self.remembered() {
            newest.insert(
                Slot {
                    role: leaf.role,
                    name: leaf.name.clone(),
                    out: leaf.out.clone(),
                },
                at,
            );
        }
        let mut places: Vec<usize> = newest.into_values().collect();
        places.sort_unstable();
        places
            .into_iter()
            .filter_map(|at| self.leaves.get(at))
            .collect()
    }

    /// The newest leaf published in each mesh directory, whoever it speaks for.
    #[must_use]
    pub fn by_directory(&self) -> Vec<&Leaf> {
        let mut newest: HashMap<&PathBuf, usize> = HashMap::new();
        for (at, leaf) in self.remembered().filter(|(_, leaf)| !leaf.is_enrolled()) {
            newest.insert(&leaf.out, at);
        }
        let mut places: Vec<usize> = newest.into_values().collect();
        places.sort_unstable();
        places
            .into_iter()
            .filter_map(|at| self.leaves.get(at))
            .collect()
    }

    /// The leaves that nobody said to be gone for good, each with its place.
    fn remembered(&self) -> impl Iterator<Item = (usize, &Leaf)> {
        let gone = |at: usize, leaf: &Leaf| {
            self.forgotten.iter().any(|(forgotten, until)| {
                at < *until
                    && forgotten.role == leaf.role
                    && forgotten.name == leaf.name
                    && forgotten.out.as_ref().is_none_or(|out| *out == leaf.out)
            })
        };
        let all = self.leaves.iter().enumerate();
        all.filter(move |(at, leaf)| !gone(*at, leaf))
    }

    /// Whether a leaf is of an identity that was said to be gone for good.
    #[must_use]
    pub fn is_forgotten(&self, leaf: &Leaf) -> bool {
        !self.forgotten.is_empty()
            && !self
                .remembered()
                .any(|(_, known)| known.serial == leaf.serial && known.out == leaf.out)
    }

    /// All revocations, in no order.
    pub fn revocations(&self) -> impl Iterator<Item = &Revoked> {
        self.revoked.values()
    }

    /// The leaf with that serial.
    #[must_use]
    pub fn leaf(&self, serial: &str) -> Option<&Leaf> {
        self.by_serial
            .get(serial)
            .and_then(|at| self.leaves.get(*at))
    }

    /// The revocation of a serial of an issuer.
    #[must_use]
    pub fn revocation(&self, issuer: &str, serial: &str) -> Option<&Revoked> {
        self.revoked.get(&(issuer.to_owned(), serial.to_owned()))
    }

    /// What the CRL of `issuer` has to list at `now`, oldest first.
    #[must_use]
    pub fn revoked_by(&self, issuer: &str, now: Timestamp) -> Vec<&Revoked> {
        let listed = |revoked: &&Revoked| revoked.issuer == issuer && revoked.is_listed(now);
        let mut revoked: Vec<&Revoked> = self.revoked.values().filter(listed).collect();
        revoked.sort_by(|one, other| {
            (one.revoked_at, &one.serial).cmp(&(other.revoked_at, &other.serial))
        });
        revoked
    }

    /// The last CRL of `issuer`.
    #[must_use]
    pub fn crl(&self, issuer: &str) -> Option<&Crl> {
        self.crls.get(issuer)
    }

    /// Whether a leaf works at `now`: within its dates and not revoked.
    #[must_use]
    pub fn is_live(&self, leaf: &Leaf, now: Timestamp) -> bool {
        leaf.not_after > now && self.revocation(&leaf.issuer, &leaf.serial).is_none()
    }
}

#[cfg(test)]
mod tests;
