//! The inventory file: every event one line of JSON, each line carrying the hash of the one before.
//!
//! In: events, from the holder of the lock. Out: a [`Ledger`] of what the whole file says, or a
//! refusal that names the line. Nothing leaves the program before `append` has synced its event.
//! Invariant: the file only grows, and `inventory.head` names a line it holds; so an edited,
//! swapped or removed line is found, also when it was the last. A line without its newline, or a
//! batch without its last line, was cut by a crash before anyone could rely on it: readers pass
//! over it and the next writer takes it off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{self, Operation};
use crate::error::Error;
use crate::keys::sha256_hex;
use crate::ledger::{Event, Ledger};
use crate::store::{self, Access, Lock};
use crate::timestamp::Timestamp;

/// The hash that the first line carries.
const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    at: Timestamp,
    prev: String,
    /// Further lines of the same batch follow: what happened together is in force together or not
    /// at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    #[serde(flatten)]
    event: Event,
}

/// The file as it was read, and what it says.
pub(crate) struct Inventory {
    path: PathBuf,
    lines: u64,
    last: String,
    /// Bytes up to and including the last newline of the last whole batch.
    whole: u64,
    ledger: Ledger,
    /// The latest moment at which a line says it was written, since the clock was last said to be
    /// right.
    written_until: Timestamp,
    /// When a backup was restored last.
    restored_at: Option<Timestamp>,
    /// The lines of a batch whose last line has not been met yet.
    open: Vec<(u64, Event)>,
}

