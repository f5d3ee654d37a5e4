//! How each mesh directory stands to the inventory, and what a run that died left of it, brought to
//! its end.
//!
//! In: the newest leaf of each directory. Out: a [`Standing`] each. A directory is ours when it
//! shows the same identity signed by a CA of ours, whether or not it is the leaf that the inventory
//! names last: between the inventory's line and the rename a run may die or meet a full disk.
//! Invariant: when the lock has been taken, a whole generation of the leaf that the inventory names
//! last is the current one, and what was begun and is not whole is gone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gapura_protocol::identity::TrustDomain;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca;
use crate::csr;
use crate::error::Error;
use crate::held_dir;
use crate::ledger::{Leaf, Ledger};
use crate::mesh_dir::{self, Current};
use crate::parallel;

/// How a mesh directory stands to the newest leaf that was published in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It shows it; with the print of its roots and CRLs.
    Shows(String),
    /// It is ours, and not as it should be: why.
    Behind(String),
    /// It is ours, but the key of its certificate is not there: why.
    Keyless(String),
    /// There is no such directory, or nothing was ever in it.
    Gone,
    /// It holds something that is not ours.
    Foreign(String),
    /// It can't be read: why.
    Unreadable(String),
    /// It did not answer in time.
    Late(String),
}

/// The standing of every directory, as it was when the lock was taken.
pub(crate) type Standings = HashMap<PathBuf, Standing>;

/// What tells our own certificates from others: the trust domain and the certificates of our CAs.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    domain: TrustDomain,
    authorities: Vec<(String, CertificateDer<'static>)>,
}

impl Own {
    /// All CAs of `ledger` whose certificates can be read; whoever needs one that can't finds out
    /// by itself.
    pub(crate) fn of(dir: &Path, ledger: &Ledger, domain: &TrustDomain) -> Self {
        let read = |authority| Some(ca::certificate(dir, authority).ok()).flatten();
        Self {
            domain: domain.clone(),
            authorities: ledger
                .authorities()
                .iter()
                .filter_map(|authority| Some((authority.id.clone(), read(authority)?)))
                .collect(),
        }
    }

    /// The CA of ours that signed `leaf`.
    pub(crate) fn issuer_of(&self, leaf: &[u8]) -> Option<&str> {
        let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
        let signed = |authority: &[u8]| {
            X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
                authority.subject().as_raw() == leaf.issuer().as_raw()
                    && leaf.verify_signature(Some(authority.public_key())).is_ok()
            })
        };
        self.authorities
            .iter()
            .find(|(_, authority)| signed(authority))
            .map(|(id, _)| id.as_str())
    }

    /// Whether `shown` is the same identity as `leaf`, signed by a CA of ours.
    pub(crate) fn is_ours(&self, shown: &Current, leaf: &Leaf) -> bool {
        shown.chain.first().is_some_and(|found| {
            csr::identity_of(found).is_some_and(|id| id == leaf.id(&self.domain))
                && self.issuer_of(found).is_some()
        })
    }
}

/// Looks at the directories of `leaves`, several at a time. With `mend` what a run that died left
/// is brought to its end, which only the holder of the lock may do.
pub(crate) fn of_all(leaves: &[&Leaf], own: Own, mend: bool) -> Result<Standings, Error> {
    let places: Vec<PathBuf> = leaves.iter().map(|leaf| leaf.out.clone()).collect();
    let items: Vec<Leaf> = leaves.iter().map(|leaf| (*leaf).clone()).collect();
    let own = Arc::new(own);
    let done = parallel::each_within(
        items,
        mesh_dir::LIMIT,
        move |leaf| {
            look(&leaf, &own, mend).unwrap_or_else(|why| Standing::Unreadable(why.to_string()))
        },
        |at| {
            let place = places
                .get(at)
                .map(PathBuf::as_path)
                .unwrap_or(Path::new(""));
            Standing::Late(held_dir::late(place).to_string())
        },
    )?;
    Ok(places.iter().cloned().zip(done).collect())
}

/// Looks at one directory and mends nothing.
pub(crate) fn look_within(leaf: &Leaf, own: &Own) -> Standing {
    of_all(&[leaf], own.clone(), false)
        .ok()
        .and_then(|found| found.into_values().next())
        .unwrap_or_else(|| Standing::Unreadable("it could not be looked at".to_owned()))
}

/// Looks at one directory.
pub(crate) fn look(leaf: &Leaf, own: &Own, mend: bool) -> Result<Standing, Error> {
    let Some(dir) = held_dir::open(&leaf.out)? else {
        return Ok(Standing::Gone);
    };
    let by_csr = leaf.csr_key.is_some();
    let shown = mesh_dir::shown(&dir);
    if let Ok(Some(shown)) = &shown
        && shown.fingerprint().as_deref() == Some(leaf.fingerprint.as_str())
    {
        if mend {
            if shown.generation.is_some() {
                mesh_dir::complete(&dir, shown.key.is_some() && !by_csr)?;
            }
            mesh_dir::sweep(&dir)?;
        }
        return Ok(if shown.has_wrong_key() {
            Standing::Keyless("its key.pem is not the key of its certificate".to_owned())
        } else if shown.key.is_none() && !by_csr {
            Standing::Keyless("its key.pem is gone".to_owned())
        } else {
            Standing::Shows(shown.trust())
        });
    }
    let generation = match &shown {
        Ok(Some(shown)) => shown.generation,
        _ => None,
    };
    if let Some((name, found)) = mesh_dir::half_made(&dir, generation, &leaf.fingerprint, by_csr)?
        && may_give_way(&shown, leaf, own)
    {
        if !mend {
            return Ok(Standing::Behind(
                "a new certificate is there and not yet shown: a run died; any run finishes it"
                    .to_owned(),
            ));
        }
        mesh_dir::advance(&dir, &name, found.key.is_some())?;
        mesh_dir::sweep(&dir)?;
        dir.sync()?;
        return Ok(Standing::Shows(found.trust()));
    }
    let standing = match shown? {
        Some(shown) if own.is_ours(&shown, leaf) => {
            Standing::Behind("it shows an older certificate than was issued last".to_owned())
        }
        Some(shown) => Standing::Foreign(
            match shown
                .chain
                .first()
                .and_then(|found| csr::identity_of(found))
            {
                Some(id) => format!(
                    "it holds a certificate of {id} that is not the one that was issued, nor another of it by this CA"
                ),
                None => "it holds a certificate that is not of this CA".to_owned(),
            },
        ),
        None if mesh_dir::is_used(&dir)? => {
            Standing::Behind("it shows nothing, although generations are there".to_owned())
        }
        None => Standing::Gone,
    };
    if mend {
        mesh_dir::sweep(&dir)?;
    }
    Ok(standing)
}

/// Whether what a directory shows may be replaced by a generation that was not finished: nothing,
/// or a certificate of the same identity. Plain files of another CA do too, which is how a
/// directory comes into our hands; but not those of another identity.
fn may_give_way<E>(shown: &Result<Option<Current>, E>, leaf: &Leaf, own: &Own) -> bool {
    match shown {
        Ok(Some(shown)) => shown
            .chain
            .first()
            .and_then(|found| csr::identity_of(found))
            .is_none_or(|id| id == leaf.id(&own.domain) || id.domain() != &own.domain),
        Ok(None) => true,
        // What can't be read is looked at by a person first.
        Err(_) => false,
    }
}
