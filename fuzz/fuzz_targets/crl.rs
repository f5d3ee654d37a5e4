//! A list of the revoked is read whole or not at all, the same each time, and never when its end is
//! missing.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::crl::check(bytes));
