//! Asks the operator's side of a running program for a page, from another process of the same
//! machine or beyond.
//!
//! In: where it is, the file with its token, and a page's path. Out: what it answers, or a
//! sentence. Nothing here knows what a page says. Invariant: no answer is waited for without an
//! end, none read without a bound.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use gapura_files::secret;

use gapura_settings::{AdminAddress, AdminSide};

/// A program that takes longer to answer is not well.
const WITHIN: Duration = Duration::from_secs(3);

/// On a stream a word comes every ten seconds; a program that is silent for so long is gone.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// No head of an answer of ours is a tenth as long.
const HEAD_MOST: u64 = 16 << 10;

/// The page of ten thousand plugins is a tenth of this.
const PAGE_MOST: u64 = 256 << 20;

/// An answer's status and its text.
pub type Answer = (u16, String);

/// The page at `path`, which must be there.
///
/// # Errors
/// A sentence: the program cannot be reached, or it refuses, and why.
pub fn page(admin: &AdminSide, path: &str) -> Result<String, String> {
    match answer(admin, path)? {
        (200, text) => Ok(text),
        (status, text) => Err(refused(&admin.address, path, status, &text)),
    }
}

/// Whatever is answered at `path`.
///
/// # Errors
/// A sentence: the program cannot be reached.
pub fn answer(admin: &AdminSide, path: &str) -> Result<Answer, String> {
    let request = request(admin, path, "HTTP/1.1")?;
    let at = &admin.address;
    let text = exchange(at, &request).map_err(|error| silent(at, &error))?;
    read_answer(&text).ok_or_else(|| strange(at))
}

/// The events at `path`, for as long as the program sends them.
///
/// # Errors
/// A sentence: the program cannot be reached, or it refuses, and why.
pub fn events(admin: &AdminSide, path: &str) -> Result<Events, String> {
    // In HTTP/1.0, so that what comes is not cut into chunks.
    let request = request(admin, path, "HTTP/1.0")?;
    let at = &admin.address;
    let stream = connect(at, SILENT_FOR).and_then(|mut stream| {
        stream.write_all(&request)?;
        Ok(stream)
    });
    let mut stream = BufReader::new(stream.map_err(|error| silent(at, &error))?);
    let (mut head, mut line) = (String::new(), String::new());
    let mut beginning = stream.by_ref().take(HEAD_MOST);
    while line != "\r\n" {
        line.clear();
        let read = beginning.read_line(&mut line);
        if read.map_err(|error| silent(at, &error))? == 0 {
            return Err(strange(at));
        }
        head.push_str(&line);
    }
    match read_answer(&head).ok_or_else(|| strange(at))? {
        (200, _) => Ok(Events(stream)),
        (status, _) => {
            let why = read(stream).map_err(|error| silent(at, &error))?;
            Err(refused(at, path, status, &why))
        }
    }
}

/// Events under way.
pub struct Events(BufReader<Box<dyn Stream>>);

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Which kind it is; nothing for the usual.
    pub kind: String,
    /// What it says.
    pub data: String,
}

/// An event is a line of an access log; one that is longer than this is none.
const EVENT_MOST: u64 = 1 << 20;

impl Iterator for Events {
    type Item = std::io::Result<Event>;

    /// The next one; an error where the connection broke or fell silent, and none at the end.
    fn next(&mut self) -> Option<Self::Item> {
        next_event(&mut self.0).transpose()
    }
}

/// Reads an event as WHATWG HTML, section 9.2, has it, as far as our programs send it.
fn next_event(stream: &mut impl BufRead) -> std::io::Result<Option<Event>> {
    let (mut kind, mut data, mut line) = (String::new(), String::new(), String::new());
    loop {
        line.clear();
        if stream.by_ref().take(EVENT_MOST).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end_matches(['\n', '\r']);
        if let Some(value) = text.strip_prefix("event: ") {
            value.clone_into(&mut kind);
        } else if let Some(value) = text.strip_prefix("data: ") {
            value.clone_into(&mut data);
        } else if text.is_empty() && !data.is_empty() {
            return Ok(Some(Event { kind, data }));
        }
    }
}

fn request(admin: &AdminSide, path: &str, version: &str) -> Result<Vec<u8>, String> {
    let token = admin.token_file.as_deref();
    let token = token
        .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST))
        .transpose()?;
    let mut request =
        format!("GET {path} {version}\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
    if let Some(token) = token {
        request.extend_from_slice(b"authorization: Bearer ");
        request.extend_from_slice(&token);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    Ok(request)
}

fn silent(at: &AdminAddress, error: &std::io::Error) -> String {
    format!("the admin side at {at} does not answer: {error}")
}

fn strange(at: &AdminAddress) -> String {
    format!("what listens at {at} does not answer as an admin side does")
}

fn refused(at: &AdminAddress, path: &str, status: u16, why: &str) -> String {
    let why = why.trim();
    format!("the admin side at {at} answers {path} with {status}: {why}")
}

fn read_answer(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn exchange(admin: &AdminAddress, request: &[u8]) -> std::io::Result<String> {
    let mut stream = connect(admin, WITHIN)?;
    stream.write_all(request)?;
    read(stream)
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A connection that is read no longer than `patience` in silence.
fn connect(admin: &AdminAddress, patience: Duration) -> std::io::Result<Box<dyn Stream>> {
    match admin {
        AdminAddress::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&local(*address), WITHIN)?;
            stream.set_read_timeout(Some(patience))?;
            Ok(Box::new(stream))
        }
        AdminAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            Ok(Box::new(stream))
        }
    }
}

/// A listener on every address is asked on loopback.
fn local(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback = if address.is_ipv4() {
        std::net::Ipv4Addr::LOCALHOST.into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    SocketAddr::new(loopback, address.port())
}

fn read(stream: impl Read) -> std::io::Result<String> {
    let mut answer = String::new();
    stream.take(PAGE_MOST).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_text() {
        let read = |text: &str| read_answer(text).map(|(status, body)| format!("{status} {body}"));
        assert_eq!(
            read("HTTP/1.1 200 OK\r\na: b\r\n\r\nyes").as_deref(),
            Some("200 yes")
        );
        assert_eq!(read("HTTP/1.0 404 No\r\n\r\n").as_deref(), Some("404 "));
        for text in ["", "HTTP/1.1 2", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn events_are_read_one_by_one_and_comments_are_passed_over() {
        let mut text = &b":\n\ndata: {1}\n\nevent: dropped\ndata: 7\n\n\n:\n\ndata: cut"[..];
        let event = |kind: &str, data: &str| Event {
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(next_event(&mut text).unwrap(), Some(event("", "{1}")));
        assert_eq!(next_event(&mut text).unwrap(), Some(event("dropped", "7")));
        assert_eq!(next_event(&mut text).unwrap(), None);
    }
}
