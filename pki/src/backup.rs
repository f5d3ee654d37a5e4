//! `backup` and `restore`: the state directory as one tar file, which any `tar` can look into.
//!
//! In it: settings, inventory, authorities and CRLs; CA keys as they are kept, so encrypted unless
//! they were made otherwise. Not in it: mesh directories, since a leaf is better issued anew than
//! brought back. A restore never forgets a revocation that the directory it replaces still knows
//! of, and never puts an older state over a newer one that is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use gapura_protocol::clock::Clock;

use crate::ca;
use crate::error::Error;
use crate::inventory::Inventory;
use crate::ledger::{Crl, Event, Ledger, Revoked};
use crate::pki::{LOCK_TIMEOUT, Pki};
use crate::settings::Settings;
use crate::store::{self, Access, Lock};
use crate::timestamp::Timestamp;

/// What a restore did.
#[derive(Clone, Debug)]
pub struct Restored {
    /// How many events the backup held.
    pub lines: u64,
    /// Revocations that only the replaced directory knew of, and that were kept.
    pub kept_revocations: usize,
    /// Certificates that only the replaced directory knew of: they still work, and are not in the
    /// inventory any more.
    pub lost_leaves: usize,
    /// Where what was there before is now.
    pub set_aside: Option<PathBuf>,
}

/// Files by their path below the state directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

const BLOCK: usize = 512;

impl Pki {
    /// Writes everything that can't be made anew into the file `to`, which must not exist.
    ///
    /// # Errors
    /// Something can't be read or written; the inventory is not sound.
    pub fn backup(&self, to: &Path) -> Result<usize, Error> {
        let change = self.hold()?;
        let mut files = Files::new();
        for name in ["pki.json", "inventory.jsonl", "inventory.head"] {
            files.insert(PathBuf::from(name), store::read(&self.dir().join(name))?);
        }
        for authority in change.inventory.ledger().authorities() {
            let folder = Path::new("authorities").join(&authority.id);
            for name in ["cert.pem", "key.pem"] {
                if let Some(bytes) = store::read_if_there(&self.dir().join(&folder).join(name))? {
                    files.insert(folder.join(name), bytes);
                }
            }
            if let Some(bytes) = store::read_if_there(&self.crl_path(&authority.id))? {
                files.insert(
                    Path::new("crl").join(format!("{}.pem", authority.id)),
                    bytes,
                );
            }
        }
        let count = files.len();
        let to = std::path::absolute(to).map_err(Error::io("find", to))?;
        if fs::symlink_metadata(&to).is_ok() {
            return Err(Error::Failed(format!(
                "{} exists; a backup never takes the place of another, name a new file",
                to.display()
            )));
        }
        // Under its name it is whole: half a backup that looks like one is worse than none.
        store::replace(&to, &write_tar(&files, change.now), Access::Owner)?;
        Ok(count)
    }
}

/// Makes the state directory `dir` out of the backup `from`. One that died is finished by doing it
/// once more.
///
/// # Errors
/// The file is not a backup or is damaged; `dir` holds a sound state that the backup is older than.
pub fn restore(dir: &Path, from: &Path, clock: &Clock) -> Result<Restored, Error> {
    let files = read_tar(&store::read(from)?)
        .map_err(|why| Error::damaged(from, format!("not a backup of a CA: {why}")))?;
    store::make_dir(dir)?;
    let dir = std::path::absolute(dir).map_err(Error::io("find", dir))?;
    let lock = Lock::take(&dir, LOCK_TIMEOUT)?;
    store::sweep(&dir)?;
    // Built, checked and told what only the old state knows, all beside the old state: whenever
    // this dies, no directory that can be used has forgotten a revocation.
    let fresh = store::beside(&dir.join("x"))?;
    let now = Timestamp::now(clock);
    let made = unpack(&fresh, &files)
        .map_err(|why| match why {
            Error::Damaged { .. } => {
                Error::damaged(from, format!("the backup does not hold together: {why}"))
            }
            why => why,
        })
        .and_then(|backup| complete(&dir, backup, &lock, now));
    let made = match made {
        Ok(made) => made,
        Err(why) => {
            let _ = store::remove_tree(&fresh); // best effort: the next run sweeps
            return Err(why);
        }
    };
    let set_aside = set_aside(&dir, now)?;
    for name in PARTS {
        let part = fresh.join(name);
        if part.exists() {
            store::rename(&part, &dir.join(name))?;
        }
    }
    store::sync_dir(&dir)?;
    store::remove_tree(&fresh)?;
    Ok(Restored { set_aside, ..made })
}

/// What a state directory is made of. The settings come last: without them it counts as no CA, so
/// nothing is done with half of one.
const PARTS: [&str; 5] = [
    "authorities",
    "crl",
    "inventory.jsonl",
    "inventory.head",
    "pki.json",
];

