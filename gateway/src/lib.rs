//! See the README.

pub mod authenticate;
pub mod config;
pub mod limits;
pub mod registry;
pub mod route;
