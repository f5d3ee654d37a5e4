//! Plugin files judged before they are in force: with everything else, by themselves, and beside
//! what a gateway has in force.

use std::fs;
use std::path::Path;

use gapura_tests::mesh::TestMesh;
use gapura_tests::program::{Ended, Invocation};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder of plugin files, each on several lines.
fn folder(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in files {
        write(folder.path(), name, value);
    }
    folder
}

fn write(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(format!("{name}.json")), format!("{value:#}\n")).unwrap();
}

fn plugin(name: &str, mount: &str) -> Value {
    json!({
        "name": name, "version": "1.0.0", "mount": mount, "upstream": "https://127.0.0.1:19443",
        "auth_mode": "gateway_verified"
    })
}

fn check(folder: &Path) -> Invocation {
    Invocation::new()
        .args(&["--check", "--only", "plugins"])
        .flag("--plugin-dir", folder)
}

#[track_caller]
fn ends(invocation: &Invocation, code: i32) -> Ended {
    let ended = invocation.run("gapura-gateway");
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    ended
}

#[test]
fn the_faults_of_all_parts_are_told_together() {
    let plugins = folder(&[("a", json!({"name": "a", "mount": "/a", "timeuot_ms": 1}))]);
    let invocation = Invocation::new()
        .args(&["--check", "--listen", "127.0.0.1:0"])
        .flag("--plugin-dir", plugins.path())
        .flag("--mesh-dir", plugins.path().join("none"))
        .flag("--jwt-secret-file", plugins.path().join("no-secret"));
    let said = ends(&invocation, 2).stderr;
    for word in [
        "timeuot_ms",
        "timeout_ms",
        "\"upstream\" is missing",
        "no-secret",
        "none",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // Mistakes of the settings hide nothing either.
    let bare = Invocation::new()
        .args(&["--check", "--workers", "many"])
        .flag("--plugin-dir", plugins.path());
    let said = ends(&bare, 2).stderr;
    for word in ["--workers", "--mesh-dir", "--tls-cert", "timeuot_ms"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // A start says the same.
    let start = Invocation::new()
        .flag("--plugin-dir", plugins.path())
        .flag("--mesh-dir", plugins.path().join("none"))
        .flag("--jwt-secret-file", plugins.path().join("no-secret"))
        .args(&["--listen", "127.0.0.1:0"]);
    assert!(ends(&start, 2).stderr.contains("timeuot_ms"));
}

#[test]
fn the_plugin_files_alone_need_nothing_but_their_folder() {
    let plugins = folder(&[("a", plugin("a", "/a")), ("b", plugin("b", "/b"))]);
    let ended = ends(&check(plugins.path()), 0);
    assert!(
        ended.stdout.contains("a.json: plugin a 1.0.0 at /a"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);

    let mut broken = plugin("c", "/b");
    broken["identity"] = json!("spiffe://elsewhere/gateway/c");
    write(plugins.path(), "c", &broken);
    write(plugins.path(), "d", &plugin("a", "/d"));
    let said = ends(&check(plugins.path()), 2).stderr;
    for word in [
        "only plugins answer",
        "d.json:",
        "\"name\" a is also claimed by a.json",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }

    // Whose gateway it is, and so whose identities are its own, is not known here.
    let plugins = folder(&[("a", plugin("a", "/a"))]);
    let mut other = plugin("e", "/e");
    other["identity"] = json!("spiffe://lab.internal/plugin/other");
    write(plugins.path(), "e", &other);
    let _ = ends(&check(plugins.path()), 0);
}

#[test]
fn what_is_looked_at_belongs_to_check() {
    let plugins = folder(&[("a", plugin("a", "/a"))]);
    for (words, says) in [
        (&["--only", "plugins"][..], "says what --check looks at"),
        (&["--check", "--only", "tokens"], "must be plugins"),
        (&["--diff-running"], "says what --check looks at"),
    ] {
        let invocation = Invocation::new()
            .args(words)
            .flag("--plugin-dir", plugins.path());
        let said = ends(&invocation, 2).stderr;
        assert!(said.contains(says), "{words:?}: {said}");
    }
    let said = ends(
        &Invocation::new().args(&["--check", "--only", "plugins"]),
        2,
    )
    .stderr;
    assert!(said.contains("--plugin-dir"), "{said}");
}

#[test]
fn what_is_hardly_meant_is_a_warning_with_both_lines() {
    let mut outer = plugin("outer", "/v1");
    outer["allow"] = json!([
        {"methods": ["GET"], "path": "/reports/**"},
        {"methods": ["GET"], "path": "/reports/{id}", "roles": ["admin"]},
        {"path": "/other"}
    ]);
    let plugins = folder(&[
        ("outer", outer),
        ("inner", plugin("inner", "/v1/lab")),
        ("root", plugin("root", "/")),
        ("beside", plugin("beside", "/v1x")),
    ]);
    let ended = ends(&check(plugins.path()), 0);
    let warnings: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(warnings.len(), 2, "{}", ended.stderr);
    let line = |file: &str, word: &str| {
        let text = fs::read_to_string(plugins.path().join(file)).unwrap();
        text.lines().position(|line| line.contains(word)).unwrap() + 1
    };
    let (inside, around) = (
        line("inner.json", "\"mount\""),
        line("outer.json", "\"mount\""),
    );
    let mount = warnings
        .iter()
        .find(|line| line.contains("is inside /v1"))
        .unwrap();
    assert!(mount.contains(&format!("inner.json:{inside}:")), "{mount}");
    assert!(mount.contains(&format!("outer.json:{around}:")), "{mount}");
    let rule = warnings
        .iter()
        .find(|line| line.contains("decides nothing"))
        .unwrap();
    assert!(
        rule.contains("outer.json:") && rule.contains("the rule at line"),
        "{rule}"
    );
}

#[test]
fn a_folder_is_compared_with_what_is_in_force() {
    let mesh = TestMesh::new()
        .fields(json!({"inject_headers": {"X-Plugin-Key": "very-secret"}}))
        .also("second", json!({}))
        .start();
    let diff = |folder: &Path| {
        Invocation::new()
            .args(&["--check", "--diff-running"])
            .flag("--plugin-dir", folder)
            .flag("--admin", mesh.gateway.address("admin").to_string())
    };
    let same = ends(&diff(&mesh.plugins), 0);
    assert!(same.stdout.contains("nothing differs"), "{}", same.stdout);

    let next = tempfile::tempdir().unwrap();
    let changed = mesh.entry(&json!({
        "timeout_ms": 5000, "inject_headers": {"X-Plugin-Key": "another-secret"}
    }));
    write(next.path(), "echo", &changed);
    write(next.path(), "third", &plugin("third", "/third"));
    let said = ends(&diff(next.path()), 1).stdout;
    for line in [
        "~ echo: timeout_ms (not set) -> 5000",
        "+ third: would come into force at /third (third.json)",
        "- second: would no longer be in force (second.json is gone)",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    assert!(
        !said.contains("secret") && said.lines().count() == 3,
        "{said}"
    );
    assert!(
        !mesh
            .admin(&mesh.gateway, "/plugins")
            .text()
            .contains("very-secret")
    );

    write(next.path(), "fourth", &json!({}));
    assert!(ends(&diff(next.path()), 2).stderr.contains("fourth.json"));
    let nobody = Invocation::new()
        .args(&["--check", "--diff-running", "--admin", "127.0.0.1:1"])
        .flag("--plugin-dir", &mesh.plugins);
    assert!(ends(&nobody, 2).stderr.contains("does not answer"));
}

#[test]
fn the_schema_is_of_every_field_and_says_what_it_means() {
    let printed = ends(&Invocation::new().arg("schema"), 0);
    let schema: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
    let fields = schema["properties"].as_object().unwrap();
    for name in [
        "name",
        "allow",
        "tests",
        "cors",
        "inject_headers",
        "health",
        "$schema",
    ] {
        assert!(
            fields[name]["description"].as_str().unwrap().len() > 8,
            "{name}"
        );
    }
    // What the schema does not know the reader does not know either.
    let mut file = plugin("a", "/a");
    for name in fields.keys() {
        file[name] = json!(null);
    }
    file["nobody"] = json!(1);
    let plugins = folder(&[("a", file)]);
    let said = ends(&check(plugins.path()), 2).stderr;
    let unknown: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("unknown field"))
        .collect();
    assert!(
        unknown.len() == 1 && unknown[0].contains("nobody"),
        "{said}"
    );
    let named = json!({"$schema": "../plugin.schema.json"});
    let mut file = plugin("a", "/a");
    file["$schema"] = named["$schema"].clone();
    let plugins = folder(&[("a", file)]);
    let _ = ends(&check(plugins.path()), 0);
}
