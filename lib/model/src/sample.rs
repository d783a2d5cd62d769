//! Float samples and the staleness marker.

use serde::{Deserialize, Serialize};

/// One value of a series at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub t_ms: i64,
    pub value: f64,
}

/// The NaN that ends a series (Prometheus `model/value/value.go`); compare bits, never values.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The sample value that marks a series as gone.
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether a value is the staleness marker (an ordinary NaN is not).
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
