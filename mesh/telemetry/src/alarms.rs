//! Faults that someone must mend: each is raised once, shown until it is mended, and cleared once.
//!
//! In: `raise` and `clear` with a name from a fixed list. Out: a log line at each change, the gauge `gapura_alarms{name}`, and
//! the list that the admin side shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::log::{Level, Log};

/// The alarms of one running program. Cheap to clone.
#[derive(Clone)]
pub struct Alarms {
    log: Log,
    raised: Arc<Mutex<BTreeMap<&'static str, String>>>,
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

    /// Raises `name`, saying in one sentence what is wrong and what to do. Silent while the same sentence is raised already.
    pub fn raise(&self, name: &'static str, sentence: &str) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.get(name).is_none_or(|known| known != sentence) {
            raised.insert(name, sentence.to_owned());
            self.log
                .event(Level::Error, "alarm", sentence, &[("name", name.into())]);
        }
    }

    /// Ends `name` if it is raised.
    pub fn clear(&self, name: &'static str) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.remove(name).is_some() {
            self.log.event(
                Level::Info,
                "alarm_cleared",
                "the fault is mended",
                &[("name", name.into())],
            );
        }
    }

    /// What is wrong now: each name with its sentence.
    #[must_use]
    pub fn raised(&self) -> Vec<(&'static str, String)> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised
            .iter()
            .map(|(name, sentence)| (*name, sentence.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_protocol::clock::Clock;

    #[test]
    fn an_alarm_stands_until_it_is_cleared() {
        let alarms =
            Alarms::new(Log::to("sidecar", Clock::system(), Box::new(std::io::sink())).unwrap());
        alarms.raise("trust", "key.pem does not fit cert.pem");
        alarms.raise("trust", "key.pem does not fit cert.pem");
        assert_eq!(
            alarms.raised(),
            [("trust", "key.pem does not fit cert.pem".to_owned())]
        );
        alarms.clear("trust");
        alarms.clear("trust");
        assert!(alarms.raised().is_empty());
    }
}
