//! Values that fit a JSON Schema, with a mark wherever a free text may stand.

use serde_json::{Map, Value, json};

use super::contract::Contract;

/// How much of an object is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Every property that may be written.
    All,
    /// Those that must be there.
    Required,
}

/// Schemas may nest, but not for ever.
const DEEPEST: usize = 12;

/// A value of `schema` that bears `mark`.
pub(super) fn sample(contract: &Contract, schema: &Value, mark: &str, fill: Fill) -> Value {
    of(contract, schema, mark, fill, 0)
}

/// A value as it stands in a path or a query.
pub(super) fn in_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn of(contract: &Contract, schema: &Value, mark: &str, fill: Fill, depth: usize) -> Value {
    let schema = contract.resolve(schema);
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(first) = schema.get("enum").and_then(|list| list.get(0)) {
        return first.clone();
    }
    for choice in ["oneOf", "anyOf"] {
        let options = schema.get(choice).and_then(Value::as_array);
        let is_some = |option: &&Value| kind_of(contract.resolve(option)) != Some("null");
        if let Some(option) = options.and_then(|all| all.iter().find(is_some)) {
            return of(contract, option, mark, fill, depth + 1);
        }
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        let mut whole = Map::new();
        for part in parts {
            match of(contract, part, mark, fill, depth + 1) {
                Value::Object(fields) => whole.extend(fields),
                other if whole.is_empty() && parts.len() == 1 => return other,
                _ => {}
            }
        }
        if let Value::Object(fields) = object(contract, schema, mark, fill, depth) {
            whole.extend(fields);
        }
        return Value::Object(whole);
    }
    let example = example_of(schema);
    match kind_of(schema) {
        Some("string") => text(schema, example, mark),
        Some("integer" | "number") => example.cloned().unwrap_or_else(|| number(schema)),
        Some("boolean") => example.cloned().unwrap_or(Value::Bool(true)),
        Some("array") => {
            let item = schema.get("items").unwrap_or(&Value::Null);
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1);
            let count = usize::try_from(count.clamp(1, 8)).unwrap_or(1);
            vec![of(contract, item, mark, fill, depth + 1); count].into()
        }
        Some("object") => object(contract, schema, mark, fill, depth),
        Some("null") => Value::Null,
        _ if schema.get("properties").is_some() => object(contract, schema, mark, fill, depth),
        // Anything at all may stand there.
        _ => example.cloned().unwrap_or_else(|| json!(mark)),
    }
}

/// The type, or the first of several that is more than null.
fn kind_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            kinds.clone().find(|kind| *kind != "null").or(kinds.next())
        }
        _ => None,
    }
}

fn example_of(schema: &Value) -> Option<&Value> {
    schema
        .get("example")
        .or_else(|| schema.get("examples").and_then(|list| list.get(0)))
        .or_else(|| schema.get("default"))
        .filter(|example| !example.is_null())
}

fn object(contract: &Contract, schema: &Value, mark: &str, fill: Fill, depth: usize) -> Value {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Value::Object(Map::new());
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| {
        required.is_some_and(|names| names.iter().any(|known| known.as_str() == Some(name)))
    };
    let written = properties.iter().filter(|(name, property)| {
        let read_only = contract.resolve(property).get("readOnly") == Some(&Value::Bool(true));
        !read_only && (fill == Fill::All || is_required(name))
    });
    written
        .map(|(name, property)| (name.clone(), of(contract, property, mark, fill, depth + 1)))
        .collect::<Map<_, _>>()
        .into()
}

fn number(schema: &Value) -> Value {
    let bound = |name: &str| schema.get(name).filter(|value| value.is_number()).cloned();
    let above = schema.get("exclusiveMinimum").and_then(Value::as_i64);
    bound("minimum")
        .or_else(|| above.map(|least| json!(least + 1)))
        .or_else(|| bound("maximum").filter(|most| most.as_f64().is_some_and(|most| most < 1.0)))
        .unwrap_or_else(|| json!(1))
}

