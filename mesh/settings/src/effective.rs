//! The settings in force and where each came from, as the admin side and `--check` show them.
//!
//! In: the table and the layers; then, from the program, what its defaults came to. Out: JSON. Of
//! secrets only files are settings, so that what is shown is where they are and never what they
//! say; a program that takes one from elsewhere puts words in its place.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Kind, Layers, Origin, Setting, switched};

/// Each setting's value and where it came from.
#[derive(Clone, Debug, Default)]
pub struct Effective(BTreeMap<&'static str, (Value, Origin)>);

impl Effective {
    /// Every setting of `table` as it was given.
    #[must_use]
    pub fn of(table: &[Setting], layers: &Layers) -> Self {
        let mut shown = Self::default();
        for setting in table {
            // What to do and where that was read is no setting in force.
            if matches!(setting.name, "check" | "only" | "diff-running" | "config") {
                continue;
            }
            let mut found = layers.all(setting.name).iter().map(|found| &*found.text);
            let value = match setting.kind {
                Kind::Many(_) => found.map(Value::from).collect(),
                Kind::One(_) => found.next().map_or(Value::Null, Value::from),
                Kind::Switch => found
                    .next()
                    .is_some_and(|text| switched(text) == Ok(true))
                    .into(),
            };
            shown.effective(layers, setting.name, value);
        }
        shown
    }

    /// What a setting came to, wherever it was set.
    pub fn effective(&mut self, layers: &Layers, name: &'static str, value: Value) {
        self.set(name, value, layers.origin(name));
    }

    /// What was not set by a row of the table.
    pub fn set(&mut self, name: &'static str, value: Value, from: Origin) {
        self.0.insert(name, (value, from));
    }

    /// All of them, by name.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let shown = self.0.iter().map(|(name, (value, from))| {
            let value = json!({ "value": value, "from": from.to_string() });
            ((*name).to_owned(), value)
        });
        Value::Object(shown.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    #[test]
    fn each_kind_is_shown_with_where_it_came_from() {
        let table = [
            rows::CHECK,
            rows::HEALTH,
            Setting::many("allow", "ID", "x"),
            Setting::switch("no-crl", "x"),
        ];
        let env = [("GAPURA_ALLOW", "a, b"), ("GAPURA_NO_CRL", "on")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let layers = Layers::new(&table, &[], BTreeMap::new(), &env);
        let mut shown = Effective::of(&table, &layers);
        shown.effective(&layers, "health", "none".into());
        let expected = json!({
            "allow": {"value": ["a", "b"], "from": "GAPURA_ALLOW"},
            "health": {"value": "none", "from": "default"},
            "no-crl": {"value": true, "from": "GAPURA_NO_CRL"},
        });
        assert_eq!(shown.to_json(), expected);
    }
}
