//! The page's section of callers: whose tokens are refused and why, whose keys count, who asks
//! most, and who is not welcome.

use std::time::Instant;

use gapura_page::document::{Counted, tokens};
use gapura_protocol::clock::unix;
use gapura_telemetry::busiest::{Busy, Companies, Measure};
use serde::Serialize;

use super::sources::Sources;
use crate::registry::{LimitKey, Table};
use crate::upstream::cluster::Running;

/// Who calls.
#[derive(Serialize)]
pub(super) struct Callers {
    /// Refused tokens, by reason.
    tokens: Vec<Counted>,
    issuers: Vec<Issuer>,
    companies: Option<Busiest>,
    limits: Vec<Limit>,
    suspended: Suspended,
}

/// Whose keys count.
#[derive(Serialize)]
struct Issuer {
    /// Where its keys come from.
    source: String,
    /// Its name, where one is configured.
    issuer: Option<String>,
    keys: Vec<String>,
    /// How long these keys have been in force, in seconds.
    age_s: u64,
    /// How long ago they were fetched, where they are.
    fetched_s: Option<u64>,
    /// Why they could not be read or fetched again.
    problem: Option<String>,
}

/// Who asks most.
#[derive(Serialize)]
struct Busiest {
    /// Whether companies are shown by their ids.
    named: bool,
    /// How far back it goes, at most, in seconds.
    window_s: u64,
    requests: Vec<One>,
    refusals: Vec<One>,
    sheds: Vec<One>,
}

/// One company.
#[derive(Serialize)]
struct One {
    company: Option<String>,
    count: u64,
    /// By how much that may be too many.
    over: u64,
}

/// A limit, and what some have left of it.
#[derive(Serialize)]
struct Limit {
    /// The plugin's; none for that of a company's own file.
    plugin: Option<String>,
    limit: String,
    counts: &'static str,
    shadow: bool,
    left: Vec<Left>,
}

#[derive(Serialize)]
struct Left {
    company: String,
    left: u64,
    of: u64,
}

/// Companies that are not let in.
#[derive(Serialize)]
struct Suspended {
    count: usize,
    /// Some of them, where ids may be shown.
    companies: Vec<String>,
}

/// As many as anybody looks at.
const SHOWN: usize = 10;

/// More names than a screen holds.
const SUSPENDED_SHOWN: usize = 50;

impl Callers {
    pub(super) fn now(from: &Sources<'_>, table: &Table<Running>, now: Instant) -> Self {
        let companies = from.meters.companies();
        let named = companies.is_some_and(Companies::are_named);
        let busiest = companies.map(|companies| Busiest::now(companies, now));
        let known = busiest.iter().flat_map(|busiest| &busiest.requests);
        let known: Vec<&str> = known.filter_map(|one| one.company.as_deref()).collect();
        let limits = limits(from, table, &known, now);
        let all = from.standing.suspended();
        let shown = if named { SUSPENDED_SHOWN } else { 0 };
        Self {
            tokens: tokens(from.history),
            issuers: issuers(from, now),
            limits,
            suspended: Suspended {
                count: all.len(),
                companies: all.into_iter().take(shown).collect(),
            },
            companies: busiest,
        }
    }
}

impl Busiest {
    fn now(companies: &Companies, now: Instant) -> Self {
        let of = |measure| {
            let most = companies.busiest(measure, SHOWN, now).into_iter();
            most.map(One::from).collect()
        };
        Self {
            named: companies.are_named(),
            window_s: Companies::window().as_secs(),
            requests: of(Measure::Requests),
            refusals: of(Measure::Refusals),
            sheds: of(Measure::Sheds),
        }
    }
}

impl From<Busy> for One {
    fn from(busy: Busy) -> Self {
        Self {
            company: busy.company,
            count: busy.count,
            over: busy.over,
        }
    }
}

fn issuers(from: &Sources<'_>, now: Instant) -> Vec<Issuer> {
    let clock = unix(from.now);
    let issuers = from.keys.facts().into_iter();
    issuers
        .map(|facts| Issuer {
            source: facts.source,
            issuer: facts.issuer,
            keys: facts.keys,
            age_s: now.saturating_duration_since(facts.since).as_secs(),
            fetched_s: facts.fetched.map(|at| clock.saturating_sub(at)),
            problem: facts.problem,
        })
        .collect()
}

/// Each limit, with what those have left of it that ask most.
fn limits(from: &Sources<'_>, table: &Table<Running>, known: &[&str], now: Instant) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (_, plugin) in table.plugins() {
        let Some(limit) = &plugin.rate_limit else {
            continue;
        };
        let by_company = limit.key() == LimitKey::Tenant;
        let counted = known.iter().filter(|_| by_company);
        let left = counted.map(|company| {
            let left = from.limiter.left_of(plugin, company, now).unwrap_or(0);
            Left {
                company: (*company).to_owned(),
                left,
                of: limit.burst(),
            }
        });
        limits.push(Limit {
            plugin: Some(plugin.name.to_string()),
            limit: limit.to_string(),
            counts: limit.key().as_str(),
            shadow: limit.is_shadow(),
            left: left.collect(),
        });
    }
    for company in known {
        let Some(limit) = from.standing.rate_limit(company) else {
            continue;
        };
        let left = from.limiter.left_of_own(&limit, company, now);
        limits.push(Limit {
            plugin: None,
            limit: limit.to_string(),
            counts: limit.key().as_str(),
            shadow: limit.is_shadow(),
            left: left
                .map(|left| Left {
                    company: (*company).to_owned(),
                    left,
                    of: limit.burst(),
                })
                .into_iter()
                .collect(),
        });
    }
    limits
}
