//! What is kept current while a program runs, with certificates minted for each test.

mod beginnings;
mod clients;
mod files;
mod public;
mod watching;

#[path = "../../../trust/src/tests/mint.rs"]
#[expect(dead_code, reason = "the tests of gapura-trust use the rest")]
mod mint;

use gapura_trust as trust;
