//! What is done with each mesh directory after it changed: `--push` brings it elsewhere, `--exec`
//! tells somebody of it.
//!
//! In: commands, as words and not for a shell. Out: what became of each. A directory is told from
//! its last state by a print of what it shows, kept in `runs.json` in the state directory once a
//! command has succeeded for it; so a command that failed, or that a crash kept from being run, is
//! repeated by the next run, and `check` knows. Invariant: commands run when the lock has been
//! given back: a slow network never holds up a revocation.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gapura_protocol::words;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ledger::{Leaf, Ledger};
use crate::mesh_dir;
use crate::parallel;
use crate::pki::Pki;
use crate::standing::Own;
use crate::store::{self, Access, Lock};
use crate::timestamp::Timestamp;

/// How long one command may take before it is ended and counts as failed.
const LIMIT: Duration = Duration::from_secs(120);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// `--push`: brings the directory to where it is used.
    Push,
    /// `--exec`: whatever else is to happen after a change. Runs after a push, and only when that
    /// succeeded.
    Exec,
}

/// A command to run for each directory that changed.
#[derive(Clone, Debug)]
pub struct Hook {
    kind: HookKind,
    program: String,
    arguments: Vec<String>,
}

/// What became of one command.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which command.
    pub kind: HookKind,
    /// The mesh directory.
    pub out: PathBuf,
    /// Who it speaks for.
    pub label: String,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

/// The file that remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Runs {
    /// When a run last did all it had to.
    #[serde(default)]
    pub(crate) last_success: Option<Timestamp>,
    #[serde(default)]
    hooks: BTreeMap<HookKind, BTreeMap<PathBuf, Told>>,
}

/// What a command was last told of a directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Told {
    /// The print of what it held when the command last succeeded.
    #[serde(default)]
    done: Option<String>,
    /// Why the command failed since.
    #[serde(default)]
    failed: Option<String>,
}

impl HookKind {
    /// The flag's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Exec => "exec",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Hook {
    /// Takes a command apart: words are separated by spaces; '...' and "..." keep spaces, \ takes
    /// the next character as it is. Nothing else has a meaning: no variable, no pipe, no wildcard.
    ///
    /// # Errors
    /// An open quote, or no word at all.
    pub fn new(kind: HookKind, text: &str) -> Result<Self, Error> {
        let mut words = words::split(text)
            .map_err(|why| Error::Usage(format!("--{kind} {text:?}: {why}")))?
            .into_iter();
        let program = words.next().ok_or_else(|| {
            Error::Usage(format!(
                "--{kind} names no command; leave it out or name a program"
            ))
        })?;
        Ok(Self {
            kind,
            program,
            arguments: words.collect(),
        })
    }

    fn run(
        &self,
        pki_domain: &gapura_protocol::identity::TrustDomain,
        job: &Job,
    ) -> Result<(), String> {
        let to_stderr = || {
            let own = std::io::stderr().as_fd().try_clone_to_owned();
            own.map_or_else(|_| Stdio::null(), Stdio::from)
        };
        let leaf = &job.leaf;
        let started = Command::new(&self.program)
            .args(&self.arguments)
            .env("GAPURA_PKI_HOOK_DIR", &leaf.out)
            .env("GAPURA_PKI_HOOK_ROLE", leaf.role.as_str())
            .env("GAPURA_PKI_HOOK_NAME", leaf.name.as_str())
            .env("GAPURA_PKI_HOOK_ID", leaf.id(pki_domain).to_string())
            .env("GAPURA_PKI_HOOK_SERIAL", &leaf.serial)
            .env("GAPURA_PKI_HOOK_GENERATION", job.generation.to_string())
            .stdin(Stdio::null())
            .stdout(to_stderr()) // standard output is the report's
            .stderr(to_stderr())
            .spawn();
        let mut child =
            started.map_err(|why| format!("{} can't be started: {why}", self.program))?;
        let deadline = Instant::now() + LIMIT;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{} failed: {status}", self.program)),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let limit = LIMIT.as_secs();
                    return Err(format!(
                        "{} took longer than {limit} s and was ended",
                        self.program
                    ));
                }
                Err(why) => return Err(format!("{} can't be waited for: {why}", self.program)),
            }
        }
    }
}

/// One directory that a command is to be told of.
#[derive(Clone)]
struct Job {
    leaf: Leaf,
    print: String,
    generation: u64,
}

