//! What the operator has set for the door itself.

use std::net::IpAddr;

use gapura_http::pace::Rate;
use gapura_protocol::host;
use http::HeaderValue;

use crate::cidr::Cidr;
use crate::openapi::Mode;

/// Hosts that are served, and proxies that are believed.
#[derive(Clone, Default)]
pub(crate) struct Downstream {
    /// Names a `Host` may have, in lower case; any, if empty.
    pub(crate) public_hosts: Vec<String>,
    /// Whose `X-Forwarded-For` is believed.
    pub(crate) proxies: Vec<Cidr>,
    /// Whether they say in front of a connection whose it is.
    pub(crate) proxy_protocol: bool,
    /// The least that a client moves of a body; nothing, if `None`.
    pub(crate) body_rate: Option<Rate>,
    /// What browsers are told over https: to come by nothing else.
    pub(crate) hsts: Option<HeaderValue>,
    /// Whether providers may tell of logouts.
    pub(crate) takes_logouts: bool,
    /// Whether it is told by name who acted for whom.
    pub(crate) log_actors: bool,
    /// Who may read the plugins' contracts.
    pub(crate) openapi: Mode,
    /// Whether there is a page to read them on.
    pub(crate) docs: bool,
}

impl Downstream {
    /// Whether a host is one of ours, whatever its port.
    #[must_use]
    pub(crate) fn serves(&self, host: &[u8]) -> bool {
        if self.public_hosts.is_empty() {
            return true;
        }
        let (bare, _) = host::split_port(host);
        self.public_hosts.iter().any(|name| {
            name.as_bytes().eq_ignore_ascii_case(bare) || name.as_bytes().eq_ignore_ascii_case(host)
        })
    }

    /// Whether an address is that of a proxy to believe.
    #[must_use]
    pub(crate) fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|block| block.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_by_its_name() {
        let settings = Downstream {
            public_hosts: vec!["api.example".into(), "[::1]".into()],
            ..Downstream::default()
        };
        for ours in ["api.example", "API.example:8443", "[::1]:8443", "[::1]"] {
            assert!(settings.serves(ours.as_bytes()), "{ours}");
        }
        for other in ["api.example.evil", "evil", "", "127.0.0.1"] {
            assert!(!settings.serves(other.as_bytes()), "{other}");
        }
        assert!(Downstream::default().serves(b"anything"));
    }
}
