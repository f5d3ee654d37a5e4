//! Asks each instance how it is and what it runs, one prober a program.
//!
//! In: the plugins in force. Out: each instance's health and version, as far as it tells:
//! `health.path` at each interval, give or take a tenth, and `/version` every five seconds or as
//! soon as it is back; `contracts` asks for the rest. Whoever answers is well, whatever the answer
//! says, but for a 503 of its own, by which a plugin says that it is not, and for an answer that
//! the sidecar made because there is no plugin.
//! Invariant: of one instance one question is under way at a time, beside that for its contract,
//! and each has an end.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use gapura_runtime::worker::Worker;
use gapura_telemetry::log::Level;
use http::StatusCode;
use serde_json::Value;

use super::Upstreams;
use super::cluster::Running;
use super::contracts::Contracts;
use super::health::Change;
use super::instance::Instance;
use super::question::{Question, judge};
use crate::openapi::Book;
use crate::registry::{HealthCheck, Plugin, Registry};

/// Who asks.
struct Prober {
    upstreams: Rc<Upstreams>,
    worker: Rc<Worker>,
    contracts: Contracts,
    /// In how many milliseconds all that are new have been asked.
    spread: u64,
}

/// The questions how it is and what it runs, which go one after the other.
struct Usual {
    to: Question,
    health: bool,
    version: bool,
}

/// How often it is looked whose time has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often an instance is asked what it runs.
const VERSION_EVERY_MS: u64 = 5_000;

/// Over how long the first questions are spread, for each plugin there is: a thousand new files are
/// else as many handshakes at once, at the few sidecars that may stand before them all.
const SPREAD_MS_EACH: u64 = 2;

/// No instance waits longer for its first question: one that has to show its version is out so long.
const SPREAD_MS_MOST: u64 = 2_000;

/// Asks the instances of all plugins of `registry`, for ever; what they say of their contracts goes
/// into the book.
pub(crate) async fn run(
    upstreams: Rc<Upstreams>,
    worker: Rc<Worker>,
    registry: Registry,
    book: Book,
) {
    let mut prober = Prober {
        upstreams,
        worker,
        contracts: Contracts::new(book),
        spread: 0,
    };
    loop {
        prober.worker.timers.sleep(LOOK_EVERY).await;
        let table = registry.table();
        prober.contracts.compare(&table);
        prober.spread = spread(table.plugins().len());
        for (plugin, running) in table.running().filter(|(plugin, _)| plugin.enabled) {
            prober.look(plugin, running);
        }
    }
}

/// In how many milliseconds the new ones of so many plugins are asked.
fn spread(plugins: usize) -> u64 {
    let plugins = u64::try_from(plugins).unwrap_or(u64::MAX);
    SPREAD_MS_EACH.saturating_mul(plugins).min(SPREAD_MS_MOST)
}

impl Prober {
    fn look(&self, plugin: &Arc<Plugin>, running: &Running) {
        let main = std::iter::once((plugin, &running.main, true));
        let canary = running.canary.iter();
        let all = main.chain(canary.map(|canary| (&canary.plugin, &canary.cluster, false)));
        for (plugin, cluster, is_main) in all {
            let is_asked = plugin.health.is_some() || plugin.min_version.is_some();
            let now = cluster.epoch().now();
            for instance in cluster.instances().iter() {
                judge(plugin, cluster, instance, &self.worker);
                let to = || Question {
                    upstreams: self.upstreams.clone(),
                    worker: self.worker.clone(),
                    plugin: plugin.clone(),
                    cluster: cluster.clone(),
                    instance: instance.clone(),
                    is_main,
                };
                if plugin.contract.is_some() {
                    self.contracts
                        .look(&plugin.name, instance, &self.worker, now, to);
                }
                if !is_asked {
                    continue;
                }
                let (health, version) = self.due(instance, plugin, now);
                if (health || version) && !instance.asking.busy.swap(true, Relaxed) {
                    let usual = Usual {
                        to: to(),
                        health,
                        version,
                    };
                    self.worker.tasks.spawn("a probe", usual.ask());
                }
            }
        }
    }

    /// Which of the two questions it is time for. The first time is anywhere in the interval, or in
    /// what is new's spread, and the next ones differ by a tenth.
    fn due(&self, instance: &Instance, plugin: &Plugin, now: u64) -> (bool, bool) {
        let (asking, random) = (&instance.asking, &self.worker.random);
        let health = plugin.health.as_ref().is_some_and(|check| {
            let every = u64::try_from(check.interval.as_millis()).unwrap_or(u64::MAX / 2);
            asking.next_health.begin(now, random.next() % every.max(1));
            let spread = random.next() % (every / 5).max(1);
            asking.next_health.is_due(now, every - every / 10 + spread)
        });
        asking
            .next_version
            .begin(now, random.next() % self.spread.max(1));
        let version = asking.next_version.is_due(now, VERSION_EVERY_MS);
        (health, version)
    }
}

