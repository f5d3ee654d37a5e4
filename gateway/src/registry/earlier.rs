//! What was in force before a reload, found by a plugin's name and by its mount: each of thousands of
//! files asks.

use std::collections::HashMap;
use std::sync::Arc;

use super::plugin::Plugin;

/// The state before, to be asked.
pub(super) struct Earlier<'a> {
    /// By name, those that went a moment ago too.
    known: HashMap<&'a str, Vec<&'a Arc<Plugin>>>,
    by_name: HashMap<&'a str, Vec<Held<'a>>>,
    by_mount: HashMap<&'a str, Vec<Held<'a>>>,
}

/// A plugin in force, and its file.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) file: &'a str,
    pub(super) plugin: &'a Plugin,
}

impl<'a> Earlier<'a> {
    /// Of what is `known`, those that went a moment ago too, and of what is in force with its file.
    pub(super) fn new(
        known: impl Iterator<Item = &'a Arc<Plugin>>,
        in_force: impl Iterator<Item = (&'a str, &'a Plugin)>,
    ) -> Self {
        let mut earlier = Self {
            known: HashMap::new(),
            by_name: HashMap::new(),
            by_mount: HashMap::new(),
        };
        for plugin in known {
            let named = earlier.known.entry(plugin.name.as_str());
            named.or_default().push(plugin);
        }
        for (file, plugin) in in_force {
            let held = Held { file, plugin };
            let by_name = earlier.by_name.entry(plugin.name.as_str());
            by_name.or_default().push(held);
            let by_mount = earlier.by_mount.entry(plugin.mount.as_str());
            by_mount.or_default().push(held);
        }
        earlier
    }

    /// The very plugin that is described like this one.
    pub(super) fn same(&self, plugin: &Plugin) -> Option<&'a Arc<Plugin>> {
        let named = self.known.get(plugin.name.as_str())?;
        named.iter().copied().find(|known| ***known == *plugin)
    }

    /// What was in force under this one's name or at its mount; what was both comes twice.
    pub(super) fn alike(&self, plugin: &Plugin) -> impl Iterator<Item = Held<'a>> {
        let named = self.by_name.get(plugin.name.as_str());
        let there = self.by_mount.get(plugin.mount.as_str());
        named.into_iter().chain(there).flatten().copied()
    }
}
