//! Keeps the deny list and the companies' files in step with the disk while the program runs.
//!
//! In: the file and the folder, each followed by a [`FileWatch`]. Out: what is in force behind one pointer each, a word to every open
//! stream that something changed, and the alarms `deny` and `tenants` while something is wrong. What to make of a text is decided in
//! `deny` and `tenants`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use gapura_files::directory::{Stamp, hash, stamp_of};
use gapura_runtime::reload::asked::Asked;
use gapura_runtime::reload::watch::{Digest, FileWatch, Follower, Pace, Reading, Why, blocking};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use tokio::sync::watch;

use super::deny::DenyList;
use super::tenants::{self, BOUNDS, Built, State};
use super::{Inner, Settings, Standing};
use crate::registry::{Bounds, Snapshot, keep_files, read_folder, stamp_folder};

/// What follows both. Dropping it ends the following and nothing else.
pub(crate) struct Watcher {
    deny: Option<DenyWatch>,
    tenants: Option<TenantsWatch>,
}

/// What both tell of what they find.
#[derive(Clone)]
struct Common {
    standing: Standing,
    log: Log,
    alarms: Alarms,
}

struct DenyWatch {
    common: Common,
    known: Known<Arc<[u8]>>,
}

struct TenantsWatch {
    common: Common,
    known: Known<State>,
}

/// What is known of a source from its first reading on.
struct Known<G> {
    path: PathBuf,
    copy: Option<PathBuf>,
    /// As it was read first.
    seen: (Stamp, Digest),
    /// What is in force, to be copied.
    good: G,
    copied: bool,
}

/// What stands in the file of the deny list.
type Text = Result<Arc<[u8]>, String>;

