//! Whatever a token says, signed or not: nothing stumbles, nothing unsigned passes, and what passes
//! has the form it promises.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::token::check(bytes));
