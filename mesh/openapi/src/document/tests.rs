use super::*;
use proptest::prelude::*;
use serde_json::json;

fn read(value: &Value) -> Result<Document, Fault> {
    Document::read(value.to_string().as_bytes())
}

fn with(more: &Value) -> Value {
    let mut document =
        json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}});
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

fn why(more: &Value) -> String {
    read(&with(more)).unwrap_err().to_string()
}

#[test]
fn a_document_of_either_version_is_read_and_of_no_other() {
    let mut document = with(&json!({}));
    for version in ["3.0.0", "3.0.3", "3.1.0", "3.1.1"] {
        document["openapi"] = version.into();
        assert!(read(&document).is_ok(), "{version}");
    }
    for version in ["2.0", "3.2.0", "4.0.0", "3.1"] {
        document["openapi"] = version.into();
        let said = read(&document).unwrap_err().to_string();
        assert!(said.contains("3.0 and 3.1 are read"), "{said}");
    }
    assert!(read(&json!({"swagger": "2.0"})).is_err());
    assert!(
        read(&json!([]))
            .unwrap_err()
            .to_string()
            .contains("no object")
    );
    assert!(
        read(&json!({}))
            .unwrap_err()
            .to_string()
            .contains("\"openapi\"")
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let operation = |operation: Value| json!({"paths": {"/a": {"get": operation}}});
    for (more, says) in [
        (
            json!({"info": {"title": "t"}}),
            "at #/info: an info object needs \"version\"",
        ),
        (json!({"paths": {"a": {}}}), "at #/paths/a: is no path"),
        (json!({"paths": {"/a?b": {}}}), "is no path"),
        (
            json!({"paths": []}),
            "at #/paths: must be an object of objects",
        ),
        (
            operation(json!({"deprecated": "yes"})),
            "at #/paths/~1a/get/deprecated: must be true or false",
        ),
        (
            operation(json!({"responses": {"200": {}}})),
            "a response needs \"description\"",
        ),
        (
            operation(json!({"parameters": [{"name": "x", "in": "body"}]})),
            "must be query, header, path or cookie",
        ),
        (
            operation(json!({"parameters": [{"name": "x", "in": "path"}]})),
            "disagree about \"x\"",
        ),
        (
            json!({"paths": {"/a/{id}": {"get": {}}}}),
            "disagree about \"id\"",
        ),
        (
            json!({"paths": {"/a/{b}": {}, "/a/{c}": {}}}),
            "is the same path as",
        ),
        (
            json!({"paths": {"/a": {"get": {"operationId": "x"}, "put": {"operationId": "x"}}}}),
            "\"x\" stands twice",
        ),
        (
            json!({"paths": {"/a": {"get": {"operationId": "x"}}}, "webhooks": {"w": {"post": {"operationId": "x"}}}}),
            "at #/webhooks/w/post: the operationId \"x\" stands twice",
        ),
        (
            json!({"webhooks": {"w": {"post": {"parameters": [{"name": "x", "in": "query"}, {"name": "x", "in": "query"}]}}}}),
            "the parameter \"x\" stands twice",
        ),
        (
            json!({"webhooks": {"w": []}}),
            "must be an object of objects",
        ),
        (
            json!({"components": {"schemas": {"a b": {}}}}),
            "is no name of a component",
        ),
        (
            json!({"components": {"schemas": {"A": {"type": "file"}}}}),
            "must be a type of JSON Schema",
        ),
        (
            json!({"components": {"schemas": {"A": {"$id": "x"}}}}),
            "references mean something else",
        ),
        (
            json!({"components": {"schemas": {"A": {"$ref": "#/components/schemas/B"}}}}),
            "nowhere",
        ),
        (
            json!({"components": {"schemas": {"A": {"$ref": "b.json"}}}}),
            "outside of the document",
        ),
        (
            json!({"components": {"schemas": {"A": {"$ref": "#/components/schemas/A"}}}}),
            "without end",
        ),
        (
            json!({"components": {"schemas": {"A": {"required": true}}}}),
            "must be a list of strings",
        ),
        (
            json!({"components": {"responses": {"A": {"$ref": "#/components/responses/A"}}}}),
            "without end",
        ),
        (
            json!({"jsonSchemaDialect": "https://elsewhere"}),
            "names a dialect",
        ),
    ] {
        let said = why(&more);
        assert!(said.contains(says), "{more}: {said}");
    }
}

#[test]
fn what_means_nothing_is_dropped_and_vendor_fields_are_kept() {
    let document = read(&with(&json!({"paths": {"x-a": 1, "/a": {"x-b": 1, "trace": {}, "get": {
        "x-c": {"$ref": "no reference"}, "produces": [], "responses": {"2xx": {"description": "d"}, "bad": {"description": "d"}}
    }}}})))
    .unwrap();
    let paths = &document.root()["paths"];
    assert!(paths.get("x-a").is_none() && paths["/a"].get("trace").is_none());
    assert_eq!(paths["/a"]["x-b"], 1);
    let get = &paths["/a"]["get"];
    assert!(get.get("produces").is_none());
    assert_eq!(get["x-c"]["$ref"], "no reference");
    assert_eq!(get["responses"], json!({"2XX": {"description": "d"}}));
}

#[test]
fn an_old_document_is_brought_to_the_new_form() {
    let mut document = with(&json!({"components": {"schemas": {"A": {
        "type": "object", "nullable": true,
        "properties": {"n": {"type": "integer", "minimum": 0, "exclusiveMinimum": true}, "nullable": {"type": "string"}}
    }}}}));
    document["openapi"] = "3.0.3".into();
    let read = read(&document).unwrap();
    let schema = &read.root()["components"]["schemas"]["A"];
    assert_eq!(schema["type"], json!(["object", "null"]));
    assert_eq!(schema["properties"]["n"]["exclusiveMinimum"], 0);
    assert_eq!(schema["properties"]["nullable"], json!({"type": "string"}));
}

#[test]
fn names_that_a_discriminator_implies_are_written_down() {
    let to = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let document = read(&with(&json!({"components": {"schemas": {
        "Pet": {"discriminator": {"propertyName": "kind", "mapping": {"hound": "Dog", "gone": "Unicorn"}}},
        "Dog": {"allOf": [to("Pet"), {"type": "object"}]},
        "Either": {"oneOf": [to("Dog"), to("Pet")], "discriminator": {"propertyName": "kind"}}
    }}})))
    .unwrap();
    let schemas = &document.root()["components"]["schemas"];
    let dog = "#/components/schemas/Dog";
    assert_eq!(
        schemas["Pet"]["discriminator"]["mapping"],
        json!({"Dog": dog, "hound": dog})
    );
    let either = &schemas["Either"]["discriminator"]["mapping"];
    assert_eq!(
        *either,
        json!({"Dog": dog, "Pet": "#/components/schemas/Pet"})
    );
}

proptest! {
    #[test]
    fn whatever_the_bytes_it_ends_and_says_why(text in r#"\{("[a-z$]{0,6}": ?([0-9]|"[a-z#/]{0,6}"|\{\}|\[\]),?){0,5}\}|.{0,40}"#) {
        if let Err(fault) = Document::read(text.as_bytes()) {
            prop_assert!(!fault.to_string().is_empty());
        }
    }
}
