//! See the README.

pub mod authenticate;
