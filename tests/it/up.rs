//! `gapura up` as a stranger meets it: the built program, its screen, and every line it prints
//! pasted into a shell.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gapura_tests::plugin::{Gate, Plugin, Then};
use gapura_tests::program::{Invocation, Program};
use gapura_tests::{PATIENCE, eventually};
use serde_json::Value;

/// What one printed command gave.
struct Pasted {
    command: String,
    answer: Value,
}

fn up(state: &Path) -> Invocation {
    Invocation::new()
        .arg("up")
        .args(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .flag("--state", state)
}

/// The screen, once its last line is there.
fn screen(program: &Program) -> String {
    eventually(&format!("the screen\n{}", program.errors()), || {
        let text = program.log_text();
        text.split_once("no token: 401\n")
            .is_some_and(|(_, rest)| rest.contains("curl "))
            .then_some(text)
    })
}

/// The command below the comment that holds `part`.
fn printed(screen: &str, part: &str) -> String {
    let comment = |line: &str| line.trim_start().starts_with('#') && line.contains(part);
    screen
        .lines()
        .skip_while(|line| !comment(line))
        .nth(1)
        .unwrap_or_else(|| panic!("no {part:?} in\n{screen}"))
        .trim()
        .to_owned()
}

/// That command, run in a shell.
fn paste(screen: &str, part: &str) -> Pasted {
    let command = printed(screen, part);
    let ran = Command::new("sh").args(["-c", &command]).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    let answer =
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{command}\ngave {out}{err}"));
    Pasted { command, answer }
}

fn titles(pasted: &Pasted) -> Vec<&str> {
    let reports = pasted.answer["data"]["reports"]
        .as_array()
        .unwrap_or_else(|| panic!("{} gave {}", pasted.command, pasted.answer));
    reports
        .iter()
        .map(|report| report["title"].as_str().unwrap())
        .collect()
}

#[test]
fn every_line_it_prints_works_when_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("my state");
    let program = up(&state).start("gapura");
    let screen = screen(&program);

    let ours = paste(&screen, "# company 42's reports");
    let theirs = paste(&screen, "# company 7's reports");
    assert_eq!((titles(&ours).len(), titles(&theirs).len()), (3, 2));
    assert_ne!(titles(&ours), titles(&theirs));
    let spoofed = paste(&screen, "says it is company 7");
    assert!(spoofed.command.contains("X-Company-Id: 7"));
    assert_eq!(
        spoofed.answer, ours.answer,
        "a header the client made up changed the answer"
    );
    let others = paste(&screen, "asks for a report of company 7");
    assert_eq!(
        (&others.answer["ok"], &others.answer["data"]),
        (&Value::Bool(false), &Value::Null)
    );
    let report = others.command.rsplit('/').next().unwrap();
    let own = Command::new("sh")
        .args([
            "-c",
            &theirs
                .command
                .replace("/reports", &format!("/reports/{report}")),
        ])
        .output()
        .unwrap();
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    assert_eq!(
        own["data"]["id"].to_string(),
        report,
        "the report must be one that its own company can read"
    );
    let refused = paste(&screen, "# no token: 401");
    assert_eq!(refused.answer["errors"]["code"], "token_missing");
    for pasted in [&ours, &theirs, &spoofed, &others, &refused] {
        assert!(
            pasted.command.contains("--cacert") && !pasted.command.contains(" -k"),
            "{}",
            pasted.command
        );
    }

    // A token for somebody else, by the command it prints.
    let token = printed(&screen, "# for anybody else").replace("--company 99", "--company 7");
    let with_token = ours.command.replace("$(cat", "$(").replace(
        &format!("'{}'", state.join("tokens/company-42").display()),
        &token,
    );
    let ran = Command::new("sh")
        .args(["-c", &with_token])
        .output()
        .unwrap();
    let answer: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{with_token}"));
    assert_eq!(answer, theirs.answer);
}

#[test]
fn its_state_is_private_and_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join(".gapura");
    let mut program = up(&state).start("gapura");
    screen(&program);
    let mode = |name: &str| {
        std::fs::metadata(state.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode(""),
            mode("tokens/company-42"),
            mode("token-key.pem"),
            mode("public/key.pem")
        ),
        (0o700, 0o600, 0o600, 0o600)
    );
    assert_eq!(
        std::fs::read_to_string(state.join(".gitignore")).unwrap(),
        "*\n"
    );
    let root = std::fs::read(state.join("ca.pem")).unwrap();

    let second = up(&state).run("gapura");
    assert_eq!(second.code, Some(2));
    assert!(
        second.stderr.contains("another gapura up") && second.stderr.contains("--state"),
        "{}",
        second.stderr
    );

    program.signal("INT");
    assert!(program.wait_for_end(PATIENCE).success());
    let again = up(&state).start("gapura");
    paste(&screen(&again), "# company 42's reports");
    assert_eq!(std::fs::read(state.join("ca.pem")).unwrap(), root);
}

