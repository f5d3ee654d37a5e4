//! A folder that somebody else may be changing at this moment, held by its handle.
//!
//! In: a path that the operator named. Out: its files, read and written relative to the handle, so
//! that nothing its owner does to names leads a privileged run out of it. Only the way to the
//! folder is walked by name, and a link on it is followed only where nobody but root or we could
//! have put it. Invariant: below the handle no link is followed, nothing but a regular file of
//! bounded size that belongs to root, to the folder's owner or to us is read, and opening one never
//! waits (a FIFO would hold us for ever). Each folder has a time limit: what is not done by then is
//! given up, so that one that hangs does not stop the others.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::gate::{GateRef, Operation};

/// How long one folder may take. A local disk needs milliseconds; a network disk that is gone never
/// answers.
pub const LIMIT: Duration = Duration::from_secs(20);
/// A CRL of a million entries, as gateway and sidecar take it.
const MOST_BYTES: u64 = 64 << 20;
/// More links than this on the way to a folder is a circle.
const MOST_LINKS: usize = 32;
/// A folder of ours holds a dozen names; whoever fills it with more does so to keep us busy.
const MOST_NAMES: usize = 4096;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder, open.
#[derive(Debug)]
pub struct HeldDir {
    handle: OwnedFd,
    /// For sentences; never opened again.
    path: PathBuf,
    /// Who owns the outermost folder.
    owner: (u32, u32),
    identity: (u64, u64),
    deadline: Instant,
    /// Who is asked before each change.
    gate: GateRef,
}

/// What unfinished files and folders are called.
pub const UNFINISHED: &str = ".new-";

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// 0600: private keys, inventories.
    Owner,
    /// 0644: certificates, CRLs.
    Everyone,
}

/// When what was written has to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once.
    Now,
    /// When a whole batch is written, all at once: a disk takes a thousand files in one go far
    /// sooner than one by one.
    Later,
}

/// Why something could not be done in such a folder.
#[derive(Debug)]
pub enum DirError {
    /// A file or folder could not be read or written.
    Io {
        /// What was being done, e.g. `write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The way to the folder is not one that may be gone.
    Refused(String),
    /// Something there is not what it should be.
    Damaged {
        /// What.
        path: PathBuf,
        /// What was found, what was wanted, what to do.
        why: String,
    },
    /// Anything else that went wrong.
    Failed(String),
}

impl Access {
    /// The mode of such a file, from its first byte.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

impl DirError {
    /// For `map_err` on a file operation.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    /// Something at `path` is not what it should be.
    pub fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Refused(why) | Self::Failed(why) => f.write_str(why),
            Self::Damaged { path, why } => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for DirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl HeldDir {
    /// Opens the folder `path`; `None` where there is none.
    pub fn open(path: &Path, gate: GateRef) -> Result<Option<Self>, DirError> {
        match walk(path, false, gate) {
            Ok(handle) => Self::hold(handle, path, gate).map(Some),
            Err(Astray::System(Errno::NOENT)) => Ok(None),
            Err(astray) => Err(astray.error(path)),
        }
    }

    /// The same, made where it is missing: 0700, and what is missing above it with the usual mode,
    /// since `/etc/gapura` must not lock out the sidecar whose directory is in it.
    pub fn create(path: &Path, gate: GateRef) -> Result<Self, DirError> {
        let handle = walk(path, true, gate).map_err(|astray| astray.error(path))?;
        Self::hold(handle, path, gate)
    }

    fn hold(handle: OwnedFd, path: &Path, gate: GateRef) -> Result<Self, DirError> {
        let found = rustix::fs::fstat(&handle).map_err(at("read", path))?;
        Ok(Self {
            handle,
            path: path.to_owned(),
            owner: (found.st_uid, found.st_gid),
            identity: (found.st_dev, found.st_ino),
            deadline: Instant::now() + LIMIT,
            gate,
        })
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who is asked before each change in it.
    #[must_use]
    pub fn gate(&self) -> GateRef {
        self.gate
    }

    /// What tells it from any other folder, whatever that is called.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// The folder `name` in it; `None` where there is none. It must belong to whom files here may
    /// belong to.
    pub fn child(&self, name: &str) -> Result<Option<Self>, DirError> {
        self.in_time()?;
        let path = self.path.join(name);
        let handle = match rustix::fs::openat(&self.handle, name, FOLDER, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(strange(&path, "not a folder of its own"));
            }
            Err(error) => return Err(at("open", &path)(error)),
        };
        let found = rustix::fs::fstat(&handle).map_err(at("read", &path))?;
        self.check_owner(&path, &found)?;
        Ok(Some(Self {
            handle,
            path,
            owner: self.owner,
            identity: (found.st_dev, found.st_ino),
            deadline: self.deadline,
            gate: self.gate,
        }))
    }

    /// Where the link `name` leads, as text; `None` where there is no such name or it is no link.
    pub fn link(&self, name: &str) -> Result<Option<OsString>, DirError> {
        self.in_time()?;
        match rustix::fs::readlinkat(&self.handle, name, Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(at("read", &self.path.join(name))(error)),
        }
    }

    /// What sort of thing `name` is; `None` where there is no such name.
    pub fn kind(&self, name: &str) -> Result<Option<FileType>, DirError> {
        self.in_time()?;
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(at("read", &self.path.join(name))(error)),
        }
    }

