//! `issue`: leaves for gateways and plugins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use gapura_pki::timestamp::{for_people, parse_duration};
use gapura_pki::{Error, IssueRequest, Issued, KeyWanted, Pki, given};
use gapura_protocol::identity::{Name, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commands::global::duration;
use crate::commands::report::{Report, line};

/// Issue certificates for gateways and plugins and publish them as mesh directories.
///
/// A gateway's certificate is good for dialling only, a plugin's for answering only. Over a mesh
/// directory in use a new generation is published in one step. Without --out it goes to
/// DIR/out/ROLE/NAME.
#[derive(Args)]
#[command(after_help = "Examples:
  gapura-pki issue gateway edge --out /etc/gapura/edge
  gapura-pki issue plugin billing orders --out /etc/gapura       (makes /etc/gapura/billing and /etc/gapura/orders)
  gapura-pki issue plugin billing --csr billing.csr --out ./billing
  gapura-pki issue pki ca-1 --out /etc/gapura/ca-1                (for `gapura-ca --mesh-dir`)
  gapura-pki issue --from plugins.txt                            (a line each: plugin billing; or JSON, see docs/pki.md)")]
pub(crate) struct Arguments {
    /// `gateway`, `plugin`, or `pki` for a CA server.
    #[arg(required_unless_present = "from")]
    role: Option<String>,
    /// Whom the certificates speak for: 1 to 63 of a-z 0-9 -.
    #[arg(required_unless_present = "from", value_name = "NAME")]
    names: Vec<String>,
    /// How long they live: 10s to 90d; never longer than the issuing CA.
    #[arg(long, env = "GAPURA_PKI_TTL", value_parser = duration, value_name = "TIME")]
    ttl: Option<Duration>,
    /// A DNS name beside NAME.plugin.TRUST-DOMAIN (may be repeated).
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Certify the key of this signing request (PEM or DER, `-` for stdin); only its public key is
    /// used.
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// The mesh directory; with several names or --from, the folder of their directories.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Issue everything in this file (`-` for stdin), or nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "names", "csr", "dns"])]
    from: Option<PathBuf>,
    /// Do everything but write.
    #[arg(long)]
    dry_run: bool,
}

/// One entry of a `--from` file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    role: String,
    name: String,
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default)]
    dns: Vec<String>,
    #[serde(default)]
    csr: Option<PathBuf>,
    #[serde(default)]
    out: Option<PathBuf>,
}

pub(crate) fn run(pki: &Pki, arguments: Arguments) -> Result<Report, Error> {
    let requests = requests(&arguments)?;
    let issued = pki.issue_all(&requests, arguments.dry_run)?;
    let mut text = String::new();
    let verb = if arguments.dry_run {
        "would issue"
    } else {
        "issued"
    };
    if let [one] = issued.as_slice() {
        text = describe(one, verb);
    } else {
        for one in &issued {
            line(
                &mut text,
                format_args!(
                    "{verb} {:<24} {}  until {}  {}",
                    one.leaf.label(),
                    one.leaf.serial,
                    one.leaf.not_after,
                    one.leaf.out.display()
                ),
            );
        }
        line(
            &mut text,
            format_args!("{} certificates, all verified", issued.len()),
        );
    }
    let list: Vec<Value> = issued.iter().map(issued_json).collect();
    Ok(Report::done(
        json!({ "issued": list, "dry_run": arguments.dry_run }),
        text,
    ))
}

/// A leaf for people.
pub(crate) fn describe(one: &Issued, verb: &str) -> String {
    let leaf = &one.leaf;
    let mut text = format!("{verb}  {}  {}\n", leaf.label(), one.id);
    line(
        &mut text,
        format_args!("  serial    {}   issuer {}", leaf.serial, leaf.issuer),
    );
    line(
        &mut text,
        format_args!(
            "  valid     {} to {} ({})",
            leaf.not_before,
            leaf.not_after,
            for_people(leaf.not_after.since(leaf.not_before))
        ),
    );
    if one.generation > 0 {
        let key = if one.key_published { "key 0600, " } else { "" };
        line(
            &mut text,
            format_args!(
                "  files     {}/current -> gen-{:06}   {key}cert, ca, crl",
                leaf.out.display(),
                one.generation
            ),
        );
    }
    let purpose = if leaf.role == Role::Gateway {
        "clientAuth"
    } else {
        "serverAuth"
    };
    line(
        &mut text,
        format_args!("  verified  chain ok, id ok, EKU {purpose} ok"),
    );
    for note in &one.notes {
        line(&mut text, format_args!("  note      {note}"));
    }
    text
}

