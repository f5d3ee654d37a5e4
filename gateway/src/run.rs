//! Starts a gateway: loads, binds, and only then runs.
//!
//! In: a checked [`Config`]. Out: a [`Running`] gateway, or a [`StartError`] with nothing left half-started. The control thread
//! accepts, watches the files, looks up names, and serves the operator's side; the workers serve clients.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapura_mesh::access::{Mode, UNROUTED};
use gapura_mesh::admin::{self, Rules};
use gapura_mesh::alarms::Alarms;
use gapura_mesh::clock::Clock;
use gapura_mesh::config::{AccessLog, AdminAddress, exposed};
use gapura_mesh::listen::{self, Queue};
use gapura_mesh::log::{Level, Log};
use gapura_mesh::metrics::Meters;
use gapura_mesh::program::{self, Reload, Running, StartError};
use gapura_mesh::shutdown::{Phase, Stop};
use gapura_mesh::systemd::Sockets;
use gapura_mesh::tls::live::LiveConnections;
use gapura_mesh::tls::public::{self, PublicKeeper};
use gapura_mesh::tls::watch::{self, Keeper, TrustCounters};
use gapura_mesh::worker::{self, Core, Seed};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::{Admin, Health, State};
use crate::authenticate::{Authenticator, Error as TokenError, Keys};
use crate::config::Config;
use crate::forward::Forward;
use crate::forward::instances::{Instances, LOOK_UP_EVERY};
use crate::load::{Loaded, trust_options};
use crate::own::Own;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::server::Server;
use crate::settings::DoorSettings;

/// How often files of keys are looked at: half of what a change may take.
const LOOK_AT_KEYS: Duration = Duration::from_secs(1);

/// Starts a gateway.
///
/// # Errors
/// [`StartError`]: what the operator has to mend, or what the system refused.
pub fn start(config: Config, log: Log, clock: Clock) -> Result<Running, StartError> {
    start_with(config, Sockets::default(), log, clock)
}

/// Starts a gateway on listeners that were bound for it; those that are not among them it binds itself.
///
/// # Errors
/// As [`start`].
pub fn start_with(config: Config, sockets: Sockets, log: Log, clock: Clock) -> Result<Running, StartError> {
    let alarms = Alarms::new(log.clone());
    let loaded = Loaded::load(&config, &clock, &log, &alarms).map_err(StartError::Config)?;
    let bound = Bound::bind(&config, sockets)?;
    for warning in &loaded.warnings {
        log.event(Level::Warn, "configuration", warning, &[]);
    }
    let stop = Stop::new();
    let reload: Reload = Arc::new(tokio::sync::watch::channel(0).0);
    let meters = Arc::new(Meters::new(config.workers, &TokenError::LABELS));
    let state = State {
        own: Own { trust: loaded.trust.clone(), public: loaded.public.clone(), clock: clock.clone(), stopping: stop.follow() },
        registry: loaded.registry.clone(),
        instances: Instances::default(),
        trust_counters: Arc::new(TrustCounters::default()),
        alarms: alarms.clone(),
        meters,
        log: log.clone(),
        config: Arc::new(config.to_json()),
    };
    let live = LiveConnections::new();
    let (queues, workers) = spawn_workers(&config, &loaded, &state, &live)?;
    let addresses = bound.addresses();
    let control = Control { config, loaded, bound, state, live, queues, workers, stop: stop.clone(), reload: reload.clone() };
    let started = Running::start(log, stop, reload, addresses, move || control.run());
    let started = started.map(|running| running.with_alarms(alarms));
    started.map_err(|error| StartError::System(format!("no thread can be started: {error}")))
}

/// Every listener, bound before anything runs.
struct Bound {
    public: std::net::TcpListener,
    admin: Option<std::net::TcpListener>,
    admin_socket: Option<std::os::unix::net::UnixListener>,
    health: Option<std::net::TcpListener>,
}

