//! Numbers for request and span ids: unlike each other, not secret.
//!
//! SplitMix64 (Steele, Lea, Flood 2014) seeded from the operating system. An id names a request in
//! a log; whoever guesses one gains nothing, so that a system call or a cipher for each would be
//! waste.

use std::cell::Cell;

/// One worker's source. Not for secrets.
pub struct Random(Cell<u64>);

impl Random {
    /// Seeds from the operating system's source.
    ///
    /// # Errors
    /// If the system has no random bytes to give.
    pub fn seeded() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed)?;
        Ok(Self(Cell::new(u64::from_be_bytes(seed))))
    }

    /// One that goes on from a number of another.
    #[must_use]
    pub fn continued(number: u64) -> Self {
        Self(Cell::new(number))
    }

    /// The next 64 bits.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next 128 bits.
    pub fn next_wide(&self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_numbers_are_alike() {
        let random = Random::seeded().unwrap();
        let seen: std::collections::HashSet<u128> = std::iter::repeat_with(|| random.next_wide())
            .take(10_000)
            .collect();
        assert_eq!(seen.len(), 10_000);
    }
}
