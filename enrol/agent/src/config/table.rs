//! The table of the agent's settings and the command line made from it.

use clap::Command;
use gapura_settings::{Setting, command as flags, rows};

/// Every setting; CONTRACT section 8.
pub(super) const SETTINGS: &[Setting] = &[
    rows::CONFIG,
    Setting::one(
        "ca",
        "URL",
        "Where the CA server is, https://HOST:PORT [default: what the join token says]",
    ),
    Setting::one(
        "mesh-dir",
        "DIR",
        "The directory to write, for a gateway or sidecar of this host to read",
    ),
    Setting::one(
        "state-dir",
        "DIR",
        "This agent's own folder: a key whose certificate has not come yet waits here",
    ),
    Setting::one(
        "token-file",
        "FILE",
        "The join token of `gapura-pki token`; read when there is no certificate, or one that cannot be renewed",
    ),
    Setting::one(
        "news-alarm",
        "TIME",
        "Raise the alarm `news` when nothing was heard of the CA for so long [default: 1h]",
    ),
    Setting::one(
        "exec",
        "COMMAND",
        "Run this after each new generation; names are in its environment, no shell is",
    ),
    Setting::switch("once", "Do what is due now, say what came of it, and exit"),
    Setting::one(
        "admin",
        "ADDR",
        "Where the operator's side listens, or unix:PATH [default: 127.0.0.1:29901]",
    ),
    rows::ADMIN_TOKEN_FILE,
    rows::HEALTH,
    rows::CHECK,
];

const ABOUT: &str = "On each host: gets this host's certificate and the mesh's roots and CRLs from the CA server, and keeps them fresh.";

const EXAMPLE: &str = "Example:
  gapura-agent --ca https://ca.mylab.internal:7443 --mesh-dir /etc/gapura/lab-reporting --state-dir /var/lib/gapura-agent --token-file /root/join";

pub(super) fn command() -> Command {
    flags(
        "gapura-agent",
        env!("CARGO_PKG_VERSION"),
        ABOUT,
        EXAMPLE,
        SETTINGS,
    )
    .subcommand(
        Command::new("status")
            .about("Ask the running agent what it holds and when it last heard of the CA; exit 1 if it has an alarm")
            .after_help("Example:\n  gapura-agent status --admin 127.0.0.1:29901"),
    )
    .subcommand(
        Command::new("healthcheck")
            .about("Ask the running agent's admin side; exit 0 if it is ready, else 1")
            .after_help("Example:\n  gapura-agent healthcheck --admin 127.0.0.1:29901"),
    )
}
