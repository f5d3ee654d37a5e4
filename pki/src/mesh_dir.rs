//! The mesh directories that the CA writes: the generations of `gapura_files`, each within a time
//! limit and behind this crate's gate.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FileType;
use zeroize::Zeroizing;

use crate::disk::GATE;
use crate::error::Error;
use crate::held_dir;
use crate::parallel;
use crate::store::Durability;

pub(crate) use gapura_files::mesh_dir::{
    Content, Current, Staged, advance, complete, half_made, is_used, shown, stage_in, sweep,
    trust_print,
};

/// How long the work on one directory may take: as long as its handle serves, and a little to say
/// so.
pub(crate) const LIMIT: Duration = held_dir::LIMIT.saturating_add(Duration::from_secs(2));

/// Writes and syncs the next generation of `dir` without showing it to anyone.
pub(crate) fn stage(
    dir: &Path,
    content: &Content,
    durability: Durability,
) -> Result<Staged, Error> {
    Ok(gapura_files::mesh_dir::stage(
        dir, content, durability, GATE,
    )?)
}

/// Reads what `dir` shows; `None` when there is no such directory or no certificate in it.
pub(crate) fn current(dir: &Path) -> Result<Option<Current>, Error> {
    within(dir, |dir| match held_dir::open(dir)? {
        Some(held) => Ok(shown(&held)?),
        None => Ok(None),
    })
}

/// Does `work` on one directory, for as long as one may take.
pub(crate) fn within<R: Send + 'static>(
    dir: &Path,
    work: impl Fn(&Path) -> Result<R, Error> + Send + Sync + 'static,
) -> Result<R, Error> {
    let late = |_| Err(held_dir::late(dir));
    let done = parallel::each_within(vec![dir.to_owned()], LIMIT, move |dir| work(&dir), late)?;
    done.into_iter()
        .next()
        .unwrap_or_else(|| Err(held_dir::late(dir)))
}

/// The key of the certificate that a mesh directory shows.
pub(crate) fn current_key(dir: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match current(dir)? {
        Some(shown) if shown.has_wrong_key() => Err(Error::damaged(
            &dir.join("key.pem"),
            "it is not the key of the certificate beside it; issue with a new key",
        )),
        Some(shown) => Ok(shown.key),
        None => Ok(None),
    }
}

/// A key in a mesh directory, with or without a certificate, that `fits`: what a request was made
/// for.
pub(crate) fn key_that(
    dir: &Path,
    fits: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    within(dir, move |dir| {
        let Some(held) = held_dir::open(dir)? else {
            return Ok(None);
        };
        let plain = match held.kind("key.pem")? {
            Some(FileType::Symlink) | None => None,
            Some(_) => held.read("key.pem")?.map(|(key, _)| Zeroizing::new(key)),
        };
        match plain.filter(|key| fits(key)) {
            Some(key) => Ok(Some(key)),
            None => Ok(shown(&held)?
                .and_then(|shown| shown.key)
                .filter(|key| fits(key))),
        }
    })
}

/// Makes up for what a batch put off: everything that was written in `dirs` outlives a power cut.
pub(crate) fn sync_batch<'a>(
    durability: Durability,
    dirs: impl Iterator<Item = &'a Path>,
) -> Result<(), Error> {
    if durability == Durability::Now {
        return Ok(());
    }
    let mut done = HashSet::new();
    for dir in dirs {
        if let Some(held) = held_dir::open(dir)?
            && done.insert(held.identity().0)
        {
            held.sync_file_system()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
