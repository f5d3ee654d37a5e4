//! Asks a running program on this machine whether it is ready, for containers that have no shell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use gapura_files::secret;

use gapura_settings::AdminAddress;

/// A program that takes longer to say so is not well.
const WITHIN: Duration = Duration::from_secs(3);

/// Asks the admin side at `admin` for `/readyz`.
///
/// # Errors
/// A sentence: it cannot be reached, or it is not ready and why.
pub fn ask(admin: &AdminAddress, token_file: Option<&Path>) -> Result<(), String> {
    let token = token_file
        .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST))
        .transpose()?;
    let mut request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".to_vec();
    if let Some(token) = token {
        request.extend_from_slice(b"authorization: Bearer ");
        request.extend_from_slice(&token);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let answer = exchange(admin, &request)
        .map_err(|error| format!("the admin side at {admin} does not answer: {error}"))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body.trim());
    Err(format!("not ready: {body}"))
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
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}
