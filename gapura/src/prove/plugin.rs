//! `gapura prove --plugin`: the plugin that stands behind the door under test. It keeps what
//! reached it, and tells it to who knows the run's name.
//!
//! In: requests over plain HTTP/1.1, from a sidecar or a proxy. Out: a short answer to each; under
//! `/prove-nonce/` the proof that it is this plugin, under `/prove-seen/` the requests of one run,
//! under `/prove-answer/` identity headers that no client should ever see.
//! Invariant: only requests with a mark are kept, [`KEPT`] bytes at most and none of their secrets;
//! connections and times are bounded.

mod request;

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::mark::{self, CANARY};
use super::seen::Seen;
use request::{Request, read};

/// Memory for requests kept, about; a run takes less than one of these mebibytes.
const KEPT: usize = 32 << 20;
/// Requests told at a time.
const TOLD: usize = 100;
/// Connections served at a time; a door keeps fewer.
const CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(120);

/// The plugin, bound and not yet serving.
pub(super) struct Plugin {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Default)]
struct Kept {
    list: VecDeque<Seen>,
    bytes: usize,
}

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    open: AtomicUsize,
}

impl Plugin {
    /// Binds `address`.
    pub(super) fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends.
    pub(super) fn serve(self) -> ! {
        let shared = Arc::new(Shared::default());
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                std::thread::sleep(Duration::from_millis(50)); // out of files: not a busy loop
                continue;
            };
            if shared.open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
                shared.open.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (shared, address) = (shared.clone(), self.address);
            std::thread::spawn(move || {
                let _ = connection(&stream, &shared, address); // whoever left needs no answer
                shared.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

fn connection(stream: &TcpStream, shared: &Shared, address: SocketAddr) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let last = request.last;
        shared.keep(&request);
        let mut writer = stream;
        writer.write_all(&answer(&request, shared, address, last))?;
        if last {
            break;
        }
    }
    Ok(())
}

impl Shared {
    fn keep(&self, request: &Request) {
        let Some(seen) = request.seen() else { return };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += seen.size();
        kept.list.push_back(seen);
        while kept.bytes > KEPT
            && let Some(oldest) = kept.list.pop_front()
        {
            kept.bytes -= oldest.size();
        }
    }

    /// A part of what is kept of one run, and how much there is.
    fn tell(&self, run: &str, from: usize) -> Value {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of_run: Vec<&Seen> = kept
            .list
            .iter()
            .filter(|seen| seen.mark.get(2..).is_some_and(|mark| mark.starts_with(run)))
            .collect();
        let told: Vec<Value> = of_run
            .iter()
            .skip(from)
            .take(TOLD)
            .map(|seen| seen.to_json())
            .collect();
        json!({"seen": told, "count": of_run.len()})
    }
}

/// The words of the target behind `word`.
fn behind<'a>(target: &'a str, word: &str) -> Option<Vec<&'a str>> {
    let path = target.split('?').next()?;
    let (_, rest) = path.split_once(word)?;
    Some(rest.split('/').collect())
}

fn answer(request: &Request, shared: &Shared, address: SocketAddr, last: bool) -> Vec<u8> {
    let mut lines = String::new();
    let mut data = Value::Null;
    if let Some(words) = behind(&request.target, "/prove-nonce/") {
        let nonce = words.first().copied().unwrap_or_default();
        data = json!({"answer": mark::answer_to(nonce), "listens": address.to_string(), "loopback": address.ip().is_loopback()});
    } else if let Some(words) = behind(&request.target, "/prove-seen/") {
        let run = words.first().copied().unwrap_or_default();
        let from = words
            .get(1)
            .and_then(|from| from.parse().ok())
            .unwrap_or_default();
        if mark::is_name(run) {
            data = shared.tell(run, from);
        }
    } else if request.target.contains("/prove-answer/") {
        for name in [
            "X-User-Id",
            "X-Company-Id",
            "X-Role",
            "X-Internal-Signature",
        ] {
            lines += &format!("{name}: {CANARY}\r\n");
        }
    }
    let body =
        json!({"ok": true, "message": "the plugin of gapura prove", "data": data}).to_string();
    let close = if last { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {close}\r\n{lines}\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    if request.method != "HEAD" {
        bytes.extend(body.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn ask(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_proves_itself_and_tells_what_came_to_who_knows_the_run() {
        let plugin = Plugin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = plugin.address();
        std::thread::spawn(move || plugin.serve());
        let nonce = ask(
            address,
            "GET /p/prove-nonce/abc HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        assert!(
            nonce.contains(&mark::answer_to("abc")) && nonce.contains("\"loopback\":true"),
            "{nonce}"
        );

        let run = mark::Run::new().unwrap();
        let (one, two) = (run.mark(1), run.mark(2));
        ask(
            address,
            &format!(
                "POST /{one} HTTP/1.1\r\nX_Role: a\r\nAuthorization: Bearer abc\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\nGET /{two} HTTP/1.1\r\n\r\nGET /unmarked HTTP/1.1\r\n\r\n"
            ),
        );
        let told = ask(
            address,
            &format!("GET /prove-seen/{}/0 HTTP/1.1\r\n\r\n", run.name()),
        );
        assert!(
            told.contains(&one)
                && told.contains(&two)
                && told.contains("X_Role")
                && told.contains("X-T"),
            "{told}"
        );
        assert!(
            told.contains("\"count\":2") && !told.contains("Bearer abc"),
            "{told}"
        );
        let other = ask(
            address,
            &format!("GET /prove-seen/{}/0 HTTP/1.1\r\n\r\n", "0".repeat(32)),
        );
        assert!(other.contains("\"count\":0"), "{other}");
        assert!(ask(address, "GET /prove-seen/0/0 HTTP/1.1\r\n\r\n").contains("\"data\":null"));
        assert!(
            ask(address, "GET /prove-answer/x HTTP/1.1\r\n\r\n").contains("X-Company-Id: spoofed")
        );
    }
}
