//! Opens plain connections, each within a deadline.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// A stream of bytes both ways, whatever carries it.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Any stream. One call through a table costs less than compiling hyper and h2 once for each kind.
pub type BoxIo = Box<dyn Io>;

/// How long connecting may take: the other end is one hop away.
pub const CONNECT: Duration = Duration::from_secs(1);

/// A TCP connection, without Nagle's delay.
///
/// # Errors
/// What the system says, or `TimedOut`.
pub async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
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
