//! `gapura-sidecar run -- COMMAND`: the sidecar and its plugin as one, for platforms without pods.
//!
//! In: a sidecar that serves, and the plugin's command. Out: the plugin's exit code, 128 and the
//! signal's number if a signal ended it. The plugin starts when the sidecar is ready. Asked to end,
//! the sidecar drains first and the plugin is told after that, so that what is in flight finds its
//! plugin; if the plugin ends by itself the sidecar goes with it. Other signals are passed on. The
//! plugin runs in a process group of its own: Ctrl-C at a terminal reaches the sidecar alone, which
//! keeps that order, and signals reach what a wrapping shell has started too.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use gapura_runtime::program::Running;
use gapura_runtime::systemd::{self, Manager};
use gapura_telemetry::log::{Level, Log};
use gapura_transport::shutdown::Phase;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, wait, waitpid,
};
use tokio::signal::unix::{Signal as Received, SignalKind, signal};

/// Why there is no exit code of the plugin's to give.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command cannot be started.
    Command(OsString, io::Error),
    /// The system refused what waiting needs.
    System(io::Error),
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Both run.
    Serving,
    /// The sidecar drains.
    Draining,
    /// The plugin has been told to end, and is ended at this time.
    Ending(Instant),
}

/// The plugin's process.
struct Plugin {
    pid: Pid,
    /// Orphans of a container's first process are its own to bury.
    adopts: bool,
}

/// How soon the end of the sidecar is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// For a plugin that is to end at once, and for answers under way when the plugin has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the plugin and stays with both until they have ended. `patience` is what the plugin has
/// to end once it is told to. Blocks the thread.
///
/// # Errors
/// [`Error`]
pub(crate) fn attend(
    running: Running,
    command: &[OsString],
    patience: Duration,
    manager: &Manager,
    log: &Log,
) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::System)?;
    let code = runtime.block_on(both(&running, command, patience, manager, log));
    running.stop().raise(Phase::Closing);
    let until = Instant::now() + LAST_WORDS;
    while !running.ended() && Instant::now() < until {
        std::thread::sleep(LOOK_EVERY);
    }
    running.stop().raise(Phase::Cut);
    let ended = running.wait().map_err(Error::System);
    code.and_then(|code| ended.map(|()| code))
}

async fn both(
    running: &Running,
    command: &[OsString],
    patience: Duration,
    manager: &Manager,
    log: &Log,
) -> Result<u8, Error> {
    // Before the plugin starts: no signal may be lost between the two.
    let mut signals = Signals::new().map_err(Error::System)?;
    let plugin = Plugin::start(command, log)?;
    manager.ready(running);
    let tending = manager.tend(running);
    tokio::pin!(tending);
    let mut stage = Stage::Serving;
    loop {
        let looks = if stage == Stage::Serving {
            Duration::from_secs(1)
        } else {
            LOOK_EVERY
        };
        tokio::select! {
            received = signals.next() => match received {
                Signal::CHILD => {}
                Signal::TERM | Signal::INT => stage = plugin.asked_to_end(stage, received, running, manager),
                other => {
                    plugin.signal(other);
                    if other == Signal::HUP {
                        manager.reload(running).await;
                    }
                }
            },
            () = &mut tending => {}
            () = tokio::time::sleep(looks) => {}
        }
        // Looked at each time and not only when a signal tells: several ends may come as one
        // signal.
        if let Some(code) = plugin.ended().map_err(Error::System)? {
            log.event(
                Level::Info,
                "plugin_ended",
                &format!("the plugin has ended with code {code}"),
                &[("code", u64::from(code).into())],
            );
            return Ok(code);
        }
        match stage {
            Stage::Serving | Stage::Draining if running.ended() => {
                plugin.signal(Signal::TERM);
                stage = Stage::Ending(Instant::now() + patience);
            }
            Stage::Ending(at) if Instant::now() >= at => plugin.signal(Signal::KILL),
            _ => {}
        }
    }
}

impl Plugin {
    fn start(command: &[OsString], log: &Log) -> Result<Self, Error> {
        let Some((program, args)) = command.split_first() else {
            return Err(Error::Command(
                OsString::new(),
                io::ErrorKind::NotFound.into(),
            ));
        };
        let mut command = Command::new(program);
        command.args(args).process_group(0);
        for variable in systemd::VARIABLES {
            command.env_remove(variable);
        }
        let failed = |error| Error::Command(program.clone(), error);
        let child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(io::Error::other("it has no number")))?;
        let message = format!("the plugin is started: {}", program.display());
        log.event(
            Level::Info,
            "plugin_started",
            &message,
            &[("pid", u64::from(child.id()).into())],
        );
        Ok(Self {
            pid,
            adopts: getpid().is_init(),
        })
    }

    /// A first signal drains, a second ends at once.
    fn asked_to_end(
        &self,
        stage: Stage,
        signal: Signal,
        running: &Running,
        manager: &Manager,
    ) -> Stage {
        running.stop().signal();
        match stage {
            Stage::Serving => {
                manager.stopping();
                Stage::Draining
            }
            Stage::Draining => {
                self.signal(signal);
                Stage::Ending(Instant::now() + LAST_WORDS)
            }
            Stage::Ending(_) => Stage::Ending(Instant::now()),
        }
    }

    fn signal(&self, signal: Signal) {
        // Who is gone already needs no signal, and only `ended` lets its number go to another.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Its exit code once it has ended.
    fn ended(&self) -> io::Result<Option<u8>> {
        loop {
            let found = if self.adopts {
                wait(WaitOptions::NOHANG)
            } else {
                waitpid(Some(self.pid), WaitOptions::NOHANG)
            };
            match found? {
                Some((pid, status)) if pid == self.pid => return Ok(Some(code_of(status))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

/// As a shell tells it.
fn code_of(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

struct Signals {
    child: Received,
    terminate: Received,
    interrupt: Received,
    hangup: Received,
    quit: Received,
    user1: Received,
    user2: Received,
    window: Received,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            window: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.child.recv() => Signal::CHILD,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.user1.recv() => Signal::USR1,
            _ = self.user2.recv() => Signal::USR2,
            _ = self.window.recv() => Signal::WINCH,
        }
    }
}

impl Error {
    /// What a shell would end with: 127 for a command that is not there, 126 for one that may not
    /// be run.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Command(_, error) if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Command(..) => 126,
            Self::System(_) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(program, error) => {
                write!(
                    f,
                    "run: the plugin's command {} cannot be started: {error}; nothing is served without it",
                    program.display()
                )
            }
            Self::System(error) => write!(f, "run: {error}"),
        }
    }
}

impl std::error::Error for Error {}
