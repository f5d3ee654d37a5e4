//! Every listener of a program, bound before anything runs, so that a fault leaves nothing
//! half-started.
//!
//! In: the addresses that the operator chose, and the sockets that systemd, or the program before
//! this one, handed over. Out: a [`Listeners`], or every fault, a sentence each; later, on the
//! control thread, the tasks that serve them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;

use gapura_operator::admin::{self, Rules};
use gapura_operator::pages::AdminPages;
use gapura_settings::{AdminAddress, exposed};
use gapura_telemetry::log::{Level, Log};
use gapura_transport::shutdown::{Phase, Stop};
use tokio::task::JoinSet;

use crate::listen::{self, Door, Queue};
use crate::places::Places;
use crate::program;
use crate::systemd::Sockets;
use crate::takeover::ITSELF;
use crate::takeover::handed::Handed;
use crate::takeover::offer::{self, Offered, Passed};

/// What a program listens on.
pub(crate) struct ListenSpec<'a> {
    /// What its main listener is called: `public` or `hop`.
    pub(crate) main: &'static str,
    /// Where that is.
    pub(crate) listen: SocketAddr,
    /// And at which sockets of this host besides.
    pub(crate) sockets: &'a [PathBuf],
    /// The operator's side.
    pub(crate) admin: &'a AdminAddress,
    /// Whether the operator's side asks for a token.
    pub(crate) guarded: bool,
    /// A further listener for a kubelet or Prometheus.
    pub(crate) health: Option<SocketAddr>,
    /// Where the next program may ask for all of them.
    pub(crate) takeover: Option<&'a Path>,
}

/// The listeners.
pub(crate) struct Listeners {
    name: &'static str,
    main: TcpListener,
    sockets: Vec<UnixListener>,
    admin: Option<TcpListener>,
    admin_socket: Option<UnixListener>,
    health: Option<TcpListener>,
    takeover: Option<UnixListener>,
}

impl Listeners {
    /// Binds what neither systemd nor the program before us has handed over.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    pub(crate) fn bind(
        wanted: &ListenSpec<'_>,
        mut sockets: Sockets,
        mut handed: Option<&mut Handed>,
    ) -> Result<Self, Vec<String>> {
        // What systemd may call its sockets; the first is what one without a name is for.
        let known = [wanted.main, "admin", "health"];
        let mut faults = Vec::new();
        let mut unix = |name, path: &Path, flag: &str| {
            let passed = handed
                .as_mut()
                .and_then(|handed| handed.take_unix(name, path));
            passed.map_or_else(|| program::bind_socket(path, flag), Ok)
        };
        let takeover = wanted.takeover.map(|path| unix(ITSELF, path, "--takeover"));
        let admin_socket = match wanted.admin {
            AdminAddress::Unix(path) => Some(unix("admin", path, "--admin")),
            AdminAddress::Tcp(_) => None,
        };
        let mut noted = |bound: Option<Result<UnixListener, String>>| {
            bound
                .transpose()
                .map_err(|fault| faults.push(fault))
                .ok()
                .flatten()
        };
        let (takeover, admin_socket) = (noted(takeover), noted(admin_socket));
        let mut tcp = |name, address, flag: &str| {
            let passed = sockets.take(name, &known);
            let passed = passed.or_else(|| handed.as_mut()?.take(name, address));
            match passed {
                Some(passed) => Some(passed),
                None => program::bind(address, flag)
                    .map_err(|fault| faults.push(fault))
                    .ok(),
            }
        };
        let main = tcp(wanted.main, wanted.listen, "--listen");
        let health = wanted
            .health
            .and_then(|address| tcp("health", address, "--health"));
        let admin = match wanted.admin {
            AdminAddress::Tcp(address) => tcp("admin", *address, "--admin"),
            AdminAddress::Unix(_) => None,
        };
        let mut beside = Vec::new();
        for path in wanted.sockets {
            let passed = handed
                .as_mut()
                .and_then(|handed| handed.take_unix(wanted.main, path));
            let bound = passed.map_or_else(|| program::bind_open_socket(path, "--listen"), Ok);
            match bound {
                Ok(socket) => beside.push(socket),
                Err(fault) => faults.push(fault),
            }
        }
        faults.extend(sockets.left(&known));
        // What the flags were judged by may differ from what was handed over.
        if !wanted.guarded && admin.as_ref().is_some_and(is_exposed) {
            faults.push("the socket admin that systemd handed over can be reached from beyond this machine; give --admin-token-file, or set ListenStream=127.0.0.1:PORT".to_owned());
        }
        match main {
            Some(main) if faults.is_empty() => Ok(Self {
                name: wanted.main,
                main,
                sockets: beside,
                admin,
                admin_socket,
                health,
                takeover,
            }),
            _ => Err(faults),
        }
    }

    /// Whether the main listener can be reached from beyond this machine.
    #[must_use]
    pub(crate) fn is_exposed(&self) -> bool {
        is_exposed(&self.main)
    }

    /// Every listener with its address.
    #[must_use]
    pub(crate) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let listeners = [
            (self.name, Some(&self.main)),
            ("admin", self.admin.as_ref()),
            ("health", self.health.as_ref()),
        ];
        listeners
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener?.local_addr().ok()?)))
            .collect()
    }

    /// Serves them: the main one into the queues of who has a place, the others by `watchers`.
    pub(crate) fn serve(
        mut self,
        tasks: &mut JoinSet<()>,
        (queues, places): (Vec<Queue>, Places),
        watchers: &AdminPages,
        log: &Log,
        stop: &Stop,
    ) {
        let rules = Rules {
            check_host: true,
            token: watchers.token.clone(),
        };
        let passed = self.offer(tasks, log, stop);
        for listener in self
            .admin
            .and_then(program::tcp)
            .into_iter()
            .chain(self.admin_socket.and_then(program::unix))
        {
            tasks.spawn_local(admin::serve(
                listener,
                rules.clone(),
                watchers.admin.clone(),
                passed.clone().over(),
            ));
        }
        if let Some(listener) = self.health.and_then(program::tcp) {
            tasks.spawn_local(admin::serve(
                listener,
                Rules::default(),
                watchers.health.clone(),
                passed.over(),
            ));
        }
        let main = tokio::net::TcpListener::from_std(self.main).map(Door::Tcp);
        let sockets = self.sockets.into_iter();
        let sockets = sockets.map(|one| tokio::net::UnixListener::from_std(one).map(Door::Unix));
        for door in std::iter::once(main).chain(sockets) {
            match door {
                Ok(door) => {
                    let (queues, places, log) = (queues.clone(), places.clone(), log.clone());
                    let accepting = listen::accept(door, queues, places, log, stop.follow());
                    tasks.spawn_local(accepting);
                }
                Err(error) => {
                    let message = format!("the listener {} broke: {error}", self.name);
                    log.event(Level::Error, "listen_failed", &message, &[]);
                    stop.raise(Phase::Cut);
                }
            }
        }
    }
}

