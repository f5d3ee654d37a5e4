//! Whatever a plugin serves as its contract: it is left out with a sentence, or what is made of it
//! is a contract again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::openapi::check(bytes));
