//! Starts a gateway on `gapura_runtime::start`: what its workers serve with, and what its control
//! thread follows besides.
//!
//! In: a checked [`Config`]. Out: a [`Running`] gateway, or a [`StartError`] with nothing left
//! half-started.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gapura_operator::shared::Shared;
use gapura_protocol::clock::Clock;
use gapura_reload::asked::Reloads;
use gapura_reload::clients::ClientTrust;
use gapura_reload::public::{self, PublicReloader};
use gapura_runtime::cli::{Checked, Cli, Program};
use gapura_runtime::program::{Running, StartError};
use gapura_runtime::start::{Blueprint, Prepared};
use gapura_runtime::systemd::Sockets;
use gapura_runtime::worker::Worker;
use gapura_settings::exposed;
use gapura_telemetry::access::UNROUTED;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::{Level, Log};
use gapura_transport::turns::{Bounds, Turns};
use gapura_trust::public::PublicStore;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;

use crate::admin::Admin;
use crate::authenticate::{Authenticator, Error as TokenError, Follow, Keys};
use crate::check::{self, Look};
use crate::command;
use crate::config::{self, Config, Question, TlsFiles};
use crate::docs::Docs;
use crate::endpoints::Endpoints;
use crate::explain::explain;
use crate::load::Loaded;
use crate::openapi::{Book, Portal};
use crate::pipeline::Pipeline;
use crate::rate_limit::Limiter;
use crate::registry::{self, Registry};
use crate::server::Server;
use crate::settings::Downstream;
use crate::sign::Signer;
use crate::standing::{self, Standing};
use crate::upstream::cluster::LookSoon;
use crate::upstream::holding::Holdings;
use crate::upstream::{Upstreams, prober, resolve};

const BLUEPRINT: Blueprint = Blueprint {
    main: "public",
    peer: "client.address",
    token_reasons: &TokenError::LABELS,
    unproven: usize::MAX, // a client need not prove who it is
};

/// How many requests begin before one has to wait.
const REQUESTS: Bounds = Bounds {
    // All of these together take a worker three milliseconds, and no quiet one notices; to
    // make a burst wait costs each of its requests a place in a line.
    after_a_lull: 128,
    // A worker looks at its sockets after 61 steps at the latest (tokio's own number), and a
    // request takes five to seven: with more than these, what is begun would pile up, and who comes
    // wait for all of it. `docs/performance.md` has what was measured.
    a_round: 8,
    // Each some kilobytes: as many as wait for a plugin.
    waiting: 1024,
};

/// What each worker makes its server from.
#[derive(Clone)]
struct Parts {
    endpoints: Endpoints,
    registry: Registry,
    keys: Keys,
    standing: Standing,
    limiter: Limiter,
    signer: Option<Arc<Signer>>,
    settings: Arc<Downstream>,
    portal: Portal,
    book: Book,
    docs: Option<Arc<Docs>>,
    tls: Option<Arc<ServerConfig>>,
    clients: Option<ClientTrust>,
}

/// What the control thread follows for as long as the gateway runs.
struct Followed {
    public: Option<(PublicStore, TlsFiles)>,
    clients: Option<ClientTrust>,
    keys: Keys,
    watcher: registry::Watcher,
    standing: standing::Watcher,
    registry: Registry,
    look_soon: LookSoon,
    shared: Shared,
}

impl Program for Config {
    const SERVICE: &'static str = "gateway";

    fn check(&self) -> Result<Checked, Vec<String>> {
        command::check(self)
    }

