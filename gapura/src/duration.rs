//! A duration as people type it: a number and a unit.

use std::time::Duration;

/// Reads `20s`, `15m`, `24h` or `30d`.
///
/// # Errors
/// A sentence that names the form, for anything else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("`{text}` is no duration; write a number and a unit, as in 20s, 15m, 24h or 30d");
    let unit = text.chars().next_back().ok_or_else(wanted)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wanted()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wanted());
    }
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_number_and_a_unit_and_nothing_else() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("24h"), duration("1d"));
        for text in ["", "h", "1", "-1h", "1.5h", "1 h", "1h ", "1H", "1é", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
