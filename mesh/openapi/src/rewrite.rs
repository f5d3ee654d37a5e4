//! Gives what a document names the plugin's name.
//!
//! In: an operation or a component of a document. Out: the same with every reference, id and tag
//! under the plugin's name, and the components that it needs. What leads to an operation that is
//! left out is left out too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::check::component;
use crate::document::Document;
use crate::pointer::{At, escaped, tokens};
use crate::shape::{Kind, METHODS};
use crate::walk::walk;

/// A component under its new name.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) section: &'static str,
    /// Its name and value.
    pub(crate) text: String,
    pub(crate) needs: Vec<usize>,
}

/// Where links may lead.
#[derive(Default)]
pub(crate) struct Targets {
    by_place: BTreeMap<(String, &'static str), String>,
    ids: BTreeSet<String>,
}

/// How the names of one document change.
pub(crate) struct Rewrite {
    plugin: String,
    /// Of each component its place among them.
    index: BTreeMap<(&'static str, String), usize>,
    targets: Targets,
    /// Links among the components that lead nowhere.
    broken: BTreeSet<String>,
}

impl Targets {
    /// An operation is kept, and is reached at this public path.
    pub(crate) fn add(&mut self, path: &str, method: &'static str, id: Option<&str>, public: &str) {
        self.by_place
            .insert((path.to_owned(), method), public.to_owned());
        self.ids.extend(id.map(str::to_owned));
    }

    fn find(&self, reference: &str) -> Option<(&'static str, &str)> {
        let tokens = tokens(reference)?;
        let [paths, path, method] = tokens.as_slice() else {
            return None;
        };
        let method = METHODS.into_iter().find(|known| known == method)?;
        let place = (path.clone(), method);
        let target = self.by_place.get(&place).filter(|_| paths == "paths")?;
        Some((method, target.as_str()))
    }
}

impl Rewrite {
    pub(crate) fn new(document: &Document, plugin: &str, targets: Targets) -> Self {
        let mut index = BTreeMap::new();
        for (kind, name, _) in components(document) {
            let at = index.len();
            index.insert((kind.section().unwrap_or_default(), name.clone()), at);
        }
        let mut rewrite = Self {
            plugin: plugin.to_owned(),
            index,
            targets,
            broken: BTreeSet::new(),
        };
        let links = components(document).filter(|(kind, ..)| *kind == Kind::Link);
        rewrite.broken = links
            .filter(|(_, _, link)| !rewrite.leads(document.resolve(link)))
            .map(|(_, name, _)| name.clone())
            .collect();
        rewrite
    }

    /// Every component under its new name.
    pub(crate) fn components(&self, document: &Document) -> Vec<Component> {
        let written = |(kind, name, value): (Kind, &String, &Value)| {
            let mut value = value.clone();
            let needs = self.apply(&mut value, kind);
            let key = Value::from(self.named(name));
            Component {
                section: kind.section().unwrap_or_default(),
                text: format!("{key}:{value}"),
                needs,
            }
        };
        components(document).map(written).collect()
    }

    /// Changes the names in `value`; which components it needs, each once.
    pub(crate) fn apply(&self, value: &mut Value, kind: Kind) -> Vec<usize> {
        let mut needs = Vec::new();
        let done = walk(value, kind, &At::Root, &mut |object, kind, _| {
            self.object(object, kind, &mut needs);
            Ok(())
        });
        debug_assert!(done.is_ok(), "this visitor finds no fault");
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    fn named(&self, name: &str) -> String {
        format!("{}_{name}", self.plugin)
    }

    fn object(&self, object: &mut Map<String, Value>, kind: Kind, needs: &mut Vec<usize>) {
        if let Some(section) = kind.section()
            && let Some(Value::String(reference)) = object.get_mut("$ref")
        {
            self.reference(reference, section, needs);
        }
        match kind {
            Kind::Discriminator => {
                let mapping = object.get_mut("mapping").and_then(Value::as_object_mut);
                for target in mapping.into_iter().flat_map(Map::values_mut) {
                    if let Value::String(reference) = target {
                        self.reference(reference, "schemas", needs);
                    }
                }
            }
            Kind::PathItem => {
                object.remove("servers");
            }
            Kind::Operation => self.operation(object),
            Kind::Response => {
                if let Some(Value::Object(links)) = object.get_mut("links") {
                    links.retain(|_, link| self.leads(link));
                }
            }
            Kind::Link => self.link(object),
            _ => {}
        }
    }

    fn reference(&self, reference: &mut String, section: &'static str, needs: &mut Vec<usize>) {
        let Some(name) = component(reference, section) else {
            return;
        };
        needs.extend(self.index.get(&(section, name.to_owned())));
        *reference = format!("#/components/{section}/{}", self.named(name));
    }

    fn operation(&self, operation: &mut Map<String, Value>) {
        operation.remove("security");
        operation.remove("servers");
        if let Some(Value::String(id)) = operation.get_mut("operationId") {
            *id = self.named(id);
        }
        let own = operation.get("tags").and_then(Value::as_array);
        let own = own.into_iter().flatten().filter_map(Value::as_str);
        let mut tags: Vec<Value> = own.map(|tag| self.named(tag).into()).collect();
        if tags.is_empty() {
            tags.push(self.plugin.as_str().into());
        }
        operation.insert("tags".to_owned(), Value::Array(tags));
    }

    /// Whether a link leads to an operation that is kept, or out of the document.
    fn leads(&self, link: &Value) -> bool {
        let text = |name: &str| link.get(name).and_then(Value::as_str);
        if let Some(reference) = text("$ref") {
            let name = component(reference, "links").unwrap_or_default();
            return !self.broken.contains(name);
        }
        if let Some(id) = text("operationId") {
            return self.targets.ids.contains(id);
        }
        let reference = text("operationRef").unwrap_or_default();
        reference.contains("://") || self.targets.find(reference).is_some()
    }

    fn link(&self, link: &mut Map<String, Value>) {
        if let Some(Value::String(id)) = link.get_mut("operationId") {
            *id = self.named(id);
        } else if let Some(Value::String(reference)) = link.get_mut("operationRef")
            && let Some((method, target)) = self.targets.find(reference)
        {
            *reference = format!("#/paths/{}/{method}", escaped(target));
        }
    }
}

/// Where the tags of an operation stand among those of the part.
pub(crate) fn places<'v>(
    operation: &'v Value,
    tags: &'v BTreeMap<String, usize>,
) -> impl Iterator<Item = usize> + 'v {
    let own = operation.get("tags").and_then(Value::as_array);
    let own = own.into_iter().flatten().filter_map(Value::as_str);
    own.filter_map(|tag| tags.get(tag).copied())
}

/// Each component that can be referred to.
fn components(document: &Document) -> impl Iterator<Item = (Kind, &String, &Value)> {
    const KINDS: [Kind; 9] = [
        Kind::Schema,
        Kind::Response,
        Kind::Parameter,
        Kind::Example,
        Kind::RequestBody,
        Kind::Header,
        Kind::Link,
        Kind::Callback,
        Kind::PathItem,
    ];
    let all = document.root().get("components");
    KINDS.into_iter().flat_map(move |kind| {
        let section = kind.section().and_then(|name| all?.get(name)?.as_object());
        let members = section.into_iter().flatten();
        members.map(move |(name, value)| (kind, name, value))
    })
}
