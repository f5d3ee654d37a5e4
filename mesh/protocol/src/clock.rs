//! What time it is, as each program is told.
//!
//! Certificates, tokens and log lines are judged by the wall clock; a program gets its clock as an
//! argument, so that a test can put one gateway a month ahead while another stays in the present.
//! No other file calls `SystemTime::now`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A wall clock that may be shifted. Clones share the shift.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift_seconds: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's own time.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Moves this clock and all its clones by `seconds` against the machine's time. For drills and
    /// tests.
    pub fn shift(&self, seconds: i64) {
        self.shift_seconds.store(seconds, Ordering::Relaxed);
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let shift = self.shift_seconds.load(Ordering::Relaxed);
        let now = SystemTime::now();
        let by = Duration::from_secs(shift.unsigned_abs());
        let moved = if shift < 0 {
            now.checked_sub(by)
        } else {
            now.checked_add(by)
        };
        moved.unwrap_or(now)
    }

    /// Milliseconds since 1970, UTC; 0 for a clock set before then.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Whole seconds since 1970, UTC; 0 for a clock set before then.
    #[must_use]
    pub fn unix(&self) -> u64 {
        unix(self.now())
    }
}

/// Whole seconds since 1970, UTC; 0 for a time before then.
#[must_use]
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A moment as RFC 3339 in UTC with milliseconds, written into a log line or an answer.
pub struct Rfc3339(pub SystemTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let of_day = seconds % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let milli = since.subsec_millis();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

/// A moment as [`Rfc3339`] writes it, for who writes many: what is said of a second is kept for the
/// next moment of the same second.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    second: Option<u64>,
    text: [u8; 24],
}

impl Default for Stamp {
    fn default() -> Self {
        Self {
            second: None,
            text: *b"1970-01-01T00:00:00.000Z",
        }
    }
}

impl Stamp {
    /// The text of `at`.
    pub fn at(&mut self, at: SystemTime) -> &[u8; 24] {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            *self = Self::default();
            // A year of five digits has no room, and no clock shows it: it is 1970.
            let written = Rfc3339(at).to_string();
            if let Ok(text) = written.into_bytes().try_into() {
                self.text = text;
            }
            self.second = Some(since.as_secs());
        }
        let mut milli = since.subsec_millis();
        for digit in self.text[20..23].iter_mut().rev() {
            *digit = b'0' + u8::try_from(milli % 10).unwrap_or(0);
            milli /= 10;
        }
        &self.text
    }
}

/// The moment that many seconds after 1970; one that no clock could show is 1970.
#[must_use]
pub fn from_unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

/// Reads a moment of RFC 3339 in UTC, `2024-02-29T12:00:00Z`; fractions of a second count for
/// nothing. `None` for all else, for days that no month has, and for years outside 1970 to 9999.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked("2024-02-29".len())?;
    let (time, rest) = rest.strip_prefix('T')?.split_at_checked("12:00:00".len())?;
    let fraction = rest.strip_suffix('Z')?;
    let is_fraction = |digits: &str| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    if !fraction.is_empty() && !fraction.strip_prefix('.').is_some_and(is_fraction) {
        return None;
    }
    let number = |digits: &str| {
        let all = digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| all)
    };
    let three = |text: &str, between: char| {
        let mut parts = text.splitn(3, between);
        let mut next = |length: usize| {
            parts
                .next()
                .filter(|part| part.len() == length)
                .and_then(number)
        };
        Some((next(text.len() - 6)?, next(2)?, next(2)?))
    };
    let (year, month, day) = three(date, '-')?;
    let (hour, minute, second) = three(time, ':')?;
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // A day that its month has not comes back as another.
    (civil_from_days(days) == (year, month, day))
        .then(|| from_unix(days * 86_400 + hour * 3600 + minute * 60 + second))
}