#[test]
fn what_cannot_be_is_one_sentence_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join(".gapura");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["--listen", &address, "--admin", "127.0.0.1:0"],
            &[&port, "in use", "--listen"],
        ),
        (
            &["--listen", "127.0.0.1:0", "--admin", &address],
            &[&port, "in use", "--admin"],
        ),
        (&["--listen", "0.0.0.0:0"], &["--expose-dev-keys"]),
        (
            &["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"],
            &["--admin", "loopback"],
        ),
        (&["--plugin", "Orders=http://127.0.0.1:5000"], &["a-z"]),
        (
            &[
                "--plugin",
                "a=http://127.0.0.1:1",
                "--plugin",
                "a=http://127.0.0.1:2",
            ],
            &["twice"],
        ),
    ];
    for (flags, wanted) in cases {
        let ended = Invocation::new()
            .arg("up")
            .flag("--state", &state)
            .args(flags)
            .run("gapura");
        assert_eq!(ended.code, Some(2), "{flags:?}: {}", ended.stderr);
        assert!(
            wanted.iter().all(|part| ended.stderr.contains(part)),
            "{flags:?}: {}",
            ended.stderr
        );
        assert!(
            !ended.stderr.contains("panicked") && !state.exists(),
            "{flags:?}"
        );
    }
    let token = Invocation::new()
        .args(&["token", "--company", "42", "--user", "7"])
        .flag("--state", &state)
        .run("gapura");
    assert_eq!(token.code, Some(2));
    assert!(token.stderr.contains("gapura up"), "{}", token.stderr);
}

#[test]
fn a_plugin_of_ones_own_stands_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::tcp();
    let program = up(&folder.path().join("s"))
        .flag("--plugin", format!("orders={}", plugin.url()))
        .start("gapura");
    let screen = screen(&program);
    assert!(
        screen.contains("/v1/plugins/orders") && screen.contains("your plugin at"),
        "{screen}"
    );
    let command = printed(&screen, "# your plugin orders");
    let ran = Command::new("sh")
        .args(["-c", &format!("{command}'things?x=1' --fail -sS")])
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let seen = plugin.wait_for("the request", |seen| seen.target == "/things?x=1");
    assert_eq!(
        (
            seen.header("x-company-id"),
            seen.header("x-user-id"),
            seen.header("x-role")
        ),
        (Some("42"), Some("7"), Some("admin"))
    );
    assert_eq!(seen.header("authorization"), None);
}

/// A mesh with a request in flight whose plugin answers when the gate opens, after one SIGINT.
fn going_down(
    folder: &Path,
    gate: &Gate,
) -> (
    Plugin,
    Program,
    std::thread::JoinHandle<std::process::Output>,
) {
    let plugin = Plugin::tcp();
    let held = gate.clone();
    plugin.on("/slow", move |exchange| {
        let _ = held.wait();
        exchange.answer("200 OK", "", b"done");
        Then::Close
    });
    let mut program = up(&folder.join("s"))
        .flag("--plugin", format!("orders={}", plugin.url()))
        .start("gapura");
    let command = printed(&screen(&program), "# your plugin orders");
    let asking = std::thread::spawn(move || {
        Command::new("sh")
            .args(["-c", &format!("{command}slow --fail -sS")])
            .output()
            .unwrap()
    });
    plugin.wait_for("the request in flight", |seen| seen.target == "/slow");
    program.signal("INT");
    eventually("the first signal's sentence", || {
        program.errors().contains("in flight").then_some(())
    });
    assert!(program.runs(), "it did not wait for the request in flight");
    (plugin, program, asking)
}

#[test]
fn the_first_signal_waits_for_what_is_in_flight() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Gate::new());
    let (_plugin, mut program, asking) = going_down(folder.path(), &gate);
    gate.open();
    let answer = asking.join().unwrap();
    assert_eq!(
        (answer.status.success(), answer.stdout.as_slice()),
        (true, &b"done"[..]),
        "{}",
        program.errors()
    );
    assert!(program.wait_for_end(PATIENCE).success());
}

#[test]
fn the_second_signal_ends_at_once() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Gate::new());
    let (_plugin, mut program, asking) = going_down(folder.path(), &gate);
    program.signal("INT");
    assert_eq!(
        program.wait_for_end(Duration::from_secs(3)).code(),
        Some(130)
    );
    assert!(!asking.join().unwrap().status.success());
    gate.open();
}
