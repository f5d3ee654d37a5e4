//! Where the plugin is: on loopback or a unix socket, unless somebody insists.
//!
//! In: the text of `--plugin`. Out: a `forward::Address`. Whoever can speak to the plugin directly
//! can say anything in the headers it trusts; so an address beyond this machine is refused. Whether
//! others could put another socket in the place of the plugin's is looked at where the sidecar
//! starts.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::forward::{Address, Tcp};

/// Takes `http://HOST:PORT`, `h2c://HOST:PORT` or `unix:PATH`; `anywhere` lets the host be another
/// machine.
pub(super) fn parse(text: &str, anywhere: bool) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        if path.as_os_str().is_empty() || text.contains('\0') {
            return Err("needs a path after unix:, such as unix:/run/plugin.sock".to_owned());
        }
        // The kernel's limit; a longer one could never be connected to.
        if path.as_os_str().len() > 107 {
            return Err(
                "names a socket whose path is longer than 107 bytes; choose a shorter one"
                    .to_owned(),
            );
        }
        return Ok(Address::Unix(path));
    }
    if let Some(rest) = text.strip_prefix("http://") {
        return tcp(rest, anywhere).map(Address::Http);
    }
    if let Some(rest) = text.strip_prefix("h2c://") {
        return tcp(rest, anywhere).map(Address::H2c);
    }
    Err("must be http://127.0.0.1:PORT, h2c://127.0.0.1:PORT or unix:PATH".to_owned())
}

fn tcp(rest: &str, anywhere: bool) -> Result<Tcp, String> {
    let wrong = || {
        "must end in an address and a port, such as http://127.0.0.1:19080, without a path"
            .to_owned()
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits {
        port.parse().ok().filter(|port: &u16| *port > 0)
    } else {
        None
    };
    let port = port.ok_or_else(wrong)?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match (bracketed, host.parse::<IpAddr>()) {
        (Some(inner), _) => inner
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| wrong())?
            .to_string(),
        (None, Ok(IpAddr::V4(_))) => host.to_owned(),
        (None, _) if is_name(host) => host.to_ascii_lowercase(),
        _ => return Err(wrong()),
    };
    let is_loopback = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback());
    if is_loopback || anywhere {
        return Ok(Tcp {
            host,
            port,
            anywhere,
        });
    }
    Err(format!(
        "{host} is beyond this machine, where anybody on the way can speak to the plugin as the sidecar; use 127.0.0.1, [::1], localhost or unix:PATH, or say --unsafe-plugin-address"
    ))
}

fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    // Resolvers read `127.1` as an address; whoever reads the setting might not.
    let last_is_number = host.rsplit('.').next().is_some_and(|last| {
        last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit())
    });
    host.len() <= 253 && host.split('.').all(is_label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, anywhere: bool) -> Result<String, String> {
        parse(text, anywhere).map(|address| match address {
            Address::Http(tcp) => format!("http {} {}", tcp.host, tcp.port),
            Address::H2c(tcp) => format!("h2c {} {}", tcp.host, tcp.port),
            Address::Unix(path) => format!("unix {}", path.display()),
        })
    }

    #[test]
    fn takes_loopback_and_unix_sockets() {
        for (text, address) in [
            ("http://127.0.0.1:19080", "http 127.0.0.1 19080"),
            ("http://127.3.2.1:1", "http 127.3.2.1 1"),
            ("http://[::1]:1", "http ::1 1"),
            ("http://LOCALHOST:1", "http localhost 1"),
            ("h2c://127.0.0.1:1", "h2c 127.0.0.1 1"),
            ("unix:/run/p.sock", "unix /run/p.sock"),
            ("unix:p.sock", "unix p.sock"),
        ] {
            assert_eq!(shown(text, false).as_deref(), Ok(address));
        }
    }

    #[test]
    fn refuses_another_machine_unless_somebody_insists() {
        for text in [
            "http://10.0.0.1:1",
            "http://0.0.0.0:1",
            "http://[::]:1",
            "http://plugin:1",
            "http://localhost.example:1",
            "h2c://10.0.0.1:1",
        ] {
            assert!(
                shown(text, false)
                    .unwrap_err()
                    .contains("--unsafe-plugin-address"),
                "{text}"
            );
            assert!(shown(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "127.0.0.1:1",
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "http://127.0.0.1:65536",
            "http://127.0.0.1:+1",
            "http://127.0.0.1:1/",
            "http://127.0.0.1:1/x",
            "http://u@127.0.0.1:1",
            "http://::1:1",
            "http://:1",
            "http://127.1:1",
            "unix:",
            "http://[127.0.0.1]:1",
        ] {
            assert!(shown(text, true).is_err(), "{text}");
        }
        assert!(shown(&format!("unix:/{}", "a".repeat(106)), false).is_ok());
        assert!(shown(&format!("unix:/{}", "a".repeat(107)), false).is_err());
    }
}
