//! The settings in force and where each came from, as the admin side and `--check` show them: of secrets only that, and where,
//! they are.

use std::collections::BTreeMap;
use std::time::Duration;

use gapura_mesh::config::{Kind, Layers, Origin, switched};
use serde_json::{Value, json};

use super::table::SETTINGS;
use super::{Config, Shown, issuers};

impl Config {
    /// Every effective setting; of secrets only that, and where, they are.
    pub(super) fn effective(
        &self,
        layers: &Layers,
        env: &BTreeMap<String, String>,
    ) -> BTreeMap<&'static str, Shown> {
        let mut shown = BTreeMap::new();
        for setting in SETTINGS
            .iter()
            .filter(|setting| !matches!(setting.name, "check" | "config"))
        {
            let found = layers.all(setting.name);
            let text = |text: &String| Value::from(text.as_str());
            let value = match setting.kind {
                Kind::Many(_) => found.iter().map(|found| text(&found.text)).collect(),
                Kind::One(_) => found.first().map_or(Value::Null, |found| text(&found.text)),
                Kind::Switch => Value::Bool(
                    found
                        .first()
                        .is_some_and(|found| switched(&found.text) == Ok(true)),
                ),
            };
            shown.insert(
                setting.name,
                Shown {
                    value,
                    from: layers.origin(setting.name),
                },
            );
        }
        let mut effective = |name: &'static str, value: Value| {
            shown.insert(
                name,
                Shown {
                    value,
                    from: layers.origin(name),
                },
            );
        };
        effective("listen", self.listen.to_string().into());
        effective("admin", self.admin.to_string().into());
        effective("workers", self.workers.into());
        effective("access-log", self.access_log.as_str().into());
        effective("leeway", seconds(self.auth.leeway));
        effective("signature", self.signature.as_str().into());
        effective("drain-delay", seconds(self.drain.delay));
        effective("drain-timeout", seconds(self.drain.timeout));
        effective("max-body-bytes", self.max_body.into());
        effective("tenant-claim", self.auth.claims.tenant.to_string().into());
        effective("role-claim", self.auth.claims.role.to_string().into());
        let user = self
            .auth
            .claims
            .user
            .as_ref()
            .map_or("user_id, else sub".to_owned(), ToString::to_string);
        effective("user-claim", user.into());
        let issuers: Vec<Value> = self.auth.issuers.iter().map(issuers::show).collect();
        let from = layers
            .structured_origin("issuers")
            .unwrap_or(Origin::Default);
        shown.insert(
            "issuers",
            Shown {
                value: issuers.into(),
                from,
            },
        );
        if env
            .get("JWT_SECRET")
            .is_some_and(|secret| !secret.is_empty())
        {
            shown.insert(
                "jwt-secret",
                Shown {
                    value: json!("set, not shown"),
                    from: Origin::Env("JWT_SECRET".to_owned()),
                },
            );
        }
        shown
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
