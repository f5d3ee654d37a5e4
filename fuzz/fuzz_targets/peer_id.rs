//! An identity that parses prints as it was, and a pattern takes what it says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::peer_id::check(bytes));
