//! The gateway's settings: from flags, environment and file to one checked value.
//!
//! In: arguments, an environment as a map, and the file that `--config` names; no other file is opened here. Out: an
//! [`Invocation`], what the program is to do with everything it needs for it, or all mistakes at once, each where it was made.
//! A [`Config`] can be shown whole: it holds the paths of secrets, and of `JWT_SECRET` only that it is set.

mod entry;
mod issuers;
mod show;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use gapura_mesh::config::{
    AccessLog, AdminAddress, Layers, NotStarted, Origin, address, duration, exposed, given, state,
    workers,
};
use gapura_mesh::identity::Name;
use gapura_mesh::program::Drain;
use gapura_mesh::tls::clients::ClientAuth;
use http::Method;
use serde_json::{Value, json};

use crate::authenticate;
use crate::cidr::Cidr;
use crate::registry::Signing;
use crate::sign::SignatureForm;
use crate::standing;

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Serve.
    Run(Box<Config>),
    /// Load everything, say everything that is wrong, serve nothing.
    Check(Box<Config>),
    /// Say which plugin would serve a request, and why.
    Explain(Box<Explain>),
    /// Print the key by which a plugin verifies `X-Internal-Signature`.
    SigningKey {
        /// The plugin.
        plugin: Name,
        /// The file that holds the gateway's secret.
        secret_file: PathBuf,
    },
    /// Ask the running program whether it is well.
    Healthcheck {
        /// Where its admin side listens.
        admin: AdminAddress,
        /// The file that holds the admin side's token.
        token_file: Option<PathBuf>,
    },
}

/// Everything a running gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public side.
    pub(crate) listen: SocketAddr,
    /// Its certificate; plain HTTP without.
    pub(crate) tls: Option<TlsFiles>,
    /// Whose certificates clients may show; `None`: they are not asked.
    pub(crate) clients: Option<ClientAuth>,
    /// The registry.
    pub(crate) plugin_dir: PathBuf,
    /// Where a copy of the files in force is kept.
    pub(crate) last_good: Option<PathBuf>,
    /// The gateway's identity and trust.
    pub(crate) mesh_dir: PathBuf,
    /// Whether it may run without revocation lists.
    pub(crate) no_crl: bool,
    /// Where it is kept what must outlast a restart.
    pub(crate) state_dir: Option<PathBuf>,
    /// Issuers whose CRLs may begin anew.
    pub(crate) accept_crl_reset: Vec<String>,
    /// The operator's side.
    pub(crate) admin: AdminAddress,
    /// What the operator has to know; required where others could connect.
    pub(crate) admin_token_file: Option<PathBuf>,
    /// A further listener for a kubelet or Prometheus.
    pub(crate) health: Option<SocketAddr>,
    /// Whose tokens are taken. Empty: only public plugins can be served.
    pub(crate) auth: authenticate::Settings,
    /// Who is no longer welcome.
    pub(crate) standing: standing::Settings,
    /// The names clients may call the gateway by, in lower case; empty: any.
    pub(crate) public_hosts: Vec<String>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// What requests to plain http upstreams are signed with.
    pub(crate) signing_secret_file: Option<PathBuf>,
    /// In which form.
    pub(crate) signature: SignatureForm,
    /// The limit of request bodies for plugins that set none.
    pub(crate) max_body: Option<u64>,
    /// Worker threads.
    pub(crate) workers: usize,
    /// Which finished requests leave a line.
    pub(crate) access_log: AccessLog,
    /// Whether an event of its own names who acted for whom.
    pub(crate) log_actors: bool,
    /// How the program ends.
    pub(crate) drain: Drain,
    /// What is allowed and hardly meant, a sentence each.
    pub(crate) warnings: Vec<String>,
    shown: BTreeMap<&'static str, Shown>,
}

/// A setting as the admin side and `--check` show it.
#[derive(Clone, Debug)]
struct Shown {
    value: Value,
    from: Origin,
}