impl Pki {
    /// Runs `hooks` for every mesh directory that changed since they last succeeded for it, and
    /// remembers.
    ///
    /// # Errors
    /// The inventory can't be read, or what was done can't be remembered.
    pub fn deliver(&self, hooks: &[Hook]) -> Result<Vec<Delivery>, Error> {
        if hooks.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        let mut hooks: Vec<&Hook> = hooks.iter().collect();
        hooks.sort_by_key(|hook| hook.kind);
        let jobs = self.jobs()?;
        let mut stopped: HashSet<PathBuf> = HashSet::new();
        for hook in hooks {
            let runs = Runs::load(self.dir());
            let wanted: Vec<Job> = jobs
                .iter()
                .filter(|job| !stopped.contains(&job.leaf.out))
                .filter(|job| runs.behind(hook.kind, &job.leaf.out, &job.print).is_some())
                .cloned()
                .collect();
            let (told, domain, own) = (wanted.clone(), self.trust_domain().clone(), hook.clone());
            let done = parallel::each_within(
                wanted,
                LIMIT + Duration::from_secs(10),
                move |job: Job| own.run(&domain, &job),
                |_| Err("it could not be ended".to_owned()),
            )?;
            let done: Vec<Delivery> = told
                .iter()
                .zip(done)
                .map(|(job, result)| Delivery {
                    kind: hook.kind,
                    out: job.leaf.out.clone(),
                    label: job.leaf.label(),
                    failed: result.err(),
                })
                .collect();
            let failed = done.iter().filter(|delivery| delivery.failed.is_some());
            stopped.extend(failed.map(|delivery| delivery.out.clone()));
            self.remember(|runs| {
                let known: HashSet<&Path> = jobs.iter().map(|job| job.leaf.out.as_path()).collect();
                let kept = runs.hooks.entry(hook.kind).or_default();
                kept.retain(|out, _| known.contains(out.as_path()));
                for (job, delivery) in told.iter().zip(&done) {
                    let entry = kept.entry(job.leaf.out.clone()).or_default();
                    entry.failed.clone_from(&delivery.failed);
                    if delivery.failed.is_none() {
                        entry.done = Some(job.print.clone());
                    }
                }
            })?;
            all.extend(done);
        }
        Ok(all)
    }

    /// Notes that a run did all it had to.
    ///
    /// # Errors
    /// It can't be written.
    pub fn note_success(&self) -> Result<(), Error> {
        let now = self.now();
        self.remember(|runs| runs.last_success = Some(now))
    }

    fn remember(&self, change: impl FnOnce(&mut Runs)) -> Result<(), Error> {
        let _lock = Lock::take(self.dir(), self.patience())?;
        let mut runs = Runs::load(self.dir());
        change(&mut runs);
        let text = serde_json::to_vec(&runs)
            .map_err(|why| Error::Failed(format!("runs.json can't be written: {why}")))?;
        store::replace(&path(self.dir()), &text, Access::Owner)
    }

    /// Every directory that shows a live certificate of ours.
    fn jobs(&self) -> Result<Vec<Job>, Error> {
        let (ledger, now) = (self.ledger()?, self.now());
        let own = self.own(&ledger);
        let leaves = ledger.by_directory();
        let live = leaves.into_iter().filter(|leaf| ledger.is_live(leaf, now));
        Ok(live.filter_map(|leaf| job(leaf, &own)).collect())
    }
}

fn job(leaf: &Leaf, own: &Own) -> Option<Job> {
    let shown = mesh_dir::current(&leaf.out).ok().flatten()?;
    own.is_ours(&shown, leaf).then(|| Job {
        leaf: leaf.clone(),
        print: shown.print(),
        generation: shown.generation.unwrap_or(0),
    })
}

impl Runs {
    /// What is remembered. A file that can't be read is as good as none: everything is told once
    /// more.
    pub(crate) fn load(dir: &Path) -> Self {
        let bytes = store::read_if_there(&path(dir)).ok().flatten();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Why the command `kind` has to be run for the directory `out`, which holds what has that
    /// print; `None` where it need not.
    fn behind(&self, kind: HookKind, out: &Path, print: &str) -> Option<String> {
        let told = self.hooks.get(&kind).and_then(|told| told.get(out));
        match told {
            Some(told) if told.done.as_deref() == Some(print) => None,
            Some(Told {
                failed: Some(why), ..
            }) => Some(why.clone()),
            _ => Some("it changed and was not told of since".to_owned()),
        }
    }

    /// Every directory that a command which is in use has yet to be told of, and why.
    pub(crate) fn pending(
        &self,
        ledger: &Ledger,
        own: &Own,
        now: Timestamp,
    ) -> Vec<(HookKind, Leaf, String)> {
        let mut found = Vec::new();
        if self.hooks.is_empty() {
            return found;
        }
        for leaf in ledger.by_directory() {
            let Some(job) = Some(leaf)
                .filter(|leaf| ledger.is_live(leaf, now))
                .and_then(|leaf| job(leaf, own))
            else {
                continue;
            };
            for kind in self.hooks.keys() {
                if let Some(why) = self.behind(*kind, &leaf.out, &job.print) {
                    found.push((*kind, leaf.clone(), why));
                }
            }
        }
        found
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("runs.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_at_least_one_word() {
        assert!(Hook::new(HookKind::Push, "  ").is_err());
        assert!(Hook::new(HookKind::Push, "true").is_ok());
    }
}
