//! The one thread that looks for news of roots and CRLs, and what it found last, for all who wait
//! for it.
//!
//! In: the record of `gapura-pki`, read without its lock four times a second; what has not changed
//! is not read again. Out: the answer to everybody who asks, one copy of it in memory for all. A
//! record that can't be read leaves the last answer in force, and its `as_of` where it was, so that
//! every agent sees its news growing old.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gapura_enrol::news::TrustNews;
use gapura_enrol::{payload, pkcs7};
use gapura_pki::Error;
use gapura_pki::enrol::{Herald as Look, Said};
use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::{Alarm, Alarms};
use tokio::sync::watch;

use crate::counters::Counters;

/// How often it looks. A revocation is to be with all hosts within seconds, and a look reads one
/// line.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is known.
pub(crate) struct Current {
    news: TrustNews,
    /// The answer to `cacerts`.
    pub(crate) cacerts: Bytes,
    /// The answer to who asks for news, as of the second that stands beside it.
    body: Mutex<(u64, Bytes)>,
}

/// Where everybody gets it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct News {
    current: watch::Receiver<Arc<Current>>,
    counters: Arc<Counters>,
    held: Arc<Mutex<HeldBy>>,
}

/// Which generation each host holds and since when that was said, by the serial of the certificate
/// that it showed.
#[derive(Default)]
struct HeldBy {
    by_serial: HashMap<String, (String, u64)>,
    /// What is not written down yet, in the order in which it was said: a host shows another
    /// certificate after each renewal, and the last that it said is what it holds.
    unkept: Vec<Said>,
}

/// That a host still holds what it held is said again after this many seconds.
const HELD_AGAIN: u64 = 600;

/// More certificates than there are hosts: what was said by older ones may go.
const HELD_MOST: usize = 16_384;

/// What hosts hold is written down no more often than this.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The thread's own part.
pub(crate) struct Herald {
    look: Look,
    current: watch::Sender<Arc<Current>>,
    clock: Clock,
    alarms: Alarms,
    counters: Arc<Counters>,
    held: Arc<Mutex<HeldBy>>,
    ends: Arc<AtomicBool>,
}

/// Ends the thread when it is dropped.
pub(crate) struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Current {
    pub(crate) fn new(
        news: TrustNews,
        certificates: &[rustls::pki_types::CertificateDer<'_>],
    ) -> Self {
        let cacerts = payload::encode(&pkcs7::certs_only(certificates)).into();
        Self {
            body: Mutex::new((news.as_of, news.to_json().into())),
            news,
            cacerts,
        }
    }

    pub(crate) fn generation(&self) -> &str {
        &self.news.generation
    }

    /// The answer as of then; made once a second at most.
    fn body(&self, as_of: u64) -> Bytes {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        if body.0 != as_of {
            let news = TrustNews {
                as_of,
                ..self.news.clone()
            };
            *body = (as_of, news.to_json().into());
        }
        body.1.clone()
    }
}

impl News {
    /// What is known, and the thread's part that makes more of it known.
    pub(crate) fn new(
        (look, first): (Look, Current),
        (clock, alarms): (Clock, Alarms),
        counters: Arc<Counters>,
    ) -> (Self, Herald, Ends) {
        counters.as_of.store(first.news.as_of, Ordering::Relaxed);
        let (sender, current) = watch::channel(Arc::new(first));
        let ends = Arc::new(AtomicBool::new(false));
        let held = Arc::<Mutex<HeldBy>>::default();
        let herald = Herald {
            look,
            current: sender,
            clock,
            alarms,
            counters: counters.clone(),
            held: held.clone(),
            ends: ends.clone(),
        };
        let news = Self {
            current,
            counters,
            held,
        };
        (news, herald, Ends(ends))
    }

    /// The answer to `cacerts`.
    pub(crate) fn cacerts(&self) -> Bytes {
        self.current.borrow().cacerts.clone()
    }

    /// The news as it is now.
    pub(crate) fn body(&self) -> Bytes {
        let current = self.current.borrow().clone();
        current.body(self.counters.as_of.load(Ordering::Relaxed))
    }

    /// Notes that the host that showed the certificate `serial` says to hold `generation`.
    pub(crate) fn is_held(&self, serial: String, generation: &str, now: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.by_serial.get(&serial);
        if known.is_some_and(|(of, at)| of == generation && now < at + HELD_AGAIN) {
            return;
        }
        // Where nothing can be written for long, whoever is forgotten here says it again.
        if held.by_serial.len() >= HELD_MOST || held.unkept.len() >= HELD_MOST {
            held.by_serial.clear();
            held.unkept.clear();
        }
        held.unkept.push(Said {
            serial: serial.clone(),
            generation: generation.to_owned(),
            at: now,
        });
        held.by_serial.insert(serial, (generation.to_owned(), now));
    }

    /// Ready when there is other news than `known`.
    pub(crate) async fn other_than(&self, known: &str) {
        let mut current = self.current.clone();
        if current
            .wait_for(|current| current.generation() != known)
            .await
            .is_err()
        {
            // The thread has ended, so there is no more to come.
            std::future::pending::<()>().await;
        }
    }
}

impl Herald {
    /// Looks until nobody wants to know any more.
    pub(crate) fn run(mut self) {
        let mut kept = Instant::now();
        while !self.ends.load(Ordering::Relaxed) {
            // Before the look, which then knows every certificate that was shown.
            let mut said = match kept.elapsed() >= KEEP_EVERY {
                true => std::mem::take(&mut self.held().unkept),
                false => Vec::new(),
            };
            let kept_them = self.look_once().and_then(|()| {
                if said.is_empty() {
                    return Ok(());
                }
                kept = Instant::now();
                self.look.keep(&said)
            });
            match kept_them {
                Ok(()) => self.alarms.clear(Alarm::Record),
                Err(why) => {
                    // In front of what was said meanwhile.
                    let mut held = self.held();
                    said.append(&mut held.unkept);
                    held.unkept = said;
                    drop(held);
                    let sentence = format!("the record can't be read or kept up: {why}");
                    self.alarms.raise(Alarm::Record, &sentence);
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look_once(&mut self) -> Result<(), Error> {
        let found = self.look.look()?;
        self.counters
            .as_of
            .store(self.clock.unix(), Ordering::Relaxed);
        if let Some((news, certificates)) = found {
            self.publish(Current::new(news, &certificates));
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HeldBy> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, next: Current) {
        self.current.send_if_modified(|current| {
            let is_new = current.generation() != next.generation();
            if is_new {
                *current = Arc::new(next);
            }
            is_new
        });
    }
}
