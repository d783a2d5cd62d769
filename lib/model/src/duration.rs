//! Prometheus durations: `1h30m`, `500ms`, `0`; units from `y` to `ms`, each once, in falling order.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

const UNITS_MS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a duration into milliseconds.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(0);
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let out_of_range = || DurationError::OutOfRange(text.to_owned());
    let (mut rest, mut total_ms, mut next_unit) = (text, 0i64, 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let at = UNITS_MS.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        if number.is_empty() || at < next_unit {
            return Err(invalid());
        }
        let number: i64 = number.parse().map_err(|_| out_of_range())?;
        let part_ms = number.checked_mul(UNITS_MS[at].1).ok_or_else(out_of_range)?;
        total_ms = total_ms.checked_add(part_ms).ok_or_else(out_of_range)?;
        next_unit = at + 1;
        rest = after;
    }
    Ok(total_ms)
}

/// Prints milliseconds as Prometheus does: `90000` is `1m30s`, `0` is `0s`; years, weeks and days only where exact.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::from(if ms < 0 { "-" } else { "" });
    let mut rest = ms.unsigned_abs();
    for (unit, unit_ms) in UNITS_MS {
        let unit_ms = unit_ms as u64;
        let exact_only = matches!(unit, "y" | "w" | "d");
        if rest < unit_ms || (exact_only && !rest.is_multiple_of(unit_ms)) {
            continue;
        }
        text += &format!("{}{unit}", rest / unit_ms);
        rest %= unit_ms;
    }
    text
}

/// A duration in a configuration file: `30s` on the outside, milliseconds inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DurationMs(pub i64);

impl DurationMs {
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0) as u64)
    }
}

impl<'de> Deserialize<'de> for DurationMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(DurationMs).map_err(serde::de::Error::custom)
    }
}

impl Serialize for DurationMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected_ms: Option<i64>) {
        assert_eq!(parse_duration(text).ok(), expected_ms, "{text}");
    }

    #[test]
    fn parses_what_prometheus_parses() {
        check("1h30m", Some(5_400_000));
        check("500ms", Some(500));
        check("0", Some(0));
        check("1y", Some(31_536_000_000));
        for bad in ["", "1", "m", "30m1h", "1h1h", "1x", "-1m", "1.5h", "99999999999999y"] {
            check(bad, None);
        }
    }

    #[test]
    fn prints_what_prometheus_prints() {
        for (ms, text) in [(0, "0s"), (90_000, "1m30s"), (604_800_000, "1w"), (90_000_000, "25h"), (1, "1ms")] {
            assert_eq!(format_duration(ms), text);
        }
    }
}
