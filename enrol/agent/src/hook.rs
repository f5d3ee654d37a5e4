//! `--exec`: whoever wants to hear of a new generation.
//!
//! In: a command, as words and not for a shell. Out: what became of it. The names are in its
//! environment, no secret is.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gapura_protocol::words;

/// How long the command may take before it is ended and counts as failed.
const LIMIT: Duration = Duration::from_secs(120);

/// A command.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    program: String,
    arguments: Vec<String>,
}

/// What it is told.
pub(crate) struct News {
    pub(crate) dir: String,
    pub(crate) id: String,
    pub(crate) serial: String,
    pub(crate) generation: u64,
}

impl Hook {
    /// Takes a command apart.
    ///
    /// # Errors
    /// A sentence without its subject.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut words = words::split(text)?.into_iter();
        let program = words
            .next()
            .ok_or("names no command; leave it out or name a program")?;
        Ok(Self {
            program,
            arguments: words.collect(),
        })
    }

    /// Runs it and waits for its end.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn run(&self, news: &News) -> Result<(), String> {
        let program = &self.program;
        // Standard output is the log's, and what it would print is none of ours.
        let mut child = Command::new(program)
            .args(&self.arguments)
            .env("GAPURA_AGENT_HOOK_DIR", &news.dir)
            .env("GAPURA_AGENT_HOOK_ID", &news.id)
            .env("GAPURA_AGENT_HOOK_SERIAL", &news.serial)
            .env("GAPURA_AGENT_HOOK_GENERATION", news.generation.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|why| format!("--exec {program} can't be started: {why}"))?;
        let deadline = Instant::now() + LIMIT;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("--exec {program} failed: {status}")),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let limit = LIMIT.as_secs();
                    return Err(format!(
                        "--exec {program} took longer than {limit} s and was ended"
                    ));
                }
                Err(why) => return Err(format!("--exec {program} can't be waited for: {why}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> News {
        News {
            dir: "d".to_owned(),
            id: "spiffe://a/plugin/b".to_owned(),
            serial: "0a".to_owned(),
            generation: 7,
        }
    }

    #[test]
    fn it_hears_the_names_by_its_environment_and_its_failure_is_told() {
        let hook = Hook::parse(
            r#"sh -c 'test "$GAPURA_AGENT_HOOK_GENERATION $GAPURA_AGENT_HOOK_ID" = "7 spiffe://a/plugin/b"'"#,
        )
        .unwrap();
        assert_eq!(hook.run(&news()), Ok(()));
        let fault = Hook::parse("false").unwrap().run(&news()).unwrap_err();
        assert!(fault.contains("--exec false failed"), "{fault}");
        let fault = Hook::parse("/nowhere/x").unwrap().run(&news()).unwrap_err();
        assert!(fault.contains("can't be started"), "{fault}");
        assert!(Hook::parse(" ").is_err());
    }
}
