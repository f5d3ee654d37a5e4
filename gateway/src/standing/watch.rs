//! Keeps the deny list and the companies' files in step with the disk while the program runs.
//!
//! In: the file and the folder, each followed by a [`FileWatch`]. Out: what is in force behind one
//! pointer each, a word to every open stream that something changed, and the alarms `deny` and
//! `tenants` while something is wrong. What to make of a text is decided in `deny` and `tenants`.

mod deny;
mod followed;
mod tenants;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use gapura_protocol::clock::Clock;
use gapura_reload::asked::Asked;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use tokio::sync::watch;

use super::logouts::Logouts;
use super::{Inner, Settings, Standing};
use deny::DenyWatch;
use followed::Common;
use tenants::TenantsWatch;

/// What follows both. Dropping it ends the following and nothing else.
pub(crate) struct Watcher {
    deny: Option<DenyWatch>,
    tenants: Option<TenantsWatch>,
    /// Whose old logouts are forgotten.
    tidied: Standing,
}

/// Logouts that count no more are forgotten this often.
const TIDY_EVERY: Duration = Duration::from_secs(30);

impl Standing {
    /// Reads both for the first time.
    ///
    /// # Errors
    /// Every fault, a sentence each, unless there is a last good copy to start from.
    pub(crate) fn open(
        settings: &Settings,
        clock: &Clock,
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
        let logouts = settings.logouts.as_ref().and_then(|kept| {
            Logouts::open(kept, clock, alarms)
                .map_err(|fault| faults.push(fault))
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
            logouts,
            changed: watch::channel(0).0,
            streams_ended: AtomicU64::default(),
        }));
        let common = Common {
            standing: standing.clone(),
            log: log.clone(),
            alarms: alarms.clone(),
        };
        let of_deny = common.clone();
        let deny = deny.map(|followed| DenyWatch {
            common: of_deny,
            followed,
        });
        let mut tenants = tenants.map(|followed| TenantsWatch { common, followed });
        if let (Some(watch), Some(built)) = (&mut tenants, built) {
            watch.publish(built);
        }
        let tidied = standing.clone();
        let watcher = Watcher {
            deny,
            tenants,
            tidied,
        };
        Ok((standing, watcher))
    }
}

impl Watcher {
    /// Follows both until it is dropped; who asks has both read again.
    pub(crate) async fn run(self, asked: Asked) {
        let deny = self.deny.map(|watch| watch.run(asked.clone()));
        let tenants = self.tenants.map(|watch| watch.run(asked.clone()));
        let tidied = self.tidied.0.logouts.is_some().then(|| tidy(self.tidied));
        // What nobody listens to must not be waited for.
        drop(asked);
        tokio::join!(all(deny), all(tenants), all(tidied));
    }
}

/// Forgets what counts no more, from time to time.
async fn tidy(standing: Standing) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        let standing = standing.clone();
        // It may write to a disk.
        let tidied =
            tokio::task::spawn_blocking(move || standing.0.logouts.as_ref().map(Logouts::tidy));
        if tidied.await.is_err() {
            return;
        }
    }
}

async fn all(followed: Option<impl Future<Output = ()>>) {
    if let Some(followed) = followed {
        followed.await;
    }
}

#[cfg(test)]
mod tests;
