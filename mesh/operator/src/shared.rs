//! What the parts of one running program share, and what follows from it alone: is the program
//! ready.
//!
//! Made once, before anything runs, and cloned to wherever it is needed: no part asks another for
//! it, and nothing here is a global.

use std::fmt;
use std::sync::Arc;

use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_telemetry::metrics::Meters;
use gapura_telemetry::span::Counts;
use gapura_telemetry::tap::Tap;
use gapura_transport::live::LiveConnections;
use gapura_transport::shutdown::{Phase, Stopping};
use gapura_trust::set::TrustStore;

use gapura_reload::trust::TrustCounters;

/// What the parts of one running program share. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// The trust in force.
    pub trust: TrustStore,
    /// Its history.
    pub trust_counters: Arc<TrustCounters>,
    /// The connections that it judges again.
    pub live: LiveConnections,
    /// What is wrong.
    pub alarms: Alarms,
    /// The counters.
    pub meters: Arc<Meters>,
    /// What became of spans, where there are any.
    pub spans: Option<Arc<Counts>>,
    /// Where finished requests can be looked at, unless that is taken out.
    pub tap: Option<Tap>,
    /// The log.
    pub log: Log,
    /// The program's clock.
    pub clock: Clock,
    /// The program's end.
    pub stopping: Stopping,
}

/// Why a program is not ready.
pub struct Missing {
    /// What is missing, for anybody.
    pub what: &'static str,
    /// Why, for its operator.
    pub why: Option<String>,
}

impl Shared {
    /// What keeps any program from being ready.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        if self.stopping.phase() != Phase::Run {
            missing.push(Missing {
                what: "draining",
                why: None,
            });
        }
        let trust = self.trust.load();
        if let Some(sentence) = trust.went_back() {
            missing.push(Missing {
                what: "revocation lists",
                why: Some(sentence),
            });
        } else if let Some(refusal) = trust.own_refusal(self.clock.now()) {
            missing.push(Missing {
                what: "mesh certificate",
                why: Some(refusal.to_string()),
            });
        }
        missing
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{}: {why}", self.what),
            None => f.write_str(self.what),
        }
    }
}
