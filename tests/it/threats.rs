//! The threat model is true: each attack of the catalogue has its row, and each test that a row
//! names is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of all tests below `dir`, as the runner has them.
fn tests(dir: &Path, module: &str, names: &mut BTreeSet<String>) {
    for path in fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let below = match (module, stem.as_str()) {
            (_, "mod") => module.to_owned(),
            ("", _) => stem,
            (module, _) => format!("{module}::{stem}"),
        };
        if path.is_dir() {
            tests(&path, &below, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines() {
                is_test |= line.starts_with("#[test]");
                if let (true, Some(rest)) = (is_test, line.strip_prefix("fn ")) {
                    names.insert(format!("{below}::{}", rest.split('(').next().unwrap()));
                    is_test = false;
                }
            }
        }
    }
}

/// The words between backticks that name a test.
fn named(text: &str) -> Vec<&str> {
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter(|word| {
            word.contains("::")
                && word.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_:".contains(&byte)
                })
        })
        .collect()
}

#[test]
fn each_attack_has_its_row_with_a_test_and_its_twin_and_each_of_them_exists() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let mut known = BTreeSet::new();
    tests(&root().join("tests/it"), "", &mut known);
    assert!(known.len() > 300, "{} tests only", known.len());

    let missing: Vec<&str> = named(&page)
        .into_iter()
        .filter(|name| !known.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");

    let mut wanted: Vec<String> = Vec::new();
    for (letter, last) in [("H", 12), ("P", 10), ("F", 12), ("J", 11), ("T", 10)] {
        wanted.extend((1..=last).map(|number| format!("{letter}{number}")));
    }
    wanted.push("J13".to_owned());
    for id in wanted {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {id} |")))
            .unwrap_or_else(|| panic!("{id} has no row"));
        let (held, twin) = row
            .rsplit_once(" / ")
            .unwrap_or_else(|| panic!("{id} names no twin"));
        assert!(!named(held).is_empty(), "{id} names no test");
        assert_eq!(named(twin).len(), 1, "{id} names no twin");
    }
}

#[test]
fn each_sum_and_each_reading_has_its_row_with_a_test() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    for (letter, last) in [("A", 6), ("B", 5)] {
        for number in 1..=last {
            let begins = format!("| {letter}{number} |");
            let row = page.lines().find(|line| line.starts_with(&begins));
            let row = row.unwrap_or_else(|| panic!("{letter}{number} has no row"));
            assert!(!named(row).is_empty(), "{letter}{number} names no test");
        }
    }
}

#[test]
fn a_test_that_is_none_would_be_found() {
    let mut known = BTreeSet::new();
    tests(&root().join("tests/it"), "", &mut known);
    assert!(known.contains("threats::a_test_that_is_none_would_be_found"));
    assert!(known.contains("pki::two_users::a_link_to_a_secret_is_not_followed_by_any_command"));
    assert!(!known.contains("threats::root"));
    assert_eq!(
        named("`a::b` and `c` and `mesh/x.rs` `d::e_1`"),
        ["a::b", "d::e_1"]
    );
}
