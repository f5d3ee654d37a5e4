//! What stands in the plugin folder at one moment.
//!
//! In: a path. Out: a [`Snapshot`]: every `*.json` that does not begin with a dot, following
//! symlinks (a mounted ConfigMap is nothing but symlinks into `..data`), with its bytes or the
//! reason why there are none. Sizes and counts are bounded. Nothing here looks into a file.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use gapura_files::directory::{Stamp, hash, stamp_of};
use gapura_reload::watch::{Digest, Reading};

/// The folder at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// What the folder is called in faults.
    pub folder: String,
    /// Its files in the order of their names, or why it can't be read.
    pub files: Result<Vec<File>, String>,
}

/// One file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name within the folder.
    pub name: String,
    /// Its bytes, or why there are none.
    pub content: Result<Arc<[u8]>, String>,
}

/// A file is some hundred bytes; this leaves room for long lists.
const FILE_MAX: u64 = 1 << 20;

/// How much a folder may hold: its files are kept in memory to be compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many files.
    pub(crate) files: usize,
    /// How many MiB all of them have together.
    pub(crate) mebibytes: usize,
    /// What they are, as faults say it.
    pub(crate) what: &'static str,
}

/// More than this is not a registry.
pub(super) const PLUGINS: Bounds = Bounds {
    files: 4096,
    mebibytes: 16,
    what: "plugin files",
};

impl Snapshot {
    /// Reads the folder.
    #[must_use]
    pub(crate) fn take(folder: &Path) -> Self {
        Self::take_within(folder, &PLUGINS)
    }

    /// Reads a folder of other files.
    pub(crate) fn take_within(folder: &Path, bounds: &Bounds) -> Self {
        Self {
            folder: folder.display().to_string(),
            files: read_all(folder, bounds),
        }
    }

    /// What tells it from the next one.
    pub(crate) fn digest(&self) -> Digest {
        let files = match &self.files {
            Err(why) => return hash([why.as_bytes()]),
            Ok(files) => files,
        };
        hash(files.iter().flat_map(|file| {
            let (is_read, content) = match &file.content {
                Ok(content) => ("read", &**content),
                Err(why) => ("not read", why.as_bytes()),
            };
            [file.name.as_bytes(), is_read.as_bytes(), content]
        }))
    }
}

/// What a stat of the folder and of its files says: while it stays the same, nobody has written
/// anything.
pub(crate) fn stamp(folder: &Path, bounds: &Bounds) -> Stamp {
    let names = names(folder, bounds).unwrap_or_default();
    let paths = names.into_iter().map(|name| folder.join(name));
    stamp_of(paths.chain([folder.to_owned()]))
}

/// A snapshot, as a watch of the folder takes it.
pub(crate) fn reading(folder: &Path, bounds: &Bounds) -> Reading<Snapshot> {
    let content = Snapshot::take_within(folder, bounds);
    let digest = content.digest();
    Reading { content, digest }
}

fn read_all(folder: &Path, bounds: &Bounds) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for name in names(folder, bounds)? {
        let path = folder.join(&name);
        // A name that is not UTF-8 is shown as well as it can be; it still counts as a file, so
        // that it cannot hide a mount.
        let shown = name.to_string_lossy().into_owned();
        let content = match fs::metadata(&path) {
            Ok(stat) if stat.is_dir() => continue,
            Ok(stat) => read_one(&path, &stat),
            Err(err) if err.kind() == ErrorKind::NotFound => match fs::symlink_metadata(&path) {
                Ok(_) => Err(
                    "is a symbolic link to nothing; remove it or put its target back".to_owned(),
                ),
                // It vanished between the listing and now.
                Err(_) => continue,
            },
            Err(err) => Err(format!("can't be read: {err}")),
        };
        bytes += content.as_ref().map_or(0, |content| content.len());
        if bytes > bounds.mebibytes << 20 {
            return Err(format!(
                "holds more than {} MiB of *.json files; it is meant for {} only",
                bounds.mebibytes, bounds.what
            ));
        }
        files.push(File {
            name: shown,
            content,
        });
    }
    Ok(files)
}

