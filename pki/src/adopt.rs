//! What our own CA signed and the inventory does not know: met in mesh directories and in `crl/`, and taken in before anything is
//! published.
//!
//! A backup that is older than the last renewal has forgotten leaves, revocations and CRL numbers; a second copy of the same CA makes
//! them without telling. Both leave their traces where they published. In: the inventory and those places. Out: lines in the
//! inventory, so that what is out there is renewed, stays revoked, and is never contradicted by a lower CRL number.
//! It refuses to believe a place more than it has to: only what a CA of ours signed counts, and a leaf counts only for the identity
//! that its directory is known for. Otherwise whoever owns a plugin's directory could lay the gateway's certificate into it and be
//! given a key for it at the next renewal.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use gapura_mesh::identity::{PeerId, TrustDomain};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{CertificateRevocationList, FromDer, ReasonCode, X509Certificate};

use crate::ca;
use crate::crl;
use crate::csr::identity_of;
use crate::error::Error;
use crate::inspect::{moment, names, serial};
use crate::inventory::Inventory;
use crate::keys::sha256_hex;
use crate::lanes;
use crate::ledger::{
    Authority, AuthorityKind, AuthorityState, Crl, Event, Leaf, Ledger, Reason, Revoked,
};
use crate::mesh_dir::{self, Current};
use crate::moment::Moment;
use crate::pem;
use crate::pki::{Held, Pki};
use crate::profile::{self, BACKDATE};
use crate::settings::{LEAF_TTL_MAX, LEAF_TTL_MIN};
use crate::store::{self, Access};

/// A CRL number above this leaves no room to go on above it; ours follow the clock and never come near.
const HIGHEST_NUMBER: u64 = u64::MAX / 2;

/// One thing that was met and that no line knew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// `leaf`, `revocation` or `crl`.
    pub what: &'static str,
    /// Which one, for people.
    pub which: String,
    /// Where it was met.
    pub found_in: PathBuf,
    /// Whether a backup was restored since: then it is what that backup did not have. If not, another copy of this CA is at work.
    pub expected: bool,
}

/// A place that was looked at, and whose it is.
struct Place {
    path: PathBuf,
    /// The identity it is known for.
    owner: Option<PeerId>,
    shown: Option<Current>,
}

/// What was found that the inventory does not know.
#[derive(Default)]
pub(crate) struct Unknown {
    pub(crate) adopted: Vec<Adopted>,
    events: Vec<Event>,
    /// By authority, the CRL with the highest number that was met, where it is above the known one.
    higher: BTreeMap<String, Vec<u8>>,
    /// Authorities whose CRL must be made anew.
    to_sign: BTreeSet<String>,
}

impl Pki {
    /// Takes the lock, and takes in what our own CA signed and we do not know. `more` are directories this command is about.
    pub(crate) fn hold_to_publish(&self, more: &[(PathBuf, PeerId)]) -> Result<Held, Error> {
        let mut held = self.hold()?;
        self.say_clock_is_right(&mut held)?;
        let unknown = self.unknown(&held.inventory, held.now, more)?;
        self.take_in(&mut held, unknown)?;
        Ok(held)
    }

    /// Looks for what our own CA signed and `inventory` does not know, and changes nothing.
    pub(crate) fn unknown(
        &self,
        inventory: &Inventory,
        now: Moment,
        more: &[(PathBuf, PeerId)],
    ) -> Result<Unknown, Error> {
        let places = self.places(inventory.ledger(), more)?;
        self.unknown_in(inventory, now, &places)
    }

    /// The same for `check`, which holds no lock: the directories are read first and the inventory after them, so that what another
    /// run publishes in between is in it.
    pub(crate) fn unknown_without_lock(&self) -> Result<Vec<Adopted>, Error> {
        let before = Inventory::load(self.dir())?;
        let places = self.places(before.ledger(), &[])?;
        let after = Inventory::load(self.dir())?;
        Ok(self.unknown_in(&after, self.now(), &places)?.adopted)
    }

    /// The mesh directories we know of, and what they show. One that can't be read tells nothing; `check` says so.
    fn places(&self, ledger: &Ledger, more: &[(PathBuf, PeerId)]) -> Result<Vec<Place>, Error> {
        let mut known: BTreeMap<PathBuf, PeerId> = BTreeMap::new();
        for leaf in ledger.by_directory() {
            known.insert(leaf.out.clone(), leaf.id(self.trust_domain()));
        }
        for (path, id) in more {
            known.entry(path.clone()).or_insert_with(|| id.clone());
        }
        for (path, id) in own_outs(self.dir(), self.trust_domain()) {
            known.entry(path).or_insert(id);
        }
        lanes::each(known.into_iter().collect(), |(path, owner)| Place {
            shown: mesh_dir::current(&path).ok().flatten(),
            owner: Some(owner),
            path,
        })
    }

