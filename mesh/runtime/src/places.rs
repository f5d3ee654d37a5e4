//! Who may have a connection, and whose ends where more are wanted than there may be.
//!
//! In: each connection that was accepted, by its address, and from its own worker whether it
//! carries something. Out: a [`Slot`] for as long as it lives, or none. Where an address holds its
//! share, or all together hold as many as there may be, the one that has idled longest ends, so
//! that somebody new is served; one that carries a request never ends for another's sake. Those
//! that have not proven themselves yet, where that is asked, are counted apart: at their bound the
//! oldest of the address that has most of them ends.
//! Invariant: what the table holds is what lives, but for connections that were told to end. The
//! lock is taken when a connection comes, proves itself or goes, and for no request.

mod place;
mod table;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gapura_telemetry::log::{Level, Log};
use tokio::sync::Notify;

pub use place::Place;
use place::now;
pub use table::Network;
use table::Table;

/// How many connections there may be.
#[derive(Clone)]
pub struct Bounds {
    /// In all.
    pub most: usize,
    /// Of one address; of IPv6, of the 64 bits that one customer has.
    pub per_address: usize,
    /// Of those that have not proven who they are.
    pub unproven: usize,
    /// Whose number has no bound but that of all: proxies, behind which many clients are.
    pub exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// The connections of a program. Clones are the same.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    table: Mutex<Table>,
    freed: Notify,
    began: Instant,
    log: Log,
}

/// One place; free again when dropped.
pub struct Slot {
    places: Places,
    network: Network,
    id: u64,
    place: Arc<Place>,
    load: Arc<AtomicUsize>,
}

/// How long one must have idled before it ends for somebody of another address: a handshake of a
/// burst is no idler.
const IDLE_LEAST: Duration = Duration::from_secs(1);

impl Bounds {
    /// So many in all, and no other bound.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self {
            most,
            per_address: usize::MAX,
            unproven: usize::MAX,
            exempt: Arc::new(|_| false),
        }
    }
}

impl Places {
    /// None taken yet.
    #[must_use]
    pub fn new(bounds: Bounds, log: Log) -> Self {
        Self(Arc::new(Shared {
            bounds,
            table: Mutex::default(),
            freed: Notify::new(),
            began: Instant::now(),
            log,
        }))
    }

    /// Whether one more may be accepted, if need be because the one that has idled longest ends.
    #[must_use]
    pub(crate) fn make_room(&self) -> bool {
        let mut table = self.table();
        let most = self.0.bounds.most;
        if table.open < most {
            if table.is_full && table.open < most - most / 10 {
                table.is_full = false;
                drop(table);
                self.tell(
                    Level::Info,
                    "connections_free",
                    "connections have room again",
                );
            }
            return true;
        }
        let tells = !std::mem::replace(&mut table.is_full, true);
        let made = self.end_idlest(&mut table);
        drop(table);
        if tells {
            let message = format!(
                "all {most} connections are open: those that idle longest end, and nobody is accepted where none idles"
            );
            self.tell(Level::Warn, "connections_full", &message);
        }
        made
    }

    /// Gives back one that idles because the system has no more of something.
    pub(crate) fn shed(&self) {
        self.end_idlest(&mut self.table());
    }

    /// Waits until one has gone.
    pub(crate) async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// The place of a connection from `from`, or from this host if none, on the worker whose
    /// connections `load` counts; none where its address has its share and none of these idles.
    #[must_use]
    pub(crate) fn take(&self, from: Option<IpAddr>, load: &Arc<AtomicUsize>) -> Option<Slot> {
        let network = Network::of(from);
        let mut table = self.table();
        if !self.admits(&mut table, network, from) {
            return None;
        }
        if table.unproven.len() >= self.0.bounds.unproven {
            table.end_heaviest();
        }
        let id = table.next;
        table.next += 1;
        let place = Arc::new(Place::new(self.0.began));
        table.open += 1;
        if self.0.bounds.unproven < usize::MAX {
            table.unproven.insert(id, network);
        }
        let members = table.shares.entry(network).or_default();
        members.places.insert(id, place.clone());
        load.fetch_add(1, Ordering::Relaxed);
        Some(Slot {
            places: self.clone(),
            network,
            id,
            place,
            load: load.clone(),
        })
    }

