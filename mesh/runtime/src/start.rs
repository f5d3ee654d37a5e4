//! How a program starts: what it has loaded is bound, and only then it runs.
//!
//! In: what was loaded, and of each program how it serves a connection and what it has to say for
//! itself. Out: a [`Running`] program, or a [`StartError`] with nothing left half-started. Knows
//! neither tokens nor plugins.
//!
//! The control thread accepts, follows the files and serves the operator's side; the workers serve
//! everybody else.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use gapura_operator::pages::AdminPages;
use gapura_operator::report::Report;
use gapura_operator::shared::Shared;
use gapura_protocol::clock::Clock;
use gapura_protocol::random::Random;
use gapura_reload::asked::Reloads;
use gapura_reload::trust::{self, Reloader};
use gapura_settings::Common;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::{Level, Log};
use gapura_telemetry::metrics::Meters;
use gapura_telemetry::span::TracerSpec;
use gapura_telemetry::tap::Tap;
use gapura_transport::live::LiveConnections;
use gapura_transport::shutdown::Stop;
use tokio::task::JoinSet;

use crate::listeners::{ListenSpec, Listeners};
use crate::load::Ground;
use crate::places::{Bounds, Places};
use crate::program::{self, Running, StartError};
use crate::room::Room;
use crate::spans::{Ending, Exporter};
use crate::systemd::Sockets;
use crate::takeover::handed::Handed;
use crate::worker::{self, Serve, Worker, WorkerSpec};

/// What one program differs in before it runs.
pub struct Blueprint {
    /// What its main listener is called: `public` or `hop`.
    pub main: &'static str,
    /// Why it may refuse a token.
    pub token_reasons: &'static [&'static str],
    /// What a span calls whoever sends requests.
    pub peer: &'static str,
    /// How many connections may stand whose peer has not proven who it is.
    pub unproven: usize,
}

/// A program that is loaded and bound, and serves nobody yet.
pub struct Prepared {
    common: Common,
    ground: Ground,
    bound: Listeners,
    handed: Option<Handed>,
    shared: Shared,
    traced: Option<(Exporter, TracerSpec)>,
    stop: Stop,
    room: Room,
    bounds: Bounds,
}

impl Prepared {
    /// Binds every listener that neither systemd nor the program before this one has handed over.
    ///
    /// # Errors
    /// [`StartError`]: what the operator has to mend.
    pub fn new(
        blueprint: &Blueprint,
        (common, mut ground): (Common, Ground),
        sockets: Sockets,
        alarms: Alarms,
        (log, clock): (Log, Clock),
    ) -> Result<Self, StartError> {
        let wanted = ListenSpec {
            main: blueprint.main,
            listen: common.listen,
            sockets: &common.sockets,
            admin: &common.admin.address,
            guarded: ground.admin_token.is_some(),
            health: common.health,
            takeover: common.takeover.as_deref(),
        };
        let handed = wanted
            .takeover
            .map(|path| Handed::ask(path, log.service()))
            .transpose();
        let mut handed = handed
            .map_err(|fault| StartError::Config(vec![fault]))?
            .flatten();
        let bound = Listeners::bind(&wanted, sockets, handed.as_mut());
        let bound = bound.map_err(StartError::Config)?;
        let collector = ground.collector.take().map(|collector| {
            let random = Random::seeded().map_err(|_| {
                StartError::System("the system has no random bytes to give".to_owned())
            })?;
            Ok(Exporter::new(
                collector,
                blueprint.peer,
                log.clone(),
                random,
            ))
        });
        let traced = collector.transpose()?;
        let stop = Stop::new();
        let shared = Shared {
            trust: ground.trust.clone(),
            trust_counters: Arc::default(),
            live: LiveConnections::new(),
            alarms,
            meters: Arc::new(Meters::new(common.workers, blueprint.token_reasons)),
            spans: traced.as_ref().map(|(_, spec)| spec.counts.clone()),
            tap: (!common.no_tap).then(Tap::default),
            log,
            clock,
            stopping: stop.follow(),
        };
        let room = Room::found();
        let bounds = Bounds {
            unproven: blueprint.unproven,
            ..Bounds::of(room.connections)
        };
        Ok(Self {
            common,
            ground,
            bound,
            handed,
            shared,
            traced,
            stop,
            room,
            bounds,
        })
    }