fn text(schema: &Value, example: Option<&Value>, mark: &str) -> Value {
    let size = |name: &str| schema.get(name).and_then(Value::as_u64);
    let most = size("maxLength").unwrap_or(u64::MAX);
    let format = schema.get("format").and_then(Value::as_str);
    let has_room = mark.len() as u64 <= most;
    let made = match format.unwrap_or_default() {
        "date-time" => "2026-01-02T03:04:05Z".to_owned(),
        "date" => "2026-01-02".to_owned(),
        "time" => "03:04:05Z".to_owned(),
        "uuid" => {
            return example
                .cloned()
                .unwrap_or_else(|| json!("6f1c9a52-8d3e-4b7a-9c15-2e0f4d6b8a31"));
        }
        "email" => format!("{mark}@example.com"),
        "uri" | "url" => format!("https://example.com/{mark}"),
        "ipv4" => "192.0.2.7".to_owned(),
        "ipv6" => "2001:db8::7".to_owned(),
        // What fits a pattern can't be known; a mark of letters and digits fits many.
        _ if has_room => mark.to_owned(),
        _ => mark
            .chars()
            .take(usize::try_from(most).unwrap_or(0))
            .collect(),
    };
    let least = usize::try_from(size("minLength").unwrap_or(0).min(4096)).unwrap_or(0);
    let filled = made.clone() + &"x".repeat(least.saturating_sub(made.len()));
    let fits_mark = schema.get("pattern").is_none() || fits_words(schema);
    match example {
        Some(example) if !fits_mark => example.clone(),
        _ => json!(filled),
    }
}

/// Whether a pattern names the characters that a mark is made of.
fn fits_words(schema: &Value) -> bool {
    let pattern = schema.get("pattern").and_then(Value::as_str);
    pattern.is_some_and(|pattern| {
        pattern.contains("\\w") || (pattern.contains("a-z") && pattern.contains("0-9"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_of(schema: Value, fill: Fill) -> Value {
        let contract = Contract::read(json!({"paths": {"/": {"get": {}}},
            "schemas": {"node": {"type": "object", "properties": {"next": {"$ref": "#/schemas/node"}, "name": {"type": "string"}}}}}))
        .unwrap();
        sample(&contract, &schema, "mark12", fill)
    }

    #[test]
    fn what_may_hold_a_mark_has_it() {
        for (schema, wanted) in [
            (json!({"type": "string"}), json!("mark12")),
            (json!({"type": ["null", "string"]}), json!("mark12")),
            (
                json!({"type": "string", "format": "email"}),
                json!("mark12@example.com"),
            ),
            (json!({"type": "string", "minLength": 8}), json!("mark12xx")),
            (json!({"type": "string", "maxLength": 3}), json!("mar")),
            (
                json!({"type": "string", "pattern": "^[A-Z]{3}$", "example": "ABC"}),
                json!("ABC"),
            ),
            (
                json!({"type": "string", "pattern": "^[a-z0-9]+$", "example": "abc"}),
                json!("mark12"),
            ),
            (json!({"enum": ["a", "b"]}), json!("a")),
            (json!({"const": 5}), json!(5)),
            (json!({"type": "integer", "minimum": 3}), json!(3)),
            (json!({"type": "number", "exclusiveMinimum": 3}), json!(4)),
            (json!({"type": "integer", "default": 20}), json!(20)),
            (
                json!({"type": "array", "items": {"type": "string"}, "minItems": 2}),
                json!(["mark12", "mark12"]),
            ),
            (
                json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
                json!("mark12"),
            ),
            (
                json!({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}},
                {"properties": {"b": {"type": "boolean"}}}]}),
                json!({"a": "mark12", "b": true}),
            ),
            (Value::Null, json!("mark12")),
        ] {
            assert_eq!(sample_of(schema.clone(), Fill::All), wanted, "{schema}");
        }
    }

    #[test]
    fn an_object_has_what_may_be_written_or_what_must() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string"}, "b": {"type": "string"}, "id": {"type": "integer", "readOnly": true}}});
        assert_eq!(
            sample_of(schema.clone(), Fill::All),
            json!({"a": "mark12", "b": "mark12"})
        );
        assert_eq!(sample_of(schema, Fill::Required), json!({"a": "mark12"}));
    }

    #[test]
    fn what_nests_for_ever_ends() {
        let value = sample_of(json!({"$ref": "#/schemas/node"}), Fill::All);
        assert_eq!(value["next"]["next"]["name"], "mark12");
    }
}
