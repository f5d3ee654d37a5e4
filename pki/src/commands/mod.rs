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
mod init;
mod inspect;
mod issue;
mod lint;
mod list;
mod passphrase;
mod renew;
mod report;
mod revoke;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use after::After;
use clap::{Args, Subcommand};
use gapura_mesh::clock::Clock;
use gapura_pki::moment::parse_duration;
use gapura_pki::passphrase::Source;
use gapura_pki::{Error, KeyProtection, Pki};

pub(crate) use report::{Report, error_to_json};

/// Shown under `gapura-pki --help`.
pub(crate) const FIRST_DAY: &str = "\
The first day:
  umask 077; openssl rand -base64 33 > /root/gapura-pki.pass
  gapura-pki --dir /var/lib/gapura/pki init --trust-domain mylab.internal --passphrase-file /root/gapura-pki.pass
  gapura-pki issue gateway edge --out /etc/gapura/edge --passphrase-file /root/gapura-pki.pass
  gapura-pki issue plugin lab-reporting --out /etc/gapura/lab-reporting --passphrase-file /root/gapura-pki.pass
  gapura-pki check";

/// Flags of every command.
#[derive(Args)]
pub(crate) struct Global {
    /// The state directory.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_DIR",
        default_value = "/var/lib/gapura/pki",
        value_name = "DIR"
    )]
    dir: PathBuf,
    /// One JSON object on stdout, with stable keys.
    #[arg(long, global = true, env = "GAPURA_PKI_JSON")]
    pub(crate) json: bool,
    /// The passphrase of the CA keys is in this file.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PASSPHRASE_FILE",
        value_name = "FILE",
        group = "passphrase"
    )]
    passphrase_file: Option<PathBuf>,
    /// The passphrase can be read from this open descriptor.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PASSPHRASE_FD",
        value_name = "N",
        group = "passphrase"
    )]
    passphrase_fd: Option<u32>,
    /// This shell command prints the passphrase.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PASSPHRASE_COMMAND",
        value_name = "COMMAND",
        group = "passphrase"
    )]
    passphrase_command: Option<String>,
    /// The CA keys are kept in the clear.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PLAINTEXT_KEYS",
        group = "passphrase"
    )]
    plaintext_keys: bool,
    /// The roots' keys are kept in this folder, not in the state directory.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_OFFLINE_ROOT",
        value_name = "DIR"
    )]
    offline_root: Option<PathBuf>,
    /// The roots' keys have a passphrase of their own, in this file.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_ROOT_PASSPHRASE_FILE",
        value_name = "FILE"
    )]
    root_passphrase_file: Option<PathBuf>,
    /// Issue although the inventory has lines of the future: the clock is right now, and was wrong then.
    #[arg(long, global = true)]
    clock_is_right: bool,
    /// How long to wait for another run to end.
    #[arg(long, global = true, env = "GAPURA_PKI_LOCK_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "TIME")]
    lock_timeout: Duration,
    /// Run this command for each mesh directory that changed, to bring it to where it is used; no shell. See docs/pki.md.
    #[arg(long, global = true, env = "GAPURA_PKI_PUSH", value_name = "COMMAND")]
    push: Option<String>,
    /// Run this command for each mesh directory that changed, after it was pushed; no shell.
    #[arg(long, global = true, env = "GAPURA_PKI_EXEC", value_name = "COMMAND")]
    exec: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Ensure(ensure::Arguments),
    Issue(issue::Arguments),
    Csr(csr::Arguments),
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

    /// Whether it looks after the whole installation, so that its success is one of the installation's.
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

/// Runs a command that publishes, and adds to its report what it met on the way that the inventory did not know.
pub(crate) fn publishing(
    pki: &Pki,
    command: impl FnOnce(&Pki) -> Result<Report, Error>,
) -> Result<Report, Error> {
    let mut report = command(pki)?;
    report.add_adopted(&pki.adopted());
    Ok(report)
}

impl Global {
    /// The state directory.
    fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The passphrase source that was named, if any.
    fn named_protection(&self) -> Option<KeyProtection> {
        let source = match (
            &self.passphrase_file,
            self.passphrase_fd,
            &self.passphrase_command,
        ) {
            (Some(file), _, _) => Source::File(file.clone()),
            (_, Some(number), _) => Source::Descriptor(number),
            (_, _, Some(command)) => Source::Command(command.clone()),
            (None, None, None) if self.plaintext_keys => return Some(KeyProtection::Plaintext),
            (None, None, None) => return None,
        };
        Some(KeyProtection::from_source(source))
    }

    /// What opens the roots' keys, when not the same passphrase.
    fn root_protection(&self) -> Option<KeyProtection> {
        self.root_passphrase_file
            .clone()
            .map(|file| KeyProtection::from_source(Source::File(file)))
    }

    fn open(self) -> Result<Pki, Error> {
        // Without a flag the terminal is asked, and only when an encrypted key has to be opened.
        let protection = self
            .named_protection()
            .unwrap_or_else(|| KeyProtection::from_source(Source::Terminal(false)));
        let root_protection = self.root_protection();
        let pki = Pki::open(&self.dir, protection, &Clock::system())?;
        Ok(pki
            .with_patience(self.lock_timeout)
            .with_clock_said_right(self.clock_is_right)
            .with_offline_root(self.offline_root, root_protection))
    }
}

/// For clap: a length of time.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|why| why.to_string())
}
