//! What `--check` is asked of the plugin files alone: are they good, and do they differ from what is in force.
//!
//! In: the layers. Out: a [`PluginFiles`], which needs nothing but the folder, or, to compare, the folder and the admin side; every
//! mistake is noted in the layers.

use std::ops::ControlFlow;
use std::path::PathBuf;

use gapura_runtime::config::{AdminSide, Layers, Settings, required};

use super::Config;
use super::decides::{signing, whole};
use crate::registry::Signing;

/// The plugin files, and what they are judged by.
#[derive(Clone, Debug)]
pub struct PluginFiles {
    /// The registry.
    pub(crate) plugin_dir: PathBuf,
    /// Tells the gateway's own trust domain; without it identities of any domain are taken.
    pub(crate) mesh_dir: Option<PathBuf>,
    /// Whether requests to plain http upstreams could be signed.
    pub(crate) signing: Signing,
    /// The limit of request bodies for plugins that set none.
    pub(crate) max_body: Option<u64>,
    /// Whose table they are compared with.
    pub(crate) running: Option<AdminSide>,
}

/// Whether the plugin files alone are asked about.
pub(super) fn read(layers: &mut Layers, check: bool) -> ControlFlow<Option<PluginFiles>> {
    let only = layers.parse("only", |text| match text {
        "plugins" => Ok(()),
        _ => Err("must be plugins: they alone can be checked by themselves".to_owned()),
    });
    let compared = layers.switch("diff-running");
    if layers.one("only").is_none() && !compared {
        return ControlFlow::Continue(());
    }
    if !check {
        for name in ["only", "diff-running"] {
            if let Some(found) = layers.one(name) {
                layers.problem(name, &found.origin, "says what --check looks at; give both");
            }
        }
    }
    let plugin_dir = required(
        layers,
        "plugin-dir",
        "the folder of plugin files, such as --plugin-dir plugins.d",
    );
    let signed = layers.one("signing-secret-file").is_some();
    let signature = layers.parse("signature", str::parse);
    let max_body = layers.parse("max-body-bytes", whole);
    let running = if compared {
        AdminSide::read(layers, Config::ADMIN)
    } else {
        None
    };
    let is_read = (compared || only.is_some()) && compared == running.is_some();
    ControlFlow::Break(
        plugin_dir
            .filter(|_| is_read)
            .map(|plugin_dir| PluginFiles {
                plugin_dir,
                mesh_dir: layers.one("mesh-dir").map(|found| found.text.into()),
                signing: signing(signed, signature.unwrap_or_default()),
                max_body,
                running,
            }),
    )
}