/// The certificate of the public side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// What `explain` needs: less than a running gateway, so that it can be asked anywhere.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The request's method.
    pub(crate) method: Method,
    /// The request's target: a path, perhaps with a query.
    pub(crate) target: String,
    /// A file that holds the caller's token.
    pub(crate) token_file: Option<PathBuf>,
    /// The registry.
    pub(crate) plugin_dir: PathBuf,
    /// Tells the gateway's own trust domain.
    pub(crate) mesh_dir: Option<PathBuf>,
    /// Whose tokens are taken.
    pub(crate) auth: authenticate::Settings,
    /// Whether requests to plain http upstreams could be signed.
    pub(crate) signing: Signing,
    /// The limit of request bodies for plugins that set none.
    pub(crate) max_body: Option<u64>,
    /// Who is no longer welcome.
    pub(crate) standing: standing::Settings,
    /// The names clients may call the gateway by; empty: any.
    pub(crate) public_hosts: Vec<String>,
    /// The host the request is for.
    pub(crate) host: Option<String>,
    /// The origin of the page that sends it.
    pub(crate) origin: Option<String>,
    /// The client's address.
    pub(crate) client: std::net::IpAddr,
    /// Whether the answer is one JSON object.
    pub(crate) json: bool,
}

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
        let (name, inner) = matches.subcommand().unwrap_or(("run", &matches));
        let mut layers = Layers::new(
            table::SETTINGS,
            &["issuers"],
            given(inner, table::SETTINGS),
            env,
        );
        let invocation = match name {
            "explain" => Explain::read(&mut layers, env, inner)
                .map(|explain| Self::Explain(Box::new(explain))),
            "signing-key" => read_signing_key(&mut layers, inner),
            "healthcheck" => read_admin(&mut layers)
                .map(|(admin, token_file)| Self::Healthcheck { admin, token_file }),
            _ => {
                let check = layers.switch("check");
                let config = Config::read(&mut layers, env).map(Box::new);
                config.map(|config| {
                    if check {
                        Self::Check(config)
                    } else {
                        Self::Run(config)
                    }
                })
            }
        };
        let problems = layers.into_problems();
        match invocation {
            Some(invocation) if problems.is_empty() => Ok(invocation),
            _ => Err(NotStarted::Problems(problems)),
        }
    }
}

impl Config {
    /// The effective settings and where each came from, without secrets.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let shown = self.shown.iter().map(|(name, shown)| {
            let value = json!({ "value": shown.value, "from": shown.from.to_string() });
            ((*name).to_owned(), value)
        });
        Value::Object(shown.collect())
    }

    fn read(layers: &mut Layers, env: &BTreeMap<String, String>) -> Option<Self> {
        let mut warnings = Vec::new();
        let listen = layers.parse("listen", address).unwrap_or(LISTEN);
        let tls = read_tls(layers);
        let clients = read_clients(layers);
        let is_plain = layers.one("tls-cert").is_none() && layers.one("tls-key").is_none();
        if is_plain && exposed(listen) && !layers.switch("insecure-listen") {
            let origin = layers.origin("listen");
            let message = format!(
                "{listen} would be plain HTTP beyond this machine; give --tls-cert and --tls-key, listen on 127.0.0.1, or say --insecure-listen"
            );
            layers.problem("listen", &origin, message);
        }
        let plugin_dir = required(
            layers,
            "plugin-dir",
            "the folder of plugin files, such as --plugin-dir plugins.d",
        );
        let mesh_dir = required(
            layers,
            "mesh-dir",
            "the directory that `gapura-pki issue gateway NAME --out DIR` wrote",
        );
        let admin = read_admin(layers);
        if let Some((AdminAddress::Tcp(admin), None)) = &admin
            && exposed(*admin)
        {
            let origin = layers.origin("admin");
            let message = "others could connect there; give --admin-token-file, a loopback address or unix:PATH";
            layers.problem("admin", &origin, message);
        }
        let health = layers.parse("health", address);
        let auth = read_auth(layers, env, &mut warnings);
        let public_hosts = layers.parse_all("public-host", host);
        let trusted_proxies = layers.parse_all("trusted-proxy", Cidr::parse);
        warnings.extend(trusted_proxies.iter().filter(|cidr| cidr.is_everyone()).map(|cidr| {
            format!("--trusted-proxy {cidr} believes X-Forwarded-For from everyone: callers can choose the address they are limited by")
        }));
        let max_body = layers.parse("max-body-bytes", whole);
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
        let path = |name: &str| layers.one(name).map(|found| PathBuf::from(found.text));
        let (last_good, signing_secret_file) = (path("last-good"), path("signing-secret-file"));
        let standing = read_standing(layers);
        let signature = layers.parse("signature", str::parse);
        let no_crl = layers.switch("no-crl");
        let (state_dir, accept_crl_reset) = state(layers);
        let (admin, admin_token_file) = admin?;
        let mut config = Self {
            listen,
            tls,
            clients,
            plugin_dir: plugin_dir?,
            last_good,
            mesh_dir: mesh_dir?,
            no_crl,
            state_dir,
            accept_crl_reset,
            admin,
            admin_token_file,
            health,
            auth: auth?,
            standing,
            public_hosts,
            trusted_proxies,
            signing_secret_file,
            signature: signature.unwrap_or_default(),
            max_body,
            workers,
            access_log,
            log_actors: layers.switch("log-actors"),
            drain: Drain { delay, timeout },
            warnings,
            shown: BTreeMap::new(),
        };
        config.shown = config.effective(layers, env);
        Some(config)
    }
}

