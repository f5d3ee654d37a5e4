//! The contracts of all plugins.
//!
//! In: what an instance served, or why that is none. Out: whether the instance keeps to its
//! plugin's contract in force; and for the document of all plugins, the operator's side and the
//! metrics, what is in force. To judge takes time and is for a thread of its own, one at a time; to
//! look never waits for that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use gapura_openapi::{Document, Finding, compare};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use serde_json::{Value, json};

use super::entry::{Digest, Entry, InForce, News, Terms, digest};
use super::kept::Kept;
use crate::registry::Plugin;

/// The contracts of all plugins. Clones are the same.
#[derive(Clone)]
pub(crate) struct Book(Arc<Shelf>);

struct Shelf {
    log: Log,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held by whoever judges.
    judging: Mutex<()>,
    /// Changes with what is in force.
    generation: AtomicU64,
    /// Where it outlasts a restart.
    kept: Option<Kept>,
    /// Plugins that are gone, of which nothing is to be kept any more.
    gone: Mutex<BTreeSet<String>>,
    alarms: Alarms,
}

/// What an instance was asked, and what it answered.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Where it is.
    pub(crate) at: String,
    /// What it says that it runs.
    pub(crate) version: Option<String>,
    /// The contracts that the plugin's other instances serve.
    pub(crate) others: Vec<Digest>,
    /// Its document, or a clause that says why there is none.
    pub(crate) document: Result<Bytes, String>,
}

/// A line names so many breaking changes; the operator's side has the others.
const TOLD: usize = 5;

impl Book {
    /// What was in force when the last program with this state directory ended; without one,
    /// nothing is yet.
    ///
    /// # Errors
    /// A sentence for each contract that was kept and can't be read.
    pub(crate) fn open(
        state_dir: Option<&Path>,
        log: &Log,
        alarms: &Alarms,
    ) -> Result<Self, Vec<String>> {
        let kept = state_dir.map(Kept::in_folder);
        let before = kept.as_ref().map_or_else(|| Ok(Vec::new()), Kept::read)?;
        let before = before.into_iter();
        let entries = before.map(|(name, standing)| (name, Entry::of(standing)));
        Ok(Self(Arc::new(Shelf {
            log: log.clone(),
            entries: Mutex::new(entries.collect()),
            judging: Mutex::default(),
            generation: AtomicU64::new(0),
            kept,
            gone: Mutex::default(),
            alarms: alarms.clone(),
        })))
    }

    /// Whether the instance keeps to the contract in force. Takes as long as two documents take to
    /// be read and compared.
    pub(crate) fn judge(&self, plugin: &Plugin, asked: Asked) -> bool {
        let judging = &self.0.judging;
        let _alone = judging.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = self.judged(plugin, asked);
        self.keep();
        fits
    }

    fn judged(&self, plugin: &Plugin, asked: Asked) -> bool {
        let contract = plugin.contract.as_ref();
        let mut served = asked.others;
        let bytes = match asked.document {
            Ok(bytes) => bytes,
            Err(why) => {
                let terms = Terms {
                    is_believed: false,
                    keeps_out: contract.is_some_and(|contract| contract.keeps_breaking_out),
                    served: &served,
                };
                return self.broken(plugin, &asked.at, why, terms);
            }
        };
        let digest = digest(&bytes);
        served.push(digest);
        let terms = Terms {
            is_believed: asked.version.as_ref() == Some(&plugin.version),
            keeps_out: contract.is_some_and(|contract| contract.keeps_breaking_out),
            served: &served,
        };
        let before = {
            let mut entries = self.entries();
            let entry = entries.entry(plugin.name.to_string()).or_default();
            if let Some(fits) = entry.known(&digest, terms) {
                return fits;
            }
            entry.in_force().cloned()
        };
        let document = match Document::read(&bytes) {
            Ok(document) => document,
            Err(fault) => return self.broken(plugin, &asked.at, fault.to_string(), terms),
        };
        let findings = before.map_or_else(Vec::new, |before| broken_by(&before, &document));
        let contract = InForce::new(digest, bytes, &document);
        let (fits, news, shown) = {
            let mut entries = self.entries();
            let entry = entries.entry(plugin.name.to_string()).or_default();
            let (fits, news) = entry.take(contract, findings, terms);
            (fits, news, entry.breaking.clone())
        };
        self.0.generation.fetch_add(1, Relaxed);
        self.tell(plugin, &asked.at, &news, &shown);
        fits
    }

    /// Tells why an instance's document could not be read this time, which changes nothing of what
    /// is in force.
    pub(crate) fn in_vain(&self, plugin: &Plugin, at: &str, why: String) {
        let terms = Terms {
            is_believed: false,
            keeps_out: false,
            served: &[],
        };
        self.broken(plugin, at, why, terms);
    }

    /// Forgets all plugins but these.
    pub(crate) fn keep_only(&self, names: &BTreeSet<&str>) {
        let mut gone = self.gone();
        self.entries().retain(|name, _| {
            let stays = names.contains(name.as_str());
            if !stays {
                gone.insert(name.clone());
            }
            stays
        });
        self.0.generation.fetch_add(1, Relaxed);
    }

