//! What a program keeps over a restart: how far the CRLs had come, where there is a `--state-dir`.
//!
//! In: a folder of the program's own, and the marks of the lists that are in force. Out: the marks
//! of the last run, joined with those of a program that runs beside this one in a handover. What
//! cannot be read is never passed over. Nothing here compares two lists.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gapura_files::file;
use gapura_files::ownership::{self, Owners};

use gapura_certificates::marks::Marks;

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
    /// Opens the state directory, if there is one, and forgets the marks of the issuers in
    /// `resets`.
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

    /// Begins: writes what was forgotten, and gives back what the operator should hear. `crls` is
    /// whether there are lists at all.
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

/// The file's name; `--state-dir` holds others beside it.
const FILE: &str = "crl-marks.json";

/// Held while the file is read, joined with what is known here, and written: two programs may
/// overlap in a handover.
const LOCK: &str = "crl-marks.lock";

/// Thousands of issuers.
const MOST_BYTES: u64 = 4 << 20;

impl StateDir {
    /// Takes a folder that nobody else can write to; one that is not there is made, for this user
    /// alone.
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
    /// A sentence, if there is something that cannot be read: it is not passed over, since an older
    /// CRL could then come back.
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

    fn marks(entries: &[(u8, &str, &str, u64)]) -> Marks {
        let of = |(list, issuer, number, this_update): &(u8, &str, &str, u64)| {
            let list = format!("{list:02x}").repeat(32);
            serde_json::json!({"issuer": issuer, "list": list, "number": number, "this_update": this_update})
        };
        let all: Vec<_> = entries.iter().map(of).collect();
        let text = serde_json::json!({"version": 1, "marks": all}).to_string();
        Marks::from_text(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_kept_is_read_again_joined_and_for_the_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(dir.marks().unwrap(), Marks::default());
        dir.keep(&marks(&[(1, "a", "05", 10)])).unwrap();
        let other = StateDir::open(&path).unwrap();
        let all = other
            .keep(&marks(&[(1, "a", "04", 9), (2, "b", "ff00", 1)]))
            .unwrap();
        assert_eq!(all, marks(&[(1, "a", "05", 10), (2, "b", "ff00", 1)]));
        assert_eq!(dir.marks().unwrap(), all);
        for (name, mode) in [("", 0o700), (FILE, 0o600), (LOCK, 0o600)] {
            let meta = std::fs::metadata(path.join(name)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
        }
        dir.replace(&marks(&[(1, "a", "01", 1)])).unwrap();
        assert_eq!(dir.marks().unwrap(), marks(&[(1, "a", "01", 1)]));
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
