use std::time::Instant;

use serde_json::json;

use super::*;
use crate::document::Document;
use crate::part::{Door, Site};

/// A document of a hundred paths, as a service of some size has it.
fn large(plugin: usize) -> Vec<u8> {
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    for at in 0..100 {
        let name = format!("Thing{at}");
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        paths.insert(
            format!("/things{at}/{{id}}"),
            json!({
                "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}],
                "get": {"operationId": format!("get{at}"), "tags": ["things"], "summary": "One of them",
                    "parameters": [{"name": "deep", "in": "query", "schema": {"type": "boolean", "nullable": true}}],
                    "responses": {"200": {"description": "It", "content": {"application/json": {"schema": schema}}},
                        "404": {"description": "None"}}},
                "put": {"operationId": format!("put{at}"), "tags": ["things"],
                    "requestBody": {"content": {"application/json": {"schema": schema}}},
                    "responses": {"204": {"description": "Done"}}}
            }),
        );
        schemas.insert(
            name,
            json!({"type": "object", "required": ["id"], "properties": {
                "id": {"type": "integer", "minimum": 0, "exclusiveMinimum": true},
                "name": {"type": "string", "maxLength": 200}, "note": {"type": "string", "nullable": true},
                "next": {"$ref": format!("#/components/schemas/Thing{}", (at + 1) % 100)}}}),
        );
    }
    let document = json!({"openapi": "3.0.3", "info": {"title": format!("plugin {plugin}"), "version": "1"},
        "paths": paths, "components": {"schemas": schemas}});
    document.to_string().into_bytes()
}

fn part(plugin: usize, bytes: &[u8]) -> Part {
    let document = Document::read(bytes).unwrap();
    let (name, mount) = (format!("plugin-{plugin}"), format!("/p/{plugin}"));
    Part::of(
        &document,
        &Site {
            plugin: &name,
            mount: &mount,
            keeps_mount: false,
            found_at: "/openapi.json",
            door: Door::Token,
            passes: &|_| true,
            leads_here: &|_| true,
        },
    )
}

#[test]
fn many_plugins_make_one_document() {
    let parts: Vec<Part> = (0..3).map(|at| part(at, &large(at))).collect();
    let seen: Vec<(&Part, Seen<'_>)> = parts.iter().map(|part| (part, Seen::All)).collect();
    let about = About {
        title: "t",
        description: "d",
        version: "1",
    };
    let whole: Value = serde_json::from_str(&merge(&about, &seen)).unwrap();
    assert_eq!(whole["paths"].as_object().unwrap().len(), 300);
    assert_eq!(
        whole["components"]["schemas"].as_object().unwrap().len(),
        301
    );
}

/// `cargo test --release -p gapura-openapi -- --ignored --nocapture five_hundred`
#[test]
#[ignore = "a figure, for a release build on a quiet machine"]
fn five_hundred_documents_of_a_hundred_paths_are_merged_within_a_second() {
    let documents: Vec<Vec<u8>> = (0..500).map(large).collect();
    let begun = Instant::now();
    let parts: Vec<Part> = documents
        .iter()
        .enumerate()
        .map(|(at, bytes)| part(at, bytes))
        .collect();
    let read = begun.elapsed();
    let seen: Vec<(&Part, Seen<'_>)> = parts.iter().map(|part| (part, Seen::All)).collect();
    let about = About {
        title: "t",
        description: "d",
        version: "1",
    };
    let begun = Instant::now();
    let whole = merge(&about, &seen);
    let merged = begun.elapsed();
    let operations: usize = parts.iter().map(|part| part.operations().len()).sum();
    println!(
        "{operations} operations, {} bytes: parts made in {read:?}, merged in {merged:?}",
        whole.len()
    );
    assert!(merged.as_secs() < 1, "{merged:?}");
}
