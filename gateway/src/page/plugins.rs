//! The page's section of plugins: each with its instances, and how it has been lately.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gapura_page::history::{History, Lately};
use gapura_protocol::clock::unix;
use serde::Serialize;

use crate::registry::{Found, Plugin, Table};
use crate::upstream::cluster::{Cluster, Running};
use crate::upstream::health::Reason;
use crate::upstream::instance::Instance;

/// One plugin.
#[derive(Serialize)]
pub(super) struct PluginFacts {
    name: String,
    /// What its file says that it runs.
    version: String,
    mount: String,
    file: String,
    auth_mode: &'static str,
    identity: Option<String>,
    state: State,
    shadow: bool,
    rate_limit: Option<String>,
    min_version: Option<String>,
    max_in_flight: u32,
    in_flight: u64,
    waiting: u64,
    lately: Lately,
    instances: Vec<InstanceFacts>,
    canary: Option<CanaryFacts>,
}

/// How a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// All instances get requests.
    Well,
    /// Some do not.
    Weak,
    /// None does.
    Down,
    /// Its names stand for no address.
    Nowhere,
    /// Its file says that it is not to be served.
    Disabled,
}

/// One instance.
#[derive(Serialize)]
struct InstanceFacts {
    address: String,
    weight: u16,
    healthy: bool,
    /// Why it is out.
    out_for: Vec<&'static str>,
    /// Until when it is out in any case, Unix time.
    ejected_until: Option<u64>,
    /// Its part of the requests, in a thousandth.
    share: u64,
    /// What it says that it runs.
    version: Option<String>,
    /// Whether that is something else than its file says.
    version_differs: bool,
    in_flight: u64,
    /// How long an answer is expected to take, as its workers see it.
    expected_us: u64,
}

/// Another upstream for some.
#[derive(Serialize)]
struct CanaryFacts {
    percent: u64,
    companies: usize,
    mirror: bool,
    instances: Vec<InstanceFacts>,
}

/// Each plugin in force, in the order of their names.
pub(super) fn all(table: &Table<Running>, history: &History, now: SystemTime) -> Vec<PluginFacts> {
    let plugins = table.plugins().iter();
    plugins
        .map(|(file, plugin)| {
            let running = match table.find(plugin.mount.as_str()) {
                Found::Plugin { running, .. } => Some(running),
                Found::Held | Found::NoRoute => None,
            };
            of(file, plugin, running, history, now)
        })
        .collect()
}

fn of(
    file: &str,
    plugin: &Arc<Plugin>,
    running: Option<&Running>,
    history: &History,
    now: SystemTime,
) -> PluginFacts {
    let instances = |cluster: &Cluster, said: Option<&str>| instances(cluster, said, now);
    let version = plugin.version.as_str();
    let main = running.map_or_else(Vec::new, |running| instances(&running.main, Some(version)));
    let canary = plugin.canary.as_ref().map(|canary| {
        let at = running.and_then(|running| running.canary.as_ref());
        CanaryFacts {
            percent: canary.percent(),
            companies: canary.tenants().count(),
            mirror: canary.mirror,
            instances: at.map_or_else(Vec::new, |at| instances(&at.cluster, None)),
        }
    });
    PluginFacts {
        name: plugin.name.to_string(),
        version: plugin.version.clone(),
        mount: plugin.mount.to_string(),
        file: file.to_owned(),
        auth_mode: plugin.auth.as_str(),
        identity: (!plugin.upstream.is_plaintext()).then(|| plugin.identity.to_string()),
        state: State::of(plugin.enabled, &main),
        shadow: plugin.access.is_shadow(),
        rate_limit: plugin.rate_limit.as_ref().map(ToString::to_string),
        min_version: plugin.min_version.as_ref().map(ToString::to_string),
        max_in_flight: plugin.max_in_flight,
        in_flight: running.map_or(0, Running::in_flight),
        waiting: running.map_or(0, Running::waiting),
        lately: history.lately(plugin.name.as_str()),
        instances: main,
        canary,
    }
}

fn instances(cluster: &Cluster, said: Option<&str>, now: SystemTime) -> Vec<InstanceFacts> {
    let (all, moment) = (cluster.instances(), cluster.epoch().now());
    let weight = |one: &Instance| match one.health.is_in() {
        true => u64::from(one.place.weight) * one.health.share(moment),
        false => 0,
    };
    let whole: u64 = all.iter().map(|one| weight(one)).sum();
    let of = |one: &Arc<Instance>| {
        let out = Reason::ALL.into_iter();
        let out = out.filter(|reason| one.health.is_out_for(*reason));
        let version = one.version();
        let differs = said
            .zip(version.as_deref())
            .is_some_and(|(wanted, says)| wanted != says);
        let until = one.health.ejected_until().map(|until| {
            let left = Duration::from_millis(until.saturating_sub(moment));
            unix(now + left)
        });
        let (in_flight, expected_us) = one.loads.sum();
        InstanceFacts {
            address: one.at().to_string(),
            weight: one.place.weight,
            healthy: one.health.is_in(),
            out_for: out.map(Reason::as_str).collect(),
            ejected_until: until,
            share: (weight(one) * 1000).checked_div(whole).unwrap_or(0),
            version: version.as_deref().cloned(),
            version_differs: differs,
            in_flight,
            expected_us,
        }
    };
    all.iter().map(of).collect()
}

impl State {
    fn of(enabled: bool, instances: &[InstanceFacts]) -> Self {
        let healthy = instances.iter().filter(|one| one.healthy).count();
        match (enabled, instances.len()) {
            (false, _) => Self::Disabled,
            (true, 0) => Self::Nowhere,
            (true, all) if healthy == all => Self::Well,
            (true, _) if healthy == 0 => Self::Down,
            (true, _) => Self::Weak,
        }
    }
}
