//! What the inventory says has happened, as records, and what follows from them: who may sign, who is trusted, which leaves live.
//!
//! In: [`Event`]s in the order in which they were written. Out: a [`Ledger`] that answers questions and changes nothing. There is
//! no other state: an authority is active, a serial revoked, because an event says so.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use gapura_protocol::identity::{Name, PeerId, Role, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// Revoked entries stay on a CRL this long after their certificate's end, so that a verifier whose clock is behind still sees them.
const KEPT_AFTER_END: u64 = 86_400;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The installation began.
    Created {
        /// The name all identities live under.
        trust_domain: String,
    },
    /// A CA certificate was made.
    Authority(Authority),
    /// An authority went to another state.
    AuthorityState {
        /// Which one.
        id: String,
        /// The state from now on.
        state: AuthorityState,
    },
    /// A leaf was made; written before it leaves the program.
    Issued(Leaf),
    /// A certificate was revoked.
    Revoked(Revoked),
    /// A CRL was made; written before it leaves the program, so that its number is never used again.
    Crl(Crl),
    /// The state directory was restored from a backup.
    Restored {
        /// How many lines the backup's inventory had.
        lines: u64,
    },
    /// A leaf of ours was met that no line knew: a backup older than it was restored, or another copy of this CA is at work.
    LeafAdopted(Leaf),
    /// A serial on a CRL of ours was met that no line knew as revoked.
    RevocationAdopted(Revoked),
    /// A CRL of ours was met with a number above the last one; numbers go on above it.
    CrlAdopted(Crl),
    /// An identity (in one mesh directory, or wherever it was) is gone for good; nobody waits for it any more.
    Forgotten(Forgotten),
    /// An operator insisted that the clock is right although lines before this one were written later.
    ClockIsRight {
        /// How many seconds the last line lay in the future.
        ahead: u64,
    },
    /// A join token was made. Its secret is in the token and nowhere else.
    JoinMade(Join),
    /// A join token was used: written together with the leaf that it was used for.
    JoinUsed {
        /// Which one.
        id: String,
        /// Of the leaf.
        serial: String,
        /// The leaf's certificate (base64 of the DER), for a host that never got the answer.
        certificate: String,
    },
    /// A join token that was not used counts no more.
    JoinVoid {
        /// Which one.
        id: String,
    },
    /// The keys of these CAs are kept under another passphrase from now on.
    PassphraseChanged {
        /// Which ones.
        authorities: Vec<String>,
    },
}

/// A root or an issuing CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// `root-g1`, `iss-g1-001`.
    pub id: String,
    /// Root or issuer.
    pub kind: AuthorityKind,
    /// For an issuer: the root that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// In hexadecimal.
    pub serial: String,
    /// First second of its life.
    pub not_before: Timestamp,
    /// Last second of its life.
    pub not_after: Timestamp,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    /// What it does at present.
    pub state: AuthorityState,
}

/// What sort of CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityKind {
    /// Trusted by itself; signs issuers.
    Root,
    /// Signs leaves.
    Issuer,
}

/// What a CA does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityState {
    /// Made and published, signs nothing yet.
    Prepared,
    /// Signs.
    Active,
    /// Signs no more but is still trusted.
    Draining,
    /// Nobody depends on it any more.
    Retired,
    /// Given up because its key may be in other hands.
    Tainted,
}

/// A leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// What it is.
    #[serde(with = "as_text")]
    pub role: Role,
    /// Which one.
    #[serde(with = "as_text")]
    pub name: Name,
    /// In hexadecimal.
    pub serial: String,
    /// The authority that signed it.
    pub issuer: String,
    /// First second of its life.
    pub not_before: Timestamp,
    /// Last second of its life.
    pub not_after: Timestamp,
    /// The life that was asked for, in seconds; what `renew` asks for again.
    pub ttl: u64,
    /// Further DNS names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// SHA-256 of its public key.
    pub key: String,
    /// The public key itself (base64 of the SPKI) where a CSR brought it, because `renew` can't make another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr_key: Option<String>,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    /// The mesh directory it was published in; of a leaf that a host got over the network, `join:ID` of the token it joined by.
    pub out: PathBuf,
    /// The serial of the leaf that the host renewed it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
}

