//! The document that the page shows: what both programs say, and a part of each one's own.
//!
//! Times are Unix seconds, lengths of time say their unit. Nothing in it is a secret, and nothing
//! is markup: whoever shows it shows text.

use gapura_protocol::clock::unix;
use gapura_protocol::envelope::Code;
use gapura_telemetry::alarms::{Alarms, docs};
use serde::Serialize;

use crate::history::{History, Lately};
use crate::trust::Trust;

/// All that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Document<O> {
    /// `gateway` or `sidecar`.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// When this was so.
    pub now: u64,
    /// When the program began.
    pub started: u64,
    /// What keeps it from being ready.
    pub missing: Vec<String>,
    /// What someone must mend.
    pub alarms: Vec<Alarm>,
    /// What happened in the last minute to all requests.
    pub lately: Lately,
    /// Open connections.
    pub connections: Vec<Count>,
    /// Answers of its own, those alone that there were.
    pub rejections: Vec<Counted>,
    /// Failed handshakes since the start.
    pub handshakes: Vec<Handshake>,
    /// Whom it believes.
    pub trust: Trust,
    /// What only this program has.
    pub own: O,
}

/// A fault that someone must mend.
#[derive(Clone, Debug, Serialize)]
pub struct Alarm {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub message: String,
    /// Since when.
    pub since: u64,
    /// The page that says what to do.
    pub docs: String,
}

/// How many now.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// Of what.
    pub name: &'static str,
    /// How many.
    pub count: u64,
}

/// How often.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// What: a word of a fixed list.
    pub name: &'static str,
    /// In the last quarter of an hour.
    pub lately: u64,
    /// Since the start.
    pub total: u64,
    /// The page that says what to do, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

/// Handshakes that failed for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct Handshake {
    /// Which connections.
    pub side: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How often.
    pub total: u64,
}

/// The alarms that are raised.
#[must_use]
pub fn alarms(alarms: &Alarms) -> Vec<Alarm> {
    let raised = alarms.raised_since().into_iter();
    raised
        .map(|(alarm, raised)| Alarm {
            name: alarm.as_str(),
            message: raised.sentence,
            since: unix(raised.since),
            docs: docs(alarm.as_str()),
        })
        .collect()
}

/// The answers that a program made itself, as often as there were any.
#[must_use]
pub fn rejections(history: &History) -> Vec<Counted> {
    let lately = history.rejections();
    let lately = lately.into_iter().chain(std::iter::repeat(0));
    let all = Code::ALL.iter().zip(&history.last().rejections).zip(lately);
    all.filter(|((_, total), _)| **total > 0)
        .map(|((code, total), lately)| Counted {
            name: code.as_str(),
            lately,
            total: *total,
            docs: Some(docs(code.as_str())),
        })
        .collect()
}

/// The tokens that a gateway refused, by reason, as often as there were any.
#[must_use]
pub fn tokens(history: &History) -> Vec<Counted> {
    let lately = history.tokens().into_iter().chain(std::iter::repeat(0));
    let all = history.last().tokens.iter().zip(lately);
    all.filter(|((_, total), _)| *total > 0)
        .map(|((reason, total), lately)| Counted {
            name: reason,
            lately,
            total: *total,
            docs: None,
        })
        .collect()
}

/// Open connections of these sides, and failed handshakes.
#[must_use]
pub fn connections(history: &History, sides: &[&'static str]) -> (Vec<Count>, Vec<Handshake>) {
    let totals = history.last();
    let open = totals.connections.iter();
    let open = open.map(|(side, count)| Count {
        name: side.as_str(),
        count: *count,
    });
    let failed = totals.handshakes.iter();
    let failed = failed.map(|(side, reason, total)| Handshake {
        side: side.as_str(),
        reason,
        total: *total,
    });
    (
        open.filter(|count| sides.contains(&count.name)).collect(),
        failed.collect(),
    )
}
