//! What the CA server says for itself.

use std::sync::Arc;

use gapura_operator::report::Report;
use gapura_operator::shared::{Missing, Shared};
use gapura_page::history::History;
use gapura_protocol::leg::Side;
use gapura_telemetry::alarms::Alarm;
use gapura_telemetry::metrics::Text;

use crate::counters::Counters;

/// The operator's side.
pub(crate) struct Admin {
    pub(crate) shared: Shared,
    pub(crate) counters: Arc<Counters>,
}

impl Report for Admin {
    const SIDES: &'static [Side] = &[Side::Client];

    /// Its page has what every program's has.
    type Facts = ();

    fn facts(&self, _history: &History) {}

    fn shared(&self) -> &Shared {
        &self.shared
    }

    /// One that can't issue, or can't read its record, is not ready, as if it had no certificate.
    fn missing(&self) -> Vec<Missing> {
        let mut missing = self.shared.missing();
        let raised = self.shared.alarms.raised();
        for (alarm, what) in [(Alarm::Issuing, "issuing"), (Alarm::Record, "record")] {
            let found = raised.iter().find(|(name, _)| *name == alarm.as_str());
            missing.extend(found.map(|(_, why)| Missing {
                what,
                why: Some(why.clone()),
            }));
        }
        missing
    }

    fn metrics(&self, text: &mut Text) {
        self.counters.render(text);
    }
}
