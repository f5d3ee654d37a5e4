//! The program around the library: flags, signals, exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab_reporting::{Config, Database, Listen, Log};
use tokio::signal::unix::{SignalKind, signal};

/// A sample plugin behind Gapura: the lab reports of many companies, in one SQLite file.
///
/// It believes `X-Company-Id` as it stands, so listen where only the sidecar can reach it.
#[derive(Parser)]
#[command(name = "lab-reporting", version)]
struct Flags {
    /// Where to listen: ADDRESS:PORT (port 0 takes a free one) or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:5000")]
    listen: Listen,
    /// The SQLite file that keeps the reports; without it they live in memory only.
    #[arg(long)]
    database: Option<PathBuf>,
    /// Adds a few reports of companies 42 and 7, to try things with.
    #[arg(long)]
    seed: bool,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What to do instead of serving.
#[derive(Subcommand)]
enum Instead {
    /// Ask the service that runs at --listen whether it is well; exit 0 or 1.
    Healthcheck,
}

#[allow(clippy::print_stderr)] // standard error is where a person looks when a program did not start
fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match flags.instead {
        Some(Instead::Healthcheck) => lab_reporting::health::ask(&flags.listen)
            .map_err(|why| format!("{} is not well: {why}", flags.listen).into()),
        None => serve(flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("lab-reporting: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: Flags) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let log = Log::stdout()?;
    let database = flags.database.map_or(Database::Memory, Database::File);
    runtime.block_on(async {
        let (mut terminated, mut interrupted) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let mut told = async move || {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        };
        let running = lab_reporting::start(Config {
            listen: flags.listen,
            database,
            seed: flags.seed,
            log,
        })
        .await?;
        told().await;
        tokio::select! {
            () = running.stop() => {}
            () = told() => {} // asked a second time: at once
        }
        Ok(())
    })
}
