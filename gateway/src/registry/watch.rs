//! Keeps the table in step with the folder while the program runs.
//!
//! In: the folder, looked at twice a second, and a nudge (SIGHUP). Out: the next [`Table`] behind one pointer, a log line for each
//! fault and change, the alarm `registry` while anything is wrong, and the numbers for the metrics. Polling sees everything:
//! files, renames, a ConfigMap's swap, and file systems that tell nobody. What to make of the folder is decided in `build`; each
//! plugin of the table gets its [`Cluster`] here, the same as before where it is reached as before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use gapura_runtime::reload::asked::Asked;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};

use super::build::{Built, State, build};
use super::fault::FileFault;
use super::folder::{Snapshot, Stamp};
use super::last_good;
use super::rules::Rules;
use super::table::Table;
use crate::upstream::cluster::{Cluster, Clusters};

/// Where the registry is read from, and what is acceptable there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Where a copy of what is in force is kept.
    pub last_good: Option<PathBuf>,
    /// What makes a file acceptable.
    pub rules: Rules,
}

/// The registry as the rest of the gateway sees it. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    table: Arc<ArcSwap<Table<Arc<Cluster>>>>,
    counts: Arc<Counts>,
}

/// The registry's numbers, for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Reloads without a fault.
    pub ok: AtomicU64,
    /// Reloads with one.
    pub faulty: AtomicU64,
    /// Files with a fault, now.
    pub faulty_files: AtomicU64,
}

/// The task that follows the folder. Dropping it, or the future of `run`, ends the following and nothing else.
pub struct Watcher {
    settings: Settings,
    registry: Registry,
    log: Log,
    alarms: Alarms,
    clusters: Clusters,
    state: State,
    stamp: Stamp,
    snapshot: Snapshot,
    faults: Vec<FileFault>,
    warnings: Vec<String>,
    /// Polls until the files are read whatever their stamps say.
    until_full_read: u32,
}

/// Two looks and a settled reading stay well under the promised two seconds.
const POLL: Duration = Duration::from_millis(500);

/// A file is taken once two readings this far apart agree: an editor that truncates first is rarely slower.
const SETTLE: Duration = Duration::from_millis(50);

/// After so many readings that differ, the last one is taken: a folder that never rests must not be ignored.
const SETTLE_TRIES: u32 = 8;

/// Every ten seconds the files are compared byte by byte: a stamp can miss a write within one tick of the file system's clock.
const FULL_READ_POLLS: u32 = 20;

/// What a start would make of the folder, without starting anything.
#[must_use]
pub fn check(settings: &Settings) -> Built {
    build(
        None,
        &Snapshot::take(&settings.folder),
        &settings.rules,
        Instant::now(),
    )
}

impl Registry {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// Every fault of the folder, unless there is a last good copy to start from. Of a copy that is faulty itself, its faults too.
    pub(crate) fn open(
        settings: Settings,
        clusters: Clusters,
        log: &Log,
        alarms: &Alarms,
    ) -> Result<(Self, Watcher), Vec<FileFault>> {
        let stamp = Stamp::take(&settings.folder);
        let snapshot = Snapshot::take(&settings.folder);
        let now = Instant::now();
        let copy = settings
            .last_good
            .as_ref()
            .map(|folder| Snapshot::take(folder))
            .filter(|copy| copy.files.as_ref().is_ok_and(|files| !files.is_empty()));
        let mut built = build(None, &snapshot, &settings.rules, now);
        let is_bare = built.state.is_empty();
        if !built.faults.is_empty() || is_bare {
            if let Some(copy) = copy {
                let from_copy = build(None, &copy, &settings.rules, now);
                if !from_copy.faults.is_empty() {
                    return Err(built.faults.into_iter().chain(from_copy.faults).collect());
                }
                // As if the program had been running all along: good files take effect, the others keep their copy.
                built = build(Some(&from_copy.state), &snapshot, &settings.rules, now);
                log.event(
                    Level::Warn,
                    "registry_last_good",
                    "the plugin folder is faulty; started from the last good copy",
                    &[],
                );
            } else if !built.faults.is_empty() {
                return Err(built.faults);
            }
        }
        let registry = Self {
            table: Arc::default(),
            counts: Arc::default(),
        };
        let mut watcher = Watcher {
            settings,
            registry: registry.clone(),
            log: log.clone(),
            alarms: alarms.clone(),
            clusters,
            state: State::default(),
            stamp,
            snapshot,
            faults: Vec::new(),
            warnings: Vec::new(),
            until_full_read: FULL_READ_POLLS,
        };
        watcher.publish(built, true);
        if let Some(folder) = &watcher.settings.last_good {
            watcher.last_good_written(last_good::write(folder, &watcher.state));
        }
        Ok((registry, watcher))
    }

