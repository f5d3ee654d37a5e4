//! How much anybody may ask for: by who they are, or by address where they are nobody yet, and all
//! together.
//!
//! In: a key and the present. Out: yes, or in how many seconds to come again. A bucket is one
//! number, the moment at which it is full again. Behind one lock, which is held for a look-up:
//! requests here are few and a signature is far dearer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gapura_protocol::identity::PeerId;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// Whom the handshake has proven.
    Peer(PeerId),
    /// Nobody yet, from there; of IPv6 the network, of which one host has many addresses.
    Stranger(IpAddr),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A certificate.
    Certificate,
    /// Roots and CRLs.
    News,
}

/// So many at once, and one more each `every`.
#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// A host asks for a certificate twice a day; sixty hosts with one identity, or behind one address,
/// may begin at once.
const CERTIFICATES_EACH: Rate = Rate {
    burst: 60,
    every: Duration::from_millis(1000),
};
/// A long poll ends with each change, of which a rotation has a dozen in a row.
const NEWS_EACH: Rate = Rate {
    burst: 120,
    every: Duration::from_millis(250),
};
/// All together: what one thread signs in a second, and a fleet that comes back at one moment.
const CERTIFICATES_ALL: Rate = Rate {
    burst: 3000,
    every: Duration::from_millis(4),
};

/// Buckets that are kept: those that are full again are given up before there are more.
const MOST: usize = 16_384;

/// The buckets.
pub(crate) struct Limits {
    begun: Instant,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// When each is full again, since `begun`.
    each: HashMap<(Asker, What), Duration>,
    all: Duration,
}

impl Limits {
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            begun,
            table: Mutex::default(),
        }
    }

    /// Takes one, or says in how many seconds there is one again.
    pub(crate) fn take(&self, asker: Asker, what: What, now: Instant) -> Result<(), u64> {
        let now = now.saturating_duration_since(self.begun);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.each.len() >= MOST {
            table.each.retain(|_, full| *full > now);
            if table.each.len() >= MOST {
                return Err(1);
            }
        }
        let rate = match what {
            What::Certificate => CERTIFICATES_EACH,
            What::News => NEWS_EACH,
        };
        let key = (asker, what);
        let mut own = table.each.get(&key).copied().unwrap_or_default();
        rate.take(&mut own, now)?;
        if what == What::Certificate {
            CERTIFICATES_ALL.take(&mut table.all, now)?;
        }
        table.each.insert(key, own);
        Ok(())
    }
}

impl Rate {
    fn take(self, full: &mut Duration, now: Duration) -> Result<(), u64> {
        let next = (*full).max(now) + self.every;
        let most = now + self.every * self.burst;
        if next <= most {
            *full = next;
            return Ok(());
        }
        Err((next - most).as_secs() + 1)
    }
}

impl Asker {
    /// Whoever comes from there.
    pub(crate) fn stranger(from: Option<IpAddr>) -> Self {
        let address = from.map_or(IpAddr::from([0, 0, 0, 0]), |from| from.to_canonical());
        Self::Stranger(match address {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 => v4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(last: u8) -> Asker {
        Asker::stranger(Some(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn who_has_had_enough_waits_and_nobody_else_does() {
        let begun = Instant::now();
        let limits = Limits::new(begun);
        for _ in 0..CERTIFICATES_EACH.burst {
            assert!(limits.take(stranger(1), What::Certificate, begun).is_ok());
        }
        assert_eq!(limits.take(stranger(1), What::Certificate, begun), Err(2));
        assert!(limits.take(stranger(1), What::News, begun).is_ok());
        assert!(limits.take(stranger(2), What::Certificate, begun).is_ok());
        let later = begun + CERTIFICATES_EACH.every;
        assert!(limits.take(stranger(1), What::Certificate, later).is_ok());
        assert!(limits.take(stranger(1), What::Certificate, later).is_err());
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let begun = Instant::now();
        let limits = Limits::new(begun);
        let take = |number: u32| {
            let [.., c, d] = number.to_be_bytes();
            let from = IpAddr::from([192, 0, c, d]);
            limits.take(Asker::stranger(Some(from)), What::Certificate, begun)
        };
        assert!((0..CERTIFICATES_ALL.burst).all(|number| take(number).is_ok()));
        assert!(take(CERTIFICATES_ALL.burst).is_err());
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one() {
        let of = |text: &str| Asker::stranger(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
