//! `ca show` and `ca rotate`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use gapura_pki::ledger::{AuthorityKind, AuthorityState, Ledger};
use gapura_pki::rotate::{RotateRequest, Rotated, Step, next_step};
use gapura_pki::timestamp::for_people;
use gapura_pki::{Error, Pki};
use serde_json::{Value, json};

use crate::commands::global::duration;
use crate::commands::issue::issued_json;
use crate::commands::report::{
    Report, line, republished_exit, republished_json, republished_text, table,
};

/// Show and rotate the CAs.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every CA: its state, its end, and how many leaves still lead to it.
    #[command(after_help = "Example:
  gapura-pki ca show --json")]
    Show,
    /// Replace the issuing CA or the root, one safe step at a time.
    ///
    /// prepare makes the new one and publishes its CRL; activate lets it sign; retire is done with
    /// the old one; cancel drops what was prepared. Without --step the next step is done. A step
    /// that someone is not ready for is refused (exit 5) and says who.
    #[command(after_help = "Examples:
  gapura-pki ca rotate issuer --step prepare
  gapura-pki ca rotate issuer --step activate
  gapura-pki renew --all
  gapura-pki ca rotate issuer --step retire
  gapura-pki ca rotate issuer --emergency --taint       (its key is in other hands: everything at once)")]
    Rotate(Rotate),
}

#[derive(Args)]
struct Rotate {
    /// Which CA.
    kind: Kind,
    /// prepare, activate, retire or cancel; without it the next one.
    #[arg(long, value_name = "STEP")]
    step: Option<Step>,
    /// All steps at once: new CA, new leaves. Works when everything has ended.
    #[arg(long, conflicts_with = "step")]
    emergency: bool,
    /// With --emergency: nothing under the old CA may be let through any more.
    #[arg(long, requires = "emergency")]
    taint: bool,
    /// The mesh directories that can't be seen from here have got the new bundle by hand.
    #[arg(long)]
    distributed: bool,
    /// How long gateways and sidecars get to read one change before the next relies on it.
    #[arg(long, default_value = "4s", value_parser = duration, value_name = "TIME")]
    settle: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Issuer,
    Root,
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    match arguments.what {
        What::Show => show(pki),
        What::Rotate(rotate) => rotate_one(pki, rotate),
    }
}

fn show(pki: &Pki) -> Result<Report, Error> {
    let (ledger, now) = (pki.ledger()?, pki.now());
    let (mut rows, mut list) = (Vec::new(), Vec::new());
    let in_use = ledger.in_use();
    let trusted: Vec<&str> = ledger
        .trusted_roots(now)
        .map(|root| root.id.as_str())
        .collect();
    for authority in ledger.authorities() {
        let leaves = in_use
            .iter()
            .filter(|leaf| leaf.issuer == authority.id && ledger.is_live(leaf, now))
            .count();
        let bundle = match (authority.kind, authority.parent.as_deref()) {
            (AuthorityKind::Root, _) if trusted.contains(&authority.id.as_str()) => {
                "yes".to_owned()
            }
            (AuthorityKind::Issuer, Some(parent)) if trusted.contains(&parent) => {
                format!("via {parent}")
            }
            _ => "no".to_owned(),
        };
        let left = authority.not_after.since(now);
        rows.push(vec![
            authority.id.clone(),
            authority.state.as_str().to_owned(),
            authority.not_after.to_string(),
            if left == 0 {
                "ended".to_owned()
            } else {
                for_people(left)
            },
            if authority.kind == AuthorityKind::Root {
                "-".to_owned()
            } else {
                leaves.to_string()
            },
            bundle.clone(),
        ]);
        list.push(json!({
            "id": authority.id, "kind": authority.kind, "state": authority.state, "parent": authority.parent, "serial": authority.serial,
            "not_before": authority.not_before, "not_after": authority.not_after, "left_seconds": left, "leaves": leaves,
            "in_bundle": bundle != "no", "sha256": authority.fingerprint, "crl": ledger.crl(&authority.id),
        }));
    }
    let mut text = table(
        &[
            "AUTHORITY",
            "STATE",
            "NOT AFTER",
            "LEFT",
            "LEAVES",
            "IN BUNDLE",
        ],
        &rows,
    );
    for kind in [AuthorityKind::Root, AuthorityKind::Issuer] {
        if let Some(step) = under_way(&ledger, kind) {
            line(
                &mut text,
                format_args!(
                    "next: gapura-pki ca rotate {} --step {}",
                    kind.as_str(),
                    step.as_str()
                ),
            );
        }
    }
    let next = |kind| under_way(&ledger, kind).map(Step::as_str);
    let json = json!({
        "trust_domain": pki.trust_domain().as_str(), "authorities": list,
        "next_step": { "root": next(AuthorityKind::Root), "issuer": next(AuthorityKind::Issuer) },
    });
    Ok(Report::done(json, text))
}

/// The next step of a rotation that has begun.
fn under_way(ledger: &Ledger, kind: AuthorityKind) -> Option<Step> {
    Some(next_step(ledger, kind)).filter(|step| *step != Step::Prepare)
}

fn rotate_one(pki: &Pki, arguments: Rotate) -> Result<Report, Error> {
    let kind = match arguments.kind {
        Kind::Issuer => AuthorityKind::Issuer,
        Kind::Root => AuthorityKind::Root,
    };
    let request = RotateRequest {
        kind,
        step: arguments.step,
        emergency: arguments.emergency,
        taint: arguments.taint,
        distributed: arguments.distributed,
        settle: arguments.settle,
    };
    let done = pki.rotate(&request)?;
    let ledger = pki.ledger()?;
    let active = ledger
        .in_state(AuthorityKind::Issuer, AuthorityState::Active)
        .map(|authority| authority.id.clone());
    let exit = if done.failed.is_empty() {
        republished_exit(&done.republished)
    } else {
        1
    };
    Ok(Report {
        exit,
        text: text(&done),
        json: to_json(&done, active.as_deref()),
    })
}

fn text(done: &Rotated) -> String {
    let mut text = String::new();
    for step in &done.steps {
        line(&mut text, format_args!("{step}"));
    }
    for one in &done.issued {
        line(
            &mut text,
            format_args!(
                "  issued     {} serial {} until {}",
                one.leaf.label(),
                one.leaf.serial,
                one.leaf.not_after
            ),
        );
    }
    for (label, why) in &done.failed {
        line(&mut text, format_args!("  FAILED     {label}: {why}"));
    }
    text.push_str(&republished_text(&done.republished));
    if let Some(next) = &done.next {
        line(&mut text, format_args!("next: {next}"));
    }
    text
}

fn to_json(done: &Rotated, active: Option<&str>) -> Value {
    json!({
        "steps": done.steps, "active_issuer": active, "issued": done.issued.iter().map(issued_json).collect::<Value>(),
        "failed": done.failed.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect::<Value>(),
        "republished": republished_json(&done.republished), "next": done.next,
    })
}
