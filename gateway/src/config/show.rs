//! The settings in force and where each came from, as the admin side and `--check` show them: of
//! secrets only that, and where, they are.

use std::collections::BTreeMap;

use gapura_runtime::room::Room;
use gapura_settings::{Effective, Layers, Origin, seconds};
use serde_json::Value;

use super::table::SETTINGS;
use super::{Config, issuers};

impl Config {
    /// Every effective setting; of secrets only that, and where, they are.
    pub(super) fn effective(&self, layers: &Layers, env: &BTreeMap<String, String>) -> Effective {
        let mut shown = Effective::of(SETTINGS, layers);
        self.common.show(&mut shown, layers);
        let mut effective = |name, value| shown.effective(layers, name, value);
        if let Some(logout) = &self.auth.logout {
            effective("logout-keep", seconds(logout.keep));
        }
        effective("leeway", seconds(self.auth.leeway));
        effective("tls-min", self.tls_min.as_str().into());
        let rate = self.body_rate.map_or(0, |rate| rate.per_second);
        effective("body-rate", rate.into());
        let share = self.connections_per_address;
        effective(
            "connections-per-address",
            share.unwrap_or_else(|| Room::found().per_address()).into(),
        );
        effective("openapi", self.openapi.as_str().into());
        effective("signature", self.signature.as_str().into());
        let named = if self.page_tenants { "on" } else { "off" };
        effective("page-tenants", named.into());
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
        shown.set("issuers", issuers.into(), from);
        if env
            .get("JWT_SECRET")
            .is_some_and(|secret| !secret.is_empty())
        {
            let from = Origin::Env("JWT_SECRET".to_owned());
            shown.set("jwt-secret", "set, not shown".into(), from);
        }
        shown
    }
}
