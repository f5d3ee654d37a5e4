//! Loads what an agent needs, and starts it: one control thread, on which everything happens but
//! the waiting for disks.
//!
//! In: a checked [`Config`]. Out: a [`Running`] agent, or a [`StartError`] with nothing left
//! half-started.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapura_certificates::refusal::Refusal;
use gapura_files::gate;
use gapura_files::secret;
use gapura_operator::admin::{self, Rules};
use gapura_protocol::clock::Clock;
use gapura_protocol::random::Random;
use gapura_reload::asked::Reloads;
use gapura_reload::watch::blocking;
use gapura_runtime::cli::{Checked, Cli, Failed, Program};
use gapura_runtime::program::{self, Running, StartError};
use gapura_runtime::systemd::Sockets;
use gapura_settings::{AdminAddress, Drain, exposed};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use gapura_transport::shutdown::Stop;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{Config, Own};
use crate::directory::{Directory, Found, Held};
use crate::hook::Hook;
use crate::host::{self, Host};
use crate::pages::{Admin, Health};
use crate::state::State;
use crate::trouble::Trouble;
use crate::{news, once, renewal, status, token};

/// What was read before anything runs.
struct Loaded {
    directory: Directory,
    held: Option<Held>,
    admin_token: Option<Arc<[u8]>>,
    warnings: Vec<String>,
}

