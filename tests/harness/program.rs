//! One of the built programs, started as an operator would: its log is read line by line, its
//! signals are sent, and it is gone when the value is dropped.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{eventually, within};

/// A running program.
pub struct Program {
    name: String,
    child: Child,
    started: Instant,
    output: Arc<Mutex<Output>>,
    /// Where it listens, as far as anybody asked: a log may be long.
    addresses: Mutex<BTreeMap<String, SocketAddr>>,
}

/// A program that has ended by itself.
pub struct Ended {
    /// The exit code; `None` for a signal.
    pub code: Option<i32>,
    /// All it wrote on its standard output.
    pub stdout: String,
    /// All it wrote on its standard error.
    pub stderr: String,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    errors: String,
}

/// How a program is started.
#[derive(Clone, Default)]
pub struct Invocation {
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    files: Option<u32>,
    group: Option<PathBuf>,
    space: Option<String>,
}

impl Invocation {
    /// No flag, no variable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more word on the command line.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A flag and its value.
    #[must_use]
    pub fn flag(self, flag: &str, value: impl Into<OsString>) -> Self {
        self.arg(flag).arg(value)
    }

    /// Several words.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// A variable of the environment, which holds nothing else of ours.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// So many open files, and no way to raise that.
    #[must_use]
    pub fn files(mut self, most: u32) -> Self {
        self.files = Some(most);
        self
    }

    /// In this control group.
    #[must_use]
    pub fn group(mut self, group: &Path) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// In this network namespace.
    #[must_use]
    pub fn space(mut self, name: &str) -> Self {
        self.space = Some(name.to_owned());
        self
    }

