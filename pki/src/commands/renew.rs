//! `renew`: new certificates where old ones are. The one timer of an installation runs this.

use clap::Args;
use gapura_pki::{Error, Pki, RenewRequest, Renewed, Target};
use serde_json::{Value, json};

use crate::commands::issue::{describe, issued_json};
use crate::commands::report::{Report, line, republished_exit, republished_json, republished_text};

/// Renew certificates, with new keys, and refresh every CRL.
///
/// Works on what has ended as well. `renew --all --due` once a day is all an installation needs.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki renew billing                        (now)
  gapura-pki renew --all                          (everything, now)
  gapura-pki renew --all --due --passphrase-file /root/gapura-pki.pass     (the daily timer)")]
pub(crate) struct Arguments {
    /// Whom to renew: billing, plugin/billing or a whole SPIFFE id.
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "due"])]
    names: Vec<String>,
    /// Everything that is in use.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Only what is due: 2/5 of its life is left or less, or its issuer no longer signs.
    #[arg(long)]
    due: bool,
    /// Keep the keys.
    #[arg(long)]
    reuse_key: bool,
    /// Say what would be renewed.
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    /// Whether everything is looked after.
    pub(crate) fn is_for_all(&self) -> bool {
        self.names.is_empty() && !self.dry_run
    }
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    let targets = arguments
        .names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<Vec<Target>, _>>()?;
    let request = RenewRequest {
        targets,
        due_only: arguments.due,
        reuse_key: arguments.reuse_key,
        dry_run: arguments.dry_run,
    };
    let done = pki.renew(&request)?;
    let verb = if arguments.dry_run {
        "would renew"
    } else {
        "renewed"
    };
    Ok(Report {
        exit: exit(&done),
        text: text(&done, verb),
        json: to_json(&done, arguments.dry_run),
    })
}

fn exit(done: &Renewed) -> u8 {
    match (done.failed.is_empty(), done.crls_skipped.is_empty()) {
        (false, _) => 1,
        (true, _) => republished_exit(&done.republished),
    }
}

fn text(done: &Renewed, verb: &str) -> String {
    let mut text = String::new();
    for one in &done.issued {
        text.push_str(&describe(one, verb));
    }
    for (label, why) in &done.mended {
        line(&mut text, format_args!("mended {label}: {why}"));
    }
    for (label, why) in &done.skipped {
        line(&mut text, format_args!("passed over {label}: {why}"));
    }
    for (label, why) in &done.failed {
        line(&mut text, format_args!("FAILED {label}: {why}"));
    }
    for crl in &done.crls {
        line(
            &mut text,
            format_args!(
                "CRL of {} number {}, until {}",
                crl.issuer, crl.number, crl.next_update
            ),
        );
    }
    for said in &done.issuing_ca {
        line(&mut text, format_args!("issuing CA: {said}"));
    }
    for id in &done.crls_skipped {
        line(
            &mut text,
            format_args!(
                "CRL of {id} left as it is: its key is offline (gapura-pki crl refresh --offline-root DIR)"
            ),
        );
    }
    if !done.crls.is_empty() {
        text.push_str(&republished_text(&done.republished));
    }
    text
}

fn to_json(done: &Renewed, dry_run: bool) -> Value {
    let pairs = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(name, why)| json!({ "name": name, "why": why }))
            .collect::<Value>()
    };
    json!({
        "renewed": done.issued.iter().map(issued_json).collect::<Value>(), "skipped": pairs(&done.skipped), "mended": pairs(&done.mended), "failed": pairs(&done.failed), "issuing_ca": done.issuing_ca,
        "crls": done.crls, "crls_skipped": done.crls_skipped, "republished": republished_json(&done.republished), "dry_run": dry_run,
    })
}