    fn start_with(self, sockets: Sockets, log: Log, clock: Clock) -> Result<Running, StartError> {
        let alarms = Alarms::new(log.clone());
        let loaded = Loaded::load(&self, &clock, &log, &alarms).map_err(StartError::Config)?;
        let shown = self.to_json();
        let common = self.common.clone();
        let prepared = Prepared::new(
            &BLUEPRINT,
            (common, loaded.ground),
            sockets,
            alarms,
            (log, clock),
        )?;
        let proxies = self.trusted_proxies.clone();
        let prepared = prepared.sharing(self.connections_per_address, move |ip| {
            proxies.iter().any(|block| block.contains(ip))
        });
        // What the flags were judged by may differ from what was handed over.
        if self.tls.is_none() && !exposed(self.common.listen) && prepared.is_exposed() {
            let fault = "the socket public that systemd handed over would be plain HTTP beyond this machine; give --tls-cert and --tls-key, or set ListenStream=127.0.0.1:PORT";
            return Err(StartError::Config(vec![fault.to_owned()]));
        }
        let shared = prepared.shared().clone();
        shared.meters.count_companies(self.page_tenants);
        for warning in &loaded.warnings {
            shared.log.event(Level::Warn, "configuration", warning, &[]);
        }
        let tls = loaded
            .public
            .as_ref()
            .map(|public| {
                PublicStore::server_config(
                    public,
                    loaded.clients.as_ref().map(ClientTrust::verifier),
                    self.tls_min,
                )
            })
            .transpose();
        let tls =
            tls.map_err(|error| StartError::System(format!("clients cannot be served: {error}")))?;
        let book = loaded.book;
        let title = self.public_hosts.first().map_or("Gapura", String::as_str);
        let portal = Portal::new(
            self.openapi,
            title.to_owned(),
            book.clone(),
            loaded.registry.clone(),
        );
        let portal = portal
            .ok_or_else(|| StartError::System("/openapi.json can't be limited".to_owned()))?;
        let parts = Parts {
            endpoints: Endpoints {
                shared: shared.clone(),
                public: loaded.public.clone(),
            },
            registry: loaded.registry.clone(),
            keys: loaded.keys.clone(),
            standing: loaded.standing.clone(),
            limiter: Limiter::new(Instant::now()),
            signer: loaded.signer,
            portal,
            book,
            docs: self.docs.then(|| Arc::new(Docs::new())),
            settings: Arc::new(Downstream {
                public_hosts: self.public_hosts,
                proxies: self.trusted_proxies,
                proxy_protocol: self.proxy_protocol,
                body_rate: self.body_rate,
                hsts: self.hsts.map(config::strict_transport),
                takes_logouts: self.auth.logout.is_some(),
                log_actors: self.log_actors,
                openapi: self.openapi,
                docs: self.docs,
            }),
            tls,
            clients: loaded.clients.clone(),
        };
        let report = Admin {
            endpoints: parts.endpoints.clone(),
            registry: loaded.registry.clone(),
            standing: loaded.standing,
            keys: loaded.keys.clone(),
            limiter: parts.limiter.clone(),
            settings: parts.settings.clone(),
            config: shown,
            clients: loaded.clients.clone(),
            book: parts.book.clone(),
        };
        let followed = Followed {
            public: loaded.public.zip(self.tls),
            clients: loaded.clients,
            keys: loaded.keys,
            watcher: loaded.watcher,
            standing: loaded.standing_watcher,
            registry: loaded.registry,
            look_soon: loaded.look_soon,
            shared,
        };
        let maker = || {
            let parts = parts.clone();
            move |worker: Rc<Worker>| parts.server(worker)
        };
        prepared.run(maker, move |tasks, reload| {
            followed.follow(tasks, reload);
            report
        })
    }

    fn answer(question: Question, cli: &Cli) -> ExitCode {
        cli.print(match question {
            Question::Plugins(files) => return looked(check::look(&files, &Clock::system()), cli),
            Question::Schema => Ok(format!("{:#}", registry::schema())),
            Question::Explain(question) => explain(&question, &Clock::system()),
            Question::SigningKey { plugin, secret } => command::signing_keys(&plugin, &secret)
                .map(|keys| keys.join("\n"))
                .map_err(|fault| vec![fault]),
        })
    }
}

/// As `diff` has it: 1 for what differs.
fn looked(look: Result<Look, Vec<String>>, cli: &Cli) -> ExitCode {
    let differs = look.as_ref().is_ok_and(|look| look.differs);
    let code = cli.checked(look.map(|look| look.checked));
    if differs { ExitCode::from(1) } else { code }
}

impl Parts {
    fn server(self, worker: Rc<Worker>) -> Server {
        let shared = &self.endpoints.shared;
        let (trust, live) = (shared.trust.clone(), shared.live.clone());
        let upstreams = Rc::new(Upstreams::new(worker.clone(), trust, live));
        if worker.spec.index == 0 {
            // One a program, on a worker, so that what it asks takes the ways that requests take.
            let asking = prober::run(
                upstreams.clone(),
                worker.clone(),
                self.registry.clone(),
                self.book,
            );
            worker.tasks.spawn("the prober", asking);
        }
        let holdings = Rc::new(Holdings::new(&worker.timers));
        worker
            .tasks
            .spawn("a look at who holds places", holdings.clone().run());
        let turns = Turns::new(REQUESTS, worker.lulls.clone());
        worker
            .tasks
            .spawn("a look at whose turn it is", turns.clone().run());
        let unrouted = worker.spec.meters.plugin(UNROUTED);
        Server {
            pipeline: Rc::new(Pipeline {
                worker,
                registry: self.registry,
                authenticator: Authenticator::new(self.keys),
                standing: self.standing,
                limiter: self.limiter,
                upstreams,
                turns,
                holdings,
                signer: self.signer,
                endpoints: self.endpoints,
                settings: self.settings,
                portal: self.portal,
                docs: self.docs,
                unrouted,
            }),
            tls: self.tls,
            clients: self.clients,
        }
    }
}

impl Followed {
    fn follow(self, tasks: &mut JoinSet<()>, reload: &Reloads) {
        let Shared {
            alarms, log, clock, ..
        } = self.shared;
        if let Some((store, files)) = self.public {
            let reloader = PublicReloader {
                store,
                cert: files.cert,
                key: files.key,
                clock: clock.clone(),
                alarms: alarms.clone(),
                log: log.clone(),
            };
            tasks.spawn_local(public::run(reloader, reload.subscribe()));
        }
        if let Some(clients) = self.clients {
            tasks.spawn_local(clients.run(alarms.clone(), log.clone(), reload.subscribe()));
        }
        tasks.spawn_local(self.watcher.run(reload.subscribe()));
        tasks.spawn_local(self.standing.run(reload.subscribe()));
        tasks.spawn_local(resolve::run(self.registry, self.look_soon));
        tasks.spawn_local(self.keys.follow(Follow {
            clock,
            alarms,
            log,
            reload: reload.subscribe(),
        }));
    }
}
