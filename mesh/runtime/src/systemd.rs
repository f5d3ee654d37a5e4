//! What a service manager that speaks systemd's protocols hands to a program, and what it is told
//! in return.
//!
//! In: the environment that `main` has read, once. Out: a [`Manager`], to which the program says
//! that it is ready, that it rereads its files, that it ends, that its control loop is alive, and
//! what is wrong; and [`Sockets`], listeners that were bound before the program began and outlive
//! it, so that a restart refuses nobody. Without a manager all of this does nothing. sd_notify(3)
//! and sd_listen_fds(3) are the whole of the protocols. A manager that cannot be told anything
//! never stops traffic.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;

use crate::program::Running;

/// Who started this program, if it wants to know how the program is.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

/// Listeners that were bound for this program.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, TcpListener)>);

/// How often it is looked at whether an alarm has come or gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who follows files that hang has other worries than the reload; so has who fetches keys from a
/// provider that is down.
const RELOADED_WITHIN: Duration = Duration::from_secs(10);

/// The variables of both protocols; what a program starts in turn must not take them for its own.
pub const VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

impl Manager {
    /// The manager that `env` tells of, for the process `pid`.
    #[must_use]
    pub fn of(env: &BTreeMap<String, String>, pid: u32) -> Self {
        let socket = env
            .get("NOTIFY_SOCKET")
            .and_then(|address| connect(address));
        let is_ours = env
            .get("WATCHDOG_PID")
            .is_none_or(|meant| meant.parse() == Ok(pid));
        let micros = env
            .get("WATCHDOG_USEC")
            .and_then(|text| text.parse().ok())
            .filter(|micros| *micros > 0 && is_ours);
        Self {
            watchdog: micros
                .map(Duration::from_micros)
                .filter(|_| socket.is_some()),
            socket,
        }
    }

    /// The program serves.
    pub fn ready(&self, running: &Running) {
        self.tell(&format!("READY=1\nSTATUS={}", status(running)));
    }

    /// The program ends; what is in flight may finish.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining: not ready any more, finishing what is in flight");
    }

    /// The program did not start, or broke; `why` is where `systemctl status` looks first.
    pub fn failed(&self, why: &str) {
        self.tell(&format!("STATUS={}", one_line(why)));
    }

    /// Has the program read its files again, and says so before, and once what fits is in force.
    pub async fn reload(&self, running: &Running) {
        self.tell("RELOADING=1\nSTATUS=reading everything again");
        // What a file at fault leads to stands in the log and among the alarms; the program is up
        // either way.
        let _ = tokio::time::timeout(RELOADED_WITHIN, running.reload()).await;
        self.ready(running);
    }

    /// Says twice in each interval of the watchdog that the control loop still comes round, and
    /// shows alarms as they come and go. Ends only by being dropped.
    pub async fn tend(&self, running: &Running) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let half = self.watchdog.map(|interval| interval / 2);
        // Without a watchdog the branch is off, and its interval any.
        let mut beat = tokio::time::interval(half.unwrap_or(LOOK_EVERY));
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut reported = status(running);
        loop {
            tokio::select! {
                _ = beat.tick(), if half.is_some() => {
                    if tokio::time::timeout(half.unwrap_or(LOOK_EVERY), running.pulse()).await == Ok(true) {
                        self.tell("WATCHDOG=1");
                    }
                }
                _ = look.tick() => {
                    let now = status(running);
                    if now != reported {
                        self.tell(&format!("STATUS={now}"));
                        reported = now;
                    }
                }
            }
        }
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

impl Sockets {
    /// Takes over the listeners that the environment tells of. Only `main` may call this, first of
    /// all, and once: it makes the descriptors of this process its own and takes the variables out
    /// of its environment.
    ///
    /// # Errors
    /// A sentence, for each that is no TCP listener.
    pub fn inherit(env: &BTreeMap<String, String>, pid: u32) -> Result<Self, Vec<String>> {
        // The crate takes sockets without a LISTEN_PID too; then they were meant for whoever
        // started us.
        if env.get("LISTEN_PID").and_then(|meant| meant.parse().ok()) != Some(pid) {
            return Ok(Self::default());
        }
        let names: Vec<&str> = env
            .get("LISTEN_FDNAMES")
            .map(|names| names.split(':').collect())
            .unwrap_or_default();
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        let mut faults = Vec::new();
        for at in 0..handed.len() {
            let name = names.get(at).copied().unwrap_or("unknown").to_owned();
            match handed.take_tcp_listener(at) {
                Ok(Some(listener)) => match listener.set_nonblocking(true) {
                    Ok(()) => sockets.push((name, listener)),
                    Err(error) => faults.push(format!("the socket {name} that systemd handed over cannot be used: {error}")),
                },
                Ok(None) => {}
                Err(_) => {
                    faults.push(format!("the socket {name} that systemd handed over is no TCP listener; use ListenStream=ADDRESS:PORT"))
                }
            }
        }
        if faults.is_empty() {
            Ok(Self(sockets))
        } else {
            Err(faults)
        }
    }

