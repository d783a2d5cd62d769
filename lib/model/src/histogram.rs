//! Native histograms, as Prometheus defines them (its `model/histogram`, and the specification of native histograms).

/// The schema of histograms whose bucket bounds are their own ([`Histogram::custom_bounds`]).
pub const CUSTOM_SCHEMA: i8 = -53;

/// One native histogram. Counts are floats: integer histograms are exact in them up to 2⁵³.
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
