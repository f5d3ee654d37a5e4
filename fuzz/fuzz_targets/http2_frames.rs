//! Frames of a client, whatever they are: the whole of our HTTP/2 server takes them, and holds
//! nothing after.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::http2_frames::check(bytes));
