//! Where the passphrase of the CA keys comes from: a file, a descriptor, a command or a person,
//! never an argument or the environment.
//!
//! It is asked for when a key has to be opened and not before, so that `list` and `check` need
//! none.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use gapura_files::file::{self, FileError};
use zeroize::Zeroizing;

use crate::error::Error;

/// How the keys of the CAs are kept.
pub enum KeyProtection {
    /// In the clear, readable by their owner only. For development, or a disk that is encrypted
    /// itself.
    Plaintext,
    /// Under this passphrase.
    Passphrase(Zeroizing<String>),
    /// Under the passphrase that the source gives when it is first needed.
    From(Source, OnceLock<Zeroizing<String>>),
}

/// Who knows the passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file; one trailing newline is not part of it.
    File(PathBuf),
    /// An open descriptor of this process.
    Descriptor(u32),
    /// A shell command that prints it.
    Command(String),
    /// A person at the terminal; `true`: asked twice, because it is a new one.
    Terminal(bool),
}

impl KeyProtection {
    /// Under the passphrase that `source` will give.
    #[must_use]
    pub fn from_source(source: Source) -> Self {
        Self::From(source, OnceLock::new())
    }

    /// Whether nobody said anything and the terminal would be asked.
    pub(crate) fn is_unsaid(&self) -> bool {
        matches!(self, Self::From(Source::Terminal(false), _))
    }

    /// The passphrase; `None` for keys in the clear.
    ///
    /// # Errors
    /// The source can't be read, or gives an empty passphrase.
    pub fn passphrase(&self) -> Result<Option<Zeroizing<String>>, Error> {
        match self {
            Self::Plaintext => Ok(None),
            Self::Passphrase(passphrase) => Ok(Some(passphrase.clone())),
            Self::From(source, known) => {
                if let Some(known) = known.get() {
                    return Ok(Some(known.clone()));
                }
                let passphrase = source.ask()?;
                if passphrase.is_empty() {
                    return Err(Error::Passphrase(format!(
                        "{source} gives an empty passphrase"
                    )));
                }
                Ok(Some(known.get_or_init(|| passphrase).clone()))
            }
        }
    }
}

/// Tells how, never what.
impl fmt::Debug for KeyProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("Plaintext"),
            Self::Passphrase(_) => f.write_str("Passphrase(..)"),
            Self::From(source, _) => write!(f, "From({source:?})"),
        }
    }
}

impl Source {
    fn ask(&self) -> Result<Zeroizing<String>, Error> {
        match self {
            Self::File(path) => text(&read_secret(path)?),
            Self::Descriptor(number) => text(&read_descriptor(*number)?),
            Self::Command(command) => {
                let run = Command::new("sh")
                    .arg("-c")
                    .arg(command)
                    .stdin(Stdio::null())
                    .stderr(Stdio::inherit())
                    .output();
                let run = run.map_err(|why| {
                    Error::Passphrase(format!("the passphrase command can't be started: {why}"))
                })?;
                let said = Zeroizing::new(run.stdout);
                if !run.status.success() {
                    return Err(Error::Passphrase(format!(
                        "the passphrase command failed ({})",
                        run.status
                    )));
                }
                text(&said)
            }
            Self::Terminal(twice) => {
                if !std::io::stdin().is_terminal() {
                    let ways = "--passphrase-file F, --passphrase-fd N or --passphrase-command C";
                    return Err(Error::Passphrase(format!(
                        "the CA key is encrypted and there is no terminal to ask; give {ways}"
                    )));
                }
                let ask = |prompt: &str| {
                    let asked = rpassword::prompt_password(prompt).map(Zeroizing::new);
                    asked.map_err(|why| {
                        Error::Passphrase(format!("the terminal can't be asked: {why}"))
                    })
                };
                let first = ask(if *twice {
                    "New passphrase for the CA keys: "
                } else {
                    "Passphrase for the CA keys: "
                })?;
                if *twice && *ask("The same again: ")? != *first {
                    return Err(Error::Passphrase("the two passphrases differ".to_owned()));
                }
                Ok(first)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Descriptor(number) => write!(f, "descriptor {number}"),
            Self::Command(_) => f.write_str("the passphrase command"),
            Self::Terminal(_) => f.write_str("the terminal"),
        }
    }
}

/// The longest passphrase that is read: it is a line, and `/dev/zero` has no end.
const LONGEST: u64 = 64 * 1024;

/// Reads a file by the rule for every secret: nobody but its owner may read it, or its group where
/// root owns it.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    file::read_secret(path, LONGEST)
        .map(|(bytes, _)| bytes)
        .map_err(|why| {
            let then = match why {
                FileError::KeyOpen(..) => {
                    ", and change the passphrase if somebody may have read it"
                }
                FileError::NotAFile(_) => "; a pipe can be given with --passphrase-fd",
                FileError::TooLarge(..) => "; a passphrase is one line",
                _ => "",
            };
            Error::Passphrase(format!("{why}{then}"))
        })
}

