//! The scripted plugin: an HTTP/1.1 server that keeps every byte it gets and answers by script,
//! well or badly.
//!
//! Without a script it reads the whole request and answers 200 with a little JSON. A script is a
//! function that gets the request's head and the connection itself, so that it can answer early,
//! late, never, wrongly, or not in HTTP at all.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::{PATIENCE, eventually};

/// Bytes kept of one connection and of one body; what comes after that is counted only.
const KEPT: usize = 1 << 20;

/// A running plugin.
pub struct Plugin {
    address: Address,
    shared: Arc<Shared>,
}

enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One request as the plugin saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Which of the plugin's connections it came on, from 0.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// In the order they came, names as they came.
    pub headers: Vec<(String, String)>,
    /// The first of the body, out of its chunks.
    pub body: Vec<u8>,
    /// How long the body was.
    pub body_length: u64,
    /// What stood behind the last chunk.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came whole.
    pub complete: bool,
}

/// What becomes of the connection after a script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next request may come on it.
    Keep,
    /// It is closed.
    Close,
}

/// One request in the hands of a script.
pub struct Exchange<'a> {
    /// The head; its body is not read yet.
    pub head: Seen,
    io: &'a mut Io,
    shared: &'a Shared,
    index: usize,
    body_read: bool,
}

/// A door that scripts wait at until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

type Script = Arc<dyn Fn(&mut Exchange<'_>) -> Then + Send + Sync>;

#[derive(Default)]
struct Shared {
    scripts: Mutex<Vec<(String, Script)>>,
    seen: Mutex<Vec<Seen>>,
    raw: Mutex<Vec<Vec<u8>>>,
    open: AtomicUsize,
    stopped: AtomicBool,
    streams: Mutex<HashMap<usize, Stream>>,
    /// Those that ended last: while one is held, what its peer had not sent in full is no reset.
    ended: Mutex<VecDeque<Stream>>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Io {
    stream: Stream,
    unread: Vec<u8>,
    connection: usize,
}

enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Plugin {
    /// On a port of loopback.
    #[must_use]
    pub fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        std::thread::spawn(move || {
            serve(&served, || {
                listener.accept().map(|(stream, _)| Stream::Tcp(stream))
            })
        });
        Self { address, shared }
    }

    /// On a unix socket in `dir`, which others can't write.
    #[must_use]
    pub fn unix(dir: &Path) -> Self {
        let path = dir.join("plugin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        std::thread::spawn(move || {
            serve(&served, || {
                listener.accept().map(|(stream, _)| Stream::Unix(stream))
            })
        });
        Self {
            address: Address::Unix(path),
            shared,
        }
    }

    /// What a sidecar's `--plugin` takes.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Runs `script` for requests whose target begins with `prefix`. A later one goes before an
    /// earlier one.
    pub fn on(
        &self,
        prefix: &str,
        script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static,
    ) {
        self.shared
            .scripts
            .lock()
            .unwrap()
            .insert(0, (prefix.to_owned(), Arc::new(script)));
    }

    /// Holds requests whose target begins with `prefix` until the gate that comes back is opened,
    /// and answers "held" then.
    #[must_use]
    pub fn hold(&self, prefix: &str) -> Gate {
        let gate = Gate::new();
        let until = gate.clone();
        self.on(prefix, move |exchange| {
            let _ = until.wait();
            if exchange.answer("200 OK", "", b"held") {
                Then::Keep
            } else {
                Then::Close
            }
        });
        gate
    }

    /// Answers requests whose target begins with `prefix` with exactly these bytes, once their body
    /// is read.
    pub fn answer_raw(&self, prefix: &str, bytes: impl Into<Vec<u8>>, then: Then) {
        let bytes = bytes.into();
        self.on(prefix, move |exchange| {
            exchange.read_body();
            exchange.write(&bytes);
            then
        });
    }

    /// Every request so far, in the order of their heads.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Every request but the first `known`.
    #[must_use]
    pub fn seen_since(&self, known: usize) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().skip(known).cloned().collect()
    }

    /// Requests whose target begins with `prefix`.
    #[must_use]
    pub fn seen_at(&self, prefix: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.target.starts_with(prefix))
            .collect()
    }

    /// The request that `wanted` takes, as soon as it is there.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        eventually(&format!("the plugin sees {what}"), || {
            self.seen().into_iter().find(&wanted)
        })
    }

    /// Every byte of each connection, up to 1 MiB of each.
    #[must_use]
    pub fn raw(&self) -> Vec<Vec<u8>> {
        self.shared.raw.lock().unwrap().clone()
    }

    /// Whether these bytes came, on any connection, in any case.
    #[must_use]
    pub fn got_bytes(&self, bytes: &str) -> bool {
        let wanted = bytes.to_ascii_lowercase().into_bytes();
        self.raw().iter().any(|raw| {
            raw.to_ascii_lowercase()
                .windows(wanted.len())
                .any(|window| window == wanted)
        })
    }

    /// How many connections there ever were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.raw.lock().unwrap().len()
    }

    /// How many are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Closes every open connection.
    pub fn cut(&self) {
        for (_, stream) in self.shared.streams.lock().unwrap().drain() {
            stream.shutdown();
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // One connection wakes the accepting thread, which then sees that it is over and lets the
        // listener go.
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect(address)),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
        self.cut();
    }
}

