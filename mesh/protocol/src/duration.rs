//! Lengths of time as people write them: `250ms`, `20s`, `15m`, `24h`, `30d`.
//!
//! The one reader, for the settings of the programs and for the CA tool. How long is too long is
//! the setting's to say.

use std::time::Duration;

/// A whole number and a unit, and nothing else; `None` for all else, and for what no clock could
/// count.
///
/// A missing unit is refused, so that `30` never means seconds to one reader and days to another.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("250ms", 250),
            ("20s", 20_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(
                parse(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in [
            "",
            "20",
            "s",
            "-1s",
            "+1s",
            "1.5h",
            "1 s",
            "1w",
            "1S",
            "٣d",
            "1é",
            " 1s",
            "1s1",
            "999999999999999999d",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
