//! Faults that someone must mend: each is raised once, shown until it is mended, and cleared once.
//!
//! In: `raise` and `clear` with an [`Alarm`]. Out: a log line at each change, the gauge
//! `gapura_alarms{name}`, and the list that the admin side shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::log::{Level, Log};
use gapura_protocol::labelled;

labelled! {
    /// What may be wrong with a program; CONTRACT section 7.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Alarm {
        /// Our own certificate has ended.
        Certificate = "certificate",
        /// The CAs or CRLs of clients' certificates can't be read.
        ClientCa = "client_ca",
        /// A certificate or a CRL has not begun by our clock.
        Clock = "clock",
        /// The contracts in force can't be kept.
        Contracts = "contracts",
        /// A certificate was renewed for two keys, of which one is somebody else's.
        CopiedKey = "copied_key",
        /// A CRL is past its time, or how far it has come can't be kept.
        Crl = "crl",
        /// The deny list is faulty.
        Deny = "deny",
        /// A CA server can't issue certificates.
        Issuing = "issuing",
        /// Keys for tokens can't be read or fetched.
        Keys = "keys",
        /// The copy of what is in force can't be written.
        LastGood = "last_good",
        /// There is no room for more logouts, or they can't be kept.
        Logouts = "logouts",
        /// Nothing was heard of the CA server for too long.
        News = "news",
        /// The certificate that clients see does not fit or has ended.
        PublicCertificate = "public_certificate",
        /// A CA server can't read its record.
        Record = "record",
        /// A plugin file is faulty.
        Registry = "registry",
        /// Our own certificate can't be renewed.
        Renewal = "renewal",
        /// Our own certificate is revoked, or the CRLs are older than before the start.
        Revoked = "revoked",
        /// A CA server's record is older than certificates that it issued.
        RolledBack = "rolled_back",
        /// A company's file is faulty.
        Tenants = "tenants",
        /// The mesh directory does not fit.
        Trust = "trust",
    }
}

/// Where it is written what an alarm of this name, or an answer of ours with this code, means, and
/// what to do about it: a path within the repository.
#[must_use]
pub fn docs(name: &str) -> String {
    format!("docs/alarms.md#{name}")
}

/// The alarms of one running program. Cheap to clone.
#[derive(Clone)]
pub struct Alarms {
    log: Log,
    raised: Arc<Mutex<BTreeMap<Alarm, Raised>>>,
}

/// One that is raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// What is wrong, and what to do.
    pub sentence: String,
    /// Since when.
    pub since: SystemTime,
}

impl Alarms {
    /// No alarm, and the log that tells of the next.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Self {
            log,
            raised: Arc::default(),
        }
    }

    /// Raises `alarm`, saying in one sentence what is wrong and what to do. Silent while the same
    /// sentence is raised already.
    pub fn raise(&self, alarm: Alarm, sentence: &str) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let known = raised.get(&alarm);
        if known.is_none_or(|known| known.sentence != sentence) {
            let since = known.map_or_else(|| self.log.clock().now(), |known| known.since);
            let now = Raised {
                sentence: sentence.to_owned(),
                since,
            };
            raised.insert(alarm, now);
            self.log.event(
                Level::Error,
                "alarm",
                sentence,
                &[
                    ("name", alarm.as_str().into()),
                    ("docs", docs(alarm.as_str()).into()),
                ],
            );
        }
    }

    /// Ends `alarm` if it is raised.
    pub fn clear(&self, alarm: Alarm) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.remove(&alarm).is_some() {
            self.log.event(
                Level::Info,
                "alarm_cleared",
                "the fault is mended",
                &[("name", alarm.as_str().into())],
            );
        }
    }

    /// Whether `alarm` is raised.
    #[must_use]
    pub(crate) fn is_raised(&self, alarm: Alarm) -> bool {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.contains_key(&alarm)
    }

    /// What is wrong now: each name with its sentence.
    #[must_use]
    pub fn raised(&self) -> Vec<(&'static str, String)> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised
            .iter()
            .map(|(alarm, raised)| (alarm.as_str(), raised.sentence.clone()))
            .collect()
    }

    /// The same, each with the time since when.
    #[must_use]
    pub fn raised_since(&self) -> Vec<(Alarm, Raised)> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let each = raised.iter();
        each.map(|(alarm, raised)| (*alarm, raised.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_protocol::clock::Clock;

    #[test]
    fn each_alarm_has_a_name_of_its_own_and_they_are_in_order() {
        let names = Alarm::ALL.map(Alarm::as_str);
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        assert!(Alarm::ALL.is_sorted());
    }

    #[test]
    fn an_alarm_stands_until_it_is_cleared() {
        let alarms =
            Alarms::new(Log::to("sidecar", Clock::system(), Box::new(std::io::sink())).unwrap());
        alarms.raise(Alarm::Trust, "key.pem does not fit cert.pem");
        alarms.raise(Alarm::Trust, "key.pem does not fit cert.pem");
        assert_eq!(
            alarms.raised(),
            [("trust", "key.pem does not fit cert.pem".to_owned())]
        );
        alarms.clear(Alarm::Trust);
        alarms.clear(Alarm::Trust);
        assert!(alarms.raised().is_empty());
    }
}
