//! The operator's page: the three files that a browser gets, and the document that they show.
//!
//! In: counters, alarms, the trust in force, live connections. Out: [`document`]s made of numbers,
//! names and sentences, never of a secret; and what a quarter of an hour of the counters looked
//! like, from [`history`]. Serves nobody and waits for nothing: who asks, and how often a document
//! is made, is the business of whoever serves.

pub mod assets;
pub mod document;
pub mod history;
pub mod life;
pub mod trust;
