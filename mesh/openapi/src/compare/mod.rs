//! What of one contract breaks those who were written for another.
//!
//! In: the contract in force and a new one. Out: each breaking change, with its place: in the old
//! document for what is gone, in the new one for what is asked for now. What a caller sends may be
//! taken more widely and what it gets may be said more narrowly; the other way round breaks
//! somebody.

mod facts;
mod finding;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::document::{Document, is_internal, names_in, shape};
use crate::fault::short;
use crate::pointer::At;
use crate::shape::METHODS;
use finding::FINDINGS_MAX;
use schema::{Schemas, Way};

pub use finding::Finding;

/// Further ways to authenticate are not looked at.
const ALTERNATIVES_MAX: usize = 64;

/// Each breaking change from `old` to `new`, a hundred at most.
#[must_use]
pub fn compare(old: &Document, new: &Document) -> Vec<Finding> {
    let mut comparison = Comparison {
        old,
        new,
        schemas: Schemas::new(old, new),
    };
    comparison.paths();
    comparison.webhooks();
    let mut findings = comparison.schemas.findings;
    findings.truncate(FINDINGS_MAX);
    findings
}

struct Comparison<'d> {
    old: &'d Document,
    new: &'d Document,
    schemas: Schemas<'d>,
}

/// An operation with its path item and its path.
#[derive(Clone, Copy)]
struct Place<'d> {
    path: &'d str,
    item: &'d Map<String, Value>,
    operation: &'d Map<String, Value>,
}