/// A join token, as far as the CA knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which one.
    pub id: String,
    /// What its bearer may become.
    #[serde(with = "as_text")]
    pub role: Role,
    /// Which one.
    #[serde(with = "as_text")]
    pub name: Name,
    /// Further DNS names of the certificates it leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// SHA-256 of its secret.
    pub secret_sha256: String,
    /// Its last second.
    pub expires: Timestamp,
}

/// What became of a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinState {
    /// Nothing yet.
    Open,
    /// The leaf that it was used for: its serial and its certificate (base64).
    Used(String, String),
    /// It counts no more.
    Void,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The authority whose CRL lists it.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    /// When.
    pub revoked_at: Timestamp,
    /// Why.
    #[serde(with = "as_text")]
    pub reason: Reason,
    /// The end of the certificate's life, after which the entry may go.
    pub not_after: Timestamp,
    /// SHA-256 of its public key, where no other line has it: of a certificate that the inventory had lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// An identity that is gone for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// What it is.
    #[serde(with = "as_text")]
    pub role: Role,
    /// Which one.
    #[serde(with = "as_text")]
    pub name: Name,
    /// In which mesh directory; `None`: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Why a certificate was revoked: those of RFC 5280 that have a use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not said.
    Unspecified,
    /// Someone else may hold the key.
    KeyCompromise,
    /// Someone else may hold the CA's key.
    CaCompromise,
    /// Another took its place.
    Superseded,
    /// The program is no more.
    Cessation,
}

/// A CRL that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crl {
    /// Who signed it.
    pub issuer: String,
    /// Its number, higher than any before.
    pub number: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its thisUpdate: a little earlier, for verifiers whose clock is behind.
    pub this_update: Timestamp,
    /// When it is out of date.
    pub next_update: Timestamp,
    /// How many certificates it lists.
    pub entries: usize,
}

/// All records together.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    trust_domain: Option<TrustDomain>,
    authorities: Vec<Authority>,
    leaves: Vec<Leaf>,
    revoked: HashMap<(String, String), Revoked>,
    crls: HashMap<String, Crl>,
    /// What was forgotten, and how many leaves there were by then: a later one of that name counts again.
    forgotten: Vec<(Forgotten, usize)>,
    joins: Vec<(Join, JoinState)>,
    /// Where each serial stands among the leaves, the last of them where a directory was moved.
    by_serial: HashMap<String, usize>,
}

