//! Which plugin takes a path: the longest mount wins, on whole segments.
//!
//! In: a canonical path. Out: the plugin and what is left of the path, or that the mount is on
//! hold, or that none takes it. A lookup allocates nothing: it tries one prefix for each depth at
//! which there is a mount at all, the deepest first. A table is never changed; a reload makes
//! another.
//!
//! A table that was only read has nothing beside its plugins; one to route by has the running side
//! of each, whatever that is.

use std::collections::HashMap;
use std::sync::Arc;

use super::fault::FileFault;
use super::mount::{MAX_SEGMENTS, Mount};
use super::plugin::Plugin;

/// All mounts at one moment, and what was wrong with the folder then.
#[derive(Debug)]
pub(crate) struct Table<R = ()> {
    mounts: HashMap<Box<str>, Slot<R>>,
    /// The depths at which there is a mount, deepest first, without that of `/`.
    depths: Vec<usize>,
    root: Option<Slot<R>>,
    /// In the order of their names.
    plugins: Vec<(String, Arc<Plugin>)>,
    faults: Vec<FileFault>,
}

#[derive(Clone, Debug)]
enum Slot<R> {
    Plugin(Arc<Plugin>, R),
    Held,
}

/// Who takes a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a, R = ()> {
    /// This plugin.
    Plugin {
        /// It.
        plugin: &'a Arc<Plugin>,
        /// What runs for it.
        running: &'a R,
        /// The path it gets: what is left below its mount, `/` where nothing is, or with
        /// `keep_mount_prefix` the whole.
        rest: &'a str,
    },
    /// A mount that a faulty or vanished file names: 503, never a shorter mount.
    Held,
    /// No mount takes it: 404.
    NoRoute,
}

impl Table {
    /// A table of the plugins in force, each with its file, of mounts on hold, and of what is
    /// wrong. A mount on hold that a plugin has is the plugin's.
    pub(super) fn new(
        plugins: Vec<(String, Arc<Plugin>)>,
        held: impl IntoIterator<Item = Mount>,
        faults: Vec<FileFault>,
    ) -> Self {
        let mut table = Self {
            plugins,
            faults,
            ..Self::default()
        };
        table.plugins.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        for mount in held {
            table.put(&mount, Slot::Held);
        }
        for (_, plugin) in table.plugins.clone() {
            table.put(&plugin.mount, Slot::Plugin(plugin.clone(), ()));
        }
        table.depths.sort_unstable_by(|a, b| b.cmp(a));
        table.depths.dedup();
        table
    }

    /// The same table to route by, with what `running` gives for each plugin.
    pub(crate) fn run<R>(self, mut running: impl FnMut(&Arc<Plugin>) -> R) -> Table<R> {
        let mut slot = |slot| match slot {
            Slot::Plugin(plugin, ()) => {
                let running = running(&plugin);
                Slot::Plugin(plugin, running)
            }
            Slot::Held => Slot::Held,
        };
        let mounts = self.mounts.into_iter();
        Table {
            mounts: mounts.map(|(mount, held)| (mount, slot(held))).collect(),
            depths: self.depths,
            root: self.root.map(&mut slot),
            plugins: self.plugins,
            faults: self.faults,
        }
    }

    fn put(&mut self, mount: &Mount, slot: Slot<()>) {
        if mount.is_root() {
            self.root = Some(slot);
        } else {
            self.depths.push(mount.segments());
            self.mounts.insert(mount.as_str().into(), slot);
        }
    }
}

