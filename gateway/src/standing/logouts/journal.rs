//! The file in `--state-dir` that keeps logouts over a restart: one JSON object a line, the newest
//! last.
//!
//! In: logouts as they come. Out: those that were kept, at the next start. A line is on the disk
//! before its logout is answered; one that a power cut broke off was never answered, and is passed
//! over. Whatever else can't be read stops a start: a logout that is lost would let somebody in
//! again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gapura_files::file;
use serde::{Deserialize, Serialize};

use super::logout::Logout;

/// The journal of one folder.
pub(super) struct Journal {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    iss: String,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    iat: u64,
    until: u64,
}

/// The file's name; `--state-dir` holds others beside it.
const FILE: &str = "logouts.jsonl";

/// Taken by whoever writes: two programs share a folder while one takes over from the other.
const LOCK: &str = ".logouts.lock";

/// More than the most logouts with the longest names.
const MOST_BYTES: u64 = 1 << 30;

/// It is written anew once so many lines more than needed are in it.
const SLACK: usize = 10_000;

impl Journal {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    /// Every logout that was kept, whether it counts still or not; none if this is the first start.
    pub(super) fn read(&self) -> Result<Vec<Logout>, String> {
        let bytes = match file::read(&self.path, MOST_BYTES) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            Err(error) => return Err(format!("--state-dir: {error}")),
        };
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        lines
            .enumerate()
            .map(|(at, line)| {
                parse(line).ok_or_else(|| {
                    let (shown, line) = (self.path.display(), at + 1);
                    format!("--state-dir: {shown}:{line}: is no logout; put the file back from a backup, or remove it, after which those who have logged out are let in again for as long as their tokens live")
                })
            })
            .collect()
    }

    /// Writes one down; it is on the disk then.
    pub(super) fn append(&self, logout: &Logout) -> Result<(), String> {
        self.named(self.try_append(logout))
    }

    /// Writes the file anew without those that count no more, if that is worth it: `left` are still
    /// needed.
    pub(super) fn drop_old(&self, left: usize, now: u64) -> Result<(), String> {
        let is_long = || -> io::Result<bool> {
            let mut lines = 0;
            let mut file = File::open(&self.path)?;
            let mut part = vec![0; 64 * 1024];
            loop {
                match file.read(&mut part)? {
                    0 => return Ok(lines > left.saturating_add(SLACK)),
                    count => lines += part[..count].iter().filter(|byte| **byte == b'\n').count(),
                }
            }
        };
        // One that is not there has nothing old in it.
        if !is_long().unwrap_or(false) {
            return Ok(());
        }
        let _lock = self.named(self.lock())?;
        // Read again under the lock: another program may have written to it.
        let logouts = self.read()?;
        let text: String = logouts
            .iter()
            .filter(|logout| logout.until > now)
            .map(line_of)
            .collect();
        self.named(file::replace(&self.path, text.as_bytes()))
    }

    fn try_append(&self, logout: &Logout) -> io::Result<()> {
        let _lock = self.lock()?;
        let is_new = !self.path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        cut_broken_line(&mut file)?;
        file.write_all(line_of(logout).as_bytes())?;
        file.sync_data()?;
        match self.path.parent().filter(|_| is_new) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.with_file_name(LOCK))?;
        file.lock()?;
        Ok(file)
    }

    fn named<T>(&self, done: io::Result<T>) -> Result<T, String> {
        done.map_err(|error| format!("{} can't be written: {error}", self.path.display()))
    }
}

/// A line without an end is one whose writing was cut off.
fn cut_broken_line(file: &mut File) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] {
        return Ok(());
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n');
    file.set_len(whole.map_or(0, |end| end as u64 + 1))
}

fn line_of(logout: &Logout) -> String {
    let line = Line {
        iss: logout.issuer.to_string(),
        jti: logout.id.to_string(),
        sub: logout.subject.as_deref().map(str::to_owned),
        sid: logout.session.as_deref().map(str::to_owned),
        iat: logout.issued_at,
        until: logout.until,
    };
    // Texts and numbers alone can always be written.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

fn parse(line: &[u8]) -> Option<Logout> {
    let line: Line = serde_json::from_slice(line).ok()?;
    Some(Logout {
        issuer: line.iss.into(),
        id: line.jti.into(),
        subject: line.sub.map(Into::into),
        session: line.sid.map(Into::into),
        issued_at: line.iat,
        until: line.until,
    })
}
