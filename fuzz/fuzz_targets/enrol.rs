//! What CA server and agent send each other: a message of certificates that is read is written back
//! the same, a token and a claim prove what they proved before, and nothing of a secret is printed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::enrol::check(bytes));
