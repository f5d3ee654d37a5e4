//! Which crate and which module may know which other: the arrows of ARCHITECTURE.md, read from the
//! source.

mod graph;

use std::fs;
use std::path::{Path, PathBuf};

use graph::{Graph, circles};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// What both programs share, by folder.
const LIBRARIES: [&str; 16] = [
    "mesh/allocator",
    "mesh/protocol",
    "mesh/telemetry",
    "mesh/files",
    "mesh/certificates",
    "mesh/trust",
    "mesh/http",
    "mesh/http2",
    "mesh/transport",
    "mesh/settings",
    "mesh/openapi",
    "mesh/page",
    "mesh/fetch",
    "mesh/reload",
    "mesh/operator",
    "mesh/runtime",
];

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

/// Every package of ours: its name as code spells it, and where its source is.
fn packages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_code = !name.starts_with('.') && !["target", "src", "fuzz"].contains(&&*name);
            if path.is_dir() && is_code {
                folders.push(path);
            } else if name == "Cargo.toml" {
                let manifest = fs::read_to_string(&path).unwrap();
                let named = manifest
                    .lines()
                    .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
                let source = if folder.ends_with("tests") {
                    "harness"
                } else {
                    "src"
                };
                let source = folder.join(source);
                if let (Some(named), true) = (named, source.is_dir()) {
                    let source = source.strip_prefix(root()).unwrap().display().to_string();
                    found.push((named.replace('-', "_"), source));
                }
            }
        }
    }
    found
}

/// The graph of all our files.
fn graph() -> Graph {
    let mut graph = Graph::default();
    for (krate, dir) in packages() {
        for (name, code) in sources(&dir) {
            let below = name.strip_prefix(&format!("{dir}/")).unwrap().to_owned();
            graph.enter(&krate, &below, &name, &code);
        }
    }
    graph
}

/// The lines of `code` that are no comment and hold `word`.
fn lines_with<'a>(code: &'a str, word: &str) -> Vec<&'a str> {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//") && line.contains(word))
        .collect()
}

