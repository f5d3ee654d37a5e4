//! Whatever a client sends, through both programs in this process: the plugin sees the token's
//! caller and nobody else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::whole::check(bytes));
