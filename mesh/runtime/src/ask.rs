//! Asks the operator's side of a running program for a page, from another process of the same machine or beyond.
//!
//! In: where it is, the file with its token, and a page's path. Out: what it answers, or a sentence. Nothing here knows what a page
//! says. Invariant: no answer is waited for without an end, none read without a bound.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use gapura_files::secret;

use gapura_settings::{AdminAddress, AdminSide};

/// A program that takes longer to answer is not well.
const WITHIN: Duration = Duration::from_secs(3);

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
        (status, text) => Err(format!(
            "the admin side at {} answers {path} with {status}: {}",
            admin.address,
            text.trim()
        )),
    }
}

/// Whatever is answered at `path`.
///
/// # Errors
/// A sentence: the program cannot be reached.
pub fn answer(admin: &AdminSide, path: &str) -> Result<Answer, String> {
    let token = admin.token_file.as_deref();
    let token = token
        .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST))
        .transpose()?;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
    if let Some(token) = token {
        request.extend_from_slice(b"authorization: Bearer ");
        request.extend_from_slice(&token);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let at = &admin.address;
    let text = exchange(at, &request)
        .map_err(|error| format!("the admin side at {at} does not answer: {error}"))?;
    read_answer(&text)
        .ok_or_else(|| format!("what listens at {at} does not answer as an admin side does"))
}

fn read_answer(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn exchange(admin: &AdminAddress, request: &[u8]) -> std::io::Result<String> {
    match admin {
        AdminAddress::Tcp(address) => {
            let mut stream = TcpStream::connect_timeout(&local(*address), WITHIN)?;
            stream.set_read_timeout(Some(WITHIN))?;
            stream.write_all(request)?;
            read(stream)
        }
        AdminAddress::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(WITHIN))?;
            stream.write_all(request)?;
            read(stream)
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
        for text in ["", "HTTP/1.1 2", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
