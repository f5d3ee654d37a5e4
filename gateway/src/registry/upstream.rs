//! Where a plugin is reached: one address or several, all by mTLS or all in plain http.
//!
//! In: the `upstream` field in each of its shapes. Out: at least one [`Instance`] with a checked
//! host and port, or a checked path. Names are not resolved here; whether a host is loopback is
//! judged by its text, and `localhost` is judged again by whoever connects, as is the folder of a
//! socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path};
use std::sync::Arc;

use gapura_protocol::host;
use gapura_settings::json::{Fields, Node, Position, Value};

use super::fields::{INSTANCE, INSTANCES_MAX, names};

/// Every address of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    scheme: Scheme,
    instances: Vec<Instance>,
}

/// One address of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// The host; a name may stand for several addresses.
    pub host: Host,
    /// The port; 0 at a socket.
    pub port: u16,
    /// Its share of the requests, beside those of the others; each address of a name has the same.
    pub weight: u16,
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// A sidecar, over mTLS.
    Https,
    /// No sidecar, in plain http.
    Http,
}

/// A host of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// A DNS name, in lower case.
    Name(Box<str>),
    /// An address.
    Ip(IpAddr),
    /// A unix socket of this host: an absolute path.
    Socket(Arc<Path>),
}

impl Upstream {
    /// Reads the field `upstream`.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let node = fields.node("upstream")?;
        let listed: Vec<(Scheme, Instance, Position)> = match &node.value {
            Value::Text(text) => read_url(fields, text, node.position, 1)
                .into_iter()
                .collect(),
            Value::List(nodes) if nodes.is_empty() => {
                fields.fault(
                    "upstream",
                    "lists no address; name at least one, such as https://127.0.0.1:19443",
                );
                return None;
            }
            Value::List(nodes) if nodes.len() > INSTANCES_MAX => {
                fields.fault(
                    "upstream",
                    format_args!("lists more than {INSTANCES_MAX} addresses"),
                );
                return None;
            }
            Value::List(nodes) => {
                // No early end: every entry has its mistakes named.
                let read: Vec<_> = nodes.iter().map(|node| read_entry(fields, node)).collect();
                read.into_iter().collect::<Option<Vec<_>>>()?
            }
            _ => {
                return fields.wrong_kind(
                    "upstream",
                    node,
                    "an address such as https://127.0.0.1:19443, or a list of them",
                );
            }
        };
        let (scheme, ..) = listed.first()?;
        for (at, (other, instance, position)) in listed.iter().enumerate() {
            if other != scheme {
                fields.fault_at(
                    *position,
                    "upstream",
                    "mixes https:// and http://; all addresses of a plugin are reached in one way",
                );
                return None;
            }
            if listed
                .iter()
                .take(at)
                .any(|(_, before, _)| before.host == instance.host && before.port == instance.port)
            {
                fields.fault_at(
                    *position,
                    "upstream",
                    format_args!("lists {instance} twice; keep one"),
                );
                return None;
            }
        }
        if listed.iter().all(|(_, instance, _)| instance.weight == 0) {
            fields.fault(
                "upstream",
                "gives every address the weight 0; at least one must have more",
            );
            return None;
        }
        let scheme = *scheme;
        Some(Self {
            scheme,
            instances: listed
                .into_iter()
                .map(|(_, instance, _)| instance)
                .collect(),
        })
    }

    /// How all of them are spoken to.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether nothing protects what is sent there.
    #[must_use]
    pub(crate) fn is_plaintext(&self) -> bool {
        self.scheme == Scheme::Http
    }

    /// At least one address.
    #[must_use]
    pub(crate) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Whether every address is on this machine, as far as its text tells.
    #[must_use]
    pub(crate) fn is_loopback(&self) -> bool {
        self.instances
            .iter()
            .all(|instance| instance.host.is_loopback())
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, instance) in self.instances.iter().enumerate() {
            let between = if at == 0 { "" } else { ", " };
            match &instance.host {
                Host::Socket(_) => write!(f, "{between}{instance}")?,
                _ => write!(f, "{between}{}://{instance}", self.scheme)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Socket(_) => self.host.fmt(f),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Http => "http",
        })
    }
}

impl Host {
    /// Takes a DNS name, an IPv4 address or a bracketed IPv6 address.
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with('[') {
            return host::bracketed(text).map(|ip| Self::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Self::Ip(IpAddr::V4(ip)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        // Resolvers read `127.1` and `0x7f000001` as addresses; whoever reads the file would not.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.starts_with("0x")
            || last.starts_with("0X");
        let fits = host::is_name(name) && host::has_no_outer_hyphen(name) && !is_number;
        fits.then(|| Self::Name(text.to_ascii_lowercase().into()))
    }

    /// Whether it is this machine, as far as its text tells.
    #[must_use]
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => matches!(&**name, "localhost" | "localhost."),
            Self::Ip(ip) => ip.to_canonical().is_loopback(),
            Self::Socket(_) => true,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Socket(path) => write!(f, "https+unix:{}", path.display()),
        }
    }
}

