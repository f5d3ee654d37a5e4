//! `inspect FILE|HOST:PORT|-`.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use gapura_pki::inspect::{Item, inspect, inspect_chain};
use gapura_pki::timestamp::Timestamp;
use gapura_pki::{Error, probe};
use gapura_protocol::clock::Clock;
use serde_json::{Value, json};

use crate::commands::global::duration;
use crate::commands::issue::read;
use crate::commands::report::{Report, line};

/// Show what is in a file, or what a server shows.
///
/// Reads certificates, requests, CRLs and keys, PEM or DER; of a private key only what its public
/// half tells. A mesh directory is shown file by file. Exit 1 where something in it can't be read.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki inspect /etc/gapura/edge/cert.pem
  gapura-pki inspect 127.0.0.1:19443          (what a sidecar really shows)
  cat request.csr | gapura-pki inspect -")]
pub(crate) struct Arguments {
    /// A file, a mesh directory, HOST:PORT, or - for stdin.
    what: String,
    /// How long to wait for a server.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
}

pub(crate) fn run(arguments: Arguments) -> Result<Report, Error> {
    let now = Timestamp::now(&Clock::system());
    let path = Path::new(&arguments.what);
    let items = if path.is_dir() {
        let mut items = Vec::new();
        for name in ["cert.pem", "ca.pem", "crl.pem", "key.pem"] {
            let file = path.join(name);
            if file.exists() {
                items.extend(in_file(&file, inspect(&read(&file)?, now))?);
            }
        }
        items
    } else if arguments.what == "-" || path.exists() {
        in_file(path, inspect(&read(path)?, now))?
    } else if let Some((_, port)) = arguments.what.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        inspect_chain(&probe::served(&arguments.what, arguments.timeout)?, now)
    } else {
        let what = &arguments.what;
        return Err(Error::Failed(format!(
            "there is no file {what}, and it is not HOST:PORT; see gapura-pki inspect --help"
        )));
    };
    let mut text = String::new();
    for item in &items {
        for (label, value) in &item.lines {
            line(&mut text, format_args!("{label:<14} {value}"));
        }
        text.push('\n');
    }
    text.pop();
    if items.is_empty() {
        let what = &arguments.what;
        return Err(Error::Failed(format!(
            "{what} holds none of cert.pem, ca.pem, crl.pem and key.pem; name a file, or a mesh directory"
        )));
    }
    let unread = items.iter().any(|item| item.kind == "unknown");
    Ok(Report {
        json: json!({ "items": items.iter().map(|item| item.facts.clone()).collect::<Value>() }),
        text,
        exit: u8::from(unread),
    })
}

fn in_file(path: &Path, found: Result<Vec<Item>, Error>) -> Result<Vec<Item>, Error> {
    found.map_err(|why| Error::Failed(format!("{}: {why}", path.display())))
}
