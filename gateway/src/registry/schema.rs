//! The JSON Schema of a plugin file (draft-07), for editors and for those who keep plugin files in
//! a repository of their own.
//!
//! In: the one table of fields. Out: the schema as JSON. It says what each field may hold; what two
//! fields say of each other, and what the whole folder does, `--check --only plugins` tells.
//! Invariant: what loads fits the schema.

use serde_json::{Map, Value, json};

use super::fields::{Field, PLUGIN, Shape};

/// The schema.
#[must_use]
pub(crate) fn schema() -> Value {
    let mut schema = object(PLUGIN);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("A plugin of Gapura's registry");
    schema
}

fn object(fields: &[Field]) -> Value {
    let property = |field: &Field| {
        let mut property = of(&field.shape);
        property["description"] = json!(field.docs);
        (field.name.to_owned(), property)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let required = fields.iter().filter(|field| field.required);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    let mut object = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    // An empty list is none in draft 4, which some editors still read.
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn of(shape: &Shape) -> Value {
    match shape {
        Shape::Text("") => json!({"type": "string"}),
        Shape::Text(pattern) => json!({"type": "string", "pattern": pattern}),
        Shape::Word(words) => json!({"type": "string", "enum": words}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Off => json!({"type": "boolean", "enum": [false]}),
        Shape::Nothing => json!({"type": "null"}),
        Shape::Whole(least, u64::MAX) => json!({"type": "integer", "minimum": least}),
        Shape::Whole(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Shape::List(each, least, most) => {
            let mut list = json!({"type": "array", "items": of(each)});
            if *least > 0 {
                list["minItems"] = json!(least);
            }
            if *most < usize::MAX {
                list["maxItems"] = json!(most);
            }
            list
        }
        Shape::Object(fields) => object(fields),
        Shape::Map(each, most) => {
            json!({"type": "object", "additionalProperties": of(each), "maxProperties": most})
        }
        Shape::Either(shapes) => {
            let each: Vec<Value> = shapes.iter().map(of).collect();
            json!({"anyOf": each})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every object of a schema, with the way to it.
    fn objects<'v>(at: &str, value: &'v Value, found: &mut Vec<(String, &'v Value)>) {
        match value {
            Value::Object(members) => {
                if value["type"] == "object" {
                    found.push((at.to_owned(), value));
                }
                for (name, member) in members {
                    objects(&format!("{at}/{name}"), member, found);
                }
            }
            Value::Array(list) => list.iter().for_each(|each| objects(at, each, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_says_what_it_means_and_none_stands_twice() {
        let schema = schema();
        let mut found = Vec::new();
        objects("", &schema, &mut found);
        assert!(found.len() > 8, "{}", found.len());
        for (at, object) in found {
            for (name, property) in object["properties"].as_object().into_iter().flatten() {
                let docs = property["description"].as_str().unwrap();
                assert!(docs.ends_with('.') && docs.len() > 8, "{at}/{name}: {docs}");
            }
        }
        let names: std::collections::BTreeSet<_> = PLUGIN.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), PLUGIN.len());
    }

    #[test]
    fn the_five_that_a_file_needs_are_required() {
        let required = schema()["required"].clone();
        assert_eq!(
            required,
            json!(["name", "version", "mount", "upstream", "auth_mode"])
        );
    }
}