/// How often it is looked at what time alone decides.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads every file; the very same for `--check` as for a start.
fn load(config: &Config, clock: &Clock) -> Result<Loaded, Vec<String>> {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let directory = Directory::new(&config.mesh_dir, clock, gate::OPEN);
    let found = directory.look();
    // A token may be gone, or used, once there is a certificate.
    let token = config.token_file.as_deref().map(token::read);
    let has_token = matches!(token, Some(Ok(_)));
    let held = match found {
        Found::Held(held) => Some(held),
        Found::Nothing => {
            match &token {
                Some(Ok(_)) => {}
                Some(Err(why)) => faults.push(why.clone()),
                None => faults.push(format!(
                    "--mesh-dir {}: holds no certificate, so a join token is needed: make one with `gapura-pki token`, and give --token-file",
                    config.mesh_dir.display()
                )),
            }
            None
        }
        Found::Unfit(why) => {
            let sentence = format!("--mesh-dir {}: {why}", config.mesh_dir.display());
            if has_token {
                warnings.push(format!("{sentence}; the join token gets a new set"));
            } else {
                faults.push(format!(
                    "{sentence}; mend it, or give --token-file with a new join token"
                ));
            }
            None
        }
    };
    if let (Some(held), Some(Ok(token))) = (&held, &token)
        && held.set.own().id != token.identity()
    {
        faults.push(format!(
            "--token-file: the join token is for {}, and --mesh-dir {} holds the certificate of {}; give each its own directory",
            token.identity(),
            config.mesh_dir.display(),
            held.set.own().id
        ));
    }
    if config.ca.is_none()
        && let Err(Trouble::Token(why)) =
            host::server_of(token.as_ref().and_then(|token| token.as_ref().ok()))
    {
        faults.push(why);
    }
    let admin_token = config.admin.token_file.as_deref();
    let admin_token = admin_token
        .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST))
        .transpose();
    match admin_token {
        Ok(admin_token) if faults.is_empty() => Ok(Loaded {
            directory,
            held,
            admin_token: admin_token.map(|token| Arc::from(token.as_slice())),
            warnings,
        }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

/// The operator's side and the health listener.
struct Listeners {
    admin: Option<TcpListener>,
    admin_socket: Option<UnixListener>,
    health: Option<TcpListener>,
}

fn bind(config: &Config, guarded: bool, mut sockets: Sockets) -> Result<Listeners, Vec<String>> {
    const KNOWN: [&str; 2] = ["admin", "health"];
    let mut faults = Vec::new();
    let mut tcp = |name, address, flag| match sockets.take(name, &KNOWN) {
        Some(passed) => Some(passed),
        None => program::bind(address, flag)
            .map_err(|fault| faults.push(fault))
            .ok(),
    };
    let health = config
        .health
        .and_then(|address| tcp("health", address, "--health"));
    let (admin, admin_socket) = match &config.admin.address {
        AdminAddress::Tcp(address) => (tcp("admin", *address, "--admin"), None),
        AdminAddress::Unix(path) => {
            let bound = program::bind_socket(path, "--admin").map_err(|fault| faults.push(fault));
            (None, bound.ok())
        }
    };
    faults.extend(sockets.left(&KNOWN));
    let is_exposed = |listener: &TcpListener| listener.local_addr().is_ok_and(exposed);
    if !guarded && admin.as_ref().is_some_and(is_exposed) {
        faults.push("the socket admin that systemd handed over can be reached from beyond this machine; give --admin-token-file, or set ListenStream=127.0.0.1:PORT".to_owned());
    }
    if faults.is_empty() {
        Ok(Listeners {
            admin,
            admin_socket,
            health,
        })
    } else {
        Err(faults)
    }
}

impl Program for Config {
    const SERVICE: &'static str = "agent";

    fn check(&self) -> Result<Checked, Vec<String>> {
        let loaded = load(self, &Clock::system())?;
        let mut lines = vec![format!("{:#}", self.to_json())];
        lines.push(match &loaded.held {
            Some(held) => format!("holds: {}", held.set.own().id),
            None => "holds no certificate; the join token gets one".to_owned(),
        });
        Ok(Checked {
            lines,
            warnings: loaded.warnings,
        })
    }

    fn start_with(self, sockets: Sockets, log: Log, clock: Clock) -> Result<Running, StartError> {
        let loaded = load(&self, &clock).map_err(StartError::Config)?;
        let state =
            State::open(&self.state_dir).map_err(|fault| StartError::Config(vec![fault]))?;
        let listeners =
            bind(&self, loaded.admin_token.is_some(), sockets).map_err(StartError::Config)?;
        let random = Random::seeded()
            .map_err(|_| StartError::System("the system gives no random numbers".to_owned()))?;
        for warning in &loaded.warnings {
            log.event(Level::Warn, "configuration", warning, &[]);
        }
        let local = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        let addresses = [
            ("admin", local(&listeners.admin)),
            ("health", local(&listeners.health)),
        ]
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?)))
        .collect();
        let (stop, reloads) = (Stop::new(), Reloads::default());
        let (ending, asked, own_log) = (stop.clone(), reloads.clone(), log.clone());
        let alarms = Alarms::new(log.clone());
        let raised = alarms.clone();
        let serve = move || async move {
            let parts = (state, loaded.directory, loaded.held);
            let host = Rc::new(Host::new(
                self,
                parts,
                random,
                (own_log.clone(), alarms, clock),
            ));
            let mut tasks = JoinSet::new();
            serve_pages(&mut tasks, listeners, &host, loaded.admin_token);
            tasks.spawn_local(renewal::run(host.clone(), asked.subscribe()));
            tasks.spawn_local(news::run(host.clone(), asked.subscribe()));
            tasks.spawn_local(look(host.clone()));
            if let Some(hook) = host.config.exec.clone() {
                tasks.spawn_local(tell(host.clone(), hook));
            }
            // Nothing is in flight that the next start does not take up.
            let at_once = Drain {
                delay: Duration::ZERO,
                timeout: Duration::ZERO,
            };
            let (_, nobody) = mpsc::channel(1);
            let last = std::future::ready(());
            program::drain(at_once, ending, own_log, nobody, (tasks, last)).await;
        };
        Running::start(log, stop, reloads, addresses, serve)
            .map(|running| running.with_alarms(raised))
            .map_err(|error| StartError::System(format!("no thread can be started: {error}")))
    }

    fn answer(own: Own, cli: &Cli) -> ExitCode {
        match own {
            Own::Once(config) => cli.done(once_alone(*config)),
            Own::Status(admin) => match status::ask(&admin) {
                Ok((lines, true)) => cli.print(Ok(lines)),
                Ok((lines, false)) => {
                    let _ = cli.print(Ok(lines));
                    ExitCode::FAILURE
                }
                Err(why) => cli.done(Err(Failed(1, why))),
            },
        }
    }
}

