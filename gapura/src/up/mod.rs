//! `gapura up`: the order in which a mesh comes up on one machine, and goes down again.
//!
//! In: [`Options`]. Out: [`Up`], a running mesh whose every part listens, and the text of its
//! screen. What can be refused is refused before anything is made or started; what fails later
//! takes down what was started before it.

mod address;
mod authority;
mod logs;
mod mesh;
mod plugin;
pub(crate) mod public;
mod screen;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gapura_protocol::clock::{Clock, unix};
use gapura_protocol::identity::Name;
use gapura_settings::exposed;
use gapura_telemetry::log::Log;
use lab_reporting::{Config as LabConfig, Database, Listen, Log as LabLog};

use crate::error::Error;
use crate::state::State;
use crate::token::{self, Issuer, Subject};

pub use plugin::OwnPlugin;
use screen::{Facts, Peer, Plugin, Style, Token};

/// What `gapura up` is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the front door listens.
    pub listen: SocketAddr,
    /// Where the admin side listens.
    pub admin: SocketAddr,
    /// The state folder.
    pub state: PathBuf,
    /// Plugins of one's own; the sample one stands beside them unless one of them has its name.
    pub plugins: Vec<OwnPlugin>,
    /// Whether the front door may be reached from other machines.
    pub expose_dev_keys: bool,
    /// Whether the programs' lines go to standard output instead of files.
    pub logs: bool,
}

/// The mesh while it runs.
pub struct Up {
    gateway: mesh::Program,
    gateway_peer: Peer,
    plugins: Vec<Standing>,
    lab: Option<lab_reporting::Running>,
    issuer: Issuer,
    tokens: Vec<Token>,
    tokens_due: u64,
    options: Options,
    public: public::Public,
    authority: authority::Authority,
    logs: logs::Logs,
    clock: Clock,
    state: State, // last: the folder's lock goes when all that uses the folder is gone
}

/// A plugin and the sidecar before it.
struct Standing {
    name: Name,
    at: String,
    sample: Option<PathBuf>,
    answers: bool,
    peer: Peer,
    sidecar: mesh::Program,
}

/// The people that tokens are made for: company, user, role.
const PEOPLE: [(&str, &str, &str); 2] = [("42", "7", "admin"), ("7", "9", "reader")];

/// How often tokens and certificates are looked after. A wall clock decides what is due, so a
/// machine that slept catches up.
const LOOK: Duration = Duration::from_secs(30);

impl Up {
    /// Brings everything up.
    ///
    /// # Errors
    /// A sentence that says what to change; then nothing runs.
    pub async fn start(options: Options, clock: Clock) -> Result<Self, Error> {
        address::check_reach(options.listen, options.admin, options.expose_dev_keys)?;
        plugin::check_names(&options.plugins)?;
        address::check_free("--listen", options.listen)?;
        address::check_free("--admin", options.admin)?;
        let state = State::take(&options.state)?;
        let logs = logs::Logs::new(&state, options.logs)?;
        let issuer = Issuer::open_or_make(&state)?;
        let jwks = state.write("jwks.json", issuer.jwks().as_bytes())?;
        let public = public::ensure(&state, options.listen.ip(), clock.now())?;

        let mut authority = authority::Authority::open(&state, &clock)?;
        let gateway_leaf = authority.gateway()?;
        let lab = if options
            .plugins
            .iter()
            .any(|own| own.name.as_str() == lab_reporting::NAME)
        {
            None
        } else {
            Some(start_sample(&state, &logs).await?)
        };
        let mut plugins = Vec::new();
        if let Some(lab) = &lab {
            let name = lab_reporting::NAME
                .parse()
                .map_err(|_| Error::Failed("the sample plugin has no valid name".to_owned()))?;
            let at = match lab.address() {
                Listen::Tcp(address) => format!("http://{address}"),
                Listen::Unix(path) => format!("unix:{}", path.display()),
            };
            let sample = Some(state.path(SAMPLE_DATABASE));
            plugins.push(stand(name, at, sample, &mut authority, &logs, &clock).await?);
        }
        for own in &options.plugins {
            plugins.push(
                stand(
                    own.name.clone(),
                    own.url.clone(),
                    None,
                    &mut authority,
                    &logs,
                    &clock,
                )
                .await?,
            );
        }
        let entries: Vec<_> = plugins
            .iter()
            .map(|standing| {
                let version = if standing.sample.is_some() {
                    lab_reporting::VERSION
                } else {
                    "dev"
                };
                (
                    standing.name.clone(),
                    version.to_owned(),
                    standing.sidecar.address,
                )
            })
            .collect();
        plugin::write_registry(&state, &entries)?;
        let settings = mesh::GatewaySettings {
            listen: options.listen,
            admin: options.admin,
            cert: &public.cert,
            key: &public.key,
            plugins: &state.path("plugins.d"),
            mesh: &gateway_leaf.folder,
            jwks: &jwks,
            issuer: token::ISSUER,
        };
        let log = open_log("gateway", "gateway", &logs, &clock)?;
        let gateway = mesh::gateway(&settings, log, &clock)?;
        let mut up = Self {
            gateway,
            gateway_peer: gateway_leaf.peer,
            plugins,
            lab,
            issuer,
            tokens: Vec::new(),
            tokens_due: 0,
            options,
            public,
            authority,
            logs,
            clock,
            state,
        };
        up.renew_tokens()?;
        Ok(up)
    }

