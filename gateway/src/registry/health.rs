//! How a plugin's instances are watched and asked again: `health` and `retry` of its file.
//!
//! In: the two fields. Out: checked settings, each with the defaults of CONTRACT section 2. What
//! becomes of an instance is `upstream`'s to decide.

use std::time::Duration;

use gapura_protocol::path;
use gapura_settings::json::{Fields, Value};

use super::fields::{HEALTH, RETRY, names};

/// How each instance is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// Where, below the plugin's own root.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// Failures in a row that take an instance out.
    pub unhealthy_after: u32,
    /// Good answers in a row that bring it back.
    pub healthy_after: u32,
}

/// What may be sent again that may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How often one request, beside the first time.
    pub attempts: u32,
    /// How many of a hundred requests, counted over ten seconds.
    pub budget_percent: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/healthz".to_owned(),
            interval: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 1,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget_percent: 20,
        }
    }
}

impl HealthCheck {
    /// Reads the field `health`; `None` where it is `false`.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let mut check = Self::default();
        let Some(node) = fields.node("health") else {
            return Some(check);
        };
        match &node.value {
            Value::Bool(false) => None,
            Value::Object(_) => {
                let known = names(HEALTH);
                let mut health = Fields::open(node, "health", &known, fields.faults())?;
                if let Some(path) = read_path(&mut health, "path") {
                    check.path = path;
                }
                if let Some(millis) = health.whole("interval_ms", 100..=3_600_000) {
                    check.interval = Duration::from_millis(millis);
                }
                if let Some(count) = count(&mut health, "unhealthy_after", 1..=1000) {
                    check.unhealthy_after = count;
                }
                if let Some(count) = count(&mut health, "healthy_after", 1..=1000) {
                    check.healthy_after = count;
                }
                Some(check)
            }
            _ => fields.wrong_kind("health", node, "an object or false"),
        }
    }
}

impl Retry {
    /// Reads the field `retry`.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Self {
        let mut wanted = Self::default();
        let Some(node) = fields.node("retry") else {
            return wanted;
        };
        let known = names(RETRY);
        if let Some(mut retry) = Fields::open(node, "retry", &known, fields.faults()) {
            if let Some(attempts) = count(&mut retry, "attempts", 0..=10) {
                wanted.attempts = attempts;
            }
            if let Some(percent) = count(&mut retry, "budget_percent", 0..=100) {
                wanted.budget_percent = percent;
            }
        }
        wanted
    }
}

fn count(
    fields: &mut Fields<'_, '_>,
    name: &str,
    bounds: std::ops::RangeInclusive<u64>,
) -> Option<u32> {
    let number = fields.whole(name, bounds)?;
    u32::try_from(number).ok()
}

/// A path that the gateway asks a plugin for by itself.
pub(super) fn read_path(fields: &mut Fields<'_, '_>, name: &str) -> Option<String> {
    let text = fields.text(name)?;
    if path::is_canonical(text.as_bytes()) {
        return Some(text.to_owned());
    }
    fields.fault(
        name,
        "must be a path in canonical form, such as /openapi.json, without a query",
    );
    None
}
