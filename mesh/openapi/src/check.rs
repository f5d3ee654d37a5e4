//! Whether each object of a document is what it has to be.
//!
//! In: an object with its kind. Out: the same without what means nothing there, or why it is none.
//! What a reader could only take in one way is put right (a path's parameter is always required);
//! what could be meant in two ways is a fault.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::fault::{Fault, short};
use crate::pointer::At;
use crate::shape::{Holds, Kind, REBASING, TYPES};

/// The names of a document's components.
#[derive(Default)]
pub(crate) struct Names(BTreeSet<(&'static str, String)>);

impl Names {
    pub(crate) fn of(root: &Value) -> Self {
        let mut names = BTreeSet::new();
        for field in Kind::Components.fields() {
            let section = root.get("components").and_then(|all| all.get(field.name));
            for name in section.and_then(Value::as_object).into_iter().flatten() {
                names.insert((field.name, name.0.clone()));
            }
        }
        Self(names)
    }

    pub(crate) fn into_set(self) -> BTreeSet<(&'static str, String)> {
        self.0
    }

    pub(crate) fn has(&self, section: &'static str, name: &str) -> bool {
        self.0.contains(&(section, name.to_owned()))
    }
}

/// The name of the component that a reference leads to; `None` where it leads elsewhere.
pub(crate) fn component<'r>(reference: &'r str, section: &str) -> Option<&'r str> {
    let name = reference.strip_prefix("#/components/")?;
    let name = name.strip_prefix(section)?.strip_prefix('/')?;
    is_name(name).then_some(name)
}

/// Whether a component may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// Looks at one object, not at those below it.
pub(crate) fn object(
    object: &mut Map<String, Value>,
    kind: Kind,
    at: &At<'_>,
    names: &Names,
) -> Result<(), Fault> {
    if let Some(reference) = object.get("$ref")
        && let Some(section) = kind.section()
    {
        leads_somewhere(reference, section, at, names)?;
        if kind != Kind::Schema && kind != Kind::PathItem {
            let told = |name: &str| name == "summary" || name == "description";
            object.retain(|name, value| name == "$ref" || told(name) && value.is_string());
            return Ok(());
        }
    }
    if kind == Kind::Schema {
        rebases(object, at)?;
    } else {
        let is_path = |name: &String| name == "$ref" && kind == Kind::PathItem;
        object.retain(|name, _| {
            name.starts_with("x-") || is_path(name) || kind.holds(name).is_some()
        });
    }
    if let Some(Value::Object(paths)) = object.get_mut("paths")
        && kind == Kind::Document
    {
        paths.retain(|path, _| !path.starts_with("x-"));
    }
    for (name, value) in &*object {
        if let Some(known) = kind.field(name) {
            holds(value, known.holds, &At::Field(at, name))?;
        }
    }
    for name in kind.required() {
        if !object.contains_key(name) {
            return Err(Fault::at(at, format!("{} needs {name:?}", kind.as_str())));
        }
    }
    match kind {
        Kind::Components => components(object, at),
        Kind::Document => paths(object, at),
        Kind::Parameter => parameter(object, at),
        Kind::Header => {
            value_of(object, at)?;
            keep_style(object, &["simple"]);
            Ok(())
        }
        Kind::Encoding => {
            keep_style(object, FORMS);
            Ok(())
        }
        Kind::Responses => responses(object, at),
        Kind::Callback => each_is_object(object, at),
        Kind::Link => link(object, at),
        Kind::Example => {
            if object.contains_key("value") {
                object.remove("externalValue");
            }
            Ok(())
        }
        Kind::Schema => schema(object, at),
        _ => Ok(()),
    }
}

fn leads_somewhere(
    reference: &Value,
    section: &'static str,
    at: &At<'_>,
    names: &Names,
) -> Result<(), Fault> {
    let Some(reference) = reference.as_str() else {
        return Err(Fault::at(at, "\"$ref\" must be a string"));
    };
    match component(reference, section) {
        Some(name) if names.has(section, name) => Ok(()),
        _ => Err(Fault::at(
            at,
            format!("refers to {:?}, which is nowhere", short(reference)),
        )),
    }
}

