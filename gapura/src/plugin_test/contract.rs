//! The operations of an OpenAPI document, with references resolved.

use http::Method;
use serde_json::{Map, Value};

/// A plugin's documented operations.
pub(super) struct Contract {
    document: Value,
    pub(super) operations: Vec<Operation>,
}

/// One documented operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    /// With its parameters in braces.
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Body,
}

/// A parameter of the path or the query.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) in_path: bool,
    pub(super) required: bool,
    pub(super) schema: Value,
}

/// What an operation takes.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// JSON of this schema.
    Json(Value),
    /// Something else.
    Other,
}

/// References may refer to others, but not for ever.
const MOST_REFERENCES: usize = 16;

const METHODS: [(&str, Method); 5] = [
    ("get", Method::GET),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("patch", Method::PATCH),
    ("delete", Method::DELETE),
];

impl Contract {
    /// Reads the operations.
    ///
    /// # Errors
    /// A sentence, if the document has none.
    pub(super) fn read(document: Value) -> Result<Self, String> {
        let mut contract = Self {
            document,
            operations: Vec::new(),
        };
        let paths = contract.document.get("paths").and_then(Value::as_object);
        let Some(paths) = paths.filter(|paths| !paths.is_empty()) else {
            return Err("the OpenAPI document has no \"paths\"; is it the right file?".to_owned());
        };
        let mut operations = Vec::new();
        for (path, item) in paths {
            let item = contract.resolve(item);
            let shared = item.get("parameters");
            for (word, method) in METHODS {
                let Some(operation) = item.get(word) else {
                    continue;
                };
                let own = operation.get("parameters");
                operations.push(Operation {
                    method,
                    path: path.clone(),
                    parameters: contract.parameters([shared, own]),
                    body: contract.body(operation),
                });
            }
        }
        contract.operations = operations;
        Ok(contract)
    }

    /// What a value is, or what it refers to.
    pub(super) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let mut at = value;
        for _ in 0..MOST_REFERENCES {
            let pointer = at.get("$ref").and_then(Value::as_str);
            let Some(pointer) = pointer.and_then(|text| text.strip_prefix('#')) else {
                return at;
            };
            match self.document.pointer(pointer) {
                Some(found) => at = found,
                None => return at,
            }
        }
        at
    }

    fn parameters(&self, lists: [Option<&Value>; 2]) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for list in lists.into_iter().flatten().filter_map(Value::as_array) {
            for listed in list {
                let listed = self.resolve(listed);
                let text = |name: &str| listed.get(name).and_then(Value::as_str);
                let (Some(name), Some(place)) = (text("name"), text("in")) else {
                    continue;
                };
                let in_path = place == "path";
                if !in_path && place != "query" {
                    continue;
                }
                let required = listed.get("required").and_then(Value::as_bool);
                let mut schema = listed.get("schema").cloned().unwrap_or(Value::Null);
                if let (Some(example), Value::Object(fields)) = (listed.get("example"), &mut schema)
                {
                    fields.insert("example".to_owned(), example.clone());
                }
                // The operation's own word counts before that of its path.
                parameters.retain(|known| known.name != name || known.in_path != in_path);
                parameters.push(Parameter {
                    name: name.to_owned(),
                    in_path,
                    required: in_path || required.unwrap_or(false),
                    schema,
                });
            }
        }
        parameters
    }

    fn body(&self, operation: &Value) -> Body {
        let Some(body) = operation.get("requestBody") else {
            return Body::None;
        };
        let content = self.resolve(body).get("content").and_then(Value::as_object);
        let empty = Map::new();
        let json = content.unwrap_or(&empty).iter().find(|(kind, _)| {
            let bare = kind.split(';').next().unwrap_or_default().trim();
            bare.eq_ignore_ascii_case("application/json") || bare.ends_with("+json")
        });
        match json {
            Some((_, media)) => Body::Json(media.get("schema").cloned().unwrap_or(Value::Null)),
            None => Body::Other,
        }
    }
}

impl Operation {
    /// As it stands in a report.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The names in braces of its path, from left to right.
    pub(super) fn in_path(&self) -> Vec<&str> {
        self.path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_have_their_parameters_and_bodies_whatever_refers_to_them() {
        let contract = Contract::read(json!({
            "paths": {"/notes/{id}": {
                "parameters": [{"$ref": "#/components/parameters/id"}],
                "get": {"parameters": [{"name": "deep", "in": "query", "schema": {"type": "boolean"}},
                    {"name": "X-A", "in": "header"}]},
                "put": {"requestBody": {"$ref": "#/components/requestBodies/note"}},
                "post": {"requestBody": {"content": {"text/csv": {}}}}
            }},
            "components": {
                "parameters": {"id": {"name": "id", "in": "path", "schema": {"type": "integer"}, "example": 5}},
                "requestBodies": {"note": {"content": {"application/json; charset=utf-8": {"schema": {"type": "object"}}}}}
            }
        }))
        .unwrap();
        let names: Vec<String> = contract.operations.iter().map(Operation::name).collect();
        assert_eq!(
            names,
            ["GET /notes/{id}", "POST /notes/{id}", "PUT /notes/{id}"]
        );
        let get = &contract.operations[0];
        assert_eq!(get.in_path(), ["id"]);
        assert_eq!(get.parameters.len(), 2);
        assert_eq!(get.parameters[0].schema["example"], 5);
        assert!(matches!(contract.operations[1].body, Body::Other));
        assert!(matches!(contract.operations[2].body, Body::Json(_)));
        assert!(Contract::read(json!({})).is_err());
    }

    #[test]
    fn a_reference_to_itself_ends() {
        let contract =
            Contract::read(json!({"paths": {"/": {"get": {}}}, "a": {"$ref": "#/a"}})).unwrap();
        let value = json!({"$ref": "#/a"});
        assert!(contract.resolve(&value).get("$ref").is_some());
    }
}
