//! A plugin's contract, once it is known to be one.
//!
//! In: bytes that a plugin served. Out: a [`Document`] in the form of OpenAPI 3.1, whichever of the
//! two it came in: each object is what it has to be, each reference leads to a component, names
//! that implied a schema name it. Or the first fault.
//! Invariant: what is a `Document` can be made part of a valid one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::check::{self, Names, component};
use crate::fault::{Fault, short};
use crate::pointer::At;
use crate::shape::{Kind, METHODS};
use crate::walk::walk;
use crate::{hoist, read, regress, upgrade};

/// A contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    root: Value,
}

impl Document {
    /// Reads one.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and where.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut root = read::json(bytes)?;
        let is_old = is_old(&root)?;
        if is_old && let Some(root) = root.as_object_mut() {
            // 3.0 knows no such thing, and nobody can say what it was meant to be.
            root.remove("webhooks");
        }
        hoist::hoist(&mut root)?;
        let names = Names::of(&root);
        walk(
            &mut root,
            Kind::Document,
            &At::Root,
            &mut |object, kind, at| {
                if is_old && kind == Kind::Schema {
                    upgrade::schema(object);
                }
                check::object(object, kind, at, &names)
            },
        )?;
        regress::check(&root)?;
        let document = Self { root };
        document.ids_are_unique()?;
        document.parameters_fit()?;
        Ok(document.with_explicit_names(&names))
    }

    /// What it calls itself.
    #[must_use]
    pub fn title(&self) -> &str {
        self.text("title")
    }

    /// The version that it says of itself.
    #[must_use]
    pub fn version(&self) -> &str {
        self.text("version")
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Each path with its item.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        self.items("paths")
    }

    /// Each request that the plugin sends to whoever asked for it, by its name, with its item.
    pub(crate) fn webhooks(&self) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        self.items("webhooks")
    }

    fn items(&self, section: &str) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        let items = self.root.get(section).and_then(Value::as_object);
        let each = items.into_iter().flatten();
        each.filter_map(|(name, item)| Some((name, item.as_object()?)))
    }

    /// The component behind a value, which may be a reference to it.
    pub(crate) fn resolve<'v>(&'v self, value: &'v Value) -> &'v Value {
        let mut at = value;
        // As many as a chain may have; one without end is no document's.
        while at.get("$ref").is_some() {
            let next = self.resolve_once(at);
            if std::ptr::eq(next, at) {
                break;
            }
            at = next;
        }
        at
    }

    /// What a reference leads to, which may be one again; any other value is itself.
    pub(crate) fn resolve_once<'v>(&'v self, value: &'v Value) -> &'v Value {
        let reference = value.get("$ref").and_then(Value::as_str);
        let Some(reference) = reference else {
            return value;
        };
        let mut words = reference.split('/').skip(1);
        let found = words.try_fold(&self.root, |at, word| at.get(word));
        found.unwrap_or(value)
    }

    fn text(&self, name: &str) -> &str {
        let info = self.root.get("info").and_then(|info| info.get(name));
        info.and_then(Value::as_str).unwrap_or_default()
    }

    fn ids_are_unique(&self) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        for section in ["paths", "webhooks"] {
            let at = At::Field(&At::Root, section);
            for (name, item) in self.items(section) {
                for method in METHODS {
                    let id = item.get(method).and_then(|one| one.get("operationId"));
                    if let Some(id) = id.and_then(Value::as_str)
                        && !seen.insert(id)
                    {
                        let why = format!("the operationId {:?} stands twice", short(id));
                        return Err(Fault::at(&At::Field(&At::Field(&at, name), method), why));
                    }
                }
            }
        }
        Ok(())
    }

    /// Each name in a path has its parameter, and no parameter stands twice.
    fn parameters_fit(&self) -> Result<(), Fault> {
        let at = At::Field(&At::Root, "webhooks");
        for (name, item) in self.webhooks() {
            let at = At::Field(&at, name);
            self.parameters(item, &at)?;
            for method in METHODS {
                if let Some(Value::Object(operation)) = item.get(method) {
                    self.parameters(operation, &At::Field(&at, method))?;
                }
            }
        }
        let mut shapes = BTreeMap::new();
        for (path, item) in self.paths() {
            let at = At::Field(&At::Root, "paths");
            let at = At::Field(&at, path);
            if let Some(other) = shapes.insert(shape(path), path) {
                return Err(Fault::at(
                    &at,
                    format!("is the same path as {:?}", short(other)),
                ));
            }
            let named: BTreeSet<&str> = names_in(path).collect();
            let shared = self.parameters(item, &at)?;
            for method in METHODS {
                let Some(Value::Object(operation)) = item.get(method) else {
                    continue;
                };
                let at = At::Field(&at, method);
                let own = self.parameters(operation, &at)?;
                let all = shared.union(&own).filter(|(place, _)| place == "path");
                let known: BTreeSet<&str> = all.map(|(_, name)| name.as_str()).collect();
                if let Some(name) = named.symmetric_difference(&known).next() {
                    let name = short(name);
                    let why = format!("the path and its parameters disagree about {name:?}");
                    return Err(Fault::at(&at, why));
                }
            }
        }
        Ok(())
    }

    /// The place and the name of each parameter of a path item or an operation.
    fn parameters(
        &self,
        of: &Map<String, Value>,
        at: &At<'_>,
    ) -> Result<BTreeSet<(String, String)>, Fault> {
        let mut found = BTreeSet::new();
        for listed in of
            .get("parameters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let parameter = self.resolve(listed);
            let text = |name: &str| {
                parameter
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let name = text("name");
            if !found.insert((text("in").to_owned(), name.to_owned())) {
                let why = format!("the parameter {:?} stands twice", short(name));
                return Err(Fault::at(at, why));
            }
        }
        Ok(found)
    }

    /// Where a value names a schema (discriminator), the reference to it is written down, so that
    /// another name of the schema changes nothing.
    fn with_explicit_names(mut self, names: &Names) -> Self {
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let schemas = self
            .root
            .get("components")
            .and_then(|all| all.get("schemas"));
        for (name, schema) in schemas.and_then(Value::as_object).into_iter().flatten() {
            for parent in targets(schema.get("allOf")) {
                children.entry(parent).or_default().push(name.clone());
            }
        }
        let done = walk(
            &mut self.root,
            Kind::Document,
            &At::Root,
            &mut |object, kind, at| {
                if kind != Kind::Schema || !object.contains_key("discriminator") {
                    return Ok(());
                }
                let mut implied = targets(object.get("oneOf"));
                implied.extend(targets(object.get("anyOf")));
                if let At::Field(At::Field(At::Field(At::Root, "components"), "schemas"), name) = at
                {
                    implied.extend(children.get(*name).into_iter().flatten().cloned());
                }
                if let Some(Value::Object(discriminator)) = object.get_mut("discriminator") {
                    name_explicitly(discriminator, implied, names);
                }
                Ok(())
            },
        );
        debug_assert!(done.is_ok(), "this visitor finds no fault");
        self
    }
}

