//! What became of the folder's files, as the operator's page shows it.
//!
//! In: each reading of the folder and what was made of it. Out: every file with what is in force of
//! it and since when, what is wrong with it and where, and the last changes. Decides nothing; what
//! it keeps is as much as the folder has files.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use gapura_settings::json::Position;

use super::build::Built;
use super::excerpt::Excerpt;
use super::fault::FileFault;
use super::folder::{File, Snapshot};
use super::plugin::Plugin;

/// The folder as it was read last, and the last changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The folder.
    pub(crate) folder: String,
    /// When something of it was last read anew.
    pub(crate) read: Option<SystemTime>,
    /// Every file, in the order of their names.
    pub(crate) files: Vec<FileSeen>,
    /// What is wrong with the folder itself.
    pub(crate) faults: Vec<String>,
    /// What became different, the latest first.
    pub(crate) changes: VecDeque<(SystemTime, String)>,
}

/// One file of the folder.
#[derive(Clone, Debug)]
pub(crate) struct FileSeen {
    /// Its name.
    pub(crate) name: String,
    /// What is in force of it.
    pub(crate) in_force: Option<Arc<Plugin>>,
    /// Since when.
    pub(crate) since: Option<SystemTime>,
    /// Whether that is what stands in the file now.
    pub(crate) is_current: bool,
    /// What is wrong with it.
    pub(crate) faults: Vec<FaultSeen>,
}

/// One mistake.
#[derive(Clone, Debug)]
pub(crate) struct FaultSeen {
    /// Where.
    pub(crate) position: Option<Position>,
    /// What, and what to do about it.
    pub(crate) message: String,
    /// The line.
    pub(crate) excerpt: Option<Excerpt>,
}

/// As many as anybody looks back.
const CHANGES: usize = 20;

/// More mistakes of one file than anybody mends at once.
const FAULTS: usize = 20;

impl Journal {
    /// The next page: what was read at `now`, and what was made of it.
    pub(super) fn next(&self, snapshot: &Snapshot, built: &Built, now: SystemTime) -> Self {
        let mut changes = self.changes.clone();
        for change in &built.changes {
            changes.push_front((now, change.clone()));
        }
        changes.truncate(CHANGES);
        let Ok(files) = &snapshot.files else {
            return Self {
                faults: self.of_folder(&built.faults),
                changes,
                ..self.clone()
            };
        };
        let kept = files.is_empty() && !built.state.is_empty();
        let mut faults: BTreeMap<&str, Vec<&FileFault>> = BTreeMap::new();
        for fault in &built.faults {
            faults.entry(&fault.file).or_default().push(fault);
        }
        let before = self.files.iter().map(|seen| (&*seen.name, seen));
        let before: BTreeMap<&str, &FileSeen> = before.collect();
        let seen = files.iter().map(|file| {
            let path = format!("{}/{}", snapshot.folder.trim_end_matches('/'), file.name);
            let faults = faults.get(&*path).map_or(&[][..], Vec::as_slice);
            FileSeen::next(file, before.get(&*file.name).copied(), faults, (built, now))
        });
        Self {
            folder: snapshot.folder.clone(),
            read: Some(now),
            files: if kept {
                self.files.clone()
            } else {
                seen.collect()
            },
            faults: self.of_folder(&built.faults),
            changes,
        }
    }

    fn of_folder(&self, faults: &[FileFault]) -> Vec<String> {
        let whole = faults
            .iter()
            .filter(|fault| fault.position.is_none() && !fault.file.ends_with(".json"));
        whole.map(ToString::to_string).collect()
    }
}

impl FileSeen {
    /// A file as it was read at `now`, what was made of it, and as it was before.
    fn next(
        file: &File,
        before: Option<&Self>,
        faults: &[&FileFault],
        (built, now): (&Built, SystemTime),
    ) -> Self {
        let in_force = built.state.in_force_of(&file.name);
        let since = in_force.map(|in_force| {
            let same = before.filter(|before| {
                let plugin = before.in_force.as_ref();
                plugin.is_some_and(|plugin| Arc::ptr_eq(plugin, &in_force.plugin))
            });
            same.and_then(|before| before.since).unwrap_or(now)
        });
        let text = file.content.as_deref().ok();
        let faults = faults.iter().take(FAULTS).map(|fault| FaultSeen {
            position: fault.position,
            message: fault.message.clone(),
            excerpt: text
                .zip(fault.position)
                .and_then(|(text, at)| Excerpt::of(text, at)),
        });
        Self {
            name: file.name.clone(),
            in_force: in_force.map(|in_force| in_force.plugin.clone()),
            since,
            is_current: in_force.is_some_and(|in_force| Some(&*in_force.text) == text),
            faults: faults.collect(),
        }
    }
}
