//! Keeps the certificate the gateway shows to clients current while it runs.
//!
//! In: `--tls-cert` and `--tls-key`, looked at four times a second. Out: a swap of the [`PublicStore`] for each pair that fits, and the
//! alarm `public_certificate`. Renewal tools replace the two files one after the other; until they fit each other the last good pair is
//! shown. Invariant: what does not fit changes nothing.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use gapura_trust::directory::stamp_of;
use gapura_trust::public::{PublicCertificate, PublicError, PublicStore};
use gapura_trust::refusal::Span;
use tokio::time::{MissedTickBehavior, interval};

use super::asked::Asked;
use super::watch::{Attempts, TICK};

/// What the keeper works with.
pub struct PublicKeeper {
    /// Where the pair in force is.
    pub store: PublicStore,
    /// `--tls-cert`.
    pub cert: PathBuf,
    /// `--tls-key`.
    pub key: PathBuf,
    /// The clock that judges.
    pub clock: Clock,
    /// Where faults are raised, as `public_certificate`.
    pub alarms: Alarms,
    /// Where swaps are told.
    pub log: Log,
    /// Changes whenever everything is to be read again (SIGHUP).
    pub reload: Asked,
}

/// Runs until `stop`: on the program's control runtime, once. `swapped` hears of each new pair.
pub async fn run(
    mut keeper: PublicKeeper,
    swapped: impl Fn(&PublicCertificate),
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let mut attempts = Attempts::new(keeper.store.load().stamp().clone(), Instant::now());
    let mut warned = String::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let forced = tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => false,
            () = keeper.reload.changed() => true,
        };
        keeper.refresh(&mut attempts, forced, &swapped);
        keeper.raise_alarms(&attempts, &mut warned);
    }
}

impl PublicKeeper {
    fn refresh(
        &self,
        attempts: &mut Attempts<PublicError>,
        forced: bool,
        swapped: &impl Fn(&PublicCertificate),
    ) {
        let now = Instant::now();
        let seen = stamp_of([self.cert.clone(), self.key.clone()].into_iter());
        let waited_for = match attempts.fault() {
            Some(PublicError::NotBegun(_, begins)) => Some(*begins),
            _ => None,
        };
        let clock = self.clock.unix();
        if forced || waited_for.is_some_and(|begins| begins <= clock) {
            attempts.note(seen, now);
        } else if !attempts.due(seen, now) {
            return;
        }
        let current = self.store.load_full();
        let usable = !current.expired(clock) && !current.not_yet_valid(clock);
        let loaded = match PublicCertificate::load(&self.cert, &self.key) {
            Ok(next) if usable && next.not_yet_valid(clock) => {
                Err(PublicError::NotBegun(self.cert.clone(), next.not_before()))
            }
            loaded => loaded,
        };
        match loaded {
            Ok(next) => {
                attempts.fits();
                if next.hash() != current.hash() {
                    let fields = [
                        ("serial", next.serial_hex().into()),
                        ("not_after_seconds", next.not_after().into()),
                    ];
                    self.log.event(
                        Level::Info,
                        "public_certificate_swapped",
                        "a new public certificate is in force",
                        &fields,
                    );
                    self.store.swap(next);
                    swapped(&self.store.load());
                }
            }
            Err(err) => {
                let sentence = format!(
                    "the public certificate does not fit and the last good one stays in force: {err}"
                );
                if attempts.fails(err, now) {
                    self.log
                        .event(Level::Warn, "public_certificate_refused", &sentence, &[]);
                }
            }
        }
    }

    fn raise_alarms(&self, attempts: &Attempts<PublicError>, warned: &mut String) {
        let current = self.store.load();
        let now = self.clock.unix();
        match attempts.alarm(Instant::now()) {
            Some(fault) => self.alarms.raise(
                Alarm::PublicCertificate,
                &format!("the public certificate does not fit: {fault}"),
            ),
            None if current.expired(now) => {
                self.alarms.raise(
                    Alarm::PublicCertificate,
                    "the public certificate has ended: clients will refuse it; renew --tls-cert",
                );
            }
            None if current.not_yet_valid(now) => self.alarms.raise(
                Alarm::PublicCertificate,
                "the public certificate has not begun by our clock: clients will refuse it; check the clock, or --tls-cert",
            ),
            None if attempts.is_well() => self.alarms.clear(Alarm::PublicCertificate),
            None => {}
        }
        // Public CAs renew at a third of 90 days or less; a week without is a renewal that does not work.
        let left = current.not_after().saturating_sub(now);
        if left > 0 && left < 7 * 86_400 && *warned != current.serial_hex() {
            current.serial_hex().clone_into(warned);
            let sentence = format!("the public certificate ends in {}; renew it", Span(left));
            self.log.event(
                Level::Warn,
                "certificate_ends_soon",
                &sentence,
                &[("not_after_seconds", current.not_after().into())],
            );
        }
    }
}