fn rebases(schema: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    if let Some(Value::String(dialect)) = schema.get("$schema")
        && DIALECTS.contains(&&**dialect)
    {
        schema.remove("$schema");
    }
    match REBASING.iter().find(|word| schema.contains_key(**word)) {
        None => Ok(()),
        Some(word) => Err(Fault::at(
            at,
            format!(
                "has {word:?}, by which references mean something else; bundle the document without it"
            ),
        )),
    }
}

/// Ways to say that a schema is what it is in any case.
pub(crate) const DIALECTS: [&str; 2] = [
    "https://spec.openapis.org/oas/3.1/dialect/base",
    "https://json-schema.org/draft/2020-12/schema",
];

/// Holds a value to what its field may hold.
fn holds(value: &Value, holds: Holds, at: &At<'_>) -> Result<(), Fault> {
    let is_one =
        |value: &Value, kind: Kind| value.is_object() || kind == Kind::Schema && value.is_boolean();
    let texts = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_string))
    };
    let (good, wanted) = match holds {
        Holds::Any | Holds::Ours => (true, ""),
        Holds::Text => (value.is_string(), "a string"),
        Holds::Flag => (value.is_boolean(), "true or false"),
        Holds::Number => (value.is_number(), "a number"),
        Holds::Count => (is_count(value), "a whole number from 0"),
        Holds::Values => (value.is_array(), "a list"),
        Holds::Texts => (texts(value), "a list of strings"),
        Holds::TextMap => {
            let members = value.as_object();
            let good = members.is_some_and(|members| members.values().all(Value::is_string));
            (good, "an object of strings")
        }
        Holds::Types => {
            let is_type = |value: &Value| value.as_str().is_some_and(|word| TYPES.contains(&word));
            let list = value.as_array().filter(|list| !list.is_empty());
            let good = list.map_or_else(|| is_type(value), |list| list.iter().all(is_type));
            (good, "a type of JSON Schema, or a list of them")
        }
        Holds::One(kind) => (is_one(value, kind), "an object"),
        Holds::List(kind) => {
            let list = value.as_array();
            let good = list.is_some_and(|list| list.iter().all(|item| is_one(item, kind)));
            (good, "a list of objects")
        }
        Holds::Map(kind) => {
            let members = value.as_object();
            let good = members.is_some_and(|all| all.values().all(|item| is_one(item, kind)));
            (good, "an object of objects")
        }
    };
    if good {
        Ok(())
    } else {
        Err(Fault::at(at, format!("must be {wanted}")))
    }
}

fn is_count(value: &Value) -> bool {
    let whole = |number: f64| number >= 0.0 && number.fract() == 0.0;
    value.is_u64() || value.as_f64().is_some_and(whole)
}

fn each_is_object(object: &Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    let mut members = object.iter().filter(|(name, _)| !name.starts_with("x-"));
    match members.find(|(_, value)| !value.is_object()) {
        None => Ok(()),
        Some((name, _)) => Err(Fault::at(&At::Field(at, name), "must be an object")),
    }
}

fn components(object: &Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    for (section, members) in object {
        let members = members.as_object().into_iter().flatten();
        for (name, _) in members.filter(|(name, _)| !is_name(name)) {
            if section.starts_with("x-") || section == "securitySchemes" {
                continue;
            }
            let why = "is no name of a component: letters, digits, '.', '_' and '-'";
            return Err(Fault::at(&At::Field(&At::Field(at, section), name), why));
        }
    }
    Ok(())
}

fn paths(document: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    if let Some(dialect) = document.remove("jsonSchemaDialect")
        && !dialect.as_str().is_some_and(|it| DIALECTS.contains(&it))
    {
        let at = At::Field(at, "jsonSchemaDialect");
        return Err(Fault::at(&at, "names a dialect that is not read"));
    }
    let at = At::Field(at, "paths");
    let Some(Value::Object(paths)) = document.get("paths") else {
        return Ok(());
    };
    for path in paths.keys() {
        if !path.starts_with('/') || path.contains(['?', '#']) {
            let why = "is no path: it must begin with / and have neither query nor fragment";
            return Err(Fault::at(&At::Field(&at, path), why));
        }
        if path.len() > PATH_MAX {
            let why = "is longer than any path that is served";
            return Err(Fault::at(&At::Field(&at, path), why));
        }
    }
    Ok(())
}

