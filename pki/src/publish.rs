//! What everybody has to know of the CAs, and how it gets to them: roots, CRLs, intermediates, into
//! every mesh directory.
//!
//! In: the ledger. Out: new generations beside the leaf and key each directory has, be it the
//! newest leaf or, where a run died or a disk was full, an older one of the same identity: it too
//! must learn of a revocation. A directory that is gone, or that holds a certificate that is not of
//! ours, is left alone and named; one that can't be written stops no other.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::ca;
use crate::error::Error;
use crate::held_dir;
use crate::ledger::{AuthorityKind, Leaf, Ledger};
use crate::mesh_dir;
use crate::parallel;
use crate::pem;
use crate::pki::{Change, Pki};
use crate::standing::{Own, Standing};
use crate::store::{self, Durability};
use crate::timestamp::Timestamp;

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
    /// It is no longer there, and nobody waits for it: what was in it has ended or was revoked, or
    /// its key never was on this machine.
    Gone,
    /// It is not there, although what was issued into it still counts: whoever reads it from
    /// somewhere else, or from a disk that is not mounted at this moment, goes on with the old
    /// roots and CRLs.
    Missing,
    /// It is there and holds something that is not of this CA.
    Foreign,
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
    pub(crate) fn trust(&self, ledger: &Ledger, now: Timestamp) -> Result<(String, String), Error> {
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

    /// `cert.pem` for a leaf of `issuer`. The other issuers that peers may meet follow its own, so
    /// that their CRLs can be checked.
    pub(crate) fn chain(
        &self,
        leaf: &[u8],
        issuer: &str,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<String, Error> {
        Ok(pem::encode("CERTIFICATE", leaf) + &self.issuers_of(issuer, ledger, now)?)
    }

    fn issuers_of(&self, issuer: &str, ledger: &Ledger, now: Timestamp) -> Result<String, Error> {
        let own = ledger
            .authority(issuer)
            .ok_or_else(|| Error::Failed(format!("{issuer} is not in the inventory")))?;
        let others = ledger
            .published_issuers(now)
            .filter(|authority| authority.id != issuer);
        let mut chain = String::new();
        for authority in std::iter::once(own).chain(others) {
            chain.push_str(&pem::encode(
                "CERTIFICATE",
                &ca::certificate(self.dir(), authority)?,
            ));
        }
        Ok(chain)
    }

    /// Gives every mesh directory we know of the present roots and CRLs, beside the leaf and key it
    /// has.
    pub(crate) fn republish(&self, change: &Change) -> Result<Vec<Republished>, Error> {
        self.republish_to(change, &Which::All)
    }

    /// The same, but for the directories that just got a new leaf.
    pub(crate) fn republish_but(
        &self,
        change: &Change,
        fresh: &HashSet<PathBuf>,
    ) -> Result<Vec<Republished>, Error> {
        self.republish_to(change, &Which::AllBut(fresh))
    }

    /// The same to those alone that hold others than the present ones: of a run that died before it
    /// came to them.
    pub(crate) fn republish_behind(
        &self,
        change: &Change,
        fresh: &HashSet<PathBuf>,
    ) -> Result<Vec<Republished>, Error> {
        self.republish_to(change, &Which::BehindBut(fresh))
    }

    fn republish_to(&self, change: &Change, which: &Which<'_>) -> Result<Vec<Republished>, Error> {
        let publication = Arc::new(self.publication(change)?);
        let only_behind = matches!(which, Which::BehindBut(_));
        let leaves: Vec<Leaf> = change
            .inventory
            .ledger()
            .by_directory()
            .into_iter()
            .filter(|leaf| which.means(leaf, change, &publication))
            .cloned()
            .collect();
        let durability = store::durability_for(leaves.len());
        let told = |leaf: &Leaf, outcome| Republished {
            out: leaf.out.clone(),
            label: leaf.label(),
            outcome,
        };
        let (late, rest): (Vec<&Leaf>, Vec<&Leaf>) = leaves
            .iter()
            .partition(|leaf| matches!(change.standings.get(&leaf.out), Some(Standing::Late(_))));
        // One that did not answer when the lock was taken is not asked again.
        let mut done: HashMap<PathBuf, Republished> = late
            .into_iter()
            .map(|leaf| {
                let why = held_dir::late(&leaf.out).to_string();
                (leaf.out.clone(), told(leaf, Outcome::Failed(why)))
            })
            .collect();
        let items: Vec<(Leaf, bool)> = rest
            .into_iter()
            .map(|leaf| {
                (
                    leaf.clone(),
                    change.inventory.ledger().is_live(leaf, change.now),
                )
            })
            .collect();
        let asked: Vec<Leaf> = items.iter().map(|(leaf, _)| leaf.clone()).collect();
        let outcomes = parallel::each_within(
            items,
            mesh_dir::LIMIT,
            move |(leaf, is_live)| {
                republish_one(&leaf, is_live, &publication, only_behind, durability)
                    .unwrap_or_else(|why| Outcome::Failed(why.to_string()))
            },
            |at| {
                let place = asked.get(at).map_or(Path::new(""), |leaf| &leaf.out);
                Outcome::Failed(held_dir::late(place).to_string())
            },
        )?;
        for (leaf, outcome) in asked.iter().zip(outcomes) {
            done.insert(leaf.out.clone(), told(leaf, outcome));
        }
        let done: Vec<Republished> = leaves
            .iter()
            .filter_map(|leaf| done.remove(&leaf.out))
            .collect();
        let published = done
            .iter()
            .filter(|done| matches!(done.outcome, Outcome::Published(_)));
        mesh_dir::sync_batch(durability, published.map(|done| done.out.as_path()))?;
        Ok(done)
    }

    fn publication(&self, change: &Change) -> Result<Publication, Error> {
        let ledger = change.inventory.ledger();
        let (ca, crl) = self.trust(ledger, change.now)?;
        let mut chains = HashMap::new();
        for authority in ledger.authorities() {
            if authority.kind == AuthorityKind::Issuer
                && let Ok(chain) = self.issuers_of(&authority.id, ledger, change.now)
            {
                chains.insert(authority.id.clone(), chain);
            }
        }
        Ok(Publication {
            print: mesh_dir::trust_print(ca.as_bytes(), crl.as_bytes()),
            ca,
            crl,
            chains,
            own: self.own(ledger),
        })
    }
}

/// Which mesh directories get the present roots and CRLs.
enum Which<'a> {
    All,
    AllBut(&'a HashSet<PathBuf>),
    BehindBut(&'a HashSet<PathBuf>),
}

impl Which<'_> {
    fn means(&self, leaf: &Leaf, change: &Change, publication: &Publication) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(fresh) => !fresh.contains(&leaf.out),
            Self::BehindBut(fresh) => {
                let behind = match change.standings.get(&leaf.out) {
                    Some(Standing::Shows(print)) => *print != publication.print,
                    Some(Standing::Behind(_) | Standing::Keyless(_)) => true,
                    _ => false,
                };
                behind && !fresh.contains(&leaf.out)
            }
        }
    }
}

