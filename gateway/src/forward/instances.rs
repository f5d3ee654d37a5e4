//! Which addresses a plugin has now.
//!
//! In: the hosts that its file names. Out: an address for each instance, looked up at start, every 5 s and when asked to. A name
//! that cannot be resolved keeps the addresses it had; at start it has none, which is not fatal: its requests are answered 502
//! until it has. Looked up on the control thread; a worker reads one pointer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

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

/// A name server that does not answer must not hold up the others.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

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

    /// Looks up the names of all `plugins`.
    pub(crate) async fn look_up(&self, plugins: &[Arc<Plugin>]) {
        let mut table = HashMap::new();
        for plugin in plugins {
            let before = self.of(plugin);
            let mut found: Vec<SocketAddr> = Vec::new();
            let mut whole = true;
            for instance in plugin.upstream.instances() {
                match &instance.host {
                    Host::Ip(ip) => found.push(SocketAddr::new(*ip, instance.port)),
                    Host::Name(name) => {
                        let answer = tokio::time::timeout(
                            LOOK_UP_WITHIN,
                            tokio::net::lookup_host((&**name, instance.port)),
                        )
                        .await;
                        match answer {
                            Ok(Ok(addresses)) => {
                                found.extend(addresses.filter(|at| {
                                    plugin.may_leave_loopback() || at.ip().is_loopback()
                                }))
                            }
                            Ok(Err(_)) | Err(_) => whole = false,
                        }
                    }
                }
            }
            found.sort_unstable();
            found.dedup();
            let addresses = if whole || before.is_empty() {
                kept(&before, found)
            } else {
                before
            };
            table.insert(
                place(plugin),
                Entry {
                    plugin: Arc::downgrade(plugin),
                    addresses,
                },
            );
        }
        self.put(table, true);
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
