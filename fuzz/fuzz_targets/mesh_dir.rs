//! Whatever stands in a mesh directory: a set fits or is refused with a sentence, and one that fits
//! is what it says it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gapura_hostile::mesh_dir::check(bytes));
