//! `adopt`: a mesh directory that was moved, or that the inventory has lost, is looked after again.

use std::path::PathBuf;

use clap::Args;
use gapura_pki::{Error, Pki};
use serde_json::json;

use crate::commands::report::{Report, line, republished_exit, republished_json, republished_text};

/// Look after a mesh directory from now on: one that was moved, or that the inventory has lost.
///
/// Its certificate must be one of this CA, for its own trust domain, and not revoked. It gets the
/// present roots and CRLs at once, and `renew` finds it from now on.
#[derive(Args)]
#[command(after_help = "Example:
  gapura-pki adopt /srv/gapura/billing")]
pub(crate) struct Arguments {
    /// The mesh directory.
    #[arg(value_name = "DIR")]
    mesh_dir: PathBuf,
}

pub(crate) fn run(pki: &Pki, arguments: &Arguments) -> Result<Report, Error> {
    let done = pki.adopt_dir(&arguments.mesh_dir)?;
    let leaf = &done.leaf;
    let mut text = String::new();
    line(
        &mut text,
        format_args!(
            "{}  {} in {}",
            if done.already {
                "known already"
            } else {
                "adopted"
            },
            leaf.label(),
            leaf.out.display()
        ),
    );
    line(
        &mut text,
        format_args!("  serial     {}   until {}", leaf.serial, leaf.not_after),
    );
    if let Some(before) = &done.moved_from {
        line(
            &mut text,
            format_args!("  moved      from {}, which is forgotten", before.display()),
        );
    }
    text.push_str(&republished_text(&done.republished));
    let json = json!({
        "name": leaf.label(), "serial": leaf.serial, "issuer": leaf.issuer, "not_after": leaf.not_after, "out": leaf.out,
        "already": done.already, "moved_from": done.moved_from, "republished": republished_json(&done.republished),
    });
    Ok(Report {
        json,
        text,
        exit: republished_exit(&done.republished),
    })
}