/// What the control thread takes with it.
struct Control {
    config: Config,
    loaded: Loaded,
    bound: Bound,
    state: State,
    live: LiveConnections,
    queues: Vec<Queue>,
    workers: mpsc::Receiver<()>,
    stop: Stop,
    reload: Reload,
}

/// What systemd may call the sockets it hands over; the first is what one without a name is for.
const SOCKETS: [&str; 3] = ["public", "admin", "health"];

impl Bound {
    fn bind(config: &Config, mut sockets: Sockets) -> Result<Self, StartError> {
        let mut faults = Vec::new();
        let mut tcp = |name, address, flag: &str| match sockets.take(name, &SOCKETS) {
            Some(handed) => Some(handed),
            None => program::bind(address, flag).map_err(|fault| faults.push(fault)).ok(),
        };
        let public = tcp("public", config.listen, "--listen");
        let health = config.health.and_then(|address| tcp("health", address, "--health"));
        let (admin, admin_socket) = match &config.admin {
            AdminAddress::Tcp(address) => (tcp("admin", *address, "--admin"), None),
            AdminAddress::Unix(path) => (None, program::bind_socket(path, "--admin").map_err(|fault| faults.push(fault)).ok()),
        };
        faults.extend(sockets.left(&SOCKETS));
        // What the flags were judged by may differ from what was handed over.
        if config.tls.is_none() && !exposed(config.listen) && is_exposed(public.as_ref()) {
            faults.push("the socket public that systemd handed over would be plain HTTP beyond this machine; give --tls-cert and --tls-key, or set ListenStream=127.0.0.1:PORT".to_owned());
        }
        if config.admin_token_file.is_none() && is_exposed(admin.as_ref()) {
            faults.push("the socket admin that systemd handed over can be reached from beyond this machine; give --admin-token-file, or set ListenStream=127.0.0.1:PORT".to_owned());
        }
        match public {
            Some(public) if faults.is_empty() => Ok(Self { public, admin, admin_socket, health }),
            _ => Err(StartError::Config(faults)),
        }
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let listeners = [("public", Some(&self.public)), ("admin", self.admin.as_ref()), ("health", self.health.as_ref())];
        listeners.into_iter().filter_map(|(name, listener)| Some((name, listener?.local_addr().ok()?))).collect()
    }
}

fn is_exposed(listener: Option<&std::net::TcpListener>) -> bool {
    listener.and_then(|listener| listener.local_addr().ok()).is_some_and(exposed)
}

fn spawn_workers(
    config: &Config,
    loaded: &Loaded,
    state: &State,
    live: &LiveConnections,
) -> Result<(Vec<Queue>, mpsc::Receiver<()>), StartError> {
    let system = |error: &dyn std::fmt::Display| StartError::System(format!("a worker cannot be started: {error}"));
    let tls =
        loaded.public.as_ref().map(gapura_mesh::tls::public::PublicStore::server_config).transpose().map_err(|error| system(&error))?;
    let settings = Arc::new(DoorSettings { public_hosts: config.public_hosts.clone(), proxies: config.trusted_proxies.clone() });
    let (alive, workers) = mpsc::channel(1);
    let mut queues = Vec::new();
    for index in 0..config.workers {
        let (queue, connections) = Queue::new();
        queues.push(queue);
        let seed = Seed {
            index,
            of: config.workers,
            clock: state.own.clock.clone(),
            log: state.log.clone(),
            access: mode(config.access_log),
            meters: state.meters.clone(),
            stopping: state.own.stopping.clone(),
        };
        let (own, registry, keys, signer) = (state.own.clone(), state.registry.clone(), loaded.keys.clone(), loaded.signer.clone());
        let (instances, live, tls, settings, alive) = (state.instances.clone(), live.clone(), tls.clone(), settings.clone(), alive.clone());
        let make = move |core: Rc<Core>| {
            let forward = Forward::new(core.clone(), own.trust.clone(), live, instances, signer);
            let unrouted = core.seed.meters.plugin(UNROUTED);
            let authenticator = Authenticator::new(keys);
            Server { pipeline: Rc::new(Pipeline { core, registry, authenticator, forward, own, settings, unrouted }), tls }
        };
        worker::spawn(seed, connections, alive, make).map_err(|error| system(&error))?;
    }
    Ok((queues, workers))
}