/// One entry of a list: an address, or an address with a weight.
fn read_entry(fields: &mut Fields<'_, '_>, node: &Node) -> Option<(Scheme, Instance, Position)> {
    match &node.value {
        Value::Text(text) => read_url(fields, text, node.position, 1),
        Value::Object(_) => {
            let mut entry = Fields::open(node, "upstream", &names(INSTANCE), fields.faults())?;
            entry.require("url");
            let weight = if entry.node("weight").is_some() {
                entry
                    .whole("weight", 0..=u64::from(u16::MAX))
                    .and_then(|weight| u16::try_from(weight).ok())
            } else {
                Some(1)
            };
            let (url, position) = (entry.text("url"), entry.position("url"));
            read_url(fields, url?, position, weight?)
        }
        _ => {
            let message = format_args!(
                "must list addresses such as https://127.0.0.1:19443, found {}",
                node.kind()
            );
            fields.fault_at(node.position, "upstream", message);
            None
        }
    }
}

fn read_url(
    fields: &mut Fields<'_, '_>,
    text: &str,
    position: Position,
    weight: u16,
) -> Option<(Scheme, Instance, Position)> {
    match parse_url(text) {
        Ok((scheme, host, port)) => Some((scheme, Instance { host, port, weight }, position)),
        Err(message) => {
            fields.fault_at(position, "upstream", message);
            None
        }
    }
}

/// The kernel's limit; a longer one could never be connected to.
const SOCKET_PATH_MAX: usize = 107;

/// The path behind `https+unix:`.
fn parse_socket(path: &str) -> Result<Host, &'static str> {
    if path.len() > SOCKET_PATH_MAX {
        return Err("names a socket whose path is longer than 107 bytes; choose a shorter one");
    }
    let path = Path::new(path);
    // Compared and shown as it is written, so it is written in one way.
    let plain = path.components().all(|part| match part {
        Component::RootDir => true,
        Component::Normal(name) => !name.as_encoded_bytes().iter().any(u8::is_ascii_control),
        _ => false,
    });
    let folders = path.components().count();
    let whole = path.components().collect::<std::path::PathBuf>();
    if !path.is_absolute() || !plain || folders < 2 || whole.as_os_str() != path.as_os_str() {
        return Err("needs an absolute path after https+unix:, such as /run/gapura/lab.sock");
    }
    Ok(Host::Socket(path.into()))
}

