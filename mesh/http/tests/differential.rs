//! What we take, hyper takes too, and the same: over our own samples, changed at random. `fuzz/`
//! asks the same by the million.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's helpers are tests too

mod oracle;

use proptest::prelude::*;

const REQUESTS: &str = include_str!("../src/http1/samples/requests.txt");
const ANSWERS: &str = include_str!("../src/http1/samples/answers.txt");

/// The samples of a table that are spelled without repetitions.
fn samples(table: &str) -> Vec<Vec<u8>> {
    table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains('{'))
        .filter_map(|line| line.split_once(" | "))
        .map(|(_, text)| spelled(text))
        .collect()
}

fn spelled(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(
            match (byte, (byte == b'\\').then(|| rest.next()).flatten()) {
                (_, Some(b'r')) => b'\r',
                (_, Some(b'n')) => b'\n',
                (_, Some(b't')) => b'\t',
                (_, Some(b'x')) => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                (byte, _) => byte,
            },
        );
    }
    bytes
}

/// Samples one after another, spliced and changed.
fn changed(table: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let all = samples(table);
    let one = (prop::sample::select(all), any::<(u16, u16)>(), 0..9_u8);
    let bytes = prop::sample::select(b"\r\n\t :;,/#ax0\x00\xff".to_vec());
    (prop::collection::vec((one, bytes), 1..4)).prop_map(|pieces| {
        let mut all = Vec::new();
        for ((mut bytes, (at, to), change), byte) in pieces {
            if !bytes.is_empty() {
                let at = usize::from(at) % bytes.len();
                match change {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    3 => bytes.truncate(at),
                    4 => {
                        let to = usize::from(to) % bytes.len();
                        bytes.swap(at, to);
                    }
                    5 => drop(bytes.drain(..at)),
                    _ => {}
                }
            }
            all.extend(bytes);
        }
        all
    })
}

#[test]
fn each_sample_that_we_take_is_taken_alike() {
    let requests: usize = samples(REQUESTS)
        .iter()
        .map(|bytes| oracle::compare_requests(bytes))
        .sum();
    let answers = samples(ANSWERS)
        .iter()
        .filter(|bytes| oracle::compare_answers(bytes))
        .count();
    assert!(requests >= 150 && answers >= 30, "{requests} {answers}");
}

/// A thousand of each, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.max(1000),
        failure_persistence: None,
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn requests_that_we_take_are_taken_alike(bytes in changed(REQUESTS)) {
        let _ = oracle::compare_requests(&bytes);
    }

    #[test]
    fn answers_that_we_take_are_taken_alike(bytes in changed(ANSWERS)) {
        let _ = oracle::compare_answers(&bytes);
    }
}
