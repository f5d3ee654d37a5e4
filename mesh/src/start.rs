//! How a program starts: it loads, it binds, and only then it runs.
//!
//! In: checked settings, and of each program what it loads besides, how it serves a connection and what it has to say for itself.
//! Out: a [`Running`] program, or a [`StartError`] with nothing left half-started. Knows neither tokens nor plugins. `--check` ends
//! after [`Loading::end`], so that it finds the very faults that a start would.
//!
//! The control thread accepts, follows the files and serves the operator's side; the workers serve everybody else.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_runtime::bound::{Bound, Wanted, Watchers};
use gapura_runtime::config::Common;
use gapura_runtime::program::{self, Reload, Running, StartError};
use gapura_runtime::systemd::Sockets;
use gapura_runtime::worker::{self, Core, Seed, Serve};
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_telemetry::metrics::Meters;
use gapura_transport::shutdown::{Phase, Stop, Stopping};
use gapura_trust::secret;
use tokio::task::JoinSet;

use crate::pages::{Admin, Health, Report};
use crate::tls::live::LiveConnections;
use crate::tls::marks::Kept;
use crate::tls::trust::{TrustOptions, TrustSet, TrustStore};
use crate::tls::watch::{self, Keeper, TrustCounters};

/// What a program reads before it starts, and every fault found on the way.
pub struct Loading {
    trust: Option<TrustSet>,
    options: TrustOptions,
    kept: Kept,
    admin_token: Option<Arc<[u8]>>,
    faults: Vec<String>,
}

/// What both programs have loaded once there is no fault.
pub struct Ground {
    trust: TrustStore,
    options: TrustOptions,
    kept: Kept,
    admin_token: Option<Arc<[u8]>>,
}

/// What the parts of one running program share. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// The trust in force.
    pub trust: TrustStore,
    /// Its history.
    pub trust_counters: Arc<TrustCounters>,
    /// The connections that it judges again.
    pub live: LiveConnections,
    /// What is wrong.
    pub alarms: Alarms,
    /// The counters.
    pub meters: Arc<Meters>,
    /// The log.
    pub log: Log,
    /// The program's clock.
    pub clock: Clock,
    /// The program's end.
    pub stopping: Stopping,
}

/// Why a program is not ready.
pub struct Missing {
    /// What is missing, for anybody.
    pub what: &'static str,
    /// Why, for its operator.
    pub why: Option<String>,
}

/// What one program differs in before it runs.
pub struct Blueprint {
    /// What its main listener is called: `public` or `hop`.
    pub main: &'static str,
    /// Why it may refuse a token.
    pub token_reasons: &'static [&'static str],
}

/// A program that is loaded and bound, and serves nobody yet.
pub struct Prepared {
    common: Common,
    ground: Ground,
    bound: Bound,
    shared: Shared,
    stop: Stop,
}

impl Loading {
    /// Reads what both programs need, for one of this `role`.
    #[must_use]
    pub fn begin(common: &Common, role: Role, clock: &Clock) -> Self {
        let mut faults = Vec::new();
        let mut note = |fault: String| faults.push(fault);
        let kept = Kept::open(common.state_dir.as_deref(), &common.accept_crl_reset)
            .map_err(&mut note)
            .unwrap_or_default();
        let options = TrustOptions {
            own_role: role,
            no_crl: common.no_crl,
            clock: clock.clone(),
        };
        let trust = TrustSet::start(&common.mesh_dir, &options, kept.marks())
            .map_err(|error| note(error.to_string()))
            .ok();
        let token = common
            .admin
            .token_file
            .as_deref()
            .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST));
        let token = token.transpose().map_err(&mut note).ok().flatten();
        Self {
            trust,
            options,
            kept,
            admin_token: token.map(|token| Arc::from(token.as_slice())),
            faults,
        }
    }

    /// The trust set, where it fits: without it, what depends on the trust domain can't be judged.
    #[must_use]
    pub fn trust(&self) -> Option<&TrustSet> {
        self.trust.as_ref()
    }

    /// Notes a fault, a sentence.
    pub fn fault(&mut self, sentence: impl Into<String>) {
        self.faults.push(sentence.into());
    }

    /// What was read, or `None` and its fault noted.
    pub fn note<T>(&mut self, read: Result<T, impl Into<String>>) -> Option<T> {
        read.map_err(|fault| self.fault(fault)).ok()
    }

    /// The same for what may have several faults.
    pub fn note_all<T, F: ToString>(&mut self, read: Result<T, Vec<F>>) -> Option<T> {
        read.map_err(|all| self.faults.extend(all.iter().map(ToString::to_string)))
            .ok()
    }

    /// What was loaded, and what the program has read besides; nothing of it if there was any fault.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    pub fn end<T>(self, own: Option<T>) -> Result<(Ground, T), Vec<String>> {
        match (self.trust, own) {
            (Some(trust), Some(own)) if self.faults.is_empty() => {
                let ground = Ground {
                    trust: TrustStore::new(trust),
                    options: self.options,
                    kept: self.kept,
                    admin_token: self.admin_token,
                };
                Ok((ground, own))
            }
            _ => Err(self.faults),
        }
    }
}

