//! Keeps the deny list and the companies' files in step with the disk while the program runs.
//!
//! In: the file and the folder, looked at twice a second, and a nudge (SIGHUP). Out: what is in force behind one pointer each, a
//! word to every open stream that something changed, and the alarms `deny` and `tenants` while something is wrong. What to make
//! of a text is decided in `deny` and `tenants`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use gapura_protocol::clock::Clock;
use gapura_runtime::reload::asked::Asked;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use tokio::sync::watch;

use super::deny::DenyList;
use super::logouts::Logouts;
use super::tenants::{self, BOUNDS, Built, State};
use super::{Inner, Settings, Standing};
use crate::registry::{Bounds, Snapshot, Stamp, keep_files};

/// The task that follows both. Dropping it ends the following and nothing else.
pub(crate) struct Watcher {
    standing: Standing,
    log: Log,
    alarms: Alarms,
    deny: Option<DenyWatch>,
    tenants: Option<TenantsWatch>,
    /// Looks until old logouts are forgotten.
    until_tidied: u32,
}

struct DenyWatch {
    file: PathBuf,
    copy: Option<PathBuf>,
    stamp: Stamp,
    /// What was last made of it, whether good or not.
    seen: Result<Arc<[u8]>, String>,
    /// What is in force, to be copied.
    good: Arc<[u8]>,
    copied: bool,
    until_full_read: u32,
}

struct TenantsWatch {
    folder: PathBuf,
    copy: Option<PathBuf>,
    stamp: Stamp,
    snapshot: Snapshot,
    state: State,
    copied: bool,
    /// Looks until the files are read whatever their stamps say.
    until_full_read: u32,
}

/// Two looks and a settled reading stay well under the promised two seconds.
const POLL: Duration = Duration::from_millis(500);

/// What is read is taken once two readings this far apart agree.
const SETTLE: Duration = Duration::from_millis(50);

/// After so many readings that differ the last one is taken.
const SETTLE_TRIES: u32 = 8;

/// Every ten seconds the files are compared byte by byte: a stamp can miss a write within one tick of the file system's clock.
const FULL_READ_POLLS: u32 = 20;

/// Every half minute logouts that count no more are forgotten.
const TIDY_POLLS: u32 = 60;

/// A hundred thousand entries and more.
const DENY_MAX: u64 = 16 << 20;

/// The copy of the deny list is a folder of one file.
const ONE: Bounds = Bounds {
    files: 4096,
    mebibytes: 16,
    what: "the copy of the deny list",
};
const COPY_OF_DENY: &str = "deny.json";

