//! The gateway's settings: from flags, environment and file to one checked value.
//!
//! In: arguments, an environment as a map, and the file that `--config` names; no other file is
//! opened here. Out: an [`Invocation`], what the program is to do with everything it needs for it,
//! or all mistakes at once, each where it was made. A [`Config`] can be shown whole: it holds the
//! paths of secrets, and of `JWT_SECRET` only that it is set.

mod decides;
mod door;
mod entry;
mod explain;
mod folder;
mod issuers;
mod show;
mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};
use gapura_http::pace::Rate;
use gapura_protocol::identity::Name;
use gapura_reload::clients::ClientAuth;
use gapura_settings::{
    Common, Effective, Layers, OTEL_SECRETS, Origin, Setting, Settings, address, exposed, required,
};
use gapura_trust::public::TlsMin;
use serde_json::Value;

use self::decides::{host, read_auth, read_standing, signing, whole};
use self::door::{read_clients, read_hsts, read_proxy_protocol, read_tls, read_tls_min};
use crate::authenticate;
use crate::cidr::Cidr;
use crate::openapi;
use crate::registry::Signing;
use crate::sign::SignatureForm;
use crate::standing;

pub use door::TlsFiles;
pub(crate) use door::strict_transport;
pub use explain::Explain;
pub use folder::PluginFiles;

/// What the program is asked to do.
pub type Invocation = gapura_settings::Invocation<Config>;

/// What a gateway answers instead of serving.
#[derive(Debug)]
pub enum Question {
    /// Which plugin would serve a request, and why?
    Explain(Box<Explain>),
    /// Are the plugin files good, and do they differ from what is in force?
    Plugins(PluginFiles),
    /// What may stand in a plugin file?
    Schema,
    /// By which key does a plugin verify `X-Internal-Signature`?
    SigningKey {
        /// The plugin.
        plugin: Name,
        /// The file that holds the gateway's secret.
        secret: PathBuf,
    },
}

/// Everything a running gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the sidecar is told too.
    pub(crate) common: Common,
    /// The certificate of the public side; plain HTTP without.
    pub(crate) tls: Option<TlsFiles>,
    /// The oldest TLS that clients may speak.
    pub(crate) tls_min: TlsMin,
    /// How long browsers shall come by https alone; nothing is said if `None`.
    pub(crate) hsts: Option<Duration>,
    /// Whose certificates clients may show; `None`: they are not asked.
    pub(crate) clients: Option<ClientAuth>,
    /// The registry.
    pub(crate) plugin_dir: PathBuf,
    /// Where a copy of the files in force is kept.
    pub(crate) last_good: Option<PathBuf>,
    /// Whose tokens are taken. Empty: only public plugins can be served.
    pub(crate) auth: authenticate::Settings,
    /// Who is no longer welcome.
    pub(crate) standing: standing::Settings,
    /// The names clients may call the gateway by, in lower case; empty: any.
    pub(crate) public_hosts: Vec<String>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// The least that a client moves of a body; nothing, if `None`.
    pub(crate) body_rate: Option<Rate>,
    /// How many connections one address may have; a share of what there is room for, if `None`.
    pub(crate) connections_per_address: Option<usize>,
    /// Whether they say in front of each connection whose it is.
    pub(crate) proxy_protocol: bool,
    /// What requests to plain http upstreams are signed with.
    pub(crate) signing_secret_file: Option<PathBuf>,
    /// In which form.
    pub(crate) signature: SignatureForm,
    /// The limit of request bodies for plugins that set none.
    pub(crate) max_body: Option<u64>,
    /// Who may read the plugins' contracts.
    pub(crate) openapi: openapi::Mode,
    /// Whether there is a page to read them on.
    pub(crate) docs: bool,
    /// Whether the operator's page names companies.
    pub(crate) page_tenants: bool,
    /// Whether an event of its own names who acted for whom.
    pub(crate) log_actors: bool,
    /// What is allowed and hardly meant, a sentence each.
    pub(crate) warnings: Vec<String>,
    shown: Effective,
}

impl Settings for Config {
    type Own = Question;

    const TABLE: &'static [Setting] = table::SETTINGS;

