//! How far each issuer's CRLs have come, so that none goes back: over reloads, and over restarts where there is a `--state-dir`.
//!
//! In: the lists that are in force. Out: [`Marks`], one a list, that only ever go on; and their text, which a [`StateDir`] keeps. A
//! mark knows its issuer by a hash of name, key and distribution point; the name beside it is for people and for
//! `--accept-crl-reset`. Nothing here reads a CRL.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use gapura_files::file;
use gapura_files::ownership::{self, Owners};
use gapura_protocol::text::{hex, unhex};

/// The newest list of one issuer that was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The issuer's name for people.
    pub(super) issuer: String,
    /// Its list's number, big-endian without leading zeros, if it had one.
    pub(super) number: Option<Box<[u8]>>,
    /// When the list was made, Unix time.
    pub(super) this_update: u64,
}

/// What names an issuer's list: a hash over its name, its key and the list's distribution point.
pub(super) type ListId = [u8; 32];

/// The marks of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<ListId, Mark>);

/// Where a program keeps what must outlast a restart.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// What a program starts from: where it keeps how far the CRLs have come, and how far they had.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    dir: Option<StateDir>,
    marks: Marks,
    /// The issuers whose lists may go back once, and how many marks each had.
    forgotten: Vec<(String, usize)>,
}

/// What a program has begun with.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Where it keeps how far the CRLs have come.
    pub state: Option<StateDir>,
    /// What the operator should hear.
    pub warnings: Vec<String>,
}

/// Said of a program without a state directory.
const NOT_KEPT: &str = "without --state-dir it is not kept how far the CRLs have come: after a restart an older one would be taken, and whom it does not name yet be let in";

