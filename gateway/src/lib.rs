//! See the README.

pub mod registry;
pub mod route;
pub mod authenticate;
