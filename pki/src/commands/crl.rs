//! `crl show|refresh|verify`.

use clap::{Args, Subcommand};
use gapura_pki::{Error, Pki};
use serde_json::json;

use crate::commands::Report;
use crate::commands::report::{line, republished_exit, republished_json, republished_text};

/// Show, refresh and verify CRLs.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Sign every CRL anew and publish it.
    #[command(after_help = "Example:
  gapura-pki crl refresh --passphrase-file /root/gapura-pki.pass")]
    Refresh,
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    match arguments.what {
        What::Refresh => refresh(pki),
    }
}

fn refresh(pki: &Pki) -> Result<Report, Error> {
    let done = pki.crl_refresh()?;
    let mut text = String::new();
    for crl in &done.made {
        line(&mut text, format_args!("CRL of {} number {}, {} entries, until {}", crl.issuer, crl.number, crl.entries, crl.next_update));
    }
    for id in &done.skipped {
        line(&mut text, format_args!("CRL of {id} left as it is: its key is offline (--offline-root DIR)"));
    }
    text.push_str(&republished_text(&done.republished));
    let json = json!({ "crls": done.made, "skipped": done.skipped, "republished": republished_json(&done.republished) });
    Ok(Report { json, text, exit: republished_exit(&done.republished) })
}
