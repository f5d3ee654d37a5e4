//! `gapura-gateway explain`: over the files as they stand. Nothing is started.

use std::path::Path;
use std::time::Instant;

use gapura_protocol::clock::Clock;
use gapura_protocol::identity::{Role, TrustDomain};
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_trust::set::{TrustOptions, TrustSet};

use super::steps::{Asked, Explanation, head};
use crate::authenticate::{Authenticator, Keys};
use crate::config::Explain;
use crate::load::unknown_domain;
use crate::rate_limit::Limiter;
use crate::registry::{Rules, Snapshot, build};
use crate::settings::Downstream;
use crate::standing::Standing;

/// Every step of the request that is asked about, a line each, or one JSON object.
///
/// # Errors
/// What of the question or the configuration cannot be read.
pub(crate) fn explain(question: &Explain, clock: &Clock) -> Result<String, Vec<String>> {
    let mut told = Explanation::default();
    let rules = Rules {
        trust_domain: trust_domain(question.mesh_dir.as_deref(), clock)?,
        signing: question.signing,
        max_body: question.max_body,
    };
    let folder = Snapshot::take(&question.plugin_dir);
    let built = build(None, &folder, &rules, Instant::now());
    for fault in &built.faults {
        told.step("registry", format!("fault: {fault}"));
    }
    let keys = Keys::load(question.auth.clone())?;
    keys.fetch_now(clock)?;
    let token = token(question)?;
    let asked = Asked {
        head: head(
            &question.method,
            token.as_deref(),
            question.origin.as_deref(),
        )
        .map_err(|fault| vec![fault])?,
        target: &question.target,
        host: question.host.as_deref(),
        client: question.client,
        door: &Downstream {
            public_hosts: question.public_hosts.clone(),
            takes_logouts: question.auth.logout.is_some(),
            openapi: question.openapi,
            docs: question.docs,
            ..Downstream::default()
        },
        authenticator: &Authenticator::new(keys),
        standing: &standing(question, clock)?,
        // Nothing was ever sent here: how much is left only a running gateway knows.
        limiter: &Limiter::new(Instant::now()),
        now: clock.unix(),
    };
    asked.explain(&built.table, &mut told);
    Ok(if question.json {
        told.to_json().to_string()
    } else {
        told.lines().join("\n")
    })
}

fn token(question: &Explain) -> Result<Option<String>, Vec<String>> {
    let Some(file) = &question.token_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file);
    text.map(Some).map_err(|error| {
        vec![format!(
            "--token-file {}: cannot be read: {error}",
            file.display()
        )]
    })
}

fn standing(question: &Explain, clock: &Clock) -> Result<Standing, Vec<String>> {
    let log = Log::to("gateway", clock.clone(), Box::new(std::io::sink()))
        .map_err(|_| vec!["no thread can be started".to_owned()])?;
    let alarms = Alarms::new(log.clone());
    Standing::open(&question.standing, clock, &log, &alarms).map(|(standing, _)| standing)
}

/// The gateway's own, from its mesh directory; without one a placeholder that no certificate has.
pub(crate) fn trust_domain(
    mesh_dir: Option<&Path>,
    clock: &Clock,
) -> Result<TrustDomain, Vec<String>> {
    let Some(dir) = mesh_dir else {
        return unknown_domain();
    };
    let options = TrustOptions {
        own_role: Role::Gateway,
        no_crl: true,
        clock: clock.clone(),
    };
    let trust = TrustSet::load(dir, &options, None).map_err(|error| vec![error.to_string()])?;
    Ok(trust.own().id.domain().clone())
}
