//! `csr`: a key and a signing request, made where the key is to stay.

use std::path::PathBuf;

use clap::Args;
use gapura_pki::{Error, Pki, Target};
use gapura_protocol::identity::{PeerId, Role, TrustDomain};
use serde_json::json;

use crate::commands::global::Global;
use crate::commands::report::Report;

/// Make a key and a signing request on the machine where the key is to stay.
///
/// Needs no CA: the trust domain is named, or taken from --dir when there is one. Send request.csr
/// to whoever runs the CA.
#[derive(Args)]
#[command(after_help = "Example:
  gapura-pki csr plugin billing --trust-domain mylab.internal --out /etc/gapura/billing
  gapura-pki issue plugin billing --csr request.csr --out ./billing        (on the CA's machine)")]
pub(crate) struct Arguments {
    /// Whom it is for: `plugin billing`, `gateway edge`, or one word: billing (a plugin),
    /// gateway/edge, a whole SPIFFE id.
    #[arg(required = true, num_args = 1..=2, value_names = ["ROLE", "NAME"])]
    whom: Vec<String>,
    /// The trust domain.
    #[arg(long, env = "GAPURA_PKI_TRUST_DOMAIN", value_name = "NAME")]
    trust_domain: Option<String>,
    /// Where key.pem and request.csr go; ./NAME if not said.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make the request for the key.pem that is there.
    #[arg(long)]
    reuse_key: bool,
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    let target: Target = arguments.whom.join("/").parse()?;
    let domain = domain(global, &arguments, &target)?;
    let id = PeerId::new(
        domain,
        target.role.unwrap_or(Role::Plugin),
        target.name.clone(),
    );
    let out = arguments
        .out
        .unwrap_or_else(|| PathBuf::from(target.name.as_str()));
    let made = gapura_pki::csr::create(&id, &out, arguments.reuse_key)?;
    let text = format!(
        "made a request for {id}\n  request   {}\n  key       {}   0600, stays here\nnext, on the CA's machine: gapura-pki issue {} {} --csr {} --out DIR\n",
        made.request.display(),
        made.key.display(),
        id.role(),
        id.name(),
        made.request.file_name().unwrap_or_default().display()
    );
    let json = json!({ "id": id.to_string(), "request": made.request, "key": made.key, "public_key_sha256": made.public_key });
    Ok(Report::done(json, text))
}

fn domain(global: Global, arguments: &Arguments, target: &Target) -> Result<TrustDomain, Error> {
    if let Some(domain) = &target.domain {
        return Ok(domain.clone());
    }
    if let Some(text) = &arguments.trust_domain {
        return text
            .parse()
            .map_err(|why| Error::Usage(format!("--trust-domain {text:?}: {why}")));
    }
    let pki: Result<Pki, Error> = global.open();
    pki.map(|pki| pki.trust_domain().clone()).map_err(|_| {
        let name = &target.name;
        Error::Usage(format!(
            "say which trust domain, e.g. gapura-pki csr {name} --trust-domain mylab.internal"
        ))
    })
}