/// The names of the files that count, sorted.
fn names(folder: &Path, bounds: &Bounds) -> Result<Vec<std::ffi::OsString>, String> {
    let unreadable = |err: std::io::Error| format!("can't be read: {err}");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if counts(&name) {
            names.push(name);
        }
        if names.len() > bounds.files {
            return Err(format!(
                "holds more than {} *.json files; it is meant for {} only",
                bounds.files, bounds.what
            ));
        }
    }
    names.sort();
    Ok(names)
}

fn counts(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.ends_with(b".json") && !bytes.starts_with(b".")
}

fn read_one(path: &Path, stat: &Metadata) -> Result<Arc<[u8]>, String> {
    // Opening a pipe would wait for a writer.
    if !stat.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let too_long = || "is longer than 1 MiB; such a file is some hundred bytes".to_owned();
    if stat.size() > FILE_MAX {
        return Err(too_long());
    }
    let mut content = Vec::new();
    // It may have grown since.
    let read =
        fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut content));
    read.map_err(|err| format!("can't be read: {err}"))?;
    if content.len() as u64 > FILE_MAX {
        Err(too_long())
    } else {
        Ok(content.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn listed(folder: &Path) -> Vec<(String, Result<String, String>)> {
        let text = |content: Arc<[u8]>| String::from_utf8_lossy(&content).into_owned();
        Snapshot::take(folder)
            .files
            .unwrap()
            .into_iter()
            .map(|file| (file.name, file.content.map(text)))
            .collect()
    }

    #[test]
    fn takes_json_files_that_do_not_begin_with_a_dot() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.json",
            "a.json",
            ".a.json",
            "a.json~",
            "a.yaml",
            "README",
            "json",
            ".json",
            "a.json.swp",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("c.json")).unwrap();
        assert_eq!(
            listed(folder.path()),
            [
                ("a.json".to_owned(), Ok("a.json".to_owned())),
                ("b.json".to_owned(), Ok("b.json".to_owned()))
            ]
        );
    }

    #[test]
    fn follows_the_links_of_a_mounted_config_map_through_a_swap() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for version in ["..1", "..2"] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.json"), version).unwrap();
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.json", root.join("a.json")).unwrap();
        let before = stamp(root, &PLUGINS);
        assert_eq!(listed(root), [("a.json".to_owned(), Ok("..1".to_owned()))]);
        assert_eq!(stamp(root, &PLUGINS), before);
        symlink("..2", root.join("..tmp")).unwrap();
        fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
        assert_ne!(stamp(root, &PLUGINS), before);
        assert_eq!(listed(root), [("a.json".to_owned(), Ok("..2".to_owned()))]);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        symlink("nowhere", folder.path().join("a.json")).unwrap();
        fs::write(folder.path().join("b.json"), vec![b' '; (1 << 20) + 1]).unwrap();
        fs::write(folder.path().join("c.json"), vec![b' '; 1 << 20]).unwrap();
        symlink("/dev/null", folder.path().join("d.json")).unwrap();
        let listed = listed(folder.path());
        assert!(
            listed[0]
                .1
                .as_ref()
                .unwrap_err()
                .contains("symbolic link to nothing")
        );
        assert!(
            listed[1]
                .1
                .as_ref()
                .unwrap_err()
                .contains("longer than 1 MiB")
        );
        assert!(listed[2].1.is_ok());
        assert!(
            listed[3]
                .1
                .as_ref()
                .unwrap_err()
                .contains("not a regular file")
        );
        let gone = folder.path().join("gone");
        assert!(
            Snapshot::take(&gone)
                .files
                .unwrap_err()
                .starts_with("can't be read: ")
        );
        assert!(Snapshot::take(&folder.path().join("c.json")).files.is_err());
    }

    #[test]
    fn a_stamp_changes_with_every_write_and_rename() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = stamp(folder.path(), &PLUGINS);
        let mut changed = || {
            let now = stamp(folder.path(), &PLUGINS);
            std::mem::replace(&mut before, now.clone()) != now
        };
        assert!(!changed());
        fs::write(folder.path().join("a.json"), "1").unwrap();
        assert!(changed() && !changed());
        fs::write(folder.path().join("a.json"), "22").unwrap();
        assert!(changed() && !changed());
        fs::rename(folder.path().join("a.json"), folder.path().join("b.json")).unwrap();
        assert!(changed() && !changed());
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(changed() && !changed());
    }
}