    /// The command as it would be started.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.bare(built(program));
        command.args(&self.args).env_clear();
        for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The program itself, or a shell that sets its limits and becomes it.
    fn bare(&self, program: PathBuf) -> Command {
        let mut words = Vec::new();
        if let Some(group) = &self.group {
            words.push(format!("echo $$ >{}/cgroup.procs", group.display()));
        }
        if let Some(files) = self.files {
            words.push(format!("ulimit -n {files}"));
        }
        if words.is_empty() && self.space.is_none() {
            return Command::new(program);
        }
        match &self.space {
            Some(space) => words.push(format!("exec ip netns exec {space} \"$0\" \"$@\"")),
            None => words.push("exec \"$0\" \"$@\"".to_owned()),
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(words.join(" && ")).arg(program);
        command
    }

    /// Starts the program and reads on as it writes.
    #[must_use]
    pub fn start(&self, program: &str) -> Program {
        let mut child = self
            .command(program)
            .spawn()
            .unwrap_or_else(|err| panic!("{program} does not start: {err}"));
        let output = Arc::new(Mutex::new(Output::default()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines = output.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap().lines.push(line);
            }
        });
        let errors = output.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut output = errors.lock().unwrap();
                output.errors.push_str(&line);
                output.errors.push('\n');
            }
        });
        Program {
            name: program.to_owned(),
            child,
            started: Instant::now(),
            output,
            addresses: Mutex::default(),
        }
    }

    /// Starts the program with its standard output going somewhere else, where it can't be read
    /// here.
    #[must_use]
    pub fn start_into(&self, program: &str, output: impl Into<Stdio>) -> Program {
        let mut command = self.command(program);
        let child = command
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|err| panic!("{program} does not start: {err}"));
        Program {
            name: program.to_owned(),
            child,
            started: Instant::now(),
            output: Arc::default(),
            addresses: Mutex::default(),
        }
    }

    /// Runs the program to its end, which has to come by itself.
    #[must_use]
    pub fn run(&self, program: &str) -> Ended {
        let mut child = self
            .command(program)
            .spawn()
            .unwrap_or_else(|err| panic!("{program} does not start: {err}"));
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let out = std::thread::spawn(move || {
            let mut text = Vec::new();
            stdout.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let err = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let until = Instant::now() + crate::PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "{program} did not end by itself: {}{}",
                    out.join().unwrap(),
                    err.join().unwrap()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended {
            code: status.code(),
            stdout: out.join().unwrap(),
            stderr: err.join().unwrap(),
        }
    }
}

impl Program {
    /// Every line of its log so far. A line that is not JSON is a fault of its own: everything on
    /// the standard output is a log line.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let output = self.output.lock().unwrap();
        let parse = |line: &String| {
            serde_json::from_str(line)
                .unwrap_or_else(|_| panic!("{} wrote no JSON: {line}", self.name))
        };
        output.lines.iter().map(parse).collect()
    }

    /// Its log as it was written.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.output.lock().unwrap().lines.join("\n")
    }

    /// What it wrote on its standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        self.output.lock().unwrap().errors.clone()
    }

    /// The first line that `wanted` takes, as soon as it is there.
    pub fn wait_for_line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{}: a line for {what}", self.name), || {
            self.log().into_iter().find(&wanted)
        })
    }

    /// The first line of the event `event`.
    #[must_use]
    pub fn wait_for_event(&self, event: &str) -> Value {
        self.wait_for_line(event, |line| line["event"] == event)
    }

    /// Waits until it has told that it serves, and fails with its output if it ends before that.
    pub fn wait_until_started(&mut self) {
        eventually(&format!("{}: started", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "{} ended ({status}) before it had started:\n{}{}",
                    self.name,
                    self.log_text(),
                    self.errors()
                );
            }
            self.log()
                .iter()
                .any(|line| line["event"] == "started")
                .then_some(())
        });
    }

    /// Where `listener` (`public`, `hop`, `admin`, `health`) listens.
    #[must_use]
    pub fn address(&self, listener: &str) -> SocketAddr {
        let known = self.addresses.lock().unwrap().get(listener).copied();
        if let Some(known) = known {
            return known;
        }
        let line = self.wait_for_line(listener, |line| {
            line["event"] == "listening" && line["listener"] == listener
        });
        let address = line["address"].as_str().unwrap().parse().unwrap();
        let mut addresses = self.addresses.lock().unwrap();
        *addresses.entry(listener.to_owned()).or_insert(address)
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Since when it runs.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What it holds resident now, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// What of that is its own and no page of its file, in KiB: a debug build's code alone is a
    /// hundred MiB.
    #[must_use]
    pub fn anonymous_kib(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// The most it ever held resident since [`Program::forget_peak`], in KiB.
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Sets the peak back to what is resident now.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    /// How many files and sockets it holds open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id()))
            .unwrap()
            .count()
    }

    /// Sends `TERM`, `HUP`, `STOP` or another.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: there is not on every machine a program of that name, and a
        // system call of ours would be unsafe code.
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status()
            .unwrap();
        assert!(status.success(), "no {name} could be sent to {}", self.name);
    }

    /// Whether it is still there.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        within(limit, &format!("{} ends", self.name), || {
            self.child.try_wait().unwrap()
        })
    }

    fn status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // already gone is as good
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln_tail(&self.name, &self.log_text(), &self.errors());
        }
    }
}

/// A failing test shows what the programs said last: all but requests, and the last few of those.
#[allow(clippy::print_stderr)]
fn eprintln_tail(name: &str, log: &str, errors: &str) {
    let (requests, others): (Vec<&str>, Vec<&str>) = log
        .lines()
        .partition(|line| line.contains("\"event\":\"request\""));
    let tail = |lines: &[&str], count: usize| lines[lines.len().saturating_sub(count)..].join("\n");
    eprintln!(
        "--- {name}, last lines\n{}\n{}\n{errors}---",
        tail(&others, 20),
        tail(&requests, 3)
    );
}

/// Where the built program is: beside the test's own executable, `target/PROFILE/NAME`.
///
/// # Panics
/// If it is not there, with what to do.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap(); // target/PROFILE/deps/it-…
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{name} is not built: run `cargo build --workspace` first, or `tests/run` (looked for {})",
        path.display()
    );
    path
}