/// What `--once` does, and why not, with the exit code for it.
fn once_alone(config: Config) -> Result<String, Failed> {
    let clock = Clock::system();
    let usage = |faults: Vec<String>| Failed(2, faults.join("\n"));
    let failed = |fault: String| Failed(1, fault);
    let loaded = load(&config, &clock).map_err(usage)?;
    let state = State::open(&config.state_dir).map_err(|fault| usage(vec![fault]))?;
    let random =
        Random::seeded().map_err(|_| failed("the system gives no random numbers".to_owned()))?;
    // What it says is the answer, and no log.
    let log = Log::to("agent", clock.clone(), Box::new(std::io::sink()))
        .map_err(|error| failed(error.to_string()))?;
    let parts = (state, loaded.directory, loaded.held);
    let alarms = Alarms::new(log.clone());
    let host = Host::new(config, parts, random, (log, alarms, clock));
    once::run(&host).map_err(failed)
}

fn serve_pages(
    tasks: &mut JoinSet<()>,
    listeners: Listeners,
    host: &Rc<Host>,
    token: Option<Arc<[u8]>>,
) {
    let rules = Rules {
        check_host: true,
        token,
    };
    let for_people = listeners
        .admin
        .and_then(program::tcp)
        .into_iter()
        .chain(listeners.admin_socket.and_then(program::unix));
    for listener in for_people {
        let pages = Rc::new(Admin(host.clone()));
        tasks.spawn_local(admin::serve(
            listener,
            rules.clone(),
            pages,
            std::future::pending(),
        ));
    }
    if let Some(listener) = listeners.health.and_then(program::tcp) {
        let pages = Rc::new(Health(host.clone()));
        tasks.spawn_local(admin::serve(
            listener,
            Rules::default(),
            pages,
            std::future::pending(),
        ));
    }
}

/// Looks at what time alone decides, and whether a CRL names us.
async fn look(host: Rc<Host>) {
    let mut judged = None;
    if let Some(held) = host.held()
        && let Some(leaf) = held.leaf().cloned()
    {
        // A crash may have come between the writing and the forgetting.
        let state = host.state.clone();
        if let Some(Err(trouble)) = blocking(move || state.settle(&leaf)).await {
            host.failed("certificate", &trouble);
        }
    }
    loop {
        host.look_at_time();
        if let Some(held) = host.held()
            && judged.replace(held.generation) != Some(held.generation)
        {
            match held.set.own_refusal(host.clock.now()) {
                Some(refusal @ Refusal::Revoked { .. }) => host.alarms.raise(
                    Alarm::Revoked,
                    &format!("{refusal}: it never renews; if this host is still trusted, make a join token with `gapura-pki token`"),
                ),
                _ => host.alarms.clear(Alarm::Revoked),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells `--exec` of each generation, again where it failed.
async fn tell(host: Rc<Host>, hook: Hook) {
    let mut changed = host.follow();
    changed.borrow_and_update();
    let mut failures = 0;
    loop {
        if failures == 0 && changed.changed().await.is_err() {
            return std::future::pending().await;
        }
        changed.borrow_and_update();
        let Some(held) = host.held() else { continue };
        let (hook, news) = (hook.clone(), host.hook_news(&held));
        match blocking(move || hook.run(&news)).await {
            Some(Ok(())) => {
                failures = 0;
                host.succeeded("exec");
            }
            Some(Err(why)) => {
                host.failed("exec", &Trouble::Disk(why));
                tokio::time::sleep(host.pause(failures + 3, None)).await;
                failures += 1;
            }
            None => return,
        }
    }
}
