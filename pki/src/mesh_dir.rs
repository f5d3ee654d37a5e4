//! A mesh directory: what a gateway or sidecar reads, published as one generation by one rename.
//!
//! ```text
//! DIR/gen-000007/{cert,key,ca,crl}.pem     a whole set, never changed once it has its name
//! DIR/current -> gen-000007                the one rename
//! DIR/cert.pem -> current/cert.pem         stable names, likewise key.pem, ca.pem, crl.pem
//! ```
//! In: the four contents. Out: a generation. Invariant: whoever reads through the stable names meets nothing, or one whole set.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys;
use crate::pem;
use crate::store::{self, Access, Durability};

/// Old generations stay this many publications long, for readers that resolved the link a moment ago and for a look back.
const KEPT: usize = 3;
const STABLE: [&str; 4] = ["cert.pem", "key.pem", "ca.pem", "crl.pem"];

/// What one generation holds.
pub(crate) struct Content {
    /// Leaf, then intermediates.
    pub(crate) cert: String,
    /// The leaf's key; absent where a CSR brought the public half only.
    pub(crate) key: Option<Zeroizing<Vec<u8>>>,
    /// The trusted roots.
    pub(crate) ca: String,
    /// A CRL of every CA whose certificates may be met.
    pub(crate) crl: String,
}

/// A generation that is on the disk and has no name yet. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    dir: PathBuf,
    fresh: PathBuf,
    has_key: bool,
    durability: Durability,
}

/// Writes and syncs the next generation of `dir` without showing it to anyone.
pub(crate) fn stage(
    dir: &Path,
    content: &Content,
    durability: Durability,
) -> Result<Staged, Error> {
    store::make_dir(dir)?;
    store::sweep(dir)?; // of a run that died: only the holder of the CA's lock writes here
    let staged = Staged {
        dir: dir.to_owned(),
        fresh: store::beside(&dir.join("x"))?,
        has_key: content.key.is_some(),
        durability,
    };
    store::make_dir(&staged.fresh)?;
    let write = |name: &str, bytes: &[u8], access| {
        let path = staged.fresh.join(name);
        store::create_synced(&path, bytes, access, durability)?;
        store::give_to_owner_of(&path, dir)
    };
    write("cert.pem", content.cert.as_bytes(), Access::Everyone)?;
    write("ca.pem", content.ca.as_bytes(), Access::Everyone)?;
    write("crl.pem", content.crl.as_bytes(), Access::Everyone)?;
    if let Some(key) = &content.key {
        write("key.pem", key, Access::Owner)?;
    }
    store::give_to_owner_of(&staged.fresh, dir)?;
    if durability == Durability::Now {
        store::sync_dir(&staged.fresh)?;
    }
    Ok(staged)
}

impl Staged {
    /// Makes it the current generation and says its number.
    pub(crate) fn publish(self) -> Result<u64, Error> {
        let dir = &self.dir;
        let number = generations(dir)?.last().map_or(1, |(number, _)| number + 1);
        let name = format!("gen-{number:06}");
        let named = dir.join(&name);
        fs::rename(&self.fresh, &named).map_err(Error::io("replace", &named))?;
        // In a new directory the stable names come first and lead nowhere until `current` is there; over plain files, as another tool
        // may have left them, they come last.
        let stable = |over_files: bool| {
            // Without a key of our own the one that is there, or will be brought, stays what it is.
            for file in STABLE
                .into_iter()
                .filter(|file| self.has_key || *file != "key.pem")
            {
                let path = dir.join(file);
                let target = Path::new("current").join(file);
                let is_file =
                    fs::symlink_metadata(&path).is_ok_and(|found| !found.file_type().is_symlink());
                if fs::read_link(&path).ok().as_deref() != Some(&target) && is_file == over_files {
                    store::relink(&path, &target)?;
                }
            }
            Ok::<(), Error>(())
        };
        stable(false)?;
        store::relink(&dir.join("current"), Path::new(&name))?;
        stable(true)?;
        if self.durability == Durability::Now {
            store::sync_dir(dir)?;
        }
        self.prune()?;
        Ok(number)
    }

    fn prune(&self) -> Result<(), Error> {
        let all = generations(&self.dir)?;
        for (_, path) in all.iter().take(all.len().saturating_sub(KEPT)) {
            fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.fresh); // gone already when it was published
    }
}

