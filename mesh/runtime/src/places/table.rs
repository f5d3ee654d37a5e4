//! Who has a connection, by whose share it counts, and which of them have idled longest.
//!
//! In: places as they come, move and go. Out: the one that ends where somebody has to. What the
//! bounds are is not known here.
//! Invariant: `open` counts what `shares` holds, and nobody is unproven who is not among them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::place::Place;

#[derive(Default)]
pub(super) struct Table {
    pub(super) open: usize,
    pub(super) next: u64,
    pub(super) shares: HashMap<Network, Members>,
    pub(super) unproven: BTreeMap<u64, Network>,
    /// Those that had idled longest when that was last looked at, the longest first.
    pub(super) idlest: VecDeque<(Network, u64)>,
    pub(super) is_full: bool,
}

#[derive(Default)]
pub(super) struct Members {
    pub(super) places: HashMap<u64, Arc<Place>>,
    pub(super) is_full: bool,
}

/// Whose connections have one bound together, as far as clients can be told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// An address.
    V4(u32),
    /// The 64 bits of one that are not a client's own to choose.
    V6(u64),
    /// A socket of this host.
    Here,
}

/// How many of those that have idled longest are noted in one look at all.
const NOTED: usize = 64;

impl Network {
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        let Some(address) = address else {
            return Self::Here;
        };
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX))
            }
        }
    }
}

impl Table {
    /// Ends one that idles. False if it does not, or is gone.
    pub(super) fn end(&mut self, network: Network, id: u64) -> bool {
        let Some(place) = self.place(network, id) else {
            return false;
        };
        if !place.end() {
            return false;
        }
        self.remove(network, id);
        true
    }

    fn place(&self, network: Network, id: u64) -> Option<Arc<Place>> {
        self.shares.get(&network)?.places.get(&id).cloned()
    }

    /// Forgets one. False if it is not there.
    pub(super) fn remove(&mut self, network: Network, id: u64) -> bool {
        let Some(members) = self.shares.get_mut(&network) else {
            return false;
        };
        let was_there = members.places.remove(&id).is_some();
        if members.places.is_empty() {
            self.shares.remove(&network);
        }
        if was_there {
            self.open -= 1;
            self.unproven.remove(&id);
        }
        was_there
    }

    /// Counts one by another share. False if it was told to end.
    pub(super) fn moves(&mut self, from: Network, to: Network, id: u64) -> bool {
        let Some(members) = self.shares.get_mut(&from) else {
            return false;
        };
        let place = members.places.remove(&id);
        if members.places.is_empty() {
            self.shares.remove(&from);
        }
        let Some(place) = place else {
            return false;
        };
        let members = self.shares.entry(to).or_default();
        members.places.insert(id, place);
        true
    }

    /// Notes those that have idled longest, since `latest` at the latest.
    pub(super) fn look(&mut self, latest: u64) {
        let mut idle: Vec<(u64, Network, u64)> = Vec::new();
        for (network, members) in &self.shares {
            let places = members.places.iter();
            idle.extend(places.filter_map(|(id, place)| {
                let since = place.idles_since().filter(|since| *since <= latest)?;
                Some((since, *network, *id))
            }));
        }
        if idle.len() > NOTED {
            idle.select_nth_unstable_by_key(NOTED, |(since, ..)| *since);
            idle.truncate(NOTED);
        }
        idle.sort_unstable_by_key(|(since, ..)| *since);
        self.idlest = idle
            .into_iter()
            .map(|(_, network, id)| (network, id))
            .collect();
    }

    /// Ends the oldest unproven one of the address that has most of them.
    pub(super) fn end_heaviest(&mut self) {
        let mut counts: HashMap<Network, (usize, u64)> = HashMap::new();
        for (id, network) in self.unproven.iter().rev() {
            let (count, oldest) = counts.entry(*network).or_default();
            *count += 1;
            *oldest = *id;
        }
        let heaviest = counts
            .into_iter()
            .max_by_key(|(_, (count, oldest))| (*count, std::cmp::Reverse(*oldest)));
        if let Some((network, (_, id))) = heaviest {
            self.end(network, id);
        }
    }
}
