//! What a reload does, as a pure function: no clock, no disk, no pointer.
//!
//! In: the state so far (none at start), a snapshot of the folder, the rules and the time. Out: a
//! [`Built`]. Each file stands alone: a faulty one keeps its last good version in force, the others
//! take effect. Names and mounts are compared in the new state of the folder; where two claim one,
//! what is in force keeps it, and of two new ones neither gets it. A mount that any file names is
//! reserved, also for a while after the file has gone. A folder that can't be read or is suddenly
//! empty changes nothing. A plugin that is described as before stays the very same `Arc`, so that
//! its connections and counters live on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cors::Cors;
use super::earlier::Earlier;
use super::fault::FileFault;
use super::file::{self, Reading};
use super::folder::{File, Snapshot};
use super::mount::Mount;
use super::plugin::Plugin;
use super::rules::Rules;
use super::shadowed::{self, Placed};
use super::table::Table;

/// What the registry remembers from one reload to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    files: BTreeMap<String, FileState>,
    vanished: Vec<Vanished>,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    in_force: Option<InForce>,
    claims: Vec<Mount>,
}

/// A good version of a file: the plugin and the text it came from.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) plugin: Arc<Plugin>,
    pub(super) text: Arc<[u8]>,
}

#[derive(Clone, Debug)]
struct Vanished {
    file: String,
    plugin: Option<Arc<Plugin>>,
    mounts: Vec<Mount>,
    until: Instant,
}

/// What came of a reload.
#[derive(Debug)]
pub(crate) struct Built {
    /// What to route by from now on.
    pub table: Table,
    /// What to give to the next call.
    pub state: State,
    /// Everything that is wrong.
    pub faults: Vec<FileFault>,
    /// What is allowed and worth a look.
    pub warnings: Vec<String>,
    /// What is different from before, a sentence each.
    pub changes: Vec<String>,
}

/// How long the mount of a vanished file is kept from a shorter one: a tool that replaces a file by
/// removing it first, or a sync that goes file by file, is done by then.
const HOLD: Duration = Duration::from_secs(5);

/// One file's claim while clashes are being settled.
struct Claim<'a> {
    file: &'a str,
    /// The file with its folder, as faults name it.
    path: String,
    reading: &'a Reading,
    /// What is to be in force: the new version, or the last good one.
    chosen: Option<InForce>,
    /// Whether `chosen` is the version that was in force before.
    is_old: bool,
    before: Option<InForce>,
}

/// What two plugins can both want.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Name,
    Mount,
}

/// The next table and state.
#[must_use]
pub(crate) fn build(
    previous: Option<&State>,
    snapshot: &Snapshot,
    rules: &Rules,
    now: Instant,
) -> Built {
    let files = match &snapshot.files {
        Ok(files) if !files.is_empty() => files,
        Ok(_) if previous.is_none_or(|state| state.files.is_empty()) => {
            return empty(previous, &snapshot.folder, now);
        }
        Ok(_) => {
            return keep(
                previous,
                &snapshot.folder,
                "holds no *.json file any more; everything is kept; put the files back, or restart to run without plugins",
            );
        }
        Err(message) => return keep(previous, &snapshot.folder, message),
    };
    let path = |file: &File| format!("{}/{}", snapshot.folder.trim_end_matches('/'), file.name);
    let read = |file: &File| {
        file::read(
            &path(file),
            file.content.as_deref().map_err(String::as_str),
            rules,
        )
    };
    let each = |file| {
        let reading = read(file);
        // A thousand of them take a tenth of a second: whoever wants this processor gets it now,
        // and not when the scheduler would take it away.
        std::thread::yield_now();
        (file, reading)
    };
    let readings: Vec<(&File, Reading)> = files.iter().map(each).collect();
    let nothing = State::default();
    let before = previous.unwrap_or(&nothing);
    let in_force = before.in_force();
    let earlier = Earlier::new(
        before.known(),
        in_force.map(|(file, in_force)| (file, &*in_force.plugin)),
    );
    let mut claims: Vec<Claim<'_>> = readings
        .iter()
        .map(|(file, reading)| claim(file, path(file), reading, (before, &earlier)))
        .collect();
    let mut faults: Vec<FileFault> = readings
        .iter()
        .flat_map(|(_, reading)| reading.faults.clone())
        .collect();
    settle(&mut claims, &earlier, &mut faults);
    faults.sort();
    faults.dedup();

    let mut state = State {
        files: BTreeMap::new(),
        vanished: still_held(before, files, now),
    };
    let mut warnings = shadowed::warnings(&placed(&claims, before));
    for claim in claims {
        if let Some(in_force) = &claim.chosen {
            warnings.extend(weaker(&earlier, &in_force.plugin));
        }
        let mut named = claim.reading.claims.clone();
        if named.is_empty() {
            // Nothing can be learnt from an unreadable file; what it named before stays reserved.
            named = before
                .files
                .get(claim.file)
                .map(|before| before.claims.clone())
                .unwrap_or_default();
        }
        state.files.insert(
            claim.file.to_owned(),
            FileState {
                in_force: claim.chosen,
                claims: named,
            },
        );
    }
    let changes = changes(before, &state);
    Built {
        table: state.table(faults.clone()),
        state,
        faults,
        warnings,
        changes,
    }
}

