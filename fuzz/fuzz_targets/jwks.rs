//! Whatever stands in a key set: it is taken or refused with a sentence, and what it published
//! signs nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::jwks::check(bytes));
