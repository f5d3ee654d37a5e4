//! What `--check` is asked of the plugin files alone: are they good, and do they differ from what
//! is in force.
//!
//! In: the layers. Out: a [`PluginFiles`], which needs nothing but the folder, or, to compare, the
//! folder and the admin side; every mistake is noted in the layers.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use gapura_settings::{AdminSide, Layers, required};

use super::decides::{signing, whole};
use crate::registry::{self, Rules, Signing};

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

/// Whether the plugin files alone are asked about; `admin` is where the operator's side is unless
/// told otherwise.
pub(super) fn read(
    layers: &mut Layers,
    check: bool,
    admin: SocketAddr,
) -> ControlFlow<Option<PluginFiles>> {
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
        AdminSide::read(layers, admin)
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

/// Notes what is wrong with the plugin files where the settings are wrong too: whoever mends the
/// one wants to know of the other. The trust domain is not known here.
pub(super) fn look_further(layers: &mut Layers) {
    let Some(folder) = layers.one("plugin-dir") else {
        return;
    };
    let signed = layers.one("signing-secret-file").is_some();
    let signature = layers
        .one("signature")
        .and_then(|found| found.text.parse().ok());
    let Ok(trust_domain) = Rules::UNKNOWN_DOMAIN.parse() else {
        return;
    };
    let settings = registry::Settings {
        folder: folder.text.into(),
        last_good: None,
        rules: Rules {
            trust_domain,
            signing: signing(signed, signature.unwrap_or_default()),
            max_body: None,
        },
    };
    for fault in registry::check(&settings).faults {
        let at = fault.position.map_or(fault.file.clone(), |position| {
            format!("{}:{position}", fault.file)
        });
        layers.fault_elsewhere(at, fault.message);
    }
}
