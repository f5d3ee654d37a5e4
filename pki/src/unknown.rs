//! What our own CA signed and the inventory does not know, judged from what mesh directories and
//! `crl/` show.
//!
//! A backup that is older than the last renewal has forgotten leaves, revocations and CRL numbers;
//! a second copy of the same CA makes them without telling. Both leave their traces where they
//! published. In: the ledger and what those places show. Out: the events that would tell the
//! inventory. Nothing here reads or writes a file.
//! It refuses to believe a place more than it has to: only what a CA of ours signed counts, and a
//! leaf counts only for the identity that its directory is known for. Otherwise whoever owns a
//! plugin's directory could lay the gateway's certificate into it and be given a key for it at the
//! next renewal.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gapura_protocol::identity::{PeerId, TrustDomain};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer, ReasonCode, X509Certificate};

pub use crate::adopted::Adopted;
use crate::crl;
use crate::csr::identity_of;
use crate::inspect::{moment, names, serial};
use crate::keys::sha256_hex;
use crate::ledger::{
    Authority, AuthorityKind, AuthorityState, Crl, Event, Leaf, Ledger, Reason, Revoked,
};
use crate::mesh_dir::Current;
use crate::profile::{self, BACKDATE};
use crate::settings::{LEAF_TTL_MAX, LEAF_TTL_MIN};
use crate::timestamp::Timestamp;

/// A CRL number above this leaves no room to go on above it; ours follow the clock and never come
/// near.
const HIGHEST_NUMBER: u64 = u64::MAX / 2;

/// A place that was looked at, and whose it is.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// The identity it is known for.
    pub(crate) owner: PeerId,
    pub(crate) shown: Option<Current>,
}

/// What was found that the inventory does not know.
#[derive(Default)]
pub(crate) struct Unknown {
    pub(crate) adopted: Vec<Adopted>,
    pub(crate) events: Vec<Event>,
    /// By authority, the CRL with the highest number that was met, where it is above the known one.
    pub(crate) higher: BTreeMap<String, Vec<u8>>,
    /// Authorities whose CRL must be made anew.
    pub(crate) to_sign: BTreeSet<String>,
}

/// What is looked at, and by what it is judged.
pub(crate) struct Evidence<'a> {
    pub(crate) ledger: &'a Ledger,
    /// When a backup was restored last.
    pub(crate) restored_at: Option<Timestamp>,
    pub(crate) authorities: Vec<(&'a Authority, CertificateDer<'static>)>,
    pub(crate) domain: &'a TrustDomain,
    pub(crate) places: &'a [Place],
    pub(crate) now: Timestamp,
    /// The public keys of the leaves of ours that are shown, by serial; filled when one is asked
    /// for, which is seldom.
    pub(crate) shown: OnceCell<HashMap<String, String>>,
}

