//! A running program's trust: what changes is in force within 2 s, what does not fit changes
//! nothing.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::mint::{Ca, DAY, Dir, GATEWAY, Leaf, PLUGIN, options, serial, valid};
use gapura_certificates::marks::Marks;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_protocol::leg::Side;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_transport::live::{LiveConnections, LiveGuard};
use gapura_transport::session::Session;
use gapura_transport::verdict::Verdict;
use gapura_trust::set::{TrustSet, TrustStore};
use gapura_trust::state::StateDir;

use crate::asked::Reloads;
use crate::trust::{Reloader, TrustCounters, run};

/// What a program's log has told so far.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(super) fn have(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text)
    }
}

/// Waits until `condition` holds, and says how long that took.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// A sidecar's reloader at work.
pub(super) struct Kept {
    pub(super) root: Ca,
    pub(super) dir: Dir,
    store: TrustStore,
    live: LiveConnections,
    alarms: Alarms,
    lines: Lines,
    counters: Arc<TrustCounters>,
    pub(super) clock: Clock,
    reloads: Reloads,
    task: tokio::task::JoinHandle<()>,
}

impl Kept {
    pub(super) fn start(own: impl FnOnce(&Ca) -> Leaf) -> Self {
        Self::start_with(own, None)
    }

    pub(super) fn start_with(own: impl FnOnce(&Ca) -> Leaf, state: Option<StateDir>) -> Self {
        Self::begin(Ca::root("r"), own, &Marks::default(), state)
    }

    /// Starts with marks from before.
    pub(super) fn start_from(root: Ca, own: impl FnOnce(&Ca) -> Leaf, marks: &Marks) -> Self {
        Self::begin(root, own, marks, None)
    }

    fn begin(
        root: Ca,
        own: impl FnOnce(&Ca) -> Leaf,
        marks: &Marks,
        state: Option<StateDir>,
    ) -> Self {
        let dir = Dir::of(&own(&root), &root.pem, Some(&root.crl(1, &[])));
        let options = options(Role::Plugin);
        let store = TrustStore::new(TrustSet::start(dir.path(), &options, marks).unwrap());
        let lines = Lines::default();
        let clock = options.clock.clone();
        let log = Log::to("sidecar", clock.clone(), Box::new(lines.clone())).unwrap();
        let (alarms, live, counters) = (
            Alarms::new(log.clone()),
            LiveConnections::new(),
            Arc::new(TrustCounters::default()),
        );
        let reloads = Reloads::default();
        let reloader = Reloader {
            store: store.clone(),
            dir: dir.path().to_owned(),
            options,
            live: live.clone(),
            alarms: alarms.clone(),
            log,
            counters: counters.clone(),
            state,
        };
        let task = tokio::spawn(run(reloader, reloads.subscribe()));
        Self {
            root,
            dir,
            store,
            live,
            alarms,
            lines,
            counters,
            clock,
            reloads,
            task,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.store.load().generation()
    }

    fn admit(&self, number: u64) -> LiveGuard {
        let leaf = self.root.leaf(GATEWAY, &[ClientAuth], serial(number));
        self.live.admit(
            Side::Hop,
            leaf.peer(),
            (leaf.chain.clone(), Session::default()),
            self.generation(),
            Instant::now(),
        )
    }

    pub(super) fn raised(&self, name: &str) -> bool {
        self.alarms
            .raised()
            .iter()
            .any(|(raised, _)| *raised == name)
    }

    pub(super) async fn end(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled(), "it panicked");
    }
}

#[tokio::test]
async fn a_new_set_is_in_force_within_two_seconds_and_its_revocations_cut_within_one() {
    let kept = Kept::start(Ca::plugin);
    let (bad, good) = (kept.admit(7), kept.admit(8));
    kept.dir.publish(
        &kept.root.plugin(),
        &kept.root.pem,
        Some(&kept.root.crl(2, &[7])),
    );
    let took = eventually("the set is swapped", || kept.generation() == 2).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let took = eventually("the revoked peer is cut", || {
        *bad.verdict().borrow() == Verdict::Cut("revoked")
    })
    .await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(
        *good.verdict().borrow(),
        Verdict::Retire,
        "not cut: it ends when it likes, since our own certificate is a new one"
    );
    eventually("both are told", || {
        kept.lines.have("trust_swapped") && kept.lines.have("connection_cut")
    })
    .await;
    assert_eq!(kept.counters.reloads_ok.load(Ordering::Relaxed), 1);
    assert_eq!(kept.counters.revoked_closed.load(Ordering::Relaxed), 1);
    // A handshake that overlapped the swap.
    let leaf = kept.root.leaf(GATEWAY, &[ClientAuth], serial(7));
    let late = kept.live.admit(
        Side::Hop,
        leaf.peer(),
        (leaf.chain.clone(), Session::default()),
        1,
        Instant::now(),
    );
    let took = eventually("the late one is cut", || {
        *late.verdict().borrow() == Verdict::Cut("revoked")
    })
    .await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    kept.end().await;
}

