//! Answers that we take, hyper takes too, and the same: status, fields and body.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)] // each target asks half of it
#[path = "../../mesh/transport/tests/oracle/mod.rs"]
mod oracle;

fuzz_target!(|bytes: &[u8]| {
    let _ = oracle::compare_answers(bytes);
});
