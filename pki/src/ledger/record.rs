//! The lines of the inventory: one thing that happened each, as it is written and read.
//!
//! Values and their words. What follows from them all together is the ledger's.

use std::fmt;
use std::path::PathBuf;

use gapura_enrol::news::NAMED_FOR;
use gapura_protocol::identity::{Name, PeerId, Role, TrustDomain};
use serde::{Deserialize, Serialize};

use super::join::Join;
use crate::timestamp::Timestamp;

/// Revoked entries stay on a CRL this long after their certificate's end, so that a verifier whose
/// clock is behind still sees them.
const KEPT_AFTER_END: u64 = 86_400;

/// And this long after the revocation, for how short a life whatever: an agent that misses one
/// knows that it is not to be missed. A day longer than it looks for, for clocks that differ.
const KEPT_AFTER_REVOCATION: u64 = NAMED_FOR.as_secs() + 86_400;

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
    /// A CRL was made; written before it leaves the program, so that its number is never used
    /// again.
    Crl(Crl),
    /// The state directory was restored from a backup.
    Restored {
        /// How many lines the backup's inventory had.
        lines: u64,
    },
    /// A leaf of ours was met that no line knew: a backup older than it was restored, or another
    /// copy of this CA is at work.
    LeafAdopted(Leaf),
    /// A serial on a CRL of ours was met that no line knew as revoked.
    RevocationAdopted(Revoked),
    /// A CRL of ours was met with a number above the last one; numbers go on above it.
    CrlAdopted(Crl),
    /// An identity (in one mesh directory, or wherever it was) is gone for good; nobody waits for
    /// it any more.
    Forgotten(Forgotten),
    /// An operator insisted that the clock is right although lines before this one were written
    /// later.
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
    #[serde(with = "super::as_text")]
    pub role: Role,
    /// Which one.
    #[serde(with = "super::as_text")]
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
    /// The public key itself (base64 of the SPKI) where a CSR brought it, because `renew` can't
    /// make another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr_key: Option<String>,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    /// The mesh directory it was published in; of a leaf that a host got over the network,
    /// `join:ID` of the token it joined by.
    pub out: PathBuf,
    /// The serial of the leaf that the host renewed it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
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
    #[serde(with = "super::as_text")]
    pub reason: Reason,
    /// The end of the certificate's life, after which the entry may go.
    pub not_after: Timestamp,
    /// SHA-256 of its public key, where no other line has it: of a certificate that the inventory
    /// had lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// An identity that is gone for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// What it is.
    #[serde(with = "super::as_text")]
    pub role: Role,
    /// Which one.
    #[serde(with = "super::as_text")]
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

impl Leaf {
    /// Where the leaves of the host that joined by the token `id` are, in place of a mesh
    /// directory.
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

impl Revoked {
    /// Whether the CRL of its issuer has to name it at `now`.
    pub(crate) fn is_listed(&self, now: Timestamp) -> bool {
        let end = self.not_after.plus(KEPT_AFTER_END);
        end.max(self.revoked_at.plus(KEPT_AFTER_REVOCATION)) > now
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
