//! How a connection ends: revoked, expired, of another root, of an old certificate of ours, old.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use gapura_protocol::identity::Role;
use gapura_protocol::leg::Side;
use gapura_trust as trust;
use gapura_trust::set::TrustSet;
use mint::{Ca, DAY, Dir, GATEWAY, Leaf, PLUGIN, now, options, serial, valid};

use super::{LiveConnections, LiveGuard};
use crate::session::Session;
use crate::verdict::Verdict;

#[path = "../../../trust/src/tests/mint.rs"]
#[expect(dead_code, reason = "the tests of gapura-trust use the rest")]
mod mint;

/// A sidecar with its registry.
struct Side1 {
    root: Ca,
    dir: Dir,
    trust: TrustSet,
    live: LiveConnections,
}

impl Side1 {
    fn new() -> Self {
        let root = Ca::root("r");
        let own = root.plugin();
        Self::with(root, &own)
    }

    fn with(root: Ca, own: &Leaf) -> Self {
        let dir = Dir::of(own, &root.pem, Some(&root.crl(1, &[])));
        let trust = dir.load(&options(Role::Plugin), None).unwrap();
        let live = LiveConnections::new();
        live.learn(&trust);
        Self {
            root,
            dir,
            trust,
            live,
        }
    }

    fn gateway(&self, number: u64) -> Leaf {
        self.root.leaf(GATEWAY, &[ClientAuth], serial(number))
    }

    fn admit(&self, leaf: &Leaf, opened: Instant) -> LiveGuard {
        self.live.admit(
            Side::Hop,
            leaf.peer(),
            (leaf.chain.clone(), Session::default()),
            self.trust.generation(),
            opened,
        )
    }

    /// Publishes a CRL, loads it, and sweeps.
    fn revoke(&mut self, number: u64, serials: &[u64]) -> Vec<&'static str> {
        self.dir.write("crl.pem", &self.root.crl(number, serials));
        self.trust = self
            .dir
            .load(&options(Role::Plugin), Some(&self.trust))
            .unwrap();
        self.sweep(0)
    }

    fn sweep(&self, after: i64) -> Vec<&'static str> {
        self.live
            .sweep(&self.trust, later(after))
            .cut
            .into_iter()
            .map(|(_, _, reason)| reason)
            .collect()
    }
}

fn later(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs((now() + seconds).unsigned_abs())
}

fn verdict(guard: &LiveGuard) -> Verdict {
    *guard.verdict().borrow()
}

#[test]
fn a_revoked_peer_is_cut_and_its_neighbour_runs_on() {
    let mut side = Side1::new();
    let (bad, good) = (side.gateway(7), side.gateway(8));
    let (bad, good) = (
        side.admit(&bad, Instant::now()),
        side.admit(&good, Instant::now()),
    );
    assert!(side.sweep(0).is_empty());
    assert_eq!(side.revoke(2, &[7]), ["revoked"]);
    assert_eq!(
        (verdict(&bad), verdict(&good)),
        (Verdict::Cut("revoked"), Verdict::Run)
    );
    // Said once, and final.
    assert!(side.sweep(0).is_empty());
}

#[test]
fn a_handshake_judged_by_the_old_set_that_registers_after_the_sweep_is_judged_again() {
    let mut side = Side1::new();
    let (bad, good) = (side.gateway(7), side.gateway(8));
    let old = side.trust.generation();
    assert!(side.revoke(2, &[7]).is_empty());
    let bad = side.live.admit(
        Side::Hop,
        bad.peer(),
        (bad.chain.clone(), Session::default()),
        old,
        Instant::now(),
    );
    let good = side.live.admit(
        Side::Hop,
        good.peer(),
        (good.chain.clone(), Session::default()),
        old,
        Instant::now(),
    );
    assert_eq!(verdict(&bad), Verdict::Run);
    assert_eq!(side.sweep(0), ["revoked"]);
    assert_eq!(
        (verdict(&bad), verdict(&good)),
        (Verdict::Cut("revoked"), Verdict::Run)
    );
}