/// `https://host:port`, `http://host:port` or `https+unix:PATH`, and nothing else.
fn parse_url(text: &str) -> Result<(Scheme, Host, u16), &'static str> {
    if let Some(path) = text.strip_prefix("https+unix:") {
        return Ok((Scheme::Https, parse_socket(path)?, 0));
    }
    let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (Scheme::Https, rest)
    } else if let Some(rest) = text.strip_prefix("http://") {
        (Scheme::Http, rest)
    } else {
        return Err(
            "must begin with https:// (a sidecar), https+unix: (one at a socket) or http:// (no sidecar)",
        );
    };
    if rest.contains('@') {
        return Err("must not hold a user or password; remove everything up to the @");
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("must end after the port: no path, no query");
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Err("needs a port, such as https://127.0.0.1:19443"),
    };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits {
        port.parse::<u16>().ok().filter(|port| *port > 0)
    } else {
        None
    };
    let port = port.ok_or("needs a port from 1 to 65535, such as https://127.0.0.1:19443")?;
    let host = Host::parse(host).ok_or(
        "names a host that is neither a DNS name, an IPv4 address nor an IPv6 address in brackets",
    )?;
    Ok((scheme, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Option<Upstream>, Vec<String>) {
        let mut faults = Vec::new();
        let text = format!("{{\"upstream\": {json}}}");
        let node = gapura_settings::json::parse(text.as_bytes(), &mut faults).unwrap();
        let mut fields = Fields::open(&node, "", &["upstream"], &mut faults).unwrap();
        let upstream = Upstream::read(&mut fields);
        (upstream, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_each_shape() {
        for (json, shown) in [
            ("\"https://127.0.0.1:19443\"", "https://127.0.0.1:19443"),
            ("\"http://Localhost:80\"", "http://localhost:80"),
            ("\"https://[::1]:1\"", "https://[::1]:1"),
            (
                "\"https://lab_1.example.internal.:65535\"",
                "https://lab_1.example.internal.:65535",
            ),
            (
                "[\"https://a:1\", \"https://a:2\"]",
                "https://a:1, https://a:2",
            ),
            (
                "[{\"url\": \"https://a:1\", \"weight\": 0}, {\"url\": \"https://b:1\"}, \"https://c:1\"]",
                "https://a:1, https://b:1, https://c:1",
            ),
            (
                "[\"https+unix:/run/gapura/lab.sock\", \"https://a:1\"]",
                "https+unix:/run/gapura/lab.sock, https://a:1",
            ),
        ] {
            let (upstream, faults) = read(json);
            assert_eq!(
                upstream.map(|upstream| upstream.to_string()).as_deref(),
                Some(shown),
                "{faults:?}"
            );
            assert!(faults.is_empty());
        }
        let (upstream, _) = read("[{\"url\": \"https://a:1\", \"weight\": 3}, \"https://b:1\"]");
        assert_eq!(
            upstream
                .unwrap()
                .instances()
                .iter()
                .map(|instance| instance.weight)
                .collect::<Vec<_>>(),
            [3, 1]
        );
    }

    #[test]
    fn refuses_anything_but_scheme_host_and_port() {
        for (url, why) in [
            ("", "must begin with https://"),
            ("a:1", "must begin with https://"),
            ("HTTPS://a:1", "must begin with https://"),
            ("ftp://a:1", "must begin with https://"),
            ("https://a", "needs a port"),
            ("https://[::1]", "needs a port"),
            ("https://a:0", "needs a port"),
            ("https://a:65536", "needs a port"),
            ("https://a:+80", "needs a port"),
            ("https://a:", "needs a port"),
            ("https://a:1/", "no path"),
            ("https://a:1/x", "no path"),
            ("https://a:1?x", "no path"),
            ("https://a:1#x", "no path"),
            ("https://u:p@a:1", "user or password"),
            ("https://:1", "names a host"),
            ("https://::1:1", "names a host"),
            ("https://[::1%eth0]:1", "names a host"),
            ("https://-a:1", "names a host"),
            ("https://a..b:1", "names a host"),
            ("https://a b:1", "names a host"),
            ("https://é:1", "names a host"),
            ("http://127.1:1", "names a host"),
            ("http://2130706433:1", "names a host"),
            ("http://0x7f000001:1", "names a host"),
            ("http://1.2.3.4.5:1", "names a host"),
            ("https+unix:", "an absolute path"),
            ("https+unix:/", "an absolute path"),
            ("https+unix:lab.sock", "an absolute path"),
            ("https+unix://run/lab.sock", "an absolute path"),
            ("https+unix:/run/../lab.sock", "an absolute path"),
            ("https+unix:/run/lab.sock/", "an absolute path"),
            ("http+unix:/run/lab.sock", "must begin with https://"),
        ] {
            let (upstream, faults) = read(&format!("{url:?}"));
            assert!(
                upstream.is_none() && faults.len() == 1 && faults[0].contains(why),
                "{url}: {faults:?}"
            );
        }
    }

    #[test]
    fn refuses_lists_that_make_no_sense() {
        for (json, why) in [
            (
                "7",
                "1:14: \"upstream\" must be an address such as https://127.0.0.1:19443, or a list of them, found a number",
            ),
            (
                "{\"url\": \"https://a:1\"}",
                "or a list of them, found an object",
            ),
            ("[]", "lists no address"),
            ("[1]", "1:15: \"upstream\" must list addresses"),
            (
                "[\"https://a:1\", \"http://b:1\"]",
                "1:30: \"upstream\" mixes",
            ),
            (
                "[\"https://a:1\", \"https://A:1\"]",
                "1:30: \"upstream\" lists a:1 twice",
            ),
            ("[{\"url\": \"https://a:1\", \"weight\": 0}]", "weight 0"),
            (
                "[{\"weight\": 1}]",
                "1:15: the field \"upstream.url\" is missing",
            ),
            (
                "[{\"url\": \"https://a:1\", \"wieght\": 1}]",
                "the nearest valid name is \"upstream.weight\"",
            ),
            (
                "[{\"url\": \"https://a:1\", \"weight\": -1}]",
                "\"upstream.weight\" must be a whole number from 0 to 65535, found -1",
            ),
        ] {
            let (upstream, faults) = read(json);
            assert!(
                faults.len() == 1 && faults[0].contains(why),
                "{json}: {faults:?}"
            );
            assert!(upstream.is_none() || json.contains("wieght"));
        }
        assert_eq!(read("[1, \"https://a\", {}]").1.len(), 3);
    }

    #[test]
    fn knows_loopback_by_its_text() {
        let loopback = |url: &str| read(&format!("{url:?}")).0.unwrap().is_loopback();
        for url in [
            "http://127.0.0.1:1",
            "http://127.9.9.9:1",
            "http://[::1]:1",
            "http://[::ffff:127.0.0.1]:1",
            "http://localhost:1",
            "https+unix:/run/a",
        ] {
            assert!(loopback(url), "{url}");
        }
        for url in [
            "http://0.0.0.0:1",
            "http://10.0.0.1:1",
            "http://[::]:1",
            "http://localhost.example:1",
            "http://plugin:1",
        ] {
            assert!(!loopback(url), "{url}");
        }
    }
}