    const STRUCTURED: &'static [&'static str] = &["issuers"];

    const SECRETS: &'static [&'static str] = &["JWT_SECRET", OTEL_SECRETS[0], OTEL_SECRETS[1]];

    const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

    fn command() -> Command {
        table::command()
    }

    fn read(layers: &mut Layers, env: &BTreeMap<String, String>) -> Option<Self> {
        let mut warnings = Vec::new();
        let listen = layers.parse("listen", address).unwrap_or(LISTEN);
        let tls = read_tls(layers);
        let tls_min = read_tls_min(layers);
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
        let common = Common::read(layers, env, listen, "gateway", Self::ADMIN);
        let auth = read_auth(layers, env, &mut warnings);
        let public_hosts = layers.parse_all("public-host", host);
        let trusted_proxies = layers.parse_all("trusted-proxy", Cidr::parse);
        warnings.extend(trusted_proxies.iter().filter(|cidr| cidr.is_everyone()).map(|cidr| {
            format!("--trusted-proxy {cidr} believes X-Forwarded-For from everyone: callers can choose the address they are limited by")
        }));
        let proxy_protocol = read_proxy_protocol(layers);
        let body_rate = door::read_body_rate(layers);
        let connections_per_address = layers.parse("connections-per-address", door::count);
        let hsts = read_hsts(layers);
        let max_body = layers.parse("max-body-bytes", whole);
        let page_tenants = layers.parse("page-tenants", door::on_or_off);
        let path = |name: &str| layers.one(name).map(|found| PathBuf::from(found.text));
        let (last_good, signing_secret_file) = (path("last-good"), path("signing-secret-file"));
        let standing = read_standing(layers, auth.as_ref());
        if let Some(kept) = &standing.logouts
            && kept.state_dir.is_none()
        {
            warnings.push("--backchannel-logout without --state-dir: a restart forgets who has logged out, and lets them in again for as long as their tokens live".to_owned());
        }
        let signature = layers.parse("signature", str::parse);
        let (openapi, docs) = door::read_portal(layers);
        let mut config = Self {
            common: common?,
            tls,
            tls_min,
            hsts,
            clients,
            plugin_dir: plugin_dir?,
            last_good,
            auth: auth?,
            standing,
            public_hosts,
            trusted_proxies,
            body_rate,
            connections_per_address,
            proxy_protocol,
            signing_secret_file,
            signature: signature.unwrap_or_default(),
            max_body,
            openapi,
            docs,
            page_tenants: page_tenants.unwrap_or(false),
            log_actors: layers.switch("log-actors"),
            warnings,
            shown: Effective::default(),
        };
        config.shown = config.effective(layers, env);
        Some(config)
    }

    fn look_further(layers: &mut Layers) {
        folder::look_further(layers);
    }

    fn instead(layers: &mut Layers, check: bool) -> ControlFlow<Option<Question>> {
        match folder::read(layers, check, Self::ADMIN) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(files) => ControlFlow::Break(files.map(Question::Plugins)),
        }
    }

    fn subcommand(
        name: &str,
        matches: &ArgMatches,
        layers: &mut Layers,
        env: &BTreeMap<String, String>,
    ) -> Option<Invocation> {
        let question = match name {
            "explain" => Explain::read(layers, env, matches)
                .map(Box::new)
                .map(Question::Explain),
            "schema" => Some(Question::Schema),
            _ => read_signing_key(layers, matches),
        };
        question.map(Invocation::Own)
    }
}

impl Config {
    /// The effective settings and where each came from, without secrets.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.shown.to_json()
    }

    /// What signatures on requests to plain http upstreams cover.
    pub(crate) fn signing(&self) -> Signing {
        signing(self.signing_secret_file.is_some(), self.signature)
    }
}

/// All interfaces, as the contract's example has it; without a certificate that is refused and both
/// ways out are named.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);

fn read_signing_key(layers: &mut Layers, matches: &ArgMatches) -> Option<Question> {
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
    let secret = required(
        layers,
        "signing-secret-file",
        "the file that holds the secret requests are signed with",
    );
    Some(Question::SigningKey {
        plugin: plugin?,
        secret: secret?,
    })
}

#[cfg(test)]
mod tests;
