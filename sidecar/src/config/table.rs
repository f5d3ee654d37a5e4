//! The table of the sidecar's settings, the command line made from it, and how the effective values are shown.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use gapura_mesh::config::{Kind, Layers, Origin, Setting, command as flags, switched};
use serde_json::{Value, json};

use super::Config;
use crate::forward::Address;

/// Every setting; CONTRACT section 8.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::one(
        "config",
        "FILE",
        "A JSON file with these settings under the same names; a flag or variable beats it",
    ),
    Setting::one(
        "listen",
        "ADDR",
        "Where gateways connect, with mTLS [default: 0.0.0.0:19443]",
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
    ),
    Setting::many(
        "probe-path",
        "PATH",
        "What the gateway may ask for by itself; repeatable [default: /healthz, /version, /openapi.json]",
    ),
    Setting::one(
        "admin",
        "ADDR",
        "Where the operator's side listens, or unix:PATH [default: 127.0.0.1:19901]",
    ),
    Setting::one(
        "admin-token-file",
        "FILE",
        "The token the operator's side asks for; required beyond loopback",
    ),
    Setting::one(
        "health",
        "ADDR",
        "A further listener with /healthz, /readyz and /metrics only [default: none]",
    ),
    Setting::one(
        "workers",
        "N",
        "Worker threads, 1 to 64 [default: one a core]",
    ),
    Setting::one(
        "access-log",
        "WHICH",
        "Which requests leave a line: on, errors or off [default: on]",
    ),
    Setting::one(
        "drain-delay",
        "TIME",
        "Keep accepting so long after SIGTERM, for gateways that are slow to look away [default: 0s]",
    ),
    Setting::one(
        "drain-timeout",
        "TIME",
        "Give requests in flight so long to finish [default: 30s]",
    ),
    Setting::switch(
        "check",
        "Load everything, say everything that is wrong, serve nothing",
    ),
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

/// Every effective setting and where it came from.
pub(super) fn show(config: &Config, layers: &Layers) -> BTreeMap<&'static str, (Value, Origin)> {
    let mut shown = BTreeMap::new();
    for setting in SETTINGS
        .iter()
        .filter(|setting| !matches!(setting.name, "check" | "config"))
    {
        let found = layers.all(setting.name);
        let value = match setting.kind {
            Kind::Many(_) => found
                .iter()
                .map(|found| Value::from(found.text.as_str()))
                .collect(),
            Kind::One(_) => found
                .first()
                .map_or(Value::Null, |found| found.text.as_str().into()),
            Kind::Switch => Value::Bool(
                found
                    .first()
                    .is_some_and(|found| switched(&found.text) == Ok(true)),
            ),
        };
        shown.insert(setting.name, (value, layers.origin(setting.name)));
    }
    let mut effective =
        |name: &'static str, value: Value| shown.insert(name, (value, layers.origin(name)));
    effective("listen", config.listen.to_string().into());
    effective("plugin", plugin(&config.plugin).into());
    effective("admin", config.admin.to_string().into());
    effective("workers", config.workers.into());
    effective("access-log", config.access_log.as_str().into());
    effective("public-path", json!(config.tenants.public_paths));
    effective("probe-path", json!(config.tenants.probe_paths));
    effective("drain-delay", seconds(config.drain.delay));
    effective("drain-timeout", seconds(config.drain.timeout));
    if config.allow.is_empty() {
        effective("allow", json!(["gateway/*"]));
    }
    shown
}

fn plugin(address: &Address) -> String {
    match address {
        Address::Http(tcp) => format!("http://{}", plain(&tcp.host, tcp.port)),
        Address::H2c(tcp) => format!("h2c://{}", plain(&tcp.host, tcp.port)),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn plain(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn seconds(duration: Duration) -> Value {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
    .into()
}
