//! The settings of what must outlast a restart, which both programs have.

use std::path::PathBuf;

use super::Layers;

/// `--state-dir`, and the issuers of `--accept-crl-reset`, which says nothing without it.
pub fn state(layers: &mut Layers) -> (Option<PathBuf>, Vec<String>) {
    let dir = layers.one("state-dir").map(|found| found.text.into());
    let resets = layers.all("accept-crl-reset").to_vec();
    if let (None, Some(first)) = (&dir, resets.first()) {
        let message = "says nothing without --state-dir, where it is kept how far the CRLs have come; give both, or leave it out";
        layers.problem("accept-crl-reset", &first.origin, message);
    }
    (dir, resets.into_iter().map(|found| found.text).collect())
}
