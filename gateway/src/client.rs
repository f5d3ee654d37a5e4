//! Whose request it is, as far as addresses can tell.
//!
//! In: the address at the other end of a connection, and what trusted proxies in front of us wrote. Out: the client's address and
//! scheme for the plugin and the log. From anyone but a configured proxy nothing is believed.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use gapura_protocol::headers::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
use http::{HeaderMap, HeaderValue};

use crate::authenticate::Thumbprint;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: Named,
    proto: &'static str,
    is_proxy: bool,
    certificate: Option<Thumbprint>,
}

/// An address, written once for all requests of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The address itself.
    pub(crate) ip: IpAddr,
    /// For the log.
    pub(crate) text: Rc<str>,
    /// For the header.
    pub(crate) header: HeaderValue,
}

impl Client {
    /// The end of a connection from `from`; `tls` says how it spoke, `is_proxy` whether it is one to believe.
    #[must_use]
    pub(crate) fn new(from: SocketAddr, tls: bool, is_proxy: bool) -> Self {
        Self {
            address: Named::new(from.ip().to_canonical()),
            proto: if tls { "https" } else { "http" },
            is_proxy,
            certificate: None,
        }
    }

    /// Whether it is a proxy of ours, to be believed.
    #[must_use]
    pub(crate) fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// The address at the other end of the connection, whoever stands behind it.
    #[must_use]
    pub(crate) fn peer(&self) -> Rc<str> {
        self.address.text.clone()
    }

    /// The same, having proven in its handshake the key of this certificate.
    #[must_use]
    pub(crate) fn proving(mut self, certificate: Option<Thumbprint>) -> Self {
        self.certificate = certificate;
        self
    }

    /// The certificate whose key the client proved on this connection.
    #[must_use]
    pub(crate) fn certificate(&self) -> Option<&Thumbprint> {
        self.certificate.as_ref()
    }

    /// The address of the client: the right-most one that is no proxy of ours.
    #[must_use]
    pub(crate) fn address(&self, headers: &HeaderMap, is_proxy: impl Fn(IpAddr) -> bool) -> Named {
        if !self.is_proxy {
            return self.address.clone();
        }
        let lines: Vec<&HeaderValue> = headers.get_all(X_FORWARDED_FOR).into_iter().collect();
        let listed = lines
            .into_iter()
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut nearest = None;
        for entry in listed {
            // What cannot be read was not written by a proxy of ours, nor is anything to the left of it.
            let Some(ip) = parse(entry) else { break };
            nearest = Some(ip);
            if !is_proxy(ip) {
                break;
            }
        }
        nearest.map_or_else(|| self.address.clone(), Named::new)
    }

    /// The scheme the client used.
    #[must_use]
    pub(crate) fn proto(&self, headers: &HeaderMap) -> HeaderValue {
        let said = headers
            .get(X_FORWARDED_PROTO)
            .filter(|_| self.is_proxy)
            .map(HeaderValue::as_bytes);
        HeaderValue::from_static(match said {
            Some(b"https") => "https",
            Some(b"http") => "http",
            _ => self.proto,
        })
    }
}

impl Named {
    fn new(ip: IpAddr) -> Self {
        let text = ip.to_string();
        let header = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            ip,
            text: text.into(),
            header,
        }
    }

    /// The client as far as it can be told from others.
    #[must_use]
    pub(crate) fn network(&self) -> IpAddr {
        network(self.ip)
    }
}

/// As far as one client can be told from another: an IPv4 address, or the 64 bits of an IPv6 one that are not a client's own to
/// choose (RFC 4291, section 2.5.1).
#[must_use]
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// An address, with or without a port, an IPv6 address with or without brackets.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(is_proxy: bool, lines: &[&str]) -> String {
        let client = Client::new("10.0.0.9:1".parse().unwrap(), true, is_proxy);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        client
            .address(&headers, |ip| ip.to_string().starts_with("10."))
            .text
            .to_string()
    }

    #[test]
    fn a_client_cannot_say_where_it_is() {
        assert_eq!(seen(false, &["1.2.3.4"]), "10.0.0.9");
    }

    #[test]
    fn behind_a_proxy_the_right_most_stranger_is_the_client() {
        assert_eq!(seen(true, &["1.1.1.1, 2.2.2.2"]), "2.2.2.2");
        assert_eq!(seen(true, &["1.1.1.1, 2.2.2.2, 10.0.0.1"]), "2.2.2.2");
        assert_eq!(
            seen(true, &["1.1.1.1", "3.3.3.3:5000, 10.0.0.1"]),
            "3.3.3.3"
        );
        assert_eq!(seen(true, &["[2001:db8::1]:4"]), "2001:db8::1");
        assert_eq!(seen(true, &["10.0.0.3"]), "10.0.0.3");
        assert_eq!(seen(true, &["1.1.1.1, nonsense, 10.0.0.1"]), "10.0.0.1");
        assert_eq!(seen(true, &[]), "10.0.0.9");
    }

    #[test]
    fn a_client_of_ipv6_is_its_network() {
        let network = |ip: &str| Named::new(ip.parse().unwrap()).network().to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::1"));
    }

    #[test]
    fn only_a_proxy_is_believed_about_the_scheme() {
        let headers = HeaderMap::from_iter([(X_FORWARDED_PROTO, HeaderValue::from_static("http"))]);
        let client = |is_proxy| Client::new("10.0.0.9:1".parse().unwrap(), true, is_proxy);
        assert_eq!(client(true).proto(&headers), "http");
        assert_eq!(client(false).proto(&headers), "https");
    }
}
