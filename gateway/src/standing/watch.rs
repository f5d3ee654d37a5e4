//! Keeps the deny list and the companies' files in step with the disk while the program runs.
//!
//! In: the file and the folder, each followed by a [`FileWatch`]. Out: what is in force behind one pointer each, a word to every open
//! stream that something changed, and the alarms `deny` and `tenants` while something is wrong. What to make of a text is decided in
//! `deny` and `tenants`.

mod deny;
mod known;
mod tenants;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use gapura_runtime::reload::asked::Asked;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use tokio::sync::watch;

use super::{Inner, Settings, Standing};
use deny::DenyWatch;
use known::Common;
use tenants::TenantsWatch;

/// What follows both. Dropping it ends the following and nothing else.
pub(crate) struct Watcher {
    deny: Option<DenyWatch>,
    tenants: Option<TenantsWatch>,
}

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
            deny::open(file, copy("deny"), alarms)
                .map_err(|all| faults.extend(all))
                .ok()
        });
        let tenants = settings.tenants.as_deref().and_then(|folder| {
            tenants::open(folder, copy("tenants"))
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

#[cfg(test)]
mod tests;
