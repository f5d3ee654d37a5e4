//! The running side of one plugin: where it is now, and what it counts.
//!
//! In: a plugin, when the registry first sees it. Out: a [`Cluster`], which each reload that
//! reaches the plugin as before carries over, and which is dropped with the last table that has it.
//! Its connections belong to the workers: each has a place for it at the cluster's seat, a small
//! number that no other living cluster has, so that nothing is looked up on a request's path.
//! Invariant: of two clusters that live one seat is never both's. Whoever holds a cluster knows how
//! the plugin is reached: another identity, scheme or list of hosts is another cluster. Where two
//! lead to one address they share its connections, if they want the same identity there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::{ArcSwap, Guard};
use gapura_protocol::identity::{Name, PeerId};
use gapura_telemetry::log::{Level, Log};
use gapura_telemetry::metrics::{Meters, PluginMeters};
use gapura_transport::body::Attachment;
use tokio::sync::Notify;

use super::admission::Admission;
use super::allowance::Allowance;
use super::health::{Change, Reason};
use super::instance::{Address, Epoch, Instance, Place};
use crate::registry::{Host, Plugin, Table, Upstream};

/// The running side of one plugin.
#[derive(Debug)]
pub(crate) struct Cluster {
    seat: usize,
    reached: Reached,
    instances: ArcSwap<Vec<Arc<Instance>>>,
    /// Counts how often one of them came in or went out.
    generation: AtomicU64,
    /// An instance is out until it has said that it is new enough.
    wary: AtomicBool,
    /// An instance is out until it has shown a contract that will do.
    strict: AtomicBool,
    epoch: Epoch,
    allowance: Allowance,
    name: Name,
    meters: OnceLock<Arc<PluginMeters>>,
    admission: Arc<Admission>,
    look_soon: LookSoon,
    /// Requests that have a connection to themselves.
    alone: AtomicUsize,
}

/// After so many plugins, which take a few microseconds, whoever wants this processor gets it.
const STEP_ASIDE_EVERY: usize = 32;

/// A request's leave to have a connection to itself, until this is dropped.
#[derive(Debug)]
pub(crate) struct Alone(Arc<Cluster>);

/// Requests that may have a connection to themselves at a time, from this gateway to one plugin.
/// Each costs a handshake and a connection at the plugin; more is what a few clients can ask for,
/// and no plugin has use for.
const ALONE_MOST: usize = 256;

/// What runs for one plugin: its cluster, and that of its canary.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Where the plugin is.
    pub(crate) main: Arc<Cluster>,
    /// Where its canary is, if it has one.
    pub(crate) canary: Option<AtCanary>,
}

/// A plugin as it is at its canary.
#[derive(Clone, Debug)]
pub(crate) struct AtCanary {
    /// The plugin, elsewhere.
    pub(crate) plugin: Arc<Plugin>,
    /// Where that is.
    pub(crate) cluster: Arc<Cluster>,
}

/// How a plugin is reached: what of its file decides whether a reload keeps its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reached {
    upstream: Upstream,
    /// Whom the sidecar must prove to be; none where there is no sidecar.
    identity: Option<PeerId>,
    may_leave_loopback: bool,
}

/// The clusters of a registry.
pub(crate) struct Clusters {
    look_soon: LookSoon,
    seats: Vec<Weak<Cluster>>,
    /// Of these, those that can be given again.
    free: Vec<usize>,
    /// By the plugin's name, and whether it is its canary's.
    known: HashMap<(Name, bool), Weak<Cluster>>,
    epoch: Epoch,
}

/// Asks for a look at the names before its time. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct LookSoon(Arc<Notify>);

impl Cluster {
    /// Which place is its own, in each worker.
    pub(crate) fn seat(&self) -> usize {
        self.seat
    }

    /// Whom its sidecar must prove to be; none where it is reached in plain HTTP.
    pub(crate) fn identity(&self) -> Option<&PeerId> {
        self.reached.identity.as_ref()
    }

