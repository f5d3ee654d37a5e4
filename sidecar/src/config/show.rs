//! What the sidecar's own settings came to, as the admin side and `--check` show them.

use gapura_settings::{Effective, Layers};
use serde_json::json;

use super::Config;
use super::table::SETTINGS;

impl Config {
    /// Every effective setting and where it came from.
    pub(super) fn effective(&self, layers: &Layers) -> Effective {
        let mut shown = Effective::of(SETTINGS, layers);
        self.common.show(&mut shown, layers);
        if !self.common.sockets.is_empty() {
            let sockets = self.common.sockets.iter();
            let sockets = sockets.map(|path| format!("unix:{}", path.display()));
            let all = std::iter::once(self.common.listen.to_string()).chain(sockets);
            shown.effective(layers, "listen", all.collect::<Vec<_>>().into());
        }
        shown.effective(layers, "plugin", self.plugin.to_string().into());
        shown.effective(layers, "public-path", json!(self.tenants.public_paths));
        shown.effective(layers, "probe-path", json!(self.tenants.probe_paths));
        if self.allow.is_empty() {
            shown.effective(layers, "allow", json!(["gateway/*"]));
        }
        shown
    }
}
