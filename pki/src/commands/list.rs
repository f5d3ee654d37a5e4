//! `list`: what was issued, to whom, until when, and where it is.

use std::time::Duration;

use clap::Args;
use gapura_pki::ledger::{Leaf, Ledger};
use gapura_pki::timestamp::{Timestamp, for_people};
use gapura_pki::{Error, Pki, Target};
use gapura_protocol::identity::Role;
use serde_json::json;

use crate::commands::global::duration;
use crate::commands::report::{Report, line, table};

/// List certificates; without flags those in use.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki list
  gapura-pki list --expiring 10d
  gapura-pki list --all --name plugin/billing --json")]
pub(crate) struct Arguments {
    /// Also what was replaced by a newer one.
    #[arg(long)]
    all: bool,
    /// Only what ends within this time.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    expiring: Option<Duration>,
    /// Only what was revoked.
    #[arg(long)]
    revoked: bool,
    /// Only `gateway` or `plugin`.
    #[arg(long, value_name = "ROLE")]
    kind: Option<String>,
    /// Only this identity.
    #[arg(long, value_name = "NAME")]
    name: Option<Target>,
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    let role: Option<Role> = arguments
        .kind
        .as_deref()
        .map(|text| {
            text.parse()
                .map_err(|_| Error::Usage(format!("--kind {text:?}: say gateway, plugin or pki")))
        })
        .transpose()?;
    let (ledger, now) = (pki.ledger()?, pki.now());
    let in_use = ledger.in_use();
    let all: Vec<&Leaf> = if arguments.all || arguments.revoked {
        ledger.leaves().iter().collect()
    } else {
        in_use.clone()
    };
    let mut chosen: Vec<&Leaf> = all
        .into_iter()
        .filter(|leaf| role.is_none_or(|role| role == leaf.role))
        .filter(|leaf| {
            arguments
                .name
                .as_ref()
                .is_none_or(|target| target.takes(leaf))
        })
        .filter(|leaf| {
            !arguments.revoked || ledger.revocation(&leaf.issuer, &leaf.serial).is_some()
        })
        .filter(|leaf| {
            arguments.expiring.is_none_or(|within| {
                ledger.is_live(leaf, now) && leaf.not_after.since(now) <= within.as_secs()
            })
        })
        .collect();
    chosen.sort_by(|one, other| {
        (one.label(), &one.out, one.not_before).cmp(&(other.label(), &other.out, other.not_before))
    });
    let (mut rows, mut list) = (Vec::new(), Vec::new());
    for leaf in &chosen {
        let state = state(&ledger, leaf, now, in_use.contains(leaf));
        let left = leaf.not_after.since(now);
        rows.push(vec![
            leaf.label(),
            state.to_owned(),
            leaf.not_after.to_string(),
            if left == 0 {
                "-".to_owned()
            } else {
                for_people(left)
            },
            leaf.issuer.clone(),
            leaf.serial.clone(),
            leaf.out.display().to_string(),
        ]);
        list.push(json!({
            "role": leaf.role.as_str(), "name": leaf.name.as_str(), "id": leaf.id(pki.trust_domain()).to_string(), "state": state,
            "serial": leaf.serial, "issuer": leaf.issuer, "not_before": leaf.not_before, "not_after": leaf.not_after, "left_seconds": left,
            "dns": leaf.dns, "out": leaf.out, "sha256": leaf.fingerprint,
            "revoked": ledger.revocation(&leaf.issuer, &leaf.serial),
        }));
    }
    let mut text = table(
        &[
            "NAME",
            "STATE",
            "NOT AFTER",
            "LEFT",
            "ISSUER",
            "SERIAL",
            "MESH DIRECTORY",
        ],
        &rows,
    );
    line(&mut text, format_args!("{} certificates", rows.len()));
    Ok(Report::done(json!({ "certificates": list }), text))
}

fn state(ledger: &Ledger, leaf: &Leaf, now: Timestamp, in_use: bool) -> &'static str {
    if ledger.is_forgotten(leaf) {
        return "forgotten";
    }
    match (
        ledger.revocation(&leaf.issuer, &leaf.serial),
        leaf.not_after > now,
        in_use,
    ) {
        (Some(_), _, _) => "revoked",
        (None, false, _) => "expired",
        (None, true, true) => "live",
        (None, true, false) => "replaced",
    }
}