    /// What its file names.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.reached.upstream
    }

    /// Its addresses now, for as long as one look needs them; none while its names have not been
    /// resolved.
    pub(crate) fn instances(&self) -> Guard<Arc<Vec<Arc<Instance>>>> {
        self.instances.load()
    }

    /// How many requests are under way to it, and who waits for a place.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Changes whenever one of them comes in or goes out.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Since when the times of its instances count.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What it may be sent of copies.
    pub(crate) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// Whether another instance than those that are `known` is in.
    pub(crate) fn has_another(&self, known: impl Fn(&Arc<Instance>) -> bool) -> bool {
        let instances = self.instances();
        let mut others = instances.iter().filter(|one| !known(one));
        others.any(|one| one.place.weight > 0 && one.health.is_in())
    }

    /// An instance came in or went out: all workers look again, and the operator hears of it.
    pub(crate) fn changed(&self, instance: &Instance, change: Change, log: &Log) {
        self.generation.fetch_add(1, Relaxed);
        let (level, event, why, what) = match change {
            Change::Out(reason) => (Level::Warn, "instance_out", Some(reason), "is out"),
            Change::In => (Level::Info, "instance_in", None, "is in again"),
        };
        let (plugin, at) = (self.name.as_str(), instance.at().to_string());
        let because = match why {
            Some(Reason::Failures) => ": requests to it failed five times in a row",
            Some(Reason::Probes) => ": it does not answer when it is asked how it is",
            Some(Reason::Version) => ": it does not say that it is as new as min_version wants",
            Some(Reason::Contract) => {
                ": it has not shown a contract that keeps to the one in force, as openapi_breaking wants"
            }
            None => "",
        };
        let message = format!("the instance of plugin {plugin} at {at} {what}{because}");
        let fields = [
            ("plugin", plugin.into()),
            ("instance", at.as_str().into()),
            ("reason", why.map(Reason::as_str).into()),
        ];
        log.event(level, event, &message, &fields);
    }

    /// Its counters among those of the program.
    pub(crate) fn meters(&self, all: &Meters) -> &Arc<PluginMeters> {
        self.meters.get_or_init(|| all.plugin(self.name.as_str()))
    }

    /// A connect has failed: it may be elsewhere by now.
    pub(crate) fn look_soon(&self) {
        self.look_soon.ask();
    }

    /// Leave for one more request to have a connection to itself.
    pub(crate) fn alone(self: &Arc<Self>) -> Option<Alone> {
        let before = self.alone.fetch_add(1, Relaxed);
        let leave = Alone(self.clone());
        (before < ALONE_MOST).then_some(leave)
    }

    /// Takes what its names stand for now, as far as plain HTTP may go there. Where not all of them
    /// are known, what was stays.
    pub(crate) fn found(&self, mut found: Vec<Place>, whole: bool) {
        let before = self.instances.load_full();
        if !whole && !before.is_empty() {
            return;
        }
        found.retain(|place| match &place.at {
            Address::Tcp(at) => self.reached.takes(*at),
            Address::Unix(_) => true,
        });
        found.sort_unstable();
        found.dedup_by(|next, kept| next.at == kept.at);
        if !before.iter().map(|known| &known.place).eq(&found) {
            // The same address is the same value, so that its connections stay. One that comes to
            // others begins slowly.
            let joined = (!before.is_empty()).then(|| self.epoch.now());
            let found = found.into_iter();
            let next = found.map(|place| Instance::known(&before, place, joined));
            let next: Vec<_> = next.collect();
            if self.wary.load(Relaxed) {
                hold_out_the_unknown(&next);
            }
            if self.strict.load(Relaxed) {
                hold_out_the_unread(&next);
            }
            self.instances.store(Arc::new(next));
        }
    }

    /// Whether instances have to say how new they are before they get requests.
    fn set_wary(&self, wary: bool) {
        if self.wary.swap(wary, Relaxed) != wary && wary {
            hold_out_the_unknown(&self.instances.load());
            self.generation.fetch_add(1, Relaxed);
        }
    }

    /// Whether instances have to show their contract before they get requests.
    fn set_strict(&self, strict: bool) {
        if self.strict.swap(strict, Relaxed) != strict && strict {
            hold_out_the_unread(&self.instances.load());
            self.generation.fetch_add(1, Relaxed);
        }
    }
}

/// What has shown no contract may break the one in force.
fn hold_out_the_unread(instances: &[Arc<Instance>]) {
    for instance in instances {
        if instance.contract().is_none() {
            instance.health.contract_fits(false, 1);
        }
    }
}

/// What has not said what it runs may be too old.
fn hold_out_the_unknown(instances: &[Arc<Instance>]) {
    for instance in instances {
        if instance.version().is_none() {
            instance.health.version_fits(false, 1);
        }
    }
}

impl Running {
    /// How many requests are under way to it, at its canary too.
    pub(crate) fn in_flight(&self) -> u64 {
        self.clusters().map(|one| one.admission().in_flight()).sum()
    }

    /// How many requests wait for a place, at its canary too.
    pub(crate) fn waiting(&self) -> u64 {
        self.clusters().map(|one| one.admission().waiting()).sum()
    }

    /// The plugin's own, and its canary's.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = Arc<Cluster>> {
        let canary = self.canary.as_ref().map(|canary| canary.cluster.clone());
        std::iter::once(self.main.clone()).chain(canary)
    }
}

