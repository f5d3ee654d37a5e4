//! The flags that every command has, and what they open: the state directory, with the passphrase
//! they name.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gapura_pki::passphrase::Source;
use gapura_pki::timestamp::parse_duration;
use gapura_pki::{Error, KeyProtection, Pki};
use gapura_protocol::clock::Clock;

use crate::commands::report::Report;

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
    pub(super) dir: PathBuf,
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
    pub(super) passphrase_file: Option<PathBuf>,
    /// The passphrase can be read from this open descriptor.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PASSPHRASE_FD",
        value_name = "N",
        group = "passphrase"
    )]
    pub(super) passphrase_fd: Option<u32>,
    /// This shell command prints the passphrase.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PASSPHRASE_COMMAND",
        value_name = "COMMAND",
        group = "passphrase"
    )]
    pub(super) passphrase_command: Option<String>,
    /// The CA keys are kept in the clear.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_PLAINTEXT_KEYS",
        group = "passphrase"
    )]
    pub(super) plaintext_keys: bool,
    /// The roots' keys are kept in this folder, not in the state directory.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_OFFLINE_ROOT",
        value_name = "DIR"
    )]
    pub(super) offline_root: Option<PathBuf>,
    /// The roots' keys have a passphrase of their own, in this file.
    #[arg(
        long,
        global = true,
        env = "GAPURA_PKI_ROOT_PASSPHRASE_FILE",
        value_name = "FILE"
    )]
    pub(super) root_passphrase_file: Option<PathBuf>,
    /// Issue although the inventory has lines of the future: the clock is right now, and was wrong
    /// then.
    #[arg(long, global = true)]
    pub(super) clock_is_right: bool,
    /// How long to wait for another run to end.
    #[arg(long, global = true, env = "GAPURA_PKI_LOCK_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(super) lock_timeout: Duration,
    /// Run this command for each mesh directory that changed, to bring it to where it is used; no
    /// shell. See docs/pki.md.
    #[arg(long, global = true, env = "GAPURA_PKI_PUSH", value_name = "COMMAND")]
    pub(super) push: Option<String>,
    /// Run this command for each mesh directory that changed, after it was pushed; no shell.
    #[arg(long, global = true, env = "GAPURA_PKI_EXEC", value_name = "COMMAND")]
    pub(super) exec: Option<String>,
}

/// Runs a command that publishes, and adds to its report what it met on the way that the inventory
/// did not know.
pub(super) fn publishing(
    pki: &Pki,
    command: impl FnOnce(&Pki) -> Result<Report, Error>,
) -> Result<Report, Error> {
    let mut report = command(pki)?;
    report.add_adopted(&pki.adopted());
    Ok(report)
}

impl Global {
    /// The state directory.
    pub(super) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The passphrase source that was named, if any.
    pub(super) fn named_protection(&self) -> Option<KeyProtection> {
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
    pub(super) fn root_protection(&self) -> Option<KeyProtection> {
        self.root_passphrase_file
            .clone()
            .map(|file| KeyProtection::from_source(Source::File(file)))
    }

    pub(super) fn open(self) -> Result<Pki, Error> {
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
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|why| why.to_string())
}