    fn unknown_in(
        &self,
        inventory: &Inventory,
        now: Moment,
        places: &[Place],
    ) -> Result<Unknown, Error> {
        let ledger = inventory.ledger();
        let authorities: Vec<(&Authority, CertificateDer<'static>)> = ledger
            .authorities()
            .iter()
            .filter_map(|authority| Some((authority, ca::certificate(self.dir(), authority).ok()?)))
            .collect();
        let expected = |at: Moment| inventory.restored_at().is_some_and(|when| at <= when);
        let mut unknown = Unknown::default();
        let mut lists: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
        for (path, der) in self.stored_crls(ledger) {
            lists.entry(der).or_insert(path);
        }
        for place in places {
            for der in place.shown.iter().flat_map(|shown| &shown.crls) {
                if !lists.contains_key(der) {
                    lists.insert(der.clone(), place.path.clone());
                }
            }
        }
        // Only where a revocation of an unknown leaf is met, which is seldom.
        let shown = OnceCell::new();
        let key_of = |serial: &str| {
            shown
                .get_or_init(|| keys_shown(places, &authorities, self.trust_domain()))
                .get(serial)
                .cloned()
        };
        for (der, path) in &lists {
            self.look_at_crl(
                &mut unknown,
                ledger,
                &authorities,
                (der, path),
                now,
                (&key_of, &expected),
            );
        }
        let fingerprints: HashSet<&str> = ledger
            .leaves()
            .iter()
            .map(|leaf| leaf.fingerprint.as_str())
            .collect();
        for place in places {
            let Some((leaf, has_key)) = place.leaf() else {
                continue;
            };
            if fingerprints.contains(sha256_hex(leaf).as_str()) {
                continue;
            }
            let found = read_leaf(leaf, &authorities, self.trust_domain(), has_key);
            let Some(leaf) = found.filter(|(id, _)| place.owner.as_ref() == Some(id)) else {
                continue;
            };
            let mut leaf = leaf.1;
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
                expected: expected(leaf.issued_at()),
            });
            unknown.events.push(Event::LeafAdopted(leaf));
        }
        Ok(unknown)
    }

    /// Every CRL in `crl/`, with where it is.
    fn stored_crls(&self, ledger: &Ledger) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for authority in ledger.authorities() {
            let path = self.crl_path(&authority.id);
            let bytes = store::read_if_there(&path).ok().flatten();
            let lists = bytes.and_then(|bytes| pem::crls(&bytes).ok());
            found.extend(
                lists
                    .unwrap_or_default()
                    .into_iter()
                    .map(|der| (path.clone(), der)),
            );
        }
        found
    }

    /// What a CRL of ours says that the inventory does not.
    fn look_at_crl(
        &self,
        unknown: &mut Unknown,
        ledger: &Ledger,
        authorities: &[(&Authority, CertificateDer<'static>)],
        (der, path): (&Vec<u8>, &Path),
        now: Moment,
        (key_of, expected): (&dyn Fn(&str) -> Option<String>, &dyn Fn(Moment) -> bool),
    ) {
        let Ok((_, parsed)) = CertificateRevocationList::from_der(der) else {
            return;
        };
        let of = |(authority, certificate): &(&Authority, CertificateDer<'static>)| {
            let (_, ca) = X509Certificate::from_der(certificate).ok()?;
            (ca.subject().as_raw() == parsed.issuer().as_raw())
                .then(|| ((*authority).clone(), certificate.clone()))
        };
        let Some((authority, certificate)) = authorities.iter().find_map(of) else {
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
                not_after: known
                    .map_or_else(|| latest_end(&authority, revoked_at), |leaf| leaf.not_after),
                key: if known.is_none() {
                    key_of(&serial)
                } else {
                    None
                },
                reason: reason(code),
                issuer: authority.id.clone(),
                serial,
                revoked_at,
            });
        }
        if (number <= known && revoked.is_empty()) || crl::verify(der, &certificate).is_err() {
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
                expected: expected(revoked.revoked_at),
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
            if revoked.not_after.plus(BACKDATE) > now {
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
                expected: expected(moment(parsed.last_update().timestamp())),
            });
        }
    }

    /// Writes down what was found, and makes the CRLs anew that have to say it, or that say less than the inventory: a run that died
    /// between a line and its CRL leaves one behind.
    fn take_in(&self, held: &mut Held, unknown: Unknown) -> Result<(), Error> {
        let ledger = held.inventory.ledger();
        let wanted: Vec<Authority> = ledger
            .published_issuers(held.now)
            .chain(ledger.trusted_roots(held.now))
            .filter(|authority| {
                unknown.to_sign.contains(&authority.id)
                    || self.crl_is_behind(ledger, authority, held.now)
            })
            .filter(|authority| self.key_path(authority).is_some())
            .cloned()
            .collect();
        if unknown.events.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let mut signers = Vec::new(); // a wrong passphrase changes nothing
        for authority in &wanted {
            match self.signer(authority) {
                // A root may have a passphrase of its own, which this command was not given; `check` says what its CRL lacks.
                Err(Error::Passphrase(_)) if authority.kind == AuthorityKind::Root => {}
                signer => signers.push(signer?),
            }
        }
        let mut changed = !signers.is_empty();
        for (id, der) in &unknown.higher {
            let can_sign = signers.iter().any(|signer| signer.id() == id);
            if !can_sign && lists_all(der, ledger.revoked_by(id, held.now)) {
                let pem = pem::encode("X509 CRL", der);
                store::replace(&self.crl_path(id), pem.as_bytes(), Access::Everyone)?;
                changed = true;
            }
        }
        if !unknown.events.is_empty() {
            held.append(unknown.events)?;
        }
        for signer in &signers {
            self.sign_crl(held, signer)?;
        }
        held.crls_changed = changed;
        self.remember_adopted(unknown.adopted);
        Ok(())
    }

    /// Whether the stored CRL of an authority is not there, is an older one, or lacks a revocation.
    fn crl_is_behind(&self, ledger: &Ledger, authority: &Authority, now: Moment) -> bool {
        let Ok(der) = self.stored_crl(authority) else {
            return true;
        };
        let number = CertificateRevocationList::from_der(&der)
            .ok()
            .and_then(|(_, parsed)| u64::try_from(parsed.crl_number()?).ok());
        let wanted = ledger.crl(&authority.id).map(|crl| crl.number);
        number < wanted || !lists_all(&der, ledger.revoked_by(&authority.id, now))
    }
}

