//! Instants are integers since the Unix epoch: `_ms` for samples, `_ns` for lines.

use std::time::{SystemTime, UNIX_EPOCH};

/// Length of a day partition.
pub const MS_PER_DAY: i64 = 86_400_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;

/// The wall clock in milliseconds. Cores take time as an argument; only edges call this.
pub fn now_ms() -> i64 {
    now_ns() / NS_PER_MS
}

/// The wall clock in nanoseconds; 0 for a clock set before 1970.
pub fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// Parses RFC 3339 (`2026-11-20T06:25:00.5+01:00`) into nanoseconds.
pub fn parse_rfc3339_ns(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

/// RFC 3339 in UTC with milliseconds, as Alertmanager and Prometheus print instants.
pub fn format_rfc3339_ms(ms: i64) -> String {
    let instant = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
