//! `backup`, `restore` and `inventory verify`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gapura_pki::backup::restore;
use gapura_pki::{Error, Pki};
use gapura_protocol::clock::Clock;
use serde_json::json;

use crate::commands::global::Global;
use crate::commands::report::{Report, line};

/// Write everything that can't be made anew into one tar file.
///
/// CA keys are in it as they are kept, so encrypted unless they were made with --plaintext-keys.
/// Keep the passphrase elsewhere.
#[derive(Args)]
#[command(after_help = "Example:
  gapura-pki backup /media/usb/gapura-pki-2027-01-31.tar")]
pub(crate) struct BackupArguments {
    /// The file to write; it must not exist.
    file: PathBuf,
}

/// Make the state directory out of a backup.
///
/// Refused where it would put an older state over a newer one that is sound. What was there is
/// moved aside, and revocations that only it knew of are kept.
#[derive(Args)]
#[command(after_help = "Example:
  gapura-pki --dir /var/lib/gapura/pki restore /media/usb/gapura-pki-2027-01-31.tar
  gapura-pki crl refresh && gapura-pki check")]
pub(crate) struct RestoreArguments {
    /// The backup.
    file: PathBuf,
}

/// Verify the record of everything that was ever issued.
#[derive(Args)]
pub(crate) struct InventoryArguments {
    #[command(subcommand)]
    what: InventoryWhat,
}

#[derive(Subcommand)]
enum InventoryWhat {
    /// Whether every line is as it was written, and none is missing.
    #[command(after_help = "Example:
  gapura-pki inventory verify")]
    Verify,
}

pub(crate) fn run_backup(pki: &Pki, arguments: &BackupArguments) -> Result<Report, Error> {
    let files = pki.backup(&arguments.file)?;
    let text = format!(
        "wrote {} files to {} (0600)\n",
        files,
        arguments.file.display()
    );
    Ok(Report::done(
        json!({ "file": arguments.file, "files": files }),
        text,
    ))
}

pub(crate) fn run_restore(global: &Global, arguments: &RestoreArguments) -> Result<Report, Error> {
    let done = restore(global.dir(), &arguments.file, &Clock::system())?;
    let mut text = format!(
        "restored {} events into {}\n",
        done.lines,
        global.dir().display()
    );
    if let Some(aside) = &done.set_aside {
        line(
            &mut text,
            format_args!("  before      is in {}", aside.display()),
        );
    }
    line(
        &mut text,
        format_args!(
            "  revocations {} that only the old state knew of are kept",
            done.kept_revocations
        ),
    );
    if done.lost_leaves > 0 {
        line(
            &mut text,
            format_args!(
                "  forgotten   {} certificates issued since the backup; they still work: renew them, or revoke --cert FILE",
                done.lost_leaves
            ),
        );
    }
    line(
        &mut text,
        format_args!("next: gapura-pki crl refresh; gapura-pki check"),
    );
    let json = json!({
        "dir": global.dir(), "lines": done.lines, "kept_revocations": done.kept_revocations, "lost_leaves": done.lost_leaves,
        "set_aside": done.set_aside,
    });
    Ok(Report {
        json,
        text,
        exit: if done.lost_leaves > 0 { 3 } else { 0 },
    })
}

pub(crate) fn run_inventory(pki: &Pki, arguments: &InventoryArguments) -> Result<Report, Error> {
    match arguments.what {
        InventoryWhat::Verify => {
            let (lines, head) = pki.inventory_head()?;
            let text = format!("{lines} lines, each as it was written\n  last  {head}\n");
            Ok(Report::done(
                json!({ "ok": true, "lines": lines, "last_sha256": head }),
                text,
            ))
        }
    }
}
