//! Makes every reference lead to a component.
//!
//! In: a document whose references may lead anywhere within it: into a path's answer, into a
//! schema's property. Out: the same, in which whatever is referred to is a component by a name of
//! its own; so parts of the document can be left out without leaving references to them. References
//! out of the document are a fault: nobody fetches what a plugin names. Path items stand where they
//! are used, since each may be left out alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::check::{Names, component};
use crate::fault::{Fault, short};
use crate::pointer::{At, find, tokens};
use crate::read::{MAX_BYTES, MAX_VALUES};
use crate::shape::Kind;
use crate::walk::walk;

/// A path item may refer to one that refers to one, but not for ever.
const MOST_REFERENCES: usize = 8;

/// A longer name of our making says nothing more.
const NAME_MAX: usize = 100;

#[derive(Default)]
struct Hoist {
    named: BTreeMap<(Kind, String), String>,
    /// Names of components, those of the document and ours.
    taken: BTreeSet<(&'static str, String)>,
    clashes: usize,
    /// What is still to be put among the components.
    pending: Vec<(Kind, Vec<String>, String)>,
}

/// Puts whatever is referred to among the components, and path items in their places.
pub(crate) fn hoist(root: &mut Value) -> Result<(), Fault> {
    let mut hoist = Hoist {
        taken: Names::of(root).into_set(),
        ..Hoist::default()
    };
    let mut left = Budget::new();
    walk(root, Kind::Document, &At::Root, &mut |object, kind, at| {
        hoist.see(object, kind, at)
    })?;
    while let Some((kind, tokens, name)) = hoist.pending.pop() {
        let found = find(root, &tokens).filter(|found| found.is_object() || found.is_boolean());
        let Some(found) = found else {
            let place = short(&format!("#/{}", tokens.join("/")));
            return Err(Fault::whole(format!(
                "refers to {place:?}, which is nowhere"
            )));
        };
        left.spend(found)?;
        let mut value = found.clone();
        let at = At::Field(&At::Root, &name);
        walk(&mut value, kind, &at, &mut |object, kind, at| {
            hoist.see(object, kind, at)
        })?;
        let section = kind.section().unwrap_or_default();
        let put = root.as_object_mut().and_then(|root| {
            let components = root
                .entry("components")
                .or_insert_with(|| Value::Object(Map::new()));
            let section = components
                .as_object_mut()?
                .entry(section)
                .or_insert_with(|| Value::Object(Map::new()));
            section.as_object_mut()
        });
        put.ok_or_else(|| Fault::whole("\"components\" must be an object of objects"))?
            .insert(name, value);
    }
    inline_path_items(root, &mut left)
}

impl Hoist {
    fn see(
        &mut self,
        object: &mut Map<String, Value>,
        kind: Kind,
        at: &At<'_>,
    ) -> Result<(), Fault> {
        let (Some(section), Some(Value::String(reference))) =
            (kind.section(), object.get_mut("$ref"))
        else {
            return Ok(());
        };
        if component(reference, section).is_some() {
            return Ok(());
        }
        let Some(tokens) = tokens(reference) else {
            let shown = short(reference);
            let why = format!(
                "refers to {shown:?}, outside of the document; bundle it into one document"
            );
            return Err(Fault::at(at, why));
        };
        let name = self.name((kind, section), reference, tokens);
        *reference = format!("#/components/{section}/{name}");
        Ok(())
    }

    /// The name by which the thing at this place is known as a component.
    fn name(
        &mut self,
        (kind, section): (Kind, &'static str),
        reference: &str,
        tokens: Vec<String>,
    ) -> String {
        let key = (kind, reference.to_owned());
        if let Some(known) = self.named.get(&key) {
            return known.clone();
        }
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let plain = |letter| if allowed(letter) { letter } else { '_' };
        let plain: String = tokens.join(".").chars().map(plain).take(NAME_MAX).collect();
        let mut name = format!("at.{plain}");
        // The count never goes back, so that many of one name cost no more than few.
        while !self.taken.insert((section, name.clone())) {
            self.clashes += 1;
            name = format!("at.{}.{plain}", self.clashes);
        }
        self.named.insert(key, name.clone());
        self.pending.push((kind, tokens, name.clone()));
        name
    }
}

/// What is copied counts against the values and the text that a document may hold.
struct Budget {
    values: usize,
    text: usize,
}

impl Budget {
    fn new() -> Self {
        Self {
            values: MAX_VALUES,
            text: MAX_BYTES,
        }
    }

