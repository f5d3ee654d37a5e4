//! Each alarm and each code is written down: what it means, what to look at, what to do; and what
//! is raised says where.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gapura_protocol::envelope::Code;
use gapura_telemetry::alarms::{Alarm, docs};
use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::program::Invocation;
use serde_json::json;

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// The headings of a page with the text below each.
fn sections(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n### ").skip(1);
    parts
        .map(|part| {
            let (name, text) = part.split_once('\n').unwrap();
            (name, text.split("\n## ").next().unwrap())
        })
        .collect()
}

/// The anchors of a page's headings, as GitHub and most others make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut code = false;
    let headings = page.lines().filter_map(|line| {
        code ^= line.starts_with("```");
        line.strip_prefix('#').filter(|_| !code)
    });
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            kept.map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect()
}

fn in_force() -> Vec<&'static str> {
    let alarms = Alarm::ALL.map(Alarm::as_str).into_iter();
    alarms
        .chain(Code::ALL.iter().map(|code| code.as_str()))
        .collect()
}

#[test]
fn each_alarm_and_each_code_says_what_it_means_what_to_look_at_and_what_to_do() {
    let page = fs::read_to_string(root().join("docs/alarms.md")).unwrap();
    let sections = sections(&page);
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let (codes, alarms): (BTreeSet<&str>, BTreeSet<&str>) = in_force()
        .into_iter()
        .partition(|name| Code::from_word(name.as_bytes()).is_some());
    assert!(codes.is_disjoint(&alarms), "one anchor, one meaning");
    let written: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(written.len(), names.len(), "each once: {names:?}");
    assert_eq!(written, codes.union(&alarms).copied().collect());
    for (name, text) in sections {
        let words: &[&str] = match codes.contains(name) {
            true => &["- **Look at** ", "- **Do** "],
            false => &["- **Until then**", "- **Look at** ", "- **Do** "],
        };
        let meaning = text.trim_start().lines().next().unwrap_or_default();
        assert!(
            meaning.len() > 20 && !meaning.starts_with('-'),
            "{name} means nothing: {text}"
        );
        for word in words {
            assert!(
                text.contains(&format!("\n{word}")),
                "{name} lacks {word}: {text}"
            );
        }
        if let Some(code) = Code::from_word(name.as_bytes())
            && !code.is_silent()
        {
            let status = code.status().as_u16().to_string();
            assert!(meaning.starts_with(&status), "{name}: {meaning}");
        }
    }
}

#[test]
fn no_page_links_to_a_place_that_is_not_there() {
    let folder = root().join("docs");
    let mut pages: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    let mut dead = Vec::new();
    let mut tried = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            tried += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let is_there = there.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&there).unwrap()).contains(anchor));
            if !is_there {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(tried > 20, "{tried}");
    assert!(dead.is_empty(), "{dead:#?}");
    // What a program says is a path from the repository's root.
    for name in in_force() {
        let docs = docs(name);
        let (file, anchor) = docs.split_once('#').unwrap();
        let page = fs::read_to_string(root().join(file)).unwrap();
        assert!(anchors(&page).contains(anchor), "{docs}");
    }
}

#[test]
fn an_alarm_names_the_place_that_says_what_to_do() {
    let mesh = TestMesh::new().start();
    mesh.write_registry("broken", &json!({"name": "broken"}));
    let line = mesh.gateway.wait_for_event("alarm");
    assert_eq!(
        (&line["name"], &line["docs"]),
        (&json!("registry"), &json!("docs/alarms.md#registry"))
    );
    for page in ["/readyz", "/certificates"] {
        let alarm = mesh.admin(&mesh.gateway, page).json()["alarms"][0].clone();
        assert_eq!(alarm["name"], "registry", "{page}");
        assert_eq!(alarm["docs"], "docs/alarms.md#registry", "{page}");
    }
    let status = Invocation::new()
        .arg("status")
        .flag("--admin", mesh.gateway.address("admin").to_string())
        .run("gapura");
    assert!(
        status.stdout.contains("docs/alarms.md#registry"),
        "{}",
        status.stdout
    );
    let checked = mesh
        .gateway_invocation()
        .arg("--check")
        .run("gapura-gateway");
    assert_eq!(checked.code, Some(2));
    assert!(
        checked.stderr.contains("docs/alarms.md#registry"),
        "{}",
        checked.stderr
    );
    assert!(!checked.stderr.contains("#trust"), "{}", checked.stderr);
    std::fs::remove_file(mesh.plugins.join("broken.json")).unwrap();
    eventually("it is mended", || {
        let alarms = mesh.admin(&mesh.gateway, "/readyz").json()["alarms"].clone();
        (alarms == json!([])).then_some(())
    });
    let checked = mesh
        .gateway_invocation()
        .arg("--check")
        .run("gapura-gateway");
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(
        !checked.stderr.contains("docs/alarms.md"),
        "{}",
        checked.stderr
    );
}

#[test]
fn each_alarm_is_an_alert_that_is_tried() {
    let read =
        |file: &str| fs::read_to_string(root().join("deploy/prometheus").join(file)).unwrap();
    let (rules, tests) = (read("rules.yml"), read("rules-test.yml"));
    let mut alerts = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let (name, rule) = rule.split_once('\n').unwrap();
        let field = |key: &str| {
            let line = rule.lines().find(|line| line.trim_start().starts_with(key));
            line.unwrap_or_else(|| panic!("{name} lacks {key}"))
                .split_once(": ")
                .unwrap()
                .1
        };
        let (file, anchor) = field("docs: ").split_once('#').unwrap();
        let page = fs::read_to_string(root().join(file)).unwrap();
        assert!(anchors(&page).contains(anchor), "{name}: {file}#{anchor}");
        assert!(
            ["critical", "warning"].contains(&field("severity: ")),
            "{name}"
        );
        let tried = format!("alertname: {name}\n");
        assert!(
            tests.contains(&format!("{tried}        exp_alerts:")),
            "{name} is never fired"
        );
        alerts.push((name, field("expr: "), anchor));
    }
    for alarm in Alarm::ALL.map(Alarm::as_str) {
        let expr = format!("gapura_alarms{{name=\"{alarm}\"}} == 1");
        let alert = alerts.iter().find(|(_, found, _)| *found == expr);
        let (_, _, anchor) = alert.unwrap_or_else(|| panic!("no alert for {alarm}"));
        assert_eq!(*anchor, alarm);
    }
}
