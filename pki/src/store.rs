//! How files get onto the disk: whole or not at all, keys readable by their owner only from their
//! first byte, one writer at a time.
//!
//! Invariant: a file under its final name is complete and has been synced; what a crash leaves
//! behind has a name beginning with `.new-` and is swept up by the next writer.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gapura_files::file::{self, FileError};

use crate::disk::{self, Operation};
use crate::error::Error;
use crate::keys::random_hex;

pub(crate) use gapura_files::held_dir::{Access, Durability, UNFINISHED};

/// An inventory of a thousand plugins grows by ten megabytes a year.
const MOST_OF_OURS: u64 = 2 << 30;

/// Writes a new file that must not exist yet, with its final mode from the start, and syncs it.
pub(crate) fn create(path: &Path, content: &[u8], access: Access) -> Result<(), Error> {
    disk::before(Operation::Create, path).map_err(Error::io("create", path))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(access.mode())
        .open(path)
        .map_err(Error::io("create", path))?;
    disk::write_all(&mut file, path, content)
        .and_then(|()| disk::sync(&file, path))
        .map_err(Error::io("write", path))
}

/// How a batch of mesh directories of this size is synced: one by one costs the disk half a dozen
/// waits each.
pub(crate) fn durability_for(directories: usize) -> Durability {
    if directories > 32 {
        Durability::Later
    } else {
        Durability::Now
    }
}

/// Puts `content` under `path`, replacing what was there in one rename.
pub(crate) fn replace(path: &Path, content: &[u8], access: Access) -> Result<(), Error> {
    let fresh = beside(path)?;
    let written = create(&fresh, content, access).and_then(|()| rename(&fresh, path));
    if written.is_err() {
        let _ = remove_if_there(&fresh); // best effort: the fault that is reported is the first one
    }
    written?;
    sync_parent(path)
}

/// Lets `to` be what `from` was.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    disk::before(Operation::Rename, to)
        .and_then(|()| fs::rename(from, to))
        .map_err(Error::io("replace", to))
}

/// Removes the file `path`, if it is there.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match disk::before(Operation::Remove, path).and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes `path`, 0700. What is missing above it gets the usual mode: `/etc/gapura` must not lock
/// out the sidecar whose directory is in it.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    disk::before(Operation::Create, path).map_err(Error::io("create", path))?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create", path))
}

/// Makes the renames within `dir` outlive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|open| disk::sync(&open, dir))
        .map_err(Error::io("sync", dir))
}

/// Makes a rename of `path` outlive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// A name for something unfinished, in the same folder as `path` so that a rename can finish it.
pub(crate) fn beside(path: &Path) -> Result<PathBuf, Error> {
    let parent = path.parent().unwrap_or(Path::new(""));
    Ok(parent.join(format!("{UNFINISHED}{}", random_hex::<8>()?)))
}

/// Removes the folder `path` with all that is in it.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    disk::before(Operation::Remove, path)
        .and_then(|()| fs::remove_dir_all(path))
        .map_err(Error::io("remove", path))
}

/// Removes what crashed runs left unfinished in `dir`. Only ever called by the holder of the lock,
/// and on folders of the state directory: in those of others `held_dir` does it.
pub(crate) fn sweep(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir {
                remove_tree(&path)?;
            } else {
                remove_if_there(&path)?;
            }
        }
    }
    Ok(())
}

/// The bytes of a file of ours, or of a backup.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_at_most(path, MOST_OF_OURS)
}

/// The bytes of a file of ours, or `None` where there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a file of at most `most` bytes. A pipe is never waited for, and what has no end is
/// not read to it.
pub(crate) fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    file::read(path, most)
        .map(|(bytes, _)| bytes)
        .map_err(|why| match why {
            FileError::Missing(_) => Error::io("read", path)(io::ErrorKind::NotFound.into()),
            FileError::Unreadable(_, kind) => Error::io("read", path)(kind.into()),
            FileError::NotAFile(_) => Error::Failed(format!(
                "{} is not a regular file, and nothing else is read: a pipe could keep us waiting for ever",
                path.display()
            )),
            other => Error::Failed(other.to_string()),
        })
}

/// Between two tries for the lock. Short, or beside one who takes it again and again nobody else
/// would ever meet it free.
const RETRY: Duration = Duration::from_millis(1);

/// The right to change a state directory. Dropping it, or dying, gives it back.
#[derive(Debug)]
pub(crate) struct Lock(
    #[expect(
        dead_code,
        reason = "held for its lock, which ends when the file is closed"
    )]
    File,
);

impl Lock {
    /// Waits for the lock of `dir`, at most `patience`.
    pub(crate) fn take(dir: &Path, patience: Duration) -> Result<Self, Error> {
        let path = dir.join(".lock");
        if !path.exists() {
            disk::before(Operation::Create, &path).map_err(Error::io("create", &path))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(RETRY)
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Locked(dir.to_owned())),
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_never_readable_by_others_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        create(&key, b"secret", Access::Owner).unwrap();
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(create(&key, b"other", Access::Owner).is_err());
        assert_eq!(read(&key).unwrap(), b"secret");
        replace(&key, b"other", Access::Owner).unwrap();
        assert_eq!(read(&key).unwrap(), b"other");
    }

    #[test]
    fn a_folder_is_its_owners_alone_and_those_above_it_are_not() {
        let dir = tempfile::tempdir().unwrap();
        make_dir(&dir.path().join("above/own")).unwrap();
        let mode = |name: &str| {
            fs::metadata(dir.path().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode("above/own"), 0o700);
        fs::create_dir(dir.path().join("plain")).unwrap();
        assert_eq!(mode("above"), mode("plain"));
    }

    #[test]
    fn a_second_writer_is_told_to_wait() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), Duration::ZERO).unwrap();
        assert!(matches!(
            Lock::take(dir.path(), Duration::ZERO),
            Err(Error::Locked(_))
        ));
        drop(first);
        assert!(Lock::take(dir.path(), Duration::ZERO).is_ok());
    }

    #[test]
    fn unfinished_things_are_swept_and_finished_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".new-1")).unwrap();
        fs::write(dir.path().join(".new-1/key.pem"), b"half").unwrap();
        fs::write(dir.path().join(".new-2"), b"half").unwrap();
        fs::write(dir.path().join("whole"), b"whole").unwrap();
        sweep(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["whole"]);
    }
}
