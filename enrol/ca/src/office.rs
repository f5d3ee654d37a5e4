//! The one thread that signs: takes what has come in meanwhile and answers all of it in one change
//! of the inventory.
//!
//! In: requests over a bounded queue. Out: answers, each over its own channel. Waiting for the
//! lock, which `gapura-pki` by hand takes too, and for the disk happens here and delays no
//! connection. Whoever has given up waiting is passed over: nothing is issued to nobody. What hosts
//! give back to a record that was put back to an older backup is taken in here too.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use gapura_enrol::refusal::{Code, Refused};
use gapura_pki::Error;
use gapura_pki::enrol::{Ask, Copied, Granted, Registrar};
use gapura_protocol::identity::PeerId;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use tokio::sync::oneshot;

use crate::counters::{Counted, Counters};

/// Requests that wait: a fleet that begins at one moment.
const WAITING: usize = 2048;

/// Requests in one change: enough that the disk's share of each is small, few enough that the last
/// one need not wait long for its signature, and that `gapura-pki` by hand meets the lock free in
/// between.
const BATCH: usize = 64;

/// How long a request waits for its answer: longer than the lock is held by a command that looks
/// through slow directories.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// How often it is looked whether an alarm is mended, when nobody asks for anything.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Certificates that the record does not know and that are remembered until they have ended: for
/// one alarm they need not be many.
const UNKNOWN_MOST: usize = 64;

enum Job {
    Certificate(Wanted),
    Reminder(Reminder),
}

/// A certificate that is asked for.
struct Wanted {
    ask: Ask,
    answer: oneshot::Sender<Result<Granted, Refused>>,
}

/// CRLs that the record may have forgotten, and whose host gives them back.
struct Reminder {
    from: PeerId,
    crls: Bytes,
    answer: oneshot::Sender<Result<(), Refused>>,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Office {
    jobs: SyncSender<Job>,
    counters: Arc<Counters>,
}

/// The thread's own part.
pub(crate) struct Clerk {
    jobs: Receiver<Job>,
    registrar: Registrar,
    alarms: Alarms,
    log: Log,
    counters: Arc<Counters>,
    /// Certificates that came to renew and that the record does not know, by serial, with whose
    /// they are.
    unknown: BTreeMap<String, String>,
}

impl Office {
    /// The way in, and what runs behind it.
    pub(crate) fn new(
        registrar: Registrar,
        (alarms, log): (Alarms, Log),
        counters: Arc<Counters>,
    ) -> (Self, Clerk) {
        let (sender, jobs) = sync_channel(WAITING);
        let clerk = Clerk {
            jobs,
            registrar,
            alarms,
            log,
            counters: counters.clone(),
            unknown: BTreeMap::new(),
        };
        let office = Self {
            jobs: sender,
            counters,
        };
        (office, clerk)
    }

    /// Has a request answered.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Granted, Refused> {
        let _waits = Counted::one(&self.counters.waiting);
        let (answer, answered) = oneshot::channel();
        self.enter(Job::Certificate(Wanted { ask, answer }))?;
        waited(answered).await
    }

    /// Has the record reminded of what the CRLs of a host say.
    pub(crate) async fn remind(&self, from: PeerId, crls: Bytes) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        self.enter(Job::Reminder(Reminder { from, crls, answer }))?;
        waited(answered).await
    }

    fn enter(&self, job: Job) -> Result<(), Code> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Code::Overloaded,
            TrySendError::Disconnected(_) => Code::Unavailable,
        })
    }
}

async fn waited<T>(answered: oneshot::Receiver<Result<T, Refused>>) -> Result<T, Refused> {
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Code::Unavailable.into()),
        Err(_) => Err(Refused::new(
            Code::Unavailable,
            "the CA's record is held by another command for too long; try again",
        )),
    }
}

