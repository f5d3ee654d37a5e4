//! What both programs read before they start.
//!
//! In: checked settings. Out: a [`Ground`] together with what the program has read besides, or
//! every fault at once, a sentence each. Nothing is bound or begun here, so that `--check`, which
//! ends after this, finds the very faults that a start would.

use std::collections::BTreeSet;
use std::sync::Arc;

use gapura_files::secret;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_settings::Common;
use gapura_telemetry::alarms::{Alarm, docs};
use gapura_trust::set::{TrustOptions, TrustSet, TrustStore};
use gapura_trust::state::Kept;

use crate::spans::Collector;

/// What a program reads before it starts, and every fault found on the way.
pub struct Loading {
    trust: Option<TrustSet>,
    options: TrustOptions,
    kept: Kept,
    admin_token: Option<Arc<[u8]>>,
    collector: Option<Collector>,
    warnings: Vec<String>,
    faults: Vec<String>,
    about: BTreeSet<Alarm>,
}

/// What both programs have loaded once there is no fault.
pub struct Ground {
    /// The trust set that the program begins with.
    pub trust: TrustStore,
    /// How it is read.
    pub(crate) options: TrustOptions,
    /// How far its CRLs had come.
    pub(crate) kept: Kept,
    /// What an operator must say on the admin side.
    pub(crate) admin_token: Option<Arc<[u8]>>,
    /// Where spans go.
    pub(crate) collector: Option<Collector>,
    /// What is allowed and hardly meant, a sentence each.
    pub warnings: Vec<String>,
}

impl Loading {
    /// Reads what both programs need, for one of this `role`.
    #[must_use]
    pub fn begin(common: &Common, role: Role, clock: &Clock) -> Self {
        let mut faults = Vec::new();
        let mut note = |fault: String| faults.push(fault);
        let kept = Kept::open(common.state_dir.as_deref(), &common.accept_crl_reset)
            .map_err(&mut note)
            .unwrap_or_default();
        let options = TrustOptions {
            own_role: role,
            no_crl: common.no_crl,
            clock: clock.clone(),
        };
        let trust = TrustSet::start(&common.mesh_dir, &options, kept.marks())
            .map_err(|error| note(error.to_string()))
            .ok();
        let about = trust.is_none().then_some(Alarm::Trust);
        let token = common
            .admin
            .token_file
            .as_deref()
            .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST));
        let token = token.transpose().map_err(&mut note).ok().flatten();
        let mut warnings = Vec::new();
        let collector = common.traces.as_ref().map(|traces| {
            let own = trust.as_ref().map(|trust| &trust.own().id);
            Collector::load(traces, own, |warning| warnings.push(warning))
        });
        let collector = collector.transpose();
        let collector = collector.map_err(|all| faults.extend(all)).ok().flatten();
        Self {
            trust,
            options,
            kept,
            admin_token: token.map(|token| Arc::from(token.as_slice())),
            collector,
            warnings,
            faults,
            about: about.into_iter().collect(),
        }
    }

    /// The trust set, where it fits: without it, what depends on the trust domain can't be judged.
    #[must_use]
    pub fn trust(&self) -> Option<&TrustSet> {
        self.trust.as_ref()
    }

    /// Notes a fault, a sentence.
    pub fn fault(&mut self, sentence: impl Into<String>) {
        self.faults.push(sentence.into());
    }

    /// What was read, or `None` and its fault noted.
    pub fn note<T>(&mut self, read: Result<T, impl Into<String>>) -> Option<T> {
        read.map_err(|fault| self.fault(fault)).ok()
    }

    /// The same for what may have several faults.
    pub fn note_all<T, F: ToString>(&mut self, read: Result<T, Vec<F>>) -> Option<T> {
        read.map_err(|all| self.faults.extend(all.iter().map(ToString::to_string)))
            .ok()
    }

    /// What was read, or `None`: its fault would raise `alarm` in a program that runs.
    pub fn judged<T>(&mut self, alarm: Alarm, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.about.insert(alarm);
        }
        read
    }

    /// What was loaded, and what the program has read besides; nothing of it if there was any
    /// fault.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    pub fn end<T>(self, own: Option<T>) -> Result<(Ground, T), Vec<String>> {
        match (self.trust, own) {
            (Some(trust), Some(own)) if self.faults.is_empty() => {
                let ground = Ground {
                    trust: TrustStore::new(trust),
                    options: self.options,
                    kept: self.kept,
                    admin_token: self.admin_token,
                    collector: self.collector,
                    warnings: self.warnings,
                };
                Ok((ground, own))
            }
            _ => Err(with_docs(self.faults, &self.about)),
        }
    }
}

/// The faults, and where it is written what to do about those that a running program would raise an
/// alarm for.
#[must_use]
pub fn with_docs<'a>(
    mut faults: Vec<String>,
    about: impl IntoIterator<Item = &'a Alarm>,
) -> Vec<String> {
    let pages = about.into_iter().map(|alarm| docs(alarm.as_str()));
    let pages: Vec<String> = pages.collect();
    if !pages.is_empty() {
        faults.push(format!("what to do about it: {}", pages.join(", ")));
    }
    faults
}