impl Listeners {
    /// Begins to offer all of them to the next program, where that is wanted. Out: where it is
    /// learnt that they have passed.
    fn offer(&mut self, tasks: &mut JoinSet<()>, log: &Log, stop: &Stop) -> Passed {
        let (passing, passed) = offer::passing();
        if let Some(socket) = self.takeover.take() {
            match self.offered() {
                Ok(offered) => {
                    let (stop, log) = (stop.clone(), log.clone());
                    tasks.spawn_local(offer::run(socket, offered, passing, stop, log));
                }
                Err(error) => {
                    let message = format!("no program can take over the listeners: {error}");
                    log.event(Level::Error, "takeover_failed", &message, &[]);
                }
            }
        }
        passed
    }

    fn offered(&self) -> io::Result<Offered> {
        let mut offered = Offered::default();
        offered.add(self.name, &self.main)?;
        for socket in &self.sockets {
            offered.add(self.name, socket)?;
        }
        for (name, listener) in [("admin", &self.admin), ("health", &self.health)] {
            if let Some(listener) = listener {
                offered.add(name, listener)?;
            }
        }
        if let Some(listener) = &self.admin_socket {
            offered.add("admin", listener)?;
        }
        Ok(offered)
    }
}

fn is_exposed(listener: &TcpListener) -> bool {
    listener.local_addr().is_ok_and(exposed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(listen: SocketAddr, admin: &AdminAddress) -> ListenSpec<'_> {
        ListenSpec {
            main: "public",
            listen,
            sockets: &[],
            admin,
            guarded: false,
            health: None,
            takeover: None,
        }
    }

    #[test]
    fn all_that_cannot_be_bound_is_told_at_once() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let bound = Listeners::bind(
            &wanted(any, &AdminAddress::Tcp(any)),
            Sockets::default(),
            None,
        )
        .unwrap();
        let addresses = bound.addresses();
        assert_eq!(
            addresses.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["public", "admin"]
        );
        let (taken, admin) = (addresses[0].1, AdminAddress::Tcp(addresses[1].1));
        let faults = Listeners::bind(&wanted(taken, &admin), Sockets::default(), None)
            .err()
            .unwrap();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[0].starts_with("--listen") && faults[1].starts_with("--admin"),
            "{faults:?}"
        );
    }
}
