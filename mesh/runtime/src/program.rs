//! A program that runs: its threads, its addresses, and how it is told to stop.
//!
//! In: what `start` of the gateway or the sidecar has loaded and bound; nothing runs before all of
//! that stands. Out: a [`Running`] by which `main`, `gapura up` and the tests stop it, reload it
//! and wait for its end. Signals are `main`'s business: several programs may share a process.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use gapura_files::ownership::{self, Owners};
use gapura_operator::admin::Listener;
use gapura_reload::asked::Reloads;
use gapura_settings::Drain;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::{Level, Log};
use gapura_transport::shutdown::{Phase, Stop};
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::listen;
use crate::memory;

/// A started program.
pub struct Running {
    addresses: Vec<(&'static str, SocketAddr)>,
    stop: Stop,
    reloads: Reloads,
    control: JoinHandle<io::Result<()>>,
    pulses: mpsc::Sender<oneshot::Sender<()>>,
    alarms: Option<Alarms>,
    log: Log,
}

/// Why a program did not start.
#[derive(Debug)]
pub enum StartError {
    /// Something the operator gave is wrong; every fault, a sentence each. Exit 2.
    Config(Vec<String>),
    /// The system refused what a program needs. Exit 1.
    System(String),
}

/// Held by every worker; the drain is over when all are gone.
pub type Alive = mpsc::Sender<()>;

/// How much nicer the control thread is than the workers: where processors are short, a folder of a
/// thousand files is read in a quarter of one instead of a half, and that is soon enough.
const BEHIND_REQUESTS: i32 = 5;

impl Running {
    /// Starts the control thread, on which `serve` runs until the program's end.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start<F: Future<Output = ()>>(
        log: Log,
        stop: Stop,
        reloads: Reloads,
        addresses: Vec<(&'static str, SocketAddr)>,
        serve: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self> {
        for (listener, address) in &addresses {
            let message = format!("{} listens on {address} ({listener})", log.service());
            log.event(
                Level::Info,
                "listening",
                &message,
                &[
                    ("listener", (*listener).into()),
                    ("address", address.to_string().into()),
                ],
            );
        }
        let name = format!("{}-control", log.service());
        let (pulses, asked) = mpsc::channel(1);
        let control = std::thread::Builder::new().name(name).spawn(move || {
            // On Linux this is the thread's alone, and of those it starts to read files. Refused,
            // it changes how long requests take beside a reload, and nothing else.
            let _ = rustix::process::nice(BEHIND_REQUESTS);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())?;
            runtime.block_on(async move {
                tokio::select! {
                    () = serve() => {}
                    () = answer(asked) => {}
                    () = memory::give_back() => {}
                }
            });
            // A name being resolved on a blocking thread must not hold up the end.
            runtime.shutdown_background();
            Ok(())
        })?;
        log.event(
            Level::Info,
            "started",
            &format!("{} {} is up", log.service(), env!("CARGO_PKG_VERSION")),
            &[],
        );
        Ok(Self {
            addresses,
            stop,
            reloads,
            control,
            pulses,
            alarms: None,
            log,
        })
    }

    /// The same, knowing the program's alarms.
    #[must_use]
    pub fn with_alarms(mut self, alarms: Alarms) -> Self {
        self.alarms = Some(alarms);
        self
    }

    /// What is wrong now: each alarm with its sentence.
    #[must_use]
    pub fn raised(&self) -> Vec<(&'static str, String)> {
        self.alarms.as_ref().map(Alarms::raised).unwrap_or_default()
    }

    /// Waits until its control loop has come round; `false` if it has ended.
    pub async fn pulse(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.pulses.send(answer).await.is_ok() && answered.await.is_ok()
    }

    /// Every listener with its address.
    #[must_use]
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// Where it listens: `public`, `hop`, `admin` or `health`.
    #[must_use]
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses
            .iter()
            .find(|(name, _)| *name == listener)
            .map(|(_, address)| *address)
    }

    /// The handle by which it is stopped.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Has it read its files again, as SIGHUP does, and waits until what fits is in force.
    pub async fn reload(&self) {
        self.reloads.seen_to(self.reloads.ask()).await;
    }

    /// Whether it has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.control.is_finished()
    }

    /// Waits for its end. Blocks the thread.
    ///
    /// # Errors
    /// If its control thread broke.
    pub fn wait(self) -> io::Result<()> {
        let ended = self
            .control
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the control thread broke")));
        self.log.close();
        ended
    }
}

/// Answers whoever asks whether the control loop still comes round. Ends only by being dropped.
async fn answer(mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
    while let Some(answer) = asked.recv().await {
        let _ = answer.send(());
    }
    std::future::pending().await
}

/// Binds a listener; `flag` is where the operator chose it.
///
/// # Errors
/// A sentence that says which address, why not, and what to do.
pub fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    listen::bind(address).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "is in use by another program; stop it or choose another port".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "may not be bound by this user; choose a port from 1024 on, or grant the right"
                    .to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "is not an address of this machine; choose one that is".to_owned()
            }
            _ => format!("cannot be bound: {error}"),
        };
        format!("{flag} {address}: {why}")
    })
}

