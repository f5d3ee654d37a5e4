//! What follows a command that wrote mesh directories: `--push`, `--exec`, and a note of the
//! success.

use std::path::PathBuf;
use std::time::Duration;

use gapura_pki::deliver::{Delivery, Hook, HookKind};
use gapura_pki::passphrase::{KeyProtection, Source};
use gapura_pki::{Error, Pki};
use gapura_protocol::clock::Clock;
use serde_json::{Value, json};

use crate::commands::global::Global;
use crate::commands::report::{Report, line};

/// What is to follow.
pub(crate) struct After {
    dir: PathBuf,
    patience: Duration,
    hooks: Vec<Hook>,
}

impl After {
    /// What the flags ask for.
    pub(crate) fn of(global: &Global) -> Result<Self, Error> {
        let named = [
            (HookKind::Push, &global.push),
            (HookKind::Exec, &global.exec),
        ];
        let hooks = named
            .into_iter()
            .filter_map(|(kind, text)| Some(Hook::new(kind, text.as_deref()?)))
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            dir: global.dir.clone(),
            patience: global.lock_timeout,
            hooks,
        })
    }

    /// Does it, and adds to the report what came of it. `counts`: whether a success is one of the
    /// whole installation.
    pub(crate) fn run(&self, report: &mut Report, counts: bool) -> Result<(), Error> {
        if self.hooks.is_empty() && !counts {
            return Ok(());
        }
        // No key is opened any more.
        let protection = KeyProtection::from_source(Source::Terminal(false));
        let pki = Pki::open(&self.dir, protection, &Clock::system())?.with_patience(self.patience);
        let done = pki.deliver(&self.hooks)?;
        for one in &done {
            let (kind, label, out) = (one.kind, &one.label, one.out.display());
            match &one.failed {
                None => line(&mut report.text, format_args!("{kind}: {label} ({out})")),
                Some(why) => line(
                    &mut report.text,
                    format_args!("{kind} FAILED: {label} ({out}): {why}; the next run repeats it"),
                ),
            }
        }
        if !self.hooks.is_empty()
            && let Some(object) = report.json.as_object_mut()
        {
            object.insert("delivered".to_owned(), done.iter().map(to_json).collect());
        }
        if done.iter().any(|one| one.failed.is_some()) && report.exit == 0 {
            report.exit = 3;
        }
        if counts && report.exit == 0 {
            pki.note_success()?;
        }
        Ok(())
    }
}

fn to_json(one: &Delivery) -> Value {
    json!({ "kind": one.kind, "name": one.label, "out": one.out, "failed": one.failed })
}
