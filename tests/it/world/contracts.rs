//! The document of all plugins, in the hands of those who read many: a validator, a client that
//! makes up requests from it, and Swagger UI in a browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use gapura_hostile::openapi::{breaks, merged};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::within;
use gapura_tests::{PATIENCE, eventually};
use serde_json::{Value, json};

use super::{chromium, python, run};

const VALIDATE: &str = "
import json, sys
from openapi_spec_validator import validate
bad = 0
for at, text in enumerate(json.load(open(sys.argv[1]))):
    try:
        validate(json.loads(text))
    except Exception as error:
        bad += 1
        print(at, type(error).__name__, str(error)[:300], text[:1500])
print('bad:', bad)
";

fn example(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read(file).unwrap()
}

/// The sample plugin, and the pair before it on a plain public side.
fn sample() -> (Program, TestMesh) {
    let plugin = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .arg("--seed")
        .start("lab-reporting");
    let line = plugin.wait_for_line("where it listens", |line| line["address"].is_string());
    let url = format!("http://{}", line["address"].as_str().unwrap());
    let mesh = TestMesh::new()
        .plugin("lab")
        .fields(json!({"openapi": "/openapi.json", "health": {}}))
        .before(&url)
        .plain_public()
        .gateway_arg("--docs")
        .start();
    (plugin, mesh)
}

fn document(mesh: &TestMesh, path: &str) -> Value {
    within(PATIENCE * 3, path, || {
        let document = mesh.get("/openapi.json").token_of("7", "42").send().json();
        document["paths"].get(path).is_some().then_some(document)
    })
}

/// A place below `value`, as many steps down as there are.
fn place<'v>(
    value: &'v mut Value,
    steps: usize,
    next: &mut impl FnMut(usize) -> usize,
) -> &'v mut Value {
    let below = match value {
        Value::Object(members) => members.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if steps == 0 || below == 0 {
        return value;
    }
    let at = next(below);
    let inner = match value {
        Value::Object(members) => members.values_mut().nth(at),
        Value::Array(items) => items.get_mut(at),
        _ => None,
    };
    place(inner.unwrap(), steps - 1, next)
}

/// Documents that differ from the samples in a few places each, drawn by a generator of numbers
/// that everybody has.
fn mutants(count: usize) -> Vec<Vec<u8>> {
    let samples = [
        example("examples/lab-reporting/openapi.json"),
        example("examples/tenant-notes/openapi.json"),
        example("fuzz/seeds/openapi/old.json"),
        example("fuzz/seeds/openapi/new.json"),
        example("fuzz/seeds/openapi/webhooks.json"),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
    };
    let values = [
        json!(null),
        json!(true),
        json!("x"),
        json!(-1),
        json!(2.5),
        json!([]),
        json!({}),
        json!({"$ref": "#/components/schemas/S"}),
        json!(["a", "a"]),
        json!({"type": "string"}),
    ];
    let names = [
        "type",
        "nullable",
        "required",
        "default",
        "enum",
        "style",
        "in",
        "example",
        "examples",
        "x-a",
        "discriminator",
        "not",
        "allOf",
        "content",
        "schema",
        "servers",
        "tags",
        "$ref",
    ];
    (0..count)
        .map(|at| {
            let mut root: Value = serde_json::from_slice(&samples[at % samples.len()]).unwrap();
            for _ in 0..=next(3) {
                let steps = next(10) + 1;
                let value = place(&mut root, steps, &mut next);
                let drawn = values[next(values.len())].clone();
                match value {
                    Value::Object(members) if next(3) > 0 => {
                        members.insert(names[next(names.len())].to_owned(), drawn);
                    }
                    other => *other = drawn,
                }
            }
            root.to_string().into_bytes()
        })
        .collect()
}