#[tokio::test]
async fn a_half_written_set_changes_nothing_and_heals() {
    let kept = Kept::start(Ca::plugin);
    let good = kept.admit(8);
    let next = kept.root.plugin();
    let (first, second) = next.cert.split_at(next.cert.len() / 2);
    kept.dir.write("cert.pem", first);
    eventually("the misfit is told", || kept.lines.have("trust_refused")).await;
    assert_eq!(
        (
            kept.generation(),
            kept.counters.reloads_faulty.load(Ordering::Relaxed)
        ),
        (1, 1)
    );
    kept.dir.write("cert.pem", &format!("{first}{second}"));
    eventually("the second misfit is told", || {
        kept.counters.reloads_faulty.load(Ordering::Relaxed) == 2
    })
    .await;
    assert!(!kept.raised("trust"));
    let took = eventually("it is a fault by now", || kept.raised("trust")).await;
    assert!((3..7).contains(&took.as_secs()), "{took:?}");
    assert_eq!(
        (kept.generation(), *good.verdict().borrow()),
        (1, Verdict::Run)
    );
    kept.dir.write("key.pem", &next.key);
    eventually("the whole is taken", || {
        kept.generation() == 2 && !kept.raised("trust")
    })
    .await;
    kept.end().await;
}

#[tokio::test]
async fn sighup_reads_again_and_unchanged_content_is_no_new_set() {
    let kept = Kept::start(Ca::plugin);
    kept.reloads.ask();
    let crl = std::fs::read_to_string(kept.dir.path().join("crl.pem")).unwrap();
    kept.dir.write("crl.pem", &crl);
    kept.dir.write("crl.pem", &kept.root.crl(2, &[]));
    eventually("the real change is taken", || kept.generation() == 2).await;
    assert_eq!(kept.counters.reloads_ok.load(Ordering::Relaxed), 1);
    kept.end().await;
}

#[tokio::test]
async fn our_own_troubles_are_alarms_until_they_are_mended() {
    let kept = Kept::start(|root| {
        root.leaf(PLUGIN, &[ServerAuth], |params| {
            serial(5)(params);
            valid(-DAY, DAY)(params);
        })
    });
    eventually("a first look", || !kept.raised("certificate")).await;
    // T8: told that it is revoked, it says so instead of wondering at refusals.
    kept.dir.write("crl.pem", &kept.root.crl(2, &[5]));
    eventually("revoked", || kept.raised("revoked")).await;
    kept.clock.shift(DAY + 60);
    eventually("ended", || kept.raised("certificate")).await;
    kept.dir.publish(
        &kept.root.plugin(),
        &kept.root.pem,
        Some(&kept.root.crl(2, &[5])),
    );
    eventually("mended", || {
        !kept.raised("certificate") && !kept.raised("revoked")
    })
    .await;
    // T9: a list past its time.
    assert!(!kept.raised("crl"));
    kept.clock.shift(7 * DAY + 60);
    eventually("stale", || kept.raised("crl")).await;
    kept.dir.write(
        "crl.pem",
        &kept.root.crl_due(3, &[], super::mint::now() + 20 * DAY),
    );
    eventually("fresh", || !kept.raised("crl")).await;
    kept.end().await;
}

#[tokio::test]
async fn a_certificate_near_its_end_is_a_warning_and_no_alarm() {
    let kept = Kept::start(|root| root.leaf(PLUGIN, &[ServerAuth], valid(-8 * DAY, 2 * DAY)));
    eventually("the warning", || kept.lines.have("certificate_ends_soon")).await;
    assert!(kept.lines.have("a third") && !kept.raised("certificate"));
    kept.end().await;
    let kept = Kept::start(|root| root.leaf(PLUGIN, &[ServerAuth], valid(-5 * DAY, 5 * DAY)));
    kept.dir.write("crl.pem", &kept.root.crl(2, &[]));
    eventually("a swap", || kept.generation() == 2).await;
    assert!(!kept.lines.have("certificate_ends_soon"));
    kept.end().await;
}
