//! `init`: a root, an issuing CA and their CRLs in a new state directory.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use gapura_pki::passphrase::Source;
use gapura_pki::settings::Settings;
use gapura_pki::{Error, KeyProtection, Pki};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::TrustDomain;
use serde_json::json;

use crate::commands::global::{Global, duration};
use crate::commands::report::{Report, line};

/// Make a new CA: a root, an issuing CA and their CRLs.
///
/// The CA keys are kept encrypted; one of --passphrase-file, --passphrase-fd, --passphrase-command
/// or, spelled out, --plaintext-keys says how. On a terminal the passphrase is asked for.
#[derive(Args)]
#[command(after_help = "Example:
  gapura-pki --dir ./pki init --trust-domain mylab.internal --passphrase-file ./pass
  gapura-pki --dir ./pki init --trust-domain mylab.internal --passphrase-file ./pass --offline-root /media/usb/gapura")]
pub(crate) struct Arguments {
    /// The name every identity lives under, e.g. mylab.internal.
    #[arg(long, env = "GAPURA_PKI_TRUST_DOMAIN", value_name = "NAME")]
    pub(crate) trust_domain: String,
    /// How long the root lives.
    #[arg(long, default_value = "3650d", value_parser = duration, value_name = "TIME")]
    root_ttl: Duration,
    /// How long the issuing CA lives.
    #[arg(long, default_value = "730d", value_parser = duration, value_name = "TIME")]
    issuer_ttl: Duration,
    /// How long a leaf lives, unless `issue --ttl` says otherwise.
    #[arg(long, default_value = "30d", value_parser = duration, value_name = "TIME")]
    leaf_ttl: Duration,
    /// How long a CRL lives.
    #[arg(long, default_value = "30d", value_parser = duration, value_name = "TIME")]
    crl_ttl: Duration,
    /// A domain beside the trust domain in which leaves may carry DNS names (may be repeated).
    #[arg(long, value_name = "DOMAIN")]
    permit_dns: Vec<String>,
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    found(global, arguments).map(|(_, report)| report)
}

/// Makes the CA, and says what was made.
pub(crate) fn found(global: Global, arguments: Arguments) -> Result<(Pki, Report), Error> {
    let trust_domain: TrustDomain = arguments.trust_domain.parse().map_err(|why| {
        let domain = &arguments.trust_domain;
        Error::Usage(format!(
            "--trust-domain {domain:?}: {why}; e.g. --trust-domain mylab.internal"
        ))
    })?;
    let protection = match global.named_protection() {
        Some(protection) => protection,
        None if std::io::stdin().is_terminal() => {
            KeyProtection::from_source(Source::Terminal(true))
        }
        None => {
            let ways = "--passphrase-file F, --passphrase-fd N, --passphrase-command C, or --plaintext-keys to keep them in the clear";
            return Err(Error::Usage(format!(
                "say how the CA keys are to be protected: {ways}"
            )));
        }
    };
    let mut settings = Settings::for_domain(trust_domain);
    settings.root_ttl = arguments.root_ttl;
    settings.issuer_ttl = arguments.issuer_ttl;
    settings.leaf_ttl = arguments.leaf_ttl;
    settings.crl_ttl = arguments.crl_ttl;
    settings.permitted_dns = arguments.permit_dns;
    let plaintext = matches!(protection, KeyProtection::Plaintext);
    let offline = global.offline_root.clone();
    let root_protection = global.root_protection();
    let pki = Pki::init_with(
        &global.dir,
        settings,
        protection,
        (offline.clone(), root_protection),
        &Clock::system(),
    )?;

    let ledger = pki.ledger()?;
    let mut text = format!(
        "made a CA for {} in {}\n",
        pki.trust_domain(),
        pki.dir().display()
    );
    for authority in ledger.authorities() {
        line(
            &mut text,
            format_args!(
                "  {:<11} until {}  sha256 {}",
                authority.id, authority.not_after, authority.fingerprint
            ),
        );
    }
    let keys = if plaintext {
        "in the clear (--plaintext-keys)"
    } else {
        "encrypted: PKCS#8, PBKDF2-SHA256, AES-256"
    };
    line(&mut text, format_args!("  CA keys     {keys}"));
    if let Some(folder) = &offline {
        line(
            &mut text,
            format_args!(
                "  root key    in {}: unmount it and lock it away",
                folder.display()
            ),
        );
    }
    line(
        &mut text,
        format_args!(
            "next: gapura-pki --dir {0} issue gateway edge --out DIR; gapura-pki --dir {0} check",
            pki.dir().display()
        ),
    );
    let authorities: Vec<_> = ledger
        .authorities()
        .iter()
        .map(|authority| {
            json!({
                "id": authority.id, "kind": authority.kind, "state": authority.state, "serial": authority.serial,
                "not_before": authority.not_before, "not_after": authority.not_after, "sha256": authority.fingerprint,
            })
        })
        .collect();
    let json = json!({
        "dir": pki.dir(), "trust_domain": pki.trust_domain().as_str(), "authorities": authorities,
        "keys": if plaintext { "plaintext" } else { "encrypted" }, "offline_root": offline,
    });
    Ok((pki, Report::done(json, text)))
}
