//! When a certificate is renewed, and when what failed is tried again.
//!
//! Pure: times are arguments. Two thirds of a life leave the last third for a CA server that is
//! down, and a share of jitter that is each certificate's own keeps a thousand hosts, enrolled in
//! one minute, from coming back in one minute.

use std::time::Duration;

/// The longest between two tries.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(1);

/// When a certificate is to be renewed that counts from `begin` to `end` (Unix time): at two thirds
/// of that, or up to a tenth of it sooner, by a number that is the certificate's own.
pub(crate) fn due(begin: u64, end: u64, serial: &[u8]) -> u64 {
    let life = end.saturating_sub(begin);
    let mixed = serial.iter().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    let per_mille = 667 - mixed % 100;
    begin.saturating_add(
        u64::try_from(u128::from(life) * u128::from(per_mille) / 1000).unwrap_or(life),
    )
}

/// Whether what should have been renewed at `due` is so late that somebody should look: half of
/// what was left then is gone.
pub(crate) fn is_overdue(due: u64, end: u64, now: u64) -> bool {
    now > due.saturating_add(end.saturating_sub(due) / 2)
}

/// How long to wait after so many failures in a row; `left` is what there is left to lose: with a
/// short life the tries stay dense.
pub(crate) fn pause(failures: u32, left: Option<u64>, random: u64) -> Duration {
    let doubled = SHORTEST.saturating_mul(1 << failures.min(16));
    let most = left.map_or(LONGEST, |left| Duration::from_secs(left / 20));
    let pause = doubled.min(most.clamp(SHORTEST, LONGEST));
    // Half of it is left to chance, so that who failed together does not come together.
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / 2 + random % (millis / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_two_thirds_or_a_little_sooner_and_the_same_each_time() {
        let day = 86_400;
        let mut seen = std::collections::BTreeSet::new();
        for serial in 0..200_u8 {
            let at = due(1_000, 1_000 + day, &[serial, 7]);
            assert!(
                (1_000 + day * 567 / 1000..=1_000 + day * 667 / 1000).contains(&at),
                "{at}"
            );
            assert_eq!(at, due(1_000, 1_000 + day, &[serial, 7]));
            seen.insert(at);
        }
        assert!(seen.len() > 50, "they come apart: {}", seen.len());
        assert_eq!(due(5, 5, b"x"), 5);
        assert_eq!(due(9, 5, b"x"), 9);
        assert!(due(0, u64::MAX, b"x") > 0);
    }

    #[test]
    fn it_is_late_once_half_of_the_rest_is_gone() {
        assert!(!is_overdue(60, 90, 75));
        assert!(is_overdue(60, 90, 76));
    }

    #[test]
    fn tries_come_further_apart_but_not_further_than_what_is_at_stake_allows() {
        for random in [0, 1, u64::MAX] {
            assert!(pause(0, None, random) <= Duration::from_secs(1));
            assert!(pause(40, None, random) <= LONGEST);
            assert!(pause(40, None, random) >= LONGEST / 2);
            assert!(pause(40, Some(600), random) <= Duration::from_secs(30));
            assert!(pause(40, Some(0), random) <= SHORTEST);
        }
    }
}