impl Ground {
    /// The trust set that the program begins with.
    #[must_use]
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }
}

impl Shared {
    /// What keeps any program from being ready.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        if self.stopping.phase() != Phase::Run {
            missing.push(Missing {
                what: "draining",
                why: None,
            });
        }
        let trust = self.trust.load();
        if let Some(sentence) = trust.went_back() {
            missing.push(Missing {
                what: "revocation lists",
                why: Some(sentence),
            });
        } else if let Some(refusal) = trust.own_refusal(self.clock.now()) {
            missing.push(Missing {
                what: "mesh certificate",
                why: Some(refusal.to_string()),
            });
        }
        missing
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{}: {why}", self.what),
            None => f.write_str(self.what),
        }
    }
}

impl Prepared {
    /// Binds every listener that systemd has not handed over.
    ///
    /// # Errors
    /// [`StartError`]: what the operator has to mend.
    pub fn new(
        blueprint: &Blueprint,
        (common, ground): (Common, Ground),
        sockets: Sockets,
        alarms: Alarms,
        (log, clock): (Log, Clock),
    ) -> Result<Self, StartError> {
        let wanted = Wanted {
            main: blueprint.main,
            listen: common.listen,
            admin: &common.admin.address,
            guarded: ground.admin_token.is_some(),
            health: common.health,
        };
        let bound = Bound::bind(&wanted, sockets).map_err(StartError::Config)?;
        let stop = Stop::new();
        let shared = Shared {
            trust: ground.trust.clone(),
            trust_counters: Arc::default(),
            live: LiveConnections::new(),
            alarms,
            meters: Arc::new(Meters::new(common.workers, blueprint.token_reasons)),
            log,
            clock,
            stopping: stop.follow(),
        };
        Ok(Self {
            common,
            ground,
            bound,
            shared,
            stop,
        })
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

    /// Begins what outlasts a restart, then starts the workers, each with what `maker` makes for it, and the control thread. `control` begins on that thread what the
    /// program does there besides, and gives back what the program has to say for itself.
    ///
    /// # Errors
    /// [`StartError`]: what the operator has to mend, or what the system refused.
    pub fn run<S: Serve, M: FnOnce(Rc<Core>) -> S + Send + 'static, R: Report>(
        self,
        maker: impl FnMut() -> M,
        control: impl FnOnce(&mut JoinSet<()>, &Reload) -> R + Send + 'static,
    ) -> Result<Running, StartError> {
        let Self {
            common,
            ground,
            bound,
            shared,
            stop,
        } = self;
        let state_dir = ground
            .kept
            .begin(&shared.log, !common.no_crl)
            .map_err(|fault| StartError::Config(vec![fault]))?;
        let seed = Seed {
            index: 0,
            of: common.workers,
            clock: shared.clock.clone(),
            log: shared.log.clone(),
            access: common.access_log,
            meters: shared.meters.clone(),
            stopping: shared.stopping.clone(),
        };
        let (queues, workers) = worker::spawn_all(&seed, maker)?;
        let reload: Reload = Arc::new(tokio::sync::watch::channel(0).0);
        let (log, alarms) = (shared.log.clone(), shared.alarms.clone());
        let addresses = bound.addresses();
        let (ending, reloads) = (stop.clone(), reload.clone());
        let serve = move || async move {
            let mut tasks = JoinSet::new();
            let report = Rc::new(control(&mut tasks, &reloads));
            let watchers = Watchers {
                admin: Rc::new(Admin(report.clone())),
                health: Rc::new(Health(report)),
                token: ground.admin_token,
            };
            bound.serve(&mut tasks, queues, &watchers, &shared.log, &ending);
            let keeper = Keeper {
                store: ground.trust,
                dir: common.mesh_dir,
                options: ground.options,
                live: shared.live,
                alarms: shared.alarms,
                log: shared.log.clone(),
                counters: shared.trust_counters,
                reload: reloads.subscribe(),
                state: state_dir,
            };
            tasks.spawn_local(watch::keep(keeper, |_| {}, std::future::pending()));
            // The operator's side answers until everything else has ended.
            program::drain(common.drain, ending, shared.log, workers, tasks).await;
        };
        let started = Running::start(log, stop, reload, addresses, serve);
        let started = started.map(|running| running.with_alarms(alarms));
        started.map_err(|error| StartError::System(format!("no thread can be started: {error}")))
    }
}
