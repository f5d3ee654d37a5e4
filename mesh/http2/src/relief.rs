//! Who pays when a worker holds more than its budget.
//!
//! In: all that is held, for whom, and how long nobody has taken of it. Out: what is to be given
//! up, in its order: of the client that holds most, of its connections the heaviest, and of that
//! the longest stalled first, until as much is gone as was too much.
//! Invariant: whoever is within its share loses nothing for another's sake.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

/// Something that holds bytes.
pub(super) struct Holding<C, T> {
    /// Whose share is measured.
    pub(super) client: C,
    /// What its connection holds in all.
    pub(super) of_owner: usize,
    /// Looks at which nothing had been taken of it.
    pub(super) looks: u32,
    pub(super) held: usize,
    pub(super) what: T,
}

/// What is to be given up of `holding`, where `over` bytes are too many and a client's share is
/// `fair`.
pub(super) fn heaviest<C: Copy + Eq + Hash, T>(
    mut holding: Vec<Holding<C, T>>,
    mut over: usize,
    fair: usize,
) -> Vec<T> {
    let mut sums: HashMap<C, usize> = HashMap::new();
    for one in &holding {
        *sums.entry(one.client).or_default() += one.held;
    }
    holding.sort_by_key(|one| {
        let sum = sums.get(&one.client).copied().unwrap_or_default();
        Reverse((sum, one.of_owner, one.looks, one.held))
    });
    let mut given_up = Vec::new();
    for one in holding {
        if over == 0 {
            break;
        }
        if let Some(sum) = sums.get_mut(&one.client).filter(|sum| **sum > fair) {
            *sum -= one.held;
            over = over.saturating_sub(one.held);
            given_up.push(one.what);
        }
    }
    given_up
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By client, connection's sum, looks and bytes; what they are is their place.
    fn holding(all: &[(u8, usize, u32, usize)]) -> Vec<Holding<u8, usize>> {
        let one =
            |(what, (client, of_owner, looks, held)): (usize, &(u8, usize, u32, usize))| Holding {
                client: *client,
                of_owner: *of_owner,
                looks: *looks,
                held: *held,
                what,
            };
        all.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_longest_stalled_of_the_heaviest_connection_of_the_heaviest_client_goes_first() {
        let all = [
            (1, 30, 9, 30),
            (2, 40, 1, 20),
            (2, 40, 5, 20),
            (2, 10, 9, 10),
        ];
        assert_eq!(heaviest(holding(&all), 1, 0), [2]);
        assert_eq!(heaviest(holding(&all), 21, 0), [2, 1]);
        assert_eq!(heaviest(holding(&all), 0, 0), [0; 0]);
        assert_eq!(heaviest(holding(&all), 1000, 0), [2, 1, 3, 0]);
    }

    #[test]
    fn who_is_within_its_share_loses_nothing_and_who_comes_to_it_no_more() {
        let all = [(1, 30, 9, 30), (2, 40, 5, 20), (2, 40, 1, 20)];
        assert_eq!(heaviest(holding(&all), 1000, 30), [1]);
        assert_eq!(heaviest(holding(&all), 1000, 40), [0; 0]);
    }
}
