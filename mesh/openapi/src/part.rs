//! A plugin's part of the document of all plugins.
//!
//! In: its contract, and where it is mounted. Out: a [`Part`]: each operation, each component, each
//! tag as text that only has to be put together, whatever else is in the whole and whoever is to
//! see how much of it. Names carry the plugin's name always, so that a further plugin changes
//! nothing for those who know the others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::document::{Document, is_internal, shape};
use crate::rewrite::{Component, Rewrite, Targets, places};
use crate::shape::{Kind, METHODS};
use crate::webhook::{self, Webhook};

pub use crate::site::{Door, Site};

/// What a plugin brings to the whole.
#[derive(Clone, Debug)]
pub struct Part {
    pub(crate) plugin: String,
    /// What is told of the plugin as a whole.
    pub(crate) about: String,
    pub(crate) tags: Vec<Piece>,
    pub(crate) paths: Vec<PathPart>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) components: Vec<Component>,
    unreached: usize,
}

/// Text under a name.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) text: String,
}

#[derive(Clone, Debug)]
pub(crate) struct PathPart {
    /// As JSON.
    pub(crate) key: String,
    /// Members beside the operations, as JSON without braces.
    pub(crate) head: String,
    pub(crate) operations: Vec<usize>,
}

/// An operation, as a caller reaches it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its method, in capitals.
    pub method: String,
    /// Its public path, with names in braces.
    pub path: String,
    /// Its member name and value.
    pub(crate) text: String,
    pub(crate) tags: Vec<usize>,
    pub(crate) needs: Vec<usize>,
}

/// An operation that is kept, before it is written down.
struct Kept<'d> {
    public: String,
    item: &'d Map<String, Value>,
    method: &'static str,
    operation: &'d Map<String, Value>,
}

impl Part {
    /// What `document` brings, mounted at `site`.
    #[must_use]
    pub fn of(document: &Document, site: &Site<'_>) -> Self {
        let (mut kept, mut unreached) = (Vec::new(), 0);
        let mut shapes: BTreeMap<String, String> = BTreeMap::new();
        let mut targets = Targets::default();
        for (path, item) in document.paths().filter(|(_, item)| !is_internal(item)) {
            for method in METHODS {
                let Some(Value::Object(operation)) = item.get(method) else {
                    continue;
                };
                if is_internal(operation) {
                    continue;
                }
                let Some(public) = site.public(document, item, operation, path) else {
                    unreached += 1;
                    continue;
                };
                // Servers may bring two paths together that differ in the names of their parameters
                // alone, which is one path.
                let known = shapes.entry(shape(&public));
                if known.or_insert_with(|| public.clone()) != &public {
                    unreached += 1;
                    continue;
                }
                let id = operation.get("operationId").and_then(Value::as_str);
                targets.add(path, method, id, &public);
                kept.push(Kept {
                    public,
                    item,
                    method,
                    operation,
                });
            }
        }
        let webhooks = webhook::kept(document);
        let tagged = kept.iter().map(|one| one.operation);
        let tagged = tagged.chain(webhooks.iter().flat_map(webhook::operations));
        let rewrite = Rewrite::new(document, site.plugin, targets);
        let mut part = Self {
            plugin: site.plugin.to_owned(),
            about: about(document, site),
            tags: tags(document, site.plugin, tagged),
            paths: Vec::new(),
            operations: Vec::with_capacity(kept.len()),
            webhooks: Vec::new(),
            components: rewrite.components(document),
            unreached,
        };
        let tags = part.tags.iter().enumerate();
        let tags: BTreeMap<String, usize> = tags.map(|(at, tag)| (tag.name.clone(), at)).collect();
        let mut paths: BTreeMap<String, (&Map<String, Value>, Vec<usize>)> = BTreeMap::new();
        for one in &kept {
            let at = part.operations.len();
            let (_, operations) = paths
                .entry(one.public.clone())
                .or_insert_with(|| (one.item, Vec::new()));
            // Two servers may lead two operations to one place; the first is what is reached there.
            if operations.iter().any(|known| {
                part.operations
                    .get(*known)
                    .is_some_and(|known| known.method.eq_ignore_ascii_case(one.method))
            }) {
                part.unreached += 1;
                continue;
            }
            operations.push(at);
            let written = written(document, one, site, (&rewrite, &tags));
            part.operations.push(written);
        }
        let written = |one| webhook::written(one, site.plugin, &rewrite, &tags);
        part.webhooks = webhooks.iter().map(written).collect();
        part.paths = paths
            .into_iter()
            .map(|(public, (item, operations))| PathPart {
                key: Value::from(public).to_string(),
                head: head(item),
                operations,
            })
            .collect();
        part
    }

    /// Each operation, in the order in which what is seen of a part counts them.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// How many operations the document describes that no request reaches: outside of the mount, or
    /// where another plugin or the gateway itself answers.
    #[must_use]
    pub fn unreached(&self) -> usize {
        self.unreached
    }
}