impl Usual {
    async fn ask(self) {
        let mut is_there = true;
        if self.health
            && let Some(check) = &self.to.plugin.health
        {
            is_there = self.to.ask_how(check).await;
        }
        if self.version && is_there {
            self.to.ask_version().await;
        }
    }
}

impl Question {
    /// Asks how it is; whether anybody answered.
    async fn ask_how(&self, check: &HealthCheck) -> bool {
        let told = self.get(&check.path).await;
        let (there, well) = match &told {
            Ok(told) if told.made => {
                let is_gone = told.status.is_server_error();
                (!is_gone, !is_gone)
            }
            Ok(told) => (true, told.status != StatusCode::SERVICE_UNAVAILABLE),
            Err(_) => (false, false),
        };
        if told.is_err() {
            self.cluster.look_soon();
        }
        let health = &self.instance.health;
        let was_in = health.is_in();
        let change = if well {
            health.probe_passed(self.cluster.epoch().now(), check.healthy_after)
        } else {
            health.probe_failed(check.unhealthy_after)
        };
        self.changed(change);
        if !was_in || !there {
            // What comes back may be another version.
            self.instance.asking.next_version.at_once();
        }
        there
    }

    async fn ask_version(&self) {
        let told = self.get("/version").await;
        let said = match &told {
            Ok(told) if told.status == StatusCode::OK && !told.made => version_of(&told.body),
            // An answer that tells none is an answer; without one, what it said last is all that is
            // known.
            Ok(told) if !told.made => None,
            Ok(_) | Err(_) => return,
        };
        let is_new = self.instance.says_version(said.clone());
        judge(&self.plugin, &self.cluster, &self.instance, &self.worker);
        if is_new {
            // What runs there now may serve another contract.
            self.instance.asking.next_contract.at_once();
            self.compare(said.as_deref());
        }
    }

    /// Tells of an instance that does not run what its plugin's file says.
    fn compare(&self, said: Option<&str>) {
        let Some(said) = said.filter(|said| self.is_main && *said != self.plugin.version) else {
            return;
        };
        let (plugin, at) = (self.plugin.name.as_str(), self.instance.at().to_string());
        let believed = self.plugin.version.as_str();
        let message = format!(
            "the instance of plugin {plugin} at {at} says that it runs {said}, and its file says {believed}"
        );
        let fields = [
            ("plugin", plugin.into()),
            ("instance", at.as_str().into()),
            ("version", said.into()),
            ("believed", believed.into()),
        ];
        let log = &self.worker.spec.log;
        log.event(Level::Warn, "version_mismatch", &message, &fields);
    }

    fn changed(&self, change: Option<Change>) {
        if let Some(change) = change {
            let log = &self.worker.spec.log;
            self.cluster.changed(&self.instance, change, log);
        }
    }
}

impl Drop for Usual {
    /// However it ended, the next one may be asked.
    fn drop(&mut self) {
        self.to.instance.asking.busy.store(false, Relaxed);
    }
}

/// What an answer says runs there: the field `version` of its JSON, as a plugin's file could write
/// it.
fn version_of(body: &[u8]) -> Option<String> {
    let told: Value = serde_json::from_slice(body).ok()?;
    let inner = told
        .get("data")
        .filter(|data| data.get("version").is_some());
    let version = inner.unwrap_or(&told).get("version")?.as_str()?;
    let fits =
        (1..=128).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_asked_at_once_and_nobody_of_many_waits_long() {
        assert_eq!(
            [0, 1, 50, 1000, 4096, usize::MAX].map(spread),
            [0, 2, 100, 2000, 2000, 2000]
        );
    }

    #[test]
    fn a_version_is_a_short_text_by_that_name() {
        for (body, version) in [
            (r#"{"version": "1.2.3"}"#, Some("1.2.3")),
            (
                r#"{"name": "lab", "version": "1.2.3-rc.1"}"#,
                Some("1.2.3-rc.1"),
            ),
            (
                r#"{"ok": true, "data": {"version": "2.0.0"}}"#,
                Some("2.0.0"),
            ),
            (r#"{"version": 1}"#, None),
            (r#"{"version": ""}"#, None),
            (r#"{"version": "1\n2"}"#, None),
            ("1.2.3", None),
            ("", None),
        ] {
            assert_eq!(version_of(body.as_bytes()).as_deref(), version, "{body}");
        }
    }
}
