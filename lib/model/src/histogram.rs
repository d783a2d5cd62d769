//! Native histograms, as Prometheus defines them (its `model/histogram`, and the specification of native histograms).
//!
//! # Contracts
//! - A histogram that [`WireHistogram::convert`] gave, or that [`Histogram::validate`] takes, has as many counts as its
//!   spans are long, and everything here gives such histograms again. Of others nothing panics; results mean nothing.
//! - Counts are floats. Those of integer histograms are exact up to 2⁵³.
//! - Error texts are Prometheus' own: its users' tests compare them.

mod arithmetic;
mod bounds;
mod buckets;
mod classic;
mod display;
mod reset;
mod trim;
mod wire;

pub use arithmetic::Combined;
pub use buckets::{Bucket, Indexed};
pub use classic::ClassicHistogram;
pub use wire::{WireCounts, WireHistogram};

use crate::{is_stale, stale_marker};

/// The schema of histograms whose bucket bounds are their own ([`Histogram::custom_bounds`]).
pub const CUSTOM_SCHEMA: i8 = -53;
/// The widest exponential buckets.
pub const MIN_SCHEMA: i8 = -4;
/// The narrowest exponential buckets.
pub const MAX_SCHEMA: i8 = 8;

/// One native histogram.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// −4 to 8: bucket bounds are powers of 2^(2^-schema); or [`CUSTOM_SCHEMA`].
    pub schema: i8,
    pub reset_hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive: Buckets,
    pub negative: Buckets,
    /// Upper bounds of custom buckets, rising, without +Inf. Empty for every other schema.
    pub custom_bounds: Vec<f64>,
}

/// The filled buckets of one sign.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets {
    pub spans: Vec<BucketSpan>,
    /// Absolute counts, as many as the spans are long.
    pub counts: Vec<f64>,
}

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketSpan {
    /// Empty buckets since the span before; for the first span, the index of its first bucket.
    pub offset: i32,
    pub length: u32,
}

/// What is known about a counter reset right before this histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    /// The histogram is no counter.
    Gauge,
}

/// Why a histogram is none, or why two do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    IncompatibleSchemas,
    #[error("{0}")]
    Invalid(String),
}

impl Histogram {
    /// The marker that ends a series of histograms.
    pub fn stale() -> Histogram {
        Histogram { sum: stale_marker(), ..Histogram::default() }
    }

    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Whether two are the same data: floats by their bits, buckets by their places, filled or not. Reset hints do not
    /// count.
    pub fn equals(&self, other: &Histogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && self.custom_bounds == other.custom_bounds
            && self.negative.equals(&other.negative)
            && self.positive.equals(&other.positive)
    }

    /// What Prometheus takes a histogram to weigh in memory, which its limits on samples per query count in.
    pub fn size_bytes(&self) -> usize {
        const STRUCT_BYTES: usize = 168;
        let spans = self.positive.spans.len() + self.negative.spans.len();
        let floats = self.positive.counts.len() + self.negative.counts.len() + self.custom_bounds.len();
        STRUCT_BYTES + 8 * (spans + floats)
    }

    /// Whether a number in it became infinite.
    pub fn has_overflow(&self) -> bool {
        let counts = self.positive.counts.iter().chain(&self.negative.counts);
        [self.zero_count, self.count, self.sum].iter().chain(counts).chain(&self.custom_bounds).any(|x| x.is_infinite())
    }

    /// Removes empty buckets, so that equal histograms have equal buckets.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Without loss of counts, at a lower resolution (`schema` at most this one's). Custom buckets have no other
    /// resolution: they are copied. As in Prometheus, what is known of resets is lost where the schema changes.
    pub fn copy_to_schema(&self, schema: i8) -> Histogram {
        if schema == self.schema || self.uses_custom_buckets() {
            return self.clone();
        }
        assert!(schema != CUSTOM_SCHEMA && schema < self.schema, "resolution is only reduced");
        let mut copy = Histogram { reset_hint: ResetHint::Unknown, ..self.clone() };
        copy.reduce_resolution(schema);
        copy
    }

    /// Merges buckets to those of a lower schema.
    fn reduce_resolution(&mut self, schema: i8) {
        let shift = (self.schema - schema) as u32;
        self.positive = self.positive.merged(shift);
        self.negative = self.negative.merged(shift);
        self.schema = schema;
    }

    /// Checks that counts, spans and bounds fit together. That the count is the sum of the buckets is not checked: floats
    /// round.
    pub fn validate(&self) -> Result<(), HistogramError> {
        wire::validate(self)
    }
}

#[cfg(test)]
pub(crate) mod tests;
