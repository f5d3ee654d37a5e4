//! A path that is accepted has one form, and nothing in it that another reader could take for
//! something else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::path::check(bytes));