/// Writes the files of a backup into the new folder `fresh`, and looks whether they hold together.
fn unpack(fresh: &Path, files: &Files) -> Result<Inventory, Error> {
    for own in [
        fresh.to_owned(),
        fresh.join("authorities"),
        fresh.join("crl"),
    ] {
        store::make_dir(&own)?;
    }
    for (path, bytes) in files {
        let path = fresh.join(path);
        if let Some(parent) = path.parent() {
            store::make_dir(parent)?;
        }
        let public = path.file_name().is_some_and(|name| name != "key.pem")
            && path.extension().is_some_and(|ext| ext == "pem");
        let access = if public {
            Access::Everyone
        } else {
            Access::Owner
        };
        store::create(&path, bytes, access)?;
    }
    Settings::load(fresh)?;
    let inventory = Inventory::load(fresh)?;
    for authority in inventory.ledger().authorities() {
        ca::certificate(fresh, authority)?;
    }
    Ok(inventory)
}

/// Adds to the inventory of the backup that it was restored, and what only the state in `dir`
/// knows.
fn complete(
    dir: &Path,
    mut backup: Inventory,
    lock: &Lock,
    now: Timestamp,
) -> Result<Restored, Error> {
    refuse_to_go_back(dir, &backup)?;
    let lost = Lost::between(dir, &backup, now)?;
    let done = Restored {
        lines: backup.lines(),
        kept_revocations: lost.revocations.len(),
        lost_leaves: lost.leaves.len(),
        set_aside: None,
    };
    let mut events = vec![Event::Restored { lines: done.lines }];
    events.extend(lost.revocations.into_values().map(Event::Revoked));
    events.extend(lost.crls.into_values().map(Event::Crl));
    backup.append(lock, now, events)?;
    Ok(done)
}

/// A sound state with events that the backup lacks is worth more than the backup.
fn refuse_to_go_back(dir: &Path, backup: &Inventory) -> Result<(), Error> {
    if !dir.join("inventory.jsonl").exists() {
        return Ok(());
    }
    let Ok(present) = Inventory::load(dir) else {
        return Ok(());
    };
    if Settings::load(dir).is_err()
        || present
            .ledger()
            .authorities()
            .iter()
            .any(|authority| ca::certificate(dir, authority).is_err())
    {
        return Ok(()); // damaged: that is what a restore is for
    }
    if present.lines() <= backup.lines() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} is sound and has {} events, the backup {}; it would forget certificates and lower CRL numbers. Restore into another --dir, or move this one away",
        dir.display(),
        present.lines(),
        backup.lines()
    )))
}

/// What the present inventory, sound or not, knows and the backup doesn't; and those that earlier
/// restores set aside, since one that died has moved the present one there.
#[derive(Default)]
struct Lost {
    /// By issuer and serial.
    revocations: BTreeMap<(String, String), Revoked>,
    /// The last CRL of each authority: its number must not be used again.
    crls: BTreeMap<String, Crl>,
    /// Serials.
    leaves: BTreeSet<String>,
}

impl Lost {
    fn between(dir: &Path, backup: &Inventory, now: Timestamp) -> Result<Self, Error> {
        let mut lost = Self::default();
        for folder in std::iter::once(dir.to_owned()).chain(all_set_aside(dir)?) {
            // A damaged one may hold bytes that are no text; the lines around them still count.
            let bytes = store::read_if_there(&folder.join("inventory.jsonl"))?.unwrap_or_default();
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(event) = serde_json::from_slice(line) {
                    lost.add(event, backup.ledger(), now);
                }
            }
        }
        Ok(lost)
    }

    fn add(&mut self, event: Event, ledger: &Ledger, now: Timestamp) {
        match event {
            Event::Revoked(revoked) | Event::RevocationAdopted(revoked)
                if ledger
                    .revocation(&revoked.issuer, &revoked.serial)
                    .is_none() =>
            {
                let which = (revoked.issuer.clone(), revoked.serial.clone());
                self.revocations.insert(which, revoked);
            }
            Event::Issued(leaf) | Event::LeafAdopted(leaf)
                if ledger.leaf(&leaf.serial).is_none() =>
            {
                self.leaves.insert(leaf.serial);
            }
            Event::Crl(crl) | Event::CrlAdopted(crl) => {
                // Numbers follow the clock; one from far ahead was never ours and would leave no
                // higher one.
                let known = [ledger.crl(&crl.issuer), self.crls.get(&crl.issuer)];
                let newer = known
                    .into_iter()
                    .flatten()
                    .all(|known| known.number < crl.number);
                let ours =
                    ledger.authority(&crl.issuer).is_some() && crl.number < now.plus(86_400).0;
                if newer && ours {
                    self.crls.insert(crl.issuer.clone(), crl);
                }
            }
            _ => {}
        }
    }
}

/// What folders are called in which a restore keeps what it replaced.
const ASIDE: &str = "before-restore-";

