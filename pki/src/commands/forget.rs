//! `forget`: nobody waits any more for what is gone for good.

use std::path::PathBuf;

use clap::Args;
use gapura_pki::{Error, Pki, Target};
use serde_json::{Value, json};

use crate::commands::report::{Report, line};

/// Stop looking after an identity that is gone for good; the inventory keeps its lines, and the
/// reason.
///
/// It is not renewed, not warned about, and holds up no rotation any more. Nothing is revoked: do
/// that first where somebody may still hold its key. A later `issue` of the same name begins anew.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki forget plugin/billing --reason \"host scrapped in May\"
  gapura-pki forget billing --out /mnt/old/billing --reason \"moved\"")]
pub(crate) struct Arguments {
    /// Whom: billing, plugin/billing or a whole SPIFFE id.
    name: String,
    /// Only in this mesh directory; else wherever it was.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Why, in your words.
    #[arg(long, default_value = "gone for good", value_name = "TEXT")]
    reason: String,
}

pub(crate) fn run(pki: &Pki, arguments: &Arguments) -> Result<Report, Error> {
    let target: Target = arguments.name.parse()?;
    let done = pki.forget(&target, arguments.out.as_deref(), &arguments.reason)?;
    let mut text = String::new();
    if done.leaves.is_empty() {
        line(&mut text, format_args!("{target} was forgotten before"));
    }
    for leaf in &done.leaves {
        line(
            &mut text,
            format_args!(
                "forgotten  {} in {}: {}",
                leaf.label(),
                leaf.out.display(),
                arguments.reason
            ),
        );
    }
    for leaf in &done.still_valid {
        line(
            &mut text,
            format_args!(
                "  note     serial {} is let in until {}; if somebody may hold its key: gapura-pki revoke --serial {}",
                leaf.serial, leaf.not_after, leaf.serial
            ),
        );
    }
    let facts = |leaves: &[gapura_pki::ledger::Leaf]| -> Value {
        let one = |leaf: &gapura_pki::ledger::Leaf| json!({ "name": leaf.label(), "serial": leaf.serial, "not_after": leaf.not_after, "out": leaf.out });
        leaves.iter().map(one).collect()
    };
    let json = json!({
        "forgotten": facts(&done.leaves), "still_valid": facts(&done.still_valid), "reason": arguments.reason,
    });
    Ok(Report::done(json, text))
}
