//! How a trust set comes to be: from a snapshot of a mesh directory, the clock, and what was in
//! force before.
//!
//! In: files as bytes. Out: a [`TrustSet`] that fits, or the one [`TrustError`] that says what does
//! not. The order is that of what is most fundamental: what can be read, whose it is, whether its
//! chain stands, whether the key is the certificate's, and then the CRLs.

use std::path::Path;
use std::sync::Arc;

use gapura_certificates::marks::Marks;
use gapura_certificates::peer::Peer;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::{Malformed, Refusal};
use gapura_certificates::revocation::RevocationSet;
use gapura_certificates::roots::{Issuer, Roots};
use gapura_certificates::verify::Verifier;
use gapura_files::directory::MeshFiles;
use gapura_files::pem;
use gapura_protocol::clock::from_unix;
use rustls::InconsistentKeys;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::{TrustError, TrustOptions, TrustSet};
use crate::before::Before;
use crate::configs::{Parts, Wall, client_config, server_config};
use crate::provider::mesh_provider;
use crate::verifier::RecentRefusals;

impl TrustSet {
    /// Reads and checks the set in `dir`. An own certificate that has expired or is not valid yet
    /// is no error: the program starts, says that it is not ready, and heals when a new one comes.
    ///
    /// # Errors
    /// If the set does not fit.
    pub fn load(
        dir: &Path,
        options: &TrustOptions,
        previous: Option<&Self>,
    ) -> Result<Self, TrustError> {
        Self::build(dir, &MeshFiles::read(dir)?, options, previous)
    }

    /// Reads and checks the set in `dir` for a program that starts, and whose CRLs had come as far
    /// as `marks`. One that is older is no error: the program starts, lets nobody in, says so, and
    /// heals when a newer one comes.
    ///
    /// # Errors
    /// If the set does not fit.
    pub fn start(dir: &Path, options: &TrustOptions, marks: &Marks) -> Result<Self, TrustError> {
        Self::follow(dir, &MeshFiles::read(dir)?, options, Before::start(marks))
    }

    /// Checks a snapshot of `dir`. Where there is a set in force, one that has not begun is not
    /// taken.
    ///
    /// # Errors
    /// If the set does not fit, or has not begun.
    pub fn build(
        dir: &Path,
        files: &MeshFiles,
        options: &TrustOptions,
        previous: Option<&Self>,
    ) -> Result<Self, TrustError> {
        let before = match previous {
            Some(previous) => previous.before_the_next(options.clock.now()),
            None => Before::start(&Marks::default()),
        };
        Self::follow(dir, files, options, before)
    }

