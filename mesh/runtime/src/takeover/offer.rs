//! The running program's end of a takeover: passes its listeners to the next of its kind that asks,
//! and goes once that serves.
//!
//! In: the listeners, each with its name, and the socket at which the next one asks. Out: the end
//! of accepting, told to everybody who follows it. Whoever breaks off before it has said that it
//! serves leaves everything as it was.
//! Invariant: of two that ask, the second waits for the first; nothing is passed to another user's
//! process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use gapura_telemetry::log::{Level, Log};
use gapura_transport::shutdown::{Phase, Stop};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::{GOES, GREETING, ITSELF, SERVES, pass};

/// Listeners to pass on, each with its name: the same open sockets as those that are served here.
#[derive(Debug, Default)]
pub(crate) struct Offered(Vec<(&'static str, OwnedFd)>);

/// Learns that the listeners have passed to the next program.
#[derive(Clone, Debug)]
pub(crate) struct Passed(watch::Receiver<bool>);

/// Says so.
pub(crate) struct Passing(watch::Sender<bool>);

/// The next program has loaded everything before it asks: binding what is new, and starting
/// threads, takes no longer.
const WITHIN: Duration = Duration::from_secs(30);

/// One that dies of its first requests dies within a moment; until then both accept, and this one
/// can go on alone.
const PROVES_ITSELF: Duration = Duration::from_secs(1);

/// Whoever connects and says nothing is not waited for.
const GREETED_WITHIN: Duration = Duration::from_secs(5);

/// Where it is told that listeners have passed, and where that is learnt.
#[must_use]
pub(crate) fn passing() -> (Passing, Passed) {
    let (told, learnt) = watch::channel(false);
    (Passing(told), Passed(learnt))
}

impl Passed {
    /// Ready once they have; never, where nobody can pass them any more.
    pub(crate) async fn over(mut self) {
        if self.0.wait_for(|passed| *passed).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Offered {
    /// One more.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub(crate) fn add(&mut self, name: &'static str, listener: impl AsFd) -> io::Result<()> {
        let file = listener.as_fd().try_clone_to_owned()?;
        self.0.push((name, file));
        Ok(())
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        names.join(" ")
    }
}

/// Offers the listeners until they have passed, or the program stops accepting.
pub(crate) async fn run(
    socket: UnixListener,
    mut offered: Offered,
    passing: Passing,
    stop: Stop,
    log: Log,
) {
    let mut stopping = stop.follow();
    let offering = async {
        offered.add(ITSELF, &socket)?;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        loop {
            let (stream, _) = socket.accept().await?;
            match pass_on(&stream, &offered, log.service()).await {
                Ok(pid) => return Ok::<_, io::Error>((stream, pid)),
                Err(error) => {
                    let message =
                        format!("a takeover came to nothing, and this program goes on: {error}");
                    log.event(Level::Warn, "takeover_failed", &message, &[]);
                }
            }
        }
    };
    // What is offered is dropped with this: a program that goes holds no listener open.
    let passed = tokio::select! {
        passed = offering => passed,
        () = stopping.reached(Phase::Closing) => return,
    };
    match passed {
        Ok((stream, pid)) => {
            let _ = passing.0.send(true);
            stop.raise(Phase::Closing);
            let message = format!(
                "process {pid} has taken over the listeners and serves; finishing what is in flight"
            );
            log.event(Level::Info, "taken_over", &message, &[("pid", pid.into())]);
            let _ = send_line(&stream, GOES, &[]).await;
        }
        Err(error) => {
            let message = format!("no program can take over the listeners any more: {error}");
            log.event(Level::Error, "takeover_failed", &message, &[]);
        }
    }
}

/// Passes the listeners to who asks, and waits until it serves. Out: its process.
async fn pass_on(stream: &UnixStream, offered: &Offered, service: &str) -> io::Result<u64> {
    let peer = stream.peer_cred()?;
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!(
            "it was asked for by user {}",
            peer.uid()
        )));
    }
    let greeting = timely(GREETED_WITHIN, hear(stream)).await?;
    if greeting != format!("{GREETING} {service}") {
        send_line(
            stream,
            &format!("this is a {service}, and speaks {GREETING}"),
            &[],
        )
        .await?;
        return Err(io::Error::other(
            "another kind of program asked for it, or another version",
        ));
    }
    let files: Vec<BorrowedFd<'_>> = offered.0.iter().map(|(_, file)| file.as_fd()).collect();
    send_line(stream, &format!("listeners {}", offered.names()), &files).await?;
    if timely(WITHIN, hear(stream)).await? != SERVES {
        return Err(io::Error::other("what asked for it says something strange"));
    }
    // Nothing more is to be said; an end is what there is to hear.
    if tokio::time::timeout(PROVES_ITSELF, hear(stream))
        .await
        .is_ok()
    {
        return Err(io::Error::other(
            "what asked for it ended as soon as it served",
        ));
    }
    Ok(peer
        .pid()
        .and_then(|pid| pid.try_into().ok())
        .unwrap_or_default())
}

async fn timely<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn hear(stream: &UnixStream) -> io::Result<String> {
    let heard = stream.async_io(Interest::READABLE, || pass::receive(stream));
    Ok(heard.await?.0)
}

async fn send_line(stream: &UnixStream, line: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let said = stream.async_io(Interest::WRITABLE, || pass::send(stream, line, files));
    timely(GREETED_WITHIN, said).await
}