    /// Whether an address may have one more, if need be because one of its own that idles ends.
    fn admits(&self, table: &mut Table, network: Network, from: Option<IpAddr>) -> bool {
        let most = self.0.bounds.per_address;
        let Some(members) = table.shares.get_mut(&network) else {
            return true;
        };
        if members.places.len() < most {
            // Told anew only after it has fallen well below.
            members.is_full &= members.places.len() > most / 2;
            return true;
        }
        let Some(from) = from.filter(|from| !(self.0.bounds.exempt)(from.to_canonical())) else {
            return true;
        };
        let tells = !std::mem::replace(&mut members.is_full, true);
        let idle = members.places.iter();
        let idle = idle.filter_map(|(id, place)| Some((place.idles_since()?, *id)));
        let made = match idle.min() {
            Some((_, id)) => table.end(network, id),
            None => false,
        };
        if tells {
            let message = format!(
                "{from} holds its share of {most} connections: for each further one its own that has idled longest ends, and where none idles it is turned away; a balancer is named by --trusted-proxy"
            );
            self.tell(Level::Warn, "address_full", &message);
        }
        made
    }

    /// Ends the one of all that has idled longest.
    fn end_idlest(&self, table: &mut Table) -> bool {
        for look_again in [true, false] {
            while let Some((network, id)) = table.idlest.pop_front() {
                if table.end(network, id) {
                    return true;
                }
            }
            if look_again {
                let least = u64::try_from(IDLE_LEAST.as_millis()).unwrap_or(u64::MAX);
                table.look(now(self.0.began).saturating_sub(least));
            }
        }
        false
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.0.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, level: Level, event: &str, message: &str) {
        self.0.log.event(level, event, message, &[]);
    }
}

impl Slot {
    /// What the connection is doing, for whoever serves it to tell.
    #[must_use]
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Whose bound it is under.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// The connection is another address's, as a trusted proxy says. False if that has its share,
    /// and none of these idles.
    #[must_use]
    pub fn is_of(&mut self, address: IpAddr) -> bool {
        let network = Network::of(Some(address));
        if network == self.network {
            return true;
        }
        let places = self.places.clone();
        let mut table = places.table();
        if !places.admits(&mut table, network, Some(address)) {
            return false;
        }
        if table.moves(self.network, network, self.id) {
            self.network = network;
        }
        true
    }