impl Inventory {
    /// Reads and checks the whole file in `dir`; an absent one is empty.
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        // The head first: a writer that comes between the two readings makes the file longer than
        // the head, never shorter.
        let head = read_head(dir)?;
        let mut this = Self {
            path: dir.join("inventory.jsonl"),
            lines: 0,
            last: NOTHING_BEFORE.to_owned(),
            whole: 0,
            ledger: Ledger::default(),
            written_until: Timestamp(0),
            restored_at: None,
            open: Vec::new(),
        };
        let bytes = store::read_if_there(&this.path)?.unwrap_or_default();
        this.read_on(&bytes, head.as_ref())?;
        Ok(this)
    }

    /// The same file later: reads what was appended since, and everything anew where it is not the
    /// file that was read.
    pub(crate) fn follow(mut self, dir: &Path) -> Result<Self, Error> {
        let head = read_head(dir)?;
        let (path, length) = (self.path.clone(), self.whole);
        let io = || Error::io("read", &path);
        let mut file = File::open(&path).map_err(io())?;
        let now = file.metadata().map_err(io())?.len();
        let is_known = |(lines, last): &(u64, String)| *lines == self.lines && *last == self.last;
        if now == length && head.as_ref().is_some_and(is_known) {
            return Ok(self);
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(length)).map_err(io())?;
        file.read_to_end(&mut bytes).map_err(io())?;
        match self.read_on(&bytes, head.as_ref()) {
            Ok(()) if now >= length => Ok(self),
            _ => Self::load(dir),
        }
    }

    /// Reads and checks the lines in `bytes`, which follow what was read already.
    fn read_on(&mut self, bytes: &[u8], head: Option<&(u64, String)>) -> Result<(), Error> {
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let complete = bytes.get(..whole).unwrap_or_default();
        let (mut read, mut batch) = (self.whole, (self.lines, self.last.clone()));
        for raw in complete.split_inclusive(|byte| *byte == b'\n') {
            self.take(raw.strip_suffix(b"\n").unwrap_or(raw), head)?;
            read += raw.len() as u64;
            if self.open.is_empty() {
                (self.whole, batch) = (read, (self.lines, self.last.clone()));
            }
        }
        // A batch that a crash cut between two lines counts as little as a cut line.
        (self.lines, self.last) = batch;
        self.open.clear();
        match head {
            Some((lines, _)) if *lines > self.lines => Err(self.damaged(&format!(
                "it ends after line {}, but {lines} lines were written; lines were removed",
                self.lines
            ))),
            _ => Ok(()),
        }
    }

    /// What the file says.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The latest moment of a line: when it lies ahead, this machine's clock is wrong now or was
    /// wrong then.
    pub(crate) fn written_until(&self) -> Timestamp {
        self.written_until
    }

    /// When a backup was restored last: what is older and unknown, it did not have.
    pub(crate) fn restored_at(&self) -> Option<Timestamp> {
        self.restored_at
    }

    /// Keeps in mind when a line was written.
    fn note(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::ClockIsRight { .. } => self.written_until = at,
            Event::Restored { .. } => self.restored_at = Some(at),
            _ => {}
        }
        self.written_until = self.written_until.max(at);
    }

    /// The hash of the last line.
    pub(crate) fn last_hash(&self) -> &str {
        &self.last
    }

    /// Writes `events` as one batch and syncs it; on a full disk the file is as it was.
    pub(crate) fn append(
        &mut self,
        _held: &Lock,
        now: Timestamp,
        events: Vec<Event>,
    ) -> Result<(), Error> {
        let refused =
            |why: String| Error::Failed(format!("the inventory refuses the event: {why}"));
        let mut text = Vec::new();
        let noted: Vec<Event> = events.clone();
        // Tried on a copy, unless nothing can be wrong with them: of years of leaves a copy takes
        // longer than the rest.
        let simple = events.iter().all(|event| self.ledger.simply_takes(event));
        let mut tried = (!simple).then(|| self.ledger.clone());
        let (mut lines, mut last) = (self.lines, self.last.clone());
        let count = events.len();
        for (at, event) in events.into_iter().enumerate() {
            lines += 1;
            let line = Line {
                n: lines,
                at: now,
                prev: last,
                more: at + 1 < count,
                event,
            };
            let start = text.len();
            serde_json::to_writer(&mut text, &line).map_err(|error| {
                Error::Failed(format!("the inventory line can't be written: {error}"))
            })?;
            let raw = text.get(start..).unwrap_or_default();
            // A line that could not be read back would lock everyone out of the file for ever.
            serde_json::from_slice::<Line>(raw).map_err(|error| {
                Error::Failed(format!("the inventory line does not read back: {error}"))
            })?;
            last = sha256_hex(raw);
            text.push(b'\n');
            if let Some(ledger) = &mut tried {
                ledger.apply(line.event).map_err(refused)?;
            }
        }
        let existed = self.lines > 0;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.path);
        let written = file
            .as_mut()
            .map_err(|error| io::Error::new(error.kind(), error.to_string()))
            .and_then(|file| {
                disk::before(Operation::Rename, &self.path)?;
                file.set_len(self.whole)?; // takes off what a crash cut
                file.seek(SeekFrom::Start(self.whole))?;
                disk::write_all(file, &self.path, &text)
                    .and_then(|()| disk::sync(file, &self.path))
                    .inspect_err(|_| give_back(file, &self.path, self.whole))
            });
        written.map_err(Error::io("append to", &self.path))?;
        (self.lines, self.last) = (lines, last);
        match tried {
            Some(ledger) => self.ledger = ledger,
            None => noted
                .iter()
                .try_for_each(|event| self.ledger.apply(event.clone()))
                .map_err(refused)?,
        }
        for event in &noted {
            self.note(now, event);
        }
        self.whole += text.len() as u64;
        if !existed {
            store::sync_parent(&self.path)?;
        }
        store::replace(
            &self.path.with_file_name("inventory.head"),
            format!("{} {}\n", self.lines, self.last).as_bytes(),
            Access::Owner,
        )
    }

    fn take(&mut self, raw: &[u8], head: Option<&(u64, String)>) -> Result<(), Error> {
        let n = self.lines + 1;
        let line: Line = serde_json::from_slice(raw).map_err(|error| {
            self.damaged(&format!(
                "line {n} is not a line of the inventory ({error})"
            ))
        })?;
        if line.n != n {
            return Err(self.damaged(&format!("line {n} says that it is line {}", line.n)));
        }
        if line.prev != self.last {
            return Err(self.damaged(&format!(
                "line {n} was written after a line with SHA-256 {}, but line {} now has {}; line {} was changed",
                line.prev,
                n - 1,
                self.last,
                n - 1
            )));
        }
        let hash = sha256_hex(raw);
        if let Some((lines, wanted)) = head
            && *lines == n
            && *wanted != hash
        {
            return Err(self.damaged(&format!(
                "line {n} now has SHA-256 {hash}, but {wanted} was written; line {n} was changed"
            )));
        }
        self.open.push((n, line.event));
        if !line.more {
            for (n, event) in std::mem::take(&mut self.open) {
                self.note(line.at, &event);
                self.ledger
                    .apply(event)
                    .map_err(|why| self.damaged(&format!("line {n}: {why}")))?;
            }
        }
        (self.lines, self.last) = (n, hash);
        Ok(())
    }

    fn damaged(&self, found: &str) -> Error {
        Error::damaged(
            &self.path,
            format!(
                "{found}. Put back what was there, or run `gapura-pki restore` with the last backup"
            ),
        )
    }
}

/// What an append that failed had already written must go, or the next reader meets half a line in
/// the middle of the file.
fn give_back(file: &mut File, path: &Path, whole: u64) {
    let _ = disk::before(Operation::Remove, path).and_then(|()| file.set_len(whole)); // best effort: a cut last line is passed over anyway
}

