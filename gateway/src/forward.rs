//! Sends a permitted request to its plugin, over mTLS to a sidecar or in plain HTTP.
//!
//! In: a [`Permit`](crate::authorise::Permit) and the client's request. Out: the plugin's answer, its body under way, or an [`Error`] that says what went
//! wrong on the way. Each worker keeps its own connections; one belongs to an address, an identity and a protocol, and the trust
//! set in force may end it at any time.
//!
//! `outgoing` makes the request, `instances` says where to, `hop` keeps the connections to one address, `sign` proves the
//! context where there is no sidecar.

mod attempt;
mod error;
mod hop;
pub(crate) mod instances;
pub(crate) mod lookup;
pub(crate) mod outgoing;
pub(crate) mod sign;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use gapura_runtime::worker::Core;
use gapura_telemetry::metrics::PluginMeters;
use gapura_transport::body::{Body, Upload};
use gapura_transport::live::LiveConnections;
use gapura_trust::set::TrustStore;
use http::{Request, Response};

use crate::registry::Plugin;
use hop::Hop;
use instances::{Address, Instances};
use outgoing::Outgoing;
use sign::Signer;

pub(crate) use error::Error;

/// One worker's way to all plugins.
pub(crate) struct Forward {
    core: Rc<Core>,
    trust: TrustStore,
    live: LiveConnections,
    instances: Instances,
    signer: Option<Arc<Signer>>,
    known: RefCell<HashMap<usize, Rc<Known>>>,
}

/// What a worker keeps for one plugin for as long as its file stands.
struct Known {
    plugin: Weak<Plugin>,
    meters: Arc<PluginMeters>,
    hops: RefCell<Vec<(Arc<Address>, Rc<Hop>)>>,
    turn: Cell<usize>,
}

impl Forward {
    /// A way without any connection yet.
    #[must_use]
    pub(crate) fn new(
        core: Rc<Core>,
        trust: TrustStore,
        live: LiveConnections,
        instances: Instances,
        signer: Option<Arc<Signer>>,
    ) -> Self {
        Self {
            core,
            trust,
            live,
            instances,
            signer,
            known: RefCell::default(),
        }
    }

    /// The counters of a plugin.
    pub(crate) fn meters(&self, plugin: &Arc<Plugin>) -> Arc<PluginMeters> {
        self.known(plugin).meters.clone()
    }

    /// Signs the context for plugins that have no sidecar.
    pub(crate) fn signer(&self) -> Option<&Signer> {
        self.signer.as_deref()
    }

    /// Sends a request and waits for the head of its answer. Where nothing was written yet, another address or a fresh connection
    /// is tried once.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
        body: Body,
        upload: &Rc<Upload>,
    ) -> Result<Response<Body>, Error> {
        let Outgoing {
            plugin,
            head,
            route,
        } = outgoing;
        let known = self.known(&plugin);
        let addresses = self.instances.of(&plugin);
        let first = known.turn.get();
        known.turn.set(first.wrapping_add(1));
        let mut request = Request::from_parts(head, body);
        let mut failed = Error::Unreachable(io::Error::new(
            io::ErrorKind::NotFound,
            "the upstream's name has no address",
        ));
        for attempt in 0..ATTEMPTS {
            let Some(address) = addresses.get(first.wrapping_add(attempt) % addresses.len().max(1))
            else {
                break;
            };
            let hop = known.hop(self, &plugin, address);
            match hop.send(request, route, upload, plugin.timeout).await {
                Ok(answer) => return Ok(answer),
                Err(hop::Error::Unsent(unsent, why)) => {
                    request = *unsent;
                    failed = why;
                    self.instances.look_soon();
                }
                Err(hop::Error::Final(error)) => return Err(error),
            }
        }
        Err(failed)
    }

    /// Forgets plugins whose file is gone, and connections that nobody needs any more. Called about once a second.
    pub(crate) fn tidy(&self) {
        self.known
            .borrow_mut()
            .retain(|_, known| known.plugin.strong_count() > 0);
        for known in self.known.borrow().values() {
            let Some(plugin) = known.plugin.upgrade() else {
                continue;
            };
            let current = self.instances.of(&plugin);
            known.hops.borrow_mut().retain(|(address, hop)| {
                hop.tidy();
                current.iter().any(|current| Arc::ptr_eq(current, address))
            });
        }
    }

    fn known(&self, plugin: &Arc<Plugin>) -> Rc<Known> {
        // The weak reference keeps the allocation, so that no other plugin can come to lie at the same place.
        let place = Arc::as_ptr(plugin).addr();
        if let Some(known) = self.known.borrow().get(&place) {
            return known.clone();
        }
        let known = Rc::new(Known {
            plugin: Arc::downgrade(plugin),
            meters: self.core.seed.meters.plugin(plugin.name.as_str()),
            hops: RefCell::default(),
            turn: Cell::new(self.core.seed.index),
        });
        self.known.borrow_mut().insert(place, known.clone());
        known
    }
}

impl Known {
    fn hop(&self, forward: &Forward, plugin: &Arc<Plugin>, address: &Arc<Address>) -> Rc<Hop> {
        let mut hops = self.hops.borrow_mut();
        if let Some((_, hop)) = hops.iter().find(|(known, _)| Arc::ptr_eq(known, address)) {
            return hop.clone();
        }
        let wanted = (!plugin.upstream.is_plaintext()).then(|| plugin.identity.clone());
        let hop = Rc::new(Hop::new(
            forward.core.clone(),
            forward.trust.clone(),
            forward.live.clone(),
            address.at,
            wanted,
        ));
        hops.push((address.clone(), hop.clone()));
        hop
    }
}

/// The request, and one more try where nothing of it was written.
const ATTEMPTS: usize = 2;
