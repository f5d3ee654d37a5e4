//! The kinds of value that settings of both programs have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use gapura_protocol::duration;

/// Where the operator's side listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket, guarded by its file's mode.
    Unix(PathBuf),
}

/// Ten years: longer is a slip of the keyboard, and near it arithmetic on deadlines stays far from
/// overflow.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// More workers than this only take memory from each other.
pub(super) const WORKERS_MAX: usize = 64;

impl AdminAddress {
    /// Takes `127.0.0.1:9901` or `unix:PATH`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing after unix:".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => address(text)
                .map(Self::Tcp)
                .map_err(|message| format!("{message}, or unix:PATH")),
        }
    }

    /// Whether others than this machine could connect.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        matches!(self, Self::Tcp(address) if exposed(*address))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address to listen on: `0.0.0.0:8443`, `[::1]:8443`, `localhost:8443`. No other name: what it
/// stands for could change.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "must be an address and a port, such as 127.0.0.1:8443 or [::1]:8443".to_owned();
    match text.strip_prefix("localhost:") {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
            .parse()
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
            .map_err(|_| wrong()),
        _ => text.parse().map_err(|_| wrong()),
    }
}

/// Whether others than this machine could connect to a listener on `address`.
#[must_use]
pub fn exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// A number and a unit: `250ms`, `20s`, `15m`, `24h`, `30d`.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        Some(_) => Err("must be at most 3650d".to_owned()),
        None => {
            Err("must be a whole number and a unit, such as 250ms, 20s, 15m, 24h or 30d".to_owned())
        }
    }
}

/// How many worker threads: 1 to 64.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn workers(text: &str) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=WORKERS_MAX).contains(number) && !text.starts_with('+'));
    number.ok_or_else(|| format!("must be a whole number from 1 to {WORKERS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_ten_years_at_most_and_a_fault_says_how_one_is_written() {
        // How it is read is `gapura_protocol::duration`'s own.
        assert_eq!(duration("3650d"), Ok(Duration::from_secs(3650 * 86_400)));
        assert!(duration("3651d").unwrap_err().contains("3650d"));
        assert!(duration("20").unwrap_err().contains("20s"));
    }

    #[test]
    fn reads_addresses() {
        for text in ["0.0.0.0:8443", "127.0.0.1:0", "[::1]:80", "localhost:80"] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "8443",
            ":8443",
            "127.0.0.1",
            "example.com:80",
            "localhost:+80",
            "localhost:",
            "localhost:70000",
            "[::1]",
            "http://127.0.0.1:80",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
        let is_exposed = |text: &str| exposed(address(text).unwrap());
        assert!(
            !is_exposed("127.9.0.1:1")
                && !is_exposed("[::1]:1")
                && !is_exposed("[::ffff:127.0.0.1]:1")
                && !is_exposed("localhost:1")
        );
        assert!(is_exposed("0.0.0.0:1") && is_exposed("[::]:1") && is_exposed("10.0.0.1:1"));
    }

    #[test]
    fn reads_admin_addresses() {
        assert_eq!(
            AdminAddress::parse("unix:/run/a"),
            Ok(AdminAddress::Unix("/run/a".into()))
        );
        assert!(AdminAddress::parse("127.0.0.1:9901").is_ok_and(|address| !address.is_exposed()));
        assert!(AdminAddress::parse("0.0.0.0:9901").is_ok_and(|address| address.is_exposed()));
        assert!(AdminAddress::parse("unix:").is_err() && AdminAddress::parse("9901").is_err());
    }

    #[test]
    fn reads_workers_and_access_log() {
        assert_eq!((workers("1"), workers("64")), (Ok(1), Ok(64)));
        for text in ["0", "65", "+1", "-1", "", "1.0", "two"] {
            assert!(workers(text).is_err(), "{text}");
        }
    }
}
