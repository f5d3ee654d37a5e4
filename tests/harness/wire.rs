//! HTTP/1.1 as exact bytes: what is sent is what the test wrote, and what comes back is read
//! without any leniency of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::PATIENCE;
use crate::certs::Certificate;

/// One connection.
pub struct Wire {
    stream: Stream,
    unread: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// `HTTP/1.1`.
    pub version: String,
    /// The number.
    pub status: u16,
    /// In the order they came, names as they came.
    pub headers: Vec<(String, String)>,
    /// The body, taken out of its chunks.
    pub body: Vec<u8>,
    /// What stood behind the last chunk.
    pub trailers: Vec<(String, String)>,
}

/// How a client's side of TLS is set up.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts `root`, expects the name `name`, offers `alpn`, shows no certificate.
    #[must_use]
    pub fn trusting(root: &str, name: &str, alpn: &[&str]) -> Self {
        Self::build(root, name, alpn, None, rustls::ALL_VERSIONS)
    }

    /// The same, speaking this version alone.
    #[must_use]
    pub fn of_version(
        root: &str,
        name: &str,
        alpn: &[&str],
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        Self::build(root, name, alpn, None, &[version])
    }

    /// The same, with a certificate to show.
    #[must_use]
    pub fn showing(root: &str, name: &str, alpn: &[&str], own: &Certificate) -> Self {
        Self::build(root, name, alpn, Some(own), rustls::ALL_VERSIONS)
    }

    fn build(
        root: &str,
        name: &str,
        alpn: &[&str],
        own: Option<&Certificate>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(root.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => builder
                .with_client_auth_cert(own.chain_der(), own.key_der())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Self {
            config: Arc::new(config),
            name: ServerName::try_from(name.to_owned()).unwrap(),
        }
    }

    /// The configuration, for other clients.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name that is expected.
    #[must_use]
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl Wire {
    /// Connects without TLS.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            stream: Stream::Plain(connect(address)),
            unread: Vec::new(),
        }
    }

    /// Connects without TLS from this address of loopback.
    ///
    /// # Errors
    /// What the system says.
    pub fn plain_from(from: IpAddr, address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            stream: Stream::Plain(connect_from(from, address)?),
            unread: Vec::new(),
        })
    }

    /// Connects from this address of loopback and shakes hands.
    ///
    /// # Errors
    /// As [`Wire::tls`].
    pub fn tls_from(from: IpAddr, address: SocketAddr, tls: &Tls) -> std::io::Result<Self> {
        Self::shaken(connect_from(from, address)?, tls)
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// What the handshake failed with. A refusal of our certificate comes with the first reading
    /// only: TLS 1.3 lets a client finish before the server has judged it.
    pub fn tls(address: SocketAddr, tls: &Tls) -> std::io::Result<Self> {
        Self::tls_behind(b"", address, tls)
    }

    /// The same, with these bytes in front of the handshake, as a proxy writes them.
    ///
    /// # Errors
    /// As [`Wire::tls`].
    pub fn tls_behind(preamble: &[u8], address: SocketAddr, tls: &Tls) -> std::io::Result<Self> {
        let mut socket = connect(address);
        socket.write_all(preamble)?;
        Self::shaken(socket, tls)
    }

    fn shaken(socket: TcpStream, tls: &Tls) -> std::io::Result<Self> {
        let connection = ClientConnection::new(tls.config.clone(), tls.name.clone())
            .map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream: Stream::Tls(Box::new(stream)),
            unread: Vec::new(),
        })
    }

    /// The protocol that ALPN settled on.
    #[must_use]
    pub fn protocol(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls
                .conn
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }

    /// Whether the handshake took up an earlier session instead of showing certificates.
    #[must_use]
    pub fn was_resumed(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }

    /// The certificate that the other side showed.
    #[must_use]
    pub fn peer_certificate(&self) -> Vec<u8> {
        match &self.stream {
            Stream::Plain(_) => Vec::new(),
            Stream::Tls(tls) => tls
                .conn
                .peer_certificates()
                .map(|chain| chain[0].to_vec())
                .unwrap_or_default(),
        }
    }

    /// Our own port, as the other side sees it.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.socket().local_addr().unwrap()
    }

    /// Sends these bytes, and fails the test if they can't be sent.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes, which the other side may refuse by closing.
    ///
    /// # Errors
    /// When the connection is closed, or takes nothing for [`PATIENCE`].
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.socket().set_write_timeout(Some(PATIENCE))?;
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes.as_ref()),
            Stream::Tls(tls) => tls.write_all(bytes.as_ref()).and_then(|()| tls.flush()),
        }
    }

    /// Sends a GET with these further lines, each ended by CR LF.
    pub fn get(&mut self, path: &str, lines: &str) {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
        ));
    }

    /// Tells the other side that no more bytes come.
    pub fn finish(&mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Reads the next answer to a request that may have a body in its answer.
    #[must_use]
    pub fn response(&mut self) -> Response {
        self.try_response("GET")
            .unwrap_or_else(|why| panic!("no answer: {why}"))
    }

    /// Reads the next final answer: interim ones are skipped.
    #[must_use]
    pub fn final_response(&mut self) -> Response {
        loop {
            let response = self.response();
            if !(100..200).contains(&response.status) || response.status == 101 {
                return response;
            }
        }
    }

    /// Reads the next answer to a request of this method.
    ///
    /// # Errors
    /// With what came instead.
    pub fn try_response(&mut self, method: &str) -> Result<Response, String> {
        let until = Instant::now() + PATIENCE;
        let mut response = self.head(until)?;
        let bodiless = method == "HEAD" || matches!(response.status, 100..200 | 204 | 304);
        if bodiless {
            return Ok(response);
        }
        let lengths = response.all("content-length");
        if let Some(coding) = response.header("transfer-encoding") {
            assert_eq!(coding, "chunked", "an answer with another coding");
            assert!(
                lengths.is_empty(),
                "an answer with two kinds of length: {response:?}"
            );
            self.chunks(until, &mut response)?;
        } else if let [length] = lengths[..] {
            let length: usize = length
                .parse()
                .map_err(|_| format!("a length that is no number: {length}"))?;
            response.body = self.exactly(until, length)?;
        } else {
            assert!(
                lengths.is_empty(),
                "an answer with several lengths: {response:?}"
            );
            response.body = self.rest(until)?;
        }
        Ok(response)
    }

    /// Reads an answer's head alone; its body is left to [`Wire::read`].
    #[must_use]
    pub fn response_head(&mut self) -> Response {
        self.head(Instant::now() + PATIENCE)
            .unwrap_or_else(|why| panic!("no answer: {why}"))
    }

    /// Reads exactly `length` further bytes.
    #[must_use]
    pub fn read(&mut self, length: usize) -> Vec<u8> {
        self.exactly(Instant::now() + PATIENCE, length)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Reads exactly `length` further bytes.
    ///
    /// # Errors
    /// If the other side closes before, or they don't come.
    pub fn try_read(&mut self, length: usize) -> Result<Vec<u8>, String> {
        self.try_read_within(PATIENCE, length)
    }

    /// Reads exactly `length` further bytes, for which the test is ready to wait this long.
    ///
    /// # Errors
    /// If the other side closes before, or they don't come.
    pub fn try_read_within(&mut self, limit: Duration, length: usize) -> Result<Vec<u8>, String> {
        self.exactly(Instant::now() + limit, length)
    }

    /// Reads and counts whatever comes until the other side closes, keeping nothing.
    pub fn count_to_end(&mut self, limit: Duration) -> u64 {
        let until = Instant::now() + limit;
        let mut count = self.unread.len() as u64;
        self.unread.clear();
        let mut buffer = vec![0; 1 << 18];
        while let Ok(length @ 1..) = self.some(until, &mut buffer) {
            count += length as u64;
        }
        count
    }

    /// Reads whatever comes until the other side closes.
    ///
    /// # Errors
    /// If it is still open after [`PATIENCE`].
    pub fn to_end(&mut self) -> Result<Vec<u8>, String> {
        self.rest(Instant::now() + PATIENCE)
    }

    /// Whether the other side closes the connection within `limit`, whatever it sends before that.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            match self.some(until, &mut buffer) {
                Ok(0) => return true,
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(err) => {
                    return !matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
    }

    /// Whether nothing at all comes for `span` and the connection stays open.
    pub fn is_silent_for(&mut self, span: Duration) -> bool {
        let mut buffer = [0; 1];
        match self.some(Instant::now() + span, &mut buffer) {
            Ok(0) => false,
            Ok(_) => {
                self.unread.push(buffer[0]);
                false
            }
            Err(err) => matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Has the system keep next to nothing for us of what the other side sends.
    pub fn keep_little(&self) {
        let socket = socket2::SockRef::from(self.socket());
        socket.set_recv_buffer_size(4096).unwrap();
    }

    /// Reads to the end over TLS; whether the other side has said that it is one (RFC 8446, section
    /// 6.1), and was not just gone.
    #[must_use]
    pub fn is_ended_well(&mut self) -> bool {
        use std::io::Read;
        self.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        match &mut self.stream {
            Stream::Plain(_) => panic!("there is no such word without TLS"),
            Stream::Tls(tls) => tls.read_to_end(&mut Vec::new()).is_ok(),
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Some bytes, 0 at the end, or an error: `WouldBlock` at the deadline.
    fn some(&mut self, until: Instant, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.socket().set_read_timeout(Some(left))?;
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }

    fn more(&mut self, until: Instant) -> Result<(), String> {
        let mut buffer = vec![0; 1 << 16];
        match self.some(until, &mut buffer) {
            Ok(0) => Err(format!(
                "closed after {:?}",
                String::from_utf8_lossy(&self.unread)
            )),
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(err) => Err(format!(
                "{err} after {:?}",
                String::from_utf8_lossy(&self.unread)
            )),
        }
    }

    fn line(&mut self, until: Instant) -> Result<String, String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more(until)?;
        }
    }

    fn exactly(&mut self, until: Instant, length: usize) -> Result<Vec<u8>, String> {
        while self.unread.len() < length {
            self.more(until)?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn rest(&mut self, until: Instant) -> Result<Vec<u8>, String> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.some(until, &mut buffer) {
                Ok(0) => return Ok(std::mem::take(&mut self.unread)),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(err)
                    if matches!(
                        err.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                    ) =>
                {
                    return Ok(std::mem::take(&mut self.unread));
                }
                Err(err) => {
                    return Err(format!(
                        "{err} after {:?}",
                        String::from_utf8_lossy(&self.unread)
                    ));
                }
            }
        }
    }

    fn fields(&mut self, until: Instant) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(until)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("a field without a colon: {line:?}"))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn head(&mut self, until: Instant) -> Result<Response, String> {
        let line = self.line(until)?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("no status line: {line:?}"))?;
        Ok(Response {
            version,
            status,
            headers: self.fields(until)?,
            body: Vec::new(),
            trailers: Vec::new(),
        })
    }

    fn chunks(&mut self, until: Instant, response: &mut Response) -> Result<(), String> {
        loop {
            let line = self.line(until)?;
            let length =
                usize::from_str_radix(&line, 16).map_err(|_| format!("no chunk: {line:?}"))?;
            if length == 0 {
                response.trailers = self.fields(until)?;
                return Ok(());
            }
            response.body.extend(self.exactly(until, length)?);
            assert_eq!(
                self.exactly(until, 2)?,
                b"\r\n",
                "a chunk that does not end where it said"
            );
        }
    }
}

impl Response {
    /// The value of `name`, which has to stand at most once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(
            all.len() <= 1,
            "{name} stands {} times: {:?}",
            all.len(),
            self.headers
        );
        all.first().copied()
    }

    /// Every value of `name`.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("no JSON ({err}): {self:?}"))
    }

    /// Holds the answer to the envelope of the contract: this status, this code, made by `by`.
    #[track_caller]
    pub fn assert_refusal(&self, status: u16, code: &str, by: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["ok"], false, "{body}");
        assert_eq!(body["errors"]["code"], code, "{body}");
        assert_eq!(body["errors"]["by"], by, "{body}");
        assert!(
            body["message"].as_str().is_some_and(|text| text.len() > 10),
            "a sentence: {body}"
        );
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(
            self.header("x-request-id"),
            body["errors"]["request_id"].as_str(),
            "{self:?}"
        );
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()));
    }
}

fn connect_from(from: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    )?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .unwrap_or_else(|err| panic!("no connection to {address}: {err}"));
    stream.set_nodelay(true).unwrap();
    stream
}