    /// The listener for `name`. One that stands alone under a name that is none of `known`, as
    /// without `FileDescriptorName=`, is the first of them.
    pub fn take(&mut self, name: &str, known: &[&str]) -> Option<TcpListener> {
        let at = self
            .0
            .iter()
            .position(|(handed, _)| handed == name)
            .or_else(|| {
                let alone = self.0.len() == 1
                    && known.first() == Some(&name)
                    && self
                        .0
                        .iter()
                        .all(|(handed, _)| !known.contains(&handed.as_str()));
                alone.then_some(0)
            })?;
        Some(self.0.swap_remove(at).1)
    }

    /// A sentence for each listener that nobody took.
    #[must_use]
    pub fn left(&self, known: &[&str]) -> Vec<String> {
        let known = known.join(", ");
        let reported = |(name, _): &(String, TcpListener)| {
            format!(
                "systemd handed over a socket named {name}, which is for nothing here; set FileDescriptorName= to one of {known}"
            )
        };
        self.0.iter().map(reported).collect()
    }
}

fn connect(address: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    // A manager that does not read must not hold up a program that serves.
    socket.set_nonblocking(true).ok()?;
    match address.strip_prefix('@') {
        Some(name) => socket
            .connect_addr(&SocketAddr::from_abstract_name(name).ok()?)
            .ok()?,
        None => socket.connect(address).ok()?,
    }
    Some(socket)
}

/// One line for `systemctl status`: what is wrong, else where the program listens.
fn status(running: &Running) -> String {
    let alarms: Vec<String> = running
        .raised()
        .into_iter()
        .map(|(name, sentence)| format!("{name}: {sentence}"))
        .collect();
    if !alarms.is_empty() {
        return one_line(&format!("ALARM {}", alarms.join("; ")));
    }
    let listeners: Vec<String> = running
        .addresses()
        .iter()
        .map(|(name, address)| format!("{address} ({name})"))
        .collect();
    format!("serving on {}", listeners.join(", "))
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn it_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("gapura-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap())
                .unwrap();
        for (address, socket) in [
            (path.display().to_string(), by_path),
            (format!("@{abstract_name}"), by_name),
        ] {
            let manager = Manager::of(&env(&[("NOTIFY_SOCKET", &address)]), 1);
            manager.failed("the first line\nthe second");
            assert_eq!(received(&socket), "STATUS=the first line; the second");
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names_and_needs_somebody_to_tell() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").display().to_string();
        let _socket = UnixDatagram::bind(&path).unwrap();
        let interval = |pairs: &[(&str, &str)]| {
            Manager::of(
                &env(&[&[("NOTIFY_SOCKET", path.as_str())], pairs].concat()),
                7,
            )
            .watchdog
        };
        assert_eq!(
            interval(&[("WATCHDOG_USEC", "20000000")]),
            Some(Duration::from_secs(20))
        );
        assert_eq!(
            interval(&[("WATCHDOG_USEC", "20000000"), ("WATCHDOG_PID", "7")]),
            Some(Duration::from_secs(20))
        );
        assert_eq!(
            interval(&[("WATCHDOG_USEC", "20000000"), ("WATCHDOG_PID", "8")]),
            None
        );
        assert_eq!(interval(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(
            Manager::of(&env(&[("WATCHDOG_USEC", "20000000")]), 7).watchdog,
            None
        );
        assert!(
            Manager::of(&env(&[("NOTIFY_SOCKET", "/nowhere/at/all")]), 7)
                .socket
                .is_none()
        );
    }

    #[test]
    fn a_socket_goes_to_its_name_and_one_alone_to_the_first() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let known = ["public", "admin"];
        let mut alone = Sockets(vec![("gapura-gateway.socket".to_owned(), listener())]);
        assert!(alone.take("admin", &known).is_none());
        assert!(alone.take("public", &known).is_some() && alone.left(&known).is_empty());

        let mut named = Sockets(vec![
            ("admin".to_owned(), listener()),
            ("public".to_owned(), listener()),
        ]);
        assert!(named.take("public", &known).is_some() && named.take("admin", &known).is_some());

        let mut other = Sockets(vec![("admin".to_owned(), listener())]);
        assert!(
            other.take("public", &known).is_none(),
            "what is for the operator is not shown to everybody"
        );
        let mut strange = Sockets(vec![
            ("publik".to_owned(), listener()),
            ("admin".to_owned(), listener()),
        ]);
        assert!(
            strange.take("public", &known).is_none() && strange.take("admin", &known).is_some()
        );
        assert!(
            strange.left(&known)[0].contains("publik")
                && strange.left(&known)[0].contains("public, admin")
        );
    }

    #[test]
    fn sockets_of_another_process_are_left_alone() {
        let found = Sockets::inherit(&env(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]), 2).unwrap();
        assert!(found.0.is_empty());
    }
}