/// Two looks and a settled reading stay well under the promised two seconds.
const PACE: Pace = Pace {
    look: Duration::from_millis(500),
    read: Duration::from_secs(10),
};

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
        log: &Log,
        alarms: &Alarms,
    ) -> Result<(Self, Watcher), Vec<String>> {
        let mut faults = Vec::new();
        let copy = |name: &str| settings.last_good.as_ref().map(|dir| dir.join(name));
        let deny = settings.deny.as_deref().and_then(|file| {
            open_deny(file, copy("deny"), alarms)
                .map_err(|all| faults.extend(all))
                .ok()
        });
        let tenants = settings.tenants.as_deref().and_then(|folder| {
            open_tenants(folder, copy("tenants"))
                .map_err(|all| faults.extend(all))
                .ok()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let (deny, deny_list) = deny.unzip();
        let (tenants, built) = tenants.unzip();
        let standing = Self(Arc::new(Inner {
            deny: deny_list.map(ArcSwap::from_pointee),
            tenants: built.is_some().then(ArcSwap::default),
            changed: watch::channel(0).0,
            streams_ended: AtomicU64::default(),
        }));
        let common = Common {
            standing: standing.clone(),
            log: log.clone(),
            alarms: alarms.clone(),
        };
        let of_deny = common.clone();
        let deny = deny.map(|known| DenyWatch {
            common: of_deny,
            known,
        });
        let mut tenants = tenants.map(|known| TenantsWatch { common, known });
        if let (Some(watch), Some(built)) = (&mut tenants, built) {
            watch.publish(built);
        }
        Ok((standing, Watcher { deny, tenants }))
    }
}

impl Watcher {
    /// Follows both until it is dropped; who asks has both read again.
    pub(crate) async fn run(self, asked: Asked) {
        let deny = self.deny.map(|watch| watch.run(asked.clone()));
        let tenants = self.tenants.map(|watch| watch.run(asked.clone()));
        // What nobody listens to must not be waited for.
        drop(asked);
        tokio::join!(all(deny), all(tenants));
    }
}

async fn all(followed: Option<impl Future<Output = ()>>) {
    if let Some(followed) = followed {
        followed.await;
    }
}

impl Common {
    /// Tells every open stream that something is in force that was not.
    fn changed(&self) {
        let changed = &self.standing.0.changed;
        changed.send_modify(|generation| *generation += 1);
    }
}

/// Reads the deny list for the first time.
fn open_deny(
    file: &Path,
    copy: Option<PathBuf>,
    alarms: &Alarms,
) -> Result<(Known<Arc<[u8]>>, DenyList), Vec<String>> {
    let stamp = stamp_of([file.to_owned()].into_iter());
    let Reading { content, digest } = read_deny(file);
    let known = |good| Known {
        path: file.to_owned(),
        copy: copy.clone(),
        seen: (stamp.clone(), digest),
        good,
        copied: false,
    };
    let faults = match judge(file, &content) {
        Ok((list, text)) => return Ok((known(text), list)),
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
    let what = "the deny list is faulty, the last good copy is in force";
    raise(alarms, Alarm::Deny, what, &faults);
    Ok((known(text), list))
}

impl DenyWatch {
    async fn run(self, asked: Asked) {
        let (looked_at, file) = (self.known.path.clone(), self.known.path.clone());
        let watch = FileWatch::new(
            PACE,
            self.known.seen.clone(),
            move || stamp_of([looked_at.clone()].into_iter()),
            move || read_deny(&file),
        );
        watch.run(self, asked).await;
    }
}

impl Follower<Text> for DenyWatch {
    async fn take(&mut self, text: Text, why: Why) {
        if why == Why::Unchanged {
            return;
        }
        let Common {
            standing,
            log,
            alarms,
        } = &self.common;
        let file = self.known.path.clone();
        match blocking(move || judge(&file, &text)).await {
            None => {}
            Some(Ok((list, text))) => {
                alarms.clear(Alarm::Deny);
                if text == self.known.good {
                    return;
                }
                (self.known.good, self.known.copied) = (text, false);
                log.event(Level::Info, "deny_list", "a new deny list is in force", &[]);
                if let Some(slot) = &standing.0.deny {
                    slot.store(Arc::new(list));
                }
                self.common.changed();
            }
            Some(Err(faults)) => {
                let what = "the deny list is faulty, the last good one stays in force";
                raise(alarms, Alarm::Deny, what, &faults);
            }
        }
    }

    async fn looked(&mut self) {
        let keep = |folder: &Path, text: &Arc<[u8]>| {
            keep_files(folder, [(COPY_OF_DENY, &**text)].into_iter(), &ONE)
        };
        self.known.keep_copy(&self.common.alarms, keep).await;
    }
}

/// Reads the companies' files for the first time.
fn open_tenants(
    folder: &Path,
    copy: Option<PathBuf>,
) -> Result<(Known<State>, Built), Vec<String>> {
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
    let known = Known {
        path: folder.to_owned(),
        copy,
        seen: (stamp, snapshot.digest()),
        good: State::default(),
        copied: false,
    };
    Ok((known, built))
}

impl TenantsWatch {
    async fn run(self, asked: Asked) {
        let (looked_at, folder) = (self.known.path.clone(), self.known.path.clone());
        let watch = FileWatch::new(
            PACE,
            self.known.seen.clone(),
            move || stamp_folder(&looked_at, &BOUNDS),
            move || read_folder(&folder, &BOUNDS),
        );
        watch.run(self, asked).await;
    }

    /// Puts in force what a reload came to, and says so.
    fn publish(&mut self, built: Built) {
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
        (self.known.good, self.known.copied) = (state, false);
        self.common.changed();
    }
}

impl Follower<Snapshot> for TenantsWatch {
    /// A hold is over.
    fn is_due(&self) -> bool {
        let next = self.known.good.next_change();
        next.is_some_and(|at| at <= Instant::now())
    }

    async fn take(&mut self, snapshot: Snapshot, why: Why) {
        if why == Why::Unchanged {
            return;
        }
        let state = self.known.good.clone();
        let built = move || tenants::build(Some(&state), &snapshot, Instant::now());
        if let Some(built) = blocking(built).await {
            self.publish(built);
        }
    }

    async fn looked(&mut self) {
        let keep = |folder: &Path, state: &State| keep_files(folder, state.texts(), &BOUNDS);
        self.known.keep_copy(&self.common.alarms, keep).await;
    }
}

impl<G: Clone + Send + 'static> Known<G> {
    /// Copies what is in force, to start from when its source is broken at the worst moment.
    async fn keep_copy(
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

fn read_deny(file: &Path) -> Reading<Text> {
    let content = read_text(file);
    let digest = match &content {
        Ok(text) => hash([&**text]),
        Err(why) => hash([why.as_bytes(), b"not read"]),
    };
    Reading { content, digest }
}

/// The file's text, or why there is none.
fn read_text(file: &Path) -> Text {
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
fn judge(file: &Path, text: &Text) -> Result<(DenyList, Arc<[u8]>), Vec<String>> {
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

#[cfg(test)]
mod tests;
