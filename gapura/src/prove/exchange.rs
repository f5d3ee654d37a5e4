//! One shot and what came of it: connect, send, read until nothing more is to be expected.
//!
//! In: a target, a shot. Out: the answers and the end, or why there was no connection. Judges
//! nothing; takes [`PATIENCE`] at most beside the connecting.

use std::time::{Duration, Instant};

use super::answer::{self, Answer, End};
use super::fill::Shot;
use super::frames;
use super::target::Target;
use super::wire::{Protocol, Wire};

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// For a second one, that should not come.
const SECOND: Duration = Duration::from_millis(400);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) answers: Vec<Answer>,
    pub(super) end: End,
    /// No connection could be had, and why.
    pub(super) failed: Option<String>,
}

/// Fires one shot.
pub(super) fn fire(target: &Target, shot: &Shot) -> Outcome {
    let protocol = shot.over.0;
    match Wire::connect(target, protocol) {
        Ok(mut wire) => {
            wire.send(&shot.bytes); // not taken: then the reading tells
            read(&mut wire, protocol, shot.second)
        }
        Err(why) => Outcome {
            failed: Some(why),
            ..Outcome::default()
        },
    }
}

fn read(wire: &mut Wire, protocol: Protocol, second: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut until = Instant::now() + PATIENCE;
    loop {
        let next = match protocol {
            Protocol::Http1 => answer::next(wire, false, until),
            Protocol::Http2 => frames::answer(wire, 1, until),
        };
        match next {
            Ok(answer) => outcome.answers.push(answer),
            Err(end) => {
                outcome.end = end;
                return outcome;
            }
        }
        if !second || outcome.answers.len() > 3 {
            return outcome;
        }
        until = Instant::now() + SECOND;
    }
}

/// A good exchange on a connection of its own: its answer, or what came instead.
pub(super) fn once(target: &Target, protocol: Protocol, bytes: &[u8]) -> Result<Answer, String> {
    let mut wire = Wire::connect(target, protocol)?;
    if !wire.send(bytes) {
        return Err("the door closed while the request was sent".to_owned());
    }
    let mut outcome = read(&mut wire, protocol, false);
    outcome.answers.pop().ok_or_else(|| match outcome.end {
        End::Closed => "the door closed without an answer".to_owned(),
        End::Silent => "the door gave no answer within 3 s".to_owned(),
        End::Nonsense => "the door's answer is no HTTP".to_owned(),
    })
}
