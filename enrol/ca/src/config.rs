//! The CA server's settings: from flags, environment and file to one checked value.
//!
//! In: arguments, an environment as a map, and the file that `--config` names; no other file is
//! opened here. Out: an [`Invocation`], what the program is to do, or all mistakes at once, each
//! where it was made.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};
use gapura_pki::settings::{LEAF_TTL_MAX, LEAF_TTL_MIN};
use gapura_settings::{
    Common, Effective, Layers, Setting, Settings, address, command as flags, duration, required,
    rows, seconds,
};
use serde_json::Value;

/// What the program is asked to do.
pub type Invocation = gapura_settings::Invocation<Config>;

/// Everything a running CA server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the other programs are told too.
    pub(crate) common: Common,
    /// The state directory of `gapura-pki`.
    pub(crate) dir: PathBuf,
    /// What opens the issuing CA's key, where it is kept encrypted.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// How long the leaves live.
    pub(crate) ttl: Duration,
    shown: Effective,
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9443);

/// An agent renews at two thirds of it, so that a day of a CA server's absence is survived by those
/// that had just renewed, and a key that was stolen unnoticed is worth a day.
const TTL: Duration = Duration::from_secs(86_400);

const SETTINGS: &[Setting] = &[
    rows::CONFIG,
    Setting::one(
        "dir",
        "DIR",
        "The state directory of gapura-pki [default: /var/lib/gapura/pki]",
    ),
    Setting::one(
        "passphrase-file",
        "FILE",
        "The passphrase of the issuing CA's key; the root's key is never needed",
    ),
    Setting::one(
        "listen",
        "ADDR",
        "Where agents connect, with TLS 1.3 [default: 0.0.0.0:9443]",
    ),
    Setting::one(
        "mesh-dir",
        "DIR",
        "The server's own certificate, key, roots and revocation lists, as `gapura-pki issue pki NAME` writes them",
    ),
    Setting::one(
        "ttl",
        "TIME",
        "How long the certificates live that agents get [default: 24h]",
    ),
    rows::STATE_DIR,
    rows::ACCEPT_CRL_RESET,
    Setting::one(
        "admin",
        "ADDR",
        "Where the operator's side listens, or unix:PATH [default: 127.0.0.1:9902]",
    ),
    rows::ADMIN_TOKEN_FILE,
    rows::HEALTH,
    rows::WORKERS,
    Setting::one(
        "drain-delay",
        "TIME",
        "Keep accepting so long after SIGTERM [default: 0s]",
    ),
    rows::DRAIN_TIMEOUT,
    rows::TAKEOVER,
    rows::CHECK,
];

const ABOUT: &str = "Serves certificates, roots and revocation lists to the agents on the hosts, beside the inventory of gapura-pki.";

const EXAMPLE: &str = "Example:
  gapura-pki issue pki ca-1 --out /etc/gapura/ca-1
  gapura-ca --dir /var/lib/gapura/pki --passphrase-file /root/gapura-pki.pass --mesh-dir /etc/gapura/ca-1
  gapura-pki token plugin lab-reporting --url https://ca.mylab.internal:9443 > lab-reporting.token";

impl Settings for Config {
    type Own = std::convert::Infallible;

    const TABLE: &'static [Setting] = SETTINGS;

    const STRUCTURED: &'static [&'static str] = &[];

    const SECRETS: &'static [&'static str] = &[];

    const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9902);

    fn command() -> Command {
        flags(
            "gapura-ca",
            env!("CARGO_PKG_VERSION"),
            ABOUT,
            EXAMPLE,
            SETTINGS,
        )
        .subcommand(
            Command::new("healthcheck")
                .about("Ask the running CA server's admin side; exit 0 if it is ready, else 1")
                .after_help("Example:\n  gapura-ca healthcheck --admin 127.0.0.1:9902"),
        )
    }

    fn read(layers: &mut Layers, env: &BTreeMap<String, String>) -> Option<Self> {
        let listen = layers.parse("listen", address).unwrap_or(LISTEN);
        let dir = match layers.one("dir") {
            None => Some(PathBuf::from("/var/lib/gapura/pki")),
            Some(_) => required(layers, "dir", "the state directory of gapura-pki"),
        };
        let ttl = layers.parse("ttl", life).unwrap_or(TTL);
        let passphrase_file = layers.one("passphrase-file").map(|found| found.text.into());
        let common = Common::read(layers, env, listen, "pki", Self::ADMIN);
        let mut config = Self {
            common: common?,
            dir: dir?,
            passphrase_file,
            ttl,
            shown: Effective::default(),
        };
        config.shown = config.effective(layers);
        Some(config)
    }

    fn subcommand(
        _: &str,
        _: &ArgMatches,
        _: &mut Layers,
        _: &BTreeMap<String, String>,
    ) -> Option<Invocation> {
        None // there is none but `healthcheck`, which all programs have
    }
}

impl Config {
    /// The effective settings and where each came from.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        self.shown.to_json()
    }

    fn effective(&self, layers: &Layers) -> Effective {
        let mut shown = Effective::of(SETTINGS, layers);
        for (name, value) in [
            ("listen", self.common.listen.to_string().into()),
            ("admin", self.common.admin.address.to_string().into()),
            ("workers", self.common.workers.into()),
            ("drain-delay", seconds(self.common.drain.delay)),
            ("drain-timeout", seconds(self.common.drain.timeout)),
            ("dir", self.dir.display().to_string().into()),
            ("ttl", seconds(self.ttl)),
        ] {
            shown.effective(layers, name, value);
        }
        shown
    }
}

/// How long a leaf may live, in whole seconds.
fn life(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl.subsec_nanos() == 0 && (LEAF_TTL_MIN..=LEAF_TTL_MAX).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(format!(
            "a certificate lives {}s to {}d, in whole seconds; say 24h, or leave it out",
            LEAF_TTL_MIN.as_secs(),
            LEAF_TTL_MAX.as_secs() / 86_400
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_settings::NotStarted;
    use std::ffi::OsString;

    fn load(args: &[&str]) -> Result<Invocation, NotStarted> {
        let args = std::iter::once("gapura-ca").chain(args.iter().copied());
        Invocation::load(args.map(OsString::from), &BTreeMap::new())
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_needed_is_named() {
        let Ok(Invocation::Run(config)) = load(&["--mesh-dir", "m"]) else {
            panic!("these are settings");
        };
        assert_eq!(config.ttl, TTL);
        assert_eq!(config.dir, PathBuf::from("/var/lib/gapura/pki"));
        assert_eq!(config.common.listen, LISTEN);
        let why = load(&[]).unwrap_err().to_string();
        assert!(
            why.contains("--mesh-dir") && why.contains("gapura-pki issue pki"),
            "{why}"
        );
    }

    #[test]
    fn a_life_that_no_leaf_may_have_is_refused() {
        for (ttl, fits) in [
            ("24h", true),
            ("10s", true),
            ("90d", true),
            ("9s", false),
            ("91d", false),
            ("1500ms", false),
        ] {
            assert_eq!(
                load(&["--mesh-dir", "m", "--ttl", ttl]).is_ok(),
                fits,
                "{ttl}"
            );
        }
    }
}
