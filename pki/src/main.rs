//! `gapura-pki`: flags in, one report out, exit codes. What the commands do is in `commands/` and
//! the library.

mod commands;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::commands::{Command, Global};

/// The certificates of a Gapura mesh: issues, renews, rotates, revokes and shows them.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 warning, 4 critical, 5 refused
/// by a gate, 6 locked by another run, 7 passphrase missing or wrong, 8 self-check failed (nothing
/// was released).
#[derive(Parser)]
#[command(name = "gapura-pki", version, after_help = commands::FIRST_DAY)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = Cli::parse_from(arguments);
    let json = cli.global.json;
    let name = cli.command.name();
    let (text, exit) = match commands::run(cli.global, cli.command) {
        Ok(report) if json => (format!("{}\n", report.to_json(name)), report.exit),
        Ok(report) => (report.text, report.exit),
        Err(error) => {
            let exit = error.exit_code();
            // A reader that went away must not turn one failure into another.
            let _ = writeln!(std::io::stderr(), "gapura-pki {name}: {error}");
            (
                if json {
                    format!("{}\n", commands::error_to_json(name, &error))
                } else {
                    String::new()
                },
                exit,
            )
        }
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::from(exit)
}