#[test]
fn a_peer_whose_root_is_gone_is_cut() {
    let mut side = Side1::new();
    let other = Ca::root("other");
    let roots = format!("{}{}", side.root.pem, other.pem);
    let crls = format!("{}{}", side.root.crl(2, &[]), other.crl(1, &[]));
    let own = side.root.plugin();
    side.dir.publish(&own, &roots, Some(&crls));
    side.trust = side
        .dir
        .load(&options(Role::Plugin), Some(&side.trust))
        .unwrap();
    let (theirs, ours) = (other.gateway(), side.gateway(1));
    let (theirs, ours) = (
        side.admit(&theirs, Instant::now()),
        side.admit(&ours, Instant::now()),
    );
    assert!(side.sweep(0).is_empty());
    side.dir
        .publish(&own, &side.root.pem, Some(&side.root.crl(3, &[])));
    side.trust = side
        .dir
        .load(&options(Role::Plugin), Some(&side.trust))
        .unwrap();
    assert_eq!(side.sweep(0), ["unknown_issuer"]);
    assert_eq!(
        (verdict(&theirs), verdict(&ours)),
        (Verdict::Cut("unknown_issuer"), Verdict::Run)
    );
}

#[test]
fn a_new_certificate_of_ours_is_shown_by_new_connections_and_the_old_ones_retire() {
    let mut side = Side1::new();
    let peer = side.gateway(1);
    let before = side.admit(&peer, Instant::now());
    // A new CRL under the same certificate is no reason to open a connection anew.
    assert!(side.revoke(2, &[]).is_empty());
    assert_eq!(verdict(&before), Verdict::Run);
    side.dir.publish(
        &side.root.plugin(),
        &side.root.pem,
        Some(&side.root.crl(3, &[])),
    );
    side.trust = side
        .dir
        .load(&options(Role::Plugin), Some(&side.trust))
        .unwrap();
    let after = side.admit(&peer, Instant::now());
    assert!(side.sweep(0).is_empty());
    assert_eq!(
        (verdict(&before), verdict(&after)),
        (Verdict::Retire, Verdict::Run)
    );
}

#[test]
fn no_connection_outlives_its_peers_certificate() {
    let side = Side1::new();
    let short = side.root.leaf(GATEWAY, &[ClientAuth], valid(-1000, 1000));
    let guard = side.admit(&short, Instant::now());
    assert!(side.sweep(0).is_empty());
    assert_eq!(verdict(&guard), Verdict::Run);
    // A little before the end it retires, so that a successor is met by a new connection.
    assert!(side.sweep(950).is_empty());
    assert_eq!(verdict(&guard), Verdict::Retire);
    assert_eq!(side.sweep(1002), ["expired"]);
    assert_eq!(verdict(&guard), Verdict::Cut("expired"));
}

#[test]
fn without_a_successor_new_connections_run_to_the_end() {
    let side = Side1::new();
    let short = side.root.leaf(GATEWAY, &[ClientAuth], valid(-1000, 1000));
    let guard = side.admit(&short, Instant::now());
    for after in [960, 980, 998] {
        assert!(side.sweep(after).is_empty());
        assert_eq!(verdict(&guard), Verdict::Run, "{after}");
    }
    assert_eq!(side.sweep(1002), ["expired"]);
}

#[test]
fn no_connection_outlives_the_own_certificate_it_showed() {
    let root = Ca::root("r");
    let short = root.leaf(PLUGIN, &[ServerAuth], valid(-1000, 1000));
    let mut side = Side1::with(root, &short);
    let peer = side.gateway(1);
    let before = side.admit(&peer, Instant::now());
    assert!(side.sweep(0).is_empty());
    // A renewal does not prolong what the old certificate opened.
    side.dir.publish(
        &side.root.plugin(),
        &side.root.pem,
        Some(&side.root.crl(2, &[])),
    );
    side.trust = side
        .dir
        .load(&options(Role::Plugin), Some(&side.trust))
        .unwrap();
    let after = side.admit(&peer, Instant::now());
    assert!(side.sweep(0).is_empty());
    assert!(side.sweep(950).is_empty());
    assert_eq!(
        (verdict(&before), verdict(&after)),
        (Verdict::Retire, Verdict::Run)
    );
    assert_eq!(side.sweep(1002), ["own_expired"]);
    assert_eq!(
        (verdict(&before), verdict(&after)),
        (Verdict::Cut("own_expired"), Verdict::Run)
    );
}