impl Attachment for Alone {}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.alone.fetch_sub(1, Relaxed);
    }
}

impl Reached {
    fn of(plugin: &Plugin) -> Self {
        let identity = (!plugin.upstream.is_plaintext()).then(|| plugin.identity.clone());
        Self {
            upstream: plugin.upstream.clone(),
            identity,
            may_leave_loopback: plugin.may_leave_loopback(),
        }
    }

    /// Whether who stands at an address is the same for both.
    fn is_alike(&self, other: &Self) -> bool {
        self.identity == other.identity && self.upstream.scheme() == other.upstream.scheme()
    }

    /// Whether an address that a name stands for may be connected to. One that the file itself
    /// names was judged with the file.
    fn takes(&self, at: SocketAddr) -> bool {
        let listed = |host: &Host| matches!(host, Host::Ip(ip) if *ip == at.ip());
        self.may_leave_loopback
            || at.ip().is_loopback()
            || self
                .upstream
                .instances()
                .iter()
                .any(|one| listed(&one.host))
    }
}

impl Clusters {
    /// None yet.
    pub(crate) fn new(look_soon: LookSoon) -> Self {
        Self {
            look_soon,
            seats: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
            epoch: Epoch::begin(),
        }
    }

    /// A table to route by, with what runs for each of its plugins.
    pub(crate) fn run(&mut self, table: Table) -> Table<Running> {
        self.sweep();
        let mut count = 0_usize;
        table.run(|plugin| {
            count += 1;
            if count.is_multiple_of(STEP_ASIDE_EVERY) {
                std::thread::yield_now();
            }
            self.running(plugin)
        })
    }

    /// Forgets clusters that are gone.
    fn sweep(&mut self) {
        self.known.retain(|_, cluster| cluster.strong_count() > 0);
        let seats = self.seats.iter().enumerate().rev();
        let free = seats.filter(|(_, cluster)| cluster.strong_count() == 0);
        self.free = free.map(|(seat, _)| seat).collect();
    }

    /// What runs for a plugin.
    fn running(&mut self, plugin: &Plugin) -> Running {
        let main = self.cluster(plugin, false);
        let canary = plugin.at_canary().map(|plugin| AtCanary {
            cluster: self.cluster(&plugin, true),
            plugin: Arc::new(plugin),
        });
        let running = Running { main, canary };
        for cluster in running.clusters() {
            cluster.set_wary(plugin.min_version.is_some());
        }
        running.main.set_strict(plugin.keeps_breaking_out());
        running
    }

    /// The cluster of a plugin: the one it had, if it is reached as before, or a new one with the
    /// addresses that its file names.
    fn cluster(&mut self, plugin: &Plugin, canary: bool) -> Arc<Cluster> {
        let reached = Reached::of(plugin);
        let key = (plugin.name.clone(), canary);
        let before = self.known.get(&key).and_then(Weak::upgrade);
        if let Some(known) = before.as_ref().filter(|known| known.reached == reached) {
            return known.clone();
        }
        let seat = self.free.pop().unwrap_or(self.seats.len());
        // What is known of an instance is true of it in a longer or shorter list too.
        let before = before.filter(|known| known.reached.is_alike(&reached));
        let before = before.map_or_else(Arc::default, |known| known.instances.load_full());
        let joined = (!before.is_empty()).then(|| self.epoch.now());
        let mut listed = Vec::new();
        for instance in reached.upstream.instances() {
            match Place::listed(instance) {
                Some(place) => listed.push(Instance::known(&before, place, joined)),
                None => self.look_soon.ask(),
            }
        }
        let cluster = Arc::new(Cluster {
            seat,
            reached,
            instances: ArcSwap::from_pointee(listed),
            generation: AtomicU64::new(0),
            wary: AtomicBool::new(false),
            strict: AtomicBool::new(false),
            epoch: self.epoch,
            allowance: Allowance::default(),
            name: plugin.name.clone(),
            meters: OnceLock::new(),
            admission: Arc::default(),
            look_soon: self.look_soon.clone(),
            alone: AtomicUsize::new(0),
        });
        let weak = Arc::downgrade(&cluster);
        match self.seats.get_mut(seat) {
            Some(place) => *place = weak.clone(),
            None => self.seats.push(weak.clone()),
        }
        self.known.insert(key, weak);
        cluster
    }
}

impl LookSoon {
    /// Asks.
    pub(crate) fn ask(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody asks.
    pub(crate) async fn asked(&self) {
        self.0.notified().await;
    }
}

#[cfg(test)]
mod tests;
