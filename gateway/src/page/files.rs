//! The page's section of files: what stands in the folder, what is in force of it, and what a
//! reload changed.

use gapura_protocol::clock::unix;
use serde::Serialize;

use crate::registry::{FileSeen, Registry, Table};
use crate::upstream::cluster::Running;

/// The folder.
#[derive(Serialize)]
pub(super) struct Files {
    folder: String,
    /// When something of it was last read anew.
    read: Option<u64>,
    /// What is wrong with the folder itself.
    faults: Vec<String>,
    files: Vec<FileFacts>,
    /// Mounts that answer 503, since no good file has them.
    held: Vec<String>,
    /// Mounts inside others.
    shadowed: Vec<Shadowed>,
    /// What became different, the latest first.
    changes: Vec<Change>,
}

/// One file.
#[derive(Serialize)]
struct FileFacts {
    file: String,
    state: State,
    /// The plugin in force.
    plugin: Option<String>,
    version: Option<String>,
    mount: Option<String>,
    /// Since when.
    since: Option<u64>,
    faults: Vec<Fault>,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// What stands in it is in force.
    InForce,
    /// It is faulty; its last good version is in force.
    LastGood,
    /// It is faulty, and nothing of it is in force.
    Faulty,
}

/// One mistake.
#[derive(Serialize)]
struct Fault {
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    /// The line, or as much of it as fits, and how many characters stand before the mistake.
    text: Option<String>,
    caret: usize,
}

/// A mount inside another.
#[derive(Serialize)]
struct Shadowed {
    inner: String,
    inner_plugin: String,
    outer: String,
    outer_plugin: String,
}

/// What became different.
#[derive(Serialize)]
struct Change {
    at: u64,
    text: String,
}

impl Files {
    pub(super) fn now(table: &Table<Running>, registry: &Registry) -> Self {
        let journal = registry.journal();
        let held = table.held().into_iter().map(str::to_owned);
        let changes = journal.changes.iter().map(|(at, text)| Change {
            at: unix(*at),
            text: text.clone(),
        });
        Self {
            folder: journal.folder.clone(),
            read: journal.read.map(unix),
            faults: journal.faults.clone(),
            files: journal.files.iter().map(FileFacts::of).collect(),
            held: held.collect(),
            shadowed: shadowed(table),
            changes: changes.collect(),
        }
    }
}

impl FileFacts {
    fn of(seen: &FileSeen) -> Self {
        let plugin = seen.in_force.as_ref();
        let faults = seen.faults.iter().map(|fault| {
            let excerpt = fault.excerpt.as_ref();
            Fault {
                line: fault.position.map(|at| at.line),
                column: fault.position.map(|at| at.column),
                message: fault.message.clone(),
                text: excerpt.map(|excerpt| excerpt.text.clone()),
                caret: excerpt.map_or(0, |excerpt| excerpt.caret),
            }
        });
        Self {
            file: seen.name.clone(),
            state: match (plugin, seen.is_current) {
                (Some(_), true) => State::InForce,
                (Some(_), false) => State::LastGood,
                (None, _) => State::Faulty,
            },
            plugin: plugin.map(|plugin| plugin.name.to_string()),
            version: plugin.map(|plugin| plugin.version.clone()),
            mount: plugin.map(|plugin| plugin.mount.to_string()),
            since: seen.since.map(unix),
            faults: faults.collect(),
        }
    }
}

/// Each mount that lies in another: what is below it goes to the one, never to the other. All lie
/// in `/`, which is not told.
fn shadowed(table: &Table<Running>) -> Vec<Shadowed> {
    let plugins = table.plugins().iter();
    plugins
        .filter_map(|(_, plugin)| {
            let around = table.candidates(plugin.mount.as_str());
            let outer = around.into_iter().filter_map(|(_, plugin)| plugin);
            let mut outer = outer.filter(|outer| outer.mount != plugin.mount);
            let outer = outer.next().filter(|outer| !outer.mount.is_root())?;
            Some(Shadowed {
                inner: plugin.mount.to_string(),
                inner_plugin: plugin.name.to_string(),
                outer: outer.mount.to_string(),
                outer_plugin: outer.name.to_string(),
            })
        })
        .collect()
}