impl Standing {
    /// Reads both for the first time.
    ///
    /// # Errors
    /// Every fault, a sentence each, unless there is a last good copy to start from.
    pub(crate) fn open(
        settings: &Settings,
        clock: &Clock,
        log: &Log,
        alarms: &Alarms,
    ) -> Result<(Self, Watcher), Vec<String>> {
        let mut faults = Vec::new();
        let copy = |name: &str| settings.last_good.as_ref().map(|dir| dir.join(name));
        let deny = settings.deny.as_deref().and_then(|file| {
            DenyWatch::open(file, copy("deny"), alarms)
                .map_err(|all| faults.extend(all))
                .ok()
        });
        let tenants = settings.tenants.as_deref().and_then(|folder| {
            TenantsWatch::open(folder, copy("tenants"), log, alarms)
                .map_err(|all| faults.extend(all))
                .ok()
        });
        let logouts = settings.logouts.as_ref().and_then(|kept| {
            Logouts::open(kept, clock, alarms)
                .map_err(|fault| faults.push(fault))
                .ok()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let (deny, deny_list) = deny.unzip();
        let (tenants, table) = tenants.unzip();
        let standing = Self(Arc::new(Inner {
            deny: deny_list.map(ArcSwap::from_pointee),
            tenants: table.map(ArcSwap::from_pointee),
            logouts,
            changed: watch::channel(0).0,
            streams_ended: AtomicU64::default(),
        }));
        let watcher = Watcher {
            standing: standing.clone(),
            log: log.clone(),
            alarms: alarms.clone(),
            deny,
            tenants,
            until_tidied: TIDY_POLLS,
        };
        Ok((standing, watcher))
    }
}

impl Watcher {
    /// Follows both until it is dropped; `reload` says that somebody asks for it now.
    pub(crate) async fn run(mut self, mut reload: Asked) {
        if self.deny.is_none() && self.tenants.is_none() && self.standing.0.logouts.is_none() {
            return;
        }
        let mut asked = false;
        loop {
            self.look(asked).await;
            asked = tokio::select! {
                () = tokio::time::sleep(POLL) => false,
                () = reload.changed() => true,
            };
        }
    }

    /// One look at both, and what follows from it.
    async fn look(&mut self, asked: bool) {
        let (log, alarms, inner) = (&self.log, &self.alarms, &self.standing.0);
        let mut changed = false;
        if let (Some(watch), Some(slot)) = (&mut self.deny, &inner.deny) {
            if let Some(list) = watch.look(asked, log, alarms).await {
                slot.store(Arc::new(list));
                changed = true;
            }
            watch.keep_copy(alarms).await;
        }
        if let (Some(watch), Some(slot)) = (&mut self.tenants, &inner.tenants) {
            if let Some(built) = watch.look(asked).await {
                slot.store(Arc::new(watch.publish(built, log, alarms)));
                changed = true;
            }
            watch.keep_copy(alarms).await;
        }
        self.until_tidied = self.until_tidied.saturating_sub(1);
        if self.until_tidied == 0 && inner.logouts.is_some() {
            self.until_tidied = TIDY_POLLS;
            let standing = self.standing.clone();
            aside(move || standing.0.logouts.as_ref().map(Logouts::tidy)).await;
        }
        if changed {
            inner.changed.send_modify(|generation| *generation += 1);
        }
    }
}

impl DenyWatch {
    fn open(
        file: &Path,
        copy: Option<PathBuf>,
        alarms: &Alarms,
    ) -> Result<(Self, DenyList), Vec<String>> {
        let stamp = Stamp::take_within(file, &ONE);
        let seen = read_text(file);
        let watch = |good: Arc<[u8]>| Self {
            file: file.to_owned(),
            copy: copy.clone(),
            stamp: stamp.clone(),
            seen: seen.clone(),
            good,
            copied: false,
            until_full_read: FULL_READ_POLLS,
        };
        let faults = match judge(file, &seen) {
            Ok((list, text)) => return Ok((watch(text), list)),
            Err(faults) => faults,
        };
        let kept = copy
            .as_ref()
            .and_then(|copy| judge(file, &read_text(&copy.join(COPY_OF_DENY))).ok());
        let Some((list, text)) = kept else {
            return Err(faults
                .into_iter()
                .map(|fault| format!("--deny {fault}"))
                .collect());
        };
        raise(
            alarms,
            Alarm::Deny,
            "the deny list is faulty, the last good copy is in force",
            &faults,
        );
        Ok((watch(text), list))
    }

    /// The next list, if there is one.
    async fn look(&mut self, asked: bool, log: &Log, alarms: &Alarms) -> Option<DenyList> {
        let file = self.file.clone();
        let stamp = aside(move || Stamp::take_within(&file, &ONE)).await?;
        self.until_full_read = self.until_full_read.saturating_sub(1);
        if stamp == self.stamp && !asked && self.until_full_read > 0 {
            return None;
        }
        self.until_full_read = FULL_READ_POLLS;
        self.stamp = stamp;
        let read = || {
            let file = self.file.clone();
            aside(move || read_text(&file))
        };
        let mut seen = read().await?;
        if seen == self.seen && !asked {
            return None;
        }
        for _ in 0..SETTLE_TRIES {
            tokio::time::sleep(SETTLE).await;
            let again = read().await?;
            if again == seen {
                break;
            }
            seen = again;
        }
        self.seen = seen;
        let (file, seen) = (self.file.clone(), self.seen.clone());
        match aside(move || judge(&file, &seen)).await? {
            Ok((list, text)) => {
                alarms.clear(Alarm::Deny);
                if text == self.good {
                    return None;
                }
                self.good = text;
                self.copied = false;
                log.event(Level::Info, "deny_list", "a new deny list is in force", &[]);
                Some(list)
            }
            Err(faults) => {
                raise(
                    alarms,
                    Alarm::Deny,
                    "the deny list is faulty, the last good one stays in force",
                    &faults,
                );
                None
            }
        }
    }

    async fn keep_copy(&mut self, alarms: &Alarms) {
        let Some(folder) = self.copy.clone().filter(|_| !self.copied) else {
            return;
        };
        self.copied = true;
        let text = self.good.clone();
        let write = move || keep_files(&folder, [(COPY_OF_DENY, &*text)].into_iter(), &ONE);
        copied(alarms, aside(write).await);
    }
}

impl TenantsWatch {
    fn open(
        folder: &Path,
        copy: Option<PathBuf>,
        log: &Log,
        alarms: &Alarms,
    ) -> Result<(Self, tenants::Tenants), Vec<String>> {
        let stamp = Stamp::take_within(folder, &BOUNDS);
        let snapshot = Snapshot::take_within(folder, &BOUNDS);
        let now = Instant::now();
        let mut built = tenants::build(None, &snapshot, now);
        if !built.faults.is_empty() {
            let kept = copy
                .as_ref()
                .map(|copy| Snapshot::take_within(copy, &BOUNDS))
                .filter(|copy| copy.files.as_ref().is_ok_and(|files| !files.is_empty()))
                .map(|copy| tenants::build(None, &copy, now))
                .filter(|kept| kept.faults.is_empty());
            let Some(kept) = kept else {
                let faults = built.faults.iter();
                return Err(faults.map(|fault| format!("--tenants {fault}")).collect());
            };
            // As if the program had been running all along.
            built = tenants::build(Some(&kept.state), &snapshot, now);
        }
        let mut watch = Self {
            folder: folder.to_owned(),
            copy,
            stamp,
            snapshot,
            state: State::default(),
            copied: false,
            until_full_read: FULL_READ_POLLS,
        };
        let table = watch.publish(built, log, alarms);
        Ok((watch, table))
    }

    /// What the folder's change comes to, if it has changed or a hold is over.
    async fn look(&mut self, asked: bool) -> Option<Built> {
        let folder = self.folder.clone();
        let stamp = aside(move || Stamp::take_within(&folder, &BOUNDS)).await?;
        self.until_full_read = self.until_full_read.saturating_sub(1);
        let mut is_new = asked;
        if asked || stamp != self.stamp || self.until_full_read == 0 {
            self.until_full_read = FULL_READ_POLLS;
            self.stamp = stamp;
            let now = self.settled().await?;
            is_new |= now != self.snapshot;
            self.snapshot = now;
        }
        let next = self.state.next_change();
        if !is_new && next.is_none_or(|at| at > Instant::now()) {
            return None;
        }
        let (state, snapshot) = (self.state.clone(), self.snapshot.clone());
        aside(move || tenants::build(Some(&state), &snapshot, Instant::now())).await
    }

    /// The folder, once two readings agree.
    async fn settled(&self) -> Option<Snapshot> {
        let read = || {
            let folder = self.folder.clone();
            aside(move || Snapshot::take_within(&folder, &BOUNDS))
        };
        let mut last = read().await?;
        if last == self.snapshot {
            return Some(last);
        }
        for _ in 0..SETTLE_TRIES {
            tokio::time::sleep(SETTLE).await;
            let now = read().await?;
            if now == last {
                break;
            }
            last = now;
        }
        Some(last)
    }

    /// Says what a reload came to, and gives back what is to be in force.
    fn publish(&mut self, built: Built, log: &Log, alarms: &Alarms) -> tenants::Tenants {
        let Built {
            table,
            state,
            faults,
            warnings,
        } = built;
        for warning in warnings {
            log.event(Level::Warn, "tenants_warning", &warning, &[]);
        }
        let message = format!("the files of {} companies are in force", table.len());
        log.event(Level::Info, "tenants", &message, &[]);
        if faults.is_empty() {
            alarms.clear(Alarm::Tenants);
        } else {
            let what = "the companies' files are faulty, what was in force stays and companies without any are suspended";
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            raise(alarms, Alarm::Tenants, what, &faults);
        }
        self.state = state;
        self.copied = false;
        table
    }

    async fn keep_copy(&mut self, alarms: &Alarms) {
        let Some(folder) = self.copy.clone().filter(|_| !self.copied) else {
            return;
        };
        self.copied = true;
        let state = self.state.clone();
        let write = move || keep_files(&folder, state.texts(), &BOUNDS);
        copied(alarms, aside(write).await);
    }
}

fn copied(alarms: &Alarms, written: Option<std::io::Result<()>>) {
    if let Some(Err(error)) = written {
        let sentence = format!(
            "the last good copy of the deny list or the companies' files can't be written, a restart may fail: {error}"
        );
        alarms.raise(Alarm::LastGood, &sentence);
    }
}

/// The file's text, or why there is none.
fn read_text(file: &Path) -> Result<Arc<[u8]>, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    let stat = fs::metadata(file).map_err(unreadable)?;
    // Opening a pipe would wait for a writer.
    if !stat.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut text = Vec::new();
    fs::File::open(file)
        .and_then(|file| file.take(DENY_MAX + 1).read_to_end(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > DENY_MAX {
        return Err("is longer than 16 MiB".to_owned());
    }
    Ok(text.into())
}

/// The list that a text is, or every fault with the file's name.
fn judge(
    file: &Path,
    text: &Result<Arc<[u8]>, String>,
) -> Result<(DenyList, Arc<[u8]>), Vec<String>> {
    let file = file.display();
    match text {
        Err(message) => Err(vec![format!("{file}: {message}")]),
        Ok(text) => match DenyList::read(text) {
            Ok(list) => Ok((list, text.clone())),
            Err(faults) => Err(faults
                .iter()
                .map(|fault| format!("{file}:{fault}"))
                .collect()),
        },
    }
}

fn raise(alarms: &Alarms, alarm: Alarm, what: &str, faults: &[String]) {
    let first = faults.first().map(String::as_str).unwrap_or_default();
    let more = match faults.len() {
        0 | 1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    alarms.raise(alarm, &format!("{what}: {first}{more}"));
}

/// Runs what may wait for a disk off the program's thread; `None` if the runtime is ending.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests;
