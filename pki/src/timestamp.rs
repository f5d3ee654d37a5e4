//! Moments and lengths of time as this program writes them: RFC 3339 in UTC, whole seconds; `20s`,
//! `15m`, `24h`, `30d`.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use gapura_protocol::clock::Clock;
use gapura_protocol::duration;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::Error;

/// Whole seconds since 1970, UTC: all that a certificate's dates can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The present, as `clock` tells it.
    #[must_use]
    pub fn now(clock: &Clock) -> Self {
        Self(clock.unix())
    }

    /// `seconds` later.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// `seconds` earlier, not before 1970.
    #[must_use]
    pub fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to here; 0 when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same moment as the certificate library wants it.
    #[must_use]
    pub(crate) fn to_time(self) -> OffsetDateTime {
        let latest = i64::try_from(self.0).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(latest).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The same moment as the standard library's wall clock.
    #[must_use]
    pub(crate) fn to_system(self) -> std::time::SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(self.0))
            .unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_time().format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl From<Timestamp> for String {
    fn from(moment: Timestamp) -> Self {
        moment.to_string()
    }
}

impl std::str::FromStr for Timestamp {
    type Err = Error;

    /// RFC 3339 (`2027-01-31T12:00:00Z`), a date alone, or seconds since 1970.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || {
            Error::Usage(format!(
                "`{text}` is not a time; write it like 2027-01-31T12:00:00Z"
            ))
        };
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(Self(seconds));
        }
        let whole = if text.len() == 10 {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        let parsed = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| refused())?;
        u64::try_from(parsed.unix_timestamp())
            .map(Self)
            .map_err(|_| refused())
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// Reads a length of time: a whole number and a unit, `s`, `m`, `h` or `d`.
///
/// # Errors
/// Refuses a missing or unknown unit, so that `--ttl 30` never means seconds to one reader and days
/// to another.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let refused = || {
        Error::Usage(format!(
            "`{text}` is not a length of time; write a number and a unit: 20s, 15m, 24h, 30d"
        ))
    };
    // Certificates know whole seconds.
    duration::parse(text)
        .filter(|length| length.subsec_nanos() == 0)
        .ok_or_else(refused)
}

/// A length of time for people: its two largest units, e.g. `29 d 23 h`.
#[must_use]
pub fn for_people(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (730.., _, _) => format!("{:.1} y", days as f64 / 365.0),
        (10.., _, _) | (_, 0, _) => format!("{days} d"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        assert_eq!(parse_duration("20s").unwrap(), Duration::from_secs(20));
        assert_eq!(
            parse_duration("30d").unwrap(),
            Duration::from_secs(30 * 86_400)
        );
        for bad in [
            "",
            "30",
            "d",
            "-1d",
            "1.5h",
            "1w",
            "250ms",
            "٣d",
            "1é",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_reads_back_what_it_prints() {
        let moment = Timestamp(1_795_415_462);
        assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
        assert_eq!(
            "1970-01-02".parse::<Timestamp>().unwrap(),
            Timestamp(86_400)
        );
        assert!("tomorrow".parse::<Timestamp>().is_err());
    }

    #[test]
    fn people_read_two_units_at_most() {
        assert_eq!(for_people(5), "5 s");
        assert_eq!(for_people(3 * 3600 + 60), "3 h 1 min");
        assert_eq!(for_people(30 * 86_400 + 300), "30 d");
        assert_eq!(for_people(3650 * 86_400), "10.0 y");
    }
}
