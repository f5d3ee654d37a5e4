//! Who may use a plugin: its `allow` rules, its `tenants`, and whether they only watch (`shadow`).
//!
//! In: the fields of a file, compiled once when it loads; then who calls, a method and a path below
//! the mount. Out: a [`Verdict`], the same to serving, to `explain` and to the file's own `tests`:
//! all three ask [`Access::decide`]. Nothing here knows tokens, connections or time.
//! Invariant: where rules stand and none matches, nobody is let through.

mod decide;
mod examples;
mod index;
mod method;
mod outlook;
mod pattern;
mod read;
mod rule;
mod subject;
mod tenants;
#[cfg(test)]
mod tests;
mod values;
mod verdict;

pub(crate) use decide::Access;
pub(in crate::registry) use method::known as unknown_method;
pub(crate) use subject::Subject;
pub(in crate::registry) use subject::Told;
pub(crate) use values::read_company;
pub(crate) use verdict::{Refusal, Verdict};
