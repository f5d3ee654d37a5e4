//! What of a folder is allowed and hardly meant: a mount inside another's, and a rule that an
//! earlier one leaves nothing to decide.
//!
//! In: the plugins of the new state with their places, and which of them were in force before. Out:
//! a warning each, with both places. Nothing here is a fault: the longest mount wins and the first
//! rule decides, as CONTRACT section 2 says.

use std::collections::HashMap;

use gapura_settings::json::Position;

use super::plugin::Plugin;

/// A plugin and where it stands.
pub(super) struct Placed<'a> {
    /// Its file, with the folder.
    pub(super) file: &'a str,
    /// Where its mount is written.
    pub(super) mount_at: Position,
    /// It.
    pub(super) plugin: &'a Plugin,
    /// Whether it was in force before as it is now.
    pub(super) is_old: bool,
}

/// A warning for each pair that was not there before.
pub(super) fn warnings(placed: &[Placed<'_>]) -> Vec<String> {
    let by_mount: HashMap<&str, &Placed<'_>> = placed
        .iter()
        .map(|placed| (placed.plugin.mount.as_str(), placed))
        .collect();
    let mut warnings = Vec::new();
    for inner in placed {
        if let Some(outer) = around(inner.plugin.mount.as_str(), &by_mount)
            && !(inner.is_old && outer.is_old)
        {
            let (inside, around) = (&inner.plugin.mount, &outer.plugin.mount);
            warnings.push(format!(
                "{}:{}: \"mount\" {inside} is inside {around} of {}:{}: what is below {inside} goes to plugin {}, never to plugin {}",
                inner.file, inner.mount_at, outer.file, outer.mount_at, inner.plugin.name, outer.plugin.name
            ));
        }
        if !inner.is_old {
            warnings.extend(rules(inner));
        }
    }
    warnings
}

/// The next mount around one; `/` is there for what is left, and around everything.
fn around<'a, 'p>(mount: &str, by_mount: &HashMap<&str, &'a Placed<'p>>) -> Option<&'a Placed<'p>> {
    let mut rest = mount;
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        if let Some(found) = by_mount.get(shorter) {
            return Some(found);
        }
        rest = shorter;
    }
    None
}

fn rules<'a>(placed: &'a Placed<'_>) -> impl Iterator<Item = String> + 'a {
    let idle = placed.plugin.access.idle_rules();
    idle.into_iter().map(|(line, by)| {
        format!(
            "{}:{line}: this rule of \"allow\" decides nothing: all that it is about is decided by the rule at line {by}; put it first, or remove it",
            placed.file
        )
    })
}
