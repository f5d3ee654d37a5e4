//! The registry of live connections: one mechanism for revocation, expiry and age.
//!
//! In: every connection whose peer was proven, when it begins. Out: a [`Verdict`] for each, which
//! its owner watches: go on, retire after what is in flight, or end now. Invariant: a connection
//! that was judged under an older set than the one in force is judged again by the next sweep,
//! whenever it was registered; so a handshake that overlaps a swap slips through neither.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, watch};

use gapura_certificates::peer::Peer;
use gapura_certificates::purpose::Purpose;
use gapura_protocol::clock::unix;
use gapura_protocol::leg::Side;
use gapura_trust::set::TrustSet;

use crate::session::Session;
use crate::verdict::Verdict;

/// The live connections of one program. Cheap to clone.
#[derive(Clone, Default)]
pub struct LiveConnections(Arc<Registry>);

#[derive(Default)]
struct Registry {
    next_id: AtomicU64,
    /// The newest generation that a sweep has judged by.
    swept: AtomicU64,
    /// Wakes the sweeper for a connection that was judged under an older one.
    late: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: HashMap<u64, Connection>,
    /// Our own certificate of each generation that may still have connections.
    own: BTreeMap<u64, Own>,
}

/// A certificate of ours, by what names it, and its life.
#[derive(Clone, PartialEq, Eq)]
struct Own {
    serial: Box<[u8]>,
    issuer: [u8; 32],
    life: Validity,
}

struct Connection {
    side: Side,
    peer: Peer,
    chain: Chain,
    session: Session,
    /// The set whose certificate we showed.
    shown: u64,
    /// The newest set that has judged the peer.
    judged: u64,
    opened: Instant,
    /// The clock at the first sweep that met it.
    first_swept: Option<u64>,
    verdict: watch::Sender<Verdict>,
}

/// What judging again has said: fine, or the reason.
type Judged = Result<(), &'static str>;

/// What a peer showed.
type Chain = Arc<[CertificateDer<'static>]>;

/// A certificate's first and last second.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Validity {
    not_before: u64,
    not_after: u64,
}

/// Keeps a connection in the registry until it is dropped.
pub struct LiveGuard {
    id: u64,
    verdict: watch::Receiver<Verdict>,
    registry: Arc<Registry>,
}

