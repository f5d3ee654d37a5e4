//! The one gate that every change to a disk passes before it is made.
//!
//! In: what is about to be done, and where. Out: leave to do it. Nothing is decided here in the program; in the library's own tests a
//! [`faults::Plan`] stands behind the gate and lets the program die, or the disk be full, at any one of these steps. Invariant: no
//! other file of this crate makes, writes, renames, links, gives away or removes a file without asking here first.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file, folder or link is made.
    Create,
    /// Bytes are written.
    Write,
    /// Bytes or names are made to outlive a power cut.
    Sync,
    /// One name takes the place of another.
    Rename,
    /// Another user gets it.
    Owner,
    /// A name goes.
    Remove,
}

/// Asks for leave.
pub(crate) fn before(change: Change, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    faults::strike(change, path)?;
    let _ = (change, path);
    Ok(())
}

/// Writes all of `bytes`, or a part of them where the disk or the program fails in the middle.
pub(crate) fn write_all(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    before(Change::Write, path).inspect_err(|_| {
        // What a kill in the middle of a write leaves.
        #[cfg(test)]
        let _ = file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default());
    })?;
    file.write_all(bytes)
}

/// Makes what was written to `file` outlive a power cut.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    before(Change::Sync, path)?;
    #[cfg(test)]
    if faults::spare_the_disk(path) {
        return Ok(());
    }
    file.sync_all()
}

#[cfg(test)]
pub(crate) mod faults {
    //! Deaths and full disks on demand, below one folder.

    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, MutexGuard};

    use super::Change;

    /// How it fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// Never.
        None,
        /// Nothing is done from this step on, as if the program had been killed; not even what tidies up.
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

    type Hook = Arc<dyn Fn(Change, &Path) + Send + Sync>;

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
            hook: impl Fn(Change, &Path) + Send + Sync + 'static,
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

    pub(super) fn strike(change: Change, path: &Path) -> io::Result<()> {
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
                Fault::Full => step >= plan.at && matches!(change, Change::Create | Change::Write),
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
    pub(super) fn spare_the_disk(path: &Path) -> bool {
        plans().iter().any(|plan| path.starts_with(&plan.below))
    }
}
