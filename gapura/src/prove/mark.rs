//! What a request of a run is known by: a name of the run that nobody guesses, and the number of
//! the shot; and the word that gives away what came from a client.
//!
//! In: bytes that the plugin got. Out: the mark in them, if there is one. A mark stands in the
//! target and in a header of each request, so that it arrives even where one of the two is what is
//! attacked.
//! Invariant: what bears no mark is neither kept nor shown by the plugin.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// The header with the mark. An ordinary one: doors that drop `X-` pass it.
pub(super) const HEADER: &str = "Prove-Mark";

/// No value with this word may reach the plugin, nor come back to a client.
pub(super) const CANARY: &str = "spoofed";

/// How a mark begins.
const PREFIX: &[u8] = b"pv";
/// The run's name has so many digits.
const NAME: usize = 32;

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Run(String);

impl Run {
    /// A new one, of 128 random bits.
    pub(super) fn new() -> Result<Self, String> {
        let mut bytes = [0; NAME / 2];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system has no random bytes to give")?;
        Ok(Self(hex(&bytes)))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The mark of shot `number`.
    pub(super) fn mark(&self, number: usize) -> String {
        format!("pv{}-{number}", self.0)
    }
}

/// The first mark in `bytes`: `pv`, 32 digits, `-`, a number, and perhaps a letter.
pub(super) fn find(bytes: &[u8]) -> Option<&str> {
    let at = bytes.windows(PREFIX.len() + NAME + 1).position(|window| {
        window.starts_with(PREFIX)
            && window[PREFIX.len()..PREFIX.len() + NAME]
                .iter()
                .all(u8::is_ascii_hexdigit)
            && window.ends_with(b"-")
    })?;
    let rest = &bytes[at..];
    let number = PREFIX.len() + NAME + 1;
    let digits = rest[number..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .take(6)
        .count();
    let letter = rest
        .get(number + digits)
        .is_some_and(u8::is_ascii_lowercase);
    let end = number + digits + usize::from(letter);
    (digits > 0).then(|| std::str::from_utf8(&rest[..end]).ok())?
}

/// Whether `text` is a run's name.
pub(super) fn is_name(text: &str) -> bool {
    text.len() == NAME && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What the plugin answers to `nonce`: nothing that merely repeats what it is sent can do so.
pub(super) fn answer_to(nonce: &str) -> String {
    hex(digest(&SHA256, format!("gapura prove: {nonce}").as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_stands_and_nothing_else_is_one() {
        let run = Run::new().unwrap();
        let mark = run.mark(17);
        for text in [
            mark.clone(),
            format!("/x/{mark}"),
            format!("/x/{mark}?a=1"),
            format!("pvpv {mark} {}", run.mark(18)),
        ] {
            assert_eq!(find(text.as_bytes()), Some(mark.as_str()), "{text}");
        }
        let hidden = format!("GET /{mark}s HTTP/1.1");
        assert_eq!(find(hidden.as_bytes()), Some(format!("{mark}s").as_str()));
        for text in [
            "",
            "pv",
            "/x/pv0123-1",
            &format!("pv{}", run.name()),
            &format!("pv{}-", run.name()),
        ] {
            assert_eq!(find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_echo_is_no_answer() {
        assert_ne!(answer_to("a"), answer_to("b"));
        assert!(!answer_to("abc").contains("abc"));
    }
}