impl<'d> Comparison<'d> {
    fn paths(&mut self) {
        let (old, new) = (self.old, self.new);
        let known: BTreeMap<String, _> = new
            .paths()
            .filter(|(_, item)| !is_internal(item))
            .map(|(path, item)| (shape(path), (path.as_str(), item)))
            .collect();
        let paths = At::Field(&At::Root, "paths");
        for (path, item) in old.paths().filter(|(_, item)| !is_internal(item)) {
            let Some((now, now_item)) = known.get(&shape(path)) else {
                let message = format!("the path {} is gone", short(path));
                self.schemas
                    .found("path_removed", &At::Field(&paths, path), message);
                continue;
            };
            for method in METHODS {
                let operation = |item: &'d Map<String, Value>| {
                    let operation = item.get(method).and_then(Value::as_object);
                    operation.filter(|operation| !is_internal(operation))
                };
                let Some(before) = operation(item) else {
                    continue;
                };
                let name = format!("{} {}", method.to_ascii_uppercase(), short(path));
                let Some(after) = operation(now_item) else {
                    let at = At::Field(&paths, path);
                    let message = format!("{name} is gone");
                    self.schemas
                        .found("method_removed", &At::Field(&at, method), message);
                    continue;
                };
                let before = Place {
                    path,
                    item,
                    operation: before,
                };
                let after = Place {
                    path: now,
                    item: now_item,
                    operation: after,
                };
                let at = At::Field(&paths, now);
                self.operation(&name, before, after, &At::Field(&at, method));
                if self.schemas.findings.len() >= FINDINGS_MAX {
                    return;
                }
            }
        }
    }

    /// What the plugin sends by itself: callers get it.
    fn webhooks(&mut self) {
        let (old, new) = (self.old, self.new);
        let known: BTreeMap<&String, _> = new.webhooks().collect();
        let at = At::Field(&At::Root, "webhooks");
        for (webhook, item) in old.webhooks().filter(|(_, item)| !is_internal(item)) {
            let at = At::Field(&at, webhook);
            let now = known.get(webhook).filter(|item| !is_internal(item));
            for method in METHODS {
                let operation = |item: &'d Map<String, Value>| {
                    let operation = item.get(method).and_then(Value::as_object);
                    operation.filter(|operation| !is_internal(operation))
                };
                let Some(was) = operation(item) else {
                    continue;
                };
                let at = At::Field(&at, method);
                let Some(now) = now.and_then(|item| operation(item)) else {
                    let message = format!("the webhook {} is gone", short(webhook));
                    self.schemas.found("webhook_removed", &at, message);
                    continue;
                };
                let body = |document: &'d Document, of: &'d Map<String, Value>| {
                    of.get("requestBody").map(|body| document.resolve(body))
                };
                if let (Some(was), Some(now)) = (body(old, was), body(new, now)) {
                    let name = format!("the webhook {}", short(webhook));
                    self.content(&name, was, now, Way::Got, &At::Field(&at, "requestBody"));
                }
            }
        }
    }

    fn operation(&mut self, name: &str, old: Place<'d>, new: Place<'d>, at: &At<'_>) {
        self.parameters(name, old, new, at);
        self.body(name, old, new, at);
        self.responses(name, old, new, at);
        let (was, now) = (self.security(self.old, old), self.security(self.new, new));
        let looks = |many| self.schemas.looks(many, at);
        if asks_more(was, now, looks) {
            let message = format!("{name} asks for an authentication that it did not ask for");
            self.schemas
                .found("auth_added", &At::Field(at, "security"), message);
        }
    }

    fn parameters(&mut self, name: &str, old: Place<'d>, new: Place<'d>, at: &At<'_>) {
        let before: BTreeMap<_, _> = parameters(self.old, old).into_iter().collect();
        let at = At::Field(at, "parameters");
        for (at_index, (key, now)) in parameters(self.new, new).into_iter().enumerate() {
            let at = At::Index(&at, at_index);
            let is_required = |parameter: &Value| parameter.get("required") == Some(&true.into());
            let called = format!("the {} parameter {:?}", key.0, short(&key.1));
            match before.get(&key) {
                None if is_required(now) => {
                    let message = format!("{name} requires {called}, which is new");
                    self.schemas.found("parameter_required", &at, message);
                }
                None => {}
                Some(was) => {
                    if is_required(now) && !is_required(was) {
                        let message = format!("{name} requires {called}, which was optional");
                        self.schemas.found("parameter_required", &at, message);
                    }
                    let schema = |parameter: &'d Value| {
                        let media = || parameter.get("content")?.as_object()?.values().next();
                        parameter.get("schema").or_else(|| media()?.get("schema"))
                    };
                    if let (Some(was), Some(now)) = (schema(was), schema(now)) {
                        let at = At::Field(&at, "schema");
                        self.schemas.compare(was, now, Way::Sent, &at);
                    }
                }
            }
        }
    }

    fn body(&mut self, name: &str, old: Place<'d>, new: Place<'d>, at: &At<'_>) {
        let at = At::Field(at, "requestBody");
        let (old_document, new_document) = (self.old, self.new);
        let was = old
            .operation
            .get("requestBody")
            .map(|body| old_document.resolve(body));
        let now = new
            .operation
            .get("requestBody")
            .map(|body| new_document.resolve(body));
        let is_required = |body: &Value| body.get("required") == Some(&true.into());
        let Some(now) = now else {
            return;
        };
        if is_required(now) && !was.is_some_and(is_required) {
            let message = format!("{name} requires a body, and did not");
            self.schemas.found("body_required", &at, message);
        }
        if let Some(was) = was {
            self.content(name, was, now, Way::Sent, &at);
        }
    }

    fn responses(&mut self, name: &str, old: Place<'d>, new: Place<'d>, at: &At<'_>) {
        let at = At::Field(at, "responses");
        let (old_document, new_document) = (self.old, self.new);
        let now = new.operation.get("responses").and_then(Value::as_object);
        let was = old.operation.get("responses").and_then(Value::as_object);
        for (status, was) in was
            .into_iter()
            .flatten()
            .filter(|(status, _)| !status.starts_with("x-"))
        {
            let at = At::Field(&at, status);
            let range = status
                .get(..1)
                .map(|first| format!("{first}XX"))
                .unwrap_or_default();
            let found = now.and_then(|now| {
                now.get(status)
                    .or_else(|| now.get(&range))
                    .or_else(|| now.get("default"))
            });
            match found {
                Some(found) => {
                    let (was, found) = (old_document.resolve(was), new_document.resolve(found));
                    self.content(name, was, found, Way::Got, &at);
                }
                None => {
                    let message = format!("{name} no longer tells of an answer with {status}");
                    self.schemas.found("response_removed", &at, message);
                }
            }
        }
    }

    /// The media types of a body or an answer.
    fn content(&mut self, name: &str, was: &'d Value, now: &'d Value, way: Way, at: &At<'_>) {
        let content = |of: &'d Value| of.get("content").and_then(Value::as_object);
        let at = At::Field(at, "content");
        let (was, now) = (content(was), content(now));
        if !self.schemas.looks(was.map_or(0, Map::len), &at) {
            return;
        }
        for (kind, was) in was.into_iter().flatten() {
            let at = At::Field(&at, kind);
            let group = kind.split('/').next().map(|group| format!("{group}/*"));
            let found = now.and_then(|now| {
                let wider = || now.get(&group?).or_else(|| now.get("*/*"));
                now.get(kind)
                    .or_else(|| wider().filter(|_| way == Way::Sent))
            });
            let Some(found) = found else {
                let message = format!("{name}: the media type {} is gone", short(kind));
                self.schemas.found("media_type_removed", &at, message);
                continue;
            };
            if let (Some(was), Some(found)) = (was.get("schema"), found.get("schema")) {
                self.schemas
                    .compare(was, found, way, &At::Field(&at, "schema"));
            }
        }
    }

    fn security(&self, document: &'d Document, place: Place<'d>) -> Option<&'d Vec<Value>> {
        let own = place.operation.get("security");
        let own = own.or_else(|| document.root().get("security"));
        own.and_then(Value::as_array)
    }
}

