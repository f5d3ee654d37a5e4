//! The rows: what is changed of a good chain, and what becomes of it.

mod certificates;
mod chains;
mod lists;
mod names;

use super::Row;

/// Rows of one family: a name, what is changed, what comes of it.
macro_rules! rows {
    ($family:literal; $($name:literal: |$case:ident| $change:expr => $want:expr;)*) => {
        vec![$($crate::judgement::Row {
            family: $family,
            name: $name,
            change: |$case: &mut $crate::judgement::Case| { $change; },
            want: $want,
        }),*]
    };
}
use rows;

/// Every row.
pub(super) fn all() -> Vec<Row> {
    [
        chains::paths(),
        chains::basic_constraints(),
        chains::path_lengths(),
        chains::validity(),
        certificates::key_usage(),
        certificates::purposes_of_leaf_and_ca(),
        certificates::serials(),
        certificates::signatures(),
        certificates::leaf_keys(),
        certificates::extensions(),
        certificates::encodings(),
        names::identities(),
        names::distinguished(),
        names::constraints_on_names(),
        lists::which_count(),
        lists::what_they_name(),
        lists::points_of_distribution(),
        lists::forms(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
