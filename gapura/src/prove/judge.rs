//! Held or not: a pure function of a rule, of what was answered, and of what reached the plugin.
//!
//! In: an attack's rule, a shot, its outcome, what the plugin saw, and what a good request looks
//! like there. Out: a finding. Where it can't be told it says so: a door is never praised, nor
//! blamed, for what nobody saw.
//! Invariant: what reached the plugin decides; an answer alone decides only where a refusal or a
//! success says it all.

use super::answer::End;
use super::attack::Expect;
use super::exchange::Outcome;
use super::fill::{Shot, decoded};
use super::mark::CANARY;
use super::seen::{Framing, Seen};
use super::wire::Protocol;

/// The headers that say who somebody is.
const IDENTITY: [&str; 4] = ["x-user-id", "x-company-id", "x-role", "x-actor-id"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Held,
    CannotTell,
    NotHeld,
}

/// What is said of one shot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) seen: String,
}

/// Who somebody is, as the plugin reads it: each name with its values.
pub(super) type Identity = Vec<(&'static str, Vec<String>)>;

/// What a good request looks like behind the door.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    /// Whether our plugin is there.
    pub(super) plugin: bool,
    pub(super) identity: Identity,
    /// Of the other token.
    pub(super) other: Option<Identity>,
    /// What stands before the mark in the target.
    pub(super) prefix: String,
    /// Why a protocol can't be judged: a good request does not get through.
    pub(super) http1: Option<String>,
    pub(super) http2: Option<String>,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NotHeld => "NOT HELD",
            Self::CannotTell => "can't tell",
        }
    }
}

pub(super) fn held(seen: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Held,
        seen: seen.into(),
    }
}

pub(super) fn not_held(seen: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::NotHeld,
        seen: seen.into(),
    }
}

pub(super) fn cannot_tell(seen: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::CannotTell,
        seen: seen.into(),
    }
}

/// Judges one shot. `all` is everything that reached the plugin in this run.
pub(super) fn judge(
    expect: Expect,
    shot: &Shot,
    outcome: &Outcome,
    all: &[Seen],
    base: &Baseline,
) -> Finding {
    if let Some(lacks) = shot.lacks {
        return cannot_tell(lacks);
    }
    let not_good = match shot.over.0 {
        Protocol::Http1 => &base.http1,
        Protocol::Http2 => &base.http2,
    };
    if let Some(why) = not_good {
        return cannot_tell(why.clone());
    }
    if let Some(why) = &outcome.failed {
        return cannot_tell(why.clone());
    }
    if outcome.answers.iter().any(|answer| answer.status == 429) {
        return cannot_tell("429: the door limits the rate");
    }
    if !base.plugin {
        return by_answer(expect, shot, outcome);
    }
    let reached: Vec<&Seen> = all.iter().filter(|seen| seen.mark == shot.mark).collect();
    if expect == Expect::Refused {
        return refused(shot, outcome, &reached);
    }
    let second = |letter: &str| {
        let mark = format!("{}{letter}", shot.mark);
        all.iter()
            .filter(move |seen| seen.mark == mark)
            .collect::<Vec<&Seen>>()
    };
    let fault = match expect {
        Expect::Clean => clean(&reached, &base.identity),
        Expect::OneForm => reached.iter().find_map(|seen| odd_form(&seen.target)),
        Expect::SamePath => other_path(shot, &reached, &base.prefix),
        Expect::Once => more_than_once(shot, &reached, &second("s"), &base.identity),
        Expect::NoSwitch => switched(outcome, &reached),
        Expect::CleanAnswer => internal(outcome),
        Expect::EachItsOwn => clean(&reached, &base.identity)
            .or_else(|| clean(&second("o"), base.other.as_ref().unwrap_or(&base.identity))),
        Expect::Refused | Expect::Others => None,
    };
    match fault {
        Some(fault) => not_held(fault),
        None if reached.iter().any(|seen| seen.complete) => held("passed clean"),
        None if !reached.is_empty() => held(format!("cut off, {}", ending(outcome))),
        None => held(ending(outcome)),
    }
}

/// Without the plugin: a refusal is one, and a success says something only of tokens.
fn by_answer(expect: Expect, shot: &Shot, outcome: &Outcome) -> Finding {
    let status = outcome.answers.first().map(|answer| answer.status);
    match status {
        Some(400 | 401 | 403 | 405 | 411 | 413 | 414 | 421 | 431 | 501 | 505)
            if outcome.answers.len() == 1 =>
        {
            held(ending(outcome))
        }
        None if outcome.end == End::Closed => held(ending(outcome)),
        Some(status @ 200..=299) if expect == Expect::Refused && shot.tunnel => {
            not_held(format!("answered {status}"))
        }
        _ => cannot_tell(format!("{}; takes the plugin", ending(outcome))),
    }
}

fn refused(shot: &Shot, outcome: &Outcome, reached: &[&Seen]) -> Finding {
    if reached.iter().any(|seen| seen.complete) {
        return not_held(format!("reached the plugin ({})", ending(outcome)));
    }
    match outcome.answers.first().map(|answer| answer.status) {
        Some(status @ 200..=299) if shot.tunnel => not_held(format!("answered {status}")),
        Some(status @ 200..=399) => cannot_tell(format!("{status} from elsewhere")),
        _ => held(ending(outcome)),
    }
}

