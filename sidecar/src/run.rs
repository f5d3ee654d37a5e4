//! Loads what only a sidecar needs, and starts it on `gapura_mesh::start`.
//!
//! In: a checked [`Config`]. Out: a [`Running`] sidecar, or a [`StartError`] with nothing left half-started.

use std::rc::Rc;

use gapura_mesh::alarms::Alarms;
use gapura_mesh::cli::Checked;
use gapura_mesh::clock::Clock;
use gapura_mesh::identity::{IdPattern, Role, TrustDomain};
use gapura_mesh::log::Log;
use gapura_mesh::ownership;
use gapura_mesh::program::{Running, StartError};
use gapura_mesh::start::{Blueprint, Ground, Loading, Prepared};
use gapura_mesh::systemd::Sockets;
use gapura_mesh::worker::Core;

use crate::admin::Admin;
use crate::authorise::AllowList;
use crate::config::Config;
use crate::forward::{Address, Plugin};
use crate::pipeline::Pipeline;
use crate::server::Server;

const BLUEPRINT: Blueprint = Blueprint {
    main: "hop",
    token_reasons: &[],
};

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

/// Loads everything as a start would, and serves nothing.
///
/// # Errors
/// Every fault, a sentence each.
pub fn check(config: &Config) -> Result<Checked, Vec<String>> {
    load(config, &Clock::system())?;
    Ok(Checked {
        lines: vec![format!("{:#}", config.to_json())],
        ..Checked::default()
    })
}

/// Starts a sidecar.
///
/// # Errors
/// [`StartError`]: what the operator has to mend, or what the system refused.
pub fn start(config: Config, log: Log, clock: Clock) -> Result<Running, StartError> {
    start_with(config, Sockets::default(), log, clock)
}

/// Starts a sidecar on listeners that were bound for it; those that are not among them it binds itself.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    config: Config,
    sockets: Sockets,
    log: Log,
    clock: Clock,
) -> Result<Running, StartError> {
    let (ground, allow) = load(&config, &clock).map_err(StartError::Config)?;
    let alarms = Alarms::new(log.clone());
    let prepared = Prepared::new(
        &BLUEPRINT,
        (config.common, ground),
        sockets,
        alarms,
        (log, clock),
    )?;
    let shared = prepared.shared().clone();
    let name = shared.trust.load().own().id.name().as_str().to_owned();
    let report = Admin(shared.clone());
    let maker = || {
        let (address, rule, name) = (config.plugin.clone(), config.tenants.clone(), name.clone());
        let (allow, trust, live) = (allow.clone(), shared.trust.clone(), shared.live.clone());
        move |core: Rc<Core>| {
            let plugin = Plugin::new(address, core.clone());
            let meters = core.seed.meters.plugin(&name);
            let pipeline = Pipeline {
                core,
                plugin,
                rule,
                meters,
            };
            Server {
                pipeline: Rc::new(pipeline),
                allow,
                trust,
                live,
            }
        }
    };
    prepared.run(maker, |_, _| report)
}