impl Gate {
    /// A closed door.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone through from now on.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open, a minute at most; says whether it was opened.
    #[must_use]
    pub fn wait(&self) -> bool {
        let open = self.0.0.lock().unwrap();
        *self
            .0
            .1
            .wait_timeout_while(open, Duration::from_secs(60), |open| !*open)
            .unwrap()
            .0
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.open(); // a failed test leaves no script waiting
        }
    }
}

impl Seen {
    /// The value of `name`, which has to stand at most once.
    #[must_use]
    #[track_caller]
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

    /// The names that stand in the head, in lower case.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn framing(&self) -> Framing {
        if self.header("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        self.header("content-length")
            .map_or(Framing::None, |length| {
                Framing::Length(length.parse().unwrap())
            })
    }
}

impl Exchange<'_> {
    /// Reads the whole body, saying 100 Continue first if that is waited for. False if it broke
    /// off.
    pub fn read_body(&mut self) -> bool {
        if self.body_read {
            return true;
        }
        self.body_read = true;
        if self.head.header("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let whole = match self.head.framing() {
            Framing::None => Some(()),
            Framing::Length(length) => self.take(length),
            Framing::Chunked => self.chunks(),
        };
        self.record(|seen| seen.complete = whole.is_some());
        whole.is_some()
    }

    /// Writes these bytes. False if the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).is_ok()
    }

    /// Writes a whole answer with a length.
    pub fn answer(&mut self, status: &str, headers: &str, body: &[u8]) -> bool {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.write(head.as_bytes()) && self.write(body)
    }

    /// Reads some further bytes, whatever they are; empty at the end.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.io.unread.is_empty() && !self.io.more(self.shared) {
            return Vec::new();
        }
        std::mem::take(&mut self.io.unread)
    }

    /// Waits until the other side closes; whatever it sends meanwhile is dropped.
    pub fn wait_for_close(&mut self) {
        while self.io.more(self.shared) {
            self.io.unread.clear();
        }
    }

    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.shared.seen.lock().unwrap()[self.index]);
    }

    fn take(&mut self, mut length: u64) -> Option<()> {
        while length > 0 {
            if self.io.unread.is_empty() && !self.io.more(self.shared) {
                return None;
            }
            let now = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .min(self.io.unread.len());
            let part: Vec<u8> = self.io.unread.drain(..now).collect();
            length -= now as u64;
            self.record(|seen| {
                seen.body_length += part.len() as u64;
                let room = KEPT.saturating_sub(seen.body.len()).min(part.len());
                seen.body.extend_from_slice(&part[..room]);
            });
        }
        Some(())
    }

    fn chunks(&mut self) -> Option<()> {
        loop {
            let line = self.io.line(self.shared)?;
            let length =
                u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).ok()?;
            if length == 0 {
                let trailers = self.io.fields(self.shared)?;
                self.record(|seen| seen.trailers = trailers);
                return Some(());
            }
            self.take(length)?;
            (self.io.line(self.shared)?.is_empty()).then_some(())?;
        }
    }
}

/// A file each.
const ENDED_HELD: usize = 256;

