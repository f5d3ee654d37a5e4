//! Starts a sidecar: loads, binds, and only then runs.
//!
//! In: a checked [`Config`]. Out: a [`Running`] sidecar, or a [`StartError`] with nothing left half-started. The control thread
//! accepts, watches the mesh directory and serves the operator's side; the workers serve gateways.

use std::rc::Rc;
use std::sync::Arc;

use gapura_mesh::alarms::Alarms;
use gapura_mesh::bound::{Bound, Wanted, Watchers};
use gapura_mesh::clock::Clock;
use gapura_mesh::identity::{IdPattern, Role};
use gapura_mesh::listen::Queue;
use gapura_mesh::log::{Level, Log};
use gapura_mesh::metrics::Meters;
use gapura_mesh::ownership;
use gapura_mesh::program::{self, Reload, Running, StartError};
use gapura_mesh::secret;
use gapura_mesh::shutdown::Stop;
use gapura_mesh::systemd::Sockets;
use gapura_mesh::tls::live::LiveConnections;
use gapura_mesh::tls::marks::{Kept, StateDir};
use gapura_mesh::tls::trust::{TrustOptions, TrustSet, TrustStore};
use gapura_mesh::tls::watch::{self, Keeper, TrustCounters};
use gapura_mesh::upstream::crowd::Crowd;
use gapura_mesh::worker::{self, Core, Seed};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::{Admin, Health, State};
use crate::authorise::AllowList;
use crate::config::Config;
use crate::forward::{Address, Plugin};
use crate::pipeline::Pipeline;
use crate::server::Server;

/// Everything a sidecar starts from.
struct Loaded {
    /// The mesh directory's set.
    trust: TrustStore,
    /// How far the CRLs had come.
    kept: Kept,
    /// Who may use the plugin.
    allow: AllowList,
    /// What an operator must say on the admin side.
    admin_token: Option<Arc<[u8]>>,
}

impl Loaded {
    /// Reads every file; the very same for `--check` as for a start.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    fn load(config: &Config, clock: &Clock) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let kept = Kept::open(config.state_dir.as_deref(), &config.accept_crl_reset)
            .map_err(|fault| faults.push(fault))
            .unwrap_or_default();
        let options = trust_options(config, clock);
        let trust = TrustSet::start(&config.mesh_dir, &options, kept.marks())
            .map_err(|error| faults.push(error.to_string()))
            .ok();
        let token = config
            .admin_token_file
            .as_deref()
            .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST));
        let token = token.transpose().map_err(|fault| faults.push(fault)).ok();
        if let Address::Unix(path) = &config.plugin
            && let Err(why) = ownership::check_socket(path)
        {
            faults.push(format!("--plugin unix:{}: {why}", path.display()));
        }
        let allow = trust
            .as_ref()
            .map(|trust| allow_list(config, trust, &mut faults));
        match (trust, token, allow) {
            (Some(trust), Some(token), Some(allow)) if faults.is_empty() => Ok(Self {
                trust: TrustStore::new(trust),
                kept,
                allow,
                admin_token: token.map(|token| Arc::from(token.as_slice())),
            }),
            _ => Err(faults),
        }
    }
}

/// Loads everything as a start would, and serves nothing.
///
/// # Errors
/// Every fault, a sentence each.
pub fn check(config: &Config) -> Result<(), Vec<String>> {
    Loaded::load(config, &Clock::system()).map(drop)
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
    let loaded = Loaded::load(&config, &clock).map_err(StartError::Config)?;
    let bound = bind(&config, sockets)?;
    let kept = loaded.kept.clone();
    let begun = kept
        .begin(!config.no_crl)
        .map_err(|fault| StartError::Config(vec![fault]))?;
    for warning in &begun.warnings {
        log.event(Level::Warn, "configuration", warning, &[]);
    }
    let state_dir = begun.state;
    let stop = Stop::new();
    let reload: Reload = Arc::new(tokio::sync::watch::channel(0).0);
    let alarms = Alarms::new(log.clone());
    let state = State {
        trust: loaded.trust.clone(),
        trust_counters: Arc::new(TrustCounters::default()),
        alarms: alarms.clone(),
        meters: Arc::new(Meters::new(config.workers, &[])),
        log: log.clone(),
        clock,
        stopping: stop.follow(),
    };
    let live = LiveConnections::new();
    let (queues, workers) = spawn_workers(&config, &loaded, &state, &live)?;
    let addresses = bound.addresses();
    let control = Control {
        config,
        loaded,
        bound,
        state,
        live,
        state_dir,
        queues,
        workers,
        stop: stop.clone(),
        reload: reload.clone(),
    };
    let started = Running::start(log, stop, reload, addresses, move || control.run());
    let started = started.map(|running| running.with_alarms(alarms));
    started.map_err(|error| StartError::System(format!("no thread can be started: {error}")))
}

