//! The table of the sidecar's settings and the command line made from it.

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command, value_parser};
use gapura_settings::{Setting, command as flags, rows};

/// Every setting; CONTRACT section 8.
pub(super) const SETTINGS: &[Setting] = &[
    rows::CONFIG,
    Setting::many(
        "listen",
        "ADDR",
        "Where gateways connect, with mTLS: one address, and unix:PATH beside it; repeatable [default: 0.0.0.0:19443]",
    ),
    Setting::one(
        "plugin",
        "URL",
        "Where the plugin is: http://127.0.0.1:PORT, h2c://127.0.0.1:PORT or unix:PATH",
    ),
    Setting::switch(
        "unsafe-plugin-address",
        "Let --plugin name another machine, where anybody on the way can speak as the sidecar",
    ),
    Setting::one(
        "mesh-dir",
        "DIR",
        "The sidecar's certificate, key, roots and revocation lists, as `gapura-pki issue` writes them",
    ),
    rows::STATE_DIR,
    rows::ACCEPT_CRL_RESET,
    Setting::switch(
        "no-crl",
        "Start without a revocation list: a revoked gateway is then still let in",
    ),
    Setting::many(
        "allow",
        "ID",
        "Who may use the plugin, spiffe://DOMAIN/gateway/NAME or /*; repeatable [default: gateway/*]",
    )
    .never_empty(),
    Setting::switch(
        "allow-no-tenant",
        "Let requests without a company through, where no token was verified",
    ),
    Setting::many(
        "public-path",
        "PREFIX",
        "Narrow that to paths below this; repeatable",
    )
    .filled(),
    Setting::many(
        "probe-path",
        "PATH",
        "What the gateway may ask for by itself; repeatable [default: /healthz, /version, /openapi.json]",
    )
    .filled(),
    Setting::one(
        "admin",
        "ADDR",
        "Where the operator's side listens, or unix:PATH [default: 127.0.0.1:19901]",
    ),
    rows::ADMIN_TOKEN_FILE,
    rows::HEALTH,
    rows::WORKERS,
    rows::ACCESS_LOG,
    rows::NO_TAP,
    Setting::one(
        "drain-delay",
        "TIME",
        "Keep accepting so long after SIGTERM, for gateways that are slow to look away [default: 0s]",
    ),
    rows::DRAIN_TIMEOUT,
    rows::TAKEOVER,
    rows::CHECK,
];

const ABOUT: &str =
    "Beside one plugin: lets in the gateway alone and hands on headers the plugin can trust.";

const EXAMPLE: &str = "Example:
  gapura-sidecar --listen 0.0.0.0:19443 --plugin http://127.0.0.1:19080 --mesh-dir mesh/lab-reporting";

pub(super) fn command() -> Command {
    let wrapped = Arg::new(COMMAND)
        .num_args(1..)
        .required(true)
        .last(true)
        .value_parser(value_parser!(OsString));
    flags("gapura-sidecar", env!("CARGO_PKG_VERSION"), ABOUT, EXAMPLE, SETTINGS)
        .subcommand(
            Command::new("healthcheck")
                .about("Ask the running sidecar's admin side; exit 0 if it is ready, else 1")
                .after_help("Example:\n  gapura-sidecar healthcheck --admin 127.0.0.1:19901"),
        )
        .subcommand(
            Command::new("run")
                .about("Serve, and start the plugin once ready; end with it and give its exit code")
                .after_help(
                    "Signals are passed on; at SIGTERM the sidecar drains first, then the plugin is told.\n\nExample:\n  gapura-sidecar run --plugin http://127.0.0.1:3000 --mesh-dir mesh/orders -- node server.js",
                )
                .arg(wrapped.help("The plugin's command and its arguments")),
        )
}

/// The plugin's command as it stood after `--`.
pub(super) fn wrapped(matches: &ArgMatches) -> Vec<OsString> {
    matches
        .get_many::<OsString>(COMMAND)
        .map(|words| words.cloned().collect())
        .unwrap_or_default()
}

const COMMAND: &str = "COMMAND";
