//! What a schema says, as far as two of them can be compared.
//!
//! In: a schema, references and `allOf` followed. Out: its [`Facts`]. What is said in ways that
//! nobody can compare (`not`, `if`, patterns of names) is left out: it neither breaks nor mends
//! anything here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::document::Document;
use crate::shape::TYPES;

/// Values as a set: lists may be as long as the document.
pub(super) struct Listed(BTreeSet<String>);

impl Listed {
    pub(super) fn of(values: &[&Value]) -> Self {
        Self(values.iter().map(ToString::to_string).collect())
    }

    pub(super) fn has(&self, value: &Value) -> bool {
        self.0.contains(&value.to_string())
    }
}

/// A set of types, a bit for each of [`TYPES`]; a number may be an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

#[derive(Default)]
pub(super) struct Facts<'d> {
    /// `None` for any.
    pub(super) types: Option<Types>,
    pub(super) values: Option<Vec<&'d Value>>,
    pub(super) properties: BTreeMap<&'d str, &'d Value>,
    pub(super) required: BTreeSet<&'d str>,
    /// No other property may be there.
    pub(super) closed: bool,
    pub(super) items: Option<&'d Value>,
    /// Alternatives.
    pub(super) branches: Vec<&'d Value>,
    /// Words with a number, the tightest of each.
    pub(super) bounds: BTreeMap<&'static str, f64>,
    pub(super) pattern: Option<&'d str>,
    pub(super) unique: bool,
    /// `false`: no value fits.
    pub(super) nothing: bool,
}

/// Words that say how much at least, and how much at most.
pub(super) const LEAST: [&str; 5] = [
    "minimum",
    "exclusiveMinimum",
    "minLength",
    "minItems",
    "minProperties",
];
pub(super) const MOST: [&str; 5] = [
    "maximum",
    "exclusiveMaximum",
    "maxLength",
    "maxItems",
    "maxProperties",
];

/// Deeper than this `allOf` is looked at no more.
const DEEPEST: usize = 16;

/// How much there is to look at in a value.
fn weight(value: &Value) -> usize {
    /// So many bytes of text are as much as a value.
    const TEXT: usize = 64;
    match value {
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 1,
        Value::Object(members) => {
            let each = members.iter();
            let each = each.map(|(name, value)| name.len() / TEXT + weight(value));
            each.sum::<usize>() + 1
        }
        Value::String(text) => text.len() / TEXT + 1,
        _ => 1,
    }
}

impl Types {
    fn of(value: &Value) -> Option<Self> {
        let words: Vec<&str> = match value {
            Value::String(word) => vec![word],
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        let mut set = 0;
        for (at, known) in TYPES.iter().enumerate() {
            let has = words.contains(known) || *known == "integer" && words.contains(&"number");
            set |= u8::from(has) << at;
        }
        Some(Self(set))
    }

    /// What of it `other` has not.
    pub(super) fn without(self, other: Self) -> Vec<&'static str> {
        let left = self.0 & !other.0;
        let names = TYPES.iter().enumerate();
        names
            .filter(|(at, _)| left >> at & 1 == 1)
            .map(|(_, name)| *name)
            .collect()
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl<'d> Facts<'d> {
    /// What is looked at on the way is taken off `left`, and once nothing is left nothing more is
    /// looked at.
    pub(super) fn of(document: &'d Document, schema: &'d Value, left: &mut usize) -> Self {
        let mut facts = Self::default();
        facts.add(document, schema, DEEPEST, left);
        if facts.types.is_none() {
            facts.types = facts.types_of_branches(document, left);
        }
        facts
    }

    fn add(&mut self, document: &'d Document, schema: &'d Value, depth: usize, left: &mut usize) {
        let Value::Object(said) = schema else {
            self.nothing |= *schema == Value::Bool(false);
            return;
        };
        if depth == 0 || *left == 0 {
            return;
        }
        // Its members count too: a schema of many is looked at wherever another is made of it.
        let long = |word: &str| match said.get(word) {
            Some(Value::Object(members)) => members.len(),
            Some(Value::Array(items)) => items.len(),
            _ => 0,
        };
        let words = ["properties", "required", "anyOf", "oneOf"];
        let values = ["enum", "const"].map(|word| said.get(word).map_or(0, weight));
        let looked_at = words.into_iter().map(long).chain(values).sum::<usize>() + 1;
        *left = left.saturating_sub(looked_at);
        if said.contains_key("$ref") {
            self.add(document, document.resolve_once(schema), depth - 1, left);
        }
        if let Some(types) = said.get("type").and_then(Types::of) {
            self.types = Some(self.types.map_or(types, |known| known.and(types)));
        }
        let constant = said.get("const").map(|value| vec![value]);
        let values = said.get("enum").and_then(Value::as_array);
        let values = constant.or_else(|| values.map(|values| values.iter().collect()));
        if let Some(values) = values {
            match &mut self.values {
                Some(known) => {
                    let both = Listed::of(&values);
                    known.retain(|value| both.has(value));
                }
                None => self.values = Some(values),
            }
        }
        let members = |word: &str| said.get(word).and_then(Value::as_object);
        let list = |word: &str| said.get(word).and_then(Value::as_array);
        for (name, property) in members("properties").into_iter().flatten() {
            self.properties.insert(name, property);
        }
        let required = list("required").into_iter().flatten();
        self.required.extend(required.filter_map(Value::as_str));
        self.closed |= said.get("additionalProperties") == Some(&Value::Bool(false));
        self.items = said.get("items").or(self.items);
        self.unique |= said.get("uniqueItems") == Some(&Value::Bool(true));
        self.pattern = said.get("pattern").and_then(Value::as_str).or(self.pattern);
        for (words, is_least) in [(LEAST, true), (MOST, false)] {
            for word in words {
                if let Some(bound) = said.get(word).and_then(Value::as_f64) {
                    let known = self.bounds.entry(word).or_insert(bound);
                    *known = if is_least {
                        known.max(bound)
                    } else {
                        known.min(bound)
                    };
                }
            }
        }
        for word in ["anyOf", "oneOf"] {
            self.branches.extend(list(word).into_iter().flatten());
        }
        for part in list("allOf").into_iter().flatten() {
            self.add(document, part, depth - 1, left);
        }
    }

    /// The types of all alternatives together, if each says its own.
    fn types_of_branches(&self, document: &'d Document, left: &mut usize) -> Option<Types> {
        let mut all = None;
        for branch in &self.branches {
            let mut facts = Facts::default();
            facts.add(document, branch, DEEPEST / 2, left);
            let types = facts.types?;
            all = Some(all.map_or(types, |known: Types| known.or(types)));
        }
        all
    }
}