/// The day counted from 1970-01-01, of a Gregorian date from then on: the way back of
/// [`civil_from_days`].
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A moment as HTTP messages carry it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
#[must_use]
pub fn http_date(unix_seconds: u64) -> [u8; 29] {
    const DAYS: &[u8] = b"ThuFriSatSunMonTueWed"; // 1970-01-01 was a Thursday
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    fn name(names: &[u8], at: u64) -> [u8; 3] {
        let at = usize::try_from(at * 3).unwrap_or(0);
        let found = names.get(at..at + 3).and_then(|name| name.try_into().ok());
        found.unwrap_or(*b"???")
    }
    fn two(number: u64) -> [u8; 2] {
        // Taken modulo ten, it fits.
        [number / 10 % 10, number % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0))
    }
    // A year of four digits: the last second of 9999 stands for all after it.
    let seconds = unix_seconds.min(253_402_300_799);
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let of_day = seconds % 86_400;
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(&name(DAYS, seconds / 86_400 % 7));
    text[5..7].copy_from_slice(&two(day));
    text[8..11].copy_from_slice(&name(MONTHS, month - 1));
    text[12..14].copy_from_slice(&two(year / 100));
    text[14..16].copy_from_slice(&two(year % 100));
    text[17..19].copy_from_slice(&two(of_day / 3600));
    text[20..22].copy_from_slice(&two(of_day / 60 % 60));
    text[23..25].copy_from_slice(&two(of_day % 60));
    text
}

/// The Gregorian date of a day counted from 1970-01-01, by shifting the year to begin in March so
/// that the leap day comes last.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted / 146_097; // 400 years
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(seconds: u64) -> String {
        Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn prints_the_epoch_a_leap_day_and_the_last_second_of_a_century() {
        assert_eq!(printed(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(printed(1_709_164_799), "2024-02-28T23:59:59.000Z");
        assert_eq!(printed(1_709_208_000), "2024-02-29T12:00:00.000Z");
        assert_eq!(printed(4_102_444_799), "2099-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_stamp_is_the_same_text_in_whatever_order_moments_come() {
        let mut stamp = Stamp::default();
        for millis in [
            0,
            1,
            999,
            1_000,
            999,
            1_709_164_799_999,
            1_709_164_799_007,
            1_709_164_800_000,
            4_102_444_799_120,
        ] {
            let at = UNIX_EPOCH + Duration::from_millis(millis);
            let text = stamp.at(at).to_vec();
            assert_eq!(String::from_utf8(text), Ok(Rfc3339(at).to_string()));
        }
        let far = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(stamp.at(far), b"1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_printed_is_read_back_and_nothing_else_is() {
        for seconds in [0, 1_709_164_799, 1_709_208_000, 4_102_444_799] {
            assert_eq!(parse_rfc3339(&printed(seconds)), Some(from_unix(seconds)));
        }
        for text in ["2024-02-29T12:00:00Z", "2024-02-29T12:00:00.25Z"] {
            assert_eq!(parse_rfc3339(text).map(unix), Some(1_709_208_000));
        }
        for bad in [
            "",
            "2024-02-29",
            "2023-02-29T12:00:00Z",
            "2024-13-01T12:00:00Z",
            "2024-00-01T12:00:00Z",
            "2024-02-00T12:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:60:00Z",
            "2024-02-29T12:00:00",
            "2024-02-29T12:00:00.Z",
            "2024-02-29T12:00:00+01:00",
            "2024-02-29 12:00:00Z",
            "+024-02-29T12:00:00Z",
            "1969-12-31T23:59:59Z",
            "２024-02-29T12:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_date_is_written_as_http_has_it() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_709_208_000, "Thu, 29 Feb 2024 12:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&http_date(seconds)), Ok(text));
        }
    }

    #[test]
    fn a_shift_moves_every_clone() {
        let clock = Clock::system();
        let other = clock.clone();
        let before = clock.unix();
        other.shift(86_400);
        assert!(clock.unix() >= before + 86_400);
        other.shift(-86_400);
        assert!(clock.unix() < before);
    }
}
