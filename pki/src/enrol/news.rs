//! What everybody has to know of the CAs, for those who ask over the network: looked for without
//! the lock, and made anew only when it has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use aws_lc_rs::digest::{SHA256, digest};
use gapura_enrol::news::TrustNews;
use gapura_protocol::text::hex;
use rustls::pki_types::CertificateDer;

use super::seen::{self, Held};
use crate::ca;
use crate::error::Error;
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::pem;
use crate::pki::Pki;
use crate::timestamp::Timestamp;

/// Looks for news.
pub struct Herald {
    pki: Pki,
    known: Option<Inventory>,
    stamp: Option<Stamp>,
}

/// What a host said that it holds.
#[derive(Clone, Debug)]
pub struct Said {
    /// The serial of the certificate that it showed, as hex.
    pub serial: String,
    /// The generation of its roots and CRLs.
    pub generation: String,
    /// When, in seconds of Unix time.
    pub at: u64,
}

/// What is different when there may be news: the inventory's last line, each CRL's file, and the
/// minute, since a CA's end is news too.
#[derive(PartialEq, Eq)]
struct Stamp {
    head: Option<Vec<u8>>,
    crls: Vec<(String, u64, u64, u128)>,
    minute: u64,
}

/// What `ledger` has to tell everybody.
fn news(pki: &Pki, ledger: &Ledger, now: Timestamp) -> Result<News, Error> {
    let (mut roots, crls) = pki.trust(ledger, now)?;
    let mut all = Vec::new();
    for root in ledger.trusted_roots(now) {
        all.push(ca::certificate(pki.dir(), root)?);
    }
    for issuer in ledger.published_issuers(now) {
        let certificate = ca::certificate(pki.dir(), issuer)?;
        roots.push_str(&pem::encode("CERTIFICATE", &certificate));
        all.push(certificate);
    }
    let print = digest(&SHA256, format!("{roots}\n{crls}").as_bytes());
    let news = TrustNews {
        generation: hex(print.as_ref()),
        roots,
        crls,
        as_of: now.0,
    };
    Ok((news, all))
}

/// The generation of what `ledger` has to tell everybody.
pub(crate) fn print(pki: &Pki, ledger: &Ledger, now: Timestamp) -> Result<String, Error> {
    news(pki, ledger, now).map(|(news, _)| news.generation)
}

/// The news, and the certificates of the CAs as `cacerts` gives them.
type News = (TrustNews, Vec<CertificateDer<'static>>);

impl Herald {
    /// Looks into the state directory of `pki`.
    #[must_use]
    pub fn new(pki: Pki) -> Self {
        Self {
            pki,
            known: None,
            stamp: None,
        }
    }

    /// The news, if there may be any since the last time.
    ///
    /// # Errors
    /// The inventory, a certificate or a CRL is missing or damaged; the next look tries again.
    pub fn look(&mut self) -> Result<Option<News>, Error> {
        let stamp = self.stamp()?;
        if self.stamp.as_ref() == Some(&stamp) {
            return Ok(None);
        }
        let inventory = self.pki.inventory_after(self.known.take())?;
        let news = news(&self.pki, inventory.ledger(), self.pki.now())?;
        self.known = Some(inventory);
        self.stamp = Some(stamp);
        Ok(Some(news))
    }

    /// Keeps which generation each host holds: the last in `said` of a host is what counts.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(&self, said: &[Said]) -> Result<(), Error> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let mut hosts = seen::load(self.pki.dir());
        for said in said {
            let leaf = known
                .ledger()
                .leaf(&said.serial)
                .filter(|leaf| leaf.is_enrolled());
            if let Some(leaf) = leaf {
                let held = Held {
                    generation: said.generation.clone(),
                    at: Timestamp(said.at),
                };
                hosts.insert(leaf.out.clone(), held);
            }
        }
        seen::save(self.pki.dir(), &hosts)
    }

    fn stamp(&self) -> Result<Stamp, Error> {
        let dir = self.pki.dir();
        let folder = dir.join("crl");
        let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        let mut crls = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &folder))?;
            // One that is being replaced at this moment shows the next time.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let changed = found.modified().ok();
            let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let name = entry.file_name().to_string_lossy().into_owned();
            let at = changed.map_or(0, |at| at.as_nanos());
            crls.push((name, found.ino(), found.len(), at));
        }
        crls.sort_unstable();
        Ok(Stamp {
            head: crate::store::read_if_there(&dir.join("inventory.head"))?,
            crls,
            minute: self.pki.now().0 / 60,
        })
    }
}
