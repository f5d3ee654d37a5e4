//! The settings in force and where each came from, as the admin side and `--check` show them: of secrets where they are.

use std::collections::BTreeMap;
use std::time::Duration;

use gapura_mesh::config::{Kind, Layers, Origin, switched};
use serde_json::{Value, json};

use super::Config;
use super::table::SETTINGS;
use crate::forward::Address;

impl Config {
    /// Every effective setting and where it came from.
    pub(super) fn effective(&self, layers: &Layers) -> BTreeMap<&'static str, (Value, Origin)> {
        let mut shown = BTreeMap::new();
        for setting in SETTINGS
            .iter()
            .filter(|setting| !matches!(setting.name, "check" | "config"))
        {
            let found = layers.all(setting.name);
            let value = match setting.kind {
                Kind::Many(_) => found
                    .iter()
                    .map(|found| Value::from(found.text.as_str()))
                    .collect(),
                Kind::One(_) => found
                    .first()
                    .map_or(Value::Null, |found| found.text.as_str().into()),
                Kind::Switch => Value::Bool(
                    found
                        .first()
                        .is_some_and(|found| switched(&found.text) == Ok(true)),
                ),
            };
            shown.insert(setting.name, (value, layers.origin(setting.name)));
        }
        let mut effective =
            |name: &'static str, value: Value| shown.insert(name, (value, layers.origin(name)));
        effective("listen", self.listen.to_string().into());
        effective("plugin", plugin(&self.plugin).into());
        effective("admin", self.admin.to_string().into());
        effective("workers", self.workers.into());
        effective("access-log", self.access_log.as_str().into());
        effective("public-path", json!(self.tenants.public_paths));
        effective("probe-path", json!(self.tenants.probe_paths));
        effective("drain-delay", seconds(self.drain.delay));
        effective("drain-timeout", seconds(self.drain.timeout));
        if self.allow.is_empty() {
            effective("allow", json!(["gateway/*"]));
        }
        shown
    }
}

fn plugin(address: &Address) -> String {
    match address {
        Address::Http(tcp) => format!("http://{}", plain(&tcp.host, tcp.port)),
        Address::H2c(tcp) => format!("h2c://{}", plain(&tcp.host, tcp.port)),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn plain(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn seconds(duration: Duration) -> Value {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
    .into()
}
