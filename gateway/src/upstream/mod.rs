//! Sends a permitted request to its plugin, over mTLS to a sidecar or in plain HTTP.
//!
//! In: an [`Outgoing`] request and the [`Cluster`] that takes it. Out: the plugin's answer, its body under way, or an [`Error`] that
//! says what went wrong on the way. Each worker keeps its own connections, in a place of its own for each cluster; one belongs to
//! an address, an identity and a protocol, and the trust set in force may end it at any time.
//!
//! `cluster` says where to, `resolve` keeps that true, `hop` keeps the connections to one address, `dial` opens them, `patience` says
//! for how long.

mod answer;
mod attempt;
pub(crate) mod carrier;
pub(crate) mod cluster;
mod dial;
pub(crate) mod error;
mod hop;
mod lookup;
mod patience;
mod pool;
pub(crate) mod resolve;
mod shared;
mod tied;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use gapura_http2::Owner;
use gapura_runtime::worker::Worker;
use gapura_transport::body::{Body, Upload};
use gapura_transport::live::LiveConnections;
use gapura_trust::set::TrustStore;
use http::Request;

use crate::outgoing::Outgoing;
use carrier::Carrier;
use cluster::{Cluster, Instance};
use hop::Hop;
use patience::Patience;

pub(crate) use answer::Answer;
pub(crate) use error::Error;

/// One worker's way to all plugins.
pub(crate) struct Upstreams {
    core: Rc<Worker>,
    trust: TrustStore,
    live: LiveConnections,
    /// By the clusters' seats.
    places: RefCell<Vec<Option<Rc<Place>>>>,
}

/// What a worker keeps for one cluster for as long as it lives.
struct Place {
    /// Keeps another cluster from being taken for this one.
    cluster: Weak<Cluster>,
    hops: RefCell<Hops>,
    turn: Cell<usize>,
}

/// The connections to each address of a cluster, in the order of the addresses.
#[derive(Default)]
struct Hops {
    instances: Arc<Vec<Arc<Instance>>>,
    hops: Vec<Rc<Hop>>,
}

/// The request, and one more try where nothing of it was written.
const ATTEMPTS: usize = 2;

impl Upstreams {
    /// A way without any connection yet.
    #[must_use]
    pub(crate) fn new(core: Rc<Worker>, trust: TrustStore, live: LiveConnections) -> Self {
        Self {
            core,
            trust,
            live,
            places: RefCell::default(),
        }
    }

    /// Sends a request of `owner` and waits for the head of its answer. Where nothing was written yet, another address or a fresh connection
    /// is tried once.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn send(
        &self,
        cluster: &Arc<Cluster>,
        outgoing: Outgoing,
        body: Body,
        upload: &Rc<Upload>,
        owner: &Rc<Owner>,
    ) -> Result<Answer, Error> {
        let place = self.place(cluster);
        let first = place.turn.get();
        place.turn.set(first.wrapping_add(1));
        let (carrier, timeout) = (outgoing.carrier, outgoing.plugin.timeout);
        let patience = Patience::new(upload, &self.core.timers, timeout);
        let leave = match carrier {
            Carrier::Shared => None,
            Carrier::Alone => Some(cluster.alone().ok_or(Error::Overloaded)?),
        };
        let mut request = Request::from_parts(outgoing.head, body);
        let mut failed = Error::Unreachable(io::Error::new(
            io::ErrorKind::NotFound,
            "the upstream's name has no address",
        ));
        for attempt in 0..ATTEMPTS {
            let Some(hop) = self.hop(&place, cluster, first.wrapping_add(attempt)) else {
                break;
            };
            match hop.send(request, carrier, &patience, owner).await {
                Ok(answer) => {
                    return Ok(match leave {
                        None => answer,
                        Some(leave) => answer.with(Box::new(leave)),
                    });
                }
                Err(hop::Error::Unsent(unsent, why)) => {
                    request = *unsent;
                    failed = why;
                    cluster.look_soon();
                }
                Err(hop::Error::Final(error)) => return Err(error),
            }
        }
        Err(failed)
    }

    /// Forgets clusters that are gone, and connections that nobody needs any more. Called about once a second.
    pub(crate) fn sweep(&self) {
        for place in self.places.borrow_mut().iter_mut() {
            let Some(known) = place else { continue };
            match known.cluster.upgrade() {
                Some(cluster) => {
                    let mut hops = known.hops.borrow_mut();
                    self.align(&mut hops, &cluster);
                    hops.hops.iter().for_each(|hop| hop.sweep());
                }
                None => *place = None,
            }
        }
    }

    fn place(&self, cluster: &Arc<Cluster>) -> Rc<Place> {
        let mut places = self.places.borrow_mut();
        if places.len() <= cluster.seat() {
            places.resize_with(cluster.seat() + 1, || None);
        }
        let fresh = || {
            Rc::new(Place {
                cluster: Arc::downgrade(cluster),
                hops: RefCell::default(),
                turn: Cell::new(self.core.seed.index),
            })
        };
        let Some(place) = places.get_mut(cluster.seat()) else {
            return fresh();
        };
        // Whoever had the seat before may not be forgotten yet.
        let is_its = |known: &Rc<Place>| std::ptr::eq(known.cluster.as_ptr(), Arc::as_ptr(cluster));
        if let Some(known) = place.as_ref().filter(|known| is_its(known)) {
            return known.clone();
        }
        place.insert(fresh()).clone()
    }

    /// The connections to one of the cluster's addresses, counted round and round.
    fn hop(&self, place: &Place, cluster: &Cluster, turn: usize) -> Option<Rc<Hop>> {
        let mut hops = place.hops.borrow_mut();
        self.align(&mut hops, cluster);
        hops.hops.get(turn % hops.hops.len().max(1)).cloned()
    }

    /// Takes over the addresses that the cluster has now. An address that stays keeps its connections.
    fn align(&self, hops: &mut Hops, cluster: &Cluster) {
        let now = cluster.instances();
        if Arc::ptr_eq(&now, &hops.instances) {
            return;
        }
        let next = now.iter().map(|instance| {
            let known = |old: &Arc<Instance>| Arc::ptr_eq(old, instance);
            let at = hops.instances.iter().position(known);
            let kept = at.and_then(|at| hops.hops.get(at)).cloned();
            kept.unwrap_or_else(|| {
                Rc::new(Hop::new(
                    self.core.clone(),
                    self.trust.clone(),
                    self.live.clone(),
                    instance.at,
                    cluster.identity().cloned(),
                ))
            })
        });
        hops.hops = next.collect();
        hops.instances = Arc::clone(&now);
    }
}
