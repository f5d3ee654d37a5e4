//! Which addresses a plugin has now.
//!
//! In: the hosts that its file names. Out: an address for each instance, looked up at start, every 5 s and when asked to. A name
//! that cannot be resolved keeps the addresses it had; at start it has none, which is not fatal: its requests are answered 502
//! until it has. Looked up on the control thread; a worker reads one pointer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::lookup::Lookups;
use crate::registry::{Host, Plugin};

/// One address of a plugin. While it stays the same its connections stay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Where it is.
    pub(crate) at: SocketAddr,
}

/// The addresses of all plugins. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Instances {
    table: Arc<ArcSwap<HashMap<usize, Entry>>>,
    wanted: Arc<Notify>,
}

#[derive(Clone)]
struct Entry {
    /// Keeps the place from being given to another plugin while the entry stands.
    plugin: Weak<Plugin>,
    addresses: Arc<Vec<Arc<Address>>>,
}

/// How often names are looked up again.
pub(crate) const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// However many connects fail, names are not asked for more often.
const LOOK_UP_LEAST: Duration = Duration::from_secs(1);

impl Instances {
    /// The addresses of one plugin; none while its names have not been resolved. A plugin that is new gets those of its hosts that
    /// are addresses already.
    #[must_use]
    pub(crate) fn of(&self, plugin: &Arc<Plugin>) -> Arc<Vec<Arc<Address>>> {
        let known = self
            .table
            .load()
            .get(&place(plugin))
            .map(|entry| entry.addresses.clone());
        known.unwrap_or_else(|| {
            let hosts = plugin.upstream.instances().iter();
            let found = hosts.filter_map(|instance| match &instance.host {
                Host::Ip(ip) => Some(Arc::new(Address {
                    at: SocketAddr::new(*ip, instance.port),
                })),
                Host::Name(_) => None,
            });
            let entry = Entry {
                plugin: Arc::downgrade(plugin),
                addresses: Arc::new(found.collect()),
            };
            self.put([(place(plugin), entry.clone())], false);
            self.look_soon();
            entry.addresses
        })
    }

    /// Asks for a look before its time: a connect has failed.
    pub(crate) fn look_soon(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a look is asked for, a second at least after the last.
    pub(crate) async fn wanted(&self) {
        tokio::time::sleep(LOOK_UP_LEAST).await;
        self.wanted.notified().await;
    }

    /// Looks up the names of all `plugins`, side by side: each is known as soon as its own are.
    pub(crate) async fn look_up(&self, lookups: &Rc<Lookups>, plugins: Vec<Arc<Plugin>>) {
        let mut tasks = JoinSet::new();
        for plugin in plugins {
            let (instances, lookups) = (self.clone(), lookups.clone());
            tasks.spawn_local(async move { instances.look_up_one(&lookups, &plugin).await });
        }
        while tasks.join_next().await.is_some() {}
        self.forget();
    }

    async fn look_up_one(&self, lookups: &Rc<Lookups>, plugin: &Arc<Plugin>) {
        let before = self.of(plugin);
        let mut found: Vec<SocketAddr> = Vec::new();
        let mut names = JoinSet::new();
        for instance in plugin.upstream.instances() {
            match &instance.host {
                Host::Ip(ip) => found.push(SocketAddr::new(*ip, instance.port)),
                Host::Name(name) => {
                    let (lookups, name, port) = (lookups.clone(), name.clone(), instance.port);
                    names.spawn_local(async move { lookups.find(&name, port).await });
                }
            }
        }
        let mut whole = true;
        while let Some(answer) = names.join_next().await {
            match answer {
                Ok(Some(addresses)) => found.extend(
                    addresses
                        .into_iter()
                        .filter(|at| plugin.may_leave_loopback() || at.ip().is_loopback()),
                ),
                Ok(None) | Err(_) => whole = false,
            }
        }
        found.sort_unstable();
        found.dedup();
        if !whole && !before.is_empty() {
            return;
        }
        let addresses = kept(&before, found);
        if !Arc::ptr_eq(&addresses, &before) {
            let entry = Entry {
                plugin: Arc::downgrade(plugin),
                addresses,
            };
            self.put([(place(plugin), entry)], true);
        }
    }

    /// Forgets plugins that are gone.
    fn forget(&self) {
        let is_gone = |entry: &Entry| entry.plugin.strong_count() == 0;
        if self.table.load().values().any(is_gone) {
            self.put([], false);
        }
    }

    /// Enters what was found, over what is known only if `over`, and forgets plugins that are gone.
    fn put(&self, found: impl IntoIterator<Item = (usize, Entry)> + Clone, over: bool) {
        self.table.rcu(|current| {
            let mut next = HashMap::clone(current);
            next.retain(|_, entry| entry.plugin.strong_count() > 0);
            for (place, entry) in found.clone() {
                if over || !next.contains_key(&place) {
                    next.insert(place, entry);
                }
            }
            next
        });
    }
}

/// The same address is the same value, so that its connections stay.
fn kept(before: &Arc<Vec<Arc<Address>>>, found: Vec<SocketAddr>) -> Arc<Vec<Arc<Address>>> {
    if before.len() == found.len() && before.iter().zip(&found).all(|(old, new)| old.at == *new) {
        return before.clone();
    }
    let known = |at: SocketAddr| before.iter().find(|old| old.at == at).cloned();
    Arc::new(
        found
            .into_iter()
            .map(|at| known(at).unwrap_or_else(|| Arc::new(Address { at })))
            .collect(),
    )
}

fn place(plugin: &Arc<Plugin>) -> usize {
    Arc::as_ptr(plugin).addr()
}