#[test]
fn an_hour_is_the_age_of_retirement_give_or_take() {
    let side = Side1::new();
    let peer = side.gateway(1);
    let ago = |seconds| {
        Instant::now()
            .checked_sub(Duration::from_secs(seconds))
            .unwrap()
    };
    // A machine that has not been up for long enough cannot date an Instant back.
    let young: Vec<_> = (0..50).map(|_| side.admit(&peer, Instant::now())).collect();
    side.sweep(0);
    assert!(young.iter().all(|guard| verdict(guard) == Verdict::Run));
    if Instant::now()
        .checked_sub(Duration::from_secs(4000))
        .is_some()
    {
        let old: Vec<_> = (0..200).map(|_| side.admit(&peer, ago(3600))).collect();
        let oldest = side.admit(&peer, ago(3961));
        let swept = side.live.sweep(&side.trust, later(0));
        let retired = old
            .iter()
            .filter(|guard| verdict(guard) == Verdict::Retire)
            .count();
        assert!((50..150).contains(&retired), "{retired}");
        assert_eq!(
            (verdict(&oldest), swept.retired),
            (Verdict::Retire, retired + 1)
        );
        assert_eq!(side.live.sweep(&side.trust, later(0)).retired, 0);
    }
}

#[test]
fn the_spread_of_ages_is_a_tenth_each_way() {
    let ages: Vec<_> = (0..10_000).map(super::oldest).collect();
    let (least, most) = (
        ages.iter().min().unwrap().as_secs(),
        ages.iter().max().unwrap().as_secs(),
    );
    assert!(
        (3240..3260).contains(&least) && (3940..=3960).contains(&most),
        "{least} {most}"
    );
}

#[test]
fn a_thousand_connections_of_one_peer_all_end() {
    let mut side = Side1::new();
    let peer = side.gateway(7);
    let guards: Vec<_> = (0..1000)
        .map(|_| side.admit(&peer, Instant::now()))
        .collect();
    assert_eq!(side.revoke(2, &[7]).len(), guards.len());
}

#[test]
fn a_sidecar_as_peer_is_judged_for_answering() {
    let root = Ca::root("r");
    let dir = Dir::of(&root.gateway(), &root.pem, Some(&root.crl(1, &[])));
    let first = dir.load(&options(Role::Gateway), None).unwrap();
    let live = LiveConnections::new();
    let plugin = root.leaf(PLUGIN, &[ServerAuth], |params| {
        serial(9)(params);
        valid(-DAY, DAY)(params);
    });
    let guard = live.admit(
        Side::Hop,
        plugin.peer(),
        (plugin.chain.clone(), Session::default()),
        first.generation(),
        Instant::now(),
    );
    dir.write("crl.pem", &root.crl(2, &[]));
    let second = dir.load(&options(Role::Gateway), Some(&first)).unwrap();
    assert!(live.sweep(&second, later(0)).cut.is_empty());
    assert_eq!(verdict(&guard), Verdict::Run);
    dir.write("crl.pem", &root.crl(3, &[9]));
    let third = dir.load(&options(Role::Gateway), Some(&second)).unwrap();
    assert_eq!(live.sweep(&third, later(0)).cut.len(), 1);
}

#[test]
fn connections_are_told_by_their_peers_and_not_one_by_one() {
    let side = Side1::new();
    let (one, other) = (side.gateway(10), side.gateway(11));
    let begun = Instant::now();
    let later = begun + Duration::from_secs(1);
    let _kept = [
        side.admit(&one, later),
        side.admit(&one, begun),
        side.admit(&other, begun),
    ];
    let gone = side.admit(&other, begun);
    drop(gone);
    let told = side.live.by_peer();
    let told: Vec<_> = told
        .iter()
        .map(|group| (group.peer.serial.clone(), group.count, group.oldest))
        .collect();
    let serial = |leaf: &Leaf| leaf.peer().serial;
    assert_eq!(told, [(serial(&one), 2, begun), (serial(&other), 1, begun)]);
}
