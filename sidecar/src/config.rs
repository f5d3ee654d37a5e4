//! The sidecar's settings: from flags, environment and file to one checked value.
//!
//! In: arguments, an environment as a map, and the file that `--config` names; no other file is opened here. Out: an
//! [`Invocation`], what the program is to do, or all mistakes at once, each where it was made. What depends on the sidecar's own
//! certificate, such as whether `--allow` speaks of its trust domain, is judged where the certificate is read.

mod plugin;
mod show;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use gapura_mesh::config::{
    AccessLog, AdminAddress, Layers, NotStarted, Origin, address, duration, exposed, given, state,
    workers,
};
use gapura_mesh::identity::IdPattern;
use gapura_mesh::path::CanonicalPath;
use gapura_mesh::program::Drain;
use serde_json::{Value, json};

use crate::forward;
use crate::sanitise::TenantRule;

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Serve.
    Run(Box<Config>),
    /// Serve, with the plugin as a part of this.
    Wrap {
        /// How to serve.
        config: Box<Config>,
        /// The plugin's command.
        command: Vec<OsString>,
    },
    /// Load everything, say everything that is wrong, serve nothing.
    Check(Box<Config>),
    /// Ask the running program whether it is well.
    Healthcheck {
        /// Where its admin side listens.
        admin: AdminAddress,
        /// The file that holds the admin side's token.
        token_file: Option<PathBuf>,
    },
}

/// Everything a running sidecar is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where gateways connect.
    pub(crate) listen: SocketAddr,
    /// Where the plugin is.
    pub(crate) plugin: forward::Address,
    /// The sidecar's identity and trust.
    pub(crate) mesh_dir: PathBuf,
    /// Whether it may run without revocation lists.
    pub(crate) no_crl: bool,
    /// Where it is kept what must outlast a restart.
    pub(crate) state_dir: Option<PathBuf>,
    /// Issuers whose CRLs may begin anew.
    pub(crate) accept_crl_reset: Vec<String>,
    /// Who may use the plugin; empty: every gateway of its own trust domain.
    pub(crate) allow: Vec<IdPattern>,
    /// Which requests may come without a tenant.
    pub(crate) tenants: TenantRule,
    /// The operator's side.
    pub(crate) admin: AdminAddress,
    /// What the operator has to know; required where others could connect.
    pub(crate) admin_token_file: Option<PathBuf>,
    /// A further listener for a kubelet or Prometheus.
    pub(crate) health: Option<SocketAddr>,
    /// Worker threads.
    pub(crate) workers: usize,
    /// Which finished requests leave a line.
    pub(crate) access_log: AccessLog,
    /// How the program ends.
    pub drain: Drain,
    shown: BTreeMap<&'static str, (Value, Origin)>,
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 19443);

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 19901);

const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

const WORKERS_MAX: usize = 64;

/// What a gateway asks a plugin for by itself (CONTRACT section 4, rule 5).
const PROBE_PATHS: [&str; 3] = ["/healthz", "/version", "/openapi.json"];

impl Invocation {
    /// Reads the arguments (the program's name first) over `env`.
    ///
    /// # Errors
    /// [`NotStarted`]: help was asked for, the arguments are unknown, or every mistake in the settings.
    pub fn load(
        args: impl IntoIterator<Item = OsString>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, NotStarted> {
        let matches = table::command().try_get_matches_from(args).map_err(|err| {
            let text = err.to_string();
            if err.use_stderr() {
                NotStarted::Usage(text)
            } else {
                NotStarted::Shown(text)
            }
        })?;
        let (name, inner) = matches.subcommand().unwrap_or(("", &matches));
        let mut layers = Layers::new(table::SETTINGS, &[], given(inner, table::SETTINGS), env);
        let invocation = if name == "healthcheck" {
            read_admin(&mut layers)
                .map(|(admin, token_file)| Self::Healthcheck { admin, token_file })
        } else {
            let check = layers.switch("check");
            let config = Config::read(&mut layers).map(Box::new);
            config.map(|config| match name {
                _ if check => Self::Check(config),
                "run" => Self::Wrap {
                    config,
                    command: table::wrapped(inner),
                },
                _ => Self::Run(config),
            })
        };
        let problems = layers.into_problems();
        match invocation {
            Some(invocation) if problems.is_empty() => Ok(invocation),
            _ => Err(NotStarted::Problems(problems)),
        }
    }
}

impl Config {
    /// The effective settings and where each came from.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let shown = self.shown.iter().map(|(name, (value, from))| {
            let value = json!({ "value": value, "from": from.to_string() });
            ((*name).to_owned(), value)
        });
        Value::Object(shown.collect())
    }

    fn read(layers: &mut Layers) -> Option<Self> {
        let listen = layers.parse("listen", address).unwrap_or(LISTEN);
        let anywhere = layers.switch("unsafe-plugin-address");
        if layers.one("plugin").is_none() {
            let message = "is missing: where the plugin is, such as http://127.0.0.1:19080 or unix:/run/plugin.sock";
            layers.problem("plugin", &Origin::Default, message);
        }
        let plugin = layers.parse("plugin", |text| plugin::parse(text, anywhere));
        if layers.one("mesh-dir").is_none() {
            let message =
                "is missing: the directory that `gapura-pki issue plugin NAME --out DIR` wrote";
            layers.problem("mesh-dir", &Origin::Default, message);
        }
        let allow = layers.parse_all("allow", |text| {
            text.parse::<IdPattern>().map_err(|err| err.to_string())
        });
        let admin = read_admin(layers);
        if let Some((AdminAddress::Tcp(admin), None)) = &admin
            && exposed(*admin)
        {
            let origin = layers.origin("admin");
            let message = "others could connect there; give --admin-token-file, a loopback address or unix:PATH";
            layers.problem("admin", &origin, message);
        }
        let tenants = read_tenants(layers);
        let health = layers.parse("health", address);
        let workers = layers.parse("workers", workers).unwrap_or_else(cores);
        let access_log = layers
            .parse("access-log", AccessLog::parse)
            .unwrap_or(AccessLog::On);
        let delay = layers
            .parse("drain-delay", duration)
            .unwrap_or(Duration::ZERO);
        let timeout = layers
            .parse("drain-timeout", duration)
            .unwrap_or(DRAIN_TIMEOUT);
        let no_crl = layers.switch("no-crl");
        let (state_dir, accept_crl_reset) = state(layers);
        let (admin, admin_token_file) = admin?;
        let mut config = Self {
            listen,
            plugin: plugin?,
            mesh_dir: layers.one("mesh-dir")?.text.into(),
            no_crl,
            state_dir,
            accept_crl_reset,
            allow,
            tenants,
            admin,
            admin_token_file,
            health,
            workers,
            access_log,
            drain: Drain { delay, timeout },
            shown: BTreeMap::new(),
        };
        config.shown = config.effective(layers);
        Some(config)
    }
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

fn read_admin(layers: &mut Layers) -> Option<(AdminAddress, Option<PathBuf>)> {
    let admin = match layers.one("admin") {
        None => AdminAddress::Tcp(ADMIN),
        Some(_) => layers.parse("admin", AdminAddress::parse)?,
    };
    Some((
        admin,
        layers
            .one("admin-token-file")
            .map(|found| found.text.into()),
    ))
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

fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKERS_MAX)
}

#[cfg(test)]
mod tests;
