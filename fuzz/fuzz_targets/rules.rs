//! Whatever rules a file has: they load or are refused by name, and where some stand, whoever
//! matches none is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::rules::check(bytes));