#[test]
fn gateway_and_sidecar_never_see_each_other_and_neither_sees_the_ca() {
    const ALL: [&str; 14] = [
        "gapura-protocol",
        "gapura-telemetry",
        "gapura-files",
        "gapura-certificates",
        "gapura-trust",
        "gapura-http",
        "gapura-http2",
        "gapura-transport",
        "gapura-settings",
        "gapura-page",
        "gapura-fetch",
        "gapura-reload",
        "gapura-operator",
        "gapura-runtime",
    ];
    const BELOW_TRANSPORT: [&str; 5] = [
        "gapura-protocol",
        "gapura-certificates",
        "gapura-trust",
        "gapura-http",
        "gapura-http2",
    ];
    let gateway: Vec<&str> = ALL.into_iter().chain(["gapura-openapi"]).collect();
    // On each host, and no line of the code that holds a CA's key.
    const AGENT: [&str; 12] = [
        "gapura-protocol",
        "gapura-files",
        "gapura-certificates",
        "gapura-fetch",
        "gapura-enrol",
        "gapura-reload",
        "gapura-operator",
        "gapura-runtime",
        "gapura-settings",
        "gapura-telemetry",
        "gapura-transport",
        "gapura-trust",
    ];
    let ours = |name: &String| name.starts_with("gapura") || name == "lab-reporting";
    for (crate_dir, allowed) in [
        ("mesh/allocator", &[][..]),
        ("mesh/protocol", &[][..]),
        ("mesh/telemetry", &["gapura-protocol"][..]),
        ("mesh/files", &[][..]),
        ("mesh/certificates", &["gapura-protocol"][..]),
        (
            "mesh/trust",
            &["gapura-protocol", "gapura-files", "gapura-certificates"][..],
        ),
        ("mesh/http", &["gapura-protocol"][..]),
        ("mesh/http2", &["gapura-http"][..]),
        ("mesh/transport", &BELOW_TRANSPORT),
        (
            "mesh/settings",
            &["gapura-protocol", "gapura-telemetry"][..],
        ),
        ("mesh/openapi", &[][..]),
        (
            "mesh/page",
            &[
                "gapura-protocol",
                "gapura-telemetry",
                "gapura-transport",
                "gapura-trust",
            ][..],
        ),
        ("mesh/fetch", &["gapura-files", "gapura-trust"][..]),
        (
            "mesh/reload",
            &[
                "gapura-protocol",
                "gapura-files",
                "gapura-certificates",
                "gapura-telemetry",
                "gapura-transport",
                "gapura-trust",
            ][..],
        ),
        (
            "mesh/operator",
            &[
                "gapura-protocol",
                "gapura-files",
                "gapura-http",
                "gapura-page",
                "gapura-reload",
                "gapura-settings",
                "gapura-telemetry",
                "gapura-transport",
                "gapura-trust",
            ][..],
        ),
        (
            "mesh/runtime",
            &[&ALL[..13], &["gapura-allocator"]].concat()[..],
        ),
        ("gateway", &gateway),
        ("sidecar", &ALL),
        (
            "enrol/wire",
            &["gapura-protocol", "gapura-certificates"][..],
        ),
        ("enrol/agent", &AGENT),
        (
            "enrol/ca",
            &[&ALL[..], &["gapura-enrol", "gapura-pki"]].concat()[..],
        ),
        (
            "pki",
            &[
                "gapura-enrol",
                "gapura-protocol",
                "gapura-files",
                "gapura-certificates",
                "gapura-trust",
            ][..],
        ),
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
fn each_library_refuses_what_it_says_it_does_not_know() {
    let running = &["tokio", "hyper", "h2", "rustls", "tokio-rustls"][..];
    for (crate_dir, refused) in [
        ("mesh/allocator", running),
        ("mesh/protocol", running),
        ("mesh/telemetry", running),
        ("mesh/files", &running[..3]),
        ("mesh/certificates", running),
        ("mesh/trust", &running[..3]),
        ("mesh/settings", running),
        ("mesh/openapi", running),
        ("mesh/page", running),
        ("mesh/reload", &running[1..3]),
        ("mesh/operator", &["h2", "rustls", "tokio-rustls"]),
        ("mesh/runtime", &running[1..]),
        ("mesh/http", &running[1..]),
        ("mesh/http2", &["hyper", "rustls", "tokio-rustls"]),
        ("enrol/wire", running),
    ] {
        let known = dependencies(crate_dir);
        let found: Vec<_> = known
            .iter()
            .filter(|name| refused.contains(&name.as_str()))
            .collect();
        assert!(found.is_empty(), "{crate_dir} depends on {found:?}");
    }
    let pure = ["mesh/protocol", "mesh/certificates", "mesh/openapi"]
        .map(|library| sources(&format!("{library}/src")));
    for (name, code) in pure.concat() {
        for io in ["std::fs", "std::net::Tcp", "std::thread"] {
            assert!(lines_with(&code, io).is_empty(), "{name} reads {io}");
        }
    }
}

#[test]
fn only_the_ca_mints_certificates_and_the_sidecar_reads_no_token() {
    let has =
        |crate_dir: &str, name: &str| dependencies(crate_dir).iter().any(|known| known == name);
    for crate_dir in LIBRARIES.into_iter().chain(["gateway", "sidecar"]) {
        assert!(
            !has(crate_dir, "rcgen"),
            "{crate_dir} can mint certificates"
        );
    }
    for crate_dir in LIBRARIES.into_iter().chain(["sidecar", "pki"]) {
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
            "outgoing",
            "upstream",
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
fn no_file_knows_one_that_knows_it() {
    let graph = graph();
    assert!(
        graph.len() > 150,
        "the graph has {} files only",
        graph.len()
    );
    let edges = graph.edges();
    let gateway = &edges["gateway/src/upstream/cluster.rs"];
    assert!(
        gateway.contains("gateway/src/registry/plugin.rs"),
        "a signpost is followed to the file behind it: {gateway:?}"
    );
    let found = circles(&edges);
    assert!(found.is_empty(), "files that know each other: {found:#?}");
}

#[test]
fn a_circle_that_is_made_is_found_however_it_is_written() {
    let found = |files: &[(&str, &str)]| {
        let mut graph = Graph::default();
        for (below, code) in files {
            graph.enter("house", below, below, code);
        }
        let mut all = circles(&graph.edges());
        all.pop()
            .map(|circle| circle.into_iter().collect::<Vec<_>>())
    };
    let lib = ("lib.rs", "pub mod a; pub mod b;");
    let circle = Some(vec!["a.rs".to_owned(), "b.rs".to_owned()]);
    for to_b in [
        "use crate::b::B;",
        "use super::b::{self, B};",
        "use crate::{b, c};",
        "fn f() -> crate::b::B {}",
        "use house::b::B as C;",
        "use crate::b::*;",
    ] {
        let closed = [lib, ("a.rs", to_b), ("b.rs", "fn f(a: &crate::a::A) {}")];
        assert_eq!(found(&closed), circle, "{to_b}");
        let open = [
            lib,
            ("a.rs", to_b),
            ("b.rs", "// crate::a\nfn f() -> &str { \"crate::a\" }"),
        ];
        assert_eq!(found(&open), None, "{to_b}");
    }
    // By way of a signpost, and round more than two corners.
    let signs = ("lib.rs", "pub mod a; pub mod b; pub use b::B;");
    let closed = [
        signs,
        ("a.rs", "use crate::B;"),
        ("b.rs", "use crate::a::A;"),
    ];
    assert_eq!(found(&closed), circle);
    let three = [
        lib,
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "mod c; use c::C;"),
        ("b/c.rs", "use super::super::a::A;"),
    ];
    assert_eq!(found(&three).map(|circle| circle.len()), Some(3));
    // A parent that shows its children's names knows none of them unless it uses them.
    let shown = [
        ("lib.rs", "pub mod a; pub use a::A; pub struct L;"),
        ("a.rs", "use super::L; pub struct A(L);"),
    ];
    assert_eq!(found(&shown), None);
    let called_like_its_file = [
        ("lib.rs", "mod a; pub use a::a; pub struct L;"),
        ("a.rs", "use super::L; pub fn a(l: L) {}"),
    ];
    assert_eq!(found(&called_like_its_file), None);
    let used = [
        ("lib.rs", "pub mod a; pub use a::A; pub struct L(A);"),
        ("a.rs", "use super::L; pub struct A;"),
    ];
    assert_eq!(found(&used).map(|circle| circle.len()), Some(2));
}

#[test]
fn the_time_comes_from_the_clock_and_settings_from_the_configuration() {
    for crate_dir in LIBRARIES.into_iter().chain(["gateway", "sidecar"]) {
        for (name, code) in sources(&format!("{crate_dir}/src")) {
            if name != "mesh/protocol/src/clock.rs" {
                assert!(
                    lines_with(&code, "SystemTime::now").is_empty(),
                    "{name} asks the machine for the time"
                );
            }
            // What `main` of each program is.
            if name != "mesh/runtime/src/cli.rs" {
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
    for crate_dir in LIBRARIES
        .into_iter()
        .chain(["gateway", "sidecar", "pki", "gapura"])
    {
        for (name, code) in sources(&format!("{crate_dir}/src")) {
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
    let mesh = sources("mesh/protocol/src");
    let (_, clock) = mesh
        .iter()
        .find(|(name, _)| name == "mesh/protocol/src/clock.rs")
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
