//! The settings that both programs have, and which mean the same in both.
//!
//! In: a program's layers and its own defaults. Out: a [`Common`], with every mistake noted in the
//! layers. An operator's side that others could reach without a token is refused here, for both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{
    AccessLog, AdminAddress, Effective, Layers, Origin, Traces, address, duration, state, workers,
};

/// What both programs are told.
#[derive(Clone, Debug)]
pub struct Common {
    /// The main listener.
    pub listen: SocketAddr,
    /// Sockets of this host where it listens besides.
    pub sockets: Vec<PathBuf>,
    /// The program's identity and trust.
    pub mesh_dir: PathBuf,
    /// Whether it may run without revocation lists.
    pub no_crl: bool,
    /// Where it is kept what must outlast a restart.
    pub state_dir: Option<PathBuf>,
    /// Issuers whose CRLs may begin anew.
    pub accept_crl_reset: Vec<String>,
    /// The operator's side.
    pub admin: AdminSide,
    /// A further listener for a kubelet or Prometheus.
    pub health: Option<SocketAddr>,
    /// Worker threads.
    pub workers: usize,
    /// Which finished requests leave a line.
    pub access_log: AccessLog,
    /// Whether nobody may look at finished requests.
    pub no_tap: bool,
    /// How the program ends.
    pub drain: Drain,
    /// The socket at which listeners pass from one program to the next.
    pub takeover: Option<PathBuf>,
    /// Where spans go; nowhere if `None`.
    pub traces: Option<Traces>,
}

/// The operator's side, as it is served or asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSide {
    /// Where it listens.
    pub address: AdminAddress,
    /// The file that holds what an operator has to say; required where others could connect.
    pub token_file: Option<PathBuf>,
}

/// How long a drain may take.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Still accepting, for load balancers that are slow to look elsewhere.
    pub delay: Duration,
    /// For what is in flight.
    pub timeout: Duration,
}

const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

impl Common {
    /// Reads them but for `listen`, which a program reads first, as it may judge by it. `role` is
    /// what `gapura-pki issue` calls the program, `admin` where its operator's side listens unless
    /// told otherwise.
    pub fn read(
        layers: &mut Layers,
        env: &BTreeMap<String, String>,
        listen: SocketAddr,
        role: &str,
        admin: SocketAddr,
    ) -> Option<Self> {
        let service = match role {
            "plugin" => "sidecar",
            "pki" => "ca",
            other => other,
        };
        let traces = Traces::read(layers, env, service);
        let issued = format!("the directory that `gapura-pki issue {role} NAME --out DIR` wrote");
        let mesh_dir = required(layers, "mesh-dir", &issued);
        let admin = AdminSide::read(layers, admin);
        if let Some(admin) = &admin {
            admin.check(layers);
        }
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
        let (no_crl, no_tap) = (layers.switch("no-crl"), layers.switch("no-tap"));
        let (state_dir, accept_crl_reset) = state(layers);
        Some(Self {
            listen,
            sockets: Vec::new(),
            mesh_dir: mesh_dir?,
            no_crl,
            state_dir,
            accept_crl_reset,
            admin: admin?,
            health,
            workers,
            access_log,
            no_tap,
            drain: Drain { delay, timeout },
            takeover: layers.one("takeover").map(|found| found.text.into()),
            traces,
        })
    }

    /// Puts those in force that have a default among what is shown.
    pub fn show(&self, shown: &mut Effective, layers: &Layers) {
        shown.effective(layers, "listen", self.listen.to_string().into());
        shown.effective(layers, "admin", self.admin.address.to_string().into());
        shown.effective(layers, "workers", self.workers.into());
        shown.effective(layers, "access-log", self.access_log.as_str().into());
        shown.effective(layers, "drain-delay", seconds(self.drain.delay));
        shown.effective(layers, "drain-timeout", seconds(self.drain.timeout));
        Traces::show(self.traces.as_ref(), shown);
    }
}

impl AdminSide {
    /// Reads where it is; at `default` if nobody says.
    pub fn read(layers: &mut Layers, default: SocketAddr) -> Option<Self> {
        let address = match layers.one("admin") {
            None => AdminAddress::Tcp(default),
            Some(_) => layers.parse("admin", AdminAddress::parse)?,
        };
        let token_file = layers
            .one("admin-token-file")
            .map(|found| found.text.into());
        Some(Self {
            address,
            token_file,
        })
    }

    /// Refuses one that others could reach without a token.
    pub fn check(&self, layers: &mut Layers) {
        if self.address.is_exposed() && self.token_file.is_none() {
            let origin = layers.origin("admin");
            let message = "others could connect there; give --admin-token-file, a loopback address or unix:PATH";
            layers.problem("admin", &origin, message);
        }
    }
}

/// A path without which there is nothing to do; `what` it is, for whoever left it out.
pub fn required(layers: &mut Layers, name: &'static str, what: &str) -> Option<PathBuf> {
    let found = layers.one(name);
    if found.is_none() {
        layers.problem(name, &Origin::Default, format!("is missing: {what}"));
    }
    found.map(|found| found.text.into())
}

/// A duration as it is written in a setting.
#[must_use]
pub fn seconds(duration: Duration) -> Value {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
    .into()
}

fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(super::values::WORKERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{Setting, rows};
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Option<Common>, Vec<String>) {
        let table = [
            rows::STATE_DIR,
            rows::ACCEPT_CRL_RESET,
            rows::ADMIN_TOKEN_FILE,
            rows::HEALTH,
            rows::WORKERS,
            rows::ACCESS_LOG,
            rows::DRAIN_TIMEOUT,
            Setting::one("mesh-dir", "DIR", "x"),
            Setting::one("admin", "ADDR", "x"),
        ];
        let env = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut layers = Layers::new(&table, &[], BTreeMap::new(), &env);
        let loopback: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let common = Common::read(&mut layers, &env, loopback, "plugin", loopback);
        let problems = layers.into_problems();
        (common, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_admin_side_that_others_can_reach_needs_a_token() {
        let mesh = ("GAPURA_MESH_DIR", "mesh");
        for (admin, token, fits) in [
            ("127.0.0.1:9", "", true),
            ("unix:/run/a", "", true),
            ("0.0.0.0:9", "", false),
            ("0.0.0.0:9", "file", true),
        ] {
            let given = [
                mesh,
                ("GAPURA_ADMIN", admin),
                ("GAPURA_ADMIN_TOKEN_FILE", token),
            ];
            let (_, problems) = read(&given);
            assert_eq!(problems.is_empty(), fits, "{admin} {token}: {problems:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_though_the_mesh_directory_is_missing() {
        let (common, problems) = read(&[("GAPURA_WORKERS", "many"), ("GAPURA_ACCESS_LOG", "some")]);
        assert!(common.is_none() && problems.len() == 3, "{problems:?}");
        assert!(problems[0].contains("gapura-pki issue plugin"));
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "30s", "250ms", "1500ms"] {
            assert_eq!(seconds(duration(text).unwrap()), text);
        }
    }
}
