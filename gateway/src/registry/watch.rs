//! Keeps the table in step with the folder while the program runs.
//!
//! In: the folder, followed by a [`FileWatch`]. Out: the next [`Table`] behind one pointer, a log
//! line for each fault and change, the alarm `registry` while anything is wrong, and the numbers
//! for the metrics. What to make of the folder is decided in `build`; each plugin of the table gets
//! what is [`Running`] for it here, the same as before where it is reached as before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use gapura_files::directory::Stamp;
use gapura_reload::asked::Asked;
use gapura_reload::watch::{Digest, FileWatch, Follower, Pace, Why, blocking};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};

use super::build::{Built, State, build};
use super::fault::FileFault;
use super::folder::{PLUGINS, Snapshot, reading, stamp};
use super::journal::Journal;
use super::last_good;
use super::rules::Rules;
use super::table::Table;
use crate::upstream::cluster::{Clusters, Running};

/// Where the registry is read from, and what is acceptable there.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Where a copy of what is in force is kept.
    pub last_good: Option<PathBuf>,
    /// What makes a file acceptable.
    pub rules: Rules,
}

/// The registry as the rest of the gateway sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry {
    table: Arc<ArcSwap<Table<Running>>>,
    counts: Arc<Counts>,
    journal: Arc<ArcSwap<Journal>>,
}

/// The registry's numbers, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Reloads without a fault.
    pub ok: AtomicU64,
    /// Reloads with one.
    pub faulty: AtomicU64,
    /// Files with a fault, now.
    pub faulty_files: AtomicU64,
}

/// The task that follows the folder. Dropping it, or the future of `run`, ends the following and
/// nothing else.
pub(crate) struct Watcher {
    settings: Settings,
    registry: Registry,
    log: Log,
    alarms: Alarms,
    clusters: Clusters,
    state: State,
    /// The folder as it was read first.
    seen: (Stamp, Digest),
    faults: Vec<FileFault>,
    warnings: Vec<String>,
}

/// Two looks and a settled reading stay well under the promised two seconds.
const PACE: Pace = Pace {
    look: Duration::from_millis(500),
    read: Duration::from_secs(10),
};

/// What a start would make of the folder, without starting anything.
#[must_use]
pub(crate) fn check(settings: &Settings) -> Built {
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
    /// Every fault of the folder, unless there is a last good copy to start from. Of a copy that is
    /// faulty itself, its faults too.
    pub(crate) fn open(
        settings: Settings,
        clusters: Clusters,
        log: &Log,
        alarms: &Alarms,
    ) -> Result<(Self, Watcher), Vec<FileFault>> {
        let stamp = stamp(&settings.folder, &PLUGINS);
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
                // As if the program had been running all along: good files take effect, the others
                // keep their copy.
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
            journal: Arc::default(),
        };
        let mut watcher = Watcher {
            settings,
            registry: registry.clone(),
            log: log.clone(),
            alarms: alarms.clone(),
            clusters,
            state: State::default(),
            seen: (stamp, snapshot.digest()),
            faults: Vec::new(),
            warnings: Vec::new(),
        };
        watcher.publish(built, &snapshot, true);
        if let Some(folder) = &watcher.settings.last_good {
            watcher.last_good_written(last_good::write(folder, &watcher.state));
        }
        Ok((registry, watcher))
    }

    /// The table in force, for as long as one look needs it.
    #[must_use]
    pub(crate) fn load(&self) -> Guard<Arc<Table<Running>>> {
        self.table.load()
    }

    /// The table in force, to keep.
    #[must_use]
    pub(crate) fn table(&self) -> Arc<Table<Running>> {
        self.table.load_full()
    }

    /// What stands in the folder, and what became different.
    #[must_use]
    pub(crate) fn journal(&self) -> Arc<Journal> {
        self.journal.load_full()
    }

    /// The numbers for the metrics.
    #[must_use]
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Watcher {
    /// Follows the folder until it is dropped. Who asks has it read again, changed or not.
    pub(crate) async fn run(self, asked: Asked) {
        let (looked_at, folder) = (self.settings.folder.clone(), self.settings.folder.clone());
        let watch = FileWatch::new(
            PACE,
            self.seen.clone(),
            move || stamp(&looked_at, &PLUGINS),
            move || reading(&folder, &PLUGINS),
        );
        watch.run(self, asked).await;
    }

    /// What is allowed and worth a look in what was read last.
    #[must_use]
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Puts a table in force and says so.
    fn publish(&mut self, built: Built, snapshot: &Snapshot, is_reload: bool) {
        let journal = self.registry.journal.load();
        let journal = journal.next(snapshot, &built, self.log.clock().now());
        self.registry.journal.store(Arc::new(journal));
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
        let table = self.clusters.run(table);
        self.registry.table.store(Arc::new(table));
        for change in changes {
            self.log.event(Level::Info, "registry_change", &change, &[]);
        }
        for warning in &warnings {
            self.log
                .event(Level::Warn, "registry_warning", warning, &[]);
        }
        self.warnings = warnings;
        // Both are in order.
        let is_new = |fault: &&FileFault| self.faults.binary_search(fault).is_err();
        for fault in faults.iter().filter(is_new) {
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

impl Follower<Snapshot> for Watcher {
    /// A hold is over.
    fn is_due(&self) -> bool {
        let next = self.state.next_change();
        next.is_some_and(|at| at <= Instant::now())
    }

    async fn take(&mut self, snapshot: Snapshot, why: Why) {
        if why == Why::Unchanged {
            return;
        }
        if why == Why::Asked {
            // Whoever asked wants to be told again.
            self.faults.clear();
        }
        let rules = &self.settings.rules;
        let built = build(Some(&self.state), &snapshot, rules, Instant::now());
        self.publish(built, &snapshot, why != Why::Due);
        if let Some(folder) = self.settings.last_good.clone() {
            let state = self.state.clone();
            let written = blocking(move || last_good::write(&folder, &state)).await;
            self.last_good_written(written.unwrap_or(Ok(())));
        }
    }
}

#[cfg(test)]
mod tests;