    /// The same, with a share of the connections for each address but those of `exempt`; of a usual
    /// size, if `most` is none.
    #[must_use]
    pub fn sharing(
        mut self,
        most: Option<usize>,
        exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.bounds.per_address = most.unwrap_or(self.room.per_address());
        self.bounds.exempt = Arc::new(exempt);
        self
    }

    /// What the parts of the program will share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether the main listener can be reached from beyond this machine.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.bound.is_exposed()
    }

    /// Begins what outlasts a restart, then starts the workers, each with what `maker` makes for
    /// it, and the control thread. `control` begins on that thread what the program does there
    /// besides, and gives back what the program has to say for itself.
    ///
    /// # Errors
    /// [`StartError`]: what the operator has to mend, or what the system refused.
    pub fn run<S: Serve, M: FnOnce(Rc<Worker>) -> S + Send + 'static, R: Report>(
        self,
        maker: impl FnMut() -> M,
        control: impl FnOnce(&mut JoinSet<()>, &Reloads) -> R + Send + 'static,
    ) -> Result<Running, StartError> {
        let Self {
            common,
            ground,
            bound,
            handed,
            shared,
            traced,
            stop,
            room,
            bounds,
        } = self;
        let begun = ground
            .kept
            .begin(!common.no_crl)
            .map_err(|fault| StartError::Config(vec![fault]))?;
        for warning in ground.warnings.iter().chain(&begun.warnings) {
            shared.log.event(Level::Warn, "configuration", warning, &[]);
        }
        let (exporter, tracer) = traced.unzip();
        let spec = WorkerSpec {
            index: 0,
            of: common.workers,
            clock: shared.clock.clone(),
            log: shared.log.clone(),
            access: common.access_log,
            meters: shared.meters.clone(),
            tap: shared.tap.clone(),
            tracer,
            stopping: shared.stopping.clone(),
            held: room.held,
        };
        let (queues, workers) = worker::spawn_all(&spec, maker)?;
        let reloads = Reloads::default();
        let (log, alarms) = (shared.log.clone(), shared.alarms.clone());
        let addresses = bound.addresses();
        let (ending, asked) = (stop.clone(), reloads.clone());
        let serve = move || async move {
            let mut tasks = JoinSet::new();
            let report = control(&mut tasks, &asked);
            let watchers = AdminPages::begin(report, ground.admin_token, &mut tasks);
            let places = Places::new(bounds, shared.log.clone());
            let doors = (queues, places);
            bound.serve(&mut tasks, doors, &watchers, &shared.log, &ending);
            let reloader = Reloader {
                store: ground.trust,
                dir: common.mesh_dir,
                options: ground.options,
                live: shared.live,
                alarms: shared.alarms,
                log: shared.log.clone(),
                counters: shared.trust_counters,
                state: begun.state,
            };
            tasks.spawn_local(trust::run(reloader, asked.subscribe()));
            let last = exporter.map(|exporter| {
                let (run, ending) = exporter.begin();
                tasks.spawn_local(run);
                ending
            });
            let last = async move {
                if let Some(last) = last {
                    Ending::flushed(last).await;
                }
            };
            // The operator's side answers until everything else has ended.
            program::drain(common.drain, ending, shared.log, workers, (tasks, last)).await;
        };
        let started = Running::start(log.clone(), stop, reloads, addresses, serve);
        let started = started
            .map(|running| running.with_alarms(alarms))
            .map_err(|error| StartError::System(format!("no thread can be started: {error}")))?;
        if let Some(handed) = handed {
            take_over(handed, &log);
        }
        Ok(started)
    }
}

/// Tells the program before this one to go.
fn take_over(handed: Handed, log: &Log) {
    match handed.serves() {
        Ok(()) => {
            let message = "took over the listeners of the program before this one, which goes";
            log.event(Level::Info, "took_over", message, &[]);
        }
        Err(why) => log.event(Level::Warn, "takeover_failed", &why, &[]),
    }
}
