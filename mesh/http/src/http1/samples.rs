//! Bytes that others are known to try, each with its judgement, and the property that no cut
//! changes one.

use bytes::BytesMut;
use http::Method;
use proptest::prelude::*;

use super::body::{BodyError, Decoder, Piece};
use super::head::{CLIENT_LIMITS, HOP_LIMITS, Length, RequestReader, ResponseReader};

const REQUESTS: &str = include_str!("samples/requests.txt");
const ANSWERS: &str = include_str!("samples/answers.txt");

/// The samples of a table: judgement and bytes.
fn samples(table: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (judgement, bytes) = line.split_once(" | ").or(line.split_once(" |")).unwrap();
            let judgement = judgement.split(" ; ").map(|item| {
                let bytes = spelled(item);
                String::from_utf8(bytes.escape_ascii().collect()).unwrap()
            });
            (judgement.collect::<Vec<_>>().join(" ; "), spelled(bytes))
        })
}

/// `\r`, `\xNN` and `{N*TEXT}` as the bytes they stand for.
fn spelled(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(repeated) = rest.strip_prefix('{') {
            let (inside, after) = repeated.split_once('}').unwrap();
            let (count, piece) = inside.split_once('*').unwrap();
            bytes.extend(spelled(piece).repeat(count.parse().unwrap()));
            rest = after;
        } else if let Some(escaped) = rest.strip_prefix('\\') {
            let (byte, length) = match escaped.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b't' => (b'\t', 1),
                b'\\' => (b'\\', 1),
                b'x' => (u8::from_str_radix(&escaped[1..3], 16).unwrap(), 3),
                other => panic!("no such escape: {other} in {text}"),
            };
            bytes.push(byte);
            rest = &escaped[length..];
        } else {
            bytes.push(u8::try_from(first).unwrap());
            rest = &rest[1..];
        }
    }
    bytes
}

/// Bytes that come in pieces.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
    bytes: BytesMut,
}

impl Pieces<'_> {
    /// Whether there was one more piece.
    fn next(&mut self) -> bool {
        let (next, rest) = self.rest.split_at(self.step.min(self.rest.len()));
        self.bytes.extend_from_slice(next);
        self.rest = rest;
        !next.is_empty()
    }

    /// All of a body, as judged.
    fn body(&mut self, length: Length) -> Result<Vec<u8>, BodyError> {
        let mut decoder = Decoder::new(length, CLIENT_LIMITS);
        let mut body = Vec::new();
        loop {
            match decoder.read(&mut self.bytes)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(_) => {}
                Piece::End => return Ok(body),
                Piece::More => {
                    if !self.next() {
                        decoder.end_of_stream();
                    }
                }
            }
        }
    }
}

fn described(what: String, body: &Result<Vec<u8>, BodyError>) -> String {
    match body {
        Ok(body) if body.is_empty() => what,
        Ok(body) => format!("{what} ={}", body.escape_ascii()),
        Err(BodyError::Bad(_)) => format!("{what} !bad"),
        Err(_) => format!("{what} !cut"),
    }
}

fn requests(bytes: &[u8], step: usize) -> String {
    let mut pieces = Pieces {
        rest: bytes,
        step,
        bytes: BytesMut::new(),
    };
    let mut judged = Vec::new();
    'requests: loop {
        let mut reader = RequestReader::default();
        let head = loop {
            match reader.read(&mut pieces.bytes, &CLIENT_LIMITS) {
                Ok(Some(head)) => break head,
                Ok(None) if pieces.next() => {}
                Ok(None) => {
                    if !pieces.bytes.is_empty() {
                        judged.push("more".to_owned());
                    }
                    break 'requests;
                }
                Err(refusal) => {
                    judged.push(refusal.kind.status().as_str().to_owned());
                    break 'requests;
                }
            }
        };
        let body = pieces.body(head.body);
        let line = format!("{} {}", head.parts.method, head.parts.uri);
        judged.push(described(line.as_bytes().escape_ascii().to_string(), &body));
        if body.is_err() {
            break;
        }
    }
    joined(judged)
}

fn answers(bytes: &[u8], step: usize) -> String {
    let mut pieces = Pieces {
        rest: bytes,
        step,
        bytes: BytesMut::new(),
    };
    let mut judged = Vec::new();
    loop {
        let mut reader = ResponseReader::default();
        let head = loop {
            match reader.read(&mut pieces.bytes, &Method::GET, &HOP_LIMITS) {
                Ok(Some(head)) => break head,
                Ok(None) if pieces.next() => {}
                Ok(None) => {
                    if !pieces.bytes.is_empty() {
                        judged.push("more".to_owned());
                    }
                    return joined(judged);
                }
                Err(_) => {
                    judged.push("!".to_owned());
                    return joined(judged);
                }
            }
        };
        let status = head.parts.status;
        let body = pieces.body(head.body);
        judged.push(described(status.as_str().to_owned(), &body));
        if status.is_informational() && status != 101 {
            continue;
        }
        let unasked = pieces.bytes.len() + pieces.rest.len();
        if body.is_ok() && unasked > 0 {
            judged.push(format!("+{unasked}"));
        }
        return joined(judged);
    }
}

fn joined(judged: Vec<String>) -> String {
    if judged.is_empty() {
        "-".to_owned()
    } else {
        judged.join(" ; ")
    }
}

/// Holds each sample to its judgement, whole and in pieces; how many there are.
fn hold(table: &str, judge: fn(&[u8], usize) -> String) -> usize {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (judgement, bytes) in samples(table) {
        count += 1;
        let steps = [usize::MAX, 1, 2, 3, 5, 7, 16, 61, 1000];
        let least = bytes.len() / 2000;
        for step in steps.into_iter().filter(|step| *step > least) {
            let judged = judge(&bytes, step);
            if judged != judgement {
                wrong.push(format!(
                    "{:?}\n  in pieces of {step} is taken for {judged:.100}, and should be {judgement:.100}",
                    String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

#[test]
fn each_sample_of_a_request_is_taken_for_what_it_is() {
    assert!(hold(REQUESTS, requests) >= 300);
}

#[test]
fn each_sample_of_an_answer_is_taken_for_what_it_is() {
    assert!(hold(ANSWERS, answers) >= 150);
}

/// Messages and halves of messages, one after another.
fn streams(table: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = samples(table)
        .map(|(_, bytes)| bytes)
        .filter(|bytes| bytes.len() < 400)
        .collect();
    let one = (prop::sample::select(all), any::<(u16, u8)>(), 0..8_u8).prop_map(
        |(mut bytes, (at, byte), change)| {
            if !bytes.is_empty() {
                let at = usize::from(at) % bytes.len();
                match change {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    3 => bytes.truncate(at),
                    _ => {}
                }
            }
            bytes
        },
    );
    prop::collection::vec(one, 1..4).prop_map(|messages| messages.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_cut_changes_what_requests_are_taken_for(bytes in streams(REQUESTS), step in 1..60_usize) {
        prop_assert_eq!(requests(&bytes, usize::MAX), requests(&bytes, step));
    }

    #[test]
    fn no_cut_changes_what_answers_are_taken_for(bytes in streams(ANSWERS), step in 1..60_usize) {
        prop_assert_eq!(answers(&bytes, usize::MAX), answers(&bytes, step));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1..60_usize) {
        prop_assert_eq!(requests(&bytes, usize::MAX), requests(&bytes, step));
        prop_assert_eq!(answers(&bytes, usize::MAX), answers(&bytes, step));
    }
}