fn clean(reached: &[&Seen], identity: &Identity) -> Option<String> {
    reached.iter().find_map(|seen| {
        if let Some((name, _)) = fields(seen).find(|(_, value)| value.contains(CANARY)) {
            return Some(format!("{name} reached the plugin"));
        }
        other_identity(seen, identity)
    })
}

/// Where the plugin reads another identity than the token's.
fn other_identity(seen: &Seen, identity: &Identity) -> Option<String> {
    let found = identity_of(seen);
    let differing = found
        .iter()
        .zip(identity)
        .find(|(found, wanted)| found != wanted);
    differing.map(|((name, values), _)| match values.len() {
        0 => format!("{name} was taken away"),
        1 => format!("{name} was changed"),
        count => format!("{name} stands {count} times"),
    })
}

/// Headers and trailers.
fn fields(seen: &Seen) -> impl Iterator<Item = &(String, String)> {
    seen.headers.iter().chain(&seen.trailers)
}

/// Who somebody is to a plugin that takes any sign for a dash, as WSGI, CGI and PHP do.
pub(super) fn identity_of(seen: &Seen) -> Identity {
    let folded = |name: &str| -> String {
        name.chars()
            .map(|sign| {
                if sign.is_ascii_alphanumeric() {
                    sign.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect()
    };
    IDENTITY
        .iter()
        .map(|name| {
            let named = fields(seen).filter(|(other, _)| folded(other) == *name);
            (*name, named.map(|(_, value)| value.clone()).collect())
        })
        .collect()
}

/// What a reader behind the plugin's framework could read in another way.
fn odd_form(target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let odd = |what: &str| Some(format!("{what} reached the plugin"));
    if path.contains('\\') {
        return odd("a backslash");
    }
    // Bytes outside ASCII are kept as `?`, which begins no query in a path that had none.
    if target.contains("/??") {
        return odd("a raw byte");
    }
    if target.contains('#') {
        return odd("a fragment");
    }
    for segment in path.split('/') {
        let once = decoded(segment);
        let name = once.split(';').next().unwrap_or_default();
        if name == "." || name == ".." {
            return odd("a dot segment");
        }
        if once.contains('/') || once.contains('\\') {
            return odd("an encoded slash");
        }
        if once.contains(';') {
            return odd("a parameter");
        }
        if once.contains('\0') {
            return odd("a NUL");
        }
        if broken_escape(segment) {
            return odd("a broken escape");
        }
    }
    None
}

fn broken_escape(segment: &str) -> bool {
    segment
        .split('%')
        .skip(1)
        .any(|rest| !rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()) || rest.len() < 2)
}

fn other_path(shot: &Shot, reached: &[&Seen], prefix: &str) -> Option<String> {
    let tail = shot.tail.as_deref()?;
    let expected = format!("{prefix}{}", tail.trim_start_matches('/'));
    reached
        .iter()
        .find(|seen| decoded(&seen.target) != expected)
        .map(|seen| format!("the plugin got {}", seen.target.replace(&shot.mark, "…")))
}

fn more_than_once(
    shot: &Shot,
    reached: &[&Seen],
    hidden: &[&Seen],
    identity: &Identity,
) -> Option<String> {
    if !hidden.is_empty() {
        return Some("the hidden request reached the plugin".to_owned());
    }
    if reached.len() > 1 {
        return Some(format!("reached the plugin {} times", reached.len()));
    }
    let seen = reached.first()?;
    if seen.framing == Framing::Both {
        return Some("the plugin was told two lengths".to_owned());
    }
    if shot.untrue && seen.complete {
        return Some("reached the plugin as a whole request".to_owned());
    }
    other_identity(seen, identity)
}

fn switched(outcome: &Outcome, reached: &[&Seen]) -> Option<String> {
    if outcome.answers.iter().any(|answer| answer.status == 101) {
        return Some("the door switched".to_owned());
    }
    let wish = ["upgrade", "http2-settings"];
    let found = wish
        .iter()
        .find(|name| reached.iter().any(|seen| !seen.all(name).is_empty()))?;
    Some(format!("{found} reached the plugin"))
}

fn internal(outcome: &Outcome) -> Option<String> {
    let mut fields = outcome.answers.iter().flat_map(|answer| &answer.headers);
    let (name, _) = fields.find(|(_, value)| value.contains(CANARY))?;
    Some(format!("{name} came back"))
}

/// How it ended, in a few words.
fn ending(outcome: &Outcome) -> String {
    let statuses: Vec<String> = outcome
        .answers
        .iter()
        .map(|answer| answer.status.to_string())
        .collect();
    match (statuses.is_empty(), outcome.end) {
        (false, _) => statuses.join(", then "),
        (true, End::Closed) => "closed".to_owned(),
        (true, End::Silent) => "no answer".to_owned(),
        (true, End::Nonsense) => "an answer that is no HTTP".to_owned(),
    }
}

#[cfg(test)]
mod tests;