    /// The text to show, with the program called as `program`; on a terminal it stands out.
    #[must_use]
    pub fn screen(&self, program: &str, terminal: bool) -> String {
        let facts = Facts {
            now: self.clock.now(),
            door: self.gateway.address,
            door_ends: self.public.ends,
            admin: self.gateway.admin,
            gateway: self.gateway_peer.clone(),
            plugins: self.plugins.iter().map(Standing::facts).collect(),
            root: self.public.root.clone(),
            tokens: self.tokens.clone(),
            logs: match &self.logs {
                logs::Logs::Files(folder) => Some(folder.clone()),
                logs::Logs::Stdout => None,
            },
            program: program.to_owned(),
            state: self.state.root().to_owned(),
            exposed: exposed(self.gateway.address),
        };
        screen::screen(&facts, Style::of(terminal))
    }

    /// Where the front door listens, with the port that was free.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.gateway.address
    }

    /// Keeps tokens and certificates from running out, until it is dropped. What goes wrong is told
    /// to `report`.
    pub async fn keep(&mut self, report: impl Fn(&str)) {
        let mut tick = tokio::time::interval(LOOK);
        let mut reported = String::new();
        loop {
            tick.tick().await;
            let kept = self.keep_once();
            let sentence = kept.err().map(|err| err.to_string()).unwrap_or_default();
            if !sentence.is_empty() && sentence != reported {
                report(&sentence);
            }
            reported = sentence;
        }
    }

    fn keep_once(&mut self) -> Result<(), Error> {
        if self.gateway.ended() || self.plugins.iter().any(|standing| standing.sidecar.ended()) {
            return Err(Error::Failed(
                "a program of the mesh has ended by itself; its log says why".to_owned(),
            ));
        }
        self.renew_tokens()?;
        self.public = public::ensure(&self.state, self.options.listen.ip(), self.clock.now())?;
        self.authority.renew()
    }

    /// Ends everything, the door first, so that what is in flight finds its plugin.
    pub async fn stop(self) {
        self.gateway.stop().await;
        for standing in self.plugins {
            standing.sidecar.stop().await;
        }
        if let Some(lab) = self.lab {
            lab.stop().await;
        }
    }

    /// Writes the tokens anew when half of their hour is gone.
    fn renew_tokens(&mut self) -> Result<(), Error> {
        let now = unix(self.clock.now());
        if now < self.tokens_due {
            return Ok(());
        }
        self.state.folder("tokens")?;
        let mut tokens = Vec::new();
        for (company, user, role) in PEOPLE {
            let token = self.issuer.token(
                &Subject::new(company, user, &[role.to_owned()])?,
                now,
                token::LIFETIME,
            )?;
            let file = self
                .state
                .write(&format!("tokens/company-{company}"), token.as_bytes())?;
            tokens.push(Token {
                company,
                user,
                role,
                file,
                token,
            });
        }
        self.tokens = tokens;
        self.tokens_due = now + token::LIFETIME.as_secs() / 2;
        Ok(())
    }
}

impl Standing {
    fn facts(&self) -> Plugin {
        Plugin {
            name: self.name.to_string(),
            mount: plugin::mount(&self.name),
            sidecar: self.sidecar.address,
            peer: self.peer.clone(),
            at: self.at.clone(),
            sample: self.sample.clone(),
            answers: self.answers,
        }
    }
}

const SAMPLE_DATABASE: &str = "lab-reporting.db";

/// The longest path that fits into a socket's address, with some room.
const SOCKET_PATH_MAX: usize = 100;

/// Starts the sample plugin on a socket in the state folder, which no other user of this machine
/// can reach.
async fn start_sample(state: &State, logs: &logs::Logs) -> Result<lab_reporting::Running, Error> {
    let socket = state.path("lab-reporting.sock");
    let listen = if socket.as_os_str().len() <= SOCKET_PATH_MAX {
        Listen::Unix(socket)
    } else {
        Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let failed =
        |err: std::io::Error| Error::Failed(format!("can't start the sample plugin's log: {err}"));
    let log = LabLog::to(logs.writer(lab_reporting::NAME)?).map_err(failed)?;
    let config = LabConfig {
        listen,
        database: Database::File(state.path(SAMPLE_DATABASE)),
        seed: true,
        log,
    };
    lab_reporting::start(config)
        .await
        .map_err(|err| Error::Failed(format!("can't start the sample plugin: {err}")))
}

/// Puts a sidecar before a plugin.
async fn stand(
    name: Name,
    at: String,
    sample: Option<PathBuf>,
    authority: &mut authority::Authority,
    logs: &logs::Logs,
    clock: &Clock,
) -> Result<Standing, Error> {
    let leaf = authority.plugin(&name)?;
    let log = open_log("sidecar", &format!("sidecar-{name}"), logs, clock)?;
    let sidecar = mesh::sidecar(
        &mesh::SidecarSettings {
            plugin: &at,
            mesh: &leaf.folder,
        },
        log,
        clock,
    )?;
    let answers = sample.is_some() || answers(&at).await;
    Ok(Standing {
        name,
        at,
        sample,
        answers,
        peer: leaf.peer,
        sidecar,
    })
}

fn open_log(
    service: &'static str,
    file: &str,
    logs: &logs::Logs,
    clock: &Clock,
) -> Result<Log, Error> {
    Log::to(service, clock.clone(), logs.writer(file)?)
        .map_err(|err| Error::Failed(format!("can't start the {service}'s log: {err}")))
}

/// Whether somebody listens at a plugin's address; a hint on the screen, no more.
async fn answers(at: &str) -> bool {
    let connects = async {
        match at.strip_prefix("unix:") {
            Some(path) => tokio::net::UnixStream::connect(path).await.is_ok(),
            None => {
                let (_, address) = at.split_once("://").unwrap_or_default();
                tokio::net::TcpStream::connect(address).await.is_ok()
            }
        }
    };
    tokio::time::timeout(Duration::from_millis(300), connects)
        .await
        .unwrap_or(false)
}