impl<R> Table<R> {
    /// Who takes a canonical path.
    #[must_use]
    pub(crate) fn find<'a>(&'a self, path: &'a str) -> Found<'a, R> {
        // Where each prefix of one, two, three segments ends; deeper than the deepest mount is of
        // no interest.
        let mut ends = [0; MAX_SEGMENTS + 1];
        let deepest = self.depths.first().copied().unwrap_or(0);
        let mut reached = 0;
        for (at, byte) in path.bytes().enumerate().skip(1) {
            if byte == b'/' {
                reached += 1;
                if let Some(end) = ends.get_mut(reached) {
                    *end = at;
                }
                if reached >= deepest {
                    break;
                }
            }
        }
        if reached < deepest && path.len() > 1 && !path.ends_with('/') {
            reached += 1;
            if let Some(end) = ends.get_mut(reached) {
                *end = path.len();
            }
        }
        for depth in self.depths.iter().filter(|depth| **depth <= reached) {
            let Some((prefix, rest)) = ends.get(*depth).and_then(|end| path.split_at_checked(*end))
            else {
                continue;
            };
            if let Some(slot) = self.mounts.get(prefix) {
                return slot.found(path, if rest.is_empty() { "/" } else { rest });
            }
        }
        self.root
            .as_ref()
            .map_or(Found::NoRoute, |slot| slot.found(path, path))
    }

    /// The plugins in force with their files, in the order of their names.
    #[must_use]
    pub(crate) fn plugins(&self) -> &[(String, Arc<Plugin>)] {
        &self.plugins
    }

    /// What runs for the plugins in force, in no order.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&Arc<Plugin>, &R)> {
        let slots = self.mounts.values().chain(&self.root);
        slots.filter_map(|slot| match slot {
            Slot::Plugin(plugin, running) => Some((plugin, running)),
            Slot::Held => None,
        })
    }

    /// The mounts on hold, in their order.
    #[must_use]
    pub(crate) fn held(&self) -> Vec<&str> {
        let mut held: Vec<&str> = self
            .mounts
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Held))
            .map(|(mount, _)| &**mount)
            .collect();
        if matches!(self.root, Some(Slot::Held)) {
            held.push("/");
        }
        held.sort_unstable();
        held
    }

    /// What was wrong with the folder when this table was made.
    #[must_use]
    pub(crate) fn faults(&self) -> &[FileFault] {
        &self.faults
    }

    /// Every mount that takes a path, the longest first, with the plugin that has it, or `None` for
    /// one on hold: what `explain` shows.
    #[must_use]
    pub(crate) fn candidates<'a>(&'a self, path: &str) -> Vec<(&'a str, Option<&'a Arc<Plugin>>)> {
        let takes = |mount: &str| {
            path.strip_prefix(mount)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut taking: Vec<_> = self
            .mounts
            .iter()
            .filter(|(mount, _)| takes(mount))
            .map(|(mount, slot)| (&**mount, slot))
            .collect();
        taking.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.len()));
        taking.extend(self.root.as_ref().map(|slot| ("/", slot)));
        let plugin = |slot: &'a Slot<R>| {
            if let Slot::Plugin(plugin, _) = slot {
                Some(plugin)
            } else {
                None
            }
        };
        taking
            .into_iter()
            .map(|(mount, slot)| (mount, plugin(slot)))
            .collect()
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            mounts: HashMap::new(),
            depths: Vec::new(),
            root: None,
            plugins: Vec::new(),
            faults: Vec::new(),
        }
    }
}

