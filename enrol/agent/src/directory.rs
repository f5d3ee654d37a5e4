//! The mesh directory: what is in it, and what may follow.
//!
//! In: a candidate, as it came from the CA server. Out: the set it makes, which is the very set
//! that a gateway or sidecar would make of it, then one more generation by the one rename of
//! `gapura_files`; or why it is not taken. Invariant: what does not fit, or goes back behind what
//! is there, is never written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gapura_certificates::forgotten::{Forgotten, forgotten};
use gapura_certificates::peer::Peer;
use gapura_certificates::revocation::RevocationError;
use gapura_enrol::news;
use gapura_files::directory::{self, MeshFiles, Stamp};
use gapura_files::gate::GateRef;
use gapura_files::held_dir::{Durability, HeldDir};
use gapura_files::mesh_dir::{self, Content, Current};
use gapura_files::pem;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_trust::set::{TrustError, TrustOptions, TrustSet};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::trouble::Trouble;

/// A mesh directory that one agent writes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    clock: Clock,
    gate: GateRef,
}

/// What is in it.
pub(crate) enum Found {
    /// No certificate.
    Nothing,
    /// A set that fits, be it out of date.
    Held(Held),
    /// Something else: a sentence.
    Unfit(String),
}

/// A set that fits, and what it was made of.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) set: Arc<TrustSet>,
    /// Leaf, then intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    ca: String,
    /// The CRLs, PEM.
    pub(crate) crl: String,
    /// Which generation this is; 0 where plain files stand there.
    pub(crate) generation: u64,
}

/// What may follow.
pub(crate) struct Candidate {
    /// Leaf, then intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The leaf's key, PEM.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// The roots, PEM.
    pub(crate) ca: String,
    /// The CRLs, PEM; `None` where they are still to be asked for, by a set that is never written.
    pub(crate) crl: Option<String>,
}

impl Directory {
    pub(crate) fn new(path: &Path, clock: &Clock, gate: GateRef) -> Self {
        Self {
            path: path.to_owned(),
            clock: clock.clone(),
            gate,
        }
    }

    /// Looks.
    pub(crate) fn look(&self) -> Found {
        match self.read() {
            Ok(found) => found,
            Err(why) => Found::Unfit(why),
        }
    }

    fn read(&self) -> Result<Found, String> {
        let Some(dir) = HeldDir::open(&self.path, self.gate).map_err(|error| error.to_string())?
        else {
            return Ok(Found::Nothing);
        };
        let Some(shown) = mesh_dir::shown(&dir).map_err(|error| error.to_string())? else {
            return Ok(Found::Nothing);
        };
        let generation = shown.generation.unwrap_or(0);
        let Current {
            chain, key, raw, ..
        } = shown;
        let [_, ca, crl] = raw;
        let key = key.ok_or_else(|| {
            format!(
                "{} is not the key of the certificate beside it, or is not there",
                self.path.join("key.pem").display()
            )
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let crl = Some(crl).filter(|crl| !crl.is_empty()).map(text);
        let candidate = Candidate {
            chain,
            key,
            ca: text(ca),
            crl,
        };
        let set = self
            .judge(&candidate, None, true)
            .map_err(|error| error.to_string())?;
        Ok(Found::Held(Held::of(set, candidate, generation)))
    }

    /// The set that `candidate` makes, as the program that will read it judges; `previous` is what
    /// it must not go back behind.
    pub(crate) fn judge(
        &self,
        candidate: &Candidate,
        previous: Option<&TrustSet>,
        no_crl: bool,
    ) -> Result<TrustSet, TrustError> {
        let cert = encoded(&candidate.chain).into_bytes();
        let crl = candidate.crl.as_ref().map(|crl| crl.as_bytes().to_vec());
        let hash = directory::hash([
            &*cert,
            &candidate.key,
            candidate.ca.as_bytes(),
            crl.as_deref().unwrap_or_default(),
        ]);
        let files = MeshFiles {
            cert,
            key: candidate.key.clone(),
            ca: candidate.ca.as_bytes().to_vec(),
            crl,
            hash,
            stamp: Stamp::default(),
        };
        let options = TrustOptions {
            own_role: role(&candidate.chain),
            no_crl,
            clock: self.clock.clone(),
        };
        TrustSet::build(&self.path, &files, &options, previous)
    }

    /// Writes `candidate` as the next generation, if it fits and is not what is there. Waits for
    /// the disk.
    ///
    /// # Errors
    /// It does not fit, or the disk; then what was there is there still.
    pub(crate) fn publish(
        &self,
        candidate: Candidate,
        before: Option<&Held>,
    ) -> Result<Held, Trouble> {
        let previous = before.map(|held| &*held.set);
        let set = self.judge(&candidate, previous, false).map_err(misfit)?;
        if let (Some(before), Some(crl)) = (before, &candidate.crl) {
            self.refuse_to_forget(&before.crl, crl)?;
        }
        if let Some(before) = before.filter(|before| before.is(&candidate)) {
            return Ok(before.clone());
        }
        let content = Content {
            cert: encoded(&candidate.chain),
            key: Some(candidate.key.clone()),
            ca: candidate.ca.clone(),
            crl: candidate.crl.clone().unwrap_or_default(),
        };
        let written = mesh_dir::stage(&self.path, &content, Durability::Now, self.gate)
            .and_then(mesh_dir::Staged::publish);
        let generation = written.map_err(|error| {
            Trouble::Disk(format!(
                "--mesh-dir {}: the next generation cannot be written, and the one that is there stays: {error}",
                self.path.display()
            ))
        })?;
        Ok(Held::of(set, candidate, generation))
    }
}

impl Directory {
    /// Whom a CRL here names stays named for as long as the certificate may be used, whatever the
    /// number of the next one.
    fn refuse_to_forget(&self, before: &str, after: &str) -> Result<(), Trouble> {
        let read = |text: &str| {
            let lists = pem::crls(text.as_bytes());
            lists.map_err(|error| Trouble::Misfit(error.to_string()))
        };
        if before == after || before.is_empty() {
            return Ok(());
        }
        let since = self.clock.unix().saturating_sub(news::NAMED_FOR.as_secs());
        let lost = forgotten(&read(before)?, &read(after)?, since)
            .map_err(|error| Trouble::Misfit(error.to_string()))?;
        let Some(Forgotten { issuer, serial }) = lost.first() else {
            return Ok(());
        };
        let more = match lost.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more like it"),
        };
        Err(Trouble::RolledBack(format!(
            "its CRL of {issuer} does not revoke the serial {serial} any more, which is revoked here{more}"
        )))
    }
}

impl Held {
    fn of(set: TrustSet, candidate: Candidate, generation: u64) -> Self {
        Self {
            set: Arc::new(set),
            chain: candidate.chain,
            key: candidate.key,
            ca: candidate.ca,
            crl: candidate.crl.unwrap_or_default(),
            generation,
        }
    }

