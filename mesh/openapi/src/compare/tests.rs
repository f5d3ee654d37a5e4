use serde_json::json;

use super::*;

fn read(value: &Value) -> Document {
    Document::read(value.to_string().as_bytes()).unwrap()
}

/// A document with one operation, and these schemas.
fn document(operation: &Value, schemas: &Value) -> Document {
    read(
        &json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "paths": {"/a/{id}": {"parameters": [{"name": "id", "in": "path", "schema": {"type": "string"}}], "post": operation}},
        "components": {"schemas": schemas}}),
    )
}

fn kinds(old: &Document, new: &Document) -> Vec<&'static str> {
    compare(old, new).into_iter().map(|one| one.kind).collect()
}

/// The findings from one schema to another, where callers send such values, and where they get
/// them.
fn schemas(old: &Value, new: &Value) -> (Vec<&'static str>, Vec<&'static str>) {
    let sent = |schema: &Value| {
        document(
            &json!({"requestBody": {"content": {"application/json": {"schema": schema}}}}),
            &json!({}),
        )
    };
    let got = |schema: &Value| {
        document(
            &json!({"responses": {"200": {"description": "d", "content": {"application/json": {"schema": schema}}}}}),
            &json!({}),
        )
    };
    (kinds(&sent(old), &sent(new)), kinds(&got(old), &got(new)))
}

#[test]
fn each_breaking_change_of_an_operation_is_found_and_its_twin_is_none() {
    let base = json!({"parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}],
        "requestBody": {"content": {"application/json": {}, "text/csv": {}}},
        "responses": {"200": {"description": "d", "content": {"application/json": {}}}, "404": {"description": "d"}}});
    let old = document(&base, &json!({}));
    let changed = |pointer: &str, value: Value| {
        let mut operation = base.clone();
        match pointer.rsplit_once('/') {
            Some((parent, name)) if value.is_null() => {
                operation
                    .pointer_mut(parent)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove(name);
            }
            Some((parent, "-")) => operation
                .pointer_mut(parent)
                .unwrap()
                .as_array_mut()
                .unwrap()
                .push(value),
            Some((parent, name)) => operation.pointer_mut(parent).unwrap()[name] = value,
            None => {}
        }
        kinds(&old, &document(&operation, &json!({})))
    };
    let nothing: [&str; 0] = [];
    assert_eq!(changed("/summary", json!("new")), nothing);
    assert_eq!(
        changed(
            "/parameters/-",
            json!({"name": "r", "in": "query", "required": true, "schema": {}})
        ),
        ["parameter_required"]
    );
    assert_eq!(
        changed(
            "/parameters/-",
            json!({"name": "r", "in": "query", "schema": {}})
        ),
        nothing
    );
    assert_eq!(
        changed("/parameters/0/required", json!(true)),
        ["parameter_required"]
    );
    assert_eq!(
        changed("/parameters/0/schema/type", json!("integer")),
        ["type_narrowed"]
    );
    assert_eq!(
        changed("/parameters/0/schema/type", json!(["string", "null"])),
        nothing
    );
    assert_eq!(
        changed("/requestBody/required", json!(true)),
        ["body_required"]
    );
    assert_eq!(
        changed("/requestBody/content/text~1csv", Value::Null),
        nothing,
        "no such member"
    );
    assert_eq!(
        changed("/requestBody/content", json!({"application/json": {}})),
        ["media_type_removed"]
    );
    assert_eq!(
        changed(
            "/requestBody/content",
            json!({"application/json": {}, "text/*": {}})
        ),
        nothing
    );
    assert_eq!(changed("/responses/404", Value::Null), ["response_removed"]);
    assert_eq!(
        changed(
            "/responses",
            json!({"2XX": {"description": "d", "content": {"application/json": {}}}, "default": {"description": "d"}})
        ),
        nothing
    );
    assert_eq!(changed("/security", json!([{"key": []}])), ["auth_added"]);
    assert_eq!(changed("/security", json!([{"key": []}, {}])), nothing);
}

