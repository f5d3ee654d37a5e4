//! Requests that we take, hyper takes too, and the same: method, target, fields and body of each.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::http1_request::check(bytes));
