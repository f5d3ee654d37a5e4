//! The agent's settings: from flags, environment and file to one checked value.
//!
//! In: arguments, an environment as a map, and the file that `--config` names; no other file is
//! opened here. Out: an invocation, what the program is to do, or all mistakes at once, each where
//! it was made.

mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};
use gapura_fetch::Url;
use gapura_settings::{
    AdminSide, Effective, Layers, Setting, Settings, address, duration, required, seconds,
};
use serde_json::Value;

use crate::hook::Hook;

/// What the program is asked to do.
pub type Invocation = gapura_settings::Invocation<Config>;

/// Everything a running agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the CA server is; else the join token says it.
    pub(crate) ca: Option<Url>,
    /// What it writes.
    pub(crate) mesh_dir: PathBuf,
    /// What is its own.
    pub(crate) state_dir: PathBuf,
    /// Where an operator puts a join token.
    pub(crate) token_file: Option<PathBuf>,
    /// How old the news may be.
    pub(crate) news_alarm: Duration,
    /// Who wants to hear of a new generation.
    pub(crate) exec: Option<Hook>,
    /// The operator's side.
    pub(crate) admin: AdminSide,
    /// A further listener for a kubelet or Prometheus.
    pub(crate) health: Option<SocketAddr>,
    shown: Effective,
}

/// What only an agent can be asked.
#[derive(Debug)]
pub enum Own {
    /// To do what is due, and exit.
    #[doc(hidden)]
    Once(Box<Config>),
    /// What the running one holds.
    #[doc(hidden)]
    Status(AdminSide),
}

const NEWS_ALARM: Duration = Duration::from_secs(3600);

impl Settings for Config {
    type Own = Own;

    const TABLE: &'static [Setting] = table::SETTINGS;

    const STRUCTURED: &'static [&'static str] = &[];

    const SECRETS: &'static [&'static str] = &[];

    const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 29901);

    fn command() -> Command {
        table::command()
    }

    fn read(layers: &mut Layers, _: &BTreeMap<String, String>) -> Option<Self> {
        let ca = layers.parse("ca", server);
        let mesh_dir = required(
            layers,
            "mesh-dir",
            "the directory that a gateway or sidecar of this host reads",
        );
        let state_dir = required(
            layers,
            "state-dir",
            "a folder of this agent's own, such as /var/lib/gapura-agent/lab-reporting",
        );
        let token_file: Option<PathBuf> = layers.one("token-file").map(|found| found.text.into());
        let news_alarm = layers.parse("news-alarm", duration).unwrap_or(NEWS_ALARM);
        let exec = layers.parse("exec", Hook::parse);
        let admin = AdminSide::read(layers, Self::ADMIN);
        if let Some(admin) = &admin {
            admin.check(layers);
        }
        let health = layers.parse("health", address);
        if layers.one("ca").is_none() && token_file.is_none() {
            let message = "is missing: where the CA server is, https://HOST:PORT; or give --token-file, whose token may say it";
            layers.problem("ca", &gapura_settings::Origin::Default, message);
        }
        let mut config = Self {
            ca,
            mesh_dir: mesh_dir?,
            state_dir: state_dir?,
            token_file,
            news_alarm,
            exec,
            admin: admin?,
            health,
            shown: Effective::default(),
        };
        let mut shown = Effective::of(table::SETTINGS, layers);
        shown.effective(layers, "admin", config.admin.address.to_string().into());
        shown.effective(layers, "news-alarm", seconds(news_alarm));
        config.shown = shown;
        Some(config)
    }

    fn instead(layers: &mut Layers, check: bool) -> ControlFlow<Option<Own>> {
        if check || !layers.switch("once") {
            return ControlFlow::Continue(());
        }
        let config = Self::read(layers, &BTreeMap::new());
        ControlFlow::Break(config.map(|config| Own::Once(Box::new(config))))
    }

    /// `status` is the only one.
    fn subcommand(
        _: &str,
        _: &ArgMatches,
        layers: &mut Layers,
        _: &BTreeMap<String, String>,
    ) -> Option<Invocation> {
        AdminSide::read(layers, Self::ADMIN).map(|admin| Invocation::Own(Own::Status(admin)))
    }
}

impl Config {
    /// The effective settings and where each came from.
    pub(crate) fn to_json(&self) -> Value {
        self.shown.to_json()
    }
}

/// The address of a CA server: a host and a port, and nothing behind them.
pub(crate) fn server(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)?;
    let rest = text.get("https://".len()..).unwrap_or_default();
    let bare = rest.strip_suffix('/').unwrap_or(rest);
    if !url.is_tls() || bare.contains(['/', '?']) {
        return Err("must be https://HOST:PORT, without a path".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str]) -> Result<Invocation, String> {
        let args = std::iter::once("gapura-agent").chain(args.iter().copied());
        Invocation::load(args.map(Into::into), &BTreeMap::new()).map_err(|why| why.to_string())
    }

    const GOOD: [&str; 6] = [
        "--ca",
        "https://ca.internal:7443",
        "--mesh-dir",
        "m",
        "--state-dir",
        "s",
    ];

    #[test]
    fn it_runs_checks_does_things_once_or_asks() {
        assert!(matches!(load(&GOOD), Ok(Invocation::Run(_))));
        let with = |more: &[&'static str]| load(&[&GOOD[..], more].concat());
        assert!(matches!(with(&["--check"]), Ok(Invocation::Check(_))));
        assert!(matches!(
            with(&["--once"]),
            Ok(Invocation::Own(Own::Once(_)))
        ));
        assert!(matches!(
            load(&["status"]),
            Ok(Invocation::Own(Own::Status(_)))
        ));
        assert!(matches!(
            load(&["healthcheck"]),
            Ok(Invocation::Healthcheck(_))
        ));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let why = load(&[
            "--news-alarm",
            "soon",
            "--exec",
            "'x",
            "--admin",
            "0.0.0.0:1",
        ])
        .unwrap_err();
        for wanted in [
            "--ca",
            "--mesh-dir",
            "--state-dir",
            "--news-alarm",
            "--exec",
            "--admin",
        ] {
            assert!(why.contains(wanted), "{wanted}: {why}");
        }
        for bad in [
            "http://127.0.0.1:1",
            "https://a:1/x",
            "https://a:1?x",
            "a:1",
            "https://u@a:1",
        ] {
            let why = load(&["--ca", bad, "--mesh-dir", "m", "--state-dir", "s"]);
            assert!(why.unwrap_err().contains("--ca"), "{bad}");
        }
        assert!(
            load(&[
                "--ca",
                "https://[::1]:7/",
                "--mesh-dir",
                "m",
                "--state-dir",
                "s"
            ])
            .is_ok()
        );
    }
}