    fn follow(
        dir: &Path,
        files: &MeshFiles,
        options: &TrustOptions,
        before: Before,
    ) -> Result<Self, TrustError> {
        let [cert_path, key_path, ca_path, crl_path] =
            gapura_files::directory::FILES.map(|name| dir.join(name));
        let now = options.clock.unix();
        let provider = mesh_provider();
        let chain = pem::certificates(&files.cert)
            .map_err(|err| TrustError::Pem(cert_path.clone(), err))?;
        let key =
            pem::private_key(&files.key).map_err(|err| TrustError::Pem(key_path.clone(), err))?;
        let roots =
            pem::certificates(&files.ca).map_err(|err| TrustError::Pem(ca_path.clone(), err))?;
        let roots = Roots::new(&roots).map_err(|err| TrustError::Roots(ca_path, err))?;
        let leaf = chain.first().ok_or(Refusal::NoCertificate);
        let facts = leaf
            .and_then(Peer::claimed)
            .map_err(|refusal| TrustError::Leaf(cert_path.clone(), refusal))?;
        if facts.id.role() != options.own_role {
            return Err(TrustError::Role(cert_path, options.own_role, facts.id));
        }
        let algorithms = provider.signature_verification_algorithms.all;
        let judge = Verifier::new(roots, None, facts.id.domain().clone(), algorithms);
        let (own, own_begins) = judge_own(&judge, &chain, &facts, now)
            .map_err(|refusal| TrustError::Leaf(cert_path.clone(), refusal))?;
        let intermediates = issuers_behind(&chain, &cert_path)?;
        // After the judgement, which says more of what is wrong with a certificate or a kind of
        // key.
        let certified =
            CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|err| match err {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    TrustError::KeyMismatch(key_path.clone())
                }
                rustls::Error::InvalidCertificate(_) => TrustError::Leaf(
                    cert_path.clone(),
                    Refusal::Malformed(Malformed::Certificate),
                ),
                _ => TrustError::Key(key_path.clone()),
            })?;
        if !before.is_start() && own_begins > now {
            let what = "the certificate, or a CA of its chain,".to_owned();
            return Err(TrustError::NotBegun(cert_path, what, own_begins));
        }
        let revocation = match &files.crl {
            Some(text) => {
                let ders = pem::crls(text).map_err(|err| TrustError::Pem(crl_path.clone(), err))?;
                let issuers: Vec<&Issuer> = judge.roots().issuers().chain(&intermediates).collect();
                let lists = RevocationSet::new(&ders, &issuers, algorithms, None)
                    .map_err(|err| TrustError::Crl(crl_path.clone(), err))?;
                Some(lists)
            }
            None if !options.no_crl => return Err(TrustError::NoCrl(crl_path)),
            None if before.has_crls => return Err(TrustError::CrlGone(crl_path)),
            None => None,
        };
        let closed = match revocation
            .as_ref()
            .map(|lists| lists.goes_on_from(&before.marks, now))
        {
            None | Some(Ok(())) => None,
            Some(Err(err)) => Some(before.not_going_on(err, crl_path, now)?),
        };
        let judge = Arc::new(judge.with_revocation(revocation).closed_for(closed));
        let certified = Arc::new(certified);
        let time = Arc::new(Wall(options.clock.clone()));
        let recent = Arc::new(RecentRefusals::default());
        let parts = Parts {
            judge: &judge,
            recent: &recent,
            certified: &certified,
            provider: &provider,
        };
        let server = server_config(&parts, time.clone(), own.id.role())
            .map_err(|err| TrustError::Config(err.to_string()))?;
        let client = client_config(&parts, time, own.id.clone())
            .map_err(|err| TrustError::Config(err.to_string()))?;
        let (hash, stamp) = (files.hash, files.stamp.clone());
        Ok(Self {
            generation: before.generation.unwrap_or(0) + 1,
            hash,
            stamp,
            own,
            own_chain: chain,
            judge,
            recent,
            provider,
            own_begins,
            marks: before.marks,
            clock: options.clock.clone(),
            server: Arc::new(server),
            client,
        })
    }
}

/// The issuing CAs behind our leaf: their CRLs can be verified as well.
fn issuers_behind(
    chain: &[CertificateDer<'static>],
    path: &Path,
) -> Result<Vec<Issuer>, TrustError> {
    let read = |(at, der)| {
        Issuer::from_der(der).ok_or_else(|| TrustError::Intermediate(path.to_owned(), at + 1))
    };
    chain.iter().enumerate().skip(1).map(read).collect()
}

/// Judges our own chain inside its own dates, so that only dates can be wrong with a set that is
/// taken; and without the CRLs, since one that names us is no reason to stay down: it is an alarm,
/// and others refuse us. Gives back when the chain begins.
fn judge_own(
    judge: &Verifier,
    chain: &[CertificateDer<'_>],
    facts: &Peer,
    now: u64,
) -> Result<(Peer, u64), Refusal> {
    let purpose = Purpose::of(facts.id.role());
    let mut at = now.clamp(facts.not_before.min(facts.not_after), facts.not_after);
    // A CA, or the root, may begin later than the leaf: each turn meets one of them.
    for _ in 0..=chain.len() {
        match judge.judge(chain, purpose, from_unix(at)) {
            Err(Refusal::NotYetValid { not_before, .. })
                if not_before > at && not_before <= facts.not_after =>
            {
                at = not_before;
            }
            Err(refusal) => return Err(refusal),
            Ok(peer) => {
                let begins = if at > now { at } else { facts.not_before };
                return Ok((peer, begins));
            }
        }
    }
    judge
        .judge(chain, purpose, from_unix(at))
        .map(|peer| (peer, at))
}
