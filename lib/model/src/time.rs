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
