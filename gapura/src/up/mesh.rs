//! Starts gateway and sidecars: the very libraries that run in production, told by their own flags
//! where everything lies.
//!
//! Each reads its flags as an operator's, over an empty environment, so that what stands in the
//! shell's variables for a real installation changes nothing here, and whatever they refuse to an
//! operator they refuse here too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use gapura_files::ownership::{self, Owners};
use gapura_gateway::config::Invocation as GatewayInvocation;
use gapura_protocol::clock::Clock;
use gapura_runtime::cli::Program as _;
use gapura_runtime::program::{Running, StartError};
use gapura_sidecar::config::Invocation as SidecarInvocation;
use gapura_telemetry::log::Log;
use gapura_transport::shutdown::Phase;

use crate::error::Error;

/// What the gateway is told.
pub(crate) struct GatewaySettings<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) plugins: &'a Path,
    pub(crate) mesh: &'a Path,
    pub(crate) jwks: &'a Path,
    pub(crate) issuer: &'a str,
}

/// What a sidecar is told.
pub(crate) struct SidecarSettings<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) mesh: &'a Path,
}

/// A running gateway or sidecar. Dropped, it is cut off.
pub(crate) struct Program {
    running: Option<Running>,
    /// Where those who use it connect.
    pub(crate) address: SocketAddr,
    /// Where its operator looks.
    pub(crate) admin: Option<SocketAddr>,
}

/// Threads for each program: enough to see several at work, few enough for a laptop with other
/// things to do.
const WORKERS: &str = "2";

/// How long what is in flight may take at the end; a person is waiting.
const DRAIN: &str = "5s";

/// Starts the gateway.
pub(crate) fn gateway(
    settings: &GatewaySettings<'_>,
    log: Log,
    clock: &Clock,
) -> Result<Program, Error> {
    let args = Args::of("gapura-gateway")
        .flag("--listen", settings.listen.to_string())
        .flag("--admin", settings.admin.to_string())
        .flag("--tls-cert", settings.cert)
        .flag("--tls-key", settings.key)
        .flag("--plugin-dir", settings.plugins)
        .flag("--mesh-dir", settings.mesh)
        .flag("--jwks", settings.jwks)
        .flag("--issuer", settings.issuer)
        .flag("--audience", settings.issuer)
        .keeping_state_beside(settings.mesh);
    match GatewayInvocation::load(args.0, &BTreeMap::new()) {
        Ok(GatewayInvocation::Run(config)) => {
            Program::new("the gateway", "public", config.start(log, clock.clone()))
        }
        Ok(_) => Err(Error::Failed(
            "the gateway was told to do something else than to run".to_owned(),
        )),
        Err(faults) => Err(Error::Refused(format!(
            "the gateway does not start: {faults}"
        ))),
    }
}

/// Starts a sidecar on a free port of this machine.
pub(crate) fn sidecar(
    settings: &SidecarSettings<'_>,
    log: Log,
    clock: &Clock,
) -> Result<Program, Error> {
    let args = Args::of("gapura-sidecar")
        .flag("--listen", "127.0.0.1:0")
        .flag("--admin", "127.0.0.1:0")
        .flag("--plugin", settings.plugin)
        .flag("--mesh-dir", settings.mesh)
        .keeping_state_beside(settings.mesh);
    let what = format!("the sidecar of the plugin at {}", settings.plugin);
    match SidecarInvocation::load(args.0, &BTreeMap::new()) {
        Ok(SidecarInvocation::Run(config)) => {
            Program::new(&what, "hop", config.start(log, clock.clone()))
        }
        Ok(_) => Err(Error::Failed(format!(
            "{what} was told to do something else than to run"
        ))),
        Err(faults) => Err(Error::Refused(format!("{what} does not start: {faults}"))),
    }
}

impl Program {
    fn new(
        what: &str,
        listener: &str,
        started: Result<Running, StartError>,
    ) -> Result<Self, Error> {
        let running = started.map_err(|err| match err {
            StartError::Config(faults) => {
                Error::Refused(format!("{what} does not start: {}", faults.join("; ")))
            }
            StartError::System(fault) => Error::Failed(format!("{what} does not start: {fault}")),
        })?;
        let (address, admin) = (running.address(listener), running.address("admin"));
        match address {
            Some(address) => Ok(Self {
                running: Some(running),
                address,
                admin,
            }),
            None => Err(Error::Failed(format!(
                "{what} does not tell where it listens"
            ))),
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&self) -> bool {
        self.running.as_ref().is_none_or(Running::ended)
    }

    /// Ends it once what is in flight has finished.
    pub(crate) async fn stop(mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.stop().raise(Phase::Draining);
        // The wait blocks a thread; at a second Ctrl-C nobody waits for it any more.
        let _ = tokio::task::spawn_blocking(move || running.wait()).await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop().raise(Phase::Cut);
        }
    }
}

/// A command line.
struct Args(Vec<OsString>);

impl Args {
    fn of(program: &str) -> Self {
        Self(vec![program.into()])
            .flag("--workers", WORKERS)
            .flag("--drain-timeout", DRAIN)
    }

    /// Where the folder is one that others can write to, nothing can be kept there, and the program
    /// says what that means.
    fn keeping_state_beside(self, mesh: &Path) -> Self {
        let state = mesh.with_extension("state");
        if ownership::check(&state, Owners::Ours).is_ok() {
            self.flag("--state-dir", state)
        } else {
            self
        }
    }

    fn flag(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.0.extend([name.into(), value.into()]);
        self
    }
}
