//! A stream of bytes both ways, whatever carries it.

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes both ways, whatever carries it.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Any stream. One call through a table costs less than compiling hyper and h2 once for each kind.
pub type BoxIo = Box<dyn Io>;
