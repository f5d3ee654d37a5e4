//! How a certificate or a list stands in its life, long before its end.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Nothing is to be done.
    Well,
    /// Less than a third is left: the next should be here.
    Due,
    /// Less than a tenth is left.
    Urgent,
    /// It is over.
    Over,
    /// It has not begun.
    NotBegun,
}

impl Life {
    /// Between its first and its last second, Unix time.
    #[must_use]
    pub fn of(begins: u64, ends: u64, now: u64) -> Self {
        let (life, left) = (ends.saturating_sub(begins), ends.saturating_sub(now));
        if now < begins {
            Self::NotBegun
        } else if now > ends {
            Self::Over
        } else if left < life / 10 {
            Self::Urgent
        } else if left < life / 3 {
            Self::Due
        } else {
            Self::Well
        }
    }

    /// When the next one should be here: with a third of its life left, as `gapura-pki renew` and
    /// the alarms have it.
    #[must_use]
    pub fn renewal(begins: u64, ends: u64) -> u64 {
        ends.saturating_sub(ends.saturating_sub(begins) / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_with_a_third_and_urgent_with_a_tenth_left() {
        let of = |now| Life::of(1000, 1900, now);
        assert_eq!(of(999), Life::NotBegun);
        assert_eq!(of(1000), Life::Well);
        assert_eq!(of(Life::renewal(1000, 1900)), Life::Well);
        assert_eq!(of(Life::renewal(1000, 1900) + 1), Life::Due);
        assert_eq!(of(1811), Life::Urgent);
        assert_eq!(of(1900), Life::Urgent);
        assert_eq!(of(1901), Life::Over);
    }
}
