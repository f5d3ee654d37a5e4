//! Schemas of OpenAPI 3.0 as 3.1 writes them: 3.0 had a dialect of its own, 3.1 has JSON Schema.
//!
//! In: a schema object of 3.0. Out: the same in 3.1. Beside a `$ref` 3.0 ignores whatever stands,
//! and 3.1 does not, so it goes. `nullable` is taken as those who write it mean it: null is a value
//! too, whatever else the schema says.

use serde_json::{Map, Value, json};

/// Rewrites one schema object; those below it are rewritten by whoever walks there.
pub(crate) fn schema(schema: &mut Map<String, Value>) {
    if schema.contains_key("$ref") {
        schema.retain(|name, _| name == "$ref" || name == "description" || name == "summary");
        return;
    }
    bound(schema, "minimum", "exclusiveMinimum");
    bound(schema, "maximum", "exclusiveMaximum");
    if let Some(example) = schema.remove("example") {
        schema.entry("examples").or_insert(json!([example]));
    }
    if schema.remove("nullable") == Some(Value::Bool(true)) {
        nullable(schema);
    }
}

/// A bound that excludes itself was a flag beside the bound, and is a bound of its own.
fn bound(schema: &mut Map<String, Value>, inclusive: &str, exclusive: &str) {
    match schema.get(exclusive) {
        Some(Value::Bool(true)) => match schema.remove(inclusive) {
            Some(bound) => schema.insert(exclusive.to_owned(), bound),
            None => schema.remove(exclusive),
        },
        Some(Value::Bool(false)) => schema.remove(exclusive),
        _ => None,
    };
}

fn nullable(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    if let Some(known) = schema.get_mut("type")
        && known.is_string()
    {
        *known = json!([known.clone(), "null"]);
    }
    let nothing = json!({"type": "null"});
    for word in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = schema.get_mut(word)
            && !branches.contains(&nothing)
        {
            branches.push(nothing.clone());
        }
    }
    if schema.contains_key("allOf") {
        // All of these say what a value is that is not null.
        let mut inner = std::mem::take(schema);
        for word in [
            "title",
            "description",
            "default",
            "readOnly",
            "writeOnly",
            "deprecated",
        ] {
            if let Some(value) = inner.remove(word) {
                schema.insert(word.to_owned(), value);
            }
        }
        let branches = json!([inner, nothing]);
        schema.insert("anyOf".to_owned(), branches);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_the_old_dialect_has_its_new_one() {
        for (old, new) in [
            (
                json!({"type": "string", "nullable": true}),
                json!({"type": ["string", "null"]}),
            ),
            (
                json!({"type": "string", "nullable": false}),
                json!({"type": "string"}),
            ),
            (
                json!({"type": "string", "enum": ["a"], "nullable": true}),
                json!({"type": ["string", "null"], "enum": ["a", null]}),
            ),
            (
                json!({"oneOf": [{"$ref": "#/a"}], "nullable": true}),
                json!({"oneOf": [{"$ref": "#/a"}, {"type": "null"}]}),
            ),
            (
                json!({"allOf": [{"$ref": "#/a"}], "nullable": true, "description": "d"}),
                json!({"anyOf": [{"allOf": [{"$ref": "#/a"}]}, {"type": "null"}], "description": "d"}),
            ),
            (
                json!({"minimum": 1, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false}),
                json!({"exclusiveMinimum": 1, "maximum": 9}),
            ),
            (json!({"exclusiveMinimum": true}), json!({})),
            (json!({"example": 5}), json!({"examples": [5]})),
            (
                json!({"$ref": "#/a", "nullable": true, "description": "d", "type": "string"}),
                json!({"$ref": "#/a", "description": "d"}),
            ),
        ] {
            let mut value = old.clone();
            schema(value.as_object_mut().unwrap());
            assert_eq!(value, new, "{old}");
        }
    }
}
