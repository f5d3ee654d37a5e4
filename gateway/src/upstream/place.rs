//! What one worker keeps for one cluster: its ways to each instance, what is under way there, and
//! what may go again.
//!
//! In: the cluster with its instances of the moment. Out: a [`Seat`] at one of them. An instance
//! that stays keeps its connections and its counts. Connections are those of an address and an
//! identity, whichever clusters lead there: many plugins behind one sidecar share them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{self, Rc};
use std::sync::{Arc, Weak};

use gapura_protocol::identity::PeerId;
use gapura_runtime::worker::Worker;
use gapura_transport::live::LiveConnections;
use gapura_trust::set::TrustStore;

use super::balance::{Rank, Rota};
use super::budget::Budget;
use super::cluster::Cluster;
use super::hop::Hop;
use super::instance::{Address, Instance};

/// A worker's connections, and what they are made from.
pub(super) struct Ways {
    worker: Rc<Worker>,
    trust: TrustStore,
    live: LiveConnections,
    hops: RefCell<HashMap<To, rc::Weak<Hop>>>,
}

/// Where connections lead, and whom the other end must prove to be.
type To = (Address, Option<PeerId>);

/// What a worker keeps for one cluster for as long as it lives.
pub(super) struct Place {
    /// Keeps another cluster from being taken for this one.
    cluster: Weak<Cluster>,
    hops: RefCell<Hops>,
    several: Cell<bool>,
    pub(super) budget: Budget,
}

/// One instance as this worker reaches it.
pub(super) struct Seat {
    pub(super) rank: Rc<Rank>,
    pub(super) hop: Rc<Hop>,
}

/// The instances of a cluster, each with its connections, in their order.
#[derive(Default)]
struct Hops {
    instances: Arc<Vec<Arc<Instance>>>,
    rota: Rota,
    hops: Vec<Rc<Hop>>,
}

impl Ways {
    pub(super) fn new(worker: Rc<Worker>, trust: TrustStore, live: LiveConnections) -> Self {
        Self {
            worker,
            trust,
            live,
            hops: RefCell::default(),
        }
    }

    /// The way to an instance, which is that of all clusters that have one there.
    fn to(&self, instance: &Instance, cluster: &Cluster) -> Rc<Hop> {
        let to = (instance.at().clone(), cluster.identity().cloned());
        let mut hops = self.hops.borrow_mut();
        if let Some(known) = hops.get(&to).and_then(rc::Weak::upgrade) {
            return known;
        }
        let (address, wanted) = to.clone();
        let hop = Rc::new(Hop::new(
            self.worker.clone(),
            self.trust.clone(),
            self.live.clone(),
            address,
            wanted,
        ));
        hops.insert(to, Rc::downgrade(&hop));
        hop
    }

    /// Closes connections that nobody needs any more. Called about once a second.
    pub(super) fn sweep(&self) {
        self.hops.borrow_mut().retain(|_, hop| {
            let hop = hop.upgrade();
            hop.inspect(|hop| hop.sweep()).is_some()
        });
    }
}

impl Place {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::downgrade(cluster),
            hops: RefCell::default(),
            several: Cell::new(false),
            budget: Budget::default(),
        }
    }

    /// Whether it was made for this cluster.
    pub(super) fn is_of(&self, cluster: &Arc<Cluster>) -> bool {
        std::ptr::eq(self.cluster.as_ptr(), Arc::as_ptr(cluster))
    }

    /// Whether more than one instance may get requests at all.
    pub(super) fn is_several(&self, cluster: &Cluster, ways: &Ways) -> bool {
        self.align(&mut self.hops.borrow_mut(), cluster, ways);
        self.several.get()
    }

    /// Asks the rota of the instances that there are now.
    pub(super) fn with<T>(
        &self,
        cluster: &Cluster,
        ways: &Ways,
        ask: impl FnOnce(&mut Rota) -> T,
    ) -> T {
        let mut hops = self.hops.borrow_mut();
        self.align(&mut hops, cluster, ways);
        ask(&mut hops.rota)
    }

    /// The one that the rota has at `at`.
    pub(super) fn seat(&self, at: usize) -> Option<Seat> {
        let hops = self.hops.borrow();
        Some(Seat {
            rank: hops.rota.rank(at)?.clone(),
            hop: hops.hops.get(at)?.clone(),
        })
    }

    /// The way to this instance, if the cluster still has it.
    pub(super) fn hop(
        &self,
        instance: &Instance,
        cluster: &Cluster,
        ways: &Ways,
    ) -> Option<Rc<Hop>> {
        let mut hops = self.hops.borrow_mut();
        self.align(&mut hops, cluster, ways);
        let is_it = |one: &Arc<Instance>| std::ptr::eq(Arc::as_ptr(one), instance);
        let at = hops.instances.iter().position(is_it)?;
        hops.hops.get(at).cloned()
    }

    /// Lets go of instances that are gone, and says how the others are; whether the cluster still
    /// lives.
    pub(super) fn sweep(&self, ways: &Ways) -> bool {
        let Some(cluster) = self.cluster.upgrade() else {
            return false;
        };
        let mut hops = self.hops.borrow_mut();
        self.align(&mut hops, &cluster, ways);
        let (index, now) = (ways.worker.spec.index, cluster.epoch().now());
        for rank in (0..hops.hops.len()).filter_map(|at| hops.rota.rank(at)) {
            let (load, seen) = (&rank.load, &rank.instance.loads);
            seen.tell(index, load.in_flight(), load.micros(now));
        }
        true
    }

    /// Takes over the instances that the cluster has now. One that stays keeps its connections.
    fn align(&self, hops: &mut Hops, cluster: &Cluster, ways: &Ways) {
        let now = cluster.instances();
        if Arc::ptr_eq(&now, &hops.instances) {
            return;
        }
        let mut ranks = Vec::with_capacity(now.len());
        let mut next = Vec::with_capacity(now.len());
        for instance in now.iter() {
            let known = |old: &Arc<Instance>| Arc::ptr_eq(old, instance);
            let at = hops.instances.iter().position(known);
            let kept = at.and_then(|at| Some((hops.rota.rank(at)?, hops.hops.get(at)?)));
            if let Some((rank, hop)) = kept {
                ranks.push(rank.clone());
                next.push(hop.clone());
            } else {
                ranks.push(Rc::new(Rank::new(instance.clone())));
                next.push(ways.to(instance, cluster));
            }
        }
        hops.rota.set(ranks);
        hops.hops = next;
        hops.instances = Arc::clone(&now);
        self.several.set(hops.rota.is_several());
    }
}
