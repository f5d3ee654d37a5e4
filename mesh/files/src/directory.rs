//! Reads a mesh directory as one snapshot.
//!
//! In: a directory with `cert.pem`, `key.pem`, `ca.pem` and perhaps `crl.pem`, each a file or a
//! link. Out: the bytes of all four as they stood at one moment, their hash, and a cheap [`Stamp`]
//! that tells whether to read again. A rename of a link in the middle (`current`, or a ConfigMap's
//! `..data`) never mixes two generations: what was read must still be what the names lead to when
//! all is read, else it is read again. Nothing here looks into the bytes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::file;
pub use crate::file::FileError;

/// The bytes of one generation.
pub struct MeshFiles {
    /// Leaf, then intermediates.
    pub cert: Vec<u8>,
    /// The leaf's key.
    pub key: Zeroizing<Vec<u8>>,
    /// The trusted roots.
    pub ca: Vec<u8>,
    /// The CRLs, if there is such a file.
    pub crl: Option<Vec<u8>>,
    /// SHA-256 over all of them.
    pub hash: [u8; 32],
    /// What told the files apart from later ones.
    pub stamp: Stamp,
}

/// What a stat of each file says; equal stamps mean that nothing was replaced or rewritten, as far
/// as a stat can tell.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Stamp(Vec<Option<FileStamp>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The names of a mesh directory; the last one may be missing.
pub const FILES: [&str; 4] = ["cert.pem", "key.pem", "ca.pem", "crl.pem"];

/// Far more than any chain, bundle or key needs.
const MOST_BYTES: u64 = 4 << 20;

/// A CRL of a million entries.
const MOST_CRL_BYTES: u64 = 64 << 20;

/// A swap is one rename; meeting three in a row means that something writes without end.
const READINGS: usize = 8;

impl MeshFiles {
    /// Reads all files of one generation.
    ///
    /// # Errors
    /// If one is missing (other than `crl.pem`), cannot be read, is no file, is too large, or if
    /// others can read the key.
    pub fn read(dir: &Path) -> Result<Self, FileError> {
        for _ in 0..READINGS {
            // Before and after: each file is found by its own name, and one look could meet a swap
            // at the very places where the reading met one.
            let before = stamp(dir);
            let files = Self::read_once(dir)?;
            if files.stamp == before && before == stamp(dir) {
                return Ok(files);
            }
        }
        Err(FileError::Changing(dir.to_owned()))
    }

    fn read_once(dir: &Path) -> Result<Self, FileError> {
        let [cert, key, ca, crl] = FILES.map(|name| dir.join(name));
        let (cert, cert_stamp) = read_file(&cert, MOST_BYTES)?;
        let (key, key_stamp) = read_key(&key)?;
        let (ca, ca_stamp) = read_file(&ca, MOST_BYTES)?;
        let (crl, crl_stamp) = match read_file(&crl, MOST_CRL_BYTES) {
            Ok((crl, stamp)) => (Some(crl), Some(stamp)),
            Err(FileError::Missing(_)) => (None, None),
            Err(err) => return Err(err),
        };
        let hash = hash([&*cert, &key, &ca, crl.as_deref().unwrap_or_default()]);
        let stamp = Stamp(vec![
            Some(cert_stamp),
            Some(key_stamp),
            Some(ca_stamp),
            crl_stamp,
        ]);
        Ok(Self {
            cert,
            key,
            ca,
            crl,
            hash,
            stamp,
        })
    }
}

/// What a stat of each file of a mesh directory says now.
#[must_use]
pub fn stamp(dir: &Path) -> Stamp {
    stamp_of(FILES.iter().map(|name| dir.join(name)))
}

/// What a stat of each of these files says now, following links.
pub fn stamp_of(paths: impl Iterator<Item = PathBuf>) -> Stamp {
    Stamp(
        paths
            .map(|path| {
                std::fs::metadata(path)
                    .ok()
                    .map(|meta| FileStamp::of(&meta))
            })
            .collect(),
    )
}

/// Reads a certificate file that stands alone.
///
/// # Errors
/// If it cannot be read, is no file or is too large.
pub fn read_certificate(path: &Path) -> Result<Vec<u8>, FileError> {
    read_file(path, MOST_BYTES).map(|(bytes, _)| bytes)
}

/// Reads a key that nobody but its owner can read. The target of a link is judged: a link's own
/// mode means nothing.
///
/// # Errors
/// As [`read_certificate`], and if others can read it.
pub fn read_private_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_key(path).map(|(bytes, _)| bytes)
}

fn read_key(path: &Path) -> Result<(Zeroizing<Vec<u8>>, FileStamp), FileError> {
    let (bytes, meta) = file::read_secret(path, MOST_BYTES)?;
    Ok((bytes, FileStamp::of(&meta)))
}

