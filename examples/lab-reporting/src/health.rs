//! `lab-reporting healthcheck`: asks the running service at its own address, for containers that
//! have no shell.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::listen::Listen;

/// A service that takes longer to say so is not well.
const WITHIN: Duration = Duration::from_secs(3);

/// Asks for `/healthz`.
///
/// # Errors
/// If nobody answers, or the answer is not 200.
pub fn ask(listen: &Listen) -> Result<()> {
    match listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, WITHIN)?;
            stream.set_read_timeout(Some(WITHIN))?;
            exchange(stream)
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(WITHIN))?;
            exchange(stream)
        }
    }
}

fn exchange(mut stream: impl Read + Write) -> Result<()> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(16 * 1024).read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(Error::other("it answers, and not with 200"))
    }
}