fn serve(shared: &Arc<Shared>, mut accept: impl FnMut() -> std::io::Result<Stream>) {
    while let Ok(stream) = accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let connection = {
            let mut raw = shared.raw.lock().unwrap();
            raw.push(Vec::new());
            raw.len() - 1
        };
        let again = stream.again();
        shared.streams.lock().unwrap().insert(connection, again);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        std::thread::spawn(move || {
            let mut io = Io {
                stream,
                unread: Vec::new(),
                connection,
            };
            while one_request(&shared, &mut io) == Then::Keep {}
            io.stream.shutdown();
            if let Some(stream) = shared.streams.lock().unwrap().remove(&connection) {
                let mut ended = shared.ended.lock().unwrap();
                ended.push_back(stream);
                if ended.len() > ENDED_HELD {
                    ended.pop_front();
                }
            }
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn one_request(shared: &Shared, io: &mut Io) -> Then {
    let Some(head) = head(shared, io) else {
        return Then::Close;
    };
    let index = {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(head.clone());
        seen.len() - 1
    };
    let script = {
        let scripts = shared.scripts.lock().unwrap();
        scripts
            .iter()
            .find(|(prefix, _)| head.target.starts_with(prefix.as_str()))
            .map(|(_, script)| script.clone())
    };
    let mut exchange = Exchange {
        head,
        io,
        shared,
        index,
        body_read: false,
    };
    if let Some(script) = script {
        return script(&mut exchange);
    }
    if !exchange.read_body() {
        return Then::Close;
    }
    let body = br#"{"ok":true,"message":"here you are","data":null}"#;
    let body = if exchange.head.method == "HEAD" {
        &[][..]
    } else {
        &body[..]
    };
    if exchange.answer("200 OK", "Content-Type: application/json\r\n", body) {
        Then::Keep
    } else {
        Then::Close
    }
}

fn head(shared: &Shared, io: &mut Io) -> Option<Seen> {
    let line = io.line(shared)?;
    let mut words = line.splitn(3, ' ').map(str::to_owned);
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let headers = io.fields(shared)?;
    Some(Seen {
        connection: io.connection,
        method,
        target,
        version,
        headers,
        ..Seen::default()
    })
}

impl Io {
    /// Reads on; false at the end.
    fn more(&mut self, shared: &Shared) -> bool {
        let mut buffer = vec![0; 1 << 16];
        let length = loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut buffer),
                Stream::Unix(stream) => stream.read(&mut buffer),
            };
            match read {
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Ok(length @ 1..) => break length,
                _ => return false,
            }
        };
        self.unread.extend_from_slice(&buffer[..length]);
        let mut raw = shared.raw.lock().unwrap();
        let room = KEPT.saturating_sub(raw[self.connection].len()).min(length);
        raw[self.connection].extend_from_slice(&buffer[..room]);
        true
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn line(&mut self, shared: &Shared) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more(shared) {
                return None;
            }
        }
    }

    fn fields(&mut self, shared: &Shared) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(shared)?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

impl Stream {
    fn again(&self) -> Self {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true).unwrap();
                stream.set_write_timeout(Some(PATIENCE * 6)).unwrap();
                Self::Tcp(stream.try_clone().unwrap())
            }
            Self::Unix(stream) => {
                stream.set_write_timeout(Some(PATIENCE * 6)).unwrap();
                Self::Unix(stream.try_clone().unwrap())
            }
        }
    }

    fn shutdown(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    fn wire(plugin: &Plugin) -> Wire {
        let Address::Tcp(address) = plugin.address else {
            panic!("a plugin on a port")
        };
        Wire::plain(address)
    }

    #[test]
    fn every_byte_is_kept_and_each_request_is_seen_with_its_body_and_trailers() {
        let plugin = Plugin::tcp();
        let mut wire = wire(&plugin);
        wire.send("POST /a HTTP/1.1\r\nHost: a\r\nX-Odd_Name: 1\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(wire.response().status, 200);
        wire.send("POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x\r\ni\r\n0\r\nT: 1\r\n\r\n");
        assert_eq!(wire.response().json()["ok"], true);
        let seen = plugin.seen();
        assert_eq!((seen.len(), plugin.connections()), (2, 1));
        assert!(seen.iter().all(|seen| seen.text() == "hi" && seen.complete));
        assert_eq!(seen[0].header("x-odd_name"), Some("1"));
        assert_eq!(seen[1].trailers, [("T".to_owned(), "1".to_owned())]);
        assert!(plugin.got_bytes("x-oDD_name: 1\r\n"));
        assert!(!plugin.got_bytes("x-odd-name"));
    }

    #[test]
    fn scripts_answer_as_they_like_and_a_broken_body_is_not_complete() {
        let plugin = Plugin::tcp();
        plugin.answer_raw(
            "/chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
            Then::Keep,
        );
        plugin.answer_raw(
            "/short",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            Then::Close,
        );
        let mut wire = wire(&plugin);
        wire.get("/chunks", "");
        let response = wire.response();
        assert_eq!(
            (response.text().as_str(), response.trailers.len()),
            ("hi", 1)
        );
        wire.get("/short", "");
        assert!(wire.try_response("GET").is_err());
        let mut wire = super::tests::wire(&plugin);
        wire.send("POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nhi");
        let _ = plugin.wait_for("two bytes", |seen| seen.body_length == 2);
        drop(wire);
        eventually("closed", || (plugin.open() == 0).then_some(()));
        assert!(!plugin.seen().last().unwrap().complete);
    }
}
