//! One connection to the door: what is sent is what was written, and every wait has an end.
//!
//! In: a target, a protocol. Out: bytes, or that it closed, or that nothing came. It reads no HTTP.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_trust::provider::public_provider;
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::target::Target;

/// A connection, a handshake or a write that takes longer has failed.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What a reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// Bytes, which are in `unread` now.
    Bytes,
    /// The other side has closed.
    Closed,
    /// Nothing until the deadline.
    Nothing,
}

/// One connection.
pub(super) struct Wire {
    stream: Stream,
    /// What came and was not taken yet.
    pub(super) unread: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Protocol {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

impl Wire {
    /// Connects and settles on `protocol`. HTTP/2 is spoken over TLS alone.
    pub(super) fn connect(target: &Target, protocol: Protocol) -> Result<Self, String> {
        let Some((roots, name)) = &target.tls else {
            if protocol == Protocol::Http2 {
                return Err("HTTP/2 is tried over TLS only".to_owned());
            }
            return Ok(Self::over(Stream::Plain(tcp(target.address)?)));
        };
        let config = ClientConfig::builder_with_provider(public_provider())
            .with_safe_default_protocol_versions()
            .map_err(|err| err.to_string())?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let mut config = config;
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        config.resumption = Resumption::disabled();
        let session =
            ClientConnection::new(Arc::new(config), name.clone()).map_err(|err| err.to_string())?;
        let wire = Self::tls(session, tcp(target.address)?)?;
        let chosen = match &wire.stream {
            Stream::Tls(tls) => tls.conn.alpn_protocol().map(<[u8]>::to_vec),
            Stream::Plain(_) => None,
        };
        if protocol == Protocol::Http2 && chosen.as_deref() != Some(protocol.alpn()) {
            return Err("the door does not speak HTTP/2".to_owned());
        }
        Ok(wire)
    }

    /// Shakes hands over `tcp`.
    pub(super) fn tls(session: ClientConnection, tcp: TcpStream) -> Result<Self, String> {
        let mut stream = StreamOwned::new(session, tcp);
        let until = Instant::now() + CONNECT;
        while stream.conn.is_handshaking() {
            if Instant::now() > until {
                return Err("the handshake does not end".to_owned());
            }
            stream
                .conn
                .complete_io(&mut stream.sock)
                .map_err(|err| format!("no handshake: {err}"))?;
        }
        Ok(Self::over(Stream::Tls(Box::new(stream))))
    }

    /// A connection without TLS, wherever it leads.
    pub(super) fn plain(address: SocketAddr) -> Result<Self, String> {
        Ok(Self::over(Stream::Plain(tcp(address)?)))
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends all of it; `false` if the other side does not take it.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        sent.is_ok()
    }

    /// Reads what comes next, until `until` at the latest.
    pub(super) fn more(&mut self, until: Instant) -> Got {
        let mut buffer = [0; 16 * 1024];
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.socket().set_read_timeout(Some(left)).is_err() {
            return Got::Nothing;
        }
        let read = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(&mut buffer),
            Stream::Tls(tls) => tls.read(&mut buffer),
        };
        match read {
            Ok(0) => Got::Closed,
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                Got::Bytes
            }
            Err(err)
                if matches!(
                    err.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Got::Nothing
            }
            Err(_) => Got::Closed,
        }
    }

    /// The certificates that the other side showed.
    pub(super) fn shown(&self) -> Vec<Vec<u8>> {
        match &self.stream {
            Stream::Plain(_) => Vec::new(),
            Stream::Tls(tls) => tls
                .conn
                .peer_certificates()
                .map(|chain| {
                    chain
                        .iter()
                        .map(|certificate| certificate.to_vec())
                        .collect()
                })
                .unwrap_or_default(),
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

/// A socket with its deadlines set.
pub(super) fn tcp(address: SocketAddr) -> Result<TcpStream, String> {
    let connect = || {
        let tcp = TcpStream::connect_timeout(&address, CONNECT)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(CONNECT))?;
        tcp.set_write_timeout(Some(CONNECT))?;
        Ok(tcp)
    };
    connect().map_err(|err: std::io::Error| format!("no connection to {address}: {err}"))
}
