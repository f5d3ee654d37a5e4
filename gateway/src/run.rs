//! Starts a gateway: loads, binds, and only then runs.
//!
//! In: a checked [`Config`]. Out: a [`Running`] gateway, or a [`StartError`] with nothing left half-started. The control thread
//! accepts, watches the files, looks up names, and serves the operator's side; the workers serve clients.

use std::rc::Rc;
use std::sync::Arc;

use gapura_mesh::access::UNROUTED;
use gapura_mesh::alarms::Alarms;
use gapura_mesh::bound::{Bound, Wanted, Watchers};
use gapura_mesh::clock::Clock;
use gapura_mesh::config::exposed;
use gapura_mesh::listen::Queue;
use gapura_mesh::log::{Level, Log};
use gapura_mesh::program::{self, Reload, Running, StartError};
use gapura_mesh::shutdown::Stop;
use gapura_mesh::systemd::Sockets;
use gapura_mesh::tls::clients::ClientTrust;
use gapura_mesh::tls::live::LiveConnections;
use gapura_mesh::tls::marks::StateDir;
use gapura_mesh::tls::public::PublicStore;
use gapura_mesh::tls::watch::{self, Keeper, TrustCounters};
use gapura_mesh::tls::watch_public::{self, PublicKeeper};
use gapura_mesh::worker::{self, Core, Seed};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::{Admin, Health, State};
use crate::authenticate::{Authenticator, Follow};
use crate::config::Config;
use crate::load::{Loaded, trust_options};
use crate::own::Own;
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::server::Server;
use crate::settings::DoorSettings;
use crate::upstream::{Upstreams, resolve};

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
pub fn start_with(
    config: Config,
    sockets: Sockets,
    log: Log,
    clock: Clock,
) -> Result<Running, StartError> {
    let alarms = Alarms::new(log.clone());
    let loaded = Loaded::load(&config, &clock, &log, &alarms).map_err(StartError::Config)?;
    let bound = bind(&config, sockets)?;
    for warning in &loaded.warnings {
        log.event(Level::Warn, "configuration", warning, &[]);
    }
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
    let state = State {
        own: Own {
            trust: loaded.trust.clone(),
            public: loaded.public.clone(),
            clock: clock.clone(),
            stopping: stop.follow(),
        },
        registry: loaded.registry.clone(),
        standing: loaded.standing.clone(),
        trust_counters: Arc::new(TrustCounters::default()),
        alarms: alarms.clone(),
        meters: loaded.meters.clone(),
        log: log.clone(),
        config: Arc::new(config.to_json()),
        clients: loaded.clients.clone(),
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
        main: "public",
        listen: config.listen,
        admin: &config.admin,
        guarded: config.admin_token_file.is_some(),
        health: config.health,
    };
    let bound = Bound::bind(&wanted, sockets).map_err(StartError::Config)?;
    // What the flags were judged by may differ from what was handed over.
    if config.tls.is_none() && !exposed(config.listen) && bound.is_exposed() {
        let fault = "the socket public that systemd handed over would be plain HTTP beyond this machine; give --tls-cert and --tls-key, or set ListenStream=127.0.0.1:PORT";
        return Err(StartError::Config(vec![fault.to_owned()]));
    }
    Ok(bound)
}

fn spawn_workers(
    config: &Config,
    loaded: &Loaded,
    state: &State,
    live: &LiveConnections,
) -> Result<(Vec<Queue>, mpsc::Receiver<()>), StartError> {
    let tls = loaded
        .public
        .as_ref()
        .map(|public| {
            PublicStore::server_config(public, loaded.clients.as_ref().map(ClientTrust::verifier))
        })
        .transpose();
    let tls =
        tls.map_err(|error| StartError::System(format!("clients cannot be served: {error}")))?;
    let settings = Arc::new(DoorSettings {
        public_hosts: config.public_hosts.clone(),
        proxies: config.trusted_proxies.clone(),
        log_actors: config.log_actors,
    });
    let seed = Seed {
        index: 0,
        of: config.workers,
        clock: state.own.clock.clone(),
        log: state.log.clone(),
        access: config.access_log,
        meters: state.meters.clone(),
        stopping: state.own.stopping.clone(),
    };
    worker::spawn_all(&seed, || {
        let (own, registry, keys, signer, standing) = (
            state.own.clone(),
            state.registry.clone(),
            loaded.keys.clone(),
            loaded.signer.clone(),
            loaded.standing.clone(),
        );
        let (live, tls, settings) = (live.clone(), tls.clone(), settings.clone());
        let clients = loaded.clients.clone();
        move |core: Rc<Core>| {
            let upstreams = Upstreams::new(core.clone(), own.trust.clone(), live);
            let unrouted = core.seed.meters.plugin(UNROUTED);
            let authenticator = Authenticator::new(keys);
            Server {
                pipeline: Rc::new(Pipeline {
                    core,
                    registry,
                    authenticator,
                    standing,
                    upstreams,
                    signer,
                    own,
                    settings,
                    unrouted,
                }),
                tls,
                clients,
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
        let Loaded {
            trust,
            public,
            clients,
            keys,
            registry,
            look_soon,
            watcher,
            standing_watcher,
            admin_token,
            ..
        } = loaded;
        let (clock, log, alarms) = (
            state.own.clock.clone(),
            state.log.clone(),
            state.alarms.clone(),
        );
        let mut tasks = JoinSet::new();
        let watchers = Watchers {
            admin: Rc::new(Admin(state.clone())),
            health: Rc::new(Health(state.clone())),
            token: admin_token,
        };
        bound.serve(&mut tasks, queues, &watchers, &log, &stop);
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
                tasks.spawn_local(watch_public::keep(keeper, |_| {}, std::future::pending()));
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
            state: state_dir,
        };
        tasks.spawn_local(watch::keep(keeper, |_| {}, std::future::pending()));
        if let Some(clients) = clients {
            tasks.spawn_local(clients.keep(alarms.clone(), log.clone(), reload.subscribe()));
        }
        tasks.spawn_local(watcher.run());
        tasks.spawn_local(standing_watcher.run(reload.subscribe()));
        tasks.spawn_local(resolve::run(registry.clone(), look_soon));
        tasks.spawn_local(keys.follow(Follow {
            clock,
            alarms,
            log: log.clone(),
            reload: reload.subscribe(),
        }));
        tasks.spawn_local(pass_reload_on(registry, reload.subscribe()));
        // The operator's side answers until everything else has ended.
        program::drain(config.drain, stop, log, workers, tasks).await;
    }
}

async fn pass_reload_on(registry: Registry, mut reload: tokio::sync::watch::Receiver<u64>) {
    while reload.changed().await.is_ok() {
        registry.reload();
    }
}