    fn spend(&mut self, value: &Value) -> Result<(), Fault> {
        let mut text = 0;
        let values = count(value, &mut text);
        let left = self.values.checked_sub(values);
        let left = left.zip(self.text.checked_sub(text));
        let why = "refers to the same large things too often";
        (self.values, self.text) = left.ok_or_else(|| Fault::whole(why))?;
        Ok(())
    }
}

/// How many values there are, and how much text.
fn count(value: &Value, text: &mut usize) -> usize {
    let below: usize = match value {
        Value::Array(items) => items.iter().map(|item| count(item, text)).sum(),
        Value::Object(members) => {
            *text += members.keys().map(String::len).sum::<usize>();
            members.values().map(|member| count(member, text)).sum()
        }
        Value::String(string) => {
            *text += string.len();
            0
        }
        _ => 0,
    };
    below + 1
}

fn inline_path_items(root: &mut Value, left: &mut Budget) -> Result<(), Fault> {
    let shared = root.get("components").and_then(|all| all.get("pathItems"));
    let shared = shared.cloned().unwrap_or_default();
    for section in ["paths", "webhooks"] {
        if let Some(Value::Object(items)) = root.get_mut(section) {
            inline(items, &shared, &At::Field(&At::Root, section), left)?;
        }
    }
    Ok(())
}

fn inline(
    items: &mut Map<String, Value>,
    shared: &Value,
    at: &At<'_>,
    left: &mut Budget,
) -> Result<(), Fault> {
    for (name, item) in items {
        let at = At::Field(at, name);
        for hop in 0.. {
            let Some(item) = item.as_object_mut() else {
                break;
            };
            let Some(reference) = item.remove("$ref") else {
                break;
            };
            let reference = reference.as_str().unwrap_or_default();
            let name = component(reference, "pathItems").unwrap_or_default();
            let target = shared.get(name).and_then(Value::as_object);
            let target = target.filter(|_| hop < MOST_REFERENCES).ok_or_else(|| {
                let why = format!("refers to {:?}, which is nowhere", short(reference));
                Fault::at(&at, why)
            })?;
            for (name, value) in target {
                if !item.contains_key(name) {
                    left.spend(value)?;
                    item.insert(name.clone(), value.clone());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_is_referred_to_becomes_a_component() {
        let mut root = json!({
            "paths": {
                "/a": {"get": {"responses": {"200": {"description": "d", "content": {"application/json": {
                    "schema": {"type": "object", "properties": {"b": {"$ref": "#/paths/~1a/get/responses/200/content/application~1json/schema"}}}
                }}}}}},
                "/b": {"$ref": "#/paths/~1a"}
            },
            "components": {"schemas": {"S": {"properties": {"x": {"type": "string"}}},
                "T": {"$ref": "#/components/schemas/S/properties/x"},
                "U": {"example": {"$ref": "no reference"}, "properties": {"$ref": {"type": "string"}}}}}
        });
        hoist(&mut root).unwrap();
        let deep = "at.components.schemas.S.properties.x";
        assert_eq!(
            root["components"]["schemas"][deep],
            json!({"type": "string"})
        );
        let reference = format!("#/components/schemas/{deep}");
        assert_eq!(root["components"]["schemas"]["T"]["$ref"], reference);
        assert_eq!(root["paths"]["/b"], root["paths"]["/a"]);
        let own = "at.paths._a.get.responses.200.content.application_json.schema";
        let own = &root["components"]["schemas"][own]["properties"]["b"]["$ref"];
        assert!(
            own.as_str()
                .unwrap()
                .starts_with("#/components/schemas/at.paths")
        );
    }

    #[test]
    fn what_leads_out_or_nowhere_is_a_fault() {
        for (reference, says) in [
            ("other.json#/S", "outside of the document"),
            ("https://elsewhere/a.json", "outside"),
            ("#", "outside"),
            ("#/paths/~1none", "nowhere"),
        ] {
            let mut root = json!({"components": {"schemas": {"S": {"$ref": reference}}}});
            let why = hoist(&mut root).unwrap_err().to_string();
            assert!(why.contains(says), "{reference}: {why}");
        }
        let mut round = json!({"paths": {"/a": {"$ref": "#/components/pathItems/P"}},
            "components": {"pathItems": {"P": {"$ref": "#/components/pathItems/P"}}}});
        assert!(hoist(&mut round).is_err());
    }

    #[test]
    fn copies_are_bounded() {
        let big: Vec<u32> = (0..2000).collect();
        let mut properties = Map::new();
        let mut refs = Vec::new();
        for at in 0..200 {
            properties.insert(format!("p{at}"), json!({"enum": big}));
            refs.push(json!({"$ref": format!("#/components/schemas/S/properties/p{at}")}));
        }
        let mut root = json!({"components": {"schemas": {"S": {"properties": properties}, "T": {"anyOf": refs}}}});
        assert!(
            hoist(&mut root)
                .unwrap_err()
                .to_string()
                .contains("too often")
        );
        // Text counts as values do: few copies of a long one are as large as many of short ones.
        let said = |length: usize| {
            json!({"paths": {
                "/a": {"$ref": "#/components/pathItems/P"}, "/b": {"$ref": "#/components/pathItems/P"},
                "/c": {"$ref": "#/components/pathItems/P"}},
            "components": {"pathItems": {"P": {"description": "d".repeat(length)}}}})
        };
        assert!(hoist(&mut said(MAX_BYTES / 4)).is_ok());
        let why = hoist(&mut said(MAX_BYTES / 2)).unwrap_err().to_string();
        assert!(why.contains("too often"), "{why}");
    }
}
