//! The commands, one file each: flags to a call of the library, its answer to a [`Report`].

mod adopt;
mod after;
mod backup;
mod bundle;
mod ca;
mod check;
mod crl;
mod csr;
mod ensure;
mod forget;
mod global;
mod init;
mod inspect;
mod issue;
mod lint;
mod list;
mod passphrase;
mod renew;
mod report;
mod revoke;
mod token;
mod verify;

use after::After;
use clap::Subcommand;
use gapura_pki::Error;
use global::publishing;

pub(crate) use global::Global;
pub(crate) use report::{Report, error_to_json};

/// Shown under `gapura-pki --help`.
pub(crate) const FIRST_DAY: &str = "\
The first day:
  umask 077; openssl rand -base64 33 > /root/gapura-pki.pass
  gapura-pki --dir /var/lib/gapura/pki init --trust-domain mylab.internal --passphrase-file /root/gapura-pki.pass
  gapura-pki issue gateway edge --out /etc/gapura/edge --passphrase-file /root/gapura-pki.pass
  gapura-pki issue plugin lab-reporting --out /etc/gapura/lab-reporting --passphrase-file /root/gapura-pki.pass
  gapura-pki check";

#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Ensure(ensure::Arguments),
    Issue(issue::Arguments),
    Csr(csr::Arguments),
    Token(token::Arguments),
    Renew(renew::Arguments),
    Revoke(revoke::Arguments),
    Crl(crl::Arguments),
    Ca(ca::Arguments),
    Bundle(bundle::Arguments),
    List(list::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Lint(lint::Arguments),
    Check(check::Arguments),
    Forget(forget::Arguments),
    Adopt(adopt::Arguments),
    Passphrase(passphrase::Arguments),
    Backup(backup::BackupArguments),
    Restore(backup::RestoreArguments),
    Inventory(backup::InventoryArguments),
}

impl Command {
    /// The word that was typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Ensure(_) => "ensure",
            Self::Issue(_) => "issue",
            Self::Csr(_) => "csr",
            Self::Token(_) => "token",
            Self::Renew(_) => "renew",
            Self::Revoke(_) => "revoke",
            Self::Crl(_) => "crl",
            Self::Ca(_) => "ca",
            Self::Bundle(_) => "bundle",
            Self::List(_) => "list",
            Self::Inspect(_) => "inspect",
            Self::Verify(_) => "verify",
            Self::Lint(_) => "lint",
            Self::Check(_) => "check",
            Self::Forget(_) => "forget",
            Self::Adopt(_) => "adopt",
            Self::Passphrase(_) => "passphrase",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Inventory(_) => "inventory",
        }
    }
}

impl Command {
    /// Whether it may change mesh directories.
    fn writes_directories(&self) -> bool {
        match self {
            Self::Ensure(_)
            | Self::Issue(_)
            | Self::Renew(_)
            | Self::Revoke(_)
            | Self::Ca(_)
            | Self::Adopt(_) => true,
            Self::Crl(arguments) => arguments.is_refresh(),
            _ => false,
        }
    }

    /// Whether it looks after the whole installation, so that its success is one of the
    /// installation's.
    fn is_for_all(&self) -> bool {
        match self {
            Self::Ensure(_) => true,
            Self::Renew(arguments) => arguments.is_for_all(),
            Self::Crl(arguments) => arguments.is_refresh(),
            _ => false,
        }
    }
}

/// Runs one command, and then what was asked for after it for each mesh directory that changed.
pub(crate) fn run(global: Global, command: Command) -> Result<Report, Error> {
    if !command.writes_directories() {
        return run_alone(global, command);
    }
    let after = After::of(&global)?; // a mistake in it is told before anything is done
    let counts = command.is_for_all();
    let mut report = run_alone(global, command)?;
    after.run(&mut report, counts)?;
    Ok(report)
}

fn run_alone(global: Global, command: Command) -> Result<Report, Error> {
    match command {
        Command::Init(arguments) => init::run(global, arguments),
        Command::Ensure(arguments) => ensure::run(global, arguments),
        Command::Issue(arguments) => publishing(&global.open()?, |pki| issue::run(pki, arguments)),
        Command::Csr(arguments) => csr::run(global, arguments),
        Command::Token(arguments) => token::run(&global.open()?, arguments),
        Command::Renew(arguments) => publishing(&global.open()?, |pki| renew::run(pki, arguments)),
        Command::Revoke(arguments) => {
            publishing(&global.open()?, |pki| revoke::run(pki, arguments))
        }
        Command::Crl(arguments) => crl::run(global, arguments),
        Command::Ca(arguments) => publishing(&global.open()?, |pki| ca::run(pki, arguments)),
        Command::Bundle(arguments) => bundle::run(global, arguments),
        Command::List(arguments) => list::run(&global.open()?, arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Verify(arguments) => verify::run(global, arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Check(arguments) => check::run(&global.open()?, &arguments),
        Command::Forget(arguments) => forget::run(&global.open()?, &arguments),
        Command::Adopt(arguments) => publishing(&global.open()?, |pki| adopt::run(pki, &arguments)),
        Command::Passphrase(arguments) => passphrase::run(global, arguments),
        Command::Backup(arguments) => backup::run_backup(&global.open()?, &arguments),
        Command::Restore(arguments) => backup::run_restore(&global, &arguments),
        Command::Inventory(arguments) => backup::run_inventory(&global.open()?, &arguments),
    }
}
