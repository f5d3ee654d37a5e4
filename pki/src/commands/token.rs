//! `token`: what a new host gets its first certificate for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gapura_files::file;
use gapura_pki::enrol::JoinRequest;
use gapura_pki::timestamp::Timestamp;
use gapura_pki::{Error, Pki};
use gapura_protocol::text::hex;
use serde_json::json;

use crate::commands::global::duration;
use crate::commands::report::Report;

/// Make a join token: a host's agent gets its first certificate for it from the CA server, once.
///
/// It is bound to one identity, and carries the SHA-256 of the root, which the agent checks before
/// it shows the token to anybody. It is printed and kept nowhere: the inventory has the SHA-256 of
/// its secret. To void one that was lost, revoke or forget the identity, or let it end.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki token plugin lab-reporting --url https://ca.mylab.internal:9443 > lab-reporting.token
  gapura-pki token gateway edge --ttl 15m --out edge.token")]
pub(crate) struct Arguments {
    /// `gateway` or `plugin`.
    role: String,
    /// Whom the certificates will speak for: 1 to 63 of a-z 0-9 -.
    name: String,
    /// How long it may be used: up to 7d.
    #[arg(long, default_value = "1h", value_parser = duration, value_name = "TIME")]
    ttl: Duration,
    /// Where the CA server is, so that the agent need not be told.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Write it to this file, which its owner alone may read, in place of one that is there; else
    /// it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A DNS name beside NAME.plugin.TRUST-DOMAIN (may be repeated).
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    let role = arguments.role.parse().map_err(|_| {
        Error::Usage(format!(
            "{:?} is not a role; say `gateway` or `plugin`, e.g. gapura-pki token plugin billing",
            arguments.role
        ))
    })?;
    let name = arguments.name.parse().map_err(|why| {
        Error::Usage(format!(
            "{:?} is not a name: {why}; e.g. gapura-pki token {role} billing",
            arguments.name
        ))
    })?;
    if let Some(url) = &arguments.url {
        check_url(url)?;
    }
    let token = pki.make_join(&JoinRequest {
        role,
        name,
        dns: arguments.dns,
        ttl: arguments.ttl,
        url: arguments.url,
    })?;
    let text = token.to_text();
    let shown = match &arguments.out {
        None => Some(&**text),
        Some(out) => {
            let line = zeroize::Zeroizing::new(format!("{}\n", *text));
            file::replace(out, line.as_bytes()).map_err(|source| Error::Io {
                doing: "write",
                path: out.clone(),
                source,
            })?;
            None
        }
    };
    let facts = json!({
        "token": shown, "out": arguments.out, "id": token.id, "identity": token.identity().to_string(), "expires": Timestamp(token.expires),
        "root_sha256": hex(&token.root_sha256), "url": token.url,
    });
    let said = match &arguments.out {
        None => format!("{}\n", *text),
        Some(out) => format!(
            "a join token for {}, good until {}: {}\n",
            token.identity(),
            Timestamp(token.expires),
            out.display()
        ),
    };
    Ok(Report::done(facts, said))
}

/// `https://host:port` and nothing more: the agent knows the paths.
fn check_url(url: &str) -> Result<(), Error> {
    let refused = || {
        Error::Usage(format!(
            "--url {url}: is not the address of a CA server; write https://host:port, without a path"
        ))
    };
    let authority = url.strip_prefix("https://").ok_or_else(refused)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if authority.is_empty() || authority.len() > 300 || !authority.chars().all(plain) {
        return Err(refused());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for url in [
            "https://ca:9443",
            "https://ca.a.internal",
            "https://[::1]:1",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://ca:1",
            "ca:1",
            "https://",
            "https://ca/x",
            "https://u@ca",
            "https://c a",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