/// The generations of `dir`, oldest first.
fn generations(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let name = entry.file_name();
        if let Some(number) = name
            .to_str()
            .and_then(|name| name.strip_prefix("gen-")?.parse().ok())
        {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// What a mesh directory shows at present.
pub(crate) struct Current {
    /// The certificates in `cert.pem`.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The certificates in `ca.pem`.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// The CRLs in `crl.pem`.
    pub(crate) crls: Vec<Vec<u8>>,
    /// `key.pem`, if there is one.
    pub(crate) key: Option<Zeroizing<Vec<u8>>>,
}

/// Reads what `dir` shows; `None` when there is no such directory or no certificate in it.
pub(crate) fn current(dir: &Path) -> Result<Option<Current>, Error> {
    // Resolved once, so that the four files are of one generation.
    let at = match fs::canonicalize(dir.join("current")) {
        Ok(at) => at,
        Err(error) if error.kind() == io::ErrorKind::NotFound => dir.to_owned(),
        Err(error) => return Err(Error::io("read", dir)(error)),
    };
    let file = |name: &str| store::read_if_there(&at.join(name));
    let damaged = |name: &str| {
        let path = dir.join(name);
        move |why: String| Error::damaged(&path, why)
    };
    let Some(chain) = file("cert.pem")? else {
        return Ok(None);
    };
    let roots = file("ca.pem")?
        .map(|bytes| pem::certificates(&bytes).map_err(damaged("ca.pem")))
        .transpose()?;
    let crls = file("crl.pem")?
        .map(|bytes| pem::crls(&bytes).map_err(damaged("crl.pem")))
        .transpose()?;
    let chain = pem::certificates(&chain).map_err(damaged("cert.pem"))?;
    let key = match file("key.pem")? {
        Some(key) => Some(key),
        // One that was brought after a CSR, and not yet taken into a generation.
        None => store::read_if_there(&dir.join("key.pem"))?
            .filter(|key| chain.first().is_some_and(|leaf| is_key_of(key, leaf))),
    };
    Ok(Some(Current {
        chain,
        roots: roots.unwrap_or_default(),
        crls: crls.unwrap_or_default(),
        key: key.map(Zeroizing::new),
    }))
}

/// Whether `pem` holds the private key of the certificate `leaf`.
fn is_key_of(pem: &[u8], leaf: &[u8]) -> bool {
    let key = std::str::from_utf8(pem)
        .ok()
        .and_then(|text| keys::from_plain_pem(text).ok());
    let leaf = X509Certificate::from_der(leaf).ok();
    key.zip(leaf).is_some_and(|(key, (_, leaf))| {
        leaf.public_key().raw == key.subject_public_key_info().as_slice()
    })
}

/// The key a mesh directory shows, even where there is no certificate yet, as after `csr`.
pub(crate) fn current_key(dir: &Path) -> Result<Option<Vec<u8>>, Error> {
    match store::read_if_there(&dir.join("current").join("key.pem"))? {
        Some(key) => Ok(Some(key)),
        None => store::read_if_there(&dir.join("key.pem")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn content(mark: &str) -> Content {
        Content {
            cert: pem::encode("CERTIFICATE", mark.as_bytes()),
            key: Some(Zeroizing::new(mark.as_bytes().to_vec())),
            ca: pem::encode("CERTIFICATE", mark.as_bytes()),
            crl: pem::encode("X509 CRL", mark.as_bytes()),
        }
    }

    #[test]
    fn stable_names_lead_to_the_newest_generation_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=5 {
            let mark = format!("{number}");
            assert_eq!(
                stage(dir.path(), &content(&mark), Durability::Now)
                    .unwrap()
                    .publish()
                    .unwrap(),
                number
            );
            assert_eq!(
                fs::read(dir.path().join("key.pem")).unwrap(),
                mark.as_bytes()
            );
        }
        let names: Vec<_> = generations(dir.path())
            .unwrap()
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(names, [3, 4, 5]);
        assert_eq!(
            fs::metadata(dir.path().join("key.pem"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert_eq!(
            current(dir.path()).unwrap().unwrap().chain[0].as_ref(),
            b"5"
        );
    }

    #[test]
    fn what_is_staged_and_dropped_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        stage(dir.path(), &content("1"), Durability::Now)
            .unwrap()
            .publish()
            .unwrap();
        drop(stage(dir.path(), &content("2"), Durability::Later).unwrap());
        let hidden = fs::read_dir(dir.path()).unwrap().filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.')
        });
        assert_eq!(hidden.count(), 0);
        assert_eq!(fs::read(dir.path().join("key.pem")).unwrap(), b"1");
    }

    #[test]
    fn plain_files_of_another_tool_give_way() {
        let dir = tempfile::tempdir().unwrap();
        for file in STABLE {
            fs::write(dir.path().join(file), "old").unwrap();
        }
        stage(dir.path(), &content("1"), Durability::Now)
            .unwrap()
            .publish()
            .unwrap();
        assert_eq!(fs::read(dir.path().join("key.pem")).unwrap(), b"1");
        assert!(fs::read_link(dir.path().join("cert.pem")).is_ok());
    }
}
