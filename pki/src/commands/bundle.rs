//! `bundle show|export|verify`: the roots that peers trust.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gapura_pki::inspect::{inspect, inspect_chain};
use gapura_pki::verify::certificates_in;
use gapura_pki::{Error, Pki, given};
use serde_json::{Value, json};

use crate::commands::global::Global;
use crate::commands::report::{Report, line};

/// Show, export and verify the roots that peers trust.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The roots, with their fingerprints.
    #[command(after_help = "Example:
  gapura-pki bundle show")]
    Show,
    /// Write ca.pem, crl.pem and intermediates.pem for mesh directories on other machines; without
    /// --out ca.pem goes to stdout.
    #[command(after_help = "Example:
  gapura-pki bundle export --out ./bundle")]
    Export {
        /// The folder to write to.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Whether a file (or a mesh directory's ca.pem) holds the roots of this CA and nothing else.
    #[command(after_help = "Example:
  gapura-pki bundle verify /etc/gapura/edge/ca.pem")]
    Verify {
        /// The file.
        file: PathBuf,
    },
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    let pki = global.open()?;
    match arguments.what {
        What::Show => show(&pki),
        What::Export { out } => export(&pki, out),
        What::Verify { file } => verify(&pki, &file),
    }
}

fn show(pki: &Pki) -> Result<Report, Error> {
    let items = inspect_chain(&pki.roots()?, pki.now());
    let mut text = String::new();
    for item in &items {
        let wanted = item
            .lines
            .iter()
            .filter(|(label, _)| ["certificate", "valid", "sha256"].contains(label));
        for (label, value) in wanted {
            line(&mut text, format_args!("{label:<12} {value}"));
        }
    }
    Ok(Report::done(
        json!({ "roots": items.iter().map(|item| item.facts.clone()).collect::<Value>() }),
        text,
    ))
}

fn export(pki: &Pki, out: Option<PathBuf>) -> Result<Report, Error> {
    let bundle = pki.bundle()?;
    let Some(out) = out else {
        return Ok(Report::done(
            json!({ "ca": bundle.ca, "crl": bundle.crl, "intermediates": bundle.intermediates }),
            bundle.ca,
        ));
    };
    bundle.write(&out)?;
    let text = format!(
        "wrote {0}/ca.pem, crl.pem, intermediates.pem\n  into each mesh directory: ca.pem and crl.pem as they are; intermediates.pem behind the leaf in cert.pem\n",
        out.display()
    );
    Ok(Report::done(json!({ "out": out }), text))
}

fn verify(pki: &Pki, file: &std::path::Path) -> Result<Report, Error> {
    let path = if file.is_dir() {
        file.join("ca.pem")
    } else {
        file.to_owned()
    };
    let (found, wanted) = (certificates_in(&path)?, pki.roots()?);
    let missing = wanted.iter().filter(|root| !found.contains(root)).count();
    let strange: Vec<_> = found
        .iter()
        .filter(|root| !wanted.contains(root))
        .cloned()
        .collect();
    let good = missing == 0 && strange.is_empty();
    let mut text = String::new();
    if good {
        line(
            &mut text,
            format_args!(
                "{}: the {} roots of this CA and nothing else",
                path.display(),
                wanted.len()
            ),
        );
    } else {
        line(
            &mut text,
            format_args!(
                "{}: {missing} roots are missing, {} do not belong there",
                path.display(),
                strange.len()
            ),
        );
        for item in inspect_chain(&strange, pki.now()) {
            line(
                &mut text,
                format_args!(
                    "  strange   {}",
                    item.lines.first().map_or("", |(_, value)| value.as_str())
                ),
            );
        }
        line(
            &mut text,
            format_args!("run: gapura-pki crl refresh, or bundle export for another machine"),
        );
    }
    // Read as a whole too, so that a key or a CRL among the roots is named.
    let others = inspect(&given::read(&path).unwrap_or_default(), pki.now())
        .map_or(0, |items| items.len().saturating_sub(found.len()));
    let json = json!({ "file": path, "ok": good, "missing": missing, "strange": strange.len(), "other_blocks": others });
    Ok(Report {
        json,
        text,
        exit: if good { 0 } else { 1 },
    })
}