impl Evidence<'_> {
    /// Looks at all of it, and at the CRLs `stored` beside the inventory.
    pub(crate) fn judge(&self, stored: Vec<(PathBuf, Vec<u8>)>) -> Unknown {
        let mut unknown = Unknown::default();
        // Most directories show the same lists; each is looked at once.
        let mut lists: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
        for (path, der) in stored {
            lists.entry(der).or_insert(path);
        }
        for place in self.places {
            for der in place.shown.iter().flat_map(|shown| &shown.crls) {
                if !lists.contains_key(der) {
                    lists.insert(der.clone(), place.path.clone());
                }
            }
        }
        for (der, path) in &lists {
            self.look_at_crl(&mut unknown, der, path);
        }
        let leaves = self.ledger.leaves().iter();
        let known: HashSet<&str> = leaves.map(|leaf| leaf.fingerprint.as_str()).collect();
        for place in self.places {
            self.look_at_leaf(&mut unknown, place, &known);
        }
        unknown
    }

    /// A leaf of ours that no line has, in the directory of its identity.
    fn look_at_leaf(&self, unknown: &mut Unknown, place: &Place, known: &HashSet<&str>) {
        let Some((der, has_key)) = place.leaf() else {
            return;
        };
        if known.contains(sha256_hex(der).as_str()) {
            return;
        }
        let found = read_leaf(der, &self.authorities, self.domain, has_key);
        let Some((_, mut leaf)) = found.filter(|(id, _)| place.owner == *id) else {
            return;
        };
        leaf.out.clone_from(&place.path);
        unknown.adopted.push(Adopted {
            what: "leaf",
            which: format!(
                "{} serial {} of {}, made {}",
                leaf.label(),
                leaf.serial,
                leaf.issuer,
                leaf.issued_at()
            ),
            found_in: place.path.clone(),
            expected: self.expected(leaf.issued_at()),
        });
        unknown.events.push(Event::LeafAdopted(leaf));
    }

    /// Whether a backup was restored after `at`, and may well not have had what happened then.
    fn expected(&self, at: Timestamp) -> bool {
        self.restored_at.is_some_and(|restored| at <= restored)
    }

    /// The public key of a leaf of ours that some directory shows.
    fn key_shown(&self, serial: &str) -> Option<String> {
        let read = |place: &Place| {
            let (leaf, has_key) = place.leaf()?;
            let (_, leaf) = read_leaf(leaf, &self.authorities, self.domain, has_key)?;
            Some((leaf.serial, leaf.key))
        };
        let shown = self
            .shown
            .get_or_init(|| self.places.iter().filter_map(read).collect());
        shown.get(serial).cloned()
    }

    /// What a CRL of ours says that the inventory does not.
    fn look_at_crl(&self, unknown: &mut Unknown, der: &[u8], path: &Path) {
        let ledger = self.ledger;
        let Ok((_, parsed)) = CertificateRevocationList::from_der(der) else {
            return;
        };
        let is_of = |(_, certificate): &&(&Authority, CertificateDer<'static>)| {
            X509Certificate::from_der(certificate)
                .is_ok_and(|(_, ca)| ca.subject().as_raw() == parsed.issuer().as_raw())
        };
        let Some((authority, certificate)) = self.authorities.iter().find(is_of) else {
            return;
        };
        let number = parsed
            .crl_number()
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| *number <= HIGHEST_NUMBER)
            .unwrap_or(0);
        let known = ledger.crl(&authority.id).map_or(0, |crl| crl.number);
        let is_new = |serial: &str| {
            ledger.revocation(&authority.id, serial).is_none()
                && !unknown.has_revoked(&authority.id, serial)
        };
        let mut revoked = Vec::new();
        for entry in parsed.iter_revoked_certificates() {
            let (serial, code) = (
                serial(entry.raw_serial()),
                entry.reason_code().map(|(_, code)| code),
            );
            if code == Some(ReasonCode::RemoveFromCRL) || !is_new(&serial) {
                continue;
            }
            let revoked_at = moment(entry.revocation_date.timestamp());
            let known = ledger.leaf(&serial);
            revoked.push(Revoked {
                not_after: known.map_or_else(
                    || latest_end(ledger, authority, &serial, revoked_at),
                    |leaf| leaf.not_after,
                ),
                key: if known.is_none() {
                    self.key_shown(&serial)
                } else {
                    None
                },
                reason: reason(code),
                issuer: authority.id.clone(),
                serial,
                revoked_at,
            });
        }
        if (number <= known && revoked.is_empty()) || crl::verify(der, certificate).is_err() {
            return;
        }
        for revoked in revoked {
            unknown.adopted.push(Adopted {
                what: "revocation",
                which: format!(
                    "serial {} of {} ({})",
                    revoked.serial, revoked.issuer, revoked.reason
                ),
                found_in: path.to_owned(),
                expected: self.expected(revoked.revoked_at),
            });
            let lost = ledger
                .authorities()
                .iter()
                .find(|issuer| issuer.serial == revoked.serial);
            if let Some(lost) = lost.filter(|lost| lost.state != AuthorityState::Tainted) {
                unknown.events.push(Event::AuthorityState {
                    id: lost.id.clone(),
                    state: AuthorityState::Tainted,
                });
            }
            if revoked.is_listed(self.now) {
                unknown.to_sign.insert(authority.id.clone());
            }
            unknown.events.push(Event::RevocationAdopted(revoked));
        }
        if number > known {
            unknown.take_number(&authority.id, number, der, &parsed);
            unknown.to_sign.insert(authority.id.clone());
            unknown.adopted.push(Adopted {
                what: "crl",
                which: format!("number {number} of {}, above {known}", authority.id),
                found_in: path.to_owned(),
                expected: self.expected(moment(parsed.last_update().timestamp())),
            });
        }
    }
}

impl Place {
    /// The leaf it shows, and whether its key is beside it.
    fn leaf(&self) -> Option<(&CertificateDer<'static>, bool)> {
        let shown = self.shown.as_ref()?;
        Some((shown.chain.first()?, shown.key.is_some()))
    }
}

