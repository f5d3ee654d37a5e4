//! Loads what only a CA server needs, and starts it on `gapura_runtime::start`.
//!
//! In: a checked [`Config`]. Out: a [`Running`] server, or a [`StartError`] with nothing left
//! half-started.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_pki::enrol::{Herald, Registrar};
use gapura_pki::passphrase::Source;
use gapura_pki::{KeyProtection, Pki};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_runtime::cli::{Checked, Cli, Program};
use gapura_runtime::load::{Ground, Loading};
use gapura_runtime::program::{Running, StartError};
use gapura_runtime::room::Room;
use gapura_runtime::start::{Blueprint, Prepared};
use gapura_runtime::systemd::Sockets;
use gapura_runtime::worker::Worker;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;

use crate::admin::Admin;
use crate::config::Config;
use crate::counters::Counters;
use crate::herald::{Current, News};
use crate::limits::Limits;
use crate::office::Office;
use crate::server::Server;
use crate::service::Desk;

const BLUEPRINT: Blueprint = Blueprint {
    main: "enrol",
    peer: "client.address",
    token_reasons: &[],
    unproven: UNPROVEN,
};

/// Hosts that join at once, and handshakes under way: a fleet of a thousand that comes back at one
/// moment behind one address. Nobody without a certificate keeps out who has one.
const UNPROVEN: usize = 1024;

/// How long a change waits for `gapura-pki` by hand: shorter than a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a CA server has read before it starts.
struct Loaded {
    registrar: Registrar,
    look: Herald,
    first: Current,
}

/// Reads every file and opens the issuing CA's key; the very same for `--check` as for a start.
fn load(config: &Config, clock: &Clock) -> Result<(Ground, Loaded), Vec<String>> {
    let mut loading = Loading::begin(&config.common, Role::Pki, clock);
    let open = || {
        let protection = match &config.passphrase_file {
            Some(file) => KeyProtection::from_source(Source::File(file.clone())),
            None => KeyProtection::Plaintext,
        };
        Pki::open(&config.dir, protection, clock).map(|pki| pki.with_patience(PATIENCE))
    };
    let loaded = open().and_then(|pki| {
        let domain = pki.trust_domain().clone();
        let registrar = Registrar::new(pki, config.ttl)?;
        let mut look = Herald::new(open()?);
        let first = look.look()?;
        Ok((domain, registrar, look, first))
    });
    let loaded =
        loading.note(loaded.map_err(|why| format!("--dir {}: {why}", config.dir.display())));
    let ours = loading.trust().map(|trust| trust.own().id.clone());
    let loaded = loaded.and_then(|(domain, registrar, look, first)| {
        if let Some(ours) = ours.filter(|ours| *ours.domain() != domain) {
            loading.fault(format!(
                "--mesh-dir {}: its certificate is {ours}, but the CA in --dir {} is of {domain}; issue one there: gapura-pki issue pki NAME --out DIR",
                config.common.mesh_dir.display(),
                config.dir.display()
            ));
        }
        let (news, certificates) = first?;
        Some(Loaded {
            registrar,
            look,
            first: Current::new(news, &certificates),
        })
    });
    loading.end(loaded)
}

impl Program for Config {
    const SERVICE: &'static str = "ca";

    fn check(&self) -> Result<Checked, Vec<String>> {
        load(self, &Clock::system())?;
        let mut lines = vec![format!("{:#}", self.to_json())];
        lines.extend(Room::found().lines());
        lines.push(format!("limit: {:<26} {UNPROVEN}", "connections unproven"));
        Ok(Checked {
            lines,
            ..Checked::default()
        })
    }

    fn start_with(self, sockets: Sockets, log: Log, clock: Clock) -> Result<Running, StartError> {
        let (ground, loaded) = load(&self, &clock).map_err(StartError::Config)?;
        let alarms = Alarms::new(log.clone());
        let counters = Arc::new(Counters::new());
        let (office, clerk) = Office::new(
            loaded.registrar,
            (alarms.clone(), log.clone()),
            counters.clone(),
        );
        let (news, herald, ends) = News::new(
            (loaded.look, loaded.first),
            (clock.clone(), alarms.clone()),
            counters.clone(),
        );
        let ground = (self.common, ground);
        let prepared = Prepared::new(&BLUEPRINT, ground, sockets, alarms, (log, clock))?;
        // Strangers come in too: no address takes all the places.
        let prepared = prepared.sharing(None, |_| false);
        let shared = prepared.shared().clone();
        let limits = Arc::new(Limits::new(Instant::now()));
        let report = Admin {
            shared: shared.clone(),
            counters: counters.clone(),
        };
        thread("ca-office", move || clerk.run())?;
        thread("ca-herald", move || herald.run())?;
        let ends = Arc::new(ends);
        let maker = move || {
            let (office, news, limits) = (office.clone(), news.clone(), limits.clone());
            let (counters, ends) = (counters.clone(), ends.clone());
            let (trust, live) = (shared.trust.clone(), shared.live.clone());
            move |worker: Rc<Worker>| {
                let desk = Rc::new(Desk {
                    worker: worker.clone(),
                    office,
                    news,
                    limits,
                    counters,
                });
                Server {
                    worker,
                    desk,
                    trust,
                    live,
                    ends,
                }
            }
        };
        prepared.run(maker, |_, _| report)
    }

    fn answer(own: Self::Own, _: &Cli) -> ExitCode {
        match own {}
    }
}

/// Starts one of the two threads that may wait for the disk. Each ends once no worker is left that
/// could ask it.
fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| StartError::System(format!("a thread cannot be started: {error}")))
}
