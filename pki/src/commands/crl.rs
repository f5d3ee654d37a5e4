//! `crl show|refresh|verify`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gapura_pki::crl::verify as verify_crl;
use gapura_pki::inspect::inspect;
use gapura_pki::timestamp::for_people;
use gapura_pki::verify::{certificates_in, crls_in};
use gapura_pki::{Error, Pki};
use serde_json::{Value, json};

use crate::commands::global::{Global, publishing};
use crate::commands::report::{
    Report, line, republished_exit, republished_json, republished_text, table,
};

/// Show, refresh and verify CRLs.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

impl Arguments {
    /// Whether CRLs are made.
    pub(crate) fn is_refresh(&self) -> bool {
        matches!(self.what, What::Refresh)
    }
}

#[derive(Subcommand)]
enum What {
    /// Every CRL that is published: number, age, entries.
    #[command(after_help = "Example:
  gapura-pki crl show")]
    Show,
    /// Sign every CRL anew and publish it.
    #[command(after_help = "Example:
  gapura-pki crl refresh --passphrase-file /root/gapura-pki.pass")]
    Refresh,
    /// Whether the CRLs of a file are signed by a CA of this installation (or of --issuer) and up
    /// to date.
    #[command(after_help = "Example:
  gapura-pki crl verify /etc/gapura/edge/crl.pem")]
    Verify {
        /// The file.
        file: PathBuf,
        /// CA certificates to check with, instead of this installation's.
        #[arg(long, value_name = "FILE")]
        issuer: Option<PathBuf>,
    },
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    match arguments.what {
        What::Show => show(&global.open()?),
        What::Refresh => publishing(&global.open()?, refresh),
        What::Verify { file, issuer } => verify(global, &file, issuer.as_deref()),
    }
}

fn show(pki: &Pki) -> Result<Report, Error> {
    let (ledger, now) = (pki.ledger()?, pki.now());
    let (mut rows, mut list) = (Vec::new(), Vec::new());
    for authority in ledger
        .published_issuers(now)
        .chain(ledger.trusted_roots(now))
    {
        let Some(crl) = ledger.crl(&authority.id) else {
            continue;
        };
        let left = crl.next_update.since(now);
        let revoked: Vec<Value> = ledger
            .revoked_by(&authority.id, now)
            .iter()
            .map(|revoked| json!(revoked))
            .collect();
        rows.push(vec![
            crl.issuer.clone(),
            crl.number.to_string(),
            crl.made_at.to_string(),
            crl.next_update.to_string(),
            if left == 0 {
                "out of date".to_owned()
            } else {
                for_people(left)
            },
            crl.entries.to_string(),
        ]);
        list.push(json!({
            "issuer": crl.issuer, "number": crl.number, "made_at": crl.made_at, "this_update": crl.this_update, "next_update": crl.next_update,
            "age_seconds": now.since(crl.made_at), "left_seconds": left, "entries": crl.entries, "revoked": revoked,
        }));
    }
    Ok(Report::done(
        json!({ "crls": list }),
        table(
            &["CRL OF", "NUMBER", "MADE", "NEXT UPDATE", "LEFT", "ENTRIES"],
            &rows,
        ),
    ))
}

fn refresh(pki: &Pki) -> Result<Report, Error> {
    let done = pki.crl_refresh()?;
    let mut text = String::new();
    for crl in &done.made {
        line(
            &mut text,
            format_args!(
                "CRL of {} number {}, {} entries, until {}",
                crl.issuer, crl.number, crl.entries, crl.next_update
            ),
        );
    }
    for id in &done.skipped {
        line(
            &mut text,
            format_args!("CRL of {id} left as it is: its key is offline (--offline-root DIR)"),
        );
    }
    text.push_str(&republished_text(&done.republished));
    let json = json!({ "crls": done.made, "skipped": done.skipped, "republished": republished_json(&done.republished) });
    Ok(Report {
        json,
        text,
        exit: republished_exit(&done.republished),
    })
}

fn verify(global: Global, file: &Path, issuer: Option<&Path>) -> Result<Report, Error> {
    let (issuers, now) = match issuer {
        Some(path) => (
            certificates_in(path)?,
            gapura_pki::timestamp::Timestamp::now(&gapura_protocol::clock::Clock::system()),
        ),
        None => {
            let pki = global.open()?;
            let (roots, _, issuers) = pki.trust_material()?;
            ([roots, issuers].concat(), pki.now())
        }
    };
    let (mut text, mut list, mut good) = (String::new(), Vec::new(), true);
    for crl in crls_in(file)? {
        let signed = issuers
            .iter()
            .any(|issuer| verify_crl(&crl, issuer).is_ok());
        let facts = inspect(&crl, now)
            .ok()
            .and_then(|items| items.into_iter().next())
            .map_or(Value::Null, |item| item.facts);
        let next = facts["next_update"]
            .as_str()
            .and_then(|text| text.parse::<gapura_pki::timestamp::Timestamp>().ok());
        let current = next.is_some_and(|next| next > now);
        good &= signed && current;
        let verdict = match (signed, current) {
            (false, _) => "NOT signed by a known CA",
            (true, false) => "signed, OUT OF DATE",
            (true, true) => "ok",
        };
        let (issuer, number) = (
            facts["issuer"].as_str().unwrap_or("?"),
            facts["number"].as_str().unwrap_or("none"),
        );
        line(
            &mut text,
            format_args!(
                "{issuer}  number {number}  until {}  {verdict}",
                facts["next_update"].as_str().unwrap_or("?")
            ),
        );
        list.push(json!({
            "issuer": facts["issuer"], "number": facts["number"], "next_update": facts["next_update"], "entries": facts["entries"],
            "signed": signed, "current": current,
        }));
    }
    Ok(Report {
        json: json!({ "file": file, "ok": good, "crls": list }),
        text,
        exit: if good { 0 } else { 1 },
    })
}