fn read_head(dir: &Path) -> Result<Option<(u64, String)>, Error> {
    let path = dir.join("inventory.head");
    let Some(bytes) = store::read_if_there(&path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let parsed = text
        .trim_end()
        .split_once(' ')
        .and_then(|(lines, hash)| Some((lines.parse().ok()?, hash.to_owned())));
    let wanted =
        "a number and a hash were written here. Run `gapura-pki restore` with the last backup";
    parsed
        .map(Some)
        .ok_or_else(|| Error::damaged(&path, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    fn three_lines(dir: &Path) -> Lock {
        let lock = Lock::take(dir, Duration::ZERO).unwrap();
        let mut inventory = Inventory::load(dir).unwrap();
        inventory
            .append(
                &lock,
                Timestamp(1),
                vec![Event::Created {
                    trust_domain: "a".to_owned(),
                }],
            )
            .unwrap();
        inventory
            .append(
                &lock,
                Timestamp(2),
                vec![Event::Restored { lines: 1 }, Event::Restored { lines: 2 }],
            )
            .unwrap();
        lock
    }

    fn refusal(dir: &Path) -> String {
        Inventory::load(dir).err().unwrap().to_string()
    }

    #[test]
    fn reads_back_what_was_appended() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = three_lines(dir.path());
        let inventory = Inventory::load(dir.path()).unwrap();
        assert_eq!(inventory.lines(), 3);
        assert_eq!(inventory.ledger().trust_domain().unwrap().as_str(), "a");
    }

    #[test]
    fn a_changed_line_is_found_also_when_it_is_the_last() {
        for (from, to, named) in [
            ("\"a\"", "\"b\"", "line 1 was changed"),
            ("\"lines\":2", "\"lines\":3", "line 3 was changed"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let _lock = three_lines(dir.path());
            let path = dir.path().join("inventory.jsonl");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            fs::write(&path, text.replace(from, to)).unwrap();
            assert!(
                refusal(dir.path()).contains(named),
                "{}",
                refusal(dir.path())
            );
        }
    }

    #[test]
    fn a_removed_line_is_found_also_when_it_is_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = three_lines(dir.path());
        let path = dir.path().join("inventory.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        fs::write(&path, lines[..2].concat()).unwrap();
        assert!(refusal(dir.path()).contains("lines were removed"));
        fs::write(&path, [lines[0], lines[2]].concat()).unwrap();
        assert!(refusal(dir.path()).contains("line 2 says that it is line 3"));
        fs::write(&path, text).unwrap();
        assert!(Inventory::load(dir.path()).is_ok());
    }

    #[test]
    fn a_line_of_the_future_is_remembered_until_the_clock_is_said_to_be_right() {
        let dir = tempfile::tempdir().unwrap();
        let lock = three_lines(dir.path());
        let mut inventory = Inventory::load(dir.path()).unwrap();
        let restored = || vec![Event::Restored { lines: 1 }];
        inventory.append(&lock, Timestamp(900), restored()).unwrap();
        inventory.append(&lock, Timestamp(5), restored()).unwrap();
        assert_eq!(
            inventory.written_until(),
            Timestamp(900),
            "a later line hides nothing"
        );
        assert_eq!(inventory.restored_at(), Some(Timestamp(5)));
        let said = vec![Event::ClockIsRight { ahead: 895 }];
        inventory.append(&lock, Timestamp(5), said).unwrap();
        let read = Inventory::load(dir.path()).unwrap();
        for inventory in [inventory, read] {
            assert_eq!(inventory.written_until(), Timestamp(5));
        }
    }

    /// What `follow` and `load` say of the same file.
    fn both(known: Inventory, dir: &Path) -> [(u64, String, usize); 2] {
        [known.follow(dir).unwrap(), Inventory::load(dir).unwrap()].map(|inventory| {
            let last = inventory.last_hash().to_owned();
            let authorities = inventory.ledger().authorities().len();
            (inventory.lines(), last, authorities)
        })
    }

    #[test]
    fn one_who_follows_knows_what_one_who_reads_anew_knows() {
        let dir = tempfile::tempdir().unwrap();
        let lock = three_lines(dir.path());
        let known = || Inventory::load(dir.path()).unwrap();
        let [followed, read] = both(known(), dir.path());
        assert_eq!(followed, read);
        // Lines of another program, then half a line.
        let before = known();
        let restored = || vec![Event::Restored { lines: 1 }];
        known().append(&lock, Timestamp(3), restored()).unwrap();
        let [followed, read] = both(before, dir.path());
        assert_eq!((followed.0, &followed), (4, &read));
        let before = known();
        let path = dir.path().join("inventory.jsonl");
        let text = fs::read(&path).unwrap();
        fs::write(&path, [&text[..], b"{\"n\":5,"].concat()).unwrap();
        let [followed, read] = both(before, dir.path());
        assert_eq!((followed.0, &followed), (4, &read));
        // Another file in its place: of a backup that was restored.
        let long = known();
        let other = tempfile::tempdir().unwrap();
        let _other_lock = three_lines(other.path());
        for name in ["inventory.jsonl", "inventory.head"] {
            fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
        }
        let [followed, read] = both(long, dir.path());
        assert_eq!((followed.0, &followed), (3, &read));
        // And one that was damaged is named.
        let known = known();
        fs::write(&path, &text[..20]).unwrap();
        assert!(known.follow(dir.path()).is_err());
    }

    #[test]
    fn a_line_cut_by_a_crash_is_passed_over_and_then_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let lock = three_lines(dir.path());
        let path = dir.path().join("inventory.jsonl");
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"n\":4,\"at\":\"19");
        fs::write(&path, text).unwrap();
        let mut inventory = Inventory::load(dir.path()).unwrap();
        assert_eq!(inventory.lines(), 3);
        inventory
            .append(&lock, Timestamp(3), vec![Event::Restored { lines: 3 }])
            .unwrap();
        assert_eq!(Inventory::load(dir.path()).unwrap().lines(), 4);
    }
}