#[test]
fn paths_and_methods_that_are_gone_are_found_whatever_their_parameters_are_called() {
    let with = |paths: &Value| {
        read(&json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths}))
    };
    let id = |name: &str| json!([{"name": name, "in": "path", "schema": {}}]);
    let old = with(
        &json!({"/a/{x}": {"parameters": id("x"), "get": {}, "put": {}}, "/b": {"get": {}}, "/c": {"x-internal": true, "get": {}}}),
    );
    let renamed =
        with(&json!({"/a/{y}": {"parameters": id("y"), "get": {}, "put": {}}, "/b": {"get": {}}}));
    assert!(compare(&old, &renamed).is_empty());
    let less =
        with(&json!({"/a/{y}": {"parameters": id("y"), "get": {}, "put": {"x-internal": true}}}));
    let found = compare(&old, &less);
    let told: Vec<(&str, &str)> = found
        .iter()
        .map(|one| (one.kind, one.pointer.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("method_removed", "#/paths/~1a~1%7Bx%7D/put"),
            ("path_removed", "#/paths/~1b")
        ]
    );
    assert!(found[1].to_string().contains("the path /b is gone"));
}

#[test]
fn authentication_may_become_less_and_never_more() {
    for (old, new, more) in [
        (json!([]), json!([{"a": []}]), true),
        (json!([{"a": []}]), json!([]), false),
        (json!([{"a": []}]), json!([{"a": []}, {"b": []}]), false),
        (json!([{"a": []}, {"b": []}]), json!([{"a": []}]), true),
        (json!([{"a": ["x"]}]), json!([{"a": ["x", "y"]}]), true),
        (json!([{"a": ["x", "y"]}]), json!([{"a": ["x"]}]), false),
        (json!([{"a": [], "b": []}]), json!([{"a": []}]), false),
        (json!([{}]), json!([{"a": []}]), true),
    ] {
        assert_eq!(
            asks_more(old.as_array(), new.as_array(), |_| true),
            more,
            "{old} {new}"
        );
    }
    assert!(!asks_more(None, None, |_| true));
    assert!(asks_more(None, json!([{"a": []}]).as_array(), |_| true));
}

