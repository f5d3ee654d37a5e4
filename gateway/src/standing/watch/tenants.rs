//! Follows the folder of the companies' files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use gapura_reload::asked::Asked;
use gapura_reload::watch::{FileWatch, Follower, Why, blocking};
use gapura_telemetry::alarms::Alarm;
use gapura_telemetry::log::Level;

use super::followed::{Common, Followed, PACE, raise};
use crate::registry::{Snapshot, keep_files, read_folder, stamp_folder};
use crate::standing::tenants::{self, BOUNDS, Built, State};

pub(super) struct TenantsWatch {
    pub(super) common: Common,
    pub(super) followed: Followed<State>,
}

/// Reads the companies' files for the first time.
pub(super) fn open(
    folder: &Path,
    copy: Option<PathBuf>,
) -> Result<(Followed<State>, Built), Vec<String>> {
    let stamp = stamp_folder(folder, &BOUNDS);
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
    let followed = Followed {
        path: folder.to_owned(),
        copy,
        seen: (stamp, snapshot.digest()),
        good: State::default(),
        copied: false,
    };
    Ok((followed, built))
}

impl TenantsWatch {
    pub(super) async fn run(self, asked: Asked) {
        let (looked_at, folder) = (self.followed.path.clone(), self.followed.path.clone());
        let watch = FileWatch::new(
            PACE,
            self.followed.seen.clone(),
            move || stamp_folder(&looked_at, &BOUNDS),
            move || read_folder(&folder, &BOUNDS),
        );
        watch.run(self, asked).await;
    }

    /// Puts in force what a reload came to, and says so.
    pub(super) fn publish(&mut self, built: Built) {
        let Built {
            table,
            state,
            faults,
            warnings,
        } = built;
        let Common {
            standing,
            log,
            alarms,
        } = &self.common;
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
        if let Some(slot) = &standing.0.tenants {
            slot.store(Arc::new(table));
        }
        (self.followed.good, self.followed.copied) = (state, false);
        self.common.changed();
    }
}

impl Follower<Snapshot> for TenantsWatch {
    /// A hold is over.
    fn is_due(&self) -> bool {
        let next = self.followed.good.next_change();
        next.is_some_and(|at| at <= Instant::now())
    }

    async fn take(&mut self, snapshot: Snapshot, why: Why) {
        if why == Why::Unchanged {
            return;
        }
        let state = self.followed.good.clone();
        let built = move || tenants::build(Some(&state), &snapshot, Instant::now());
        if let Some(built) = blocking(built).await {
            self.publish(built);
        }
    }

    async fn looked(&mut self) {
        let keep = |folder: &Path, state: &State| keep_files(folder, state.texts(), &BOUNDS);
        self.followed.keep_copy(&self.common.alarms, keep).await;
    }
}
