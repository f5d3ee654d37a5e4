//! `lint FILE…`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gapura_pki::Error;
use gapura_pki::lint::{Finding, lint};
use gapura_pki::timestamp::Timestamp;
use gapura_protocol::clock::Clock;
use serde_json::json;

use crate::commands::issue::read;
use crate::commands::report::{Report, line};

/// Look for what is wrong or unwise in certificates and CRLs.
///
/// E… is refused by this mesh or by OpenSSL's strict mode (exit 4), W… works and shouldn't be done
/// (exit 3).
#[derive(Args)]
#[command(after_help = "Example:
  gapura-pki lint /etc/gapura/edge/cert.pem /etc/gapura/edge/crl.pem")]
pub(crate) struct Arguments {
    /// The files (- for stdin).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show errors only, or warnings as well.
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    level: Level,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report, Error> {
    let now = Timestamp::now(&Clock::system());
    let (mut text, mut list, mut exit) = (String::new(), Vec::new(), 0);
    for file in &arguments.files {
        let found = lint(&read(file)?, now)
            .map_err(|why| Error::Failed(format!("{}: {why}", file.display())))?;
        let shown: Vec<&Finding> = found
            .iter()
            .filter(|finding| finding.is_error() || arguments.level == Level::Warn)
            .collect();
        for finding in &shown {
            exit = exit.max(if finding.is_error() { 4 } else { 3 });
            line(
                &mut text,
                format_args!(
                    "{} item {}: {} {}",
                    file.display(),
                    finding.item,
                    finding.code,
                    finding.message
                ),
            );
            list.push(json!({ "file": file, "item": finding.item, "code": finding.code, "message": finding.message }));
        }
        if shown.is_empty() {
            line(&mut text, format_args!("{}: clean", file.display()));
        }
    }
    Ok(Report {
        json: json!({ "findings": list }),
        text,
        exit,
    })
}
