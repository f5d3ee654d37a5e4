//! Which crate and which module may know which other: the arrows of ARCHITECTURE.md, read from the source.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The names under `[dependencies]` of a crate's manifest.
fn dependencies(crate_dir: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(crate_dir).join("Cargo.toml")).unwrap();
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside
            && let Some(name) = line
                .split(['.', '=', ' '])
                .next()
                .filter(|name| !name.is_empty() && !name.starts_with('#'))
        {
            names.push(name.to_owned());
        }
    }
    assert!(
        !names.is_empty(),
        "{crate_dir} depends on nothing: the manifest was not understood"
    );
    names
}

/// Every Rust file below `dir` that is more than a test, with its text as far as its tests.
fn sources(dir: &str) -> Vec<(String, String)> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    let mut folders = vec![root().join(dir)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    // `#[cfg(test)] mod x;` makes `x.rs` and all of `x/` a test.
    let mut tests = Vec::new();
    for (path, text) in &files {
        let home = match path.file_stem().unwrap().to_str().unwrap() {
            "lib" | "main" | "mod" => path.parent().unwrap().to_owned(),
            _ => path.with_extension(""),
        };
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let module = (line == "#[cfg(test)]")
                .then(|| lines.next())
                .flatten()
                .and_then(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
            tests.extend(module.map(|name| home.join(name)));
        }
    }
    let is_test = |path: &Path| {
        tests
            .iter()
            .any(|test| path.starts_with(test) || path.with_extension("") == *test)
    };
    let code = |text: &str| {
        text.split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap()
            .to_owned()
    };
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    files
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (name(path), code(text)))
        .collect()
}

/// The lines of `code` that are no comment and hold `word`.
fn lines_with<'a>(code: &'a str, word: &str) -> Vec<&'a str> {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//") && line.contains(word))
        .collect()
}

#[test]
fn gateway_and_sidecar_never_see_each_other_and_neither_sees_the_ca() {
    let ours = |name: &String| name.starts_with("gapura") || name == "lab-reporting";
    for (crate_dir, allowed) in [
        ("mesh", &[][..]),
        ("mesh/transport", &[][..]),
        ("gateway", &["gapura-mesh"][..]),
        ("sidecar", &["gapura-mesh"][..]),
        ("pki", &["gapura-mesh"][..]),
        ("examples/lab-reporting", &[][..]),
    ] {
        let known: Vec<String> = dependencies(crate_dir).into_iter().filter(ours).collect();
        assert!(
            known.iter().all(|name| allowed.contains(&name.as_str())),
            "{crate_dir} knows {known:?}, but may know only {allowed:?}"
        );
    }
}

#[test]
fn only_the_ca_mints_certificates_and_the_sidecar_reads_no_token() {
    let has =
        |crate_dir: &str, name: &str| dependencies(crate_dir).iter().any(|known| known == name);
    for crate_dir in ["mesh", "mesh/transport", "gateway", "sidecar"] {
        assert!(
            !has(crate_dir, "rcgen"),
            "{crate_dir} can mint certificates"
        );
    }
    for crate_dir in ["mesh", "sidecar", "pki"] {
        assert!(
            !has(crate_dir, "jsonwebtoken"),
            "{crate_dir} can read tokens"
        );
    }
}

#[test]
fn no_stage_knows_the_pipeline_the_server_or_the_configuration() {
    for program in ["gateway", "sidecar"] {
        for stage in [
            "authenticate",
            "registry",
            "route",
            "authorise",
            "rate_limit",
            "sanitise",
            "forward",
        ] {
            let mut files = sources(&format!("{program}/src/{stage}"));
            files.extend(
                sources(&format!("{program}/src"))
                    .into_iter()
                    .filter(|(name, _)| *name == format!("{program}/src/{stage}.rs")),
            );
            for (name, code) in files {
                for above in [
                    "crate::pipeline",
                    "crate::server",
                    "crate::config",
                    "crate::run",
                ] {
                    let found = lines_with(&code, above);
                    assert!(found.is_empty(), "{name} reaches up: {found:?}");
                }
            }
        }
    }
}

#[test]
fn the_time_comes_from_the_clock_and_settings_from_the_configuration() {
    for dir in [
        "mesh/src",
        "mesh/transport/src",
        "gateway/src",
        "sidecar/src",
    ] {
        for (name, code) in sources(dir) {
            if name != "mesh/src/clock.rs" {
                assert!(
                    lines_with(&code, "SystemTime::now").is_empty(),
                    "{name} asks the machine for the time"
                );
            }
            if !name.ends_with("main.rs") {
                assert!(
                    lines_with(&code, "env::var").is_empty(),
                    "{name} has a hidden switch in the environment"
                );
                assert!(
                    lines_with(&code, "process::exit").is_empty(),
                    "{name} ends a process that others may share"
                );
            }
        }
    }
}

#[test]
fn no_library_keeps_a_state_of_the_whole_process() {
    for dir in [
        "mesh/src",
        "mesh/transport/src",
        "gateway/src",
        "sidecar/src",
        "pki/src",
        "gapura/src",
    ] {
        for (name, code) in sources(dir) {
            for line in code
                .lines()
                .map(str::trim_start)
                .filter(|line| line.starts_with("static ") || line.starts_with("pub static "))
            {
                let state = ["Mutex", "Atomic", "OnceLock", "LazyLock", "RwLock", "Cell"];
                assert!(
                    !state.iter().any(|kind| line.contains(kind)),
                    "{name} has a global: {line}"
                );
            }
            assert!(
                lines_with(&code, "install_default").is_empty(),
                "{name} sets the crypto provider of the whole process"
            );
        }
    }
}

#[test]
fn the_reader_of_sources_finds_what_it_looks_for() {
    let mesh = sources("mesh/src");
    let (_, clock) = mesh
        .iter()
        .find(|(name, _)| name == "mesh/src/clock.rs")
        .unwrap();
    assert_eq!(
        lines_with(clock, "SystemTime::now").len(),
        1,
        "comments and tests are left out, code is not"
    );
    let gateway = sources("gateway/src");
    assert!(
        gateway
            .iter()
            .any(|(name, _)| name == "gateway/src/authenticate/jws.rs")
    );
    assert!(
        gateway.iter().all(|(name, _)| !name.contains("/tests")),
        "{:?}",
        gateway.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
}

#[test]
fn each_dependency_has_its_sentence() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = page.split("## Dependencies").nth(1).unwrap();
    let names = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim());
    let missing: Vec<&str> = names
        .filter(|name| {
            !name.starts_with("gapura")
                && *name != "lab-reporting"
                && !table.contains(&format!("`{name}`"))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "no sentence in ARCHITECTURE.md: {missing:?}"
    );
}