    /// The bytes and the mode of the file `name`; `None` where there is none.
    pub fn read(&self, name: &str) -> Result<Option<(Vec<u8>, u32)>, DirError> {
        self.in_time()?;
        let path = self.path.join(name);
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(strange(
                    &path,
                    "a link, and only `current` is followed here",
                ));
            }
            Err(Errno::NXIO) => return Err(strange(&path, "a socket or a device, not a file")),
            Err(error) => return Err(at("read", &path)(error)),
        };
        let found = rustix::fs::fstat(&handle).map_err(at("read", &path))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(strange(&path, "not a regular file"));
        }
        self.check_owner(&path, &found)?;
        let mut bytes = Vec::new();
        File::from(handle)
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(DirError::io("read", &path))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(strange(&path, "larger than any file of its kind"));
        }
        Ok(Some((bytes, found.st_mode & 0o7777)))
    }

    /// All names in it.
    pub fn names(&self) -> Result<Vec<String>, DirError> {
        self.in_time()?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle).map_err(at("read", &self.path))? {
            let entry = entry.map_err(at("read", &self.path))?;
            if names.len() > MOST_NAMES {
                return Err(strange(&self.path, "a folder of thousands of names"));
            }
            // A name that is not text is none of ours.
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Makes a folder in it under a hidden name, 0700 and ours, and opens it.
    pub(crate) fn hidden_child(&self) -> Result<(String, Self), DirError> {
        self.in_time()?;
        let name = hidden_name()?;
        let path = self.path.join(&name);
        self.gate
            .before(Operation::Create, &path)
            .map_err(DirError::io("create", &path))?;
        rustix::fs::mkdirat(&self.handle, &*name, Mode::RWXU).map_err(at("create", &path))?;
        let handle = rustix::fs::openat(&self.handle, &*name, FOLDER, Mode::empty())
            .map_err(at("open", &path))?;
        let found = rustix::fs::fstat(&handle).map_err(at("read", &path))?;
        // Between the making and the opening the owner of this folder may have put another in its
        // place.
        if found.st_uid != rustix::process::geteuid().as_raw() || found.st_mode & 0o077 != 0 {
            return Err(strange(
                &path,
                "not the folder that was made a moment ago: somebody exchanged it",
            ));
        }
        let child = Self {
            handle,
            path,
            owner: self.owner,
            identity: (found.st_dev, found.st_ino),
            deadline: self.deadline,
            gate: self.gate,
        };
        Ok((name, child))
    }

    /// Writes the new file `name` and gives it to the owner of the outermost folder, by its handle.
    pub fn write_new(
        &self,
        name: &str,
        bytes: &[u8],
        access: Access,
        durability: Durability,
    ) -> Result<(), DirError> {
        self.in_time()?;
        let path = self.path.join(name);
        self.gate
            .before(Operation::Create, &path)
            .map_err(DirError::io("create", &path))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(access.mode());
        let handle =
            rustix::fs::openat(&self.handle, name, flags, mode).map_err(at("create", &path))?;
        let mut file = File::from(handle);
        self.gate
            .write_all(&mut file, &path, bytes)
            .map_err(DirError::io("write", &path))?;
        if durability == Durability::Now {
            self.gate
                .sync(&file, &path)
                .map_err(DirError::io("write", &path))?;
        }
        self.give(&file, &path)
    }

    /// Puts `bytes` under `name` in one rename, whatever was there. The file stays ours.
    pub fn replace(&self, name: &str, bytes: &[u8], access: Access) -> Result<(), DirError> {
        let fresh = hidden_name()?;
        let done = self
            .write_new(&fresh, bytes, access, Durability::Now)
            .and_then(|()| self.rename(&fresh, name));
        if done.is_err() {
            let _ = self.remove_file(&fresh); // best effort: the fault that is reported is the first one
        }
        done
    }

    /// Gives this folder to the owner of the outermost one. The last step of filling it.
    pub(crate) fn give_away(&self) -> Result<(), DirError> {
        self.give(&self.handle, &self.path)
    }

    fn give(&self, what: impl std::os::fd::AsFd, path: &Path) -> Result<(), DirError> {
        let found = rustix::fs::fstat(&what).map_err(at("read", path))?;
        if (found.st_uid, found.st_gid) == self.owner {
            return Ok(());
        }
        let doing = "change the owner of";
        self.gate
            .before(Operation::Owner, path)
            .map_err(DirError::io(doing, path))?;
        let (user, group) = (
            rustix::fs::Uid::from_raw(self.owner.0),
            rustix::fs::Gid::from_raw(self.owner.1),
        );
        rustix::fs::fchown(what, Some(user), Some(group)).map_err(at(doing, path))
    }

    /// Lets `to` be what `from` was, both in this folder.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), DirError> {
        self.in_time()?;
        let path = self.path.join(to);
        self.gate
            .before(Operation::Rename, &path)
            .map_err(DirError::io("replace", &path))?;
        rustix::fs::renameat(&self.handle, from, &self.handle, to).map_err(at("replace", &path))
    }

    /// Points the link `name` at `target` in one rename, whatever was there.
    pub(crate) fn relink(&self, name: &str, target: &str) -> Result<(), DirError> {
        self.in_time()?;
        let (path, fresh) = (self.path.join(name), hidden_name()?);
        self.gate
            .before(Operation::Create, &path)
            .map_err(DirError::io("create", &path))?;
        rustix::fs::symlinkat(target, &self.handle, &*fresh).map_err(at("create", &path))?;
        let done = self.rename(&fresh, name);
        if done.is_err() {
            let _ = self.remove_file(&fresh);
        }
        done
    }

    /// Removes the file or link `name`.
    pub fn remove_file(&self, name: &str) -> Result<(), DirError> {
        self.unlink(name, AtFlags::empty())
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<(), DirError> {
        self.in_time()?;
        let path = self.path.join(name);
        self.gate
            .before(Operation::Remove, &path)
            .map_err(DirError::io("remove", &path))?;
        match rustix::fs::unlinkat(&self.handle, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(at("remove", &path)(error)),
        }
    }

    /// Removes `name`, a file or a folder of files. Ours are no deeper; what somebody put deeper
    /// stays and is reported.
    pub fn remove(&self, name: &str) -> Result<(), DirError> {
        match self.kind(name)? {
            None => Ok(()),
            Some(FileType::Directory) => {
                let path = self.path.join(name);
                let handle = rustix::fs::openat(&self.handle, name, FOLDER, Mode::empty())
                    .map_err(at("open", &path))?;
                let child = Self {
                    handle,
                    path,
                    owner: self.owner,
                    identity: self.identity,
                    deadline: self.deadline,
                    gate: self.gate,
                };
                for inner in child.names()? {
                    child.remove_file(&inner)?;
                }
                self.unlink(name, AtFlags::REMOVEDIR)
            }
            Some(_) => self.remove_file(name),
        }
    }

    /// Makes the names in it outlive a power cut.
    pub fn sync(&self) -> Result<(), DirError> {
        self.in_time()?;
        let handle = self
            .handle
            .try_clone()
            .map_err(DirError::io("sync", &self.path))?;
        self.gate
            .sync(&File::from(handle), &self.path)
            .map_err(DirError::io("sync", &self.path))
    }

    /// Makes everything on its file system outlive a power cut.
    pub fn sync_file_system(&self) -> Result<(), DirError> {
        self.in_time()?;
        self.gate
            .before(Operation::Sync, &self.path)
            .map_err(DirError::io("sync", &self.path))?;
        rustix::fs::syncfs(&self.handle).map_err(at("sync", &self.path))
    }

    fn check_owner(&self, path: &Path, found: &Stat) -> Result<(), DirError> {
        let owner = found.st_uid;
        if owner == 0 || owner == self.owner.0 || owner == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        Err(strange(
            path,
            &format!(
                "of user {owner}, neither of root nor of {}, the folder's owner",
                self.owner.0
            ),
        ))
    }

    fn in_time(&self) -> Result<(), DirError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(late(&self.path))
    }
}

