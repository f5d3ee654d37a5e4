//! The stack of `compose/`, driven from outside and looked at from inside. Needs a Docker engine,
//! and says so where none answers.
//!
//! One test a way of getting certificates and not several: the stack takes seconds to come up, and
//! its life is one story, told in order.
#![allow(clippy::print_stderr, reason = "what was measured is read by people")]

mod agents; // certificates by a CA server and an agent a mesh directory
mod by_hand; // certificates by the service `pki`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use gapura_tests::wire::{Response, Tls, Wire};
use gapura_tests::within;
use serde_json::Value;
use tempfile::TempDir;

/// For containers to begin, on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(40);

/// A change of certificates is in force within 2 s; so much more for a busy machine.
const SOON: Duration = Duration::from_secs(15);

const REPORTS: &str = "/v1/plugins/lab-reporting/reports";
const ARCHIVE: &str = "/v1/plugins/lab-archive/reports";

/// A project of containers. Everything of it goes when it is dropped.
struct Stack {
    project: String,
    compose: Vec<String>,
    /// The files of `compose/` that make it.
    files: &'static [&'static str],
    dir: TempDir,
    root: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).output().unwrap()
}

/// The output of a `docker` that must succeed.
#[track_caller]
fn docker_says(args: &[&str]) -> String {
    let output = docker(args);
    assert!(
        output.status.success(),
        "docker {args:?}: {}",
        said(&output)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `docker-compose` of Debian, or the plugin that came after it.
fn compose_command() -> Option<Vec<String>> {
    let ways = [&["docker-compose"][..], &["docker", "compose"][..]];
    let answers = |way: &&&[&str]| {
        Command::new(way[0])
            .args(&way[1..])
            .arg("version")
            .output()
            .is_ok_and(|found| found.status.success())
    };
    ways.iter()
        .find(answers)
        .map(|way| way.iter().map(|&word| word.to_owned()).collect())
}

impl Stack {
    fn new(name: &str, compose: &[String], files: &'static [&'static str]) -> Self {
        let project = format!("gapura-{name}-{}", std::process::id());
        Self {
            project,
            compose: compose.to_vec(),
            files,
            dir: tempfile::tempdir().unwrap(),
            root: String::new(),
        }
    }

    /// What a person types in `compose/`, with the project's own name, port and tag over those of
    /// `.env`.
    fn compose(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.compose[0]);
        command.args(&self.compose[1..]);
        for file in self.files {
            command.args(["-f", file]);
        }
        let more = self.dir.path().join("more.yml");
        if more.exists() {
            command.arg("-f").arg(more);
        }
        command.args(args).current_dir(root().join("compose"));
        command.envs([
            ("COMPOSE_PROJECT_NAME", self.project.as_str()),
            ("TAG", "test"),
            ("PUBLISH", "127.0.0.1:0"),
        ]);
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.compose(args).output().unwrap();
        assert!(
            output.status.success(),
            "compose {args:?}: {}",
            said(&output)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn logs(&self, service: &str) -> String {
        said(
            &self
                .compose(&["logs", "--no-color", service])
                .output()
                .unwrap(),
        )
    }

    fn container(&self, service: &str) -> String {
        let found = docker_says(&[
            "ps",
            "-aq",
            "--filter",
            &format!("label=com.docker.compose.project={}", self.project),
            "--filter",
            &format!("label=com.docker.compose.service={service}"),
        ]);
        assert_eq!(
            found.lines().count(),
            1,
            "one container of {service}: {found:?}"
        );
        found
    }

    fn inspect(&self, service: &str, what: &str) -> String {
        docker_says(&[
            "inspect",
            "--format",
            &format!("{{{{{what}}}}}"),
            &self.container(service),
        ])
    }

    /// The address of a container in one of the project's networks.
    fn ip(&self, service: &str, network: &str) -> String {
        self.inspect(
            service,
            &format!(
                "(index .NetworkSettings.Networks \"{}_{network}\").IPAddress",
                self.project
            ),
        )
    }

    fn gateway(&self) -> SocketAddr {
        self.run(&["port", "gateway", "8443"]).parse().unwrap()
    }

    fn token(&self, company: &str, user: &str) -> String {
        self.run(&[
            "run",
            "--rm",
            "-T",
            "door-keys",
            "token",
            "--company",
            company,
            "--user",
            user,
        ])
    }

    fn connect(&self) -> std::io::Result<Wire> {
        self.connect_to(self.gateway())
    }

    fn connect_to(&self, gateway: SocketAddr) -> std::io::Result<Wire> {
        Wire::tls(
            gateway,
            &Tls::trusting(&self.root, "localhost", &["http/1.1"]),
        )
    }

    fn get(&self, path: &str, lines: &str) -> Result<Response, String> {
        let mut wire = self.connect().map_err(|error| error.to_string())?;
        wire.try_send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
        ))
        .map_err(|error| error.to_string())?;
        wire.try_response("GET")
    }

    /// Waits for this status; the answer.
    fn until(&self, status: u16, path: &str, lines: &str) -> Response {
        within(LONG, &format!("{status} at {path}"), || {
            self.get(path, lines)
                .ok()
                .filter(|response| response.status == status)
        })
    }

    /// The certificate that a sidecar shows, asked for from a container of its own in one of the
    /// project's networks.
    fn look_from(&self, network: &str, at: &str) -> Result<String, String> {
        let output = docker(&[
            "run",
            "--rm",
            "--network",
            &format!("{}_{network}", self.project),
            "gapura-pki:test",
            "inspect",
            at,
        ]);
        if output.status.success() {
            Ok(said(&output))
        } else {
            Err(said(&output))
        }
    }

    fn serial(&self, sidecar: &str) -> String {
        let shown = self.look_from("mesh", &format!("{sidecar}:19443")).unwrap();
        let line = shown
            .lines()
            .find_map(|line| line.strip_prefix("serial"))
            .unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let services = self.compose(&["config", "--services"]).output();
            let services = services.map(|found| found.stdout).unwrap_or_default();
            for service in String::from_utf8_lossy(&services).lines() {
                let log = self.logs(service);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "--- {service}\n{}",
                    lines[lines.len().saturating_sub(15)..].join("\n")
                );
            }
        }
        let _ = self
            .compose(&["down", "-v", "--remove-orphans", "-t", "1"])
            .output();
    }
}

/// The images, made of the programs as they are now, and how composing is called here; `None` where
/// no containers can be had.
fn built() -> Option<Vec<String>> {
    let engine = Command::new("docker").arg("info").output();
    if !engine.is_ok_and(|found| found.status.success()) {
        eprintln!("stack: no Docker engine answers here, so the stack in containers is not tested");
        return None;
    }
    let Some(compose) = compose_command() else {
        eprintln!(
            "stack: there is a Docker engine but no docker-compose, so the stack in containers is not tested"
        );
        return None;
    };
    let built = Command::new(root().join("compose/build"))
        .args(["--profile", "dev", "--tag", "test"])
        .output()
        .unwrap();
    assert!(built.status.success(), "compose/build: {}", said(&built));
    Some(compose)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn titles(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let body: Value = serde_json::from_str(&response.text()).unwrap();
    body["data"]["reports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["title"].as_str().unwrap().to_owned())
        .collect()
}

fn code(response: &Response) -> String {
    let body: Value = serde_json::from_str(&response.text()).unwrap();
    body["errors"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