/// Whether a CRL lists every one of `revoked`.
fn lists_all(der: &[u8], revoked: Vec<&Revoked>) -> bool {
    let Ok((_, parsed)) = CertificateRevocationList::from_der(der) else {
        return false;
    };
    let listed: HashSet<String> = parsed
        .iter_revoked_certificates()
        .map(|entry| serial(entry.raw_serial()))
        .collect();
    revoked
        .iter()
        .all(|revoked| listed.contains(&revoked.serial))
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

    /// Keeps the highest number of each authority only: the inventory takes none that does not rise.
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

/// `DIR/out/ROLE/NAME`, where leaves go that were issued without `--out`; the path says whose each is.
fn own_outs(dir: &Path, domain: &TrustDomain) -> Vec<(PathBuf, PeerId)> {
    let mut found = Vec::new();
    for role in ["gateway", "plugin"] {
        let Ok(entries) = std::fs::read_dir(dir.join("out").join(role)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.parse().ok());
            if let (Some(name), Ok(role)) = (name, role.parse()) {
                found.push((entry.path(), PeerId::new(domain.clone(), role, name)));
            }
        }
    }
    found
}

/// The public keys of the leaves of ours that directories show, by serial: for revocations of leaves that no line has.
fn keys_shown(
    places: &[Place],
    authorities: &[(&Authority, CertificateDer<'static>)],
    domain: &TrustDomain,
) -> HashMap<String, String> {
    places
        .iter()
        .filter_map(|place| {
            let (leaf, has_key) = place.leaf()?;
            let (_, leaf) = read_leaf(leaf, authorities, domain, has_key)?;
            Some((leaf.serial, leaf.key))
        })
        .collect()
}

/// The leaf `der` as a line of the inventory, if one of `authorities` that is not given up signed it for a name of `domain`.
pub(crate) fn read_leaf(
    der: &[u8],
    authorities: &[(&Authority, CertificateDer<'static>)],
    domain: &TrustDomain,
    has_key: bool,
) -> Option<(PeerId, Leaf)> {
    use base64::Engine;
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
        csr_key: (!has_key).then(|| base64::engine::general_purpose::STANDARD.encode(spki)),
        fingerprint: sha256_hex(der),
        out: PathBuf::new(),
    };
    Some((id, leaf))
}

/// The end of the life of a revoked certificate that no line has. It is not known; no leaf outlives the longest life from its revocation
/// on.
fn latest_end(authority: &Authority, revoked_at: Moment) -> Moment {
    match authority.kind {
        AuthorityKind::Root => authority.not_after,
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
