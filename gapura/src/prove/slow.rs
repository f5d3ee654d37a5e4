//! Heads that never get done: opened first, looked at last, so that the others need not wait for
//! them.
//!
//! In: a target. Out: a finding, [`PATIENCE`] after the opening at the latest.

use std::time::{Duration, Instant};

use super::answer;
use super::judge::{Finding, cannot_tell, held, not_held};
use super::target::Target;
use super::wire::{Protocol, Wire};

/// A door that waits longer for a head than this waits too long.
const PATIENCE: Duration = Duration::from_secs(40);
/// A byte now and then, as a client does who wants to look alive.
const DRIP: Duration = Duration::from_secs(1);

/// A connection with half a head on it.
pub(super) struct Slow {
    wire: Result<Wire, String>,
    since: Instant,
}

impl Slow {
    /// Opens it.
    pub(super) fn open(target: &Target) -> Self {
        let wire = Wire::connect(target, Protocol::Http1).map(|mut wire| {
            wire.send(
                format!(
                    "GET {}/slow HTTP/1.1\r\nHost: {}\r\nA: ",
                    target.mount, target.authority
                )
                .as_bytes(),
            );
            wire
        });
        Self {
            wire,
            since: Instant::now(),
        }
    }

    /// Goes on a byte at a time until the door has had enough.
    pub(super) fn wait(self) -> Finding {
        let mut wire = match self.wire {
            Ok(wire) => wire,
            Err(why) => return cannot_tell(why),
        };
        let until = self.since + PATIENCE;
        while Instant::now() < until {
            let answered = match answer::next(&mut wire, false, until.min(Instant::now() + DRIP)) {
                Ok(answer) => Some(answer.status.to_string()),
                Err(answer::End::Silent) => None,
                Err(answer::End::Closed | answer::End::Nonsense) => Some("closed".to_owned()),
            };
            if let Some(answered) = answered {
                return held(format!(
                    "{answered} within {} s",
                    self.since.elapsed().as_secs() + 1
                ));
            }
            wire.send(b"a");
        }
        not_held(format!("still open after {} s", PATIENCE.as_secs()))
    }
}