/// An operation as text.
fn written(
    document: &Document,
    kept: &Kept<'_>,
    site: &Site<'_>,
    (rewrite, tags): (&Rewrite, &BTreeMap<String, usize>),
) -> Operation {
    let mut operation = kept.operation.clone();
    let parameters = parameters(document, kept, site);
    if parameters.is_empty() {
        operation.remove("parameters");
    } else {
        operation.insert("parameters".to_owned(), Value::Array(parameters));
    }
    let mut value = Value::Object(operation);
    let needs = rewrite.apply(&mut value, Kind::Operation);
    let tags = places(&value, tags).collect();
    if let Value::Object(operation) = &mut value {
        let security = match site.door {
            Door::Token => json!([{"bearer": []}]),
            Door::Open => json!([]),
        };
        operation.insert("security".to_owned(), security);
        refusals(operation);
    }
    Operation {
        method: kept.method.to_ascii_uppercase(),
        path: kept.public.clone(),
        text: format!("\"{}\":{value}", kept.method),
        tags,
        needs,
    }
}

/// What the gateway and the sidecar may answer in the plugin's place, where the plugin says nothing
/// of its own.
fn refusals(operation: &mut Map<String, Value>) {
    let responses = operation
        .entry("responses")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(responses) = responses
        && !responses.contains_key("default")
    {
        for range in ["4XX", "5XX"] {
            responses
                .entry(range)
                .or_insert_with(|| json!({"$ref": "#/components/responses/GapuraRefusal"}));
        }
    }
}

/// The parameters of an operation, those of its path among them, but for headers that no client can
/// send.
fn parameters(document: &Document, kept: &Kept<'_>, site: &Site<'_>) -> Vec<Value> {
    let list = |of: &Map<String, Value>| {
        let list = of.get("parameters").and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let mut seen = BTreeSet::new();
    let mut all = list(kept.operation);
    all.extend(list(kept.item));
    all.retain(|listed| {
        let parameter = document.resolve(listed);
        let text = |name: &str| {
            parameter
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (name, place) = (text("name"), text("in"));
        let is_new = seen.insert((name.to_owned(), place.to_owned()));
        is_new && (place != "header" || (site.passes)(name))
    });
    all
}

/// What is told of a plugin as a whole, its vendor fields among it.
fn about(document: &Document, site: &Site<'_>) -> String {
    let mut about = Map::new();
    let root = document.root().as_object();
    for (name, value) in root.into_iter().flatten() {
        if name.starts_with("x-") {
            about.insert(name.clone(), value.clone());
        }
    }
    about.insert("title".to_owned(), document.title().into());
    about.insert("version".to_owned(), document.version().into());
    about.insert("mount".to_owned(), site.mount.into());
    let described = document
        .root()
        .get("info")
        .and_then(|info| info.get("description"));
    if let Some(described) = described {
        about.insert("description".to_owned(), described.clone());
    }
    Value::Object(about).to_string()
}

/// Each tag that an operation has, with what the document tells of it, and the plugin's own for
/// operations that have none.
fn tags<'d>(
    document: &Document,
    plugin: &str,
    operations: impl Iterator<Item = &'d Map<String, Value>>,
) -> Vec<Piece> {
    let own = |operation: &Map<String, Value>| {
        let tags = operation.get("tags").and_then(Value::as_array);
        let names = tags.into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut bare = false;
    for operation in operations {
        let names = own(operation);
        bare |= names.is_empty();
        used.extend(names);
    }
    let declared = document.root().get("tags").and_then(Value::as_array);
    let told: BTreeMap<&str, &Map<String, Value>> = declared
        .into_iter()
        .flatten()
        .filter_map(|tag| Some((tag.get("name")?.as_str()?, tag.as_object()?)))
        .collect();
    let mut pieces = Vec::new();
    if bare {
        let tag = json!({"name": plugin, "description": document.title()});
        pieces.push(Piece {
            name: plugin.to_owned(),
            text: tag.to_string(),
        });
    }
    for name in used {
        let mut tag = told
            .get(name.as_str())
            .map_or_else(Map::new, |tag| (*tag).clone());
        let name = format!("{plugin}_{name}");
        tag.insert("name".to_owned(), name.clone().into());
        pieces.push(Piece {
            text: Value::Object(tag).to_string(),
            name,
        });
    }
    pieces
}

/// What a path item says beside its operations.
fn head(item: &Map<String, Value>) -> String {
    let mut head = String::new();
    for (name, value) in item {
        if name == "summary" || name == "description" || name.starts_with("x-") {
            let name = Value::from(name.as_str());
            head.push_str(&format!("{name}:{value},"));
        }
    }
    head
}

#[cfg(test)]
mod tests;