fn read_file(path: &Path, most: u64) -> Result<(Vec<u8>, FileStamp), FileError> {
    let (bytes, meta) = file::read(path, most)?;
    Ok((bytes, FileStamp::of(&meta)))
}

/// Each part with its length, so that no byte can wander from one file to the next unseen.
#[must_use]
pub fn hash<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

impl FileStamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn write(dir: &Path, tag: &str) {
        std::fs::create_dir_all(dir).unwrap();
        for name in FILES {
            std::fs::write(dir.join(name), format!("{name} {tag}")).unwrap();
        }
        std::fs::set_permissions(dir.join("key.pem"), std::fs::Permissions::from_mode(0o600))
            .unwrap();
    }

    #[test]
    fn reads_all_four_and_does_without_crl_only() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "1");
        let files = MeshFiles::read(dir.path()).unwrap();
        assert_eq!(
            (files.cert.as_slice(), files.crl.as_deref()),
            (&b"cert.pem 1"[..], Some(&b"crl.pem 1"[..]))
        );
        std::fs::remove_file(dir.path().join("crl.pem")).unwrap();
        let without = MeshFiles::read(dir.path()).unwrap();
        assert_eq!(without.crl, None);
        assert_ne!(without.hash, files.hash);
        for name in ["ca.pem", "key.pem", "cert.pem"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
            assert_eq!(
                MeshFiles::read(dir.path()).err(),
                Some(FileError::Missing(dir.path().join(name)))
            );
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_also_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("real"), "1");
        let linked = dir.path().join("mesh");
        std::fs::create_dir(&linked).unwrap();
        for name in FILES {
            symlink(dir.path().join("real").join(name), linked.join(name)).unwrap();
        }
        for (mode, taken) in [
            (0o600, true),
            (0o400, true),
            (0o644, false),
            (0o660, false),
            (0o604, false),
            (0o610, false),
        ] {
            std::fs::set_permissions(
                dir.path().join("real/key.pem"),
                std::fs::Permissions::from_mode(mode),
            )
            .unwrap();
            assert_eq!(MeshFiles::read(&linked).is_ok(), taken, "{mode:o}");
        }
        std::fs::set_permissions(
            dir.path().join("real/key.pem"),
            std::fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        let sentence = MeshFiles::read(&linked).err().unwrap().to_string();
        assert!(
            sentence.contains("0644") && sentence.contains("chmod 600"),
            "{sentence}"
        );
    }

    #[test]
    fn a_directory_in_place_of_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "1");
        std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
        std::fs::create_dir(dir.path().join("ca.pem")).unwrap();
        assert_eq!(
            MeshFiles::read(dir.path()).err(),
            Some(FileError::NotAFile(dir.path().join("ca.pem")))
        );
    }

    #[test]
    fn swaps_of_a_link_never_mix_two_generations() {
        let dir = tempfile::tempdir().unwrap();
        for generation in ["a", "b"] {
            write(&dir.path().join(generation), generation);
        }
        symlink("a", dir.path().join("current")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopsWhenDropped(&stop);
            scope.spawn(|| {
                let next = dir.path().join("next");
                for (swap, generation) in ["b", "a"].iter().cycle().enumerate() {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    symlink(generation, &next).unwrap();
                    std::fs::rename(&next, dir.path().join("current")).unwrap();
                    if swap % 20 == 0 {
                        // A quiet moment now and then.
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    std::thread::yield_now();
                }
            });
            let mut read = 0;
            for _ in 0..2000 {
                // Under swaps without a pause a reading may find no quiet moment; it must say so
                // and never mix.
                let Ok(files) = MeshFiles::read(&dir.path().join("current")) else {
                    continue;
                };
                let tag = files.cert[files.cert.len() - 1];
                let last = |bytes: &[u8]| bytes[bytes.len() - 1];
                assert!(
                    [&*files.key, &*files.ca, files.crl.as_ref().unwrap()]
                        .iter()
                        .all(|file| last(file) == tag)
                );
                read += 1;
            }
            assert!(read > 0);
        });
    }

    /// Ends the swaps when the test does, however it does.
    struct StopsWhenDropped<'a>(&'a std::sync::atomic::AtomicBool);

    impl Drop for StopsWhenDropped<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn a_stamp_changes_with_content_mode_and_target() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "1");
        let before = stamp(dir.path());
        assert_eq!(before, stamp(dir.path()));
        std::fs::write(dir.path().join("cert.pem"), "cert.pem 22").unwrap();
        assert_ne!(before, stamp(dir.path()));
        let before = stamp(dir.path());
        std::fs::set_permissions(
            dir.path().join("key.pem"),
            std::fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        assert_ne!(before, stamp(dir.path()));
    }
}