/// The states that restores have set aside.
fn all_set_aside(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Moves what is there into a folder of its own: a restore must not be the end of the only
/// evidence.
fn set_aside(dir: &Path, now: Timestamp) -> Result<Option<PathBuf>, Error> {
    if !PARTS.iter().any(|name| dir.join(name).exists()) {
        return Ok(None);
    }
    let name = |again: usize| match again {
        0 => format!("{ASIDE}{}", now.0),
        again => format!("{ASIDE}{}-{again}", now.0),
    };
    // Twice within a second, or with a clock that was set back, is another folder.
    let mut fresh = (0..).map(|again| dir.join(name(again)));
    let aside = fresh
        .find(|path| !path.exists())
        .unwrap_or_else(|| dir.join(ASIDE));
    store::make_dir(&aside)?;
    for name in PARTS {
        let path = dir.join(name);
        if path.exists() {
            store::rename(&path, &aside.join(name))?;
        }
    }
    store::sync_dir(&aside)?;
    store::sync_dir(dir)?;
    Ok(Some(aside))
}

/// Writes a POSIX ustar archive.
fn write_tar(files: &Files, now: Timestamp) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, bytes) in files {
        let mut header = [0_u8; BLOCK];
        put(&mut header, 0, path.to_string_lossy().as_bytes());
        put(&mut header, 100, b"0000600\0");
        put(&mut header, 108, b"0000000\0");
        put(&mut header, 116, b"0000000\0");
        put(
            &mut header,
            124,
            format!("{:011o}\0", bytes.len()).as_bytes(),
        );
        put(&mut header, 136, format!("{:011o}\0", now.0).as_bytes());
        put(&mut header, 148, b"        ");
        put(&mut header, 156, b"0");
        put(&mut header, 257, b"ustar\0");
        put(&mut header, 263, b"00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn put(header: &mut [u8; BLOCK], at: usize, text: &[u8]) {
    for (place, byte) in header.iter_mut().skip(at).zip(text) {
        *place = *byte;
    }
}

/// Reads a tar archive of ours; any name that is not one of ours is refused, so nothing can be
/// written outside the directory.
fn read_tar(tar: &[u8]) -> Result<Files, String> {
    let mut files = Files::new();
    let mut rest = tar;
    loop {
        let (header, after) = rest.split_at_checked(BLOCK).ok_or("it is cut")?;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let text = |from: usize, length: usize| {
            let field = header.get(from..from + length).unwrap_or_default();
            String::from_utf8_lossy(field)
                .trim_end_matches(['\0', ' '])
                .trim_start()
                .to_owned()
        };
        let sum: u32 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        let octal = |text: &str| {
            usize::from_str_radix(text.trim_matches(['\0', ' ']), 8)
                .map_err(|_| "a number in it is none".to_owned())
        };
        if octal(&text(148, 8))? != sum as usize {
            return Err("a checksum in it is wrong".to_owned());
        }
        let (name, size) = (PathBuf::from(text(0, 100)), octal(&text(124, 12))?);
        let kind = header.get(156).copied().unwrap_or(0);
        let body = after.get(..size).ok_or("it is cut")?;
        if kind != b'0' || !is_ours(&name) {
            return Err(format!(
                "it holds `{}`, which no backup has",
                name.display()
            ));
        }
        files.insert(name, body.to_vec());
        rest = after
            .get(size.next_multiple_of(BLOCK)..)
            .ok_or("it is cut")?;
    }
    for wanted in ["pki.json", "inventory.jsonl"] {
        if !files.contains_key(Path::new(wanted)) {
            return Err(format!("it lacks {wanted}"));
        }
    }
    Ok(files)
}

fn is_ours(path: &Path) -> bool {
    let parts: Option<Vec<&str>> = path
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    match parts.as_deref() {
        Some(["pki.json" | "inventory.jsonl" | "inventory.head"]) => true,
        Some(["authorities", _, "cert.pem" | "key.pem"]) => true,
        Some(["crl", name]) => name.ends_with(".pem"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Files {
        let names = [
            "pki.json",
            "inventory.jsonl",
            "authorities/root-g1/key.pem",
            "crl/root-g1.pem",
        ];
        names
            .iter()
            .enumerate()
            .map(|(at, name)| (PathBuf::from(name), vec![b'x'; at * 300]))
            .collect()
    }

    #[test]
    fn an_archive_reads_back() {
        assert_eq!(
            read_tar(&write_tar(&sample(), Timestamp(1))).unwrap(),
            sample()
        );
    }

    #[test]
    fn a_cut_or_changed_archive_is_refused() {
        let tar = write_tar(&sample(), Timestamp(1));
        assert!(read_tar(&tar[..tar.len() / 2]).is_err());
        let mut changed = tar.clone();
        changed[3] ^= 1;
        assert!(read_tar(&changed).is_err());
    }

    #[test]
    fn nothing_outside_the_directory_can_be_written() {
        for name in [
            "../pki.json",
            "/etc/passwd",
            "authorities/../../x/cert.pem",
            "out/plugin/a/key.pem",
        ] {
            let mut files = sample();
            files.insert(PathBuf::from(name), vec![1]);
            assert!(
                read_tar(&write_tar(&files, Timestamp(1))).is_err(),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = read_tar(&bytes);
        }
    }
}
