//! Whatever stands in the files of a mesh directory: it is read or refused, and nothing stumbles.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::pem::check(bytes));
