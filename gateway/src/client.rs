//! Whose request it is, as far as addresses can tell.
//!
//! In: the address at the other end of a connection, and what trusted proxies in front of us wrote.
//! Out: the client's address and scheme for the plugin and the log. From anyone but a configured
//! proxy nothing is believed.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use gapura_protocol::headers::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
use http::{HeaderMap, HeaderName, HeaderValue};

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
    /// The end of a connection from `from`; `tls` says how it spoke, `is_proxy` whether it is one
    /// to believe.
    #[must_use]
    pub(crate) fn new(from: SocketAddr, tls: bool, is_proxy: bool) -> Self {
        Self {
            address: Named::new(from.ip().to_canonical()),
            proto: if tls { "https" } else { "http" },
            is_proxy,
            certificate: None,
        }
    }

    /// The address at the other end, whatever is said in its requests.
    #[must_use]
    pub(crate) fn connected_from(&self) -> IpAddr {
        self.address.ip
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
        nearest(headers, is_proxy).map_or_else(|| self.address.clone(), |found| Named::new(found.0))
    }

    /// The scheme the client used: the word that stands as far from the right end of
    /// `X-Forwarded-Proto` as the client's address from that of `X-Forwarded-For`. Where the two
    /// are not of one length some proxy on the way wrote only one of them, and the right-most word
    /// is the only one that cannot be a client's.
    #[must_use]
    pub(crate) fn proto(
        &self,
        headers: &HeaderMap,
        is_proxy: impl Fn(IpAddr) -> bool,
    ) -> HeaderValue {
        let said = || {
            let words = entries(headers, &X_FORWARDED_PROTO).count();
            let addresses = entries(headers, &X_FORWARDED_FOR).count();
            let at = nearest(headers, is_proxy).filter(|_| words == addresses);
            let word = entries(headers, &X_FORWARDED_PROTO).nth(at.map_or(0, |(_, at)| at));
            word.and_then(scheme)
        };
        let said = if self.is_proxy { said() } else { None };
        HeaderValue::from_static(said.unwrap_or(self.proto))
    }
}

/// The entries of a list, all lines of it, the last first.
fn entries<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
}

/// The right-most address that is no proxy of ours, and how many stand to the right of it; the
/// left-most where all are.
fn nearest(headers: &HeaderMap, is_proxy: impl Fn(IpAddr) -> bool) -> Option<(IpAddr, usize)> {
    let mut nearest = None;
    for (at, entry) in entries(headers, &X_FORWARDED_FOR).enumerate() {
        // What cannot be read was not written by a proxy of ours, nor is anything to the left of
        // it.
        let Some(ip) = parse(entry) else { break };
        nearest = Some((ip, at));
        if !is_proxy(ip) {
            break;
        }
    }
    nearest
}

/// A scheme as proxies spell it; that of a WebSocket is the one of the connection it runs on.
fn scheme(word: &[u8]) -> Option<&'static str> {
    let word = word.trim_ascii();
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    if is(b"https") || is(b"wss") {
        Some("https")
    } else if is(b"http") || is(b"ws") {
        Some("http")
    } else {
        None
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

/// As far as one client can be told from another: an IPv4 address, or the 64 bits of an IPv6 one
/// that are not a client's own to choose (RFC 4291, section 2.5.1).
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

    fn proto(is_proxy: bool, addresses: &[&str], words: &[&str]) -> String {
        let client = Client::new("10.0.0.9:1".parse().unwrap(), true, is_proxy);
        let mut headers = HeaderMap::new();
        for (name, lines) in [(X_FORWARDED_FOR, addresses), (X_FORWARDED_PROTO, words)] {
            for line in lines {
                headers.append(&name, HeaderValue::from_str(line).unwrap());
            }
        }
        let proto = client.proto(&headers, |ip| ip.to_string().starts_with("10."));
        proto.to_str().unwrap().to_owned()
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
        assert_eq!(proto(true, &[], &["http"]), "http");
        assert_eq!(proto(false, &[], &["http"]), "https");
        assert_eq!(proto(true, &[], &[]), "https");
    }

    #[test]
    fn a_scheme_is_read_however_proxies_spell_it_and_nonsense_says_nothing() {
        for (word, scheme) in [
            ("HTTP", "http"),
            (" Http ", "http"),
            ("ws", "http"),
            ("WSS", "https"),
            ("https", "https"),
            ("ftp", "https"),
            ("", "https"),
            ("http,", "https"),
            ("http;", "https"),
        ] {
            assert_eq!(proto(true, &[], &[word]), scheme, "{word:?}");
        }
    }

    #[test]
    fn the_clients_own_word_never_wins() {
        // What the client says stands to the left of what our proxy adds, on the same line or on
        // one before.
        for words in [
            &["https", "http"][..],
            &["https, http"],
            &["wss,https,http"],
        ] {
            assert_eq!(proto(true, &[], words), "http", "{words:?}");
            assert_eq!(proto(true, &["1.1.1.1"], words), "http", "{words:?}");
        }
        // Two proxies, each with its word: the first one tells how the client came.
        assert_eq!(
            proto(true, &["1.1.1.1, 10.0.0.1"], &["http, https"]),
            "http"
        );
        assert_eq!(
            proto(true, &["1.1.1.1", "10.0.0.1"], &["http", "https"]),
            "http"
        );
        // The same, and a client that said both: what it said is past the right-most stranger.
        let addresses = ["6.6.6.6, 1.1.1.1, 10.0.0.1"];
        assert_eq!(proto(true, &addresses, &["https, http, https"]), "http");
        // Only one of two proxies wrote a word.
        assert_eq!(
            proto(true, &["1.1.1.1, 10.0.0.1"], &["https", "https", "http"]),
            "http"
        );
        assert_eq!(proto(true, &["1.1.1.1, 10.0.0.1"], &["http"]), "http");
    }
}
