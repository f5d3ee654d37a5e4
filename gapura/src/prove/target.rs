//! The address that was given: looked up once, and the only one that anything is sent to.
//!
//! In: a URL, the roots' file. Out: a [`Target`], or what is wrong. Redirects, alternative
//! addresses and further look-ups do not exist.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gapura_fetch::Url;
use gapura_files::{file, pem};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;

use crate::error::Error;

/// A bundle of every public root is 250 KiB.
const ROOTS_MOST: u64 = 4 << 20;
/// Addresses of one host that are tried, and for how long each.
const ADDRESSES_MOST: usize = 4;
const TAKES: Duration = Duration::from_secs(2);

/// One's own door.
#[derive(Clone)]
pub(super) struct Target {
    /// The URL as it was given.
    pub(super) url: String,
    /// What `Host` says.
    pub(super) authority: String,
    /// The host alone.
    pub(super) host: String,
    /// The one address.
    pub(super) address: SocketAddr,
    /// Where the plugin is mounted, without a slash at its end; empty for `/`.
    pub(super) mount: String,
    /// Whom to believe, and under which name; `None` in plain HTTP.
    pub(super) tls: Option<(Arc<RootCertStore>, ServerName<'static>)>,
}

impl Target {
    /// Reads the flags and looks the host up.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong with them.
    pub(super) fn read(url: &str, ca: Option<&Path>) -> Result<Self, Error> {
        let refused = |why: String| Error::Refused(format!("{url}: {why}"));
        let parsed = Url::parse(url).map_err(refused)?;
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if path.contains(['?', ';', '%', '\\']) {
            return Err(refused(
                "give the mount of the plugin alone, without a query or escapes".to_owned(),
            ));
        }
        let tls = match (parsed.is_tls(), ca) {
            (false, _) => None,
            (true, None) => {
                return Err(Error::Refused("give --ca FILE with the root of the door's certificate; for a public one that is /etc/ssl/certs/ca-certificates.crt".to_owned()));
            }
            (true, Some(ca)) => {
                let name = ServerName::try_from(parsed.host().to_owned())
                    .map_err(|_| refused("has a host that no certificate can name".to_owned()))?;
                Some((roots(ca)?, name))
            }
        };
        Ok(Self {
            url: url.to_owned(),
            authority: authority.to_owned(),
            host: parsed.host().to_owned(),
            address: look_up(parsed.host(), parsed.port())?,
            mount: path.trim_end_matches('/').to_owned(),
            tls,
        })
    }
}

/// The first address of a host that takes a connection, and no other from then on: `localhost` may
/// have two, of which one is served.
pub(super) fn look_up(host: &str, port: u16) -> Result<SocketAddr, Error> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|err| Error::Refused(format!("{host} can't be looked up: {err}")))?;
    let all: Vec<SocketAddr> = found.take(ADDRESSES_MOST).collect();
    let takes = |address: &&SocketAddr| TcpStream::connect_timeout(address, TAKES).is_ok();
    let served = if all.len() > 1 {
        all.iter().find(takes)
    } else {
        None
    };
    let chosen = served.or(all.first()).copied();
    chosen.ok_or_else(|| Error::Refused(format!("{host} has no address")))
}

fn roots(ca: &Path) -> Result<Arc<RootCertStore>, Error> {
    let refused = |why: String| Error::Refused(format!("--ca {}: {why}", ca.display()));
    let (text, _) =
        file::read(ca, ROOTS_MOST).map_err(|err| Error::Refused(format!("--ca {err}")))?;
    let certificates = pem::certificates(&text).map_err(|err| refused(err.to_string()))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        return Err(refused("holds no root certificate".to_owned()));
    }
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Target::read(url, None)
            .err()
            .map(|err| err.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_mount_is_taken_as_it_stands_and_nothing_else_is() {
        let target = Target::read("http://127.0.0.1:8080/v1/prove/", None).unwrap();
        assert_eq!(
            (target.mount.as_str(), target.authority.as_str()),
            ("/v1/prove", "127.0.0.1:8080")
        );
        assert_eq!(
            Target::read("http://127.0.0.1:8080", None).unwrap().mount,
            ""
        );
        assert!(refusal("https://localhost/x").contains("--ca"));
        for url in [
            "http://127.0.0.1/x?a",
            "http://a@127.0.0.1/x",
            "ftp://127.0.0.1",
            "http://example.com/x",
        ] {
            assert!(!refusal(url).is_empty(), "{url}");
        }
    }
}