    fn is(&self, other: &Candidate) -> bool {
        self.chain == other.chain
            && self.key == other.key
            && self.ca == other.ca
            && Some(&self.crl) == other.crl.as_ref()
    }

    /// The leaf.
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// The same leaf and key under other roots and CRLs; `authorities` are the CAs of which there
    /// may be CRLs.
    pub(crate) fn with_news(
        &self,
        ca: String,
        crl: String,
        authorities: &[CertificateDer<'static>],
    ) -> Candidate {
        // Our own issuer may be one that is no longer shown.
        let known = authorities.iter().chain(self.chain.iter().skip(1));
        Candidate {
            chain: self
                .leaf()
                .map(|leaf| chain(leaf, known, authorities))
                .unwrap_or_default(),
            key: self.key.clone(),
            ca,
            crl: Some(crl),
        }
    }
}

/// A chain as `gapura-pki` writes it: the leaf, its own issuer, then the other issuing CAs of
/// `authorities`, so that their CRLs can be verified. Roots are not among them.
pub(crate) fn chain<'c>(
    leaf: &CertificateDer<'static>,
    known: impl Iterator<Item = &'c CertificateDer<'static>>,
    authorities: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let own = issued_by(leaf);
    let issuer = known
        .filter(|der| own.is_some() && subject_of(der) == own)
        .find(|der| !is_self_issued(der));
    let mut chain = vec![leaf.clone()];
    for der in issuer.into_iter().chain(authorities) {
        if !is_self_issued(der) && !chain.contains(der) {
            chain.push(der.clone());
        }
    }
    chain
}

fn parsed<T>(der: &CertificateDer<'_>, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(read(&certificate))
}

fn issued_by(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parsed(der, |found| found.issuer().as_raw().to_vec())
}

fn subject_of(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parsed(der, |found| found.subject().as_raw().to_vec())
}

fn is_self_issued(der: &CertificateDer<'_>) -> bool {
    parsed(der, |found| {
        found.issuer().as_raw() == found.subject().as_raw()
    })
    .unwrap_or(true)
}

fn encoded(chain: &[CertificateDer<'_>]) -> String {
    chain
        .iter()
        .map(|der| pem::encode("CERTIFICATE", der))
        .collect()
}

/// What the leaf says to be; what it says wrongly the judgement names.
fn role(chain: &[CertificateDer<'_>]) -> Role {
    Peer::of_judged_chain(chain).map_or(Role::Plugin, |peer| peer.id.role())
}

fn misfit(error: TrustError) -> Trouble {
    match &error {
        TrustError::Crl(_, RevocationError::GoesBack { .. }) => {
            Trouble::RolledBack(error.to_string())
        }
        _ => Trouble::Misfit(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
