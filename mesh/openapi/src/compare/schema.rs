//! Two schemas, in the direction in which their values go.
//!
//! In: the schema that was and the one that is, and whether callers send such values or get them.
//! Out: findings. What callers send must still be taken; what they get must still be what they
//! know. Each pair of named schemas is compared once a direction, and all work together is bounded;
//! past the bound that itself is a finding.

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Facts, LEAST, Listed, MOST};
use super::finding::{FINDINGS_MAX, Finding};
use crate::document::Document;
use crate::fault::short;
use crate::pointer::At;

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Callers send them.
    Sent,
    /// Callers get them.
    Got,
}

pub(super) struct Schemas<'d> {
    old: &'d Document,
    new: &'d Document,
    pub(super) findings: Vec<Finding>,
    compared: BTreeSet<(&'d str, &'d str, Way)>,
    /// Looks that are left.
    left: usize,
    depth: usize,
}

/// Values that one comparison looks at: of each of both documents, a few times in each direction.
const LOOKS_MAX: usize = 1_000_000;

/// As deep as documents are, and the alternatives of alternatives.
const DEPTH_MAX: usize = 96;

/// More alternatives than this are compared one by one, in their order.
const BRANCHES_MAX: usize = 16;

impl<'d> Schemas<'d> {
    pub(super) fn new(old: &'d Document, new: &'d Document) -> Self {
        Self {
            old,
            new,
            findings: Vec::new(),
            compared: BTreeSet::new(),
            left: LOOKS_MAX,
            depth: 0,
        }
    }

    pub(super) fn found(&mut self, kind: &'static str, at: &At<'_>, message: String) {
        if self.findings.len() < FINDINGS_MAX {
            let pointer = short(&at.to_string());
            self.findings.push(Finding {
                kind,
                pointer,
                message,
            });
        }
    }

    /// Whether so much may still be looked at; that nothing more may is a finding.
    pub(super) fn looks(&mut self, many: usize, at: &At<'_>) -> bool {
        let left = self.left.checked_sub(many);
        self.left = left.unwrap_or(0);
        if left.is_none() {
            self.not_compared(at);
        }
        left.is_some()
    }

    fn not_compared(&mut self, at: &At<'_>) {
        if !self.findings.iter().any(|one| one.kind == "not_compared") {
            let message = "the contracts are too intricate to be compared whole".to_owned();
            self.found("not_compared", at, message);
        }
    }

    pub(super) fn compare(&mut self, old: &'d Value, new: &'d Value, way: Way, at: &At<'_>) {
        if std::ptr::eq(old, new) || self.findings.len() >= FINDINGS_MAX {
            return;
        }
        let reference = |of: &'d Value| of.get("$ref").and_then(Value::as_str);
        if let (Some(was), Some(now)) = (reference(old), reference(new)) {
            if !self.compared.insert((was, now, way)) {
                return;
            }
            // The place of a named schema is its own, whoever refers to it.
            let words: Vec<&str> = now.split('/').skip(1).collect();
            if let [components, section, name] = words.as_slice() {
                let at = At::Field(&At::Root, components);
                let at = At::Field(&at, section);
                return self.pair(old, new, way, &At::Field(&at, name));
            }
        }
        self.pair(old, new, way, at);
    }

    fn pair(&mut self, old: &'d Value, new: &'d Value, way: Way, at: &At<'_>) {
        if self.depth >= DEPTH_MAX {
            return self.not_compared(at);
        }
        if !self.looks(1, at) {
            return;
        }
        self.depth += 1;
        let was = Facts::of(self.old, old, &mut self.left);
        let now = Facts::of(self.new, new, &mut self.left);
        match way {
            Way::Sent => self.sent(&was, &now, at),
            Way::Got => self.got(&was, &now, at),
        }
        for (name, was) in &was.properties {
            if let Some(now) = now.properties.get(name) {
                let at = At::Field(at, "properties");
                self.compare(was, now, way, &At::Field(&at, name));
            }
        }
        if let (Some(was), Some(now)) = (was.items, now.items) {
            self.compare(was, now, way, &At::Field(at, "items"));
        }
        self.branches(&was, &now, way, at);
        self.depth -= 1;
    }