impl Kept {
    /// Opens the state directory, if there is one, and forgets the marks of the issuers in `resets`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub fn open(dir: Option<&Path>, resets: &[String]) -> Result<Self, String> {
        let dir = dir.map(StateDir::open).transpose()?;
        let mut marks = dir
            .as_ref()
            .map_or_else(|| Ok(Marks::default()), StateDir::marks)?;
        let forgotten = resets
            .iter()
            .map(|issuer| (issuer.clone(), marks.forget(issuer)))
            .collect();
        Ok(Self {
            dir,
            marks,
            forgotten,
        })
    }

    /// How far the lists had come.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Begins: writes what was forgotten, and gives back what the operator should hear. `crls` is whether there are lists at all.
    ///
    /// # Errors
    /// A sentence, if the state directory cannot be written to.
    pub fn begin(self, crls: bool) -> Result<Begun, String> {
        let mut warnings = Vec::new();
        let Some(dir) = self.dir else {
            if crls {
                warnings.push(NOT_KEPT.to_owned());
            }
            return Ok(Begun {
                state: None,
                warnings,
            });
        };
        for (issuer, count) in &self.forgotten {
            warnings.push(if *count == 0 {
                let known: Vec<&str> = self.marks.issuers().collect();
                format!(
                    "--accept-crl-reset {issuer}: there is nothing to forget; the CRLs that are known are of: {}",
                    known.join("; ")
                )
            } else {
                format!(
                    "--accept-crl-reset {issuer}: how far its CRLs had come is forgotten, and whatever number is published now is taken; leave the flag out from now on"
                )
            });
        }
        if self.forgotten.iter().any(|(_, count)| *count > 0) {
            dir.replace(&self.marks).map_err(|error| {
                format!(
                    "--state-dir {}: cannot be written to: {error}",
                    dir.0.display()
                )
            })?;
        }
        Ok(Begun {
            state: Some(dir),
            warnings,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    marks: Vec<MarkText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkText {
    issuer: String,
    list: String,
    number: Option<String>,
    this_update: u64,
}

/// The file's name; `--state-dir` holds others beside it.
const FILE: &str = "crl-marks.json";

/// Held while the file is read, joined with what is known here, and written: two programs may overlap in a handover.
const LOCK: &str = "crl-marks.lock";

/// Thousands of issuers.
const MOST_BYTES: u64 = 4 << 20;

impl Mark {
    /// Whether this list is newer than one of `number` made at `this_update`. The same number twice is not going back, since a CA may
    /// sign one list again.
    pub(super) fn is_newer_than(&self, number: Option<&[u8]>, this_update: u64) -> bool {
        match (self.number.as_deref(), number) {
            (Some(seen), Some(new)) => less(new, seen),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => this_update < self.this_update,
        }
    }
}

/// Compares two numbers without leading zeros.
pub(super) fn less(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) < (b.len(), b)
}

impl Marks {
    pub(super) fn of(&self, list: &ListId) -> Option<&Mark> {
        self.0.get(list)
    }

    /// Takes a mark that is not older than the one there is.
    pub(super) fn advance(&mut self, list: ListId, mark: Mark) {
        match self.0.get(&list) {
            Some(known) if known.is_newer_than(mark.number.as_deref(), mark.this_update) => {}
            _ => drop(self.0.insert(list, mark)),
        }
    }

    /// The same with all marks of `other`, each where it is the newer one.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        for (list, mark) in &other.0 {
            self.advance(*list, mark.clone());
        }
        self
    }

    /// Forgets how far the lists of this issuer have come, and says how many there were.
    pub fn forget(&mut self, issuer: &str) -> usize {
        let before = self.0.len();
        self.0.retain(|_, mark| mark.issuer != issuer);
        before - self.0.len()
    }

    /// The issuers that have a mark.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|mark| mark.issuer.as_str())
    }

    fn to_text(&self) -> io::Result<String> {
        let marks = self.0.iter().map(|(list, mark)| MarkText {
            issuer: mark.issuer.clone(),
            list: hex(list),
            number: mark.number.as_deref().map(hex),
            this_update: mark.this_update,
        });
        let text = Text {
            version: 1,
            marks: marks.collect(),
        };
        Ok(serde_json::to_string_pretty(&text)? + "\n")
    }

    fn from_text(text: &[u8]) -> Option<Self> {
        let text: Text = serde_json::from_slice(text).ok()?;
        if text.version != 1 {
            return None;
        }
        let mut marks = Self::default();
        for mark in text.marks {
            let list: ListId = unhex(&mark.list)?.try_into().ok()?;
            let number = match mark.number {
                Some(number) => Some(unhex(&number)?.into()),
                None => None,
            };
            marks.0.insert(
                list,
                Mark {
                    issuer: mark.issuer,
                    number,
                    this_update: mark.this_update,
                },
            );
        }
        Some(marks)
    }
}