impl Unknown {
    fn has_revoked(&self, issuer: &str, serial: &str) -> bool {
        self.events.iter().any(|event| {
            matches!(event, Event::RevocationAdopted(known)
                if known.issuer == issuer && known.serial == serial)
        })
    }

    /// Keeps the highest number of each authority only: the inventory takes none that does not
    /// rise.
    fn take_number(
        &mut self,
        id: &str,
        number: u64,
        der: &[u8],
        parsed: &CertificateRevocationList<'_>,
    ) {
        let before = self
            .events
            .iter()
            .position(|event| matches!(event, Event::CrlAdopted(crl) if crl.issuer == id));
        if let Some(at) = before {
            let lower =
                matches!(self.events.get(at), Some(Event::CrlAdopted(crl)) if crl.number >= number);
            if lower {
                return;
            }
            self.events.remove(at);
        }
        let this_update = moment(parsed.last_update().timestamp());
        self.events.push(Event::CrlAdopted(Crl {
            issuer: id.to_owned(),
            number,
            made_at: this_update.plus(BACKDATE),
            this_update,
            next_update: parsed
                .next_update()
                .map_or(this_update, |next| moment(next.timestamp())),
            entries: parsed.iter_revoked_certificates().count(),
        }));
        self.higher.insert(id.to_owned(), der.to_vec());
    }
}

/// The leaf `der` as a line of the inventory, if one of `authorities` that is not given up signed
/// it for a name of `domain`.
pub(crate) fn read_leaf(
    der: &[u8],
    authorities: &[(&Authority, CertificateDer<'static>)],
    domain: &TrustDomain,
    has_key: bool,
) -> Option<(PeerId, Leaf)> {
    let id = identity_of(der).filter(|id| id.domain() == domain)?;
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    if parsed.is_ca() {
        return None;
    }
    let signed_by = |(authority, certificate): &&(&Authority, CertificateDer<'static>)| {
        authority.kind == AuthorityKind::Issuer
            && authority.state != AuthorityState::Tainted
            && X509Certificate::from_der(certificate).is_ok_and(|(_, ca)| {
                ca.subject().as_raw() == parsed.issuer().as_raw()
                    && parsed.verify_signature(Some(ca.public_key())).is_ok()
            })
    };
    let (authority, _) = authorities.iter().find(signed_by)?;
    let not_before = moment(parsed.validity().not_before.timestamp());
    let not_after = moment(parsed.validity().not_after.timestamp());
    let usual = profile::default_dns(&id);
    let dns = names(parsed.extensions())
        .iter()
        .filter_map(|name| name.strip_prefix("DNS:").map(str::to_owned))
        .filter(|name| Some(name) != usual.as_ref())
        .collect();
    let ttl = not_after.since(not_before.plus(BACKDATE));
    let spki = parsed.public_key().raw;
    let leaf = Leaf {
        role: id.role(),
        name: id.name().clone(),
        serial: serial(parsed.raw_serial()),
        issuer: authority.id.clone(),
        not_before,
        not_after,
        ttl: ttl.clamp(LEAF_TTL_MIN.as_secs(), LEAF_TTL_MAX.as_secs()),
        dns,
        key: sha256_hex(spki),
        // Without a key beside it, it is with whoever made the request.
        csr_key: (!has_key).then(|| STANDARD.encode(spki)),
        fingerprint: sha256_hex(der),
        out: PathBuf::new(),
        renews: None,
    };
    Some((id, leaf))
}

/// The end of the life of a revoked certificate that is no leaf of the inventory. Of a leaf it is
/// not known; none outlives the longest life from its revocation on.
fn latest_end(
    ledger: &Ledger,
    authority: &Authority,
    serial: &str,
    revoked_at: Timestamp,
) -> Timestamp {
    match authority.kind {
        AuthorityKind::Root => {
            let issuers = ledger.authorities();
            let issuer = issuers.iter().find(|issuer| issuer.serial == serial);
            issuer.map_or(authority.not_after, |issuer| issuer.not_after)
        }
        AuthorityKind::Issuer => revoked_at
            .plus(LEAF_TTL_MAX.as_secs())
            .min(authority.not_after),
    }
}

fn reason(code: Option<ReasonCode>) -> Reason {
    match code {
        Some(ReasonCode::KeyCompromise) => Reason::KeyCompromise,
        Some(ReasonCode::CACompromise) => Reason::CaCompromise,
        Some(ReasonCode::Superseded) => Reason::Superseded,
        Some(ReasonCode::CessationOfOperation) => Reason::Cessation,
        _ => Reason::Unspecified,
    }
}
