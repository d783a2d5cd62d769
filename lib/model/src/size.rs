//! Sizes as Prometheus writes them: `512MB`, `1.5GB`, `0`; units are powers of 1024, `KiB` is `KB`.

use serde::{Deserialize, Deserializer};

const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// A number of bytes, read from such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// `None` where a text is no size, or one beyond 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].trim_end_matches('B').trim_end_matches('i');
    let power = UNITS.iter().position(|known| known.eq_ignore_ascii_case(unit))? as i32;
    let number: f64 = digits.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    let bytes = number * 1024f64.powi(power);
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("{text:?} is no size, as 512MB"));
        parse_bytes(&text).map(ByteSize).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse_bytes(text), expected, "{text:?}");
    }

    #[test]
    fn sizes_of_every_unit() {
        check("0", Some(0));
        check("512B", Some(512));
        check("1KB", Some(1024));
        check("1.5MiB", Some(3 << 19));
        check("10GB", Some(10 << 30));
        check("2EB", Some(2 << 60));
        check("100EB", None);
        check("-1MB", None);
        check("1XB", None);
        check("MB", None);
        check("", None);
    }
}
