//! The state folder of `gapura up`: 0700, ignored by git, used by one `gapura up` at a time.
//!
//! In: a path. Out: a [`State`] that holds the folder's lock and writes whole files. A folder that
//! holds other things is refused, since it would be closed to everybody else and filled with keys;
//! so is one that is another user's, or that others can write.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gapura_files::{file, pem};
use rcgen::KeyPair;

use crate::error::Error;

/// A state folder that is ours until this is dropped.
pub(crate) struct State {
    root: PathBuf,
    lock: File,
}

/// The file by which a folder is known as a state folder, and by whose lock one `gapura up` keeps
/// others out.
const LOCK: &str = "up.lock";

impl State {
    /// Takes the folder, making it if it is not there.
    pub(crate) fn take(root: &Path) -> Result<Self, Error> {
        make_private(root)?;
        refuse_anothers(root)?;
        if !root.join(LOCK).exists() && !is_empty(root)? {
            return Err(Error::Refused(format!(
                "{} holds other files and was not made by gapura up; name an empty or a new folder with --state",
                root.display()
            )));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.join(LOCK))
            .map_err(|err| unusable(root, &err))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Refused(format!(
                    "another gapura up uses {}; end it, or choose another folder with --state (and other ports with --listen and --admin)",
                    root.display()
                )));
            }
            Err(TryLockError::Error(err)) => return Err(unusable(root, &err)),
        }
        // A copied folder may have lost its mode; the lock file shows that it is ours to close.
        std::fs::set_permissions(root, Permissions::from_mode(0o700))
            .map_err(|err| unusable(root, &err))?;
        let state = Self {
            root: root.to_owned(),
            lock,
        };
        state.write(".gitignore", b"*\n")?;
        Ok(state)
    }

    /// A path inside the folder.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A folder inside, made if it is not there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        make_private(&path)?;
        Ok(path)
    }

    /// Puts a whole file in place, readable by its owner only; a reader meets the old one or the
    /// new one.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.path(name);
        file::replace(&path, bytes).map_err(|err| unusable(&path, &err))?;
        Ok(path)
    }

    /// The text of a file, or none where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(unusable(&path, &err)),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// Whoever owns the folder, or could write into it, may have put there what we would run with, or
/// will read the keys we would leave.
fn refuse_anothers(root: &Path) -> Result<(), Error> {
    let found = std::fs::metadata(root).map_err(|err| unusable(root, &err))?;
    let (own, path) = (rustix::process::geteuid().as_raw(), root.display());
    if found.uid() != own {
        return Err(Error::Refused(format!(
            "{path} belongs to user {}, and this runs as user {own}; choose a folder of your own with --state",
            found.uid()
        )));
    }
    let mode = found.permissions().mode() & 0o7777;
    // An empty one is closed before anything is put in it.
    if mode & 0o022 != 0 && !is_empty(root)? {
        return Err(Error::Refused(format!(
            "others can write in {path} (mode {mode:04o}); see what they put there and run chmod 0700 {path}, or choose another folder with --state"
        )));
    }
    Ok(())
}

/// A folder outside the state that is filled like it: made if it is not there, ours, and closed to
/// others' writing.
pub(crate) fn prepare(root: &Path) -> Result<(), Error> {
    make_private(root)?;
    refuse_anothers(root)
}

/// The private key that a file of the folder holds, if it is one and whole.
pub(crate) fn key_pair(pem: &str) -> Option<KeyPair> {
    let der = pem::private_key(pem.as_bytes()).ok()?;
    KeyPair::try_from(&der).ok()
}

fn make_private(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(err) if err.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Err(Error::Refused(format!(
            "{} is a file, not a folder; choose another folder with --state",
            path.display()
        ))),
        Err(err) => Err(unusable(path, &err)),
    }
}

fn is_empty(path: &Path) -> Result<bool, Error> {
    let mut entries = std::fs::read_dir(path).map_err(|err| unusable(path, &err))?;
    Ok(entries.next().is_none())
}

fn unusable(path: &Path, err: &std::io::Error) -> Error {
    let path = path.display();
    Error::Refused(format!(
        "can't use {path}: {err}; choose another folder with --state, one that is yours to write"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_is_private_and_ignored_by_git() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(".gapura");
        let state = State::take(&root).unwrap();
        let key = state.write("key.pem", b"secret").unwrap();
        assert_eq!(
            (mode(&root), mode(&key), mode(&state.folder("log").unwrap())),
            (0o700, 0o600, 0o700)
        );
        assert_eq!(state.read(".gitignore").unwrap().as_deref(), Some("*\n"));
        assert_eq!(state.read("absent").unwrap(), None);
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let before = mode(folder.path());
        let refusal = State::take(folder.path()).err().unwrap();
        assert!(refusal.to_string().contains("--state"), "{refusal}");
        assert_eq!((mode(folder.path()), refusal.exit_code()), (before, 2));
        assert!(State::take(&folder.path().join("thesis.tex")).is_err());
        let empty = tempfile::tempdir().unwrap();
        assert!(State::take(empty.path()).is_ok());
    }

    #[test]
    fn a_folder_of_another_user_or_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("s");
        drop(State::take(&root).unwrap());
        let open = |mode| std::fs::set_permissions(&root, Permissions::from_mode(mode)).unwrap();
        for bad in [0o777, 0o770, 0o1777] {
            open(bad);
            let told = State::take(&root).err().unwrap().to_string();
            assert!(told.contains("others can write"), "{bad:o}: {told}");
            assert_eq!(mode(&root), bad & 0o777, "nothing was touched");
        }
        open(0o755);
        drop(State::take(&root).unwrap());
        assert_eq!(mode(&root), 0o700);
        if !rustix::process::geteuid().is_root() {
            return; // giving a folder away takes root
        }
        std::os::unix::fs::chown(&root, Some(65_534), None).unwrap();
        let told = State::take(&root).err().unwrap().to_string();
        assert!(told.contains("belongs to user 65534"), "{told}");
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("s");
        let first = State::take(&root).unwrap();
        assert!(
            State::take(&root)
                .err()
                .unwrap()
                .to_string()
                .contains("another gapura up")
        );
        drop(first);
        assert!(State::take(&root).is_ok());
    }
}
