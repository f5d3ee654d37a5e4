//! The running side of one plugin: where it is now, and what it counts.
//!
//! In: a plugin, when the registry first sees it. Out: a [`Cluster`], which each reload that reaches the plugin as before carries
//! over, and which is dropped with the last table that has it. Its connections belong to the workers: each has a place for it at
//! the cluster's seat, a small number that no other living cluster has, so that nothing is looked up on a request's path.
//! Invariant: of two clusters that live one seat is never both's. Whoever holds a cluster knows how the plugin is reached: another
//! identity, scheme or list of hosts is another cluster, and shares no connection with it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::{ArcSwap, Guard};
use gapura_protocol::identity::{Name, PeerId};
use gapura_telemetry::metrics::{Meters, PluginMeters};
use gapura_transport::body::Attachment;
use tokio::sync::Notify;

use crate::registry::{Host, Plugin, Upstream};

/// The running side of one plugin.
#[derive(Debug)]
pub(crate) struct Cluster {
    seat: usize,
    reached: Reached,
    instances: ArcSwap<Vec<Arc<Instance>>>,
    name: Name,
    meters: OnceLock<Arc<PluginMeters>>,
    look_soon: LookSoon,
    /// Requests that have a connection to themselves.
    alone: AtomicUsize,
}

/// A request's leave to have a connection to itself, until this is dropped.
#[derive(Debug)]
pub(crate) struct Alone(Arc<Cluster>);

/// Requests that may have a connection to themselves at a time, from this gateway to one plugin. Each costs a handshake and a
/// connection at the plugin; more is what a few clients can ask for, and no plugin has use for.
const ALONE_MOST: usize = 256;

/// One address of a plugin. While it stays the same value its connections stay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Where it is.
    pub(crate) at: SocketAddr,
}

/// How a plugin is reached: what of its file decides which connections are its.
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
    known: HashMap<Name, Weak<Cluster>>,
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

    /// Its addresses now, for as long as one look needs them; none while its names have not been resolved.
    pub(crate) fn instances(&self) -> Guard<Arc<Vec<Arc<Instance>>>> {
        self.instances.load()
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
        let before = self.alone.fetch_add(1, Ordering::Relaxed);
        let leave = Alone(self.clone());
        (before < ALONE_MOST).then_some(leave)
    }

    /// Takes what its names stand for now, as far as plain HTTP may go there. Where not all of them are known, what was stays.
    pub(crate) fn found(&self, mut found: Vec<SocketAddr>, whole: bool) {
        let before = self.instances.load_full();
        if !whole && !before.is_empty() {
            return;
        }
        found.retain(|at| self.reached.takes(*at));
        found.sort_unstable();
        found.dedup();
        if !before.iter().map(|known| &known.at).eq(&found) {
            // The same address is the same value, so that its connections stay.
            let known = |at: SocketAddr| before.iter().find(|old| old.at == at).cloned();
            let next = found
                .into_iter()
                .map(|at| known(at).unwrap_or_else(|| Arc::new(Instance { at })));
            self.instances.store(Arc::new(next.collect()));
        }
    }
}

impl Attachment for Alone {}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.alone.fetch_sub(1, Ordering::Relaxed);
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

    /// Whether an address that a name stands for may be connected to. One that the file itself names was judged with the file.
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
            known: HashMap::new(),
        }
    }

    /// The cluster of a plugin: the one it had, if it is reached as before, or a new one with the addresses that its file names.
    pub(crate) fn of(&mut self, plugin: &Plugin) -> Arc<Cluster> {
        let reached = Reached::of(plugin);
        let known = self.known.get(&plugin.name).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.reached == reached) {
            return known;
        }
        self.known.retain(|_, cluster| cluster.strong_count() > 0);
        let free = |cluster: &Weak<Cluster>| cluster.strong_count() == 0;
        let seat = self.seats.iter().position(free).unwrap_or(self.seats.len());
        let mut listed = Vec::new();
        for instance in reached.upstream.instances() {
            match &instance.host {
                Host::Ip(ip) => listed.push(Arc::new(Instance {
                    at: SocketAddr::new(*ip, instance.port),
                })),
                Host::Name(_) => self.look_soon.ask(),
            }
        }
        let cluster = Arc::new(Cluster {
            seat,
            reached,
            instances: ArcSwap::from_pointee(listed),
            name: plugin.name.clone(),
            meters: OnceLock::new(),
            look_soon: self.look_soon.clone(),
            alone: AtomicUsize::new(0),
        });
        let weak = Arc::downgrade(&cluster);
        match self.seats.get_mut(seat) {
            Some(place) => *place = weak.clone(),
            None => self.seats.push(weak.clone()),
        }
        self.known.insert(plugin.name.clone(), weak);
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
