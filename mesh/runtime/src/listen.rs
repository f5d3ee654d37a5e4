//! Accepts connections and hands each to the worker that has the fewest.
//!
//! In: a bound listener, and who may have a place. Out: accepted sockets in a worker's queue, each
//! with a [`Slot`] that counts it for as long as it lives. Running out of file descriptors, or
//! having as many connections as are allowed, ends those that idle, and makes the loop wait where
//! none does; it never spins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gapura_telemetry::log::{Level, Log};
use gapura_transport::alive;
use gapura_transport::shutdown::{Phase, Stopping};
use socket2::{Domain, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use crate::places::{Places, Slot};

/// A connection that was just accepted.
pub struct Accepted {
    /// Its socket, non-blocking.
    pub socket: Socket,
    /// Counts it.
    pub slot: Slot,
}

/// The socket of a connection.
pub enum Socket {
    /// At a port, without Nagle's delay, and who is at the other end.
    Tcp(std::net::TcpStream, SocketAddr),
    /// At a socket of this host.
    Unix(UnixStream),
}

/// Where connections are accepted.
pub enum Door {
    /// At a port.
    Tcp(TcpListener),
    /// At a socket of this host.
    Unix(UnixListener),
}

/// The queue of one worker, as the acceptor sees it.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// Connections that may wait to be accepted. The standard library has 128 wait; of a burst of more,
/// the system drops the rest, and each of those clients asks again a second later.
const WAITING: i32 = 4096;

/// How long a want of file descriptors, or of places, is waited out: another connection must close
/// first, or begin to idle.
const PAUSE: Duration = Duration::from_millis(50);

/// For how long nothing has to fail before a want of something is over, and told again when it
/// comes back.
const TOLD_FOR: Duration = Duration::from_secs(10);

impl Queue {
    /// A queue and the end that its worker reads. Not bounded by itself: the number of connections
    /// is.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Accepted>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (
            Self {
                sender,
                load: Arc::default(),
            },
            receiver,
        )
    }
}

impl Door {
    /// The next connection; none where it has broken already.
    async fn accept(&self) -> io::Result<Option<Socket>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                let ready = alive::keep(&stream)
                    .and_then(|()| stream.set_nodelay(true))
                    .and_then(|()| stream.into_std());
                ready.ok().map(|stream| Socket::Tcp(stream, from))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().ok().map(Socket::Unix)
            }
        })
    }

    /// Whoever has connected and was not accepted yet; nobody is waited for.
    fn in_line(self) -> Vec<Socket> {
        let most = 0..WAITING;
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std().ok();
                let next = |_| listener.as_ref()?.accept().ok();
                let ready = |(stream, from): (std::net::TcpStream, SocketAddr)| {
                    let set = alive::keep(&stream).and_then(|()| stream.set_nodelay(true));
                    set.and_then(|()| stream.set_nonblocking(true)).ok()?;
                    Some(Socket::Tcp(stream, from))
                };
                most.map_while(next).filter_map(ready).collect()
            }
            Self::Unix(listener) => {
                let listener = listener.into_std().ok();
                let next = |_| listener.as_ref()?.accept().ok();
                let ready = |(stream, _): (UnixStream, _)| {
                    stream.set_nonblocking(true).ok()?;
                    Some(Socket::Unix(stream))
                };
                most.map_while(next).filter_map(ready).collect()
            }
        }
    }
}

impl Socket {
    /// The address at the other end; none at a socket of this host.
    fn from(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, from) => Some(from.ip()),
            Self::Unix(_) => None,
        }
    }
}

/// Binds a listener with a long queue, so that a burst of clients is not refused.
///
/// # Errors
/// What the system says: the port is in use, the address is not ours.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the standard library does: a port whose last connections have just ended may be taken
    // again.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(WAITING)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts until the program closes, and then those who had connected before.
pub async fn accept(
    door: Door,
    queues: Vec<Queue>,
    places: Places,
    log: Log,
    mut stopping: Stopping,
) {
    let mut failed: Option<Instant> = None;
    loop {
        let full = !places.make_room();
        tokio::select! {
            () = stopping.reached(Phase::Closing) => break,
            () = places.freed(), if full => {}
            // One that carried something may idle by now.
            () = tokio::time::sleep(PAUSE), if full => {}
            accepted = door.accept(), if !full => match accepted {
                Ok(Some(socket)) => hand_over(socket, &queues, &places),
                Ok(None) => {}
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    // A line a change of state, not a failure.
                    if failed.replace(Instant::now()).is_none_or(|last| last.elapsed() > TOLD_FOR) {
                        let message = format!("no connection can be accepted: {error}; those that idle longest end until one can");
                        log.event(Level::Error, "accept_failed", &message, &[]);
                    }
                    places.shed();
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    // Whoever is in line already is not turned away.
    for socket in door.in_line() {
        hand_over(socket, &queues, &places);
    }
}

fn hand_over(socket: Socket, queues: &[Queue], places: &Places) {
    let Some(queue) = queues
        .iter()
        .min_by_key(|queue| queue.load.load(Ordering::Relaxed))
    else {
        return;
    };
    let Some(slot) = places.take(socket.from(), &queue.load) else {
        return;
    };
    // A worker whose queue is gone is ending, and so is the program.
    let _ = queue.sender.send(Accepted { socket, slot });
}

/// Errors of one connection, that the next accept does not meet again.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::Bounds;
    use gapura_protocol::clock::Clock;
    use gapura_transport::shutdown::Stop;

    #[test]
    fn a_burst_waits_in_line() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5));
        let waiting: Result<Vec<_>, _> = (0..400).map(connect).collect();
        assert!(
            waiting.is_ok(),
            "nobody has accepted yet, and the line is full: {waiting:?}"
        );
    }

    #[tokio::test]
    async fn each_connection_goes_to_the_worker_with_the_fewest() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (one, mut first) = Queue::new();
        let (two, mut second) = Queue::new();
        let stop = Stop::new();
        let log = Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap();
        let accepting = tokio::spawn(accept(
            Door::Tcp(TcpListener::from_std(listener).unwrap()),
            vec![one, two],
            Places::new(Bounds::of(100), log.clone()),
            log,
            stop.follow(),
        ));
        let _a = tokio::net::TcpStream::connect(address).await.unwrap();
        let held = first.recv().await.unwrap();
        let _b = tokio::net::TcpStream::connect(address).await.unwrap();
        let _other = second.recv().await.unwrap();
        drop(held);
        let _c = tokio::net::TcpStream::connect(address).await.unwrap();
        assert!(first.recv().await.is_some());
        stop.raise(Phase::Closing);
        accepting.await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
