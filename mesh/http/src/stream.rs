//! What a connection needs of the stream beneath it.
//!
//! Bytes both ways, and two facts that reading and writing do not tell: whether a peer that has
//! closed its sending half is still there, and how to end so that nobody takes what was sent for
//! the whole.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A stream that messages travel on. Whoever wraps one, in TLS say, passes both questions on to the
/// stream inside.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Whether the peer has reset the connection. Asked now and then once its sending half has
    /// ended, since a read says nothing more from then on.
    fn is_gone(&self) -> bool {
        false
    }

    /// Makes the end, once this is dropped, one that a reader cannot take for a proper one.
    fn abort(&mut self) {}
}

impl Stream for TcpStream {
    fn is_gone(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }

    fn abort(&mut self) {
        // Where it fails the socket is broken already.
        let _ = self.set_zero_linger();
    }
}

impl Stream for UnixStream {
    fn is_gone(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }
}

impl Stream for tokio::io::DuplexStream {}

/// Any stream. One call through a table costs less than compiling HTTP once for each kind.
pub type BoxStream = Box<dyn Stream>;

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn is_gone(&self) -> bool {
        (**self).is_gone()
    }

    fn abort(&mut self) {
        (**self).abort();
    }
}
