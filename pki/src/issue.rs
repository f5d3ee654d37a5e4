//! Issuing leaves: one or a thousand, all or none.
//!
//! In: requests. Out: published mesh directories. Order: sign in memory, judge as a peer would,
//! write every generation under a hidden name, write the inventory, and only then rename. A fault
//! before the inventory leaves nothing; after it only renames are left.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gapura_certificates::purpose::Purpose;
use gapura_protocol::identity::{Name, PeerId, Role};
use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::ca::{self, Signer};
use crate::csr;
use crate::error::Error;
use crate::held_dir;
use crate::judge::BundleVerifier;
use crate::key_rules::KeyRules;
use crate::keys::{self, sha256_hex};
use crate::ledger::{Authority, Event, Leaf};
use crate::mesh_dir::{self, Content, Staged};
use crate::parallel;
use crate::pki::{Change, Pki};
use crate::profile;
use crate::settings::{LEAF_TTL_MAX, LEAF_TTL_MIN, is_dns_name};
use crate::store;
use crate::timestamp::{Timestamp, for_people};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// What it is.
    pub role: Role,
    /// Which one.
    pub name: Name,
    /// How long it lives; `None`: as `pki.json` says.
    pub ttl: Option<Duration>,
    /// DNS names beside the one every plugin gets.
    pub dns: Vec<String>,
    /// Whose key it is; `None`: a new one is made.
    pub key: KeyWanted,
    /// The mesh directory; `None`: `DIR/out/ROLE/NAME`.
    pub out: Option<PathBuf>,
}

/// Where a leaf's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyWanted {
    /// Made here, new.
    #[default]
    New,
    /// Brought by a certificate signing request (PEM or DER). Only its public key is used.
    Csr(Vec<u8>),
    /// The one that is in the mesh directory already.
    Kept,
    /// A public key we signed before (base64 of the SPKI).
    Known(String),
    /// A public key (SPKI) that a host sent over the network, out of a request that was judged;
    /// that host publishes the leaf.
    Enrolled(Vec<u8>),
}

/// A leaf that was made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its line in the inventory.
    pub leaf: Leaf,
    /// Whom it speaks for.
    pub id: PeerId,
    /// The generation its mesh directory shows now; 0 in a dry run.
    pub generation: u64,
    /// Whether `key.pem` is in the mesh directory; after a CSR it may be with whoever made that.
    pub key_published: bool,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
}

impl IssueRequest {
    /// A leaf with all defaults.
    #[must_use]
    pub fn new(role: Role, name: Name) -> Self {
        Self {
            role,
            name,
            ttl: None,
            dns: Vec::new(),
            key: KeyWanted::New,
            out: None,
        }
    }

    /// The same, published in the mesh directory `out`.
    #[must_use]
    pub fn into_dir(mut self, out: impl Into<PathBuf>) -> Self {
        self.out = Some(out.into());
        self
    }

