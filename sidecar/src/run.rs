//! Loads what only a sidecar needs, and starts it on `gapura_runtime::start`.
//!
//! In: a checked [`Config`]. Out: a [`Running`] sidecar, or a [`StartError`] with nothing left
//! half-started.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use gapura_files::ownership;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::{IdPattern, Role, TrustDomain};
use gapura_runtime::cli::{Checked, Cli, Failed, Program};
use gapura_runtime::load::{Ground, Loading};
use gapura_runtime::program::{Running, StartError};
use gapura_runtime::room::Room;
use gapura_runtime::start::{Blueprint, Prepared};
use gapura_runtime::systemd::Sockets;
use gapura_runtime::worker::Worker;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_transport::upstream::crowd::Crowd;

use crate::admin::Admin;
use crate::authorise::AllowList;
use crate::config::{Config, Wrapped};
use crate::forward::{Address, Plugin};
use crate::page::Sight;
use crate::pipeline::Pipeline;
use crate::server::Server;
use crate::wrap;

const BLUEPRINT: Blueprint = Blueprint {
    main: "hop",
    peer: "gapura.peer",
    token_reasons: &[],
    unproven: UNPROVEN,
};

/// More handshakes than a fleet of gateways begins at once; nobody without a certificate keeps a
/// gateway out.
const UNPROVEN: usize = 256;

/// Reads every file; the very same for `--check` as for a start.
fn load(config: &Config, clock: &Clock) -> Result<(Ground, AllowList), Vec<String>> {
    let mut loading = Loading::begin(&config.common, Role::Plugin, clock);
    if let Address::Unix(path) = &config.plugin
        && let Err(why) = ownership::check_socket(path)
    {
        loading.fault(format!("--plugin unix:{}: {why}", path.display()));
    }
    let allow = loading
        .trust()
        .map(|trust| allow_list(&config.allow, trust.own().id.domain()));
    let allow = allow.and_then(|allow| loading.note_all(allow));
    loading.end(allow)
}

/// The peers that may connect; without a list every gateway of our own trust domain.
fn allow_list(patterns: &[IdPattern], ours: &TrustDomain) -> Result<AllowList, Vec<String>> {
    let strange = patterns.iter().filter(|pattern| pattern.domain() != ours);
    let faults: Vec<String> = strange
        .map(|pattern| {
            format!("--allow {pattern}: this sidecar's trust domain is {ours}; nobody of another can get in")
        })
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(AllowList::new(if patterns.is_empty() {
        vec![IdPattern::any(ours.clone(), Role::Gateway)]
    } else {
        patterns.to_vec()
    }))
}

impl Program for Config {
    const SERVICE: &'static str = "sidecar";

    fn check(&self) -> Result<Checked, Vec<String>> {
        let (ground, _) = load(self, &Clock::system())?;
        let mut lines = vec![format!("{:#}", self.to_json())];
        lines.extend(Room::found().lines());
        lines.push(format!("limit: {:<26} {UNPROVEN}", "connections unproven"));
        Ok(Checked {
            lines,
            warnings: ground.warnings,
        })
    }

    fn start_with(self, sockets: Sockets, log: Log, clock: Clock) -> Result<Running, StartError> {
        let (ground, allow) = load(&self, &clock).map_err(StartError::Config)?;
        let name = ground.trust.load().own().id.name().as_str().to_owned();
        let alarms = Alarms::new(log.clone());
        let loaded = (self.common, ground);
        let prepared = Prepared::new(&BLUEPRINT, loaded, sockets, alarms, (log, clock))?;
        let shared = prepared.shared().clone();
        let allowed = self.allow.iter().map(ToString::to_string);
        let mut allowed: Vec<String> = allowed.collect();
        if allowed.is_empty() {
            allowed.push("gateway/*".to_owned());
        }
        let report = Admin {
            shared: shared.clone(),
            sight: Sight {
                name: name.clone(),
                address: self.plugin.clone(),
                allow: allowed,
                allow_no_tenant: self.tenants.allow_none,
                tried: RefCell::default(),
            },
        };
        let (address, rule) = (self.plugin, self.tenants);
        let crowd = Crowd::new();
        let maker = || {
            let crowd = crowd.clone();
            let (address, rule, name) = (address.clone(), rule.clone(), name.clone());
            let (allow, trust, live) = (allow.clone(), shared.trust.clone(), shared.live.clone());
            move |worker: Rc<Worker>| {
                let plugin = Plugin::new(address, worker.clone(), crowd);
                let meters = worker.spec.meters.plugin(&name);
                let pipeline = Rc::new(Pipeline {
                    worker,
                    plugin,
                    rule,
                    meters,
                });
                Server {
                    pipeline,
                    allow,
                    trust,
                    live,
                }
            }
        };
        prepared.run(maker, |_, _| report)
    }

    /// Serves with the plugin as a part of this.
    fn answer(wrapped: Wrapped, cli: &Cli) -> ExitCode {
        let Wrapped { config, command } = wrapped;
        let patience = config.common.drain.timeout;
        cli.serve_with(
            |sockets, log, clock| config.start_with(sockets, log, clock),
            |running, manager, log| {
                wrap::attend(running, &command, patience, manager, log)
                    .map_err(|error| Failed(error.exit_code(), error.to_string()))
            },
        )
    }
}
