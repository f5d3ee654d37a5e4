//! `ensure`: a CA and its leaves, made where they are missing. What one-shot services of containers
//! run.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use gapura_pki::ensure::Ensured;
use gapura_pki::{Error, IssueRequest};
use serde_json::{Value, json};

use crate::commands::global::Global;
use crate::commands::init;
use crate::commands::issue::{describe, from_file, issued_json};
use crate::commands::report::{Report, line, republished_exit};

/// Make whatever of a CA and its certificates is missing, renew what is due, leave the rest.
///
/// Good for running at every start of an installation, and every day. Without a CA it makes one as
/// `init` does; with one the trust domain must be the same. What was revoked stays revoked.
#[derive(Args)]
#[group(skip)]
#[command(after_help = "Example:
  gapura-pki --dir /ca ensure --trust-domain mylab.internal --from identities.txt --passphrase-file ./pass")]
pub(crate) struct Arguments {
    #[command(flatten)]
    init: init::Arguments,
    /// Who is to have a certificate, as for `issue --from`.
    #[arg(long, env = "GAPURA_PKI_FROM", value_name = "FILE")]
    from: PathBuf,
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    let requests = from_file(&arguments.from, None, None)?;
    let dir = global.dir().to_owned();
    let places: Vec<PathBuf> = std::iter::once(dir)
        .chain(requests.iter().filter_map(|request| request.out.clone()))
        .collect();
    let done = ensure(global, arguments.init, &requests);
    let mut report = done.map_err(|error| owned_by_another(error, &places))?;
    if report.exit != 0
        && report.text.contains("Permission denied")
        && let Some(said) = foreign_place(&places)
    {
        line(&mut report.text, format_args!("{said}"));
    }
    Ok(report)
}

fn ensure(
    global: Global,
    init: init::Arguments,
    requests: &[IssueRequest],
) -> Result<Report, Error> {
    let mut text = String::new();
    let founded = !global.dir().join("pki.json").exists();
    let wanted = init.trust_domain.clone();
    let pki = if founded {
        let (pki, report) = init::found(global, init)?;
        text.push_str(&report.text);
        pki
    } else {
        global.open()?
    };
    if pki.trust_domain().as_str() != wanted {
        let (dir, found) = (pki.dir().display(), pki.trust_domain());
        return Err(Error::Refused(format!(
            "the CA in {dir} is of {found}, not of {wanted}; set --trust-domain back, or choose another --dir"
        )));
    }
    let done = pki.ensure(requests)?;
    text.push_str(&describe_all(&done, requests.len()));
    let mut report = Report {
        exit: exit(&done),
        text,
        json: to_json(&done, founded),
    };
    report.add_adopted(&pki.adopted());
    Ok(report)
}

fn describe_all(done: &Ensured, wanted: usize) -> String {
    let mut text = String::new();
    for one in &done.issued {
        text.push_str(&describe(one, "issued"));
    }
    for one in &done.renewed.issued {
        text.push_str(&describe(one, "renewed"));
    }
    for label in &done.revoked {
        let (role, name) = label.split_once('/').unwrap_or(("plugin", label));
        line(
            &mut text,
            format_args!(
                "REVOKED {label}: it gets no new certificate here; to take it back: gapura-pki issue {role} {name} --out DIR"
            ),
        );
    }
    for (label, why) in &done.renewed.failed {
        line(&mut text, format_args!("FAILED {label}: {why}"));
    }
    for said in &done.renewed.issuing_ca {
        line(&mut text, format_args!("issuing CA: {said}"));
    }
    let (issued, renewed) = (done.issued.len(), done.renewed.issued.len());
    line(
        &mut text,
        format_args!(
            "{wanted} identities: {issued} issued, {renewed} renewed, the rest as it was; CRLs fresh"
        ),
    );
    text
}

fn exit(done: &Ensured) -> u8 {
    if done.renewed.failed.is_empty() {
        republished_exit(&done.renewed.republished)
    } else {
        1
    }
}

fn to_json(done: &Ensured, founded: bool) -> Value {
    json!({
        "founded": founded, "issued": done.issued.iter().map(issued_json).collect::<Value>(), "revoked": done.revoked,
        "renewed": done.renewed.issued.iter().map(issued_json).collect::<Value>(),
        "failed": done.renewed.failed.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect::<Value>(),
    })
}

/// A volume that belongs to somebody else is the fault a person meets first; the system's words
/// alone do not say what to do.
fn owned_by_another(error: Error, places: &[PathBuf]) -> Error {
    let denied = matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied);
    match foreign_place(places).filter(|_| denied) {
        Some(said) => Error::Refused(format!("{said} ({error})")),
        None => error,
    }
}

/// The first place that belongs to another user, and what to do about it.
fn foreign_place(places: &[PathBuf]) -> Option<String> {
    let own = std::fs::metadata("/proc/self").ok()?.uid();
    let foreign = |place: &&PathBuf| std::fs::metadata(place).is_ok_and(|found| found.uid() != own);
    let place = places.iter().find(foreign)?;
    let owner = owner(place);
    Some(format!(
        "{} belongs to user {owner}, and this runs as user {own}, who may not write there; give it to that user (chown -R {own}), or start with a new volume",
        place.display()
    ))
}

fn owner(place: &Path) -> String {
    std::fs::metadata(place).map_or_else(|_| "unknown".to_owned(), |found| found.uid().to_string())
}
