//! Remembers tokens that were verified, so that the next request with the same one costs a look-up.
//!
//! In: a whole token and the caller it proved. Out: that caller, for exactly these bytes. Keyed by
//! the token itself, compared whole: no digest, so no collision to argue about. Bounded by count
//! and by bytes in two generations: new entries go to the young one; when that is full it becomes
//! the old one and the old one is forgotten, so that a token in use survives and one that is not
//! goes, without a list to keep in order. Only tokens that verified get in: nobody without a key
//! can push others out.
//! Invariant: an entry is never used under other keys or settings than those it was verified with
//! ([`Cache::renew`]); its time is the reader's to check, on every use.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::mem;
use std::rc::Rc;

use super::claims::VerifiedCaller;

/// The tokens one worker has verified.
#[derive(Default)]
pub(super) struct Cache {
    generation: u64,
    young: Half,
    old: Half,
}

#[derive(Default)]
struct Half {
    callers: HashMap<Box<[u8]>, Rc<VerifiedCaller>, ByTail>,
    bytes: usize,
}

/// Hashes the last bytes of a token only: they are its signature, as random as a hash, and the rest
/// costs 100 ns to read.
#[derive(Default)]
struct ByTail(RandomState);

struct TailHasher(DefaultHasher);

/// Half of what is remembered: 4096 tokens in all.
const HALF_ENTRIES: usize = 2048;

/// Half of what they may take: 4 MiB in all.
const HALF_BYTES: usize = 2 << 20;

/// What an entry takes beside its token: the caller, the user and company ids, the map's share.
/// Rounded up.
const ENTRY_OVERHEAD: usize = 768;

/// 32 characters of base64url: 192 bits of the signature.
const TAIL: usize = 32;

impl Cache {
    /// Forgets everything unless it was verified under `generation`.
    pub(super) fn renew(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self {
                generation,
                ..Self::default()
            };
        }
    }

    /// The caller that these very bytes proved. Allocates nothing for a token in steady use.
    pub(super) fn get(&mut self, token: &[u8]) -> Option<Rc<VerifiedCaller>> {
        if let Some(caller) = self.young.callers.get(token) {
            return Some(caller.clone());
        }
        let (token, caller) = self.old.callers.remove_entry(token)?;
        self.old.bytes = self.old.bytes.saturating_sub(cost(&token, &caller));
        self.insert(token, caller.clone());
        Some(caller)
    }

    /// Remembers a token that has just been verified.
    pub(super) fn put(&mut self, token: &[u8], caller: Rc<VerifiedCaller>) {
        self.insert(token.into(), caller);
    }

    fn insert(&mut self, token: Box<[u8]>, caller: Rc<VerifiedCaller>) {
        let cost = cost(&token, &caller);
        if self.young.callers.len() >= HALF_ENTRIES || self.young.bytes + cost > HALF_BYTES {
            let room = self.young.callers.len();
            self.old = mem::take(&mut self.young);
            self.young.callers.reserve(room);
        }
        if self.young.callers.insert(token, caller).is_none() {
            self.young.bytes += cost;
        }
    }
}

impl BuildHasher for ByTail {
    type Hasher = TailHasher;

    fn build_hasher(&self) -> TailHasher {
        TailHasher(self.0.build_hasher())
    }
}

impl Hasher for TailHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(&bytes[bytes.len().saturating_sub(TAIL)..]);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

fn cost(token: &[u8], caller: &VerifiedCaller) -> usize {
    token.len() + caller.bytes() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Rc<VerifiedCaller> {
        Rc::new(VerifiedCaller::for_test("7", "4", &[]))
    }

    fn token(number: usize, length: usize) -> Vec<u8> {
        format!("{number:0length$}").into_bytes()
    }

    fn held(cache: &Cache) -> usize {
        cache.young.callers.len() + cache.old.callers.len()
    }

    #[test]
    fn only_the_very_same_bytes_are_found() {
        let mut cache = Cache::default();
        let known = b"header.claims.0123456789012345678901234567890123456789";
        cache.put(known, caller());
        assert!(cache.get(known).is_some());
        // The same tail, so the same hash: what differs is compared all the same.
        assert!(
            cache
                .get(b"HEADER.claims.0123456789012345678901234567890123456789")
                .is_none()
        );
        assert!(cache.get(&known[1..]).is_none());
        assert!(cache.get(b"").is_none());
    }

    #[test]
    fn a_new_generation_starts_with_nothing() {
        let mut cache = Cache::default();
        cache.put(b"a", caller());
        cache.renew(0);
        assert!(cache.get(b"a").is_some());
        cache.renew(1);
        assert!(cache.get(b"a").is_none());
        assert_eq!(held(&cache), 0);
    }

    #[test]
    fn a_token_in_use_outlives_a_flood_of_others() {
        let mut cache = Cache::default();
        cache.put(b"in use", caller());
        cache.put(b"forgotten", caller());
        for number in 0..10_000 {
            cache.put(&token(number, 40), caller());
            assert!(cache.get(b"in use").is_some(), "{number}");
            assert!(held(&cache) <= 2 * HALF_ENTRIES, "{number}");
        }
        assert!(cache.get(b"forgotten").is_none());
        assert!(cache.get(&token(9_999, 40)).is_some());
    }

    #[test]
    fn long_tokens_are_bounded_by_their_bytes() {
        let mut cache = Cache::default();
        for number in 0..3_000 {
            cache.put(&token(number, 8_000), caller());
            cache.get(&token(number / 2, 8_000));
            let sum = |half: &Half| {
                half.callers
                    .iter()
                    .map(|(token, caller)| cost(token, caller))
                    .sum::<usize>()
            };
            if number % 100 == 0 {
                assert_eq!(
                    (sum(&cache.young), sum(&cache.old)),
                    (cache.young.bytes, cache.old.bytes)
                );
            }
            assert!(cache.young.bytes + cache.old.bytes <= 2 * HALF_BYTES);
        }
        assert!(held(&cache) > 200);
    }

    #[test]
    fn putting_a_token_again_costs_it_once() {
        let mut cache = Cache::default();
        cache.put(b"a", caller());
        let once = cache.young.bytes;
        cache.put(b"a", caller());
        assert_eq!(cache.young.bytes, once);
    }
}
