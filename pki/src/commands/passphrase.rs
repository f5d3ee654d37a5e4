//! `passphrase change`: every CA key under another passphrase.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use gapura_pki::passphrase::Source;
use gapura_pki::seal::PassphraseChange;
use gapura_pki::{Error, KeyProtection};
use serde_json::json;

use crate::commands::global::Global;
use crate::commands::report::{Report, line};

/// Change the passphrase of the CA keys.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Seal every CA key anew.
    ///
    /// --passphrase-file, -fd and -command (and --root-passphrase-file) say the old one, the flags
    /// here the new one. No key is touched before all of them opened. A change that was interrupted
    /// is finished by the same command; backups keep the passphrase they had.
    #[command(after_help = "Examples:
  gapura-pki passphrase change --passphrase-file old.pass --new-passphrase-file new.pass
  gapura-pki passphrase change --offline-root /media/usb/root --passphrase-file old.pass --new-passphrase-file new.pass")]
    Change(Change),
}

#[derive(Args)]
#[command(group = ArgGroup::new("new"))]
struct Change {
    /// The new passphrase is in this file.
    #[arg(long, group = "new", value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// The new passphrase can be read from this open descriptor.
    #[arg(long, group = "new", value_name = "N")]
    new_passphrase_fd: Option<u32>,
    /// This shell command prints the new passphrase.
    #[arg(long, group = "new", value_name = "COMMAND")]
    new_passphrase_command: Option<String>,
    /// The CA keys are to be kept in the clear.
    #[arg(long, group = "new")]
    new_plaintext_keys: bool,
    /// The roots' keys get a passphrase of their own, in this file.
    #[arg(long, value_name = "FILE")]
    new_root_passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(global: Global, arguments: Arguments) -> Result<Report, Error> {
    let What::Change(change) = arguments.what;
    let wanted = change.wanted()?;
    if global.root_protection().is_some() && wanted.new_for_roots.is_none() {
        return Err(Error::Usage(
            "the roots' keys have a passphrase of their own; say their new one too, with --new-root-passphrase-file F"
                .to_owned(),
        ));
    }
    let done = global.open()?.change_passphrase(&wanted)?;
    let mut text = String::new();
    for (verb, ids) in [
        ("changed", &done.changed),
        ("as wanted already", &done.already),
        (
            "left: neither passphrase opens it, and nobody needs it",
            &done.left,
        ),
    ] {
        for id in ids {
            line(&mut text, format_args!("{id}  {verb}"));
        }
    }
    for id in &done.away {
        line(
            &mut text,
            format_args!(
                "{id}  STILL UNDER THE OLD PASSPHRASE: its key is kept elsewhere; repeat this with --offline-root DIR"
            ),
        );
    }
    line(
        &mut text,
        format_args!("backups keep the passphrase they were made under; make a new one"),
    );
    let json = json!({
        "changed": done.changed, "already": done.already, "away": done.away, "left": done.left,
    });
    Ok(Report {
        json,
        text,
        exit: if done.away.is_empty() { 0 } else { 3 },
    })
}

impl Change {
    fn wanted(self) -> Result<PassphraseChange, Error> {
        let source = match (
            self.new_passphrase_file,
            self.new_passphrase_fd,
            self.new_passphrase_command,
        ) {
            (Some(file), _, _) => Some(Source::File(file)),
            (_, Some(number), _) => Some(Source::Descriptor(number)),
            (_, _, Some(command)) => Some(Source::Command(command)),
            (None, None, None) => None,
        };
        let new = match source {
            Some(source) => KeyProtection::from_source(source),
            None if self.new_plaintext_keys => KeyProtection::Plaintext,
            None if std::io::stdin().is_terminal() => {
                KeyProtection::from_source(Source::Terminal(true))
            }
            None => {
                return Err(Error::Usage(
                    "say the new passphrase: --new-passphrase-file F, --new-passphrase-fd N, --new-passphrase-command C, or --new-plaintext-keys to keep the keys in the clear"
                        .to_owned(),
                ));
            }
        };
        Ok(PassphraseChange {
            new,
            new_for_roots: self
                .new_root_passphrase_file
                .map(|file| KeyProtection::from_source(Source::File(file))),
        })
    }
}
