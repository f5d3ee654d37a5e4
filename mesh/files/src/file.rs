//! Reads files that somebody else may have put where we look: nothing that hangs, nothing without
//! an end, and no secret that others know. Writes what is ours alone, whole or not at all.
//!
//! In: a path, which may be a link, as Kubernetes mounts secrets. Out: the bytes and what the
//! system says of the very file they came from, or a [`FileError`]. The file is opened first and
//! looked at then, so that nothing can be exchanged between the two. Nothing here looks into the
//! bytes. Invariant: this is the one rule of who may read a secret, for `key.pem`, `--tls-key`,
//! every secret file and every passphrase file.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// It is not there.
    Missing(PathBuf),
    /// The system would not let us read it.
    Unreadable(PathBuf, ErrorKind),
    /// It is a directory, a pipe or the like.
    NotAFile(PathBuf),
    /// It is larger than any file of its kind.
    TooLarge(PathBuf, u64),
    /// Others than its owner can read or change the secret in it: its mode.
    KeyOpen(PathBuf, u32),
    /// Each reading met another generation.
    Changing(PathBuf),
}

/// Bits by which others can do anything with a file, or its group more than read it.
const OPEN_ALTHOUGH_ROOTS: u32 = 0o037;

/// Bits by which anybody but the owner can do anything with a file.
const OPEN: u32 = 0o077;

/// Reads a whole file of at most `most` bytes.
///
/// # Errors
/// If it is missing, not a regular file, too large, or the system refuses.
pub fn read(path: &Path, most: u64) -> Result<(Vec<u8>, Metadata), FileError> {
    let (file, meta) = open(path)?;
    let bytes = contents(path, file, &meta, most)?;
    Ok((bytes, meta))
}

/// Reads a secret of at most `most` bytes, which nobody but its owner may read; its group may too
/// where root owns it, as Kubernetes and systemd mount secrets. The target of a link is judged: a
/// link's own mode means nothing.
///
/// # Errors
/// As [`read`], and if others could know it.
pub fn read_secret(path: &Path, most: u64) -> Result<(Zeroizing<Vec<u8>>, Metadata), FileError> {
    let (file, meta) = open(path)?;
    let open = if meta.uid() == 0 {
        OPEN_ALTHOUGH_ROOTS
    } else {
        OPEN
    };
    if meta.mode() & open != 0 {
        return Err(FileError::KeyOpen(path.to_owned(), meta.mode() & 0o7777));
    }
    let bytes = contents(path, file, &meta, most).map(Zeroizing::new)?;
    Ok((bytes, meta))
}

/// Puts `bytes` under `path`, for this user alone: written beside and renamed over, so that whoever
/// reads finds the old whole or the new whole. The name outlives a power cut once the folder is
/// synced, which is left to who writes several.
///
/// # Errors
/// The system's; then what was there is there still.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut new = OsString::from(".");
    new.push(name);
    new.push(".new");
    let beside = path.with_file_name(new);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// Opens a regular file. Opening a pipe without `NONBLOCK` would wait for its writer for ever.
fn open(path: &Path) -> Result<(File, Metadata), FileError> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| failed(path, &error))?;
    let meta = file.metadata().map_err(|error| failed(path, &error))?;
    if meta.is_file() {
        Ok((file, meta))
    } else {
        Err(FileError::NotAFile(path.to_owned()))
    }
}

fn contents(path: &Path, file: File, meta: &Metadata, most: u64) -> Result<Vec<u8>, FileError> {
    let too_large = || FileError::TooLarge(path.to_owned(), most);
    if meta.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    Ok(bytes)
}

fn failed(path: &Path, error: &std::io::Error) -> FileError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => FileError::Missing(path.to_owned()),
        kind => match std::fs::metadata(path) {
            // A socket cannot be opened at all.
            Ok(meta) if !meta.is_file() => FileError::NotAFile(path.to_owned()),
            _ => FileError::Unreadable(path.to_owned(), kind),
        },
    }
}

impl FileError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{} is missing", path.display()),
            Self::Unreadable(path, kind) => write!(f, "{} cannot be read: {kind}", path.display()),
            Self::NotAFile(path) => write!(f, "{} is not a file", path.display()),
            Self::TooLarge(path, most) => {
                write!(f, "{} is larger than {most} bytes", path.display())
            }
            Self::KeyOpen(path, mode) => {
                let path = path.display();
                write!(
                    f,
                    "{path} has mode {mode:04o}, so others than its owner can get at the secret in it; run `chmod 600 {path}` (mode 0440 will do where root owns it)"
                )
            }
            Self::Changing(path) => {
                write!(f, "{} changes faster than it can be read", path.display())
            }
        }
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    #[test]
    fn a_file_is_replaced_whole_for_its_owner_alone_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        std::fs::write(
            dir.path().join(".x.json.new"),
            "of a run that was killed half-way",
        )
        .unwrap();
        for text in ["a longer first text", "second"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = dir.path().join("y.json");
        replace(&other, b"y").unwrap();
        assert_eq!(std::fs::metadata(&other).unwrap().mode() & 0o777, 0o600);
        assert!(replace(&dir.path().join("none/x"), b"").is_err());
        assert!(replace(Path::new("/"), b"").is_err());
    }

    #[test]
    fn a_secret_is_its_owners_and_its_groups_only_where_root_owns_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("secret"), dir.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        let roots = std::fs::metadata(&file).unwrap().uid() == 0;
        for (mode, taken) in [
            (0o600, true),
            (0o400, true),
            (0o700, true),
            (0o440, roots),
            (0o640, roots),
            (0o460, false),
            (0o620, false),
            (0o610, false),
            (0o604, false),
            (0o602, false),
            (0o444, false),
            (0o644, false),
            (0o666, false),
        ] {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            for path in [&file, &link] {
                assert_eq!(read_secret(path, 9).is_ok(), taken, "{mode:o}");
            }
            assert!(!roots || read(&file, 9).is_ok());
        }
        let sentence = read_secret(&file, 9).unwrap_err().to_string();
        assert!(
            sentence.contains("0666") && sentence.contains("chmod 600"),
            "{sentence}"
        );
    }

    #[test]
    fn what_is_no_file_is_refused_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, socket) = (dir.path().join("pipe"), dir.path().join("socket"));
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [
            &pipe,
            &socket,
            &dir.path().to_owned(),
            &PathBuf::from("/dev/zero"),
        ] {
            assert_eq!(
                read(path, 9).unwrap_err(),
                FileError::NotAFile(path.clone())
            );
            assert_eq!(
                read_secret(path, 9).unwrap_err(),
                FileError::NotAFile(path.clone())
            );
        }
        let gone = dir.path().join("gone");
        assert!(read(&gone, 9).unwrap_err().is_missing());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, [7; 10]).unwrap();
        assert_eq!(read(&file, 10).unwrap().0, [7; 10]);
        assert_eq!(read(&file, 9).unwrap_err(), FileError::TooLarge(file, 9));
    }
}
