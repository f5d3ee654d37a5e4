//! What `explain` is asked: which plugin would serve this request, and why.
//!
//! In: the subcommand's own arguments, and those settings that decide it. Out: an [`Explain`], with
//! every mistake noted in the layers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ArgMatches;
use gapura_settings::{Layers, Origin, required};
use http::Method;

use super::decides::{host, read_auth, read_standing, signing, whole};
use super::door::read_portal;
use crate::authenticate;
use crate::openapi::Mode;
use crate::registry::Signing;
use crate::standing;

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
    /// Who may read the plugins' contracts.
    pub(crate) openapi: Mode,
    /// Whether there is a page to read them on.
    pub(crate) docs: bool,
    /// The host the request is for.
    pub(crate) host: Option<String>,
    /// The origin of the page that sends it.
    pub(crate) origin: Option<String>,
    /// The client's address.
    pub(crate) client: std::net::IpAddr,
    /// Whether the answer is one JSON object.
    pub(crate) json: bool,
}

impl Explain {
    pub(super) fn read(
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
        let standing = read_standing(layers, auth.as_ref());
        let signed = layers.one("signing-secret-file").is_some();
        let signature = layers.parse("signature", str::parse);
        let public_hosts = layers.parse_all("public-host", host);
        let (openapi, docs) = read_portal(layers);
        Some(Self {
            openapi,
            docs,
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
