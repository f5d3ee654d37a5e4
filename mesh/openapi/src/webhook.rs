//! The requests that a plugin sends by itself, to whoever asked for them.
//!
//! In: a document. Out: each webhook under the plugin's name, as text. They come from the plugin
//! and not through the gateway, so that neither a mount nor the gateway's security says anything of
//! them, and no rule of a caller's leads to one: they are for those who see all of the plugin.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::document::{Document, is_internal};
use crate::rewrite::{Rewrite, places};
use crate::shape::{Kind, METHODS};

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    /// Its name and value.
    pub(crate) text: String,
    pub(crate) tags: Vec<usize>,
    pub(crate) needs: Vec<usize>,
}

/// One that is kept, before it is written down: its name, and its item without what is internal.
pub(crate) type Kept<'d> = (&'d String, Map<String, Value>);

/// Those that are for callers.
pub(crate) fn kept(document: &Document) -> Vec<Kept<'_>> {
    let for_callers = document.webhooks().filter(|(_, item)| !is_internal(item));
    let kept = for_callers.filter_map(|(name, item)| {
        let mut item = item.clone();
        item.retain(|name, value| {
            let is_method = METHODS.contains(&name.as_str());
            !is_method || value.as_object().is_some_and(|one| !is_internal(one))
        });
        of_no_path(document, &mut item);
        for method in METHODS {
            if let Some(Value::Object(operation)) = item.get_mut(method) {
                of_no_path(document, operation);
            }
        }
        let kept = (name, item);
        let is_one = operations(&kept).next().is_some();
        is_one.then_some(kept)
    });
    kept.collect()
}

/// The operations of one.
pub(crate) fn operations<'k>(
    (_, item): &'k Kept<'k>,
) -> impl Iterator<Item = &'k Map<String, Value>> {
    let each = METHODS.into_iter().filter_map(|method| item.get(method));
    each.filter_map(Value::as_object)
}

/// One as text.
pub(crate) fn written(
    (name, item): &Kept<'_>,
    plugin: &str,
    rewrite: &Rewrite,
    tags: &BTreeMap<String, usize>,
) -> Webhook {
    let mut value = Value::Object(item.clone());
    let needs = rewrite.apply(&mut value, Kind::PathItem);
    let operations = METHODS.into_iter().filter_map(|method| value.get(method));
    let tags = operations.flat_map(|one| places(one, tags)).collect();
    let name = Value::from(format!("{plugin}_{name}"));
    Webhook {
        text: format!("{name}:{value}"),
        tags,
        needs,
    }
}

/// A webhook has no path, and none of its parameters can stand in one.
fn of_no_path(document: &Document, of: &mut Map<String, Value>) {
    if let Some(Value::Array(parameters)) = of.get_mut("parameters") {
        parameters.retain(|listed| document.resolve(listed).get("in") != Some(&"path".into()));
    }
}
