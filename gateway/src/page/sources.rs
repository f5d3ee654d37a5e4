//! What the gateway's part of the page is made from.

use std::time::SystemTime;

use gapura_page::history::History;
use gapura_telemetry::metrics::Meters;

use crate::authenticate::Keys;
use crate::rate_limit::Limiter;
use crate::registry::Registry;
use crate::standing::Standing;

/// What it is made from.
pub(crate) struct Sources<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) standing: &'a Standing,
    pub(crate) keys: &'a Keys,
    pub(crate) limiter: &'a Limiter,
    pub(crate) meters: &'a Meters,
    pub(crate) history: &'a History,
    pub(crate) now: SystemTime,
}
