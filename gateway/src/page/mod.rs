//! What the gateway says on the operator's page: its plugins, its files, its callers.
//!
//! In: the tables, lists and keys in force, and a quarter of an hour of the counters. Out: a
//! [`Facts`] document, made while somebody looks, at most once a second, on the control thread.
//! Invariant: no token, secret or injected value is in it, and a company's id only where the
//! operator wants that.

mod callers;
mod files;
mod plugins;
mod sources;

use std::time::Instant;

use serde::Serialize;

use callers::Callers;
use files::Files;
use plugins::PluginFacts;

pub(crate) use sources::Sources;

/// What only a gateway has to say.
#[derive(Serialize)]
pub(crate) struct Facts {
    plugins: Vec<PluginFacts>,
    files: Files,
    callers: Callers,
}

impl Facts {
    /// As it is now.
    pub(crate) fn now(from: &Sources<'_>) -> Self {
        let table = from.registry.table();
        Self {
            plugins: plugins::all(&table, from.history, from.now),
            files: Files::now(&table, from.registry),
            callers: Callers::now(from, &table, Instant::now()),
        }
    }
}
