//! `check`: the doctor.

use std::path::PathBuf;

use clap::Args;
use gapura_pki::check::Level;
use gapura_pki::timestamp::for_people;
use gapura_pki::{Error, Pki};
use serde_json::json;

use crate::commands::report::{Report, line};

/// Look at everything and say what must be done: exit 0 nothing, 3 soon, 4 now.
///
/// Certificates, CAs and CRLs warn when a third of their life is left and are critical at a tenth.
/// Also: files and their modes, mesh directories as gateway and sidecar would read them,
/// revocations that are on no CRL, and what running programs show (--endpoint).
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki check
  gapura-pki check --endpoint 127.0.0.1:19443 --json
  gapura-pki check --metrics /var/lib/node_exporter/gapura_pki.prom")]
pub(crate) struct Arguments {
    /// A sidecar or gateway whose certificate is to be compared with what was issued (may be
    /// repeated).
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Vec<String>,
    /// Write what was found to this file too, as the textfile collector of the node exporter reads
    /// it.
    #[arg(long, env = "GAPURA_PKI_METRICS", value_name = "FILE")]
    metrics: Option<PathBuf>,
}

pub(crate) fn run(pki: &Pki, arguments: &Arguments) -> Result<Report, Error> {
    let checkup = pki.check(&arguments.endpoint)?;
    if let Some(file) = &arguments.metrics {
        checkup.write_metrics(file, pki.now())?;
    }
    let (status, exit) = match checkup.worst() {
        None | Some(Level::Info) => ("ok", 0),
        Some(Level::Warning) => ("warning", 3),
        Some(Level::Critical) => ("critical", 4),
    };
    let mut text = String::new();
    for finding in &checkup.findings {
        let level = match finding.level {
            Level::Info => "info",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
        };
        line(
            &mut text,
            format_args!(
                "{level:<8} {:<14} {}: {}; wanted: {}",
                finding.id, finding.object, finding.found, finding.want
            ),
        );
        line(
            &mut text,
            format_args!("         {:<14} {}", "", finding.fix),
        );
    }
    line(
        &mut text,
        format_args!("{status}: {} leaves alive", checkup.live_leaves),
    );
    if let Some((name, end)) = &checkup.next_expiry {
        let left = end.since(pki.now());
        line(
            &mut text,
            format_args!("  ends first: {name} at {end}, in {}", for_people(left)),
        );
    }
    let next = checkup
        .next_expiry
        .as_ref()
        .map(|(name, end)| json!({ "name": name, "not_after": end }));
    let json = json!({ "status": status, "findings": checkup.findings, "next_expiry": next, "live_leaves": checkup.live_leaves });
    Ok(Report { json, text, exit })
}