impl Config {
    /// What signatures on requests to plain http upstreams cover.
    pub(crate) fn signing(&self) -> Signing {
        signing(self.signing_secret_file.is_some(), self.signature)
    }
}

impl Explain {
    fn read(
        layers: &mut Layers,
        env: &BTreeMap<String, String>,
        matches: &ArgMatches,
    ) -> Option<Self> {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let method = match text("METHOD")?.to_ascii_uppercase().parse::<Method>() {
            Ok(method) => Some(method),
            Err(_) => {
                layers.problem(
                    "METHOD",
                    &Origin::Argument("METHOD"),
                    "not a method; write GET, POST and so on",
                );
                None
            }
        };
        let plugin_dir = required(
            layers,
            "plugin-dir",
            "the folder of plugin files, such as --plugin-dir plugins.d",
        );
        let auth = read_auth(layers, env, &mut Vec::new());
        let max_body = layers.parse("max-body-bytes", whole);
        let client = match text("client").map(|text| text.parse()) {
            None => Some(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            Some(Ok(client)) => Some(client),
            Some(Err(_)) => {
                layers.problem(
                    "client",
                    &Origin::Flag("client"),
                    "must be an address, such as 192.0.2.7",
                );
                None
            }
        };
        let standing = read_standing(layers);
        let signed = layers.one("signing-secret-file").is_some();
        let signature = layers.parse("signature", str::parse);
        let public_hosts = layers.parse_all("public-host", host);
        Some(Self {
            standing: standing::Settings {
                last_good: None,
                ..standing
            },
            public_hosts,
            host: text("host"),
            origin: text("origin"),
            client: client?,
            json: matches.get_flag("json"),
            method: method?,
            target: text("PATH")?,
            token_file: text("token-file").map(PathBuf::from),
            plugin_dir: plugin_dir?,
            mesh_dir: layers.one("mesh-dir").map(|found| found.text.into()),
            auth: auth?,
            signing: signing(signed, signature.unwrap_or_default()),
            max_body,
        })
    }
}

/// What signatures cover.
fn signing(signed: bool, form: SignatureForm) -> Signing {
    match form {
        _ if !signed => Signing::Off,
        SignatureForm::V1 => Signing::WithoutActor,
        SignatureForm::V2 => Signing::WithActor,
    }
}

/// All interfaces, as the contract's example has it; without a certificate that is refused and both ways out are named.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8443);

const ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9901);

const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

const WORKERS_MAX: usize = 64;

