//! Finds what is made of itself without end.
//!
//! In: a document's components, whose references all lead to components. Out: a fault if one leads
//! to itself before a single byte of a value has been looked at: a reference that leads round to
//! itself, a schema that is one of its own alternatives. Nobody could ever decide it. A schema that
//! holds itself in a property, as a tree does, is no such thing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fault::Fault;
use crate::shape::Kind;

type Edges<'v> = BTreeMap<&'v str, Vec<&'v str>>;

/// Looks at all components.
pub(crate) fn check(root: &Value) -> Result<(), Fault> {
    for field in Kind::Components.fields() {
        let section = root.get("components").and_then(|all| all.get(field.name));
        let Some(section) = section.and_then(Value::as_object) else {
            continue;
        };
        let edges: Edges<'_> = section
            .iter()
            .map(|(name, value)| {
                let mut found = Vec::new();
                if field.name == "schemas" {
                    in_place(value, &mut found);
                } else {
                    reference(value, &mut found);
                }
                (name.as_str(), found)
            })
            .collect();
        let found = match circle(&edges) {
            Some(name) => Some((name, "is made of itself, without end")),
            None if field.name == "schemas" => None,
            None => {
                endless(&edges).map(|name| (name, "refers on and on; refer to the thing itself"))
            }
        };
        if let Some((name, why)) = found {
            return Err(Fault {
                pointer: format!("#/components/{}/{name}", field.name),
                message: why.to_owned(),
            });
        }
    }
    Ok(())
}

/// References to references are followed wherever something is looked at: a long way that many take
/// would never be done with.
const STEPS_MAX: usize = 16;

/// One from which more than [`STEPS_MAX`] references lead on.
fn endless<'v>(edges: &Edges<'v>) -> Option<&'v str> {
    let goes_on = |start: &&&'v str| {
        let mut at = **start;
        (0..=STEPS_MAX).all(|_| {
            let next = edges.get(at).and_then(|targets| targets.first());
            next.map(|next| at = next).is_some()
        })
    };
    edges.keys().find(goes_on).copied()
}

/// What must hold for the very value that a schema is about.
fn in_place<'v>(schema: &'v Value, found: &mut Vec<&'v str>) {
    reference(schema, found);
    let words = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
    for value in words.iter().filter_map(|word| schema.get(word)) {
        match value {
            Value::Array(branches) => branches.iter().for_each(|one| in_place(one, found)),
            one => in_place(one, found),
        }
    }
    let dependent = schema.get("dependentSchemas").and_then(Value::as_object);
    for one in dependent.into_iter().flatten() {
        in_place(one.1, found);
    }
}

fn reference<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    let reference = value.get("$ref").and_then(Value::as_str);
    found.extend(reference.and_then(|reference| reference.rsplit('/').next()));
}

/// One that leads to itself. Without recursion: a chain may be as long as the document.
fn circle<'v>(edges: &Edges<'v>) -> Option<&'v str> {
    #[derive(PartialEq)]
    enum Seen {
        Open,
        Done,
    }
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for start in edges.keys() {
        if seen.contains_key(start) {
            continue;
        }
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        seen.insert(start, Seen::Open);
        while let Some((at, next)) = way.last_mut() {
            let target = edges.get(*at).and_then(|targets| targets.get(*next));
            *next += 1;
            match target {
                None => {
                    seen.insert(at, Seen::Done);
                    way.pop();
                }
                Some(target) => match seen.get(target) {
                    Some(Seen::Open) => return Some(target),
                    Some(Seen::Done) => {}
                    None => {
                        seen.insert(target, Seen::Open);
                        way.push((target, 0));
                    }
                },
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn says(schemas: &Value) -> Option<String> {
        let root = json!({"components": {"schemas": schemas}});
        check(&root).err().map(|fault| fault.to_string())
    }

    #[test]
    fn a_tree_is_one_and_what_is_its_own_alternative_is_none() {
        let to = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        let tree = json!({"T": {"properties": {"left": to("T")}, "items": {"anyOf": [to("T")]}}});
        assert_eq!(says(&tree), None);
        for bad in [
            json!({"A": to("A")}),
            json!({"A": to("B"), "B": to("C"), "C": to("A")}),
            json!({"A": {"anyOf": [{"type": "string"}, {"not": to("A")}]}}),
            json!({"A": {"dependentSchemas": {"x": to("B")}}, "B": {"if": to("A")}}),
        ] {
            assert!(says(&bad).unwrap().contains("without end"), "{bad}");
        }
        let mut long = serde_json::Map::new();
        for at in 0..100_000 {
            long.insert(format!("S{at}"), to(&format!("S{}", at + 1)));
        }
        long.insert("S100000".to_owned(), json!({}));
        assert_eq!(says(&Value::Object(long)), None);
    }

    #[test]
    fn a_way_to_a_thing_has_few_steps() {
        let chain = |steps: usize| {
            let mut parameters = serde_json::Map::new();
            for at in 0..steps {
                let next = format!("#/components/parameters/P{}", at + 1);
                parameters.insert(format!("P{at}"), json!({"$ref": next}));
            }
            parameters.insert(format!("P{steps}"), json!({"name": "a", "in": "query"}));
            check(&json!({"components": {"parameters": parameters}}))
        };
        assert!(chain(STEPS_MAX).is_ok());
        let why = chain(STEPS_MAX + 1).unwrap_err().to_string();
        assert!(why.contains("on and on"), "{why}");
    }
}