/// A longer request target is refused at the door.
const PATH_MAX: usize = 8 * 1024;

const FORMS: &[&str] = &["form", "spaceDelimited", "pipeDelimited", "deepObject"];

fn parameter(object: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    let place = object.get("in").and_then(Value::as_str).unwrap_or_default();
    let styles: &[&str] = match place {
        "path" => &["matrix", "label", "simple"],
        "query" => FORMS,
        "header" => &["simple"],
        "cookie" => &["form"],
        _ => {
            let why = "must be query, header, path or cookie";
            return Err(Fault::at(&At::Field(at, "in"), why));
        }
    };
    let (in_path, in_query) = (place == "path", place == "query");
    if in_path {
        object.insert("required".to_owned(), true.into());
    }
    value_of(object, at)?;
    keep_style(object, styles);
    if !in_query {
        object.remove("allowEmptyValue");
        object.remove("allowReserved");
    }
    Ok(())
}

/// A parameter or header has a schema, or one media type, and then nothing of what a schema brings.
fn value_of(object: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    if object.contains_key("schema") {
        object.remove("content");
    }
    let Some(content) = object.get("content") else {
        object.entry("schema").or_insert_with(|| json!({}));
        return Ok(());
    };
    if content.as_object().map(Map::len) != Some(1) {
        let why = "must name exactly one media type";
        return Err(Fault::at(&At::Field(at, "content"), why));
    }
    for name in ["style", "explode", "allowReserved", "example", "examples"] {
        object.remove(name);
    }
    Ok(())
}

fn keep_style(object: &mut Map<String, Value>, known: &[&str]) {
    let style = object.get("style").and_then(Value::as_str);
    if style.is_some_and(|style| !known.contains(&style)) {
        object.remove("style");
    }
}

fn responses(object: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    each_is_object(object, at)?;
    let ranges: Vec<String> = object
        .keys()
        .filter(|name| name.ends_with("xx"))
        .cloned()
        .collect();
    for name in ranges {
        if let Some(response) = object.remove(&name) {
            object.entry(name.to_uppercase()).or_insert(response);
        }
    }
    object.retain(|name, _| name.starts_with("x-") || name == "default" || is_status(name));
    Ok(())
}

/// `200` or `2XX`.
fn is_status(name: &str) -> bool {
    match name.as_bytes() {
        [first, rest @ ..] => {
            let digits = rest.len() == 2 && rest.iter().all(u8::is_ascii_digit);
            (b'1'..=b'5').contains(first) && (digits || rest == b"XX")
        }
        [] => false,
    }
}

fn link(object: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    if object.contains_key("operationId") {
        object.remove("operationRef");
    } else if !object.contains_key("operationRef") {
        return Err(Fault::at(at, "a link needs \"operationId\""));
    }
    Ok(())
}

fn schema(object: &mut Map<String, Value>, at: &At<'_>) -> Result<(), Fault> {
    for word in ["required", "type"] {
        if let Some(Value::Array(list)) = object.get_mut(word) {
            let mut seen = BTreeSet::new();
            list.retain(|item| seen.insert(item.as_str().unwrap_or_default().to_owned()));
        }
    }
    for word in ["allOf", "anyOf", "oneOf", "prefixItems"] {
        if object.get(word).is_some_and(|list| *list == json!([])) {
            object.remove(word);
        }
    }
    // Words of older or further vocabularies, whose form nobody here looks at.
    for word in [
        "dependencies",
        "dependentRequired",
        "$vocabulary",
        "nullable",
    ] {
        object.remove(word);
    }
    if object.get("xml").is_some_and(|xml| !xml.is_object()) {
        object.remove("xml");
    }
    let step = object.get("multipleOf").and_then(Value::as_f64);
    if step.is_some_and(|step| step <= 0.0) {
        let why = "must be more than 0";
        return Err(Fault::at(&At::Field(at, "multipleOf"), why));
    }
    Ok(())
}
