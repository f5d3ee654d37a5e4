//! What was asked for: the flags, with their files read and their addresses looked up.
//!
//! In: flags. Out: an [`Asked`], or a sentence. Sends nothing.

use std::net::SocketAddr;
use std::path::Path;

use gapura_files::file;

use super::flags::ProveFlags;
use super::forge::{Given, TokenKey};
use super::leave;
use super::target::{Target, look_up};
use crate::error::Error;

/// The longest file with a token or a key.
const FILE_MOST: u64 = 64 * 1024;

/// What was given, read and checked.
pub(super) struct Asked {
    pub(super) target: Target,
    pub(super) good: Given,
    pub(super) other: Option<String>,
    pub(super) key: Option<TokenKey>,
    pub(super) sidecar: Option<SocketAddr>,
}

/// Reads all of it.
///
/// # Errors
/// For what can't be read, is not what it should be, or may not be attacked.
pub(super) fn read(flags: &ProveFlags) -> Result<Asked, Error> {
    let target = Target::read(
        flags.url.as_deref().unwrap_or_default(),
        flags.ca.as_deref(),
    )?;
    let good = flags.token_file.as_deref().unwrap_or(Path::new(""));
    let text = token(good, "--token-file")?;
    let good = Given::read(&text).ok_or_else(|| {
        Error::Refused(format!(
            "--token-file {}: holds no signed JWT",
            good.display()
        ))
    })?;
    let other = flags
        .other_token_file
        .as_deref()
        .map(|file| token(file, "--other-token-file"))
        .transpose()?;
    let key = flags.token_key.as_deref().map(|file| {
        let refused =
            |why: String| Error::Refused(format!("--token-key {}: {why}", file.display()));
        let (bytes, _) = file::read(file, FILE_MOST)
            .map_err(|err| Error::Refused(format!("--token-key {err}")))?;
        TokenKey::read(&bytes, good.alg()).map_err(refused)
    });
    let sidecar = flags.sidecar.as_deref().map(|text| {
        let refused = || Error::Refused(format!("--sidecar {text}: write HOST:PORT"));
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = look_up(host, port.parse().map_err(|_| refused())?)?;
        leave::for_sidecar(host, address.ip(), &flags.i_may_test).map(|_| address)
    });
    Ok(Asked {
        target,
        good,
        other,
        key: key.transpose()?,
        sidecar: sidecar.transpose()?,
    })
}

fn token(file: &Path, flag: &str) -> Result<String, Error> {
    let (bytes, _) =
        file::read(file, FILE_MOST).map_err(|err| Error::Refused(format!("{flag} {err}")))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let text = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    sound
        .then(|| text.to_owned())
        .ok_or_else(|| Error::Refused(format!("{flag} {}: holds no token", file.display())))
}
