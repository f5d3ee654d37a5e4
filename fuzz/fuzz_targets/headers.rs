//! After a client's headers have been scrubbed, no name is left that anybody could read as one of
//! ours.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::headers::check(bytes));
