//! Whatever a plugin serves as its contract: it is left out with a sentence, or what is made of it
//! is a contract again.
//!
//! What is merged of it is read by the same rules, so that each reference in it leads somewhere;
//! what is internal is nowhere in it; and a contract breaks nothing of itself.

use gapura_openapi::{About, Document, Door, Part, Seen, Site, compare, merge};

const SAMPLE: &str = include_str!("../../../examples/lab-reporting/openapi.json");

const SITE: Site<'static> = Site {
    plugin: "fuzzed",
    mount: "/fuzzed",
    keeps_mount: false,
    found_at: "/openapi.json",
    door: Door::Token,
    passes: &|name| !name.starts_with('x'),
    leads_here: &|_| true,
};

const ABOUT: About<'static> = About {
    title: "t",
    description: "d",
    version: "1",
};

/// What is made of one input; nothing, if it is left out.
#[must_use]
pub fn merged(bytes: &[u8]) -> Option<String> {
    let document = Document::read(bytes).ok()?;
    let part = Part::of(&document, &SITE);
    Some(merge(&ABOUT, &[(&part, Seen::All)]))
}

/// How many breaking changes there are from one document to another; `None` if either is left out.
#[must_use]
pub fn breaks(old: &[u8], new: &[u8]) -> Option<usize> {
    let (old, new) = (Document::read(old).ok()?, Document::read(new).ok()?);
    Some(compare(&old, &new).len())
}

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let document = match Document::read(bytes) {
        Ok(document) => document,
        Err(fault) => {
            let said = fault.to_string();
            assert!(!said.is_empty() && said.len() < 2000, "{said}");
            return;
        }
    };
    let again = Document::read(bytes).expect("it was read before");
    for finding in compare(&document, &again) {
        assert_eq!(finding.kind, "not_compared", "{finding}");
    }
    let sample = Document::read(SAMPLE.as_bytes()).expect("a good document");
    for finding in compare(&sample, &document)
        .iter()
        .chain(&compare(&document, &sample))
    {
        assert!(finding.pointer.starts_with('#') && !finding.message.is_empty());
    }
    let part = Part::of(&document, &SITE);
    let some: Vec<bool> = part
        .operations()
        .iter()
        .map(|one| one.method == "GET")
        .collect();
    for seen in [Seen::All, Seen::Marked(&some), Seen::Marked(&[])] {
        let whole = merge(&ABOUT, &[(&part, seen)]);
        if let Err(fault) = Document::read(whole.as_bytes()) {
            // What is added may be what is too much.
            let said = fault.to_string();
            let bounds = ["nested deeper", "values", "longer than", "longer"];
            assert!(
                bounds.iter().any(|bound| said.contains(bound)),
                "{said}\n{whole}"
            );
        }
    }
}
