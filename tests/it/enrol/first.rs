//! A join token becomes a mesh directory, and nobody else's.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gapura_tests::pair::Pair;
use gapura_tests::program::Invocation;
use gapura_tests::within;

use super::{Installation, PATIENT, page, serial, text};

#[test]
fn a_token_becomes_a_mesh_directory_that_gateway_and_sidecar_take() {
    let installation = Installation::start("24h");
    let edge = installation.joined("gateway", "edge");
    let _echo = installation.joined("plugin", "echo");
    let pair = Pair::start(installation.dir.path());
    assert_eq!(pair.get(), 200);
    // The key is this host's: the inventory has its hash, the CA's folder nothing else.
    let key = fs::read_to_string(installation.path("edge/key.pem")).unwrap();
    let found = fs::metadata(installation.path("edge/key.pem")).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let body: String = key.lines().filter(|line| !line.starts_with("--")).collect();
    for entry in walk(&installation.path("pki")) {
        let bytes = fs::read(&entry).unwrap();
        let seen = String::from_utf8_lossy(&bytes).replace('\n', "");
        assert!(!seen.contains(&body), "{} holds the key", entry.display());
    }
    // What waited for the answer is gone.
    assert!(!installation.path("edge.state/pending-key.pem").exists());
    let status = page(&edge, "/status");
    assert_eq!(
        status["certificate"]["id"],
        "spiffe://test.internal/gateway/edge"
    );
    let metrics = text(&edge, "/metrics");
    for wanted in [
        "gapura_agent_news_age_seconds ",
        "gapura_agent_certificates_total 1",
        "gapura_alarms{name=\"news\"} 0",
        "gapura_build_info{version=",
    ] {
        assert!(metrics.contains(wanted), "{wanted}: {metrics}");
    }
    let admin = edge.address("admin").to_string();
    let asked = Invocation::new()
        .args(&["status", "--admin", &admin])
        .run("gapura-agent");
    assert_eq!(asked.code, Some(0), "{}", asked.stderr);
    for wanted in ["spiffe://test.internal/gateway/edge", "renews ", "heard "] {
        assert!(asked.stdout.contains(wanted), "{wanted}: {}", asked.stdout);
    }
    within(PATIENT, "it is ready", || {
        let asked = Invocation::new()
            .args(&["healthcheck", "--admin", &admin])
            .run("gapura-agent");
        (asked.code == Some(0)).then_some(())
    });
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn once_and_check_say_what_they_find_and_do() {
    let installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &["--url", &installation.url()]);
    // The token says where the CA server is.
    let agent = || {
        Invocation::new()
            .flag("--mesh-dir", installation.path("echo"))
            .flag("--state-dir", installation.path("echo.state"))
            .flag("--token-file", &token)
            .flag(
                "--exec",
                format!(
                    "sh -c 'echo $GAPURA_AGENT_HOOK_ID $GAPURA_AGENT_HOOK_GENERATION >> {}'",
                    installation.text("told")
                ),
            )
    };
    let checked = agent().arg("--check").run("gapura-agent");
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(
        checked.stdout.contains("holds no certificate"),
        "{}",
        checked.stdout
    );
    assert!(
        !installation.path("echo").exists(),
        "a check writes nothing"
    );
    let once = agent().arg("--once").run("gapura-agent");
    assert_eq!(once.code, Some(0), "{}{}", once.stdout, once.stderr);
    assert!(
        once.stdout
            .contains("generation 1: spiffe://test.internal/plugin/echo"),
        "{}",
        once.stdout
    );
    let told = fs::read_to_string(installation.path("told")).unwrap();
    assert_eq!(told, "spiffe://test.internal/plugin/echo 1\n");
    // The token is used, and no longer needed.
    let first = serial(&installation, "echo");
    let again = agent().arg("--once").run("gapura-agent");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(serial(&installation, "echo"), first, "it is not due");
    let told = fs::read_to_string(installation.path("told")).unwrap();
    assert_eq!(told.lines().count(), 1, "nothing changed: {told}");
}

#[test]
fn a_crash_anywhere_between_key_answer_and_publishing_loses_nothing() {
    let installation = Installation::start("24h");
    let token = installation.token("plugin", "echo", &[]);
    let once = || {
        installation
            .agent("echo")
            .flag("--token-file", &token)
            .arg("--once")
            .run("gapura-agent")
    };
    // The answer is lost: a folder stands where the mesh directory is to be, so that nothing can be
    // published.
    fs::write(installation.path("echo"), "in the way").unwrap();
    let failed = once();
    assert_ne!(failed.code, Some(0), "{}", failed.stdout);
    fs::remove_file(installation.path("echo")).unwrap();
    let key = fs::read(installation.path("echo.state/pending-key.pem"));
    // Even what was kept of the answer is gone: the same key gets the same certificate for the same
    // token.
    let _ = fs::remove_file(installation.path("echo.state/pending-cert.pem"));
    let done = once();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    if let Ok(key) = key {
        assert_eq!(fs::read(installation.path("echo/key.pem")).unwrap(), key);
    }
    assert!(!installation.path("echo.state/pending-key.pem").exists());
    let listed = installation.pki(&["list", "--name", "plugin/echo"]);
    let issued = listed["certificates"].as_array().unwrap().len();
    assert_eq!(issued, 1, "one certificate for one token: {listed}");
}