impl StateDir {
    /// Takes a folder that nobody else can write to; one that is not there is made, for this user alone.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the folder and what to do.
    pub fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if !path.exists() {
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .map_err(|error| format!("--state-dir {shown}: cannot be made: {error}"))?;
        }
        if !path.is_dir() {
            return Err(format!(
                "--state-dir {shown}: is no folder; name one that is this program's own"
            ));
        }
        ownership::check(path, Owners::Ours)
            .map_err(|why| format!("--state-dir {shown}: {why}"))?;
        let dir = Self(path.to_owned());
        dir.lock()
            .map_err(|error| format!("--state-dir {shown}: cannot be written to: {error}"))?;
        Ok(dir)
    }

    /// What was kept; nothing if this is the first start.
    ///
    /// # Errors
    /// A sentence, if there is something that cannot be read: it is not passed over, since an older CRL could then come back.
    pub fn marks(&self) -> Result<Marks, String> {
        let path = self.0.join(FILE);
        let shown = path.display();
        let text = match file::read(&path, MOST_BYTES) {
            Ok((text, _)) => text,
            Err(error) if error.is_missing() => return Ok(Marks::default()),
            Err(error) => return Err(format!("--state-dir: {error}")),
        };
        Marks::from_text(&text).ok_or_else(|| {
            format!(
                "--state-dir: {shown} cannot be read as the numbers of CRLs; put it back from a backup, or remove it, after which any CRL is taken once"
            )
        })
    }

    /// Keeps these marks as well as those that are kept already, and gives back all.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(&self, marks: &Marks) -> io::Result<Marks> {
        let _lock = self.lock()?;
        let kept = self.marks().map_err(io::Error::other)?;
        let all = marks.clone().joined(&kept);
        if all != kept {
            self.write(&all)?;
        }
        Ok(all)
    }

    /// Keeps these marks and no others.
    ///
    /// # Errors
    /// The system's.
    pub fn replace(&self, marks: &Marks) -> io::Result<()> {
        let _lock = self.lock()?;
        self.write(marks)
    }

    fn write(&self, marks: &Marks) -> io::Result<()> {
        file::replace(&self.0.join(FILE), marks.to_text()?.as_bytes())?;
        File::open(&self.0)?.sync_all()
    }

    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.0.join(LOCK))?;
        file.lock()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn marks(entries: &[(u8, &str, &[u8], u64)]) -> Marks {
        let mut marks = Marks::default();
        for (list, issuer, number, this_update) in entries {
            let mark = Mark {
                issuer: (*issuer).to_owned(),
                number: Some((*number).into()),
                this_update: *this_update,
            };
            marks.advance([*list; 32], mark);
        }
        marks
    }

    #[test]
    fn marks_only_go_on() {
        let mut some = marks(&[(1, "a", &[5], 10), (1, "a", &[4], 20)]);
        assert_eq!(some, marks(&[(1, "a", &[5], 10)]));
        some = some.joined(&marks(&[(1, "a", &[1, 0], 5), (2, "b", &[1], 1)]));
        assert_eq!(some, marks(&[(1, "a", &[1, 0], 5), (2, "b", &[1], 1)]));
        assert_eq!((some.forget("a"), some.forget("a")), (1, 0));
        assert_eq!(some.issuers().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_is_kept_is_read_again_joined_and_for_the_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(dir.marks().unwrap(), Marks::default());
        dir.keep(&marks(&[(1, "a", &[5], 10)])).unwrap();
        let other = StateDir::open(&path).unwrap();
        let all = other
            .keep(&marks(&[(1, "a", &[4], 9), (2, "b", &[0xff, 0], 1)]))
            .unwrap();
        assert_eq!(all, marks(&[(1, "a", &[5], 10), (2, "b", &[0xff, 0], 1)]));
        assert_eq!(dir.marks().unwrap(), all);
        for (name, mode) in [("", 0o700), (FILE, 0o600), (LOCK, 0o600)] {
            let meta = std::fs::metadata(path.join(name)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
        }
        dir.replace(&marks(&[(1, "a", &[1], 1)])).unwrap();
        assert_eq!(dir.marks().unwrap(), marks(&[(1, "a", &[1], 1)]));
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_over() {
        let parent = tempfile::tempdir().unwrap();
        let dir = StateDir::open(parent.path()).unwrap();
        for text in [
            "",
            "{}",
            "{\"version\": 2, \"marks\": []}",
            "{\"version\": 1, \"marks\": [{}]}",
        ] {
            std::fs::write(parent.path().join(FILE), text).unwrap();
            let fault = dir.marks().unwrap_err();
            assert!(
                fault.contains(FILE) && fault.contains("remove it"),
                "{fault}"
            );
            assert!(dir.keep(&Marks::default()).is_err());
        }
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        StateDir::open(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let fault = StateDir::open(&path).unwrap_err();
        assert!(
            fault.contains("--state-dir") && fault.contains("others can write"),
            "{fault}"
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(StateDir::open(&path).is_ok());
        assert!(StateDir::open(&parent.path().join("a/b")).is_err());
    }
}