/// What every directory is to hold, as PEM, and what it takes to tell which are ours.
struct Publication {
    ca: String,
    crl: String,
    print: String,
    /// For a leaf of each issuer: that one, and the others that peers may meet.
    chains: HashMap<String, String>,
    own: Own,
}

fn republish_one(
    leaf: &Leaf,
    is_live: bool,
    publication: &Publication,
    only_behind: bool,
    durability: Durability,
) -> Result<Outcome, Error> {
    let gone = if is_live && leaf.csr_key.is_none() {
        Outcome::Missing
    } else {
        Outcome::Gone
    };
    let Some(dir) = held_dir::open(&leaf.out)? else {
        return Ok(gone);
    };
    let Some(shown) = mesh_dir::shown(&dir)? else {
        if !mesh_dir::is_used(&dir)? {
            return Ok(gone);
        }
        return Err(Error::Failed(format!(
            "{} shows nothing, although generations are there; run `gapura-pki renew {}`",
            leaf.out.display(),
            leaf.label()
        )));
    };
    let Some((first, issuer)) = shown
        .chain
        .first()
        .filter(|_| publication.own.is_ours(&shown, leaf))
        .and_then(|first| Some((first, publication.own.issuer_of(first)?)))
    else {
        // Nobody asks for what has ended or was revoked.
        return Ok(if is_live {
            Outcome::Foreign
        } else {
            Outcome::Gone
        });
    };
    if shown.has_wrong_key() {
        return Err(Error::Failed(format!(
            "{} is not the key of the certificate beside it; run `gapura-pki renew {}`",
            leaf.out.join("key.pem").display(),
            leaf.label()
        )));
    }
    if only_behind && shown.trust() == publication.print {
        return Ok(Outcome::Published(shown.generation.unwrap_or(0)));
    }
    let chain = publication
        .chains
        .get(issuer)
        .ok_or_else(|| Error::Failed(format!("the certificate of {issuer} can't be read")))?;
    let content = mesh_dir::Content {
        cert: pem::encode("CERTIFICATE", first) + chain,
        key: shown.key.clone(),
        ca: publication.ca.clone(),
        crl: publication.crl.clone(),
    };
    let mut staged = mesh_dir::stage_in(&dir, &content, durability)?;
    staged.stays();
    Ok(Outcome::Published(staged.publish()?))
}

impl Bundle {
    /// Writes `ca.pem`, `crl.pem` and `intermediates.pem` into `out`.
    ///
    /// # Errors
    /// Something can't be written.
    pub fn write(&self, out: &Path) -> Result<(), Error> {
        let dir = held_dir::create(out)?;
        for (name, text) in [
            ("ca.pem", &self.ca),
            ("crl.pem", &self.crl),
            ("intermediates.pem", &self.intermediates),
        ] {
            dir.replace(name, text.as_bytes(), store::Access::Everyone)?;
        }
        Ok(dir.sync()?)
    }
}