fn mode(access_log: AccessLog) -> Mode {
    match access_log {
        AccessLog::On => Mode::On,
        AccessLog::Errors => Mode::Errors,
        AccessLog::Off => Mode::Off,
    }
}

impl Control {
    /// Runs until the program's end.
    async fn run(self) {
        let Self { config, loaded, bound, state, live, queues, workers, stop, reload } = self;
        let Loaded { trust, public, keys, registry, watcher, admin_token, .. } = loaded;
        let (clock, log, alarms) = (state.own.clock.clone(), state.log.clone(), state.alarms.clone());
        let mut tasks = JoinSet::new();
        let rules = Rules { check_host: true, token: admin_token };
        let (admin, health) = (Rc::new(Admin(state.clone())), Rc::new(Health(state.clone())));
        for listener in bound.admin.and_then(program::tcp).into_iter().chain(bound.admin_socket.and_then(program::unix)) {
            tasks.spawn_local(admin::serve(listener, rules.clone(), admin.clone()));
        }
        if let Some(listener) = bound.health.and_then(program::tcp) {
            tasks.spawn_local(admin::serve(listener, Rules::default(), health));
        }
        if let Some(store) = public {
            let files = config.tls.clone();
            let keeper = files.map(|files| PublicKeeper {
                store,
                cert: files.cert,
                key: files.key,
                clock: clock.clone(),
                alarms: alarms.clone(),
                log: log.clone(),
                reload: reload.subscribe(),
            });
            if let Some(keeper) = keeper {
                tasks.spawn_local(public::keep(keeper, |_| {}, std::future::pending()));
            }
        }
        let keeper = Keeper {
            store: trust,
            dir: config.mesh_dir.clone(),
            options: trust_options(&config, &clock),
            live,
            alarms: alarms.clone(),
            log: log.clone(),
            counters: state.trust_counters.clone(),
            reload: reload.subscribe(),
        };
        tasks.spawn_local(watch::keep(keeper, |_| {}, std::future::pending()));
        tasks.spawn_local(watcher.run());
        tasks.spawn_local(look_up_names(registry.clone(), state.instances.clone()));
        tasks.spawn_local(look_at_keys(keys, alarms, reload.subscribe()));
        tasks.spawn_local(pass_reload_on(registry, reload.subscribe()));
        match tokio::net::TcpListener::from_std(bound.public) {
            Ok(listener) => {
                tasks.spawn_local(listen::accept(listener, queues, log.clone(), stop.follow()));
            }
            Err(error) => {
                log.event(Level::Error, "listen_failed", &format!("the public listener broke: {error}"), &[]);
                stop.raise(Phase::Cut);
            }
        }
        // The operator's side answers until everything else has ended.
        program::drain(config.drain, stop, log, workers).await;
    }
}

async fn look_up_names(registry: Registry, instances: Instances) {
    loop {
        let plugins: Vec<_> = registry.table().plugins().iter().map(|(_, plugin)| plugin.clone()).collect();
        instances.look_up(&plugins).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_UP_EVERY) => {}
            () = instances.wanted() => {}
        }
    }
}

async fn look_at_keys(keys: Keys, alarms: Alarms, mut reload: tokio::sync::watch::Receiver<u64>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_AT_KEYS) => {}
            changed = reload.changed() => if changed.is_err() { return },
        }
        // Files are read here and not on a worker; what came of it is told by the alarm and by the next request.
        let _ = keys.reload_if_changed(&alarms);
    }
}

async fn pass_reload_on(registry: Registry, mut reload: tokio::sync::watch::Receiver<u64>) {
    while reload.changed().await.is_ok() {
        registry.reload();
    }
}