impl Clerk {
    /// Works until nobody can ask any more.
    pub(crate) fn run(mut self) {
        self.look_at_copies();
        loop {
            match self.jobs.recv_timeout(LOOK_EVERY) {
                Ok(first) => self.answer(first),
                Err(RecvTimeoutError::Timeout) => self.look_at_copies(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, first: Job) {
        let (mut wanted, mut reminders) = (Vec::new(), Vec::new());
        for job in std::iter::once(first).chain(self.jobs.try_iter().take(BATCH - 1)) {
            match job {
                Job::Certificate(one) => wanted.push(one),
                Job::Reminder(one) => reminders.push(one),
            }
        }
        self.issue(wanted);
        for reminder in reminders {
            self.remember(reminder);
        }
    }

    /// Takes in what a host's CRLs say and the record has forgotten.
    fn remember(&mut self, reminder: Reminder) {
        let Reminder { from, crls, answer } = reminder;
        let registrar = &mut self.registrar;
        let known = catch_unwind(AssertUnwindSafe(|| registrar.remember(&from, &crls)));
        let made = match known {
            Ok(Ok(Ok(known))) => {
                let id = from.to_string();
                for what in known {
                    let message = format!(
                        "{from} reminds the record of what it had forgotten, and it counts again: {what}. An old backup or snapshot was put back: look for what else it lacks with `gapura-pki check`"
                    );
                    let fields = [("id", id.as_str().into()), ("what", what.as_str().into())];
                    self.log.event(Level::Warn, "remembered", &message, &fields);
                }
                Ok(())
            }
            Ok(Ok(Err(refused))) => Err(refused),
            Ok(Err(why)) => {
                self.alarms.raise(Alarm::Issuing, &sentence(&why));
                Err(Code::Unavailable.into())
            }
            Err(_) => {
                let message = "the reading of a host's CRLs ended in a panic";
                self.log.event(Level::Error, "panic", message, &[]);
                Err(Code::Internal.into())
            }
        };
        let _ = answer.send(made);
    }

    fn issue(&mut self, mut jobs: Vec<Wanted>) {
        jobs.retain(|job| !job.answer.is_closed());
        if jobs.is_empty() {
            return;
        }
        let (asks, answers): (Vec<Ask>, Vec<_>) =
            jobs.into_iter().map(|job| (job.ask, job.answer)).unzip();
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        let registrar = &mut self.registrar;
        // What it kept in mind is given up before it begins, so that a panic leaves nothing
        // half-known.
        let made = catch_unwind(AssertUnwindSafe(|| registrar.answer(&asks)));
        let mut renewed = false;
        match made {
            Ok(Ok(made)) => {
                self.alarms.clear(Alarm::Issuing);
                for ((ask, answer), made) in asks.iter().zip(answers).zip(made) {
                    renewed |= made.is_ok() && matches!(ask, Ask::Renew { .. });
                    self.note(ask, &made);
                    let _ = answer.send(made);
                }
            }
            Ok(Err(why)) => {
                self.alarms.raise(Alarm::Issuing, &sentence(&why));
                for answer in answers {
                    let _ = answer.send(Err(Code::Unavailable.into()));
                }
            }
            Err(_) => {
                let message = "the signing of a batch of certificates ended in a panic; nothing of it left, and the next goes on";
                self.log.event(Level::Error, "panic", message, &[]);
                for answer in answers {
                    let _ = answer.send(Err(Code::Internal.into()));
                }
            }
        }
        if renewed {
            self.look_at_copies();
        }
    }

    /// A certificate that the record does not know: it is older than what it issued.
    fn note(&mut self, ask: &Ask, made: &Result<Granted, Refused>) {
        let (Ask::Renew { id, serial, .. }, Err(refused)) = (ask, made) else {
            return;
        };
        if refused.code == Code::CertificateUnknown && self.unknown.len() < UNKNOWN_MOST {
            self.unknown.insert(serial.clone(), id.to_string());
            self.tell_of_unknown();
        }
    }

    fn tell_of_unknown(&self) {
        let Some((serial, id)) = self.unknown.first_key_value() else {
            return self.alarms.clear(Alarm::RolledBack);
        };
        let more = self.unknown.len() - 1;
        let others = if more == 0 {
            String::new()
        } else {
            format!(" (and {more} more)")
        };
        let sentence = format!(
            "a certificate of this CA came to renew that its record does not know: {id}, serial {serial}{others}. The record is older than it: an old backup or snapshot was put back. Restore the newest with `gapura-pki restore`, or revoke it with `gapura-pki revoke --cert` and make its host a join token with `gapura-pki token`"
        );
        self.alarms.raise(Alarm::RolledBack, &sentence);
    }

    fn look_at_copies(&mut self) {
        let (copied, known) = match self.registrar.copied(self.unknown.keys()) {
            Ok(found) => found,
            Err(why) => return self.alarms.raise(Alarm::Issuing, &sentence(&why)),
        };
        match copied.first() {
            None => self.alarms.clear(Alarm::CopiedKey),
            Some(first) => self
                .alarms
                .raise(Alarm::CopiedKey, &told(first, copied.len() - 1)),
        }
        for serial in known {
            self.unknown.remove(&serial);
        }
        self.tell_of_unknown();
    }
}

fn told(copied: &Copied, more: usize) -> String {
    let others = if more == 0 {
        String::new()
    } else {
        format!(" {more} more are like it.")
    };
    format!(
        "the key of {0} is in two hands: its certificate with serial {1} was renewed for different keys (serials {2}). If its host did not lose a key between asking and being answered, somebody has copied it: `gapura-pki revoke {0} --reason key-compromise`, then a new join token.{others}",
        copied.label,
        copied.renewed,
        copied.serials.join(", ")
    )
}

/// Why nothing can be issued, for the operator.
fn sentence(why: &Error) -> String {
    match why {
        Error::Locked(dir) => format!(
            "nothing can be issued: another command holds the record in {}; it goes on when that ends",
            dir.display()
        ),
        why => format!("nothing can be issued: {why}"),
    }
}
