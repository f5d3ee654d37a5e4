//! Opens plain connections, each within a deadline.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::alive;

/// How long connecting may take: the other end is one hop away.
pub const CONNECT: Duration = Duration::from_secs(1);

/// A TCP connection, without Nagle's delay, and watched.
///
/// # Errors
/// What the system says, or `TimedOut`.
pub async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    alive::ask(&stream)?;
    Ok(stream)
}

/// A connection to a unix socket.
///
/// # Errors
/// What the system says, or `TimedOut`.
pub async fn unix(path: &Path) -> io::Result<UnixStream> {
    timeout(CONNECT, UnixStream::connect(path))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}
