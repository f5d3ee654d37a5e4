//! `gapura-gateway explain`: which plugin would serve a request, and each decision on the way.
//!
//! The very functions of the request path, over the files as they stand. Nothing is sent and nothing is started.

use std::time::Instant;

use gapura_mesh::clock::{Clock, Rfc3339};
use gapura_mesh::identity::{Role, TrustDomain};
use gapura_mesh::path::CanonicalPath;
use gapura_mesh::tls::trust::{TrustOptions, TrustSet};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::authenticate::{Authenticator, Caller, Keys};
use crate::config::Explain;
use crate::registry::{Rules, Snapshot, build};
use crate::route::{self, Target};

/// Every step, a sentence each.
///
/// # Errors
/// What of the question or the configuration cannot be read.
pub fn explain(question: &Explain, clock: &Clock) -> Result<Vec<String>, Vec<String>> {
    let mut steps = Vec::new();
    let rules = Rules {
        trust_domain: trust_domain(question, clock)?,
        signing: question.signing,
        max_body: question.max_body,
    };
    let built = build(
        None,
        &Snapshot::take(&question.plugin_dir),
        &rules,
        Instant::now(),
    );
    steps.extend(built.faults.iter().map(|fault| format!("fault: {fault}")));
    let (path, query) = question
        .target
        .split_once('?')
        .map_or((question.target.as_str(), None), |(path, query)| {
            (path, Some(query))
        });
    let path = match CanonicalPath::parse(path.as_bytes()) {
        Ok(path) => path,
        Err(error) => {
            steps.push(format!(
                "the path is refused: {}: 400 bad_request",
                error.label()
            ));
            return Ok(steps);
        }
    };
    steps.push(format!("canonical path: {}", path.as_str()));
    steps.extend(route::explain(&built.table, &path));
    let Ok(Target::Plugin(found)) = route::find(&built.table, &path) else {
        return Ok(steps);
    };
    let plugin = found.plugin;
    steps.push(format!("auth_mode: {}", plugin.auth.as_str()));
    let keys = Keys::load(question.auth.clone())?;
    keys.fetch_now(clock)?;
    let mut headers = HeaderMap::new();
    if let Some(file) = &question.token_file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            vec![format!(
                "--token-file {}: cannot be read: {error}",
                file.display()
            )]
        })?;
        let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
        headers.insert(
            AUTHORIZATION,
            value.map_err(|_| vec![format!("--token-file {}: holds no token", file.display())])?,
        );
    }
    match Authenticator::new(keys).verify_offline(plugin.auth, &headers, clock.unix()) {
        Ok(Caller::Verified(caller)) => {
            let ends = std::time::UNIX_EPOCH + std::time::Duration::from_secs(caller.expires());
            let roles = caller.roles().map_or("none", |roles| roles.as_str());
            steps.push(format!(
                "the token is good until {}: company {}, roles {roles}",
                Rfc3339(ends),
                caller.tenant()
            ));
        }
        Ok(Caller::Unverified) => steps.push("the token is passed on unread".to_owned()),
        Ok(Caller::Public) => steps.push("no token is needed".to_owned()),
        Err(error) => {
            let code = crate::pipeline::Rejection::Authenticate(error).code();
            steps.push(format!(
                "the token is refused ({}): {} {}",
                error.label(),
                code.status().as_u16(),
                code.as_str()
            ));
            return Ok(steps);
        }
    }
    let target = query.map_or_else(
        || found.path.to_owned(),
        |query| format!("{}?{query}", found.path),
    );
    let how = if plugin.upstream.is_plaintext() {
        "in plain http".to_owned()
    } else {
        format!("over mTLS to {}", plugin.identity)
    };
    steps.push(format!("{} {target} is sent {how}", question.method));
    Ok(steps)
}

/// The gateway's own, from its mesh directory; without one a placeholder that no certificate has.
fn trust_domain(question: &Explain, clock: &Clock) -> Result<TrustDomain, Vec<String>> {
    let Some(dir) = &question.mesh_dir else {
        return "explain.invalid"
            .parse()
            .map_err(|_| vec!["--mesh-dir is needed".to_owned()]);
    };
    let options = TrustOptions {
        own_role: Role::Gateway,
        no_crl: true,
        clock: clock.clone(),
    };
    let trust = TrustSet::load(dir, &options, None).map_err(|error| vec![error.to_string()])?;
    Ok(trust.own().id.domain().clone())
}