    /// The peer has proven who it is.
    pub fn proven(&self) {
        self.places.table().unproven.remove(&self.id);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.places.table().remove(self.network, self.id);
        self.places.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_protocol::clock::Clock;

    fn places(most: usize, per_address: usize, unproven: usize) -> Places {
        let log = Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap();
        let bounds = Bounds {
            most,
            per_address,
            unproven,
            exempt: Arc::new(|ip| ip.to_string() == "10.9.9.9"),
        };
        Places::new(bounds, log)
    }

    fn take(places: &Places, from: &str) -> Option<Slot> {
        places.take(Some(from.parse().unwrap()), &Arc::default())
    }

    /// As if it had begun to idle so many milliseconds before now; the program is older than that.
    fn idle_for(slot: &Slot, since: u64) {
        slot.place().state.store(since, Ordering::Relaxed);
    }

    #[test]
    fn at_its_share_an_address_gives_up_its_own_idlest_and_keeps_what_is_busy() {
        let places = places(100, 3, usize::MAX);
        let [a, b, c] = [0; 3].map(|_| take(&places, "10.0.0.1").unwrap());
        let other = take(&places, "10.0.0.2").unwrap();
        idle_for(&other, 1);
        idle_for(&a, 20);
        idle_for(&b, 10);
        assert!(c.place().begin());
        let d = take(&places, "10.0.0.1").unwrap();
        assert!(
            !b.place().begin(),
            "the one that has idled longest was told to end"
        );
        assert!(a.place().begin() && other.place().begin() && d.place().begin());
        assert!(
            take(&places, "10.0.0.1").is_none(),
            "all that it has is busy"
        );
        drop(a);
        assert!(take(&places, "10.0.0.1").is_some());
        drop((b, c, d, other));
        let table = places.table();
        assert!(table.open == 0 && table.shares.is_empty() && table.unproven.is_empty());
    }

    #[test]
    fn a_share_is_an_address_and_of_ipv6_the_first_64_bits() {
        let places = places(100, 1, usize::MAX);
        let busy = |from: &str| {
            let slot = take(&places, from)?;
            assert!(slot.place().begin());
            Some(slot)
        };
        let _held = [busy("10.0.0.1").unwrap(), busy("2001:db8::1").unwrap()];
        assert!(busy("2001:db8::2:3").is_none() && busy("::ffff:10.0.0.1").is_none());
        assert!(busy("2001:db8:0:1::1").is_some() && busy("10.0.0.2").is_some());
        // A proxy stands for many.
        let _many = [busy("10.9.9.9").unwrap(), busy("10.9.9.9").unwrap()];
    }

    #[test]
    fn behind_a_proxy_it_is_the_clients_share_that_counts() {
        let places = places(100, 1, usize::MAX);
        let introduced = || take(&places, "10.9.9.9").unwrap();
        let [mut a, mut b, mut c] = [introduced(), introduced(), introduced()];
        let client = "10.0.0.1".parse().unwrap();
        assert!(a.is_of(client) && a.place().begin());
        assert!(!b.is_of(client), "it has its share, and that is busy");
        assert!(c.is_of("10.0.0.2".parse().unwrap()));
        drop(a);
        assert!(b.is_of(client));
        drop((b, c));
        let table = places.table();
        assert!(table.open == 0 && table.shares.is_empty());
    }

    #[test]
    fn where_all_are_taken_the_idlest_of_all_ends_and_nobody_who_is_busy_or_new() {
        let places = places(3, 100, usize::MAX);
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| take(&places, ip).unwrap());
        assert!(!places.make_room(), "all three have only just come");
        let later = Places(Arc::new(Shared {
            bounds: places.0.bounds.clone(),
            table: Mutex::new(std::mem::take(&mut *places.table())),
            freed: Notify::new(),
            began: places.0.began.checked_sub(Duration::from_secs(60)).unwrap(),
            log: places.0.log.clone(),
        }));
        idle_for(&a, 2000);
        idle_for(&b, 1000);
        assert!(c.place().begin());
        assert!(later.make_room());
        assert!(!b.place().begin() && a.place().begin());
        let _d = take(&later, "10.0.0.4").unwrap();
        assert!(!later.make_room(), "two are busy and one is new");
    }

    #[test]
    fn who_has_proven_nothing_is_counted_apart_and_the_heaviest_address_pays() {
        let places = places(1000, 1000, 4);
        let many: Vec<Slot> = (0..3).map(|_| take(&places, "10.0.0.1").unwrap()).collect();
        let gateway = take(&places, "10.0.0.2").unwrap();
        let _next = take(&places, "10.0.0.3").unwrap();
        assert!(
            !many[0].place().begin(),
            "the oldest of the heaviest was told to end"
        );
        assert!(many[1].place().begin() && many[2].place().begin());
        gateway.proven();
        assert!(gateway.place().begin());
        assert_eq!(places.table().unproven.len(), 3);
    }

    #[tokio::test]
    async fn one_that_is_told_to_end_before_it_runs_ends_all_the_same() {
        let places = places(1, 1, usize::MAX);
        let slot = take(&places, "10.0.0.1").unwrap();
        let _other = take(&places, "10.0.0.1").unwrap();
        let task = tokio::spawn(std::future::pending::<()>());
        slot.place().runs(task.abort_handle());
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
