//! What is known of a source that is followed, and what is told of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gapura_files::directory::Stamp;
use gapura_reload::watch::{Digest, Pace, blocking};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::Log;

use crate::standing::Standing;

/// What both tell of what they find.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) standing: Standing,
    pub(super) log: Log,
    pub(super) alarms: Alarms,
}

/// What is known of a source from its first reading on.
pub(super) struct Followed<G> {
    pub(super) path: PathBuf,
    pub(super) copy: Option<PathBuf>,
    /// As it was read first.
    pub(super) seen: (Stamp, Digest),
    /// What is in force, to be copied.
    pub(super) good: G,
    pub(super) copied: bool,
}

/// Two looks and a settled reading stay well under the promised two seconds.
pub(super) const PACE: Pace = Pace {
    look: Duration::from_millis(500),
    read: Duration::from_secs(10),
};

impl Common {
    /// Tells every open stream that something is in force that was not.
    pub(super) fn changed(&self) {
        let changed = &self.standing.0.changed;
        changed.send_modify(|generation| *generation += 1);
    }
}

impl<G: Clone + Send + 'static> Followed<G> {
    /// Copies what is in force, to start from when its source is broken at the worst moment.
    pub(super) async fn keep_copy(
        &mut self,
        alarms: &Alarms,
        keep: impl FnOnce(&Path, &G) -> std::io::Result<()> + Send + 'static,
    ) {
        let Some(folder) = self.copy.clone().filter(|_| !self.copied) else {
            return;
        };
        self.copied = true;
        let good = self.good.clone();
        copied(alarms, blocking(move || keep(&folder, &good)).await);
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

pub(super) fn raise(alarms: &Alarms, alarm: Alarm, what: &str, faults: &[String]) {
    let first = faults.first().map(String::as_str).unwrap_or_default();
    let more = match faults.len() {
        0 | 1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    alarms.raise(alarm, &format!("{what}: {first}{more}"));
}