impl<R> Slot<R> {
    fn found<'a>(&'a self, path: &'a str, rest: &'a str) -> Found<'a, R> {
        match self {
            Self::Plugin(plugin, running) => Found::Plugin {
                plugin,
                running,
                rest: if plugin.keep_mount_prefix { path } else { rest },
            },
            Self::Held => Found::Held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rules, file};
    use super::*;
    use proptest::prelude::*;

    fn plugin(name: &str, mount: &str, keep: bool) -> (String, Arc<Plugin>) {
        let text = format!(
            "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"{mount}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"public\", \"keep_mount_prefix\": {keep}}}"
        );
        let rules = Rules {
            trust_domain: "a".parse().unwrap(),
            signing: crate::registry::Signing::Off,
            max_body: None,
        };
        (
            format!("{name}.json"),
            Arc::new(
                file::read("f.json", Ok(text.as_bytes()), &rules)
                    .plugin
                    .unwrap(),
            ),
        )
    }

    fn table(mounts: &[&str], held: &[&str]) -> Table {
        let plugins = mounts
            .iter()
            .enumerate()
            .map(|(at, mount)| plugin(&format!("p{at}"), mount, false))
            .collect();
        Table::new(
            plugins,
            held.iter().map(|mount| Mount::parse(mount).unwrap()),
            Vec::new(),
        )
    }

    fn shown(found: Found<'_>) -> String {
        match found {
            Found::Plugin { plugin, rest, .. } => format!("{} {rest}", plugin.mount),
            Found::Held => "held".to_owned(),
            Found::NoRoute => "none".to_owned(),
        }
    }

    #[test]
    fn the_longest_mount_wins_on_whole_segments() {
        let table = table(
            &["/v1/lab", "/v1/lab/deep/er", "/v1", "/other"],
            &["/v1/lab/held", "/v1/lab"],
        );
        for (path, takes) in [
            ("/v1/lab", "/v1/lab /"),
            ("/v1/lab/", "/v1/lab /"),
            ("/v1/lab/x/y/z/w", "/v1/lab /x/y/z/w"),
            ("/v1/lab/deep", "/v1/lab /deep"),
            ("/v1/lab/deep/er", "/v1/lab/deep/er /"),
            ("/v1/lab/deep/er/", "/v1/lab/deep/er /"),
            ("/v1/lab/deep/ers", "/v1/lab /deep/ers"),
            ("/v1/labs", "/v1 /labs"),
            ("/v1/labs/", "/v1 /labs/"),
            ("/v1/", "/v1 /"),
            ("/v1", "/v1 /"),
            ("/v1x", "none"),
            ("/", "none"),
            ("/V1", "none"),
            ("/other/v1/lab", "/other /v1/lab"),
            ("/v1/lab/held", "held"),
            ("/v1/lab/held/x", "held"),
            ("/v1/lab/helder", "/v1/lab /helder"),
        ] {
            assert_eq!(shown(table.find(path)), takes, "{path}");
        }
        assert_eq!(table.held(), ["/v1/lab/held"]);
    }

    #[test]
    fn the_root_takes_what_is_left() {
        let with_root = table(&["/", "/a"], &[]);
        for (path, takes) in [
            ("/", "/ /"),
            ("/b/c", "/ /b/c"),
            ("/ab", "/ /ab"),
            ("/a/b", "/a /b"),
        ] {
            assert_eq!(shown(with_root.find(path)), takes, "{path}");
        }
        let held = table(&["/a"], &["/"]);
        assert_eq!(
            (shown(held.find("/b")), shown(held.find("/a"))),
            ("held".to_owned(), "/a /".to_owned())
        );
        assert_eq!(shown(table(&[], &[]).find("/a")), "none");
        assert_eq!(held.held(), ["/"]);
    }

    #[test]
    fn a_plugin_may_keep_the_whole_path() {
        let table = Table::new(vec![plugin("a", "/a", true)], [], Vec::new());
        assert_eq!(shown(table.find("/a/b")), "/a /a/b");
        assert_eq!(shown(table.find("/a")), "/a /a");
    }

    #[test]
    fn explains_every_mount_that_takes_a_path() {
        let table = table(&["/", "/v1", "/v1/lab/deep"], &["/v1/lab"]);
        let candidates: Vec<_> = table
            .candidates("/v1/lab/x")
            .into_iter()
            .map(|(mount, plugin)| (mount, plugin.is_some()))
            .collect();
        assert_eq!(candidates, [("/v1/lab", false), ("/v1", true), ("/", true)]);
    }

    proptest! {
        #[test]
        fn finds_what_looking_at_every_mount_finds(
            mounts in proptest::collection::hash_set("(/[ab]{1,2}){1,4}|/", 0..8), path in "(/[ab]{1,2}){0,6}/?",
        ) {
            let path = if path.is_empty() { "/" } else { &path };
            let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
            let table = table(&mounts, &[]);
            let longest = mounts.iter().map(|mount| Mount::parse(mount).unwrap()).filter(|mount| mount.rest(path).is_some())
                .max_by_key(|mount| if mount.is_root() { 0 } else { mount.as_str().len() });
            let expected = longest.map_or("none".to_owned(), |mount| format!("{mount} {}", mount.rest(path).unwrap()));
            prop_assert_eq!(shown(table.find(path)), expected);
        }
    }
}
