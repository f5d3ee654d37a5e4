//! Where the service listens: a loopback port, or a unix socket.

use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Where to listen: `127.0.0.1:5000` or `unix:/run/lab.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket file; one that a crashed run left behind is replaced.
    Unix(PathBuf),
}

/// Where the service listens in the end, with the port that was free.
pub type Address = Listen;

/// A bound listener.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A connection over either.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The socket file, which goes when the listener does.
pub(crate) struct SocketFile(PathBuf);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("`unix:` needs a path, as in `unix:/run/lab.sock`".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "`{text}` is neither `ADDRESS:PORT`, as in `127.0.0.1:5000`, nor `unix:PATH`"
                )
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listener {
    pub(crate) async fn bind(listen: &Listen) -> Result<(Self, Address)> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = listener.local_addr()?;
                Ok((Self::Tcp(listener), Listen::Tcp(bound)))
            }
            Listen::Unix(path) => {
                clear_stale_socket(path)?;
                let listener = UnixListener::bind(path)?;
                Ok((
                    Self::Unix {
                        listener,
                        _file: SocketFile(path.clone()),
                    },
                    listen.clone(),
                ))
            }
        }
    }

    pub(crate) async fn accept(&self) -> Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes the socket of a run that ended without cleaning up; refuses where somebody still answers
/// or the file is no socket.
fn clear_stale_socket(path: &Path) -> Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    if !kind.is_socket() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "the path is taken by a file that is no socket",
        ));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::new(
            ErrorKind::AddrInUse,
            "another program answers at this socket",
        ));
    }
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_says_what_it_wants() {
        assert_eq!(
            "127.0.0.1:0".parse(),
            Ok(Listen::Tcp(([127, 0, 0, 1], 0).into()))
        );
        assert_eq!(
            "unix:/run/lab.sock".parse(),
            Ok(Listen::Unix("/run/lab.sock".into()))
        );
        for text in ["", "5000", "unix:", "localhost", "http://127.0.0.1:5000"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn replaces_a_dead_socket_but_no_live_one_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let listen = Listen::Unix(folder.path().join("lab.sock"));
        let Listen::Unix(path) = &listen else {
            unreachable!()
        };

        drop(std::os::unix::net::UnixListener::bind(path).unwrap()); // std leaves the file behind
        let (live, _) = Listener::bind(&listen).await.unwrap();
        assert_eq!(
            Listener::bind(&listen).await.err().unwrap().kind(),
            ErrorKind::AddrInUse
        );
        drop(live);
        assert!(!path.exists());

        std::fs::write(path, "notes").unwrap();
        assert_eq!(
            Listener::bind(&listen).await.err().unwrap().kind(),
            ErrorKind::AlreadyExists
        );
    }
}