fn read_signing_key(layers: &mut Layers, matches: &ArgMatches) -> Option<Invocation> {
    let plugin = match matches.get_one::<String>("NAME")?.parse() {
        Ok(name) => Some(name),
        Err(err) => {
            layers.problem(
                "NAME",
                &Origin::Argument("NAME"),
                format!("not a plugin's name: {err}"),
            );
            None
        }
    };
    let secret_file = required(
        layers,
        "signing-secret-file",
        "the file that holds the secret requests are signed with",
    );
    Some(Invocation::SigningKey {
        plugin: plugin?,
        secret_file: secret_file?,
    })
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

fn read_tls(layers: &mut Layers) -> Option<TlsFiles> {
    match (layers.one("tls-cert"), layers.one("tls-key")) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert: cert.text.into(),
            key: key.text.into(),
        }),
        (Some(cert), None) => {
            layers.problem(
                "tls-cert",
                &cert.origin,
                "needs --tls-key, the key of that certificate",
            );
            None
        }
        (None, Some(key)) => {
            layers.problem(
                "tls-key",
                &key.origin,
                "needs --tls-cert, the certificate of that key",
            );
            None
        }
        (None, None) => None,
    }
}

/// Clients' certificates: with a CRL, or without one in so many words.
fn read_clients(layers: &mut Layers) -> Option<ClientAuth> {
    let required = match layers.one("client-auth") {
        None => false,
        Some(_) => layers.parse("client-auth", |text| match text {
            "optional" => Ok(false),
            "required" => Ok(true),
            _ => Err("must be optional or required".to_owned()),
        })?,
    };
    let without = layers.switch("no-client-crl");
    let crl = layers.one("client-crl");
    let Some(ca) = layers.one("client-ca") else {
        for name in ["client-crl", "no-client-crl", "client-auth"] {
            let given = layers
                .one(name)
                .filter(|_| name != "no-client-crl" || without);
            if let Some(found) = given {
                let message = "says nothing without --client-ca, the CAs of clients' certificates";
                layers.problem(name, &found.origin, message);
            }
        }
        return None;
    };
    let fault = if layers.one("tls-cert").is_none() {
        "needs --tls-cert: only over TLS can a client show a certificate"
    } else if crl.is_some() && without {
        "has both --client-crl and --no-client-crl; keep one"
    } else if crl.is_none() && !without {
        "needs --client-crl, the CRLs of these CAs, or --no-client-crl: a stolen certificate would then be good until it expires"
    } else {
        return Some(ClientAuth {
            ca: ca.text.into(),
            crl: crl.map(|crl| crl.text.into()),
            required,
        });
    };
    layers.problem("client-ca", &ca.origin, fault);
    None
}

fn read_auth(
    layers: &mut Layers,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Option<authenticate::Settings> {
    let issuers = issuers::read(layers, env, warnings);
    let claims = issuers::read_claims(layers);
    let leeway = layers
        .parse("leeway", duration)
        .unwrap_or(authenticate::LEEWAY);
    Some(authenticate::Settings {
        issuers: issuers?,
        leeway,
        claims,
    })
}

fn read_standing(layers: &mut Layers) -> standing::Settings {
    for name in ["deny", "tenants"] {
        if layers.one(name).is_some_and(|found| found.text.is_empty()) {
            let origin = layers.origin(name);
            layers.problem(name, &origin, "is empty; leave it out to run without");
        }
    }
    let path = |name: &str| layers.one(name).map(|found| PathBuf::from(found.text));
    standing::Settings {
        deny: path("deny"),
        tenants: path("tenants"),
        last_good: path("last-good"),
    }
}

fn required(layers: &mut Layers, name: &'static str, what: &str) -> Option<PathBuf> {
    let found = layers.one(name);
    if found.is_none() {
        layers.problem(name, &Origin::Default, format!("is missing: {what}"));
    }
    found.map(|found| found.text.into())
}

fn whole(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| "must be a whole number of bytes".to_owned())
}

/// A name as clients say it in `Host`, without a port; an IPv6 address stands in brackets there.
fn host(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = bare.parse::<std::net::Ipv6Addr>() {
        return Ok(format!("[{ip}]"));
    }
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    if is_name {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a host name without a port, such as api.example.com".to_owned())
    }
}

fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKERS_MAX)
}

#[cfg(test)]
mod tests;