/// What tells two certificates in use apart: the same identity may serve from several mesh directories.
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
            Event::JoinMade(join) => self.joins.push((join, JoinState::Open)),
            Event::JoinUsed {
                id,
                serial,
                certificate,
            } => self.join_becomes(&id, JoinState::Used(serial, certificate))?,
            Event::JoinVoid { id } => self.join_becomes(&id, JoinState::Void)?,
            Event::Restored { .. }
            | Event::ClockIsRight { .. }
            | Event::PassphraseChanged { .. } => {}
        }
        Ok(())
    }

    fn join_becomes(&mut self, id: &str, state: JoinState) -> Result<(), String> {
        let mut all = self.joins.iter_mut().rev();
        let known = all.find(|(join, _)| join.id == id);
        known
            .ok_or_else(|| format!("join token {id} was never made"))?
            .1 = state;
        Ok(())
    }

    /// All join tokens, oldest first, with what became of each.
    #[must_use]
    pub fn joins(&self) -> &[(Join, JoinState)] {
        &self.joins
    }

    /// The join token of which this is the SHA-256 of the secret.
    #[must_use]
    pub fn join_of(&self, secret_sha256: &str) -> Option<&(Join, JoinState)> {
        let mut all = self.joins.iter().rev();
        all.find(|(join, _)| join.secret_sha256 == secret_sha256)
    }

    /// The join tokens that may still be used at `now`.
    pub fn open_joins(&self, now: Timestamp) -> impl Iterator<Item = &Join> {
        let open = move |(join, state): &&(Join, JoinState)| {
            *state == JoinState::Open && join.expires >= now
        };
        self.joins.iter().filter(open).map(|(join, _)| join)
    }

    /// Leaves that work at `now` and were renewed from one and the same leaf, for different keys: a host that never got its answer asks
    /// again with the key that it has made, so somebody else holds the key of that leaf. Each with the serial of what both renew.
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

    /// Whether an event is taken whatever else happens with it, so that no copy is needed to try it on.
    pub(crate) fn simply_takes(&self, event: &Event) -> bool {
        match event {
            Event::Issued(_) => true,
            Event::JoinUsed { id, .. } => self.joins.iter().any(|(join, _)| join.id == *id),
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

    /// The issuers whose certificates peers may still meet: their CRLs are published. A retired one stays until its last leaf has
    /// ended, since a leaf whose issuer has no CRL is refused and would be cut off in the middle of a request.
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

    /// The newest leaf of each identity in each mesh directory and by each join token: what is in use, be it expired or revoked, but
    /// not forgotten.
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
        let listed = |revoked: &&Revoked| {
            revoked.issuer == issuer && revoked.not_after.plus(KEPT_AFTER_END) > now
        };
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

impl Leaf {
    /// Where the leaves of the host that joined by the token `id` are, in place of a mesh directory.
    #[must_use]
    pub fn place_of_join(id: &str) -> PathBuf {
        PathBuf::from(format!("join:{id}"))
    }

    /// Whether a host got it over the network, and it is published by that host's agent.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.out
            .to_str()
            .is_some_and(|out| out.starts_with("join:"))
    }

    /// `plugin/billing`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.role, self.name)
    }

    /// When it was made.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.not_before.plus(self.backdated())
    }

    /// How many seconds its life begins before it was made.
    #[must_use]
    pub fn backdated(&self) -> u64 {
        self.not_after
            .since(self.not_before)
            .saturating_sub(self.ttl)
            .min(crate::profile::BACKDATE)
    }

    /// Its whole identity in `domain`.
    #[must_use]
    pub fn id(&self, domain: &TrustDomain) -> PeerId {
        PeerId::new(domain.clone(), self.role, self.name.clone())
    }
}

impl AuthorityState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Tainted => "tainted",
        }
    }
}

impl AuthorityKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuer => "issuer",
        }
    }
}

const REASONS: [(Reason, &str); 5] = [
    (Reason::Unspecified, "unspecified"),
    (Reason::KeyCompromise, "key-compromise"),
    (Reason::CaCompromise, "ca-compromise"),
    (Reason::Superseded, "superseded"),
    (Reason::Cessation, "cessation"),
];

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            REASONS
                .iter()
                .find(|(reason, _)| reason == self)
                .map_or("unspecified", |(_, text)| text),
        )
    }
}

impl std::str::FromStr for Reason {
    type Err = String;

    /// Takes RFC 5280's own spelling too (`keyCompromise`, `cessationOfOperation`).
    fn from_str(text: &str) -> Result<Self, String> {
        let letters = |text: &str| {
            text.chars()
                .filter(char::is_ascii_alphabetic)
                .collect::<String>()
                .to_ascii_lowercase()
        };
        let wanted = letters(text);
        let wanted = wanted.strip_suffix("ofoperation").unwrap_or(&wanted);
        let known = REASONS
            .iter()
            .find(|(_, known)| letters(known) == wanted)
            .map(|(reason, _)| *reason);
        known.ok_or_else(|| {
            let all: Vec<&str> = REASONS.iter().map(|(_, text)| *text).collect();
            format!("`{text}` is not a reason; one of: {}", all.join(", "))
        })
    }
}

/// Writes a checked word as its text, and checks it again when it is read.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: std::fmt::Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
