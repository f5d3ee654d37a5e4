//! A program that runs: its threads, its addresses, and how it is told to stop.
//!
//! In: what `start` of the gateway or the sidecar has loaded and bound; nothing runs before all of that stands. Out: a
//! [`Running`] by which `main`, `gapura up` and the tests stop it, reload it and wait for its end. Signals are `main`'s business:
//! several programs may share a process.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc};

use crate::log::{Level, Log};
use crate::shutdown::{Phase, Stop};

/// A started program.
pub struct Running {
    addresses: Vec<(&'static str, SocketAddr)>,
    stop: Stop,
    reload: Arc<Notify>,
    control: JoinHandle<io::Result<()>>,
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

/// How long a drain may take.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Still accepting, for load balancers that are slow to look elsewhere.
    pub delay: Duration,
    /// For what is in flight.
    pub timeout: Duration,
}

/// Held by every worker; the drain is over when all are gone.
pub type Alive = mpsc::Sender<()>;

impl Running {
    /// Starts the control thread, on which `serve` runs until the program's end.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start<F: Future<Output = ()>>(
        log: Log,
        stop: Stop,
        reload: Arc<Notify>,
        addresses: Vec<(&'static str, SocketAddr)>,
        serve: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self> {
        for (listener, address) in &addresses {
            let message = format!("{} listens on {address} ({listener})", log.service());
            log.event(Level::Info, "listening", &message, &[("listener", (*listener).into()), ("address", address.to_string().into())]);
        }
        let name = format!("{}-control", log.service());
        let control = std::thread::Builder::new().name(name).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            runtime.block_on(async move { serve().await });
            // A name being resolved on a blocking thread must not hold up the end.
            runtime.shutdown_background();
            Ok(())
        })?;
        log.event(Level::Info, "started", &format!("{} {} is up", log.service(), env!("CARGO_PKG_VERSION")), &[]);
        Ok(Self { addresses, stop, reload, control, log })
    }

    /// Where it listens: `public`, `hop`, `admin` or `health`.
    #[must_use]
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(name, _)| *name == listener).map(|(_, address)| *address)
    }

    /// The handle by which it is stopped.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Has it read its files again, as SIGHUP does.
    pub fn reload(&self) {
        self.reload.notify_waiters();
    }

    /// The handle by which it is told to read its files again.
    #[must_use]
    pub fn reloader(&self) -> Arc<Notify> {
        self.reload.clone()
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
        let ended = self.control.join().unwrap_or_else(|_| Err(io::Error::other("the control thread broke")));
        self.log.close();
        ended
    }
}

/// Sees a drain through: waits for it to begin, then for the workers to finish, and cuts what is left.
pub async fn drain(drain: Drain, stop: Stop, log: Log, mut workers: mpsc::Receiver<()>) {
    let mut stopping = stop.follow();
    stopping.reached(Phase::Draining).await;
    log.event(Level::Info, "draining", "not ready any more; finishing what is in flight", &[]);
    tokio::select! {
        () = tokio::time::sleep(drain.delay) => stop.raise(Phase::Closing),
        () = stopping.reached(Phase::Closing) => {}
    }
    tokio::select! {
        _ = workers.recv() => {}
        () = tokio::time::sleep(drain.timeout) => stop.raise(Phase::Cut),
        () = stopping.reached(Phase::Cut) => {}
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), workers.recv()).await;
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