/// Told of a folder that takes longer than its limit.
pub fn late(path: &Path) -> DirError {
    DirError::Failed(format!(
        "{} did not answer within {} s and is left as it is; see what is wrong with its disk, then run it again",
        path.display(),
        LIMIT.as_secs()
    ))
}

fn hidden_name() -> Result<String, DirError> {
    let mut random = [0; 8];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| DirError::Failed("the system gives no random numbers".to_owned()))?;
    Ok(format!("{UNFINISHED}{:016x}", u64::from_be_bytes(random)))
}

fn strange(path: &Path, what: &str) -> DirError {
    DirError::damaged(
        path,
        format!("this is {what}; it is left alone. Take it away if it does not belong there"),
    )
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(Errno) -> DirError {
    let told = DirError::io(doing, path);
    move |error| told(error.into())
}

/// Why the way to a folder could not be walked.
enum Astray {
    System(Errno),
    Gate(io::Error),
    /// A link that somebody else may have put there.
    Link(PathBuf, u32),
}

impl Astray {
    fn error(self, path: &Path) -> DirError {
        match self {
            Self::System(error) => at("open", path)(error),
            Self::Gate(error) => DirError::io("create", path)(error),
            Self::Link(link, owner) => DirError::Refused(format!(
                "{} leads over {}, a link that user {owner} could put there and change; name the folder it means",
                path.display(),
                link.display()
            )),
        }
    }
}

impl From<Errno> for Astray {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// Goes to `path` from the root, one name at a time.
fn walk(path: &Path, make: bool, gate: GateRef) -> Result<OwnedFd, Astray> {
    let absolute = std::path::absolute(path).map_err(Astray::Gate)?;
    let mut ahead: VecDeque<OsString> = parts(&absolute);
    let mut here = rustix::fs::open("/", LOOK, Mode::empty())?;
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == "/" {
            here = rustix::fs::open("/", LOOK, Mode::empty())?;
            at = PathBuf::from("/");
            continue;
        }
        let next = match rustix::fs::openat(&here, &*name, LOOK, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                let mode = if ahead.is_empty() { 0o700 } else { 0o777 };
                gate.before(Operation::Create, &at.join(&name))
                    .map_err(Astray::Gate)?;
                match rustix::fs::mkdirat(&here, &*name, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::openat(&here, &*name, LOOK, Mode::empty())?
            }
            found => found?,
        };
        at.push(&name);
        let found = rustix::fs::fstat(&next)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let folder = rustix::fs::fstat(&here)?;
                if let Some(user) = who_may_change(&folder, &found) {
                    return Err(Astray::Link(at, user));
                }
                let target = rustix::fs::readlinkat(&next, "", Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
                at.pop();
            }
            FileType::Directory => here = next,
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(rustix::fs::openat(&here, ".", FOLDER, Mode::empty())?)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// The user, other than root and us, who may have put the link there; `None` where there is none.
fn who_may_change(folder: &Stat, link: &Stat) -> Option<u32> {
    let own = rustix::process::geteuid().as_raw();
    let foreign = |user: u32| user != 0 && user != own;
    if foreign(link.st_uid) {
        return Some(link.st_uid);
    }
    if foreign(folder.st_uid) {
        return Some(folder.st_uid);
    }
    // In a folder like /tmp nobody can move the link of another.
    let shared = folder.st_mode & 0o022 != 0 && folder.st_mode & 0o1000 == 0;
    (shared && own == 0).then_some(folder.st_uid)
}

/// Whether `name` is what we call a generation, and its number.
pub fn generation(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix("gen-")?;
    let plain = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}
