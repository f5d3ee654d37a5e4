//! What everybody has to know of the CAs, and how it gets to them: roots, CRLs, intermediates, into every mesh directory.
//!
//! In: the ledger. Out: new generations beside the leaf and key each directory has. A directory that is gone, or that holds a certificate
//! we did not put there, is left alone and named.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use crate::ca;
use crate::error::Error;
use crate::keys::sha256_hex;
use crate::lanes;
use crate::ledger::{Leaf, Ledger};
use crate::mesh_dir;
use crate::moment::Moment;
use crate::pem;
use crate::pki::{Held, Pki};
use crate::store::{self, Durability};

/// Roots, CRLs and issuing CAs, as PEM.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The trusted roots: `ca.pem`.
    pub ca: String,
    /// The CRLs: `crl.pem`.
    pub crl: String,
    /// The issuing CAs, to follow the leaf in `cert.pem`.
    pub intermediates: String,
}

/// A mesh directory after its trust files were to be renewed.
#[derive(Clone, Debug)]
pub struct Republished {
    /// The mesh directory.
    pub out: PathBuf,
    /// Who it speaks for, e.g. `plugin/billing`.
    pub label: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a mesh directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It shows a new generation.
    Published(u64),
    /// It is no longer there, or holds something else than we put there.
    Gone,
    /// It is there but could not be written.
    Failed(String),
}

impl Pki {
    /// The roots that peers are to trust.
    ///
    /// # Errors
    /// A root's certificate is missing or is not the one that was made.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let ledger = self.ledger()?;
        ledger
            .trusted_roots(self.now())
            .map(|root| ca::certificate(self.dir(), root))
            .collect()
    }

    /// What mesh directories on other machines need, as PEM.
    ///
    /// # Errors
    /// A certificate or CRL is missing or damaged.
    pub fn bundle(&self) -> Result<Bundle, Error> {
        let (ledger, now) = (self.ledger()?, self.now());
        let (ca, crl) = self.trust(&ledger, now)?;
        let mut intermediates = String::new();
        for issuer in ledger.published_issuers(now) {
            intermediates.push_str(&pem::encode(
                "CERTIFICATE",
                &ca::certificate(self.dir(), issuer)?,
            ));
        }
        Ok(Bundle {
            ca,
            crl,
            intermediates,
        })
    }

    /// `ca.pem` and `crl.pem` as `ledger` wants them.
    pub(crate) fn trust(&self, ledger: &Ledger, now: Moment) -> Result<(String, String), Error> {
        let (mut roots, mut crls) = (String::new(), String::new());
        for root in ledger.trusted_roots(now) {
            roots.push_str(&pem::encode(
                "CERTIFICATE",
                &ca::certificate(self.dir(), root)?,
            ));
        }
        for authority in ledger
            .published_issuers(now)
            .chain(ledger.trusted_roots(now))
        {
            crls.push_str(&pem::encode("X509 CRL", &self.stored_crl(authority)?));
        }
        Ok((roots, crls))
    }

    /// `cert.pem` for a leaf of `issuer`. The other issuers that peers may meet follow its own, so that their CRLs can be checked.
    pub(crate) fn chain(
        &self,
        leaf: &[u8],
        issuer: &str,
        ledger: &Ledger,
        now: Moment,
    ) -> Result<String, Error> {
        let mut chain = pem::encode("CERTIFICATE", leaf);
        let own = ledger
            .authority(issuer)
            .ok_or_else(|| Error::Failed(format!("{issuer} is not in the inventory")))?;
        let others = ledger
            .published_issuers(now)
            .filter(|authority| authority.id != issuer);
        for authority in std::iter::once(own).chain(others) {
            chain.push_str(&pem::encode(
                "CERTIFICATE",
                &ca::certificate(self.dir(), authority)?,
            ));
        }
        Ok(chain)
    }

    /// Gives every mesh directory we know of the present roots and CRLs, beside the leaf and key it has.
    pub(crate) fn republish(&self, held: &Held) -> Result<Vec<Republished>, Error> {
        self.republish_but(held, &HashSet::new())
    }

    /// The same, but for the directories that just got a new leaf.
    pub(crate) fn republish_but(
        &self,
        held: &Held,
        fresh: &HashSet<PathBuf>,
    ) -> Result<Vec<Republished>, Error> {
        let ledger = held.inventory.ledger();
        let (ca, crl) = self.trust(ledger, held.now)?;
        let leaves: Vec<&Leaf> = ledger
            .by_directory()
            .into_iter()
            .filter(|leaf| !fresh.contains(&leaf.out))
            .collect();
        let durability = store::durability_for(leaves.len());
        let done = lanes::each(leaves, |leaf| {
            let outcome = self.republish_one(leaf, ledger, held.now, (&ca, &crl), durability);
            Republished {
                out: leaf.out.clone(),
                label: leaf.label(),
                outcome: outcome.unwrap_or_else(|why| Outcome::Failed(why.to_string())),
            }
        })?;
        let published = done
            .iter()
            .filter(|done| matches!(done.outcome, Outcome::Published(_)));
        store::sync_batch(durability, published.map(|done| done.out.as_path()))?;
        Ok(done)
    }

    fn republish_one(
        &self,
        leaf: &Leaf,
        ledger: &Ledger,
        now: Moment,
        (ca, crl): (&str, &str),
        durability: Durability,
    ) -> Result<Outcome, Error> {
        let current = mesh_dir::current(&leaf.out)?;
        let shown = current
            .as_ref()
            .and_then(|current| Some((current.chain.first()?, &current.key)));
        let Some((shown, key)) = shown.filter(|(shown, _)| sha256_hex(shown) == leaf.fingerprint)
        else {
            return Ok(Outcome::Gone);
        };
        let cert = self.chain(shown, &leaf.issuer, ledger, now)?;
        let content = mesh_dir::Content {
            cert,
            key: key.clone(),
            ca: ca.to_owned(),
            crl: crl.to_owned(),
        };
        mesh_dir::stage(&leaf.out, &content, durability)?
            .publish()
            .map(Outcome::Published)
    }
}

impl Bundle {
    /// Writes `ca.pem`, `crl.pem` and `intermediates.pem` into `out`.
    ///
    /// # Errors
    /// Something can't be written.
    pub fn write(&self, out: &Path) -> Result<(), Error> {
        store::make_dir(out)?;
        for (name, text) in [
            ("ca.pem", &self.ca),
            ("crl.pem", &self.crl),
            ("intermediates.pem", &self.intermediates),
        ] {
            store::replace(&out.join(name), text.as_bytes(), store::Access::Everyone)?;
        }
        Ok(())
    }
}
