use super::*;
use crate::merge::{About, Seen, merge};

fn site(plugin: &str) -> Site<'_> {
    Site {
        plugin,
        mount: "/v1/lab",
        keeps_mount: false,
        found_at: "/openapi.json",
        door: Door::Token,
        passes: &|name| !name.to_ascii_lowercase().starts_with("x-"),
        leads_here: &|path| !path.ends_with("/elsewhere"),
    }
}

fn read(value: &Value) -> Document {
    Document::read(value.to_string().as_bytes()).unwrap()
}

fn whole(parts: &[(&Part, Seen<'_>)]) -> Value {
    let about = About {
        title: "t",
        description: "d",
        version: "1",
    };
    serde_json::from_str(&merge(&about, parts)).unwrap()
}

fn sample() -> Value {
    json!({
        "openapi": "3.1.0", "info": {"title": "Lab", "version": "2", "description": "<b>text</b>"}, "x-root": 1,
        "tags": [{"name": "reports", "description": "All of them"}],
        "security": [{"key": []}],
        "paths": {
            "/reports/{id}": {
                "parameters": [{"name": "id", "in": "path", "schema": {"type": "integer"}},
                    {"name": "X-Company-Id", "in": "header", "required": true, "schema": {}}],
                "get": {"operationId": "read", "tags": ["reports"], "x-vendor": true,
                    "parameters": [{"name": "Accept-Language", "in": "header", "schema": {}}],
                    "responses": {"200": {"description": "d", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Report"}}},
                        "links": {"next": {"operationId": "read"}, "hidden": {"operationId": "secret"}, "shared": {"$ref": "#/components/links/Bad"},
                            "by-ref": {"operationRef": "#/paths/~1reports~1%7Bid%7D/get"}}}}},
                "delete": {"operationId": "secret", "x-internal": true, "responses": {"200": {"$ref": "#/components/responses/Secret"}}}
            },
            "/internal": {"x-internal": true, "get": {}},
            "/elsewhere": {"get": {}},
            "/bare": {"post": {"requestBody": {"content": {"text/csv": {}}}, "responses": {"default": {"description": "d"}}, "security": []}}
        },
        "components": {
            "schemas": {
                "Report": {"type": "object", "properties": {"$ref": {"type": "string"}, "author": {"$ref": "#/components/schemas/Author"}},
                    "example": {"$ref": "#/components/schemas/Author"}},
                "Author": {"oneOf": [{"$ref": "#/components/schemas/Report"}], "discriminator": {"propertyName": "kind"}},
                "Secret": {"type": "string"}
            },
            "responses": {"Secret": {"description": "d", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Secret"}}}}},
            "links": {"Bad": {"operationId": "secret"}},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}}
        }
    })
}

#[test]
fn everything_that_a_plugin_names_has_its_name_and_what_is_internal_is_gone() {
    let part = Part::of(&read(&sample()), &site("lab"));
    assert_eq!((part.operations().len(), part.unreached()), (2, 1));
    let whole = whole(&[(&part, Seen::All)]);
    let text = whole.to_string();
    for gone in [
        "ecret",
        "internal",
        "elsewhere",
        "X-Company-Id",
        "X-Key",
        "\"key\"",
    ] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    let get = &whole["paths"]["/v1/lab/reports/{id}"]["get"];
    assert_eq!(get["operationId"], "lab_read");
    assert_eq!(get["tags"], json!(["lab_reports"]));
    assert_eq!(get["security"], json!([{"bearer": []}]));
    assert_eq!(get["x-vendor"], true);
    let names: Vec<&str> = get["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Accept-Language", "id"]);
    let answer = &get["responses"]["200"];
    assert_eq!(
        answer["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/lab_Report"
    );
    let links = answer["links"].as_object().unwrap();
    assert_eq!(links.len(), 2);
    assert_eq!(links["next"]["operationId"], "lab_read");
    assert_eq!(
        links["by-ref"]["operationRef"],
        "#/paths/~1v1~1lab~1reports~1%7Bid%7D/get"
    );
    assert_eq!(
        get["responses"]["5XX"]["$ref"],
        "#/components/responses/GapuraRefusal"
    );
    let schemas = whole["components"]["schemas"].as_object().unwrap();
    let names: Vec<&String> = schemas.keys().collect();
    assert_eq!(names, ["GapuraRefusal", "lab_Author", "lab_Report"]);
    assert_eq!(
        schemas["lab_Author"]["discriminator"]["mapping"],
        json!({"Report": "#/components/schemas/lab_Report"})
    );
    assert_eq!(
        schemas["lab_Report"]["example"]["$ref"], "#/components/schemas/Author",
        "an example is no reference"
    );
    let post = &whole["paths"]["/v1/lab/bare"]["post"];
    assert_eq!(post["tags"], json!(["lab"]));
    assert!(
        post["responses"].get("4XX").is_none(),
        "its own default says it"
    );
    let plugins = &whole["x-gapura-plugins"];
    assert_eq!(plugins["lab"]["x-root"], 1);
    assert_eq!(plugins["lab"]["description"], "<b>text</b>");
    let tags: Vec<&str> = whole["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    assert_eq!(tags, ["lab", "lab_reports"]);
    assert_eq!(whole["tags"][1]["description"], "All of them");
    assert_eq!(whole["servers"], json!([{"url": "/"}]));
}

#[test]
fn what_is_not_seen_leaves_nothing_behind() {
    let (lab, other) = (
        Part::of(&read(&sample()), &site("lab")),
        Part::of(
            &read(&sample()),
            &Site {
                mount: "/other",
                door: Door::Open,
                ..site("other")
            },
        ),
    );
    let marks: Vec<bool> = lab
        .operations()
        .iter()
        .map(|one| one.method == "POST")
        .collect();
    let some = whole(&[(&lab, Seen::Marked(&marks)), (&other, Seen::Marked(&[]))]);
    let text = some.to_string();
    assert!(text.contains("/v1/lab/bare") && !text.contains("reports") && !text.contains("other"));
    let schemas = some["components"]["schemas"].as_object().unwrap();
    assert_eq!(schemas.len(), 1, "the refusal's alone");
    let both = whole(&[(&lab, Seen::All), (&other, Seen::All)]);
    assert_eq!(both["paths"].as_object().unwrap().len(), 4);
    assert_eq!(both["paths"]["/other/bare"]["post"]["security"], json!([]));
    assert_eq!(both["components"]["schemas"].as_object().unwrap().len(), 5);
    let none = whole(&[]);
    assert_eq!(none["paths"], json!({}));
    assert_eq!(
        none["components"]["securitySchemes"]["bearer"]["type"],
        "http"
    );
}

#[test]
fn servers_of_operations_lead_where_they_say() {
    let document = read(&json!({
        "openapi": "3.0.0", "info": {"title": "t", "version": "1"}, "servers": [{"url": "https://x/api"}],
        "paths": {
            "/a": {"get": {"responses": {}}, "put": {"servers": [{"url": "/v2"}], "responses": {}}},
            "/b": {"servers": [{"url": "/v1/lab"}], "get": {"responses": {}}}
        }
    }));
    let part = Part::of(&document, &site("lab"));
    let mut paths: Vec<&str> = part
        .operations()
        .iter()
        .map(|one| one.path.as_str())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/v1/lab/api/a", "/v1/lab/b", "/v1/lab/v2/a"]);
}

#[test]
fn what_a_plugin_sends_by_itself_is_told_to_those_who_see_all_of_it() {
    let sent = |schema: &str| {
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        json!({"content": {"application/json": {"schema": schema}}})
    };
    let document = read(&json!({
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "security": [{"key": []}], "servers": [{"url": "https://inside"}],
        "paths": {"/a": {"get": {"responses": {"200": {"description": "d"}}}}},
        "webhooks": {
            "report ready": {"parameters": [{"name": "X-Mark", "in": "header", "schema": {}}, {"name": "id", "in": "path", "schema": {}}],
                "post": {"operationId": "ready", "tags": ["reports"], "security": [{"key": []}], "servers": [{"url": "/x"}],
                    "requestBody": sent("Report"), "responses": {"204": {"description": "Taken"}}},
                "put": {"x-internal": true, "requestBody": sent("Secret")}},
            "shared": {"$ref": "#/components/pathItems/Shared"},
            "hidden": {"x-internal": true, "post": {"requestBody": sent("Secret")}},
            "empty": {"post": {"x-internal": true, "requestBody": sent("Secret")}}
        },
        "components": {"schemas": {"Report": {"type": "string"}, "Secret": {"type": "object"}},
            "pathItems": {"Shared": {"post": {"responses": {"200": {"description": "d"}}}}},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}}}
    }));
    let part = Part::of(&document, &site("lab"));
    assert_eq!(part.operations().len(), 1, "no request leads to a webhook");
    let all = whole(&[(&part, Seen::All)]);
    let webhooks = all["webhooks"].as_object().unwrap();
    let names: Vec<&String> = webhooks.keys().collect();
    assert_eq!(names, ["lab_report ready", "lab_shared"]);
    let item = &all["webhooks"]["lab_report ready"];
    assert_eq!(item["parameters"].as_array().unwrap().len(), 1);
    let post = &item["post"];
    assert_eq!(
        (&post["operationId"], &post["tags"]),
        (&json!("lab_ready"), &json!(["lab_reports"]))
    );
    let schema = &post["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/lab_Report");
    assert_eq!(
        post["responses"].as_object().unwrap().len(),
        1,
        "the gateway refuses none"
    );
    assert_eq!(
        all["webhooks"]["lab_shared"]["post"]["tags"],
        json!(["lab"])
    );
    let text = all.to_string();
    for gone in ["\"key\"", "X-Key", "ecret", "inside", "hidden", "empty"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    // Who sees less than all operations sees none of them, and nothing that they alone need.
    let none = whole(&[(&part, Seen::Marked(&[true]))]);
    assert!(none.get("webhooks").is_none());
    assert!(none["components"]["schemas"].get("lab_Report").is_none());
}

#[test]
fn webhooks_alone_are_a_contract_and_those_of_an_old_document_are_none() {
    let document = |version: &str| {
        json!({"openapi": version, "info": {"title": "t", "version": "1"}, "paths": {},
            "webhooks": {"w": {"post": {"responses": {"200": {"description": "d"}}}}}})
    };
    let part = Part::of(&read(&document("3.1.0")), &site("lab"));
    let alone = whole(&[(&part, Seen::All)]);
    assert_eq!(alone["webhooks"].as_object().unwrap().len(), 1);
    assert_eq!(alone["x-gapura-plugins"]["lab"]["title"], "t");
    let old = Part::of(&read(&document("3.0.3")), &site("lab"));
    assert!(whole(&[(&old, Seen::All)]).get("webhooks").is_none());
}
