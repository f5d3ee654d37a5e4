//! Documents that were made to cost more than they weigh: each is dealt with in time, or left out
//! with a reason.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test's own documents, and how long each took

use std::time::{Duration, Instant};

use gapura_openapi::{Document, Door, Part, Seen, Site, compare, merge};
use serde_json::{Map, Value, json};

/// A second in a release build, which is what any document of four megabytes may take; the rest is
/// for builds that are none.
const SOON: Duration = Duration::from_secs(30);

/// More than any document needs once it is merged: what stands on a path may be wanted by each of
/// its methods.
const LONG: usize = 64 << 20;

const SITE: Site<'static> = Site {
    plugin: "hostile",
    mount: "/hostile",
    keeps_mount: false,
    found_at: "/openapi.json",
    door: Door::Token,
    passes: &|_| true,
    leads_here: &|_| true,
};

fn document(more: Value) -> Vec<u8> {
    let mut document = json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}});
    document
        .as_object_mut()
        .unwrap()
        .append(&mut more.as_object().unwrap().clone());
    document.to_string().into_bytes()
}

/// So many members, each by its number.
fn many(count: usize, each: impl Fn(usize) -> (String, Value)) -> Value {
    Value::Object((0..count).map(each).collect::<Map<String, Value>>())
}

/// Reads it, merges it, and compares it with itself as another version would be; or why it is left
/// out.
fn dealt_with(what: &str, bytes: &[u8]) -> Result<usize, String> {
    assert!(
        bytes.len() <= gapura_openapi::MAX_BYTES,
        "{what}: {}",
        bytes.len()
    );
    let begun = Instant::now();
    let result = Document::read(bytes).map_err(|fault| fault.to_string());
    let result = result.map(|document| {
        let about = gapura_openapi::About {
            title: "t",
            description: "d",
            version: "1",
        };
        let part = Part::of(&document, &SITE);
        let length = merge(&about, &[(&part, Seen::All)]).len();
        assert!(length < LONG, "{what}: {length} bytes");
        let _ = compare(&document, &Document::read(bytes).unwrap());
        length
    });
    let took = begun.elapsed();
    println!("{what}: {took:?}, {result:?}");
    assert!(took < SOON, "{what}: {took:?}");
    result
}

#[test]
fn one_long_text_is_not_copied_wherever_something_refers_to_it() {
    let text = "d".repeat(2 << 20);
    // The same place, spelled in many ways.
    let spelled = |at: usize| {
        let letters: String = (0..12)
            .map(|bit| if at >> bit & 1 == 1 { "%61" } else { "a" })
            .collect();
        (
            format!("S{at}"),
            json!({"$ref": format!("#/components/schemas/T/properties/{letters}")}),
        )
    };
    let mut schemas = many(4096, spelled);
    schemas["T"] = json!({"properties": {"aaaaaaaaaaaa": {"description": text}}});
    let copied = document(json!({"components": {"schemas": schemas}}));
    let why = dealt_with("spellings", &copied).unwrap_err();
    assert!(why.contains("too often"), "{why}");
    let paths = many(4096, |at| {
        (
            format!("/p{at}"),
            json!({"$ref": "#/components/pathItems/P"}),
        )
    });
    let items = json!({"P": {"description": text, "get": {}}});
    let copied = document(json!({"paths": paths, "components": {"pathItems": items}}));
    let why = dealt_with("path items", &copied).unwrap_err();
    assert!(why.contains("too often"), "{why}");
}

#[test]
fn a_server_of_a_gigabyte_serves_nobody() {
    let paths = many(10_000, |at| (format!("/p{at}"), json!({"get": {}})));
    let long = "/a".repeat(1 << 19);
    let servers = json!([{"url": "{v}".repeat(1000), "variables": {"v": {"default": long}}}]);
    let length = dealt_with(
        "a server",
        &document(json!({"paths": paths, "servers": servers})),
    );
    assert!(length.unwrap() < 4096, "no operation is reached");
}

#[test]
fn references_to_references_have_an_end() {
    let chain = many(20_000, |at| {
        let next = format!("#/components/parameters/P{}", at + 1);
        (format!("P{at}"), json!({"$ref": next}))
    });
    let mut parameters = chain;
    parameters["P20000"] = json!({"name": "q", "in": "query"});
    let paths = many(20_000, |at| {
        let parameters = json!([{"$ref": "#/components/parameters/P0"}]);
        (
            format!("/p{at}"),
            json!({"get": {"parameters": parameters}}),
        )
    });
    let components = json!({"parameters": parameters});
    let chained = document(json!({"paths": paths, "components": components}));
    let why = dealt_with("a chain", &chained).unwrap_err();
    assert!(why.contains("on and on"), "{why}");
}

#[test]
fn what_many_operations_share_is_not_compared_for_each_of_them_without_end() {
    let content = many(20_000, |at| (format!("a/t{at}"), json!({})));
    let shared = json!({"responses": {"R": {"description": "d", "content": content}}});
    let answered = many(10_000, |at| {
        let responses = json!({"200": {"$ref": "#/components/responses/R"}});
        (format!("/p{at}"), json!({"get": {"responses": responses}}))
    });
    let whole = document(json!({"paths": answered, "components": shared}));
    assert!(dealt_with("media types", &whole).is_ok());

    let scopes: Vec<String> = (0..100_000).map(|at| format!("scope-{at}")).collect();
    let paths = many(5_000, |at| (format!("/p{at}"), json!({"get": {}})));
    let whole = document(json!({"paths": paths, "security": [{"key": scopes}]}));
    assert!(dealt_with("scopes", &whole).is_ok());

    let properties = many(40_000, |at| {
        (format!("p{at}"), json!({"$ref": "#/components/schemas/X"}))
    });
    let mut schemas = many(10_000, |at| {
        (
            format!("S{at}"),
            json!({"allOf": [{"$ref": "#/components/schemas/Base"}]}),
        )
    });
    schemas["Base"] = json!({"properties": properties});
    schemas["X"] = json!({});
    let each = many(10_000, |at| {
        let schema = json!({"$ref": format!("#/components/schemas/S{at}")});
        (format!("m{at}/x"), json!({"schema": schema}))
    });
    let paths = json!({"/a": {"post": {"requestBody": {"content": each}}}});
    let whole = document(json!({"paths": paths, "components": {"schemas": schemas}}));
    assert!(dealt_with("a base of many", &whole).is_ok());

    let value = many(20_000, |at| (format!("v{at}"), json!("a".repeat(100))));
    let mut schemas = many(5_000, |at| {
        (
            format!("S{at}"),
            json!({"allOf": [{"$ref": "#/components/schemas/Base"}]}),
        )
    });
    schemas["Base"] = json!({"enum": [value]});
    let each = many(5_000, |at| {
        let schema = json!({"$ref": format!("#/components/schemas/S{at}")});
        (format!("m{at}/x"), json!({"schema": schema}))
    });
    let paths = json!({"/a": {"post": {"requestBody": {"content": each}}}});
    let whole = document(json!({"paths": paths, "components": {"schemas": schemas}}));
    assert!(dealt_with("a long value", &whole).is_ok());
}
