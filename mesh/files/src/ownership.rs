//! Whether a folder is one that no stranger can put things into, or exchange.
//!
//! In: a path. Out: nothing, or a sentence about the folder on the way to it that somebody else
//! could write to. Every folder from the root down counts, and so does every link: whoever can
//! write to one of them can put another tree in its place. Files in the folder are for others to
//! judge.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Whose folders are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Root's and our own.
    Ours,
    /// Also those of whoever owns the last folder: a plugin's user owns the folder of its socket.
    AndOfTheLast,
}

/// Far more links than any honest path has.
const MOST_LINKS: usize = 40;

/// Judges a folder and all above it. What is not there yet is judged as far as it is.
///
/// # Errors
/// The rest of a sentence whose beginning names the setting.
pub fn check(folder: &Path, owners: Owners) -> Result<(), String> {
    let unreadable = |at: &Path, error: &std::io::Error| {
        format!("{} cannot be looked at: {error}", at.display())
    };
    let path = std::path::absolute(folder).map_err(|error| unreadable(folder, &error))?;
    let also = match owners {
        Owners::Ours => None,
        Owners::AndOfTheLast => std::fs::metadata(&path).ok().map(|meta| meta.uid()),
    };
    let trusted = Trusted {
        us: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        also,
    };
    let mut left: VecDeque<OsString> = names(&path).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    loop {
        let meta = std::fs::symlink_metadata(&at).map_err(|error| unreadable(&at, &error))?;
        trusted.folder(&at, &meta, left.is_empty())?;
        let next = loop {
            let Some(name) = left.pop_front() else {
                return Ok(());
            };
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let meta = match std::fs::symlink_metadata(&next) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                other => other.map_err(|error| unreadable(&next, &error))?,
            };
            if !meta.is_symlink() {
                break next;
            }
            trusted.owner(&next, &meta)?;
            links += 1;
            if links > MOST_LINKS {
                return Err(format!("{} leads through too many links", path.display()));
            }
            let target = std::fs::read_link(&next).map_err(|error| unreadable(&next, &error))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(name);
            }
        };
        at = next;
    }
}

/// Judges the folder of a socket that is dialled, and the socket's owner if it is there already.
///
/// # Errors
/// As [`check`].
pub fn check_socket(socket: &Path) -> Result<(), String> {
    let folder = socket
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let owner = match std::fs::metadata(folder) {
        Ok(meta) => meta.uid(),
        Err(error) => return Err(format!("{} cannot be looked at: {error}", folder.display())),
    };
    check(folder, Owners::AndOfTheLast)?;
    let trusted = Trusted {
        us: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        also: Some(owner),
    };
    match std::fs::symlink_metadata(socket) {
        Ok(meta) => trusted.owner(socket, &meta),
        Err(_) => Ok(()),
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

struct Trusted {
    us: u32,
    group: u32,
    also: Option<u32>,
}

impl Trusted {
    fn owner(&self, path: &Path, meta: &Metadata) -> Result<(), String> {
        let owner = meta.uid();
        if owner == 0 || owner == self.us || Some(owner) == self.also {
            return Ok(());
        }
        Err(format!(
            "{} belongs to user {owner}, who could put something else there; give it to root or to user {}",
            path.display(),
            self.us
        ))
    }

    fn folder(&self, path: &Path, meta: &Metadata, last: bool) -> Result<(), String> {
        self.owner(path, meta)?;
        let mode = meta.mode();
        // In a folder such as /tmp nobody can exchange what is another's. In the last one anybody
        // could still add to it.
        let sticky = mode & 0o1000 != 0 && !last;
        // Many systems give each person a group of their own and let that write to their folders;
        // and Kubernetes gives a volume to root and to the group of the pod.
        let groups_own = self.us != 0
            && meta.gid() == self.group
            && (meta.uid() == 0 || (meta.uid() == self.us && !last));
        let open = if groups_own { 0o002 } else { 0o022 };
        if mode & open == 0 || sticky {
            return Ok(());
        }
        Err(format!(
            "{} has mode {:04o}, so others can write to it and could put something else there; take that right away with chmod go-w",
            path.display(),
            mode & 0o7777
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_folder_on_the_way_counts() {
        let top = tempfile::tempdir().unwrap();
        let (middle, last) = (top.path().join("middle"), top.path().join("middle/last"));
        fs::create_dir_all(&last).unwrap();
        for (path, bad) in [
            (&middle, 0o777),
            (&last, 0o777),
            (&last, 0o775),
            (&last, 0o1777),
        ] {
            mode(path, bad);
            let why = check(&last, Owners::Ours).unwrap_err();
            assert!(
                why.contains(&*path.to_string_lossy()) && why.contains("chmod go-w"),
                "{why}"
            );
            mode(path, 0o755);
            assert_eq!(check(&last, Owners::Ours), Ok(()));
        }
        // As /tmp is.
        mode(&middle, 0o1777);
        assert_eq!(check(&last, Owners::Ours), Ok(()));
        assert_eq!(check(&last.join("not/there"), Owners::Ours), Ok(()));
    }

    #[test]
    fn links_are_followed_and_what_they_lead_through_is_judged() {
        let top = tempfile::tempdir().unwrap();
        let (open, closed) = (top.path().join("open"), top.path().join("closed"));
        fs::create_dir_all(open.join("real")).unwrap();
        fs::create_dir(&closed).unwrap();
        symlink("../open/real", closed.join("relative")).unwrap();
        symlink(open.join("real"), closed.join("absolute")).unwrap();
        symlink("loop", closed.join("loop")).unwrap();
        for name in ["relative", "absolute"] {
            mode(&open, 0o755);
            assert_eq!(check(&closed.join(name), Owners::Ours), Ok(()), "{name}");
            mode(&open, 0o777);
            assert!(check(&closed.join(name), Owners::Ours).is_err(), "{name}");
        }
        assert!(
            check(&closed.join("loop"), Owners::Ours)
                .unwrap_err()
                .contains("links")
        );
    }

    #[test]
    fn a_stranger_owns_no_folder_of_ours_but_a_plugin_the_folder_of_its_socket() {
        let top = tempfile::tempdir().unwrap();
        let (folder, socket) = (top.path().join("p"), top.path().join("p/p.sock"));
        fs::create_dir(&folder).unwrap();
        // Giving away takes root.
        if std::os::unix::fs::chown(&folder, Some(12_345), None).is_err() {
            return;
        }
        let why = check(&folder, Owners::Ours).unwrap_err();
        assert!(why.contains("belongs to user 12345"), "{why}");
        assert_eq!(check_socket(&socket), Ok(()));
        fs::write(&socket, "").unwrap();
        for (owner, taken) in [(12_345, true), (0, true), (12_346, false)] {
            std::os::unix::fs::chown(&socket, Some(owner), None).unwrap();
            assert_eq!(check_socket(&socket).is_ok(), taken, "{owner}");
        }
        fs::remove_file(&socket).unwrap();
        std::os::unix::fs::chown(top.path(), Some(12_346), None).unwrap();
        assert!(check_socket(&socket).is_err());
        assert!(check_socket(&top.path().join("gone/p.sock")).is_err());
    }
}
