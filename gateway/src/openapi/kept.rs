//! The contracts in force, kept in `--state-dir` over a restart: a file a plugin.
//!
//! In: what is in force of a plugin, whenever that has changed. Out: the same at the next start, so
//! that what a restart brings is compared with what was there before. A file is one line of JSON
//! and below it the document, byte for byte as the plugin served it; it is there whole or not at
//! all. What can't be read stops a start: without it any contract would be taken once.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gapura_files::file;
use gapura_openapi::MAX_BYTES;
use gapura_protocol::identity::Name;
use serde::{Deserialize, Serialize};

use super::entry::{Digest, InForce, Standing, digest};

/// The folder within `--state-dir`.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

/// The first line of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    title: String,
    version: String,
    settled: bool,
    /// What has ever been in force, the last one last: that of the document below.
    accepted: Vec<String>,
}

const FOLDER: &str = "contracts";

const ENDING: &str = ".contract";

/// A line with the longest of titles.
const HEAD_MOST: u64 = 2 * MAX_BYTES as u64;

impl Kept {
    pub(super) fn in_folder(state_dir: &Path) -> Self {
        Self(state_dir.join(FOLDER))
    }

    /// Every plugin's; none if this is the first start.
    pub(super) fn read(&self) -> Result<Vec<(String, Standing)>, Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let shown = self.0.display();
                return Err(vec![format!("--state-dir: {shown} can't be read: {error}")]);
            }
        };
        let (mut kept, mut faults) = (Vec::new(), Vec::new());
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            // What is no plugin's is not ours.
            let Some(name) = name.filter(|name| name.parse::<Name>().is_ok()) else {
                continue;
            };
            match read(&entry.path()) {
                Ok(standing) => kept.push((name.to_owned(), standing)),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Ok(kept)
        } else {
            Err(faults)
        }
    }

    /// Keeps what is in force of a plugin; it is on the disk then.
    pub(super) fn write(&self, plugin: &str, standing: &Standing) -> io::Result<()> {
        let head = Head {
            title: standing.in_force.title.clone(),
            version: standing.in_force.version.clone(),
            settled: standing.settled,
            accepted: standing.accepted.iter().map(hex).collect(),
        };
        let mut text = serde_json::to_vec(&head)?;
        text.push(b'\n');
        text.extend_from_slice(&standing.in_force.bytes);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        file::replace(&self.path(plugin), &text)?;
        fs::File::open(&self.0)?.sync_all()
    }

    /// Forgets a plugin.
    pub(super) fn remove(&self, plugin: &str) -> io::Result<()> {
        match fs::remove_file(self.path(plugin)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where it all is.
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    fn path(&self, plugin: &str) -> PathBuf {
        self.0.join(format!("{plugin}{ENDING}"))
    }
}

fn read(path: &Path) -> Result<Standing, String> {
    let most = MAX_BYTES as u64 + HEAD_MOST;
    let (text, _) = file::read(path, most).map_err(|error| format!("--state-dir: {error}"))?;
    parse(text.into()).ok_or_else(|| {
        let shown = path.display();
        format!("--state-dir: {shown} is no contract that was kept; put it back from a backup, or remove it, after which the next one of that plugin is taken whatever it breaks")
    })
}

fn parse(text: Bytes) -> Option<Standing> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(text.get(..end)?).ok()?;
    let bytes = text.slice(end + 1..);
    let accepted = head.accepted.iter().map(|text| of_hex(text));
    let accepted: Vec<Digest> = accepted.collect::<Option<_>>()?;
    let digest = digest(&bytes);
    (accepted.last() == Some(&digest)).then_some(Standing {
        in_force: InForce {
            digest,
            bytes,
            title: head.title,
            version: head.version,
        }
        .into(),
        settled: head.settled,
        accepted,
    })
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(document: &'static str) -> Standing {
        let bytes = Bytes::from_static(document.as_bytes());
        let digest = digest(&bytes);
        Standing {
            in_force: InForce {
                digest,
                bytes,
                title: "a \"title\"\n".to_owned(),
                version: "1".to_owned(),
            }
            .into(),
            settled: true,
            accepted: vec![[7; 32], digest],
        }
    }

    #[test]
    fn what_is_kept_is_there_again_byte_for_byte_and_what_is_forgotten_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::in_folder(dir.path());
        assert!(kept.read().unwrap().is_empty());
        kept.write("lab", &standing("{\n}\n")).unwrap();
        kept.write("lab", &standing("{\n \"a\": 1}\n")).unwrap();
        kept.write("other", &standing("{}")).unwrap();
        fs::write(kept.folder().join("README"), "not ours").unwrap();
        let mut all = kept.read().unwrap();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let [(lab, one), (other, _)] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!((lab.as_str(), other.as_str()), ("lab", "other"));
        let expected = standing("{\n \"a\": 1}\n");
        assert_eq!(one.in_force.bytes, expected.in_force.bytes);
        assert_eq!(one.in_force.title, expected.in_force.title);
        assert_eq!((one.settled, &one.accepted), (true, &expected.accepted));
        kept.remove("lab").unwrap();
        kept.remove("lab").unwrap();
        assert_eq!(kept.read().unwrap().len(), 1);
    }

    #[test]
    fn what_was_not_written_so_stops_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::in_folder(dir.path());
        kept.write("lab", &standing("{\"a\": 1}")).unwrap();
        let path = kept.path("lab");
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            String::new(),
            "{}\n{}".to_owned(),
            good.replace("\"a\": 1", "\"a\": 2"),
            good.replace("\"settled\":true", "\"settled\":true,\"more\":1"),
            good.lines().next().unwrap().to_owned(),
            good.chars().take(good.len() - 1).collect(),
        ] {
            fs::write(&path, bad).unwrap();
            let faults = kept.read().unwrap_err();
            assert!(
                faults[0].contains("lab.contract is no contract"),
                "{faults:?}"
            );
        }
        fs::write(&path, good).unwrap();
        assert!(kept.read().is_ok());
    }
}