    /// The table in force, for as long as one look needs it.
    #[must_use]
    pub(crate) fn load(&self) -> Guard<Arc<Table<Arc<Cluster>>>> {
        self.table.load()
    }

    /// The table in force, to keep.
    #[must_use]
    pub(crate) fn table(&self) -> Arc<Table<Arc<Cluster>>> {
        self.table.load_full()
    }

    /// The numbers for the metrics.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Watcher {
    /// Follows the folder until it is dropped. Who asks has it read again, changed or not.
    pub async fn run(mut self, mut reload: Asked) {
        loop {
            let nudged = tokio::select! {
                () = tokio::time::sleep(POLL) => false,
                () = reload.changed() => true,
            };
            self.look(nudged).await;
        }
    }

    /// What is allowed and worth a look in what was read last.
    #[must_use]
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One look at the folder, and what follows from it.
    async fn look(&mut self, nudged: bool) {
        let folder = self.settings.folder.clone();
        let Some(stamp) = aside(move || Stamp::take(&folder)).await else {
            return;
        };
        self.until_full_read = self.until_full_read.saturating_sub(1);
        let is_read = nudged || stamp != self.stamp || self.until_full_read == 0;
        if is_read {
            self.until_full_read = FULL_READ_POLLS;
            let before = self.snapshot.clone();
            self.stamp = stamp;
            self.snapshot = self.settled().await;
            if nudged || self.snapshot != before {
                return self.rebuild(nudged, true).await;
            }
        }
        if self
            .state
            .next_change()
            .is_some_and(|at| at <= Instant::now())
        {
            self.rebuild(false, false).await;
        }
    }

    /// The folder, once two readings agree.
    async fn settled(&self) -> Snapshot {
        let read = || {
            let folder = self.settings.folder.clone();
            aside(move || Snapshot::take(&folder))
        };
        let mut last = self.snapshot.clone();
        for _ in 0..SETTLE_TRIES {
            let Some(now) = read().await else { return last };
            if now == last {
                return now;
            }
            last = now;
            tokio::time::sleep(SETTLE).await;
        }
        last
    }

    async fn rebuild(&mut self, nudged: bool, is_reload: bool) {
        let built = build(
            Some(&self.state),
            &self.snapshot,
            &self.settings.rules,
            Instant::now(),
        );
        if nudged {
            // Whoever asked wants to be told again.
            self.faults.clear();
        }
        self.publish(built, is_reload);
        if let Some(folder) = self.settings.last_good.clone() {
            let state = self.state.clone();
            let written = aside(move || last_good::write(&folder, &state)).await;
            self.last_good_written(written.unwrap_or(Ok(())));
        }
    }

    /// Puts a table in force and says so.
    fn publish(&mut self, built: Built, is_reload: bool) {
        let Built {
            table,
            state,
            faults,
            warnings,
            changes,
        } = built;
        let files: BTreeSet<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
        self.registry
            .counts
            .faulty_files
            .store(files.len() as u64, Ordering::Relaxed);
        if is_reload {
            let count = if faults.is_empty() {
                &self.registry.counts.ok
            } else {
                &self.registry.counts.faulty
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        let table = table.run(|plugin| self.clusters.of(plugin));
        self.registry.table.store(Arc::new(table));
        for change in changes {
            self.log.event(Level::Info, "registry_change", &change, &[]);
        }
        for warning in &warnings {
            self.log
                .event(Level::Warn, "registry_warning", warning, &[]);
        }
        self.warnings = warnings;
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            self.log.event(
                Level::Error,
                "registry_fault",
                &fault.to_string(),
                &[("file", fault.file.as_str().into())],
            );
        }
        match faults.first() {
            None => self.alarms.clear(Alarm::Registry),
            Some(first) => {
                let more = faults.len() - 1;
                let more = if more == 0 {
                    String::new()
                } else {
                    format!(", and {more} more")
                };
                self.alarms.raise(
                    Alarm::Registry,
                    &format!("the plugin folder is faulty, what was in force stays: {first}{more}"),
                );
            }
        }
        self.faults = faults;
        self.state = state;
    }

    fn last_good_written(&self, written: std::io::Result<()>) {
        match written {
            Ok(()) => self.alarms.clear(Alarm::LastGood),
            Err(err) => {
                let sentence = format!(
                    "the last good copy of the plugin files can't be written, a restart may fail: {err}"
                );
                self.alarms.raise(Alarm::LastGood, &sentence);
            }
        }
    }
}

/// Runs what may wait for a disk off the worker's thread; `None` if the runtime is ending.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

#[cfg(test)]
mod tests;