impl State {
    /// When a hold ends and the next table should be made, if nothing else happens.
    #[must_use]
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.vanished.iter().map(|vanished| vanished.until).min()
    }

    /// Whether a file of the folder is in force or was faulty.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The good version of a file.
    pub(super) fn in_force_of(&self, file: &str) -> Option<&InForce> {
        self.files.get(file)?.in_force.as_ref()
    }

    /// The good version of each file.
    pub(super) fn in_force(&self) -> impl Iterator<Item = (&str, &InForce)> {
        self.files.iter().filter_map(|(file, state)| {
            state
                .in_force
                .as_ref()
                .map(|in_force| (file.as_str(), in_force))
        })
    }

    fn table(&self, faults: Vec<FileFault>) -> Table {
        let plugins = self
            .in_force()
            .map(|(file, in_force)| (file.to_owned(), in_force.plugin.clone()))
            .collect();
        let named = self.files.values().flat_map(|state| &state.claims);
        let held = named
            .chain(self.vanished.iter().flat_map(|vanished| &vanished.mounts))
            .cloned();
        Table::new(plugins, held, faults)
    }

    /// Every plugin that is in force, or was until a moment ago.
    fn known(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.in_force().map(|(_, in_force)| &in_force.plugin).chain(
            self.vanished
                .iter()
                .filter_map(|vanished| vanished.plugin.as_ref()),
        )
    }
}

/// Each plugin of the new state where its file places it; of a file whose last good version is in
/// force the place may be another.
fn placed<'a>(claims: &'a [Claim<'_>], before: &State) -> Vec<Placed<'a>> {
    let old: BTreeSet<*const Plugin> = before
        .in_force()
        .map(|(_, in_force)| Arc::as_ptr(&in_force.plugin))
        .collect();
    let of = |claim: &'a Claim<'_>| {
        let plugin = &claim.chosen.as_ref()?.plugin;
        Some(Placed {
            file: &claim.path,
            mount_at: claim.reading.mount_at,
            plugin,
            is_old: old.contains(&Arc::as_ptr(plugin)),
        })
    };
    claims.iter().filter_map(of).collect()
}

/// A start, or a life, without plugins.
fn empty(previous: Option<&State>, folder: &str, now: Instant) -> Built {
    let state = State {
        files: BTreeMap::new(),
        vanished: previous
            .map(|state| still_held(state, &[], now))
            .unwrap_or_default(),
    };
    let warnings = vec![format!(
        "{folder} holds no *.json file: no path leads to a plugin"
    )];
    Built {
        table: state.table(Vec::new()),
        state,
        faults: Vec::new(),
        warnings,
        changes: Vec::new(),
    }
}

/// Nothing changes, and somebody must look at the folder.
fn keep(previous: Option<&State>, folder: &str, message: &str) -> Built {
    let state = previous.cloned().unwrap_or_default();
    let faults = vec![FileFault {
        file: folder.to_owned(),
        position: None,
        message: message.to_owned(),
    }];
    Built {
        table: state.table(faults.clone()),
        state,
        faults,
        warnings: Vec::new(),
        changes: Vec::new(),
    }
}

/// What a file wants before it is compared with the others.
fn claim<'a>(
    file: &'a File,
    path: String,
    reading: &'a Reading,
    (state, earlier): (&State, &Earlier<'_>),
) -> Claim<'a> {
    let before = state
        .files
        .get(&file.name)
        .and_then(|state| state.in_force.clone());
    let (chosen, is_old) = match (&reading.plugin, &file.content) {
        (Some(plugin), Ok(text)) => {
            let known = earlier.same(plugin);
            let is_old = before
                .as_ref()
                .is_some_and(|before| *before.plugin == *plugin);
            let plugin = known.cloned().unwrap_or_else(|| Arc::new(plugin.clone()));
            (
                Some(InForce {
                    plugin,
                    text: text.clone(),
                }),
                is_old,
            )
        }
        _ => (before.clone(), true),
    };
    Claim {
        file: &file.name,
        path,
        reading,
        chosen,
        is_old,
        before,
    }
}