/// Each parameter, by its place and its name; one in the path by which it is there, since its name
/// is nothing to a caller.
fn parameters<'d>(document: &'d Document, at: Place<'d>) -> Vec<((String, String), &'d Value)> {
    let names = names_in(at.path).enumerate();
    let names: BTreeMap<&str, usize> = names.map(|(index, name)| (name, index)).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for of in [at.operation, at.item] {
        let list = of.get("parameters").and_then(Value::as_array);
        for parameter in list
            .into_iter()
            .flatten()
            .map(|listed| document.resolve(listed))
        {
            let text = |name: &str| {
                parameter
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let (place, name) = (text("in"), text("name"));
            let name = match (place, names.get(name)) {
                ("path", Some(index)) => index.to_string(),
                ("header", _) => name.to_ascii_lowercase(),
                _ => name.to_owned(),
            };
            let key = (place.to_owned(), name);
            if seen.insert(key.clone()) {
                found.push((key, parameter));
            }
        }
    }
    found
}

/// Whether somebody who could call can no longer; `looks` says whether so much may still be looked
/// at.
fn asks_more(
    old: Option<&Vec<Value>>,
    new: Option<&Vec<Value>>,
    mut looks: impl FnMut(usize) -> bool,
) -> bool {
    let nothing = |alternative: &Value| alternative.as_object().is_some_and(Map::is_empty);
    let is_open =
        |of: Option<&Vec<Value>>| of.is_none_or(|of| of.is_empty() || of.iter().any(nothing));
    if is_open(new) {
        return false;
    }
    let new = new.map(Vec::as_slice).unwrap_or_default();
    let new = new.get(..ALTERNATIVES_MAX).unwrap_or(new);
    if is_open(old) {
        return true;
    }
    let mut old = old.into_iter().flatten().take(ALTERNATIVES_MAX);
    old.any(|old| !new.iter().any(|new| fits(old, new, &mut looks)))
}

/// Whether who brings what `old` asks for has all that `new` asks for. What can't be looked at is
/// told of elsewhere.
fn fits(old: &Value, new: &Value, looks: &mut impl FnMut(usize) -> bool) -> bool {
    let mut wanted = new.as_object().into_iter().flatten();
    wanted.all(|(scheme, scopes)| {
        let Some(given) = old.get(scheme).and_then(Value::as_array) else {
            return false;
        };
        let scopes = scopes.as_array().map(Vec::as_slice).unwrap_or_default();
        if !looks(given.len() + scopes.len() + 1) {
            return true;
        }
        let given: BTreeSet<Option<&str>> = given.iter().map(Value::as_str).collect();
        scopes.iter().all(|scope| given.contains(&scope.as_str()))
    })
}

#[cfg(test)]
mod tests;