/// A leaf as JSON.
pub(crate) fn issued_json(one: &Issued) -> Value {
    let leaf = &one.leaf;
    json!({
        "role": leaf.role.as_str(), "name": leaf.name.as_str(), "id": one.id.to_string(), "serial": leaf.serial, "issuer": leaf.issuer,
        "not_before": leaf.not_before, "not_after": leaf.not_after, "ttl_seconds": leaf.not_after.since(leaf.not_before) - leaf.backdated(),
        "dns": leaf.dns, "out": leaf.out, "generation": one.generation, "key_published": one.key_published, "sha256": leaf.fingerprint,
        "notes": one.notes,
    })
}

fn requests(arguments: &Arguments) -> Result<Vec<IssueRequest>, Error> {
    if let Some(path) = &arguments.from {
        return from_file(path, arguments.ttl, arguments.out.as_deref());
    }
    let role = role(arguments.role.as_deref().unwrap_or_default())?;
    let several = arguments.names.len() > 1;
    if several && arguments.csr.is_some() {
        return Err(Error::Usage(
            "--csr is of one key, so it goes with one NAME".to_owned(),
        ));
    }
    let one = |text: &String| {
        let name = name(role, text)?;
        let key = arguments
            .csr
            .as_deref()
            .map(read)
            .transpose()?
            .map_or(KeyWanted::New, KeyWanted::Csr);
        let out = arguments.out.as_ref().map(|out| {
            if several {
                out.join(name.as_str())
            } else {
                out.clone()
            }
        });
        Ok(IssueRequest {
            role,
            name,
            ttl: arguments.ttl,
            dns: arguments.dns.clone(),
            key,
            out,
        })
    };
    arguments.names.iter().map(one).collect()
}

/// What a `--from` file asks for; `ttl` and `out` are for entries that say none.
pub(crate) fn from_file(
    path: &Path,
    ttl: Option<Duration>,
    out: Option<&Path>,
) -> Result<Vec<IssueRequest>, Error> {
    let found = entries(path)?;
    found
        .into_iter()
        .map(|(at, entry)| {
            entry
                .request(ttl, out)
                .map_err(|why| in_file(path, at, &why))
        })
        .collect()
}

impl Entry {
    fn request(self, ttl: Option<Duration>, out: Option<&Path>) -> Result<IssueRequest, Error> {
        let role = role(&self.role)?;
        let name = name(role, &self.name)?;
        let ttl = self.ttl.as_deref().map(parse_duration).transpose()?.or(ttl);
        let key = self
            .csr
            .as_deref()
            .map(read)
            .transpose()?
            .map_or(KeyWanted::New, KeyWanted::Csr);
        let out = self.out.or_else(|| out.map(|out| out.join(name.as_str())));
        Ok(IssueRequest {
            role,
            name,
            ttl,
            dns: self.dns,
            key,
            out,
        })
    }
}

/// The entries of a `--from` file with the line (or place in the list) of each: a JSON list, JSON
/// lines, or lines of `ROLE NAME [OUT]`.
fn entries(path: &Path) -> Result<Vec<(usize, Entry)>, Error> {
    let text = String::from_utf8(read(path)?)
        .map_err(|_| Error::Usage(format!("{}: not text", path.display())))?;
    if text.trim_start().starts_with('[') {
        let list: Vec<Entry> = serde_json::from_str(&text)
            .map_err(|why| Error::Usage(format!("{}: {why}", path.display())))?;
        return Ok(list
            .into_iter()
            .enumerate()
            .map(|(at, entry)| (at + 1, entry))
            .collect());
    }
    let mut found = Vec::new();
    for (at, line) in text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
    {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = if line.starts_with('{') {
            serde_json::from_str(line).map_err(|why| in_file(path, at, &why))?
        } else {
            let mut words = line.split_whitespace().map(str::to_owned);
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(role), Some(name), out, None) => Entry {
                    role,
                    name,
                    ttl: None,
                    dns: Vec::new(),
                    csr: None,
                    out: out.map(PathBuf::from),
                },
                _ => {
                    return Err(in_file(
                        path,
                        at,
                        &format!("`{line}` is not `ROLE NAME [OUT]`"),
                    ));
                }
            }
        };
        found.push((at, entry));
    }
    if found.is_empty() {
        Err(Error::Usage(format!(
            "{}: nothing to issue in it",
            path.display()
        )))
    } else {
        Ok(found)
    }
}

fn in_file(path: &Path, at: usize, why: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!(
        "{}, entry at {at}: {why}; nothing was issued",
        path.display()
    ))
}

fn role(text: &str) -> Result<Role, Error> {
    text.parse()
        .map_err(|_| Error::Usage(format!("{text:?} is not a role; say `gateway`, `plugin` or `pki`, e.g. gapura-pki issue plugin billing")))
}

fn name(role: Role, text: &str) -> Result<Name, Error> {
    text.parse().map_err(|why| {
        Error::Usage(format!(
            "{text:?} is not a name: {why}; e.g. gapura-pki issue {role} billing"
        ))
    })
}

/// The bytes of a file, or of stdin for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    if path == Path::new("-") {
        given::read_stream(std::io::stdin(), "standard input")
    } else {
        given::read(path)
    }
}
