//! Answers in HTTP/1.1, read as a lenient client would: what a door says is judged, not how well it
//! says it.
//!
//! In: a connection, a deadline. Out: the next final answer, or how the connection ended instead.

use std::time::Instant;

use super::wire::{Got, Wire};

/// An answer is read to here and not further.
const BODY_MOST: usize = 4 << 20;
const HEAD_MOST: usize = 256 * 1024;

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Empty for HTTP/2, where only the status is read.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Why no further answer came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// The connection was closed or reset.
    Closed,
    /// It is open, and nothing came.
    #[default]
    Silent,
    /// What came is no answer.
    Nonsense,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }
}

/// Reads the next final answer; interim ones are passed over, but a 101 is final.
pub(super) fn next(wire: &mut Wire, bodiless: bool, until: Instant) -> Result<Answer, End> {
    loop {
        let mut answer = head(wire, until)?;
        if (100..200).contains(&answer.status) && answer.status != 101 {
            continue;
        }
        if bodiless || matches!(answer.status, 101 | 204 | 304) {
            return Ok(answer);
        }
        let chunked = answer
            .header("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
        let length = answer
            .header("content-length")
            .and_then(|length| length.trim().parse().ok());
        answer.body = match (chunked, length) {
            (true, _) => chunks(wire, until)?,
            (false, Some(length)) => exactly(wire, length, until)?,
            (false, None) => rest(wire, until),
        };
        return Ok(answer);
    }
}

fn head(wire: &mut Wire, until: Instant) -> Result<Answer, End> {
    let end = loop {
        if let Some(at) = wire
            .unread
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        {
            break at;
        }
        if wire.unread.len() > HEAD_MOST {
            return Err(End::Nonsense);
        }
        fill(wire, until)?;
    };
    let bytes: Vec<u8> = wire.unread.drain(..end + 4).collect();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let fields = lines.filter_map(|line| line.split_once(':'));
    Ok(Answer {
        status: status.ok_or(End::Nonsense)?,
        headers: fields
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    })
}

fn fill(wire: &mut Wire, until: Instant) -> Result<(), End> {
    match wire.more(until) {
        Got::Bytes => Ok(()),
        Got::Closed if !wire.unread.is_empty() => Err(End::Nonsense),
        Got::Closed => Err(End::Closed),
        Got::Nothing => Err(End::Silent),
    }
}

fn exactly(wire: &mut Wire, length: usize, until: Instant) -> Result<Vec<u8>, End> {
    if length > BODY_MOST {
        return Err(End::Nonsense);
    }
    while wire.unread.len() < length {
        fill(wire, until)?;
    }
    Ok(wire.unread.drain(..length).collect())
}

fn chunks(wire: &mut Wire, until: Instant) -> Result<Vec<u8>, End> {
    let mut body = Vec::new();
    loop {
        let line = line(wire, until)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| End::Nonsense)?;
        if size == 0 {
            while !self::line(wire, until)?.is_empty() {}
            return Ok(body);
        }
        if body.len().saturating_add(size) > BODY_MOST {
            return Err(End::Nonsense);
        }
        body.extend(exactly(wire, size, until)?);
        line_end(wire, until)?;
    }
}

fn line_end(wire: &mut Wire, until: Instant) -> Result<(), End> {
    line(wire, until).map(|_| ())
}

fn line(wire: &mut Wire, until: Instant) -> Result<String, End> {
    loop {
        if let Some(at) = wire.unread.windows(2).position(|window| window == b"\r\n") {
            let bytes: Vec<u8> = wire.unread.drain(..at + 2).collect();
            return Ok(String::from_utf8_lossy(&bytes[..at]).into_owned());
        }
        if wire.unread.len() > HEAD_MOST {
            return Err(End::Nonsense);
        }
        fill(wire, until)?;
    }
}

/// A body without a length ends with the connection.
fn rest(wire: &mut Wire, until: Instant) -> Vec<u8> {
    while wire.unread.len() < BODY_MOST && wire.more(until) == Got::Bytes {}
    std::mem::take(&mut wire.unread)
}
