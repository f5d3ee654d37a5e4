//! Keeps the certificate the gateway shows to clients current while it runs.
//!
//! In: `--tls-cert` and `--tls-key`, followed by a [`FileWatch`]. Out: a swap of the
//! [`PublicStore`] for each pair that fits, and the alarm `public_certificate`. Renewal tools
//! replace the two files one after the other; until they fit each other the last good pair is
//! shown. Invariant: what does not fit changes nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gapura_certificates::refusal::Span;
use gapura_files::directory::{hash, stamp_of};
use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use gapura_trust::public::{PublicCertificate, PublicError, PublicStore};

use super::asked::Asked;
use super::misfit::Misfit;
use super::watch::{FileWatch, Follower, Pace, Reading, Why};

/// What the reloader works with.
pub struct PublicReloader {
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
}

/// As for the mesh directory.
const PACE: Pace = Pace {
    look: Duration::from_millis(250),
    read: Duration::from_secs(30),
};

/// The reloader at work.
struct Following {
    reloader: PublicReloader,
    misfit: Misfit<PublicError>,
    /// The serial of the certificate whose end was told.
    warned: String,
}

/// What a reading of the two files gave.
type Found = Result<PublicCertificate, PublicError>;

/// Follows the pair for ever: on the program's control runtime, once.
pub async fn run(reloader: PublicReloader, asked: Asked) {
    let first = reloader.store.load_full();
    let (cert, key) = (reloader.cert.clone(), reloader.key.clone());
    let looked_at = [cert.clone(), key.clone()];
    let watch = FileWatch::new(
        PACE,
        (first.stamp().clone(), *first.hash()),
        move || stamp_of(looked_at.iter().cloned()),
        move || read(&cert, &key),
    );
    drop(first);
    let following = Following {
        reloader,
        misfit: Misfit::none(),
        warned: String::new(),
    };
    watch.run(following, asked).await;
}

fn read(cert: &Path, key: &Path) -> Reading<Found> {
    let content = PublicCertificate::load(cert, key);
    let digest = match &content {
        Ok(pair) => *pair.hash(),
        Err(error) => hash([error.to_string().as_bytes()]),
    };
    Reading { content, digest }
}

impl Follower<Found> for Following {
    /// A pair that was read and had not begun has begun.
    fn is_due(&self) -> bool {
        match self.misfit.fault() {
            Some(PublicError::NotBegun(_, begins)) => *begins <= self.reloader.clock.unix(),
            _ => false,
        }
    }

    async fn take(&mut self, found: Found, _: Why) {
        match self.reloader.judge(found) {
            Ok(next) => {
                self.misfit.fits();
                self.reloader.put_in_force(next);
            }
            Err(error) => {
                let sentence = format!(
                    "the public certificate does not fit and the last good one stays in force: {error}"
                );
                if self.misfit.fails(error, Instant::now()) {
                    let log = &self.reloader.log;
                    log.event(Level::Warn, "public_certificate_refused", &sentence, &[]);
                }
            }
        }
    }

    async fn looked(&mut self) {
        self.reloader.raise_alarms(&self.misfit, &mut self.warned);
    }
}

impl PublicReloader {
    /// A pair that has not begun does not take the place of one that clients take.
    fn judge(&self, found: Found) -> Found {
        let (next, current, now) = (found?, self.store.load(), self.clock.unix());
        let usable = !current.expired(now) && !current.not_yet_valid(now);
        if usable && next.not_yet_valid(now) {
            return Err(PublicError::NotBegun(self.cert.clone(), next.not_before()));
        }
        Ok(next)
    }

    fn put_in_force(&self, next: PublicCertificate) {
        if next.hash() == self.store.load().hash() {
            return;
        }
        let fields = [
            ("serial", next.serial_hex().into()),
            ("not_after_seconds", next.not_after().into()),
        ];
        let message = "a new public certificate is in force";
        self.log
            .event(Level::Info, "public_certificate_swapped", message, &fields);
        self.store.swap(next);
    }

    fn raise_alarms(&self, misfit: &Misfit<PublicError>, warned: &mut String) {
        let current = self.store.load();
        let now = self.clock.unix();
        match misfit.alarm(Instant::now()) {
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
            None if misfit.is_well() => self.alarms.clear(Alarm::PublicCertificate),
            None => {}
        }
        // Public CAs renew at a third of 90 days or less; a week without is a renewal that does not
        // work.
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
