//! `verify CERT --as client|server|authority`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gapura_certificates::purpose::Purpose;
use gapura_pki::Error;
use gapura_pki::inspect::inspect_chain;
use gapura_pki::timestamp::Timestamp;
use gapura_pki::verify::{
    VerifyRequest, certificates_in, crls_in, domain_of, domain_of_mesh_dir, trust_in_mesh_dir,
    verify,
};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::PeerId;
use serde_json::json;

use crate::commands::global::Global;
use crate::commands::report::{Report, line};

/// Say what gateway and sidecar would say to a certificate, by the code that they run in a
/// handshake.
///
/// Roots and CRLs are those of --bundle and --crl, else of the mesh directory CERT is in, else of
/// this installation. Roots vouch for their own trust domain only. Exit 1 when it would be refused.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki verify /etc/gapura/billing/cert.pem --as server --id spiffe://mylab.internal/plugin/billing
  gapura-pki verify /etc/gapura/edge --as client --at 2027-06-01T00:00:00Z
  gapura-pki verify peer.pem --as client --bundle ca.pem --crl crl.pem")]
pub(crate) struct Arguments {
    /// The certificate with its intermediates, or a mesh directory.
    cert: PathBuf,
    /// `client`: a gateway's, which dials; `server`: a plugin's, which answers; `authority`: a CA
    /// server's.
    #[arg(long = "as", value_name = "SIDE")]
    side: Side,
    /// The identity the other end insists on.
    #[arg(long, value_name = "URI")]
    id: Option<String>,
    /// The trust domain whose roots these are, where they do not say so themselves.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// The trusted roots.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The CRLs.
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    /// Do not ask about revocation.
    #[arg(long, conflicts_with = "crl")]
    no_crl: bool,
    /// When: RFC 3339, a date, or Unix seconds; now if not said.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Client,
    Server,
    Authority,
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    let id: Option<PeerId> = arguments
        .id
        .as_deref()
        .map(|text| {
            text.parse()
                .map_err(|why| Error::Usage(format!("--id {text:?}: {why}")))
        })
        .transpose()?;
    let at = arguments
        .at
        .as_deref()
        .map_or_else(|| Ok(Timestamp::now(&Clock::system())), str::parse)?;
    let chain = certificates_in(&arguments.cert)?;
    let (mut roots, mut crls, mut issuers) = (Vec::new(), None, Vec::new());
    let mut domain = None;
    if arguments.bundle.is_none() {
        let folder = if arguments.cert.is_dir() {
            Some(arguments.cert.as_path())
        } else {
            arguments.cert.parent()
        };
        let beside = folder.filter(|folder| folder.join("ca.pem").exists());
        (roots, crls, issuers) = match beside {
            Some(folder) => {
                let trust = trust_in_mesh_dir(folder)?;
                domain = domain_of(&trust.0).or_else(|| domain_of_mesh_dir(folder));
                trust
            }
            None => {
                let pki = global.open().map_err(|why| {
                    Error::Usage(format!(
                        "say whom to trust with --bundle FILE, or --dir of a CA: {why}"
                    ))
                })?;
                domain = Some(pki.trust_domain().clone());
                pki.trust_material()?
            }
        };
    }
    if let Some(path) = &arguments.bundle {
        roots = certificates_in(path)?;
        let folder = if path.is_dir() {
            Some(path.as_path())
        } else {
            path.parent()
        };
        domain = domain_of(&roots).or_else(|| folder.and_then(domain_of_mesh_dir));
    }
    if let Some(path) = &arguments.crl {
        crls = Some(crls_in(path)?);
    }
    if let Some(text) = &arguments.trust_domain {
        let said = text
            .parse()
            .map_err(|why| Error::Usage(format!("--trust-domain {text:?}: {why}")))?;
        domain = Some(said);
    }
    if arguments.no_crl {
        crls = None;
    }
    let purpose = match arguments.side {
        Side::Client => Purpose::Client,
        Side::Server => Purpose::Server,
        Side::Authority => Purpose::Authority,
    };
    let with_crls = crls.is_some();
    let request = VerifyRequest {
        chain,
        purpose,
        id,
        domain,
        roots,
        crls,
        issuers,
        at,
    };
    let verdict = verify(&request)?;
    let side = match arguments.side {
        Side::Client => "client",
        Side::Server => "server",
        Side::Authority => "authority",
    };
    let mut text = String::new();
    match (&verdict.peer, &verdict.refusal) {
        (Some((id, serial)), _) => {
            line(&mut text, format_args!("accepted as {side}: {id}"));
            line(&mut text, format_args!("  serial      {serial}"));
            line(
                &mut text,
                format_args!(
                    "  chain       leads to a root of {}; purpose ok; valid at {at}",
                    request.roots.len()
                ),
            );
            let revocation = if with_crls {
                "not revoked"
            } else {
                "NOT ASKED: no CRL was given"
            };
            line(&mut text, format_args!("  revocation  {revocation}"));
            if !verdict.domain_asked {
                line(
                    &mut text,
                    format_args!(
                        "  domain      NOT ASKED: the roots do not say whose they are; say it with --id or --trust-domain"
                    ),
                );
            }
        }
        (None, why) => {
            line(
                &mut text,
                format_args!(
                    "refused as {side}: {}",
                    why.as_deref().unwrap_or("no reason")
                ),
            );
            for item in inspect_chain(request.chain.get(..1).unwrap_or_default(), at) {
                for (label, value) in item
                    .lines
                    .iter()
                    .filter(|(label, _)| ["names", "valid", "usage", "issuer"].contains(label))
                {
                    line(&mut text, format_args!("  {label:<11} {value}"));
                }
            }
            line(&mut text, format_args!("  judged at   {at}"));
        }
    }
    if verdict.crls_unused > 0 {
        line(
            &mut text,
            format_args!(
                "  not used    {} CRLs of CAs that are neither roots nor in the chain",
                verdict.crls_unused
            ),
        );
    }
    let accepted = verdict.peer.is_some();
    let json = json!({
        "ok": accepted, "as": side, "id": verdict.peer.as_ref().map(|(id, _)| id), "serial": verdict.peer.as_ref().map(|(_, serial)| serial),
        "refusal": verdict.refusal, "crls_unused": verdict.crls_unused, "at": at, "revocation_checked": with_crls,
        "trust_domain_checked": verdict.domain_asked,
    });
    Ok(Report {
        json,
        text,
        exit: if accepted { 0 } else { 1 },
    })
}
