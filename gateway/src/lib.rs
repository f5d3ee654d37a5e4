//! See the README.

pub mod registry;
pub mod route;