/// Reads an open descriptor, which may well be a pipe.
fn read_descriptor(number: u32) -> Result<Zeroizing<Vec<u8>>, Error> {
    let cannot = |why: std::io::Error| Error::Passphrase(format!("descriptor {number}: {why}"));
    // Opening it by name needs no unsafe code, and works for pipes as well as for files.
    let stream = File::open(format!("/proc/self/fd/{number}")).map_err(cannot)?;
    let mut bytes = Zeroizing::new(Vec::new());
    stream
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::Passphrase(format!(
            "descriptor {number} gives more than {LONGEST} bytes; a passphrase is one line"
        )));
    }
    Ok(bytes)
}

/// Takes off one newline, which every editor and `echo` adds.
fn text(bytes: &[u8]) -> Result<Zeroizing<String>, Error> {
    let whole = std::str::from_utf8(bytes)
        .map_err(|_| Error::Passphrase("the passphrase is not UTF-8".to_owned()))?;
    let line = whole
        .strip_suffix('\n')
        .map_or(whole, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        secret(&path, "hidden");
        let ours = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap());
        for mode in [0o400, 0o600, 0o604, 0o602, 0o620, 0o640, 0o660, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let good = mode & 0o077 == 0 || (mode == 0o640 && ours == 0);
            match asked(Source::File(path.clone())) {
                Ok(text) => assert!(good && text == "hidden", "{mode:o}"),
                Err(why) => {
                    assert!(!good, "{mode:o}: {why}");
                    assert_eq!(why.exit_code(), 7);
                    let said = why.to_string();
                    assert!(
                        said.contains("chmod 600") && !said.contains("hidden"),
                        "{said}"
                    );
                }
            }
        }
    }

    fn asked(source: Source) -> Result<String, Error> {
        Ok(KeyProtection::from_source(source)
            .passphrase()?
            .unwrap()
            .to_string())
    }

    #[test]
    fn a_file_and_a_command_give_their_text_without_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        secret(&path, "two words \n");
        assert_eq!(asked(Source::File(path)).unwrap(), "two words ");
        assert_eq!(
            asked(Source::Command("printf 'a\\n\\n'".to_owned())).unwrap(),
            "a\n"
        );
    }

    #[test]
    fn an_absent_empty_or_failing_source_is_a_passphrase_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        secret(&path, "\n");
        for source in [
            Source::File(path),
            Source::File(dir.path().join("none")),
            Source::Command("false".to_owned()),
            Source::Descriptor(999),
        ] {
            assert!(matches!(asked(source), Err(Error::Passphrase(_))));
        }
    }

    #[test]
    fn debug_output_never_shows_it() {
        let protection = KeyProtection::Passphrase(Zeroizing::new("hidden".to_owned()));
        assert!(!format!("{protection:?}").contains("hidden"));
    }
}