#[test]
fn the_same_change_is_no_harm_in_one_direction_and_breaks_in_the_other() {
    let object = |required: Value| json!({"type": "object", "properties": {"x": {}, "y": {}}, "required": required});
    let to = |types: &[&str]| json!({"type": types});
    for (old, new, sent, got) in [
        (
            json!({"enum": ["a", "b"]}),
            json!({"enum": ["a"]}),
            Some("enum_value_removed"),
            None,
        ),
        (
            json!({"enum": ["a"]}),
            json!({"enum": ["a", "b"]}),
            None,
            Some("enum_value_added"),
        ),
        (
            json!({"type": "string"}),
            json!({"type": "string", "enum": ["a"]}),
            Some("enum_added"),
            None,
        ),
        (
            json!({"type": "string", "enum": ["a"]}),
            json!({"type": "string"}),
            None,
            Some("enum_dropped"),
        ),
        (
            json!({"const": 1}),
            json!({"const": 2}),
            Some("enum_value_removed"),
            Some("enum_value_added"),
        ),
        (
            to(&["string", "null"]),
            to(&["string"]),
            Some("type_narrowed"),
            None,
        ),
        (
            to(&["string"]),
            to(&["string", "null"]),
            None,
            Some("type_widened"),
        ),
        (
            to(&["integer"]),
            to(&["number"]),
            None,
            Some("type_widened"),
        ),
        (json!({}), to(&["string"]), Some("type_narrowed"), None),
        (
            object(json!([])),
            object(json!(["x"])),
            Some("property_required"),
            None,
        ),
        (
            object(json!(["x"])),
            object(json!([])),
            None,
            Some("property_optional"),
        ),
        (
            object(json!([])),
            json!({"type": "object", "properties": {"x": {}}}),
            None,
            Some("property_removed"),
        ),
        (
            json!({"maxLength": 9}),
            json!({"maxLength": 5}),
            Some("bound_narrowed"),
            None,
        ),
        (json!({"maxLength": 5}), json!({"maxLength": 9}), None, None),
        (json!({}), json!({"minLength": 0}), None, None),
        (
            json!({"pattern": "a"}),
            json!({"pattern": "b"}),
            Some("pattern_changed"),
            None,
        ),
        (
            json!({"type": "object"}),
            json!({"type": "object", "additionalProperties": false}),
            Some("closed"),
            None,
        ),
        (
            json!({"items": to(&["string"])}),
            json!({"items": to(&["integer"])}),
            Some("type_narrowed"),
            Some("type_widened"),
        ),
        (
            json!({"allOf": [to(&["string"])]}),
            json!({"allOf": [to(&["string"]), {"maxLength": 3}]}),
            Some("bound_narrowed"),
            None,
        ),
        (
            json!({"anyOf": [to(&["string"]), to(&["integer"])]}),
            json!({"anyOf": [to(&["integer"])]}),
            Some("type_narrowed"),
            None,
        ),
        (
            json!({"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}]}),
            json!({"oneOf": [{"type": "object", "required": ["b"]}]}),
            Some("alternative_removed"),
            None,
        ),
        (json!(true), json!(false), Some("type_narrowed"), None),
        (
            json!({"title": "a"}),
            json!({"title": "b", "description": "c", "examples": [1]}),
            None,
            None,
        ),
    ] {
        let (found_sent, found_got) = schemas(&old, &new);
        assert_eq!(
            found_sent.first().copied(),
            sent,
            "sent: {old} {new} {found_sent:?}"
        );
        assert_eq!(
            found_got.first().copied(),
            got,
            "got: {old} {new} {found_got:?}"
        );
    }
}

#[test]
fn a_named_schema_is_told_of_once_at_its_own_place() {
    let reference = json!({"$ref": "#/components/schemas/Tree"});
    let operation = json!({"requestBody": {"content": {"application/json": {"schema": reference}, "text/json": {"schema": reference}}}});
    let tree = |kind: &str| json!({"Tree": {"type": "object", "properties": {"left": reference, "right": reference, "leaf": {"type": kind}}}});
    let found = compare(
        &document(&operation, &tree("number")),
        &document(&operation, &tree("integer")),
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].pointer,
        "#/components/schemas/Tree/properties/leaf/type"
    );
    assert!(
        compare(
            &document(&operation, &tree("integer")),
            &document(&operation, &tree("number"))
        )
        .is_empty()
    );
}

#[test]
fn a_comparison_ends_however_intricate_the_schemas_are() {
    let mut schemas = Map::new();
    for at in 0..40 {
        let next = json!({"$ref": format!("#/components/schemas/S{}", at + 1)});
        let branches: Vec<Value> = (0..10)
            .map(|_| json!({"allOf": [next, next], "anyOf": [next, next]}))
            .collect();
        schemas.insert(
            format!("S{at}"),
            json!({"allOf": branches, "anyOf": branches}),
        );
    }
    schemas.insert("S40".to_owned(), json!({"type": "string"}));
    let operation = json!({"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}});
    let old = document(&operation, &Value::Object(schemas.clone()));
    schemas.insert("S40".to_owned(), json!({"type": "integer"}));
    let new = document(&operation, &Value::Object(schemas));
    let begun = std::time::Instant::now();
    let _ = compare(&old, &new);
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[test]
fn what_a_plugin_sends_by_itself_must_still_come_and_be_what_is_known() {
    let webhooks = |webhooks: Value| {
        read(
            &json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "webhooks": webhooks}),
        )
    };
    let sent = |kinds: Value| {
        let schema = json!({"type": "object", "properties": {"kind": {"enum": kinds}}});
        json!({"w": {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}})
    };
    let old = webhooks(sent(json!(["a", "b"])));
    let nothing: [&str; 0] = [];
    assert_eq!(kinds(&old, &webhooks(sent(json!(["a"])))), nothing);
    assert_eq!(
        kinds(&old, &webhooks(sent(json!(["a", "b", "c"])))),
        ["enum_value_added"]
    );
    assert_eq!(kinds(&old, &webhooks(json!({}))), ["webhook_removed"]);
    let mut hidden = sent(json!(["a", "b"]));
    hidden["w"]["post"]["x-internal"] = true.into();
    assert_eq!(kinds(&old, &webhooks(hidden.clone())), ["webhook_removed"]);
    assert_eq!(kinds(&webhooks(hidden), &old), nothing);
}