/// Lets what is in force keep its name and mount, and falls back where a new version wants one that
/// is taken. What was in force before never clashes with itself, so each round either settles
/// everything or takes back at least one new version.
fn settle(claims: &mut [Claim<'_>], earlier: &Earlier<'_>, faults: &mut Vec<FileFault>) {
    loop {
        let mut losers: BTreeMap<usize, Vec<FileFault>> = BTreeMap::new();
        for wanted in [Wanted::Name, Wanted::Mount] {
            let mut by_text: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (at, claim) in claims.iter().enumerate() {
                if let Some(in_force) = &claim.chosen {
                    by_text
                        .entry(wanted.of(&in_force.plugin))
                        .or_default()
                        .push(at);
                }
            }
            for rivals in by_text.values().filter(|rivals| rivals.len() > 1) {
                let winner = winner(claims, rivals, wanted, earlier);
                for loser in rivals.iter().copied().filter(|at| Some(*at) != winner) {
                    let others = rivals
                        .iter()
                        .filter(|at| **at != loser && winner.is_none_or(|winner| winner == **at));
                    let others: Vec<&Claim<'_>> = others.filter_map(|at| claims.get(*at)).collect();
                    if let Some(claim) = claims.get(loser) {
                        losers.entry(loser).or_default().push(clash(
                            claim,
                            &others,
                            wanted,
                            winner.is_some(),
                        ));
                    }
                }
            }
        }
        if losers.is_empty() {
            return;
        }
        for (at, found) in losers {
            faults.extend(found);
            if let Some(claim) = claims.get_mut(at) {
                // An old version can only lose to another old one, which cannot be; without this
                // the loop might not end.
                claim.chosen = if claim.is_old {
                    None
                } else {
                    claim.before.clone()
                };
                claim.is_old = true;
            }
        }
    }
}

/// Who of several claimants keeps what they want: the file that had it, else the file that holds
/// what one now gone had held, which is how a renamed file looks.
fn winner(
    claims: &[Claim<'_>],
    rivals: &[usize],
    wanted: Wanted,
    earlier: &Earlier<'_>,
) -> Option<usize> {
    let had_it = |at: &&usize| {
        claims.get(**at).is_some_and(|claim| {
            let now = claim
                .chosen
                .as_ref()
                .map(|in_force| wanted.of(&in_force.plugin));
            claim
                .before
                .as_ref()
                .map(|in_force| wanted.of(&in_force.plugin))
                == now
        })
    };
    let was_it = |at: &&usize| {
        claims
            .get(**at)
            .and_then(|claim| claim.chosen.as_ref())
            .is_some_and(|now| {
                let is_gone = |file: &str| claims.iter().all(|claim| claim.file != file);
                let same = |plugin: &Plugin| {
                    plugin.name == now.plugin.name && plugin.mount == now.plugin.mount
                };
                earlier
                    .alike(&now.plugin)
                    .any(|was| same(was.plugin) && is_gone(was.file))
            })
    };
    let one = |mut found: Vec<&usize>| {
        if found.len() == 1 {
            found.pop().copied()
        } else {
            None
        }
    };
    one(rivals.iter().filter(had_it).collect())
        .or_else(|| one(rivals.iter().filter(was_it).collect()))
}

fn clash(claim: &Claim<'_>, others: &[&Claim<'_>], wanted: Wanted, is_taken: bool) -> FileFault {
    let files: Vec<&str> = others.iter().map(|other| other.file).collect();
    let files = files.join(", ");
    let (field, position) = match wanted {
        Wanted::Name => ("name", claim.reading.name_at),
        Wanted::Mount => ("mount", claim.reading.mount_at),
    };
    let text = claim
        .chosen
        .as_ref()
        .map(|in_force| wanted.of(&in_force.plugin))
        .unwrap_or_default();
    let message = if is_taken {
        format!(
            "\"{field}\" {text} is taken by {files}, which is in force and keeps it; choose another or remove one of the files"
        )
    } else {
        format!(
            "\"{field}\" {text} is also claimed by {files}; none of them loads until one gives way"
        )
    };
    FileFault {
        file: claim.path.clone(),
        position: Some(position),
        message,
    }
}

impl Wanted {
    fn of(self, plugin: &Plugin) -> &str {
        match self {
            Self::Name => plugin.name.as_str(),
            Self::Mount => plugin.mount.as_str(),
        }
    }
}

/// The holds of files that have gone, now or a moment ago.
fn still_held(before: &State, files: &[File], now: Instant) -> Vec<Vanished> {
    let there: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let earlier = before
        .vanished
        .iter()
        .filter(|vanished| vanished.until > now)
        .cloned();
    let just_gone = before.files.iter().map(|(file, state)| {
        let plugin = state
            .in_force
            .as_ref()
            .map(|in_force| in_force.plugin.clone());
        let mounts = plugin
            .iter()
            .map(|plugin| plugin.mount.clone())
            .chain(state.claims.iter().cloned())
            .collect();
        Vanished {
            file: file.clone(),
            plugin,
            mounts,
            until: now + HOLD,
        }
    });
    earlier
        .chain(just_gone)
        .filter(|vanished| !there.contains(vanished.file.as_str()))
        .collect()
}

/// A warning for each way in which a plugin, or whatever took over its mount, now asks less of a
/// caller.
fn weaker(earlier: &Earlier<'_>, plugin: &Plugin) -> Vec<String> {
    let mut weaker = Vec::new();
    for was in earlier.alike(plugin).map(|was| was.plugin) {
        if plugin.auth < was.auth {
            let (from, to) = (was.auth.as_str(), plugin.auth.as_str());
            weaker.push(format!("auth_mode became weaker, from {from} to {to}"));
        }
        let mut clauses = plugin.access.weaker_than(&was.access);
        clauses.extend(Cors::weaker_than(plugin.cors.as_ref(), was.cors.as_ref()));
        if plugin.outlive_token && !was.outlive_token {
            clauses.push("outlive_token is on: streams may outlast the token they began with");
        }
        if plugin.ws_token && !was.ws_token {
            clauses.push("ws_token is on: pages may bring their token as a subprotocol");
        }
        weaker.extend(clauses.into_iter().map(str::to_owned));
    }
    weaker.sort_unstable();
    weaker.dedup();
    let whom = |clause: String| format!("plugin {} at {}: {clause}", plugin.name, plugin.mount);
    weaker.into_iter().map(whom).collect()
}

fn changes(before: &State, after: &State) -> Vec<String> {
    let by_name = |state: &State| -> BTreeMap<String, Arc<Plugin>> {
        state
            .in_force()
            .map(|(_, in_force)| (in_force.plugin.name.to_string(), in_force.plugin.clone()))
            .collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    let mut changes = Vec::new();
    for (name, plugin) in &new {
        match old.get(name) {
            None => changes.push(format!(
                "plugin {name} {} is in force at {}",
                plugin.version, plugin.mount
            )),
            Some(was) if !Arc::ptr_eq(was, plugin) => {
                changes.push(format!(
                    "plugin {name} {} is in force at {}, changed",
                    plugin.version, plugin.mount
                ));
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    changes.extend(
        gone.map(|(name, plugin)| {
            format!("plugin {name} is no longer in force at {}", plugin.mount)
        }),
    );
    changes
}

#[cfg(test)]
mod tests;
