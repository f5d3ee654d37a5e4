//! `gapura plugin test`: it finds a plugin that shows one company what is another's, wherever it
//! does, and passes one that does not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use gapura_tests::program::{Ended, Invocation};

/// A plugin of notes in memory, with a leak of one's choice.
const PLUGIN: &str = include_str!("plugin_test.py");

/// A program that runs while a test does.
struct Running {
    child: Child,
    url: String,
    _out: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = format!("http://127.0.0.1:{}", line.trim());
        Self {
            child,
            url,
            _out: out,
        }
    }

    fn leaking(what: &str) -> Self {
        Self::start(Command::new("python3").args(["-c", PLUGIN, what]))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn test(url: &str, more: &[&str]) -> Ended {
    Invocation::new()
        .args(&[
            "plugin",
            "test",
            url,
            "--as",
            "company=42,user=7",
            "--as",
            "company=7,user=9",
        ])
        .args(more)
        .run("gapura")
}

#[test]
fn a_plugin_that_keeps_companies_apart_passes() {
    let plugin = Running::leaking("nothing");
    let ended = test(&plugin.url, &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for route in [
        "GET /notes",
        "POST /notes",
        "GET /notes/{id}",
        "PUT /notes/{id}",
        "DELETE /notes/{id}",
        "PUT /settings/{name}",
        "POST /notes/{id}/comments",
    ] {
        assert!(
            ended.stdout.contains(&format!("tried:     {route}\n")),
            "{route}: {}",
            ended.stdout
        );
    }
    assert!(
        ended.stdout.contains("POST /import: it takes no JSON"),
        "{}",
        ended.stdout
    );
}

#[test]
fn each_leak_is_found_and_its_route_named() {
    for (leak, routes) in [
        ("list", &["GET /notes: company 7 saw"][..]),
        ("search", &["GET /notes: company 7 saw"]),
        ("get", &["GET /notes/{id}: company 7 saw"]),
        ("count", &["GET /count: company 7 got another answer"]),
        ("put", &["PUT /notes/{id}: company 7 changed"]),
        ("delete", &["DELETE /notes/{id}: company 7 removed"]),
        (
            "comments",
            &["POST /notes/{id}/comments: company 7 changed"],
        ),
        (
            "settings",
            &[
                "GET /settings/{name}: company 7 saw",
                "PUT /settings/{name}: company 7 changed",
            ],
        ),
    ] {
        let plugin = Running::leaking(leak);
        let ended = test(&plugin.url, &[]);
        assert_eq!(
            ended.code,
            Some(1),
            "{leak}: {}{}",
            ended.stdout,
            ended.stderr
        );
        for route in routes {
            let line = format!("LEAK:      {route}");
            assert!(
                ended.stdout.contains(&line),
                "{leak}: {route}: {}",
                ended.stdout
            );
        }
    }
}

#[test]
fn where_nothing_can_be_shown_it_does_not_pass() {
    let plugin = Running::leaking("deaf");
    let ended = test(&plugin.url, &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("nothing was shown"),
        "{}",
        ended.stderr
    );
    for (args, says) in [
        (
            &[
                "plugin",
                "test",
                "http://127.0.0.1:1",
                "--as",
                "company=42,user=7",
            ][..],
            "two companies",
        ),
        (&["plugin", "test", "http://127.0.0.1:1"], "--as"),
        (
            &["plugin", "test", "http://127.0.0.1:1", "--as", "company=42"],
            "must be such as",
        ),
        (
            &[
                "plugin",
                "test",
                "https://127.0.0.1:1",
                "--as",
                "company=42,user=7",
                "--as",
                "company=7,user=9",
            ],
            "is https",
        ),
        (
            &[
                "plugin",
                "test",
                "http://127.0.0.1:1",
                "--openapi",
                "/nowhere",
                "--as",
                "company=42,user=7",
                "--as",
                "company=7,user=9",
            ],
            "can't read /nowhere",
        ),
    ] {
        let ended = Invocation::new().args(args).run("gapura");
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    // The port was free a moment ago, and nobody answers there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = test(&format!("http://{free}"), &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("can't be reached"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_sample_plugin_passes() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = gapura_tests::program::Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--database", dir.path().join("reports.db"))
        .start("lab-reporting");
    let line = plugin.wait_for_line("its address", |line| line["address"].is_string());
    let url = format!("http://{}", line["address"].as_str().unwrap());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/lab-reporting/openapi.json");
    for more in [&["--openapi", file.to_str().unwrap()][..], &[]] {
        let ended = test(&url, more);
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(
            ended.stdout.contains("tried:     GET /reports/{id}\n"),
            "{}",
            ended.stdout
        );
    }
}
