//! `revoke`: certificates that must not be let through any more.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use gapura_pki::{Error, Pki, Reason, RevokeRequest};
use serde_json::json;

use crate::commands::issue::read;
use crate::commands::report::{Report, line, republished_exit, republished_json, republished_text};

/// Revoke certificates and publish the CRL at once.
///
/// With NAME every certificate of that identity which has not ended by itself. Live connections are
/// cut as soon as gateway and sidecar have read the new CRL, within seconds.
#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true), after_help = "Examples:
  gapura-pki revoke plugin/billing --reason key-compromise
  gapura-pki revoke --serial 5b0c…e1
  gapura-pki revoke --cert ./billing/cert.pem")]
pub(crate) struct Arguments {
    /// Whom: billing, plugin/billing or a whole SPIFFE id.
    #[arg(group = "which")]
    name: Option<String>,
    /// One certificate, by its serial in hexadecimal.
    #[arg(long, group = "which", value_name = "HEX")]
    serial: Option<String>,
    /// One certificate, by its file (PEM or DER).
    #[arg(long, group = "which", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// unspecified, key-compromise, ca-compromise, superseded or cessation.
    #[arg(long, default_value = "unspecified", value_name = "REASON")]
    reason: Reason,
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    let request = match (&arguments.name, &arguments.serial, &arguments.cert) {
        (Some(name), _, _) => RevokeRequest::Name(name.parse()?),
        (_, Some(serial), _) => RevokeRequest::Serial(serial.clone()),
        (_, _, Some(path)) => RevokeRequest::Certificate(read(path)?),
        (None, None, None) => {
            return Err(Error::Usage(
                "say what to revoke: NAME, --serial S or --cert F".to_owned(),
            ));
        }
    };
    let done = pki.revoke(&request, arguments.reason)?;
    let mut text = String::new();
    for revoked in &done.revoked {
        line(
            &mut text,
            format_args!(
                "revoked  {}  of {} ({})",
                revoked.serial, revoked.issuer, revoked.reason
            ),
        );
    }
    for serial in &done.already {
        line(&mut text, format_args!("revoked already  {serial}"));
    }
    for crl in &done.crls {
        line(
            &mut text,
            format_args!(
                "  CRL of {} number {}, {} entries, until {}",
                crl.issuer, crl.number, crl.entries, crl.next_update
            ),
        );
    }
    if !done.crls.is_empty() || !done.republished.is_empty() {
        text.push_str(&republished_text(&done.republished));
    }
    let json = json!({
        "revoked": done.revoked, "already": done.already, "crls": done.crls, "republished": republished_json(&done.republished),
    });
    Ok(Report {
        json,
        text,
        exit: republished_exit(&done.republished),
    })
}
