//! Which traces are recorded, as `OTEL_TRACES_SAMPLER` says it.
//!
//! In: a request's place in its trace. Out: yes or no; the same for one trace on every program with
//! the same ratio, whoever asks.

use gapura_protocol::trace::Trace;

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Whoever sent the request has decided.
    parent_based: bool,
    /// Else so many of 2^63.
    below: u64,
}

/// All of them.
const ALL: u64 = 1 << 63;

impl Sampler {
    /// All traces.
    pub const ALWAYS: Self = Self {
        parent_based: false,
        below: ALL,
    };

    /// None.
    pub const NEVER: Self = Self {
        parent_based: false,
        below: 0,
    };

    /// This share of all traces, from 0 to 1, by their ids.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub fn ratio(ratio: f64) -> Self {
        // Such a cast keeps within the type's bounds, and makes 0 of what is no number.
        let below = (ratio * ALL as f64) as u64;
        Self {
            parent_based: false,
            below: below.min(ALL),
        }
    }

    /// The same for traces that begin here; of others whoever sent them has decided.
    #[must_use]
    pub const fn parent_based(self) -> Self {
        Self {
            parent_based: true,
            ..self
        }
    }

    /// Whether `trace` is to be recorded.
    #[must_use]
    pub fn takes(self, trace: &Trace) -> bool {
        if self.parent_based && trace.parent().is_some() {
            trace.is_sampled()
        } else {
            trace.id.fraction() < self.below
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(last: &str, flags: &str) -> Trace {
        let text = format!("00-4bf92f3577b34da6{last}-00f067aa0ba902b7-{flags}");
        Trace::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_ratio_is_a_share_of_all_ids() {
        for (ratio, last, takes) in [
            (0.0, "0000000000000000", false),
            (1.0, "ffffffffffffffff", true),
            (0.5, "7fffffffffffffff", true),
            (0.5, "8000000000000000", false),
            (0.25, "3fffffffffffffff", true),
            (0.25, "4000000000000000", false),
        ] {
            let sampler = Sampler::ratio(ratio);
            assert_eq!(sampler.takes(&trace(last, "00")), takes, "{ratio} {last}");
        }
        assert_eq!(Sampler::ratio(1.0), Sampler::ALWAYS);
        assert_eq!(Sampler::ratio(0.0), Sampler::NEVER);
        let taken = (0..10_000_u64)
            .map(|seed| u128::from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .filter(|random| Sampler::ratio(0.1).takes(&Trace::begin(*random)))
            .count();
        assert!((900..1100).contains(&taken), "{taken}");
    }

    #[test]
    fn a_parent_decides_where_there_is_one() {
        let low = "0000000000000000";
        for (sampler, flags, takes) in [
            (Sampler::NEVER.parent_based(), "01", true),
            (Sampler::ALWAYS.parent_based(), "00", false),
            (Sampler::NEVER, "01", false),
            (Sampler::ALWAYS, "00", true),
        ] {
            assert_eq!(sampler.takes(&trace(low, flags)), takes, "{sampler:?}");
        }
        assert!(Sampler::ALWAYS.parent_based().takes(&Trace::begin(1)));
        assert!(!Sampler::NEVER.parent_based().takes(&Trace::begin(1)));
    }
}
