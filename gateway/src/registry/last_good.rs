//! A copy of the files in force, to start from when the folder is broken at the worst moment.
//!
//! In: the state after a reload. Out: `DIR` holds the text of each file in force, written beside
//! and renamed over, so that a crash at any point leaves whole files; files no longer in force are
//! removed. The copies are as secret as the originals (`inject_headers`): nobody but the owner can
//! read them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use gapura_files::file;

use super::build::State;
use super::folder::{Bounds, PLUGINS, Snapshot};

/// Makes `folder` hold what is in force, and nothing else that a start would read.
pub(super) fn write(folder: &Path, state: &State) -> io::Result<()> {
    let files = state.in_force();
    let files = files.map(|(name, in_force)| (name, &*in_force.text));
    keep(folder, files, &PLUGINS)
}

/// Makes `folder` hold these files, and no other `*.json`.
pub(crate) fn keep<'f>(
    folder: &Path,
    files: impl Iterator<Item = (&'f str, &'f [u8])>,
    bounds: &Bounds,
) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut kept = BTreeSet::new();
    for (name, text) in files {
        kept.insert(name.to_owned());
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|known| known == text) {
            continue;
        }
        file::replace(&path, text)?;
    }
    for stale in Snapshot::take_within(folder, bounds)
        .files
        .unwrap_or_default()
    {
        if !kept.contains(&stale.name) {
            fs::remove_file(folder.join(&stale.name))?;
        }
    }
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::{Rules, build};
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    fn state(files: &[(&str, &str)]) -> State {
        let folder = tempfile::tempdir().unwrap();
        for (name, mount) in files {
            let text = format!(
                "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"{mount}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"public\"}}"
            );
            fs::write(folder.path().join(format!("{name}.json")), text).unwrap();
        }
        let rules = Rules {
            trust_domain: "a".parse().unwrap(),
            signing: crate::registry::Signing::Off,
            max_body: None,
        };
        build(None, &Snapshot::take(folder.path()), &rules, Instant::now()).state
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn holds_exactly_what_is_in_force_and_for_the_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("last-good");
        write(&folder, &state(&[("a", "/a"), ("b", "/b"), ("bad", "bad")])).unwrap();
        assert_eq!(names(&folder), ["a.json", "b.json"]);
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(
            fs::metadata(folder.join("a.json"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        write(&folder, &state(&[("b", "/b2")])).unwrap();
        assert_eq!(names(&folder), ["b.json"]);
        assert!(
            fs::read_to_string(folder.join("b.json"))
                .unwrap()
                .contains("/b2")
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(write(&file.path().join("x"), &state(&[("a", "/a")])).is_err());
    }
}