/// Whether it is nothing for callers.
pub(crate) fn is_internal(object: &Map<String, Value>) -> bool {
    object.get("x-internal") == Some(&Value::Bool(true))
}

/// Whether it is OpenAPI 3.0, or why it is neither that nor 3.1.
fn is_old(root: &Value) -> Result<bool, Fault> {
    if !root.is_object() {
        return Err(Fault::whole("is JSON, but no object"));
    }
    let said = root.get("openapi").or_else(|| root.get("swagger"));
    match said.and_then(Value::as_str) {
        Some(version) if version.starts_with("3.0.") => Ok(true),
        Some(version) if version.starts_with("3.1.") => Ok(false),
        Some(version) => Err(Fault::whole(format!(
            "is of OpenAPI {:?}; 3.0 and 3.1 are read",
            short(version)
        ))),
        None => Err(Fault::whole(
            "does not say \"openapi\", which names its version",
        )),
    }
}

/// The names of the schemas that these branches refer to.
fn targets(branches: Option<&Value>) -> Vec<String> {
    let branches = branches.and_then(Value::as_array).into_iter().flatten();
    let target = |branch: &Value| {
        let reference = branch.get("$ref")?.as_str()?;
        component(reference, "schemas").map(str::to_owned)
    };
    branches.filter_map(target).collect()
}

fn name_explicitly(discriminator: &mut Map<String, Value>, implied: Vec<String>, names: &Names) {
    let given = discriminator.remove("mapping");
    let mut mapping = Map::new();
    for name in implied {
        let reference = format!("#/components/schemas/{name}");
        mapping.insert(name, reference.into());
    }
    for (value, target) in given
        .as_ref()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let target = target.as_str().unwrap_or_default();
        let name = component(target, "schemas").unwrap_or(target);
        // What leads nowhere, or out of the document, tells nobody anything.
        if names.has("schemas", name) {
            let reference = format!("#/components/schemas/{name}");
            mapping.insert(value.clone(), reference.into());
        }
    }
    if !mapping.is_empty() {
        discriminator.insert("mapping".to_owned(), Value::Object(mapping));
    }
}

/// The names in braces of a path.
pub(crate) fn names_in(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

/// A path without the names of its parameters, by which nobody tells two paths apart.
pub(crate) fn shape(path: &str) -> String {
    let mut parts = path.split('{');
    let mut shape = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shape.push('{');
        shape.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
    }
    shape
}

#[cfg(test)]
mod tests;
