//! The sidecar's settings: from flags, environment and file to one checked value.
//!
//! In: arguments, an environment as a map, and the file that `--config` names; no other file is
//! opened here. Out: an [`Invocation`], what the program is to do, or all mistakes at once, each
//! where it was made. What depends on the sidecar's own certificate, such as whether `--allow`
//! speaks of its trust domain, is judged where the certificate is read.

mod plugin;
mod show;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use gapura_protocol::identity::IdPattern;
use gapura_protocol::path::CanonicalPath;
use gapura_settings::{
    Common, Effective, Layers, OTEL_SECRETS, Origin, Setting, Settings, address,
};
use serde_json::Value;

use crate::forward;
use crate::sanitise::TenantRule;

/// What the program is asked to do.
pub type Invocation = gapura_settings::Invocation<Config>;

/// To serve, with the plugin as a part of this.
#[derive(Debug)]
pub struct Wrapped {
    /// How to serve.
    pub(crate) config: Box<Config>,
    /// The plugin's command.
    pub(crate) command: Vec<OsString>,
}

/// Everything a running sidecar is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the gateway is told too.
    pub(crate) common: Common,
    /// Where the plugin is.
    pub(crate) plugin: forward::Address,
    /// Who may use the plugin; empty: every gateway of its own trust domain.
    pub(crate) allow: Vec<IdPattern>,
    /// Which requests may come without a tenant.
    pub(crate) tenants: TenantRule,
    shown: Effective,
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 19443);

/// What a gateway asks a plugin for by itself (CONTRACT section 4, rule 5).
const PROBE_PATHS: [&str; 3] = ["/healthz", "/version", "/openapi.json"];

impl Settings for Config {
    type Own = Wrapped;

    const TABLE: &'static [Setting] = table::SETTINGS;

    const STRUCTURED: &'static [&'static str] = &[];

    const SECRETS: &'static [&'static str] = &OTEL_SECRETS;

    const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19901);

    fn command() -> Command {
        table::command()
    }

    fn read(layers: &mut Layers, env: &BTreeMap<String, String>) -> Option<Self> {
        let (listen, sockets) = read_listen(layers);
        let anywhere = layers.switch("unsafe-plugin-address");
        if layers.one("plugin").is_none() {
            let message = "is missing: where the plugin is, such as http://127.0.0.1:19080 or unix:/run/plugin.sock";
            layers.problem("plugin", &Origin::Default, message);
        }
        let plugin = layers.parse("plugin", |text| plugin::parse(text, anywhere));
        let allow = layers.parse_all("allow", |text| {
            text.parse::<IdPattern>().map_err(|err| err.to_string())
        });
        let tenants = read_tenants(layers);
        let common = Common::read(layers, env, listen, "plugin", Self::ADMIN);
        let common = common.map(|common| Common { sockets, ..common });
        let mut config = Self {
            common: common?,
            plugin: plugin?,
            allow,
            tenants,
            shown: Effective::default(),
        };
        config.shown = config.effective(layers);
        Some(config)
    }

    /// `run` is the only one.
    fn subcommand(
        _: &str,
        matches: &ArgMatches,
        layers: &mut Layers,
        env: &BTreeMap<String, String>,
    ) -> Option<Invocation> {
        if let Some(found) = layers.one("takeover") {
            let message = "can't be given with run: the plugin that this starts ends with it; start the plugin by itself";
            layers.problem("takeover", &found.origin, message);
        }
        Some(match Invocation::serve(layers, env)? {
            Invocation::Run(config) => Invocation::Own(Wrapped {
                config,
                command: table::wrapped(matches),
            }),
            other => other,
        })
    }
}

impl Config {
    /// The effective settings and where each came from.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        self.shown.to_json()
    }
}

/// The one port, and the sockets beside it.
fn read_listen(layers: &mut Layers) -> (SocketAddr, Vec<PathBuf>) {
    let mut port = None;
    let mut sockets = Vec::new();
    for found in layers.all("listen").to_vec() {
        let wrong = match found.text.strip_prefix("unix:").map(socket) {
            Some(Ok(path)) if sockets.contains(&path) => "names one socket twice".to_owned(),
            Some(Ok(path)) => {
                sockets.push(path);
                continue;
            }
            Some(Err(wrong)) => wrong,
            None => match address(&found.text) {
                Ok(at) if port.is_none() => {
                    port = Some(at);
                    continue;
                }
                Ok(_) => "names a second address; give one, and unix:PATH beside it".to_owned(),
                Err(wrong) => wrong,
            },
        };
        layers.problem("listen", &found.origin, wrong);
    }
    (port.unwrap_or(LISTEN), sockets)
}

/// The path of a socket that a gateway can be told of.
fn socket(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("needs an absolute path after unix:, such as /run/gapura/lab.sock".to_owned());
    }
    // The kernel's limit.
    if path.len() > 107 {
        return Err(
            "names a socket whose path is longer than 107 bytes; choose a shorter one".to_owned(),
        );
    }
    Ok(path.into())
}

fn read_tenants(layers: &mut Layers) -> TenantRule {
    let allow_none = layers.switch("allow-no-tenant");
    let public_paths = layers.parse_all("public-path", prefix);
    if !public_paths.is_empty() && !allow_none {
        let origin = layers.origin("public-path");
        layers.problem(
            "public-path",
            &origin,
            "narrows --allow-no-tenant and says nothing without it; give both",
        );
    }
    let mut probe_paths = layers.parse_all("probe-path", path);
    if layers.all("probe-path").is_empty() {
        probe_paths = PROBE_PATHS.map(str::to_owned).to_vec();
    }
    TenantRule {
        allow_none,
        public_paths,
        probe_paths,
    }
}

/// A path as requests carry it: compared byte by byte with their canonical one.
fn path(text: &str) -> Result<String, String> {
    let canonical =
        CanonicalPath::parse(text.as_bytes()).map_err(|err| format!("is not a path: {err}"))?;
    Ok(canonical.as_str().to_owned())
}

/// A path prefix of whole segments.
fn prefix(text: &str) -> Result<String, String> {
    let path = path(text)?;
    Ok(path
        .strip_suffix('/')
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or(&path)
        .to_owned())
}

#[cfg(test)]
mod tests;