    /// The same, living for `ttl`.
    #[must_use]
    pub fn living(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// The public key to sign, the private one where we have it, and the public one in base64 where we
/// must remember it.
type KeyFound = (
    SubjectPublicKeyInfo,
    Option<Zeroizing<Vec<u8>>>,
    Option<String>,
);

/// A leaf in memory.
pub(crate) struct Minted {
    pub(crate) leaf: Leaf,
    pub(crate) id: PeerId,
    pub(crate) certificate: CertificateDer<'static>,
    key: Option<Zeroizing<Vec<u8>>>,
    notes: Vec<String>,
}

impl Pki {
    /// Issues one leaf.
    ///
    /// # Errors
    /// As [`Pki::issue_all`].
    pub fn issue(&self, request: &IssueRequest) -> Result<Issued, Error> {
        let mut issued = self.issue_all(std::slice::from_ref(request), false)?;
        issued
            .pop()
            .ok_or_else(|| Error::Failed("nothing was issued".to_owned()))
    }

    /// Issues all of `requests`, or none of them. A dry run does everything but write.
    ///
    /// # Errors
    /// Refuses what the profile or a limit forbids; reports what can't be opened, written or does
    /// not pass the self-check.
    pub fn issue_all(
        &self,
        requests: &[IssueRequest],
        dry_run: bool,
    ) -> Result<Vec<Issued>, Error> {
        let mut change = if dry_run {
            self.hold()?
        } else {
            self.hold_to_publish(&self.places_of(requests)?)?
        };
        let (issuer, signer) = self.active_issuer(&change)?;
        let fresh_crls = !dry_run && (self.freshen(&mut change, &signer)? || change.crls_changed);
        let issued = self.issue_held(&mut change, (&issuer, &signer), requests, dry_run)?;
        if !dry_run {
            let fresh = issued
                .iter()
                .map(|issued| issued.leaf.out.clone())
                .collect();
            if fresh_crls {
                self.republish_but(&change, &fresh)?;
            } else {
                self.republish_behind(&change, &fresh)?;
            }
        }
        Ok(issued)
    }

    pub(crate) fn issue_held(
        &self,
        change: &mut Change,
        issuer: (&Authority, &Signer),
        requests: &[IssueRequest],
        dry_run: bool,
    ) -> Result<Vec<Issued>, Error> {
        let mut seen = HashSet::new();
        let mut keys = KeyRules::of(change.inventory.ledger(), self.dir());
        let mut minted = Vec::with_capacity(requests.len());
        for request in requests {
            let out = self.out_of(request)?;
            if !seen.insert(out.clone()) {
                return Err(Error::Usage(format!(
                    "{} is asked for twice in one run; give each leaf its own directory",
                    out.display()
                )));
            }
            minted.push(self.mint(change.now, issuer, request, out, &mut keys)?);
        }
        self.self_check(&minted, change)?;
        if dry_run {
            return Ok(minted
                .into_iter()
                .map(|minted| minted.into_issued(0))
                .collect());
        }
        let mut staged = self.stage_all(&minted, change)?;
        let appended = change.append(
            minted
                .iter()
                .map(|minted| Event::Issued(minted.leaf.clone()))
                .collect(),
        );
        // The line may be there although something after it failed; then the generation is what the
        // next run needs to go on.
        let ledger = change.inventory.ledger();
        for (staged, minted) in staged.iter_mut().zip(&minted) {
            if ledger.leaf(&minted.leaf.serial).is_some() {
                staged.stays();
            }
        }
        appended?;
        let durability = store::durability_for(staged.len());
        let late = |at| {
            let leaf = minted.get(at).map(|minted: &Minted| &minted.leaf);
            Err(held_dir::late(leaf.map_or(Path::new(""), |leaf| &leaf.out)))
        };
        let generations = parallel::each_within(
            staged,
            mesh_dir::LIMIT,
            |staged: Staged| Ok(staged.publish()?),
            late,
        )?;
        mesh_dir::sync_batch(
            durability,
            minted.iter().map(|minted| minted.leaf.out.as_path()),
        )?;
        minted
            .into_iter()
            .zip(generations)
            .map(|(minted, generation)| Ok(minted.into_issued(generation?)))
            .collect()
    }

    /// The mesh directory of a request, as the inventory will name it.
    pub(crate) fn out_of(&self, request: &IssueRequest) -> Result<PathBuf, Error> {
        let default = || {
            self.dir()
                .join("out")
                .join(request.role.as_str())
                .join(request.name.as_str())
        };
        let out = request.out.clone().unwrap_or_else(default);
        std::path::absolute(&out).map_err(Error::io("find", &out))
    }

    /// The mesh directories of `requests`, each with whose it is to be.
    pub(crate) fn places_of(
        &self,
        requests: &[IssueRequest],
    ) -> Result<Vec<(PathBuf, PeerId)>, Error> {
        let place = |request: &IssueRequest| {
            let domain = self.trust_domain().clone();
            let id = PeerId::new(domain, request.role, request.name.clone());
            Ok((self.out_of(request)?, id))
        };
        requests.iter().map(place).collect()
    }

    /// Signs a leaf in memory.
    pub(crate) fn mint(
        &self,
        now: Timestamp,
        (authority, signer): (&Authority, &Signer),
        request: &IssueRequest,
        out: PathBuf,
        keys: &mut KeyRules,
    ) -> Result<Minted, Error> {
        let id = PeerId::new(
            self.trust_domain().clone(),
            request.role,
            request.name.clone(),
        );
        let ttl = request.ttl.unwrap_or(self.settings().leaf_ttl);
        if !(LEAF_TTL_MIN..=LEAF_TTL_MAX).contains(&ttl) {
            let (asked, least, most) = (
                for_people(ttl.as_secs()),
                for_people(LEAF_TTL_MIN.as_secs()),
                for_people(LEAF_TTL_MAX.as_secs()),
            );
            return Err(Error::Refused(format!(
                "{id}: a leaf lives {least} to {most}, not {asked}; choose --ttl between them"
            )));
        }
        self.check_dns(&id, &request.dns)?;
        if !matches!(request.key, KeyWanted::Enrolled(_)) {
            refuse_another_identity(&out, &id)?;
        }
        let mut notes = Vec::new();
        let life = profile::life(
            now,
            ttl.as_secs(),
            Some((authority.not_before, authority.not_after)),
        );
        if life.1 < now.plus(ttl.as_secs()) {
            notes.push(format!(
                "it ends with its issuer {}, {} instead of {}",
                authority.id,
                life.1,
                now.plus(ttl.as_secs())
            ));
        }
        let params = profile::leaf(&id, &request.dns, life)?;
        let (public, key, csr_key) = self.key_for(request, &id, &out, &mut notes)?;
        let spki = public.subject_public_key_info();
        keys.claim(&spki, &id)?;
        let certificate = signer.sign(&params, &public)?;
        let leaf = Leaf {
            role: request.role,
            name: request.name.clone(),
            serial: profile::serial_text(&params),
            issuer: authority.id.clone(),
            not_before: life.0,
            not_after: life.1,
            ttl: ttl.as_secs(),
            dns: request.dns.clone(),
            key: sha256_hex(&spki),
            csr_key,
            fingerprint: sha256_hex(certificate.der()),
            out,
            renews: None,
        };
        Ok(Minted {
            leaf,
            id,
            certificate: certificate.into(),
            key,
            notes,
        })
    }

    /// Makes or finds the key of a leaf.
    fn key_for(
        &self,
        request: &IssueRequest,
        id: &PeerId,
        out: &Path,
        notes: &mut Vec<String>,
    ) -> Result<KeyFound, Error> {
        let public = |spki: &[u8]| {
            SubjectPublicKeyInfo::from_der(spki)
                .map_err(|why| Error::Refused(format!("{id}: the key can't be certified: {why}")))
        };
        let that_fits = |spki: &[u8]| {
            let wanted = spki.to_vec();
            mesh_dir::key_that(out, move |pem| is_key_of(pem, &wanted))
        };
        match &request.key {
            KeyWanted::New => {
                let key = keys::generate()?;
                let pem = Zeroizing::new(keys::to_plain_pem(&key).as_bytes().to_vec());
                Ok((public(&key.subject_public_key_info())?, Some(pem), None))
            }
            KeyWanted::Kept => {
                let none = || {
                    Error::Refused(format!(
                        "{id}: there is no key to keep in {}; leave out --reuse-key",
                        out.display()
                    ))
                };
                let pem = mesh_dir::current_key(out)?.ok_or_else(none)?;
                let text = std::str::from_utf8(&pem)
                    .map_err(|_| Error::damaged(&out.join("key.pem"), "not PEM"))?;
                let key = keys::from_plain_pem(text)
                    .map_err(|why| Error::damaged(&out.join("key.pem"), why.to_string()))?;
                Ok((public(&key.subject_public_key_info())?, Some(pem), None))
            }
            KeyWanted::Csr(bytes) => {
                let spki = csr::public_key(bytes, id, &request.dns)?;
                let key = that_fits(&spki)?;
                if key.is_none() {
                    notes.push(format!("{} holds no key.pem: put the one that made the request beside cert.pem, mode 0600", out.display()));
                }
                Ok((public(&spki)?, key, Some(STANDARD.encode(&spki))))
            }
            KeyWanted::Enrolled(spki) => Ok((public(spki)?, None, None)),
            KeyWanted::Known(text) => {
                let spki = STANDARD
                    .decode(text)
                    .map_err(|_| Error::Failed("the inventory holds no public key".to_owned()))?;
                let key = that_fits(&spki)?;
                Ok((public(&spki)?, key, Some(text.clone())))
            }
        }
    }

    pub(crate) fn check_dns(&self, id: &PeerId, dns: &[String]) -> Result<(), Error> {
        let domains: Vec<&str> = std::iter::once(self.trust_domain().as_str())
            .chain(self.settings().permitted_dns.iter().map(String::as_str))
            .collect();
        for name in dns {
            if !is_dns_name(name, 253) {
                return Err(Error::Usage(format!(
                    "{id}: `{name}` is not a DNS name (lower case, no wildcard, no address)"
                )));
            }
            let within = |domain: &&str| {
                name == domain
                    || name
                        .strip_suffix(domain)
                        .is_some_and(|rest| rest.ends_with('.'))
            };
            if !domains.iter().any(within) {
                return Err(Error::Refused(format!(
                    "{id}: the issuing CA may sign DNS names in {} only, not `{name}`; add its domain to permitted_dns in {} and run `gapura-pki ca rotate issuer`",
                    domains.join(", "),
                    self.dir().join("pki.json").display()
                )));
            }
        }
        Ok(())
    }

    /// Every leaf is judged as its peers will judge it, with the roots they will have.
    pub(crate) fn self_check(&self, minted: &[Minted], change: &Change) -> Result<(), Error> {
        let ledger = change.inventory.ledger();
        let certificate = |authority| ca::certificate(self.dir(), authority);
        let roots = ledger
            .trusted_roots(change.now)
            .map(certificate)
            .collect::<Result<Vec<_>, _>>()?;
        let issuers = ledger
            .published_issuers(change.now)
            .map(certificate)
            .collect::<Result<Vec<_>, _>>()?;
        let crls = ledger
            .published_issuers(change.now)
            .chain(ledger.trusted_roots(change.now))
            .map(|authority| self.stored_crl(authority));
        let crls = crls.collect::<Result<Vec<_>, _>>()?;
        let court = BundleVerifier::new(&roots, Some(&crls), &issuers, self.trust_domain())
            .map_err(Error::SelfCheck)?;
        for minted in minted {
            let authority = ledger.authority(&minted.leaf.issuer);
            let issuer = authority.ok_or_else(|| {
                Error::Failed(format!("{} is not in the inventory", minted.leaf.issuer))
            })?;
            let chain = [
                minted.certificate.clone(),
                ca::certificate(self.dir(), issuer)?,
            ];
            let judged = court.judge(
                &chain,
                Purpose::of(minted.leaf.role),
                Some(&minted.id),
                change.now,
            );
            judged.map_err(|why| Error::SelfCheck(format!("{}: {why}", minted.id)))?;
        }
        Ok(())
    }

    /// Writes all generations under hidden names.
    fn stage_all(&self, minted: &[Minted], change: &Change) -> Result<Vec<Staged>, Error> {
        let ledger = change.inventory.ledger();
        let (ca, crl) = self.trust(ledger, change.now)?;
        let mut contents = Vec::with_capacity(minted.len());
        for minted in minted {
            let cert = self.chain(&minted.certificate, &minted.leaf.issuer, ledger, change.now)?;
            let content = Content {
                cert,
                key: minted.key.clone(),
                ca: ca.clone(),
                crl: crl.clone(),
            };
            contents.push((minted.leaf.out.clone(), content));
        }
        let durability = store::durability_for(contents.len());
        let late = |at| {
            let leaf = minted.get(at).map(|minted: &Minted| &minted.leaf);
            Err(held_dir::late(leaf.map_or(Path::new(""), |leaf| &leaf.out)))
        };
        let staged = parallel::each_within(
            contents,
            mesh_dir::LIMIT,
            move |(out, content): (PathBuf, Content)| mesh_dir::stage(&out, &content, durability),
            late,
        )?
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        mesh_dir::sync_batch(
            durability,
            minted.iter().map(|minted| minted.leaf.out.as_path()),
        )?;
        Ok(staged)
    }
}

impl Minted {
    fn into_issued(self, generation: u64) -> Issued {
        Issued {
            key_published: self.key.is_some() && generation > 0,
            leaf: self.leaf,
            id: self.id,
            generation,
            notes: self.notes,
            certificate: self.certificate,
        }
    }
}

/// A slip of the hand must not turn the gateway's directory into a plugin's.
fn refuse_another_identity(out: &Path, id: &PeerId) -> Result<(), Error> {
    let shown = mesh_dir::current(out)
        .ok()
        .flatten()
        .and_then(|current| current.chain.into_iter().next());
    let other = shown
        .as_deref()
        .and_then(csr::identity_of)
        .filter(|other| other.domain() == id.domain() && other != id);
    match other {
        None => Ok(()),
        Some(other) => Err(Error::Refused(format!(
            "{} belongs to {other}, not to {id}; give another --out",
            out.display()
        ))),
    }
}

fn is_key_of(pem: &[u8], spki: &[u8]) -> bool {
    let key = std::str::from_utf8(pem)
        .ok()
        .and_then(|text| keys::from_plain_pem(text).ok());
    key.is_some_and(|key| key.subject_public_key_info() == spki)
}