#[test]
fn whatever_is_merged_is_valid() {
    let Some(python) = python("openapi_spec_validator") else {
        return;
    };
    let mut all: Vec<String> = Vec::new();
    for sample in [
        "examples/lab-reporting/openapi.json",
        "examples/tenant-notes/openapi.json",
        "fuzz/seeds/openapi/old.json",
        "fuzz/seeds/openapi/new.json",
    ] {
        all.push(merged(&example(sample)).unwrap_or_else(|| panic!("{sample} is left out")));
    }
    // What is data in a `default` the validator takes for a reference, and looks for what it names.
    let is_data = |whole: &String| whole.contains(r#""default":{"$ref""#);
    let mutants = mutants(3000);
    let merged = mutants.iter().filter_map(|bytes| merged(bytes));
    all.extend(merged.filter(|whole| !is_data(whole)));
    assert!(
        all.len() > 100,
        "{} are good enough to be merged",
        all.len()
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.json");
    fs::write(&file, json!(all).to_string()).unwrap();
    let said = run(&python, VALIDATE, &[file.to_str().unwrap()]);
    assert!(said.ends_with("bad: 0"), "{said}");
}

#[test]
fn a_client_that_makes_up_requests_finds_nothing_outside_of_the_contract() {
    let Some(python) = python("schemathesis") else {
        return;
    };
    let (_plugin, mesh) = sample();
    let document = document(&mesh, "/lab/reports");
    let file = mesh.dir().join("whole.json");
    fs::write(&file, document.to_string()).unwrap();
    let token = mesh.signer.token_of("7", "42");
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("run")
        .arg(&file)
        .arg("--url")
        .arg(format!("http://{}", mesh.public()))
        .args(["-H", &format!("Authorization: Bearer {token}")])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
        .args(["--max-examples", "25", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"])
        .env("COLUMNS", "200")
        .current_dir(mesh.dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    eventually("it asked the plugin a lot", || {
        (mesh.metric(
            &mesh.gateway,
            "gapura_requests_total{plugin=\"lab\",status=\"200\"}",
        ) > 20.0)
            .then_some(())
    });
}

#[test]
fn swagger_ui_shows_it_and_tries_it_within_its_policy() {
    let Some(python) = chromium::driver() else {
        return;
    };
    let (_plugin, mesh) = sample();
    let document = document(&mesh, "/lab/reports");
    let operations: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| {
            ["get", "post", "put", "patch", "delete"]
                .iter()
                .filter(|method| item.get(**method).is_some())
                .count()
        })
        .sum();
    let script = chromium::whole(include_str!("contracts.py"));
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/docs.png");
    let said = run(
        &python,
        &script,
        &[
            &format!("http://{}", mesh.public()),
            &mesh.signer.token_of("7", "42"),
            picture.to_str().unwrap(),
        ],
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["violations"], json!([]), "{said}");
    assert_eq!(
        said["operations"].as_array().unwrap().len(),
        operations,
        "{said}"
    );
    assert_eq!(said["tried"], "200", "{said}");
    assert_eq!(
        said["kept"],
        json!([0, 0, ""]),
        "the token is nowhere but in memory"
    );
}

#[test]
fn a_document_that_means_its_reader_ill_is_text_on_the_page_and_loads_nothing() {
    let Some(python) = chromium::driver() else {
        return;
    };
    let mesh = TestMesh::new().plain_public().gateway_arg("--docs").start();
    let html = "<img src=x onerror=\"window.owned=1\"><script>window.owned=2</script><iframe srcdoc=\"<script>parent.owned=3</script>\"></iframe><svg onload=\"window.owned=4\"></svg> [click](javascript:window.owned=5)";
    let link = json!({"url": "javascript:window.owned=6", "description": html});
    // What looks like references, in places where there are none: whoever followed them would do so
    // with the reader's token.
    let lure = json!({"$ref": "/echo/lure"});
    let schema = json!({"type": "object", "title": html, "description": html, "example": lure, "default": lure, "x-lure": lure,
        "properties": {html: {"type": "string", "description": html, "enum": [html]}}});
    let document = json!({
        "openapi": "3.1.0", "info": {"title": html, "version": html, "description": html}, "x-lure": lure,
        "tags": [{"name": html, "description": html, "externalDocs": link}],
        "paths": {"/a": {"summary": html, "get": {
            "operationId": html, "tags": [html], "summary": html, "description": html, "externalDocs": link, "x-lure": lure,
            "parameters": [{"name": html, "in": "query", "description": html, "example": lure, "schema": schema}],
            "responses": {"200": {"description": html, "content": {"application/json": {"schema": schema, "example": lure}},
                "links": {"l": {"operationRef": "https://elsewhere.example/x", "description": html}}}}}}},
        "webhooks": {html: {"post": {"description": html, "responses": {"200": {"description": html}}}}}
    });
    let document = document.to_string();
    mesh.plugin.on("/openapi.json", move |exchange| {
        exchange.read_body();
        let json = "Content-Type: application/json\r\n";
        exchange.answer("200 OK", json, document.as_bytes());
        Then::Keep
    });
    mesh.write_registry("echo", &mesh.entry(&json!({"openapi": null})));
    self::document(&mesh, "/echo/a");
    let said = run(
        &python,
        &chromium::whole(include_str!("hostile.py")),
        &[
            &format!("http://{}", mesh.public()),
            &mesh.signer.token_of("7", "42"),
        ],
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["owned"], json!(null), "{said}");
    assert_eq!(said["acting"], json!([]), "{said}");
    assert_eq!(said["links"], json!([]), "{said}");
    assert!(
        said["text"].as_str().unwrap().contains("window.owned"),
        "it is there as text: {said}"
    );
    assert!(
        mesh.plugin.seen_at("/lure").is_empty(),
        "nothing is asked for"
    );
}

/// Planted changes: where, what is put there (`null`: it is taken out), whether that breaks
/// somebody, and whether the other program sees it too.
fn planted() -> Vec<(&'static str, Value, bool, bool)> {
    vec![
        ("/paths/~1b", json!(null), true, true),
        ("/paths/~1a/post", json!(null), true, true),
        ("/paths/~1a/get/responses/404", json!(null), true, true),
        (
            "/paths/~1a/get/parameters/0/required",
            json!(true),
            true,
            true,
        ),
        (
            "/paths/~1a/get/parameters/0/schema",
            json!({"type": "integer"}),
            true,
            true,
        ),
        (
            "/paths/~1a/get/parameters/0/schema/enum",
            json!(["a"]),
            true,
            false,
        ),
        (
            "/paths/~1a/get/parameters/0/schema/enum",
            json!(["a", "b", "c"]),
            false,
            true,
        ),
        (
            "/paths/~1a/get/parameters/1",
            json!({"name": "r", "in": "query", "required": true, "schema": {"type": "string"}}),
            true,
            true,
        ),
        (
            "/paths/~1a/get/parameters/1",
            json!({"name": "r", "in": "query", "schema": {"type": "string"}}),
            false,
            true,
        ),
        ("/paths/~1a/get/security", json!([{"k": []}]), true, false),
        ("/paths/~1a/get/summary", json!("hello"), false, true),
        (
            "/paths/~1a/get/responses/200/content/application~1json/schema/properties/y",
            json!(null),
            true,
            true,
        ),
        (
            "/paths/~1a/get/responses/200/content/application~1json/schema/properties/x/type",
            json!("integer"),
            true,
            true,
        ),
        (
            "/paths/~1a/get/responses/200/content/application~1json/schema/properties/z",
            json!({"type": "string"}),
            false,
            true,
        ),
        (
            "/paths/~1a/post/requestBody/content/application~1json/schema/required",
            json!(["x"]),
            true,
            true,
        ),
        (
            "/paths/~1a/post/requestBody/content/application~1json/schema/properties/x/type",
            json!("integer"),
            true,
            true,
        ),
        (
            "/paths/~1a/post/requestBody/content/application~1json/schema/properties/z",
            json!({"type": "string"}),
            false,
            true,
        ),
        (
            "/paths/~1c",
            json!({"get": {"responses": {"200": {"description": "d"}}}}),
            false,
            true,
        ),
    ]
}

#[test]
fn planted_changes_are_judged_as_another_program_judges_them() {
    let Some(python) = python("schema_diff") else {
        return;
    };
    let base = json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {
        "/a": {
            "get": {"parameters": [{"name": "q", "in": "query", "schema": {"type": "string", "enum": ["a", "b"]}}],
                "responses": {"404": {"description": "n"}, "200": {"description": "d", "content": {"application/json": {"schema": {"type": "object",
                    "required": ["x"], "properties": {"x": {"type": "string"}, "y": {"type": "integer"}}}}}}}},
            "post": {"requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"x": {"type": "string"}}}}}},
                "responses": {"200": {"description": "d"}}}
        },
        "/b": {"get": {"responses": {"200": {"description": "d"}}}}
    }});
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.json"), dir.path().join("new.json"));
    fs::write(&old, base.to_string()).unwrap();
    for (pointer, value, harms, seen) in planted() {
        let mut changed = base.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/");
        match changed.pointer_mut(parent).unwrap() {
            Value::Object(members) if value.is_null() => drop(members.remove(&name)),
            Value::Object(members) => drop(members.insert(name, value.clone())),
            Value::Array(items) => items.push(value.clone()),
            other => panic!("{pointer}: {other}"),
        }
        fs::write(&new, changed.to_string()).unwrap();
        let found = breaks(base.to_string().as_bytes(), changed.to_string().as_bytes()).unwrap();
        assert_eq!(found > 0, harms, "{pointer} {value}");
        let theirs = Command::new(python.with_file_name("api-schema-diff"))
            .arg(&old)
            .arg(&new)
            .output()
            .unwrap();
        let says = theirs.status.code() == Some(1);
        assert_eq!(
            says,
            harms && seen,
            "{pointer} {value}: {}",
            String::from_utf8_lossy(&theirs.stdout)
        );
    }
}