    /// Callers send it: whatever was taken must be taken.
    fn sent(&mut self, was: &Facts<'d>, now: &Facts<'d>, at: &At<'_>) {
        self.types(was, now, ("type_narrowed", "is no longer taken as"), at);
        if let Some(values) = &now.values {
            match &was.values {
                None => {
                    let message = "takes only certain values now".to_owned();
                    self.found("enum_added", &At::Field(at, "enum"), message);
                }
                Some(known) => {
                    let values = Listed::of(values);
                    let gone = known.iter().find(|value| !values.has(value));
                    if let Some(gone) = gone {
                        let message = format!("the value {} is no longer taken", shown(gone));
                        self.found("enum_value_removed", &At::Field(at, "enum"), message);
                    }
                }
            }
        }
        for name in now.required.difference(&was.required) {
            let property = now.properties.get(name);
            if property.is_some_and(|property| says(property, "readOnly")) {
                continue;
            }
            let message = format!("the property {:?} is required now", short(name));
            self.found("property_required", &At::Field(at, "required"), message);
        }
        if now.closed && !was.closed {
            let message = "takes no further properties any more".to_owned();
            self.found("closed", &At::Field(at, "additionalProperties"), message);
        } else if now.closed {
            let gone = was
                .properties
                .keys()
                .find(|name| !now.properties.contains_key(*name));
            if let Some(gone) = gone {
                let message = format!("the property {:?} is no longer taken", short(gone));
                self.found("property_removed", &At::Field(at, "properties"), message);
            }
        }
        for (words, is_least) in [(LEAST, true), (MOST, false)] {
            for word in words {
                let Some(bound) = now.bounds.get(word) else {
                    continue;
                };
                let tighter = was.bounds.get(word).is_none_or(|known| {
                    if is_least {
                        bound > known
                    } else {
                        bound < known
                    }
                });
                // Nothing is kept out by what holds in any case.
                let is_idle =
                    is_least && *bound <= 0.0 && word.starts_with("min") && word != "minimum";
                if tighter && !is_idle {
                    let message = format!("{word} is {bound} now, which takes less than before");
                    self.found("bound_narrowed", &At::Field(at, word), message);
                }
            }
        }
        if now.pattern.is_some() && now.pattern != was.pattern {
            let message = "takes only what fits another pattern now".to_owned();
            self.found("pattern_changed", &At::Field(at, "pattern"), message);
        }
        if now.unique && !was.unique {
            let message = "takes no item twice any more".to_owned();
            self.found("bound_narrowed", &At::Field(at, "uniqueItems"), message);
        }
        if now.nothing && !was.nothing {
            self.found("type_narrowed", at, "takes nothing any more".to_owned());
        }
    }

    /// Callers get it: nothing may come that they do not know.
    fn got(&mut self, was: &Facts<'d>, now: &Facts<'d>, at: &At<'_>) {
        self.types(now, was, ("type_widened", "may now be answered as"), at);
        if let Some(known) = &was.values {
            match &now.values {
                None => {
                    let message = "may be any value now, and was one of a few".to_owned();
                    self.found("enum_dropped", &At::Field(at, "enum"), message);
                }
                Some(values) => {
                    let known = Listed::of(known);
                    let new = values.iter().find(|value| !known.has(value));
                    if let Some(new) = new {
                        let message = format!("the value {} may come now", shown(new));
                        self.found("enum_value_added", &At::Field(at, "enum"), message);
                    }
                }
            }
        }
        for (name, property) in &was.properties {
            if says(property, "writeOnly") {
                continue;
            }
            if !now.properties.contains_key(name) {
                let message = format!("the property {:?} is gone", short(name));
                self.found("property_removed", &At::Field(at, "properties"), message);
            } else if was.required.contains(name) && !now.required.contains(name) {
                let message = format!("the property {:?} may be missing now", short(name));
                self.found("property_optional", &At::Field(at, "required"), message);
            }
        }
    }

    /// Types of the one that are none of the other's; one that may be anything has all.
    fn types(
        &mut self,
        one: &Facts<'d>,
        other: &Facts<'d>,
        (kind, verb): (&'static str, &str),
        at: &At<'_>,
    ) {
        let Some(other) = other.types else {
            return;
        };
        let message = match one.types {
            Some(types) => {
                let gone = types.without(other);
                if gone.is_empty() {
                    return;
                }
                format!("the value {verb} {}", gone.join(", "))
            }
            // Values that are listed say by themselves what they are.
            None if one.values.is_some() => return,
            None => format!("the value {verb} just anything"),
        };
        self.found(kind, &At::Field(at, "type"), message);
    }

    /// Each alternative of the one side has to be covered by one of the other's.
    fn branches(&mut self, was: &Facts<'d>, now: &Facts<'d>, way: Way, at: &At<'_>) {
        if was.branches.is_empty() || now.branches.is_empty() {
            return;
        }
        let is_small = was.branches.len().max(now.branches.len()) <= BRANCHES_MAX;
        let (needed, given) = match way {
            Way::Sent => (&was.branches, &now.branches),
            Way::Got => (&now.branches, &was.branches),
        };
        for (index, one) in needed.iter().enumerate() {
            let mut fits = |other: &&'d Value| match way {
                Way::Sent => self.is_quiet(one, other, way),
                Way::Got => self.is_quiet(other, one, way),
            };
            let is_covered = if is_small {
                given.iter().any(fits)
            } else {
                given.get(index).is_some_and(&mut fits)
            };
            if is_covered {
                continue;
            }
            let (kind, message) = match way {
                Way::Sent => ("alternative_removed", "an alternative is no longer taken"),
                Way::Got => ("alternative_added", "an alternative may come that did not"),
            };
            self.found(kind, at, message.to_owned());
            return;
        }
    }

    /// Whether nothing is found between two schemas.
    fn is_quiet(&mut self, old: &'d Value, new: &'d Value, way: Way) -> bool {
        let reference = |of: &Value| of.get("$ref").cloned();
        if let (Some(was), Some(now)) = (reference(old), reference(new)) {
            // What is called the same is compared for itself, and told of there.
            if was == now {
                self.compare(old, new, way, &At::Root);
                return true;
            }
        }
        let mut trial = Schemas::new(self.old, self.new);
        trial.left = self.left;
        trial.depth = self.depth;
        trial.compare(old, new, way, &At::Root);
        self.left = trial.left;
        trial.findings.is_empty()
    }
}

fn says(property: &Value, word: &str) -> bool {
    property.get(word) == Some(&Value::Bool(true))
}

fn shown(value: &Value) -> String {
    short(&value.to_string())
}
