//! The pair beside larger pieces of other people's software. `tests/run --world` installs them and
//! runs what is here; a piece that could not be had is one line, and its test ends there.

mod browser; // a page of another origin
mod chromium; // a browser without a window, where there is one
mod clients; // HTTP clients of other languages
mod contracts; // the merged document, validated and driven; its page in a browser
mod go; // a client in Go
mod grpc; // gRPC's own library at both ends
mod node; // a plugin in another language verifies a signature
mod notes; // a plugin on PostgreSQL, behind a pool
mod page; // the operator's page in a browser
mod prometheus; // rules, alerts and a dashboard, by what reads them
mod prometheus_ca; // the alerts of a CA server and its agents
mod prove; // the known attacks at doors of other people
mod provider; // an OpenID provider, its keys and its tokens
mod schema; // a validator of JSON Schema
mod spans; // a collector of spans
mod tools; // ab, nc, node, nginx and browsers without a window

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python that holds the packages of `tests/world-requirements.txt`, where it can import
/// `package`.
fn python(package: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/world/venv/bin/python");
    let probe = Command::new(&python)
        .args(["-c", &format!("import {package}")])
        .stderr(Stdio::null())
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    println!("not tried: no Python with the package `{package}` here");
    None
}

/// Whether a program is installed; that it is not is said.
fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("not tried: no {program} here");
    }
    found
}

/// What a script said; it has to end well.
fn run(python: &Path, script: &str, args: &[&str]) -> String {
    let output = Command::new(python)
        .args(["-c", script])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout).trim().to_owned()
}
