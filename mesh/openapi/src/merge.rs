//! One document of all plugins.
//!
//! In: each plugin's part, and how much of it is to be seen. Out: an OpenAPI 3.1 document as text,
//! in which whatever is referred to stands and nothing else does. Parts are only put together here:
//! what they say was settled when they were made.

use serde_json::{Value, json};

use crate::part::Part;
use crate::shape::Kind;

/// What the whole says of itself.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Its title.
    pub title: &'a str,
    /// What it is, in a sentence.
    pub description: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// How much of a part is seen.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// All of it, what the plugin sends by itself too.
    All,
    /// The operations that are marked, in the order of [`Part::operations`].
    Marked(&'a [bool]),
}

impl Seen<'_> {
    fn has(self, operation: usize) -> bool {
        match self {
            Self::All => true,
            Self::Marked(marks) => marks.get(operation).copied().unwrap_or(false),
        }
    }
}

/// Puts the parts together.
#[must_use]
pub fn merge(about: &About<'_>, parts: &[(&Part, Seen<'_>)]) -> String {
    let info =
        json!({"title": about.title, "description": about.description, "version": about.version});
    let mut whole =
        format!("{{\"openapi\":\"3.1.0\",\"info\":{info},\"servers\":[{{\"url\":\"/\"}}]");
    let mut plugins = List::default();
    let mut written = Written::default();
    let mut sections: Vec<(&str, List)> = Kind::Components
        .fields()
        .iter()
        .map(|field| (field.name, List::default()))
        .collect();
    for (part, seen) in parts {
        let Some(needed) = written.gather(part, *seen) else {
            continue;
        };
        let name = Value::from(part.plugin.as_str());
        plugins.add(&[&name.to_string(), ":", &part.about]);
        for (component, _) in part
            .components
            .iter()
            .zip(needed)
            .filter(|(_, needed)| *needed)
        {
            let section = sections
                .iter_mut()
                .find(|(name, _)| *name == component.section);
            if let Some((_, section)) = section {
                section.add(&[&component.text]);
            }
        }
    }
    for (name, list) in &mut sections {
        match *name {
            "schemas" => list.add(&["\"GapuraRefusal\":", &refusal().to_string()]),
            "responses" => list.add(&["\"GapuraRefusal\":", &refused().to_string()]),
            "securitySchemes" => list.add(&["\"bearer\":", &bearer().to_string()]),
            _ => {}
        }
    }
    whole.push_str(&format!(
        ",\"tags\":[{}],\"x-gapura-plugins\":{{{}}},\"paths\":{{{}}},",
        written.tags.0, plugins.0, written.paths.0
    ));
    if !written.webhooks.0.is_empty() {
        whole.push_str(&format!("\"webhooks\":{{{}}},", written.webhooks.0));
    }
    whole.push_str("\"components\":{");
    let mut components = List::default();
    for (name, list) in sections.iter().filter(|(_, list)| !list.0.is_empty()) {
        components.add(&["\"", name, "\":{", &list.0, "}"]);
    }
    whole.push_str(&components.0);
    whole.push_str("}}\n");
    whole
}

/// Members with commas between them.
#[derive(Default)]
struct List(String);

impl List {
    fn add(&mut self, pieces: &[&str]) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        for piece in pieces {
            self.0.push_str(piece);
        }
    }
}

/// What is written down of all parts.
#[derive(Default)]
struct Written {
    tags: List,
    paths: List,
    webhooks: List,
}

impl Written {
    /// Writes down a part as far as it is seen; which of its components are needed for that, or
    /// `None` if nothing is seen.
    fn gather(&mut self, part: &Part, seen: Seen<'_>) -> Option<Vec<bool>> {
        let mut needed = vec![false; part.components.len()];
        let mut tagged = vec![false; part.tags.len()];
        let mut open: Vec<usize> = Vec::new();
        let mut any = false;
        let mut tag = |tags: &[usize]| {
            for at in tags {
                if let Some(tagged) = tagged.get_mut(*at) {
                    *tagged = true;
                }
            }
        };
        for path in &part.paths {
            let mut members = List(String::new());
            for at in path.operations.iter().filter(|at| seen.has(**at)) {
                let Some(operation) = part.operations.get(*at) else {
                    continue;
                };
                members.add(&[&operation.text]);
                open.extend(&operation.needs);
                tag(&operation.tags);
            }
            if !members.0.is_empty() {
                any = true;
                self.paths
                    .add(&[&path.key, ":{", &path.head, &members.0, "}"]);
            }
        }
        let webhooks = part.webhooks.iter();
        for webhook in webhooks.filter(|_| matches!(seen, Seen::All)) {
            any = true;
            self.webhooks.add(&[&webhook.text]);
            open.extend(&webhook.needs);
            tag(&webhook.tags);
        }
        while let Some(at) = open.pop() {
            if let (Some(needed), Some(component)) = (needed.get_mut(at), part.components.get(at))
                && !std::mem::replace(needed, true)
            {
                open.extend(&component.needs);
            }
        }
        for (tag, _) in part.tags.iter().zip(tagged).filter(|(_, tagged)| *tagged) {
            self.tags.add(&[&tag.text]);
        }
        any.then_some(needed)
    }
}

/// The envelope of a refusal.
fn refusal() -> Value {
    json!({
        "type": "object",
        "description": "An answer that the gateway or the sidecar made in the plugin's place.",
        "required": ["ok", "message", "errors"],
        "properties": {
            "ok": {"const": false},
            "message": {"type": "string", "description": "One plain sentence."},
            "errors": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "description": "The stable word for programs."},
                    "by": {"type": "string", "description": "Who refused."},
                    "request_id": {"type": "string", "description": "By which the logs name this request."}
                }
            }
        }
    })
}

fn refused() -> Value {
    json!({
        "description": "Refused, by the plugin or on the way to it.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/GapuraRefusal"}}}
    })
}

fn bearer() -> Value {
    json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
}

#[cfg(test)]
mod tests;