/// What the control thread takes with it.
struct Control {
    config: Config,
    loaded: Loaded,
    bound: Bound,
    state: State,
    live: LiveConnections,
    state_dir: Option<StateDir>,
    queues: Vec<Queue>,
    workers: mpsc::Receiver<()>,
    stop: Stop,
    reload: Reload,
}

fn bind(config: &Config, sockets: Sockets) -> Result<Bound, StartError> {
    let wanted = Wanted {
        main: "hop",
        listen: config.listen,
        admin: &config.admin,
        guarded: config.admin_token_file.is_some(),
        health: config.health,
    };
    Bound::bind(&wanted, sockets).map_err(StartError::Config)
}

fn trust_options(config: &Config, clock: &Clock) -> TrustOptions {
    TrustOptions {
        own_role: Role::Plugin,
        no_crl: config.no_crl,
        clock: clock.clone(),
    }
}

/// The peers that may connect; without a list every gateway of our own trust domain.
fn allow_list(config: &Config, trust: &TrustSet, faults: &mut Vec<String>) -> AllowList {
    let domain = trust.own().id.domain();
    for pattern in config
        .allow
        .iter()
        .filter(|pattern| pattern.domain() != domain)
    {
        faults.push(format!("--allow {pattern}: this sidecar's trust domain is {domain}; nobody of another can get in"));
    }
    if config.allow.is_empty() {
        return AllowList::new(vec![IdPattern::any(domain.clone(), Role::Gateway)]);
    }
    AllowList::new(config.allow.clone())
}

fn spawn_workers(
    config: &Config,
    loaded: &Loaded,
    state: &State,
    live: &LiveConnections,
) -> Result<(Vec<Queue>, mpsc::Receiver<()>), StartError> {
    let name = state.trust.load().own().id.name().as_str().to_owned();
    let seed = Seed {
        index: 0,
        of: config.workers,
        clock: state.clock.clone(),
        log: state.log.clone(),
        access: config.access_log,
        meters: state.meters.clone(),
        stopping: state.stopping.clone(),
    };
    let crowd = Crowd::new();
    worker::spawn_all(&seed, || {
        let crowd = crowd.clone();
        let (address, rule, name) = (config.plugin.clone(), config.tenants.clone(), name.clone());
        let (allow, trust, live) = (loaded.allow.clone(), loaded.trust.clone(), live.clone());
        move |core: Rc<Core>| {
            let plugin = Plugin::new(address, core.clone(), crowd);
            let meters = core.seed.meters.plugin(&name);
            Server {
                pipeline: Rc::new(Pipeline {
                    core,
                    plugin,
                    rule,
                    meters,
                }),
                allow,
                trust,
                live,
            }
        }
    })
}

impl Control {
    /// Runs until the program's end.
    async fn run(self) {
        let Self {
            config,
            loaded,
            bound,
            state,
            live,
            state_dir,
            queues,
            workers,
            stop,
            reload,
        } = self;
        let log = state.log.clone();
        let mut tasks = JoinSet::new();
        let (admin, health) = (
            Rc::new(Admin(state.clone())),
            Rc::new(Health(state.clone())),
        );
        bound.serve(
            &mut tasks,
            queues,
            &Watchers {
                admin,
                health,
                token: loaded.admin_token,
            },
            &log,
            &stop,
        );
        let keeper = Keeper {
            store: loaded.trust,
            dir: config.mesh_dir.clone(),
            options: trust_options(&config, &state.clock),
            live,
            alarms: state.alarms.clone(),
            log: log.clone(),
            counters: state.trust_counters.clone(),
            reload: reload.subscribe(),
            state: state_dir,
        };
        tasks.spawn_local(watch::keep(keeper, |_| {}, std::future::pending()));
        // The operator's side answers until everything else has ended.
        program::drain(config.drain, stop, log, workers, tasks).await;
    }
}
