//! Deaths and full disks on demand, below one folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::Operation;

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Never.
    None,
    /// Nothing is done from this step on, as if the program had been killed; not even what tidies
    /// up.
    Dies,
    /// From this step on nothing can be made or written; names still go and change.
    Full,
}

struct State {
    below: PathBuf,
    fault: Fault,
    at: usize,
    steps: usize,
    last: String,
    hook: Option<Hook>,
}

type Hook = Arc<dyn Fn(Operation, &Path) + Send + Sync>;

static PLANS: Mutex<Vec<State>> = Mutex::new(Vec::new());

fn plans() -> MutexGuard<'static, Vec<State>> {
    PLANS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Faults below one folder, for as long as this lives.
pub(crate) struct Plan(PathBuf);

impl Plan {
    /// Fails at the step `at`, counted from 0.
    pub(crate) fn new(below: &Path, fault: Fault, at: usize) -> Self {
        Self::add(below, fault, at, None)
    }

    /// Fails nothing and calls `hook` before each step: a pause in which another user may act.
    pub(crate) fn pausing(
        below: &Path,
        hook: impl Fn(Operation, &Path) + Send + Sync + 'static,
    ) -> Self {
        Self::add(below, Fault::None, 0, Some(Arc::new(hook)))
    }

    fn add(below: &Path, fault: Fault, at: usize, hook: Option<Hook>) -> Self {
        plans().push(State {
            below: below.to_owned(),
            fault,
            at,
            steps: 0,
            last: String::new(),
            hook,
        });
        Self(below.to_owned())
    }

    /// How many steps were asked for, and the one that failed.
    pub(crate) fn steps(&self) -> (usize, String) {
        plans()
            .iter()
            .find(|plan| plan.below == self.0)
            .map(|plan| (plan.steps, plan.last.clone()))
            .unwrap_or_default()
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        plans().retain(|plan| plan.below != self.0);
    }
}

pub(crate) fn strike(change: Operation, path: &Path) -> io::Result<()> {
    let hook = {
        let mut plans = plans();
        let Some(plan) = plans.iter_mut().find(|plan| path.starts_with(&plan.below)) else {
            return Ok(());
        };
        let step = plan.steps;
        plan.steps += 1;
        let fails = match plan.fault {
            Fault::None => false,
            Fault::Dies => step >= plan.at,
            Fault::Full => {
                step >= plan.at && matches!(change, Operation::Create | Operation::Write)
            }
        };
        if fails {
            if plan.last.is_empty() {
                plan.last = format!("step {step}, {change:?} {}", path.display());
            }
            return Err(match plan.fault {
                Fault::Full => io::Error::from(io::ErrorKind::StorageFull),
                _ => io::Error::other("killed"),
            });
        }
        plan.hook.clone()
    };
    if let Some(hook) = hook {
        hook(change, path);
    }
    Ok(())
}

/// A test that counts steps need not wait for a real disk at each.
pub(crate) fn spare_the_disk(path: &Path) -> bool {
    plans().iter().any(|plan| path.starts_with(&plan.below))
}