    /// Brings what is kept up to what is in force.
    fn keep(&self) {
        let Some(kept) = &self.0.kept else {
            return;
        };
        match self.try_keep(kept) {
            Ok(()) => self.0.alarms.clear(Alarm::Contracts),
            Err(error) => {
                let folder = kept.folder().display();
                let sentence = format!(
                    "contracts in force can't be kept in {folder}: {error}; a restart would take the next ones whatever they break: give --state-dir room and rights"
                );
                self.0.alarms.raise(Alarm::Contracts, &sentence);
            }
        }
    }

    fn try_keep(&self, kept: &Kept) -> io::Result<()> {
        let gone: Vec<String> = self.gone().iter().cloned().collect();
        for name in gone {
            kept.remove(&name)?;
            self.gone().remove(&name);
        }
        let changed = |(name, entry): (&String, &Entry)| Some((name.clone(), entry.to_keep()?));
        let changed: Vec<_> = self.entries().iter().filter_map(changed).collect();
        for (name, standing) in changed {
            kept.write(&name, &standing)?;
            if let Some(entry) = self.entries().get_mut(&name) {
                entry.kept();
            }
        }
        Ok(())
    }

    /// Changes whenever another contract comes into force.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Relaxed)
    }

    /// What is in force for each plugin.
    pub(super) fn in_force(&self) -> BTreeMap<String, Arc<InForce>> {
        let entries = self.entries();
        let each = entries.iter();
        each.filter_map(|(name, entry)| Some((name.clone(), entry.in_force()?.clone())))
            .collect()
    }

    /// What the operator is told of a plugin's contract.
    #[must_use]
    pub(crate) fn told(&self, plugin: &Plugin) -> Value {
        let Some(contract) = &plugin.contract else {
            return Value::Null;
        };
        let entries = self.entries();
        let entry = entries.get(plugin.name.as_str());
        let in_force = entry.and_then(Entry::in_force);
        let breaking = entry.map_or_else(Vec::new, |entry| {
            let told = |one: &Finding| json!({"kind": one.kind, "pointer": one.pointer, "message": one.message});
            entry.breaking.iter().map(told).collect()
        });
        json!({
            "path": contract.path,
            "breaking_is": if contract.keeps_breaking_out { "refuse" } else { "warn" },
            "in_force": in_force.map(|one| json!({"title": one.title, "version": one.version, "bytes": one.bytes.len()})),
            "left_out": entry.and_then(|entry| entry.fault.clone()),
            "breaking": breaking,
        })
    }

    /// How many breaking changes were ever found, by plugin.
    #[must_use]
    pub(crate) fn found(&self) -> Vec<(String, u64)> {
        let entries = self.entries();
        let each = entries.iter();
        each.map(|(name, entry)| (name.clone(), entry.found))
            .collect()
    }

    fn broken(&self, plugin: &Plugin, at: &str, why: String, terms: Terms<'_>) -> bool {
        let name = plugin.name.as_str();
        let message = format!(
            "the contract of plugin {name}, as its instance at {at} serves it, is left out: {why}"
        );
        let (fits, is_news) = {
            let mut entries = self.entries();
            let entry = entries.entry(name.to_owned()).or_default();
            entry.broken(why, terms)
        };
        if is_news {
            let fields = [("plugin", name.into()), ("instance", at.into())];
            self.0
                .log
                .event(Level::Warn, "contract_left_out", &message, &fields);
        }
        fits
    }

    fn tell(&self, plugin: &Plugin, at: &str, news: &News, breaking: &[Finding]) {
        let name = plugin.name.as_str();
        let (level, event, message) = match news {
            News::InForce => {
                let message = format!(
                    "the contract that the instance of plugin {name} at {at} serves is in force"
                );
                (Level::Info, "contract_in_force", message)
            }
            News::Back => {
                let message = format!(
                    "an earlier contract of plugin {name} is in force again: no instance serves the later one"
                );
                (Level::Info, "contract_in_force", message)
            }
            News::Breaks(kept_out) => {
                let mut told: Vec<String> = breaking
                    .iter()
                    .take(TOLD)
                    .map(ToString::to_string)
                    .collect();
                if breaking.len() > TOLD {
                    told.push(format!("and {} more", breaking.len() - TOLD));
                }
                let what = if *kept_out {
                    "and it is kept out"
                } else {
                    "and is in force now"
                };
                let message = format!(
                    "the contract of the instance of plugin {name} at {at} breaks the one that was in force, {what}: {}",
                    told.join("; ")
                );
                (Level::Warn, "contract_breaks", message)
            }
        };
        let fields = [
            ("plugin", name.into()),
            ("instance", at.into()),
            ("breaking", (breaking.len() as u64).into()),
        ];
        self.0.log.event(level, event, &message, &fields);
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        let entries = &self.0.entries;
        entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a contract breaks of the one in force. That one was read when it came into force, but
/// perhaps by an earlier version of this program, which took what this one does not: what it breaks
/// of that nobody can tell.
fn broken_by(before: &InForce, document: &Document) -> Vec<Finding> {
    match Document::read(&before.bytes) {
        Ok(before) => compare(&before, document),
        Err(fault) => vec![Finding {
            kind: "not_compared",
            pointer: "#".to_owned(),
            message: format!("the contract in force can't be read any more: {fault}"),
        }],
    }
}
