//! Before anything is published, what our own CA signed and the inventory does not know is taken
//! in, and CRLs that say less than the inventory are made anew.
//!
//! In: the inventory, the mesh directories it knows of, and `crl/`. Out: lines in the inventory, so
//! that what is out there is renewed, stays revoked, and is never contradicted by a lower CRL
//! number. What counts as found is decided in `unknown`.
//! Invariant: no command publishes before it has come through `hold_to_publish`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use gapura_protocol::identity::{PeerId, TrustDomain};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::ca;
use crate::error::Error;
use crate::held_dir;
use crate::inspect::serial;
use crate::inventory::Inventory;
use crate::ledger::{Authority, AuthorityKind, Ledger, Revoked};
use crate::mesh_dir;
use crate::parallel;
use crate::pem;
use crate::pki::{Change, Pki};
use crate::standing;
use crate::store::{self, Access};
use crate::timestamp::Timestamp;
use crate::unknown::{Adopted, Evidence, Place, Unknown};

impl Pki {
    /// Takes the lock, and takes in what our own CA signed and we do not know. `more` are
    /// directories this command is about.
    pub(crate) fn hold_to_publish(&self, more: &[(PathBuf, PeerId)]) -> Result<Change, Error> {
        let mut change = self.hold()?;
        self.say_clock_is_right(&mut change)?;
        let unknown = self.unknown(&change.inventory, change.now, more)?;
        self.take_in(&mut change, unknown)?;
        Ok(change)
    }

    /// Whether these CRLs say what `inventory` does not know.
    pub(crate) fn is_unknown(&self, inventory: &Inventory, crls: &[(PathBuf, Vec<u8>)]) -> bool {
        let unknown = self.judged(inventory, self.now(), &[], crls.to_vec());
        !unknown.adopted.is_empty()
    }

    /// Takes in what CRLs of ours say that were met elsewhere, each with where, and makes anew
    /// those that have to say it: an inventory that was put back to an older backup knows again
    /// whom it had revoked. Out: what no line knew.
    ///
    /// # Errors
    /// A key can't be opened, or something can't be written.
    pub fn relearn(&self, crls: Vec<(PathBuf, Vec<u8>)>) -> Result<Vec<Adopted>, Error> {
        let mut change = self.hold_to_publish(&[])?;
        let changed = change.crls_changed;
        let unknown = self.judged(&change.inventory, change.now, &[], crls);
        let adopted = unknown.adopted.clone();
        self.take_in(&mut change, unknown)?;
        change.crls_changed |= changed;
        if change.crls_changed {
            self.republish(&change)?;
        }
        Ok(adopted)
    }

    /// Looks for what our own CA signed and `inventory` does not know, and changes nothing.
    pub(crate) fn unknown(
        &self,
        inventory: &Inventory,
        now: Timestamp,
        more: &[(PathBuf, PeerId)],
    ) -> Result<Unknown, Error> {
        let places = self.places(inventory.ledger(), more)?;
        Ok(self.unknown_in(inventory, now, &places))
    }

    /// The same for `check`, which holds no lock: the directories are read first and the inventory
    /// after them, so that what another run publishes in between is in it.
    pub(crate) fn unknown_without_lock(&self) -> Result<Vec<Adopted>, Error> {
        let before = Inventory::load(self.dir())?;
        let places = self.places(before.ledger(), &[])?;
        let after = Inventory::load(self.dir())?;
        Ok(self.unknown_in(&after, self.now(), &places).adopted)
    }

    /// The mesh directories we know of, and what they show. One that can't be read tells nothing;
    /// `check` says so.
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
        let places: Vec<(PathBuf, PeerId)> = known.into_iter().collect();
        let nothing = |place: Option<&(PathBuf, PeerId)>| {
            place.map(|(path, owner)| Place {
                path: path.clone(),
                owner: owner.clone(),
                shown: None,
            })
        };
        let seen = parallel::each_within(
            places.clone(),
            mesh_dir::LIMIT,
            |(path, owner)| {
                let look = |dir| mesh_dir::shown(&dir).ok().flatten();
                Some(Place {
                    shown: held_dir::open(&path).ok().flatten().and_then(look),
                    owner,
                    path,
                })
            },
            |at| nothing(places.get(at)),
        )?;
        Ok(seen.into_iter().flatten().collect())
    }

    fn unknown_in(&self, inventory: &Inventory, now: Timestamp, places: &[Place]) -> Unknown {
        let stored = self.stored_crls(inventory.ledger());
        self.judged(inventory, now, places, stored)
    }

    fn judged(
        &self,
        inventory: &Inventory,
        now: Timestamp,
        places: &[Place],
        crls: Vec<(PathBuf, Vec<u8>)>,
    ) -> Unknown {
        let ledger = inventory.ledger();
        let evidence = Evidence {
            ledger,
            restored_at: inventory.restored_at(),
            authorities: self.known_authorities(ledger),
            domain: self.trust_domain(),
            places,
            now,
            shown: OnceCell::new(),
        };
        evidence.judge(crls)
    }

    /// The CAs of the inventory whose certificates can be read, with these.
    pub(crate) fn known_authorities<'a>(
        &self,
        ledger: &'a Ledger,
    ) -> Vec<(&'a Authority, CertificateDer<'static>)> {
        let all = ledger.authorities().iter();
        all.filter_map(|authority| Some((authority, ca::certificate(self.dir(), authority).ok()?)))
            .collect()
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

    /// Writes down what was found, and makes the CRLs anew that have to say it, or that say less
    /// than the inventory: a run that died between a line and its CRL leaves one behind.
    fn take_in(&self, change: &mut Change, unknown: Unknown) -> Result<(), Error> {
        let ledger = change.inventory.ledger();
        let wanted: Vec<Authority> = ledger
            .published_issuers(change.now)
            .chain(ledger.trusted_roots(change.now))
            .filter(|authority| {
                unknown.to_sign.contains(&authority.id)
                    || self.crl_is_behind(ledger, authority, change.now)
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
                // A root may have a passphrase of its own, which this command was not given;
                // `check` says what its CRL lacks.
                Err(Error::Passphrase(_)) if authority.kind == AuthorityKind::Root => {}
                signer => signers.push(signer?),
            }
        }
        let mut changed = !signers.is_empty();
        for (id, der) in &unknown.higher {
            let can_sign = signers.iter().any(|signer| signer.id() == id);
            if !can_sign && lists_all(der, ledger.revoked_by(id, change.now)) {
                let pem = pem::encode("X509 CRL", der);
                store::replace(&self.crl_path(id), pem.as_bytes(), Access::Everyone)?;
                changed = true;
            }
        }
        if !unknown.events.is_empty() {
            change.append(unknown.events)?;
        }
        for signer in &signers {
            self.sign_crl(change, signer)?;
        }
        change.crls_changed = changed;
        if unknown.adopted.iter().any(|met| met.what == "leaf") {
            // What was behind by the inventory of a moment ago is what the inventory names last by
            // now.
            let ledger = change.inventory.ledger();
            change.standings = standing::of_all(&ledger.by_directory(), self.own(ledger), true)?;
        }
        self.remember_adopted(unknown.adopted);
        Ok(())
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

/// `DIR/out/ROLE/NAME`, where leaves go that were issued without `--out`; the path says whose each
/// is.
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