/// Binds a unix socket that its owner alone may use. A socket that a dead program left is replaced.
///
/// # Errors
/// A sentence that says which path, why not, and what to do.
pub fn bind_socket(path: &Path, flag: &str) -> Result<UnixListener, String> {
    let sentence =
        |error: io::Error| format!("{flag} unix:{}: cannot be bound: {error}", path.display());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    ownership::check(folder, Owners::Ours)
        .map_err(|why| format!("{flag} unix:{}: {why}", path.display()))?;
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        if UnixStream::connect(path).is_ok() {
            return Err(format!(
                "{flag} unix:{}: is in use by another program; stop it or choose another path",
                path.display()
            ));
        }
        std::fs::remove_file(path).map_err(sentence)?;
    }
    let listener = UnixListener::bind(path).map_err(sentence)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(sentence)?;
    listener.set_nonblocking(true).map_err(sentence)?;
    Ok(listener)
}

/// The same for a socket that programs of other users connect to: its folder says who can, and TLS
/// who may.
///
/// # Errors
/// As [`bind_socket`].
pub(crate) fn bind_open_socket(path: &Path, flag: &str) -> Result<UnixListener, String> {
    let listener = bind_socket(path, flag)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(|error| {
        format!(
            "{flag} unix:{}: cannot be opened to others: {error}",
            path.display()
        )
    })?;
    Ok(listener)
}

/// A bound listener on the runtime of this thread.
#[must_use]
pub fn tcp(listener: TcpListener) -> Option<Listener> {
    tokio::net::TcpListener::from_std(listener)
        .ok()
        .map(Listener::Tcp)
}

/// A bound socket on the runtime of this thread.
#[must_use]
pub fn unix(listener: UnixListener) -> Option<Listener> {
    tokio::net::UnixListener::from_std(listener)
        .ok()
        .map(Listener::Unix)
}

/// Sees a program through: hears how the control thread's `tasks` end, waits for a drain to begin,
/// then for the workers to finish, and cuts what is left; unless that is hurried, `last` is seen
/// through then. The tasks end with it.
pub async fn drain(
    drain: Drain,
    stop: Stop,
    log: Log,
    workers: mpsc::Receiver<()>,
    (mut tasks, last): (JoinSet<()>, impl Future<Output = ()>),
) {
    let reports = async {
        while let Some(ended) = tasks.join_next().await {
            if ended.is_err_and(|error| error.is_panic()) {
                let message = "a task of the control thread ended in a panic; what it watched or served stays as it is until a restart";
                log.event(Level::Error, "panic", message, &[]);
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = reports => {}
        () = drained(drain, stop, &log, workers, last) => {}
    }
}

async fn drained(
    drain: Drain,
    stop: Stop,
    log: &Log,
    mut workers: mpsc::Receiver<()>,
    last: impl Future<Output = ()>,
) {
    let mut stopping = stop.follow();
    stopping.reached(Phase::Draining).await;
    log.event(
        Level::Info,
        "draining",
        "not ready any more; finishing what is in flight",
        &[],
    );
    tokio::select! {
        () = tokio::time::sleep(drain.delay) => stop.raise(Phase::Closing),
        () = stopping.reached(Phase::Closing) => {}
    }
    let is_hurried = tokio::select! {
        _ = workers.recv() => false,
        () = tokio::time::sleep(drain.timeout) => {
            stop.raise(Phase::Cut);
            false
        }
        () = stopping.reached(Phase::Cut) => true,
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), workers.recv()).await;
    if !is_hurried {
        last.await;
    }
    log.event(Level::Info, "stopped", "everything has ended", &[]);
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(faults) => f.write_str(&faults.join("\n")),
            Self::System(fault) => f.write_str(fault),
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use gapura_protocol::clock::Clock;
    use tokio::task::LocalSet;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of a program whose control thread has this one task.
    async fn logged(task: impl Future<Output = ()> + 'static) -> String {
        let memory = Memory::default();
        let log = Log::to("gateway", Clock::system(), Box::new(memory.clone())).unwrap();
        let test = async {
            let (stop, (alive, workers)) = (Stop::new(), mpsc::channel(1));
            let mut tasks = JoinSet::new();
            tasks.spawn_local(task);
            let at_once = Drain {
                delay: Duration::ZERO,
                timeout: Duration::ZERO,
            };
            let ending = async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                stop.signal();
                drop(alive);
            };
            tokio::join!(
                drain(
                    at_once,
                    stop.clone(),
                    log.clone(),
                    workers,
                    (tasks, async {})
                ),
                ending
            );
        };
        LocalSet::new().run_until(test).await;
        log.close();
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_panic_on_the_control_thread_is_told_and_an_ordinary_end_is_not() {
        let broken = logged(async { panic!("on purpose") }).await;
        assert!(broken.contains(r#""event":"panic""#), "{broken}");
        let whole = logged(async {}).await;
        assert!(!whole.contains(r#""event":"panic""#), "{whole}");
        assert!(whole.contains(r#""event":"stopped""#), "{whole}");
    }
}