/// The connections with one peer that agreed on the same.
#[derive(Clone, Debug)]
pub struct Together {
    /// Which connections.
    pub side: Side,
    /// Who is at the other end.
    pub peer: Peer,
    /// What they agreed on.
    pub session: Session,
    /// How many there are.
    pub count: usize,
    /// Since when the oldest stands.
    pub oldest: Instant,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many connections were told to retire.
    pub retired: usize,
    /// Who was cut off, and why.
    pub cut: Vec<(Side, Peer, &'static str)>,
}

/// The age at which a hop connection retires, give or take a tenth, so that a thousand of one
/// minute do not return in one minute.
const OLDEST: Duration = Duration::from_secs(3600);

/// A connection retires this long before a certificate of its own ends, or a tenth of the
/// certificate's life if that is less, so that where a successor exists no request meets the hard
/// end.
const BEFORE_THE_END: u64 = 60;

/// Generations whose own certificate's end is remembered without a connection: more swaps than fit
/// into one slow handshake.
const KEPT_ENDS: u64 = 64;

impl LiveConnections {
    /// No connection yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a connection whose peer was proven under the set of `generation`.
    #[must_use]
    pub fn admit(
        &self,
        side: Side,
        peer: Peer,
        (chain, session): (Vec<CertificateDer<'static>>, Session),
        generation: u64,
        opened: Instant,
    ) -> LiveGuard {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (verdict, watched) = watch::channel(Verdict::Run);
        let mut state = self.state();
        let chain = chain.into();
        let connection = Connection {
            side,
            peer,
            chain,
            session,
            shown: generation,
            judged: generation,
            opened,
            first_swept: None,
            verdict,
        };
        state.connections.insert(id, connection);
        drop(state);
        if generation < self.0.swept.load(Ordering::Acquire) {
            self.0.late.notify_one();
        }
        LiveGuard {
            id,
            verdict: watched,
            registry: self.0.clone(),
        }
    }

    /// Those that stand now, by whom they are with and what was agreed on, in the order of the
    /// peers' names.
    #[must_use]
    pub fn by_peer(&self) -> Vec<Together> {
        let mut groups: Vec<Together> = Vec::new();
        // By serial number and issuer: where a peer's groups stand.
        let mut known = HashMap::<_, Vec<usize>>::new();
        for connection in self.state().connections.values() {
            let (peer, session) = (&connection.peer, connection.session);
            let places = known.entry((peer.serial.clone(), peer.issuer)).or_default();
            let alike = places.iter().copied().find(|at| {
                let group = groups.get(*at);
                group.is_some_and(|one| one.side == connection.side && one.session == session)
            });
            match alike.and_then(|at| groups.get_mut(at)) {
                Some(group) => {
                    group.count += 1;
                    group.oldest = group.oldest.min(connection.opened);
                }
                None => {
                    places.push(groups.len());
                    groups.push(Together {
                        side: connection.side,
                        peer: peer.clone(),
                        session,
                        count: 1,
                        oldest: connection.opened,
                    });
                }
            }
        }
        groups.sort_by_cached_key(|group| (group.peer.id.to_string(), group.peer.serial.clone()));
        groups
    }

    /// Tells of a set before it is put in force, so that no connection can show a certificate whose
    /// end is not known here.
    pub fn learn(&self, trust: &TrustSet) {
        let own = trust.own();
        let life = Validity {
            not_before: own.not_before,
            not_after: own.not_after,
        };
        self.state().own.insert(
            trust.generation(),
            Own {
                serial: own.serial.clone(),
                issuer: own.issuer,
                life,
            },
        );
    }

    /// Judges again whatever an older set has judged, ends what must end and retires what is old.
    pub fn sweep(&self, trust: &TrustSet, now: SystemTime) -> Swept {
        self.learn(trust);
        let generation = trust.generation();
        // Before the walk: whoever registers after it with an older generation sees this and wakes
        // the sweeper.
        self.0.swept.fetch_max(generation, Ordering::AcqRel);
        let refused = self.judge_again(trust, now);
        let seconds = unix(now);
        let mut swept = Swept::default();
        let mut state = self.state();
        let state = &mut *state;
        let current = state.own.get(&generation);
        for (id, connection) in &mut state.connections {
            if matches!(*connection.verdict.borrow(), Verdict::Cut(_)) {
                continue;
            }
            let shown = state.own.get(&connection.shown);
            let own = shown.map(|own| own.life);
            let cut = match refused.get(id) {
                Some(Err(reason)) => Some(*reason),
                Some(Ok(())) => {
                    connection.judged = generation;
                    None
                }
                None => None,
            };
            let cut = cut
                .or_else(|| connection.peer.expired(seconds).then_some("expired"))
                .or_else(|| {
                    own.is_some_and(|own| seconds > own.not_after)
                        .then_some("own_expired")
                });
            if let Some(reason) = cut {
                connection.verdict.send_replace(Verdict::Cut(reason));
                swept
                    .cut
                    .push((connection.side, connection.peer.clone(), reason));
                continue;
            }
            let peer = Validity {
                not_before: connection.peer.not_before,
                not_after: connection.peer.not_after,
            };
            let due = connection.opened.elapsed() > oldest(*id)
                || connection.is_near_the_end(peer, seconds)
                || own.is_some_and(|own| connection.is_near_the_end(own, seconds))
                // With a new certificate of ours in force, the peer has to see it before the old
                // one's authority is given up, or it would cut this connection in the middle of a
                // request.
                || shown.is_some_and(|shown| Some(shown) != current);
            connection.first_swept.get_or_insert(seconds);
            if due
                && connection
                    .verdict
                    .send_if_modified(|verdict| verdict.retire())
            {
                swept.retired += 1;
            }
        }
        let oldest_shown = state
            .connections
            .values()
            .map(|connection| connection.shown)
            .min()
            .unwrap_or(generation)
            .min(generation);
        // Some sets before the oldest in use are kept: a handshake may be under way that shows one
        // of their certificates.
        state.own = state.own.split_off(&oldest_shown.saturating_sub(KEPT_ENDS));
        swept
    }

    /// Judges every connection of an older generation, outside the lock: a verification takes 80
    /// microseconds, and workers that register connections must not wait for a thousand of them. A
    /// chain that many connections share is judged once.
    fn judge_again(&self, trust: &TrustSet, now: SystemTime) -> HashMap<u64, Judged> {
        let older: Vec<_> = {
            let state = self.state();
            let older = state
                .connections
                .iter()
                .filter(|(_, connection)| connection.judged < trust.generation());
            older
                .map(|(id, connection)| {
                    (
                        *id,
                        connection.chain.clone(),
                        Purpose::of(connection.peer.id.role()),
                    )
                })
                .collect()
        };
        let mut known: HashMap<(Chain, Purpose), Judged> = HashMap::new();
        let judged = older.into_iter().map(|(id, chain, purpose)| {
            let result = *known
                .entry((chain, purpose))
                .or_insert_with_key(|(chain, purpose)| match trust.judge(chain, *purpose, now) {
                    Ok(_) => Ok(()),
                    Err(refusal) => Err(refusal.reason()),
                });
            (id, result)
        });
        judged.collect()
    }

    /// Waits until a connection has registered that an older set than the swept one has judged.
    pub async fn late(&self) {
        self.0.late.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Connection {
    /// Whether a certificate is about to end that was not about to when the connection began. One
    /// that was has no successor yet; retiring it would only bring the same certificate back at
    /// once, over and over.
    fn is_near_the_end(&self, life: Validity, now: u64) -> bool {
        let margin = BEFORE_THE_END.min(life.not_after.saturating_sub(life.not_before) / 10);
        let near = life.not_after.saturating_sub(margin);
        now >= near && self.first_swept.is_some_and(|first| first < near)
    }
}

impl LiveGuard {
    /// Where the verdict appears; it is `Run` at first.
    #[must_use]
    pub fn verdict(&self) -> watch::Receiver<Verdict> {
        self.verdict.clone()
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        lock(&self.registry).connections.remove(&self.id);
    }
}

fn lock(registry: &Registry) -> MutexGuard<'_, State> {
    registry
        .state
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// An hour, give or take a tenth, by a number that is spread well enough and needs no randomness.
fn oldest(id: u64) -> Duration {
    let spread = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54; // 0 to 1023: Fibonacci hashing
    OLDEST * 9 / 10 + OLDEST / 5 * u32::try_from(spread).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests;
