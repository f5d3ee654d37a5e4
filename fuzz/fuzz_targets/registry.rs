//! Whatever stands in a plugin's file: it is taken or refused with its place, and a neighbour is
//! never harmed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::registry::check(bytes));
