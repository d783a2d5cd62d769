//! The vocabulary of Binnacle: what travels from the agent over the bus to the stores.
//!
//! No I/O, no runtime, no storage: only values, and the rules that make them well formed.
//! Everything else in the workspace may depend on this crate; it depends on nothing of ours.

mod alert;
mod batch;
mod duration;
pub mod exposition;
mod histogram;
mod identity;
mod labels;
mod level;
mod matcher;
mod relabel;
mod sample;
mod size;
mod time;
pub mod varint;

pub use alert::{Alert, Fingerprint};
pub use batch::{
    AlertEvents, Batch, Deletes, Exemplar, FileId, Floats, ForgetFiles, HistogramSample, LineDeletes, LineRef,
    LogBatch, LogColumns, MetricBatch, MetricKind, MetricMetadata, Origin, SeriesSamples,
};
pub use duration::{DurationError, DurationMs, format_duration, parse_duration};
pub use histogram::{
    Bucket, BucketSpan, Buckets, CUSTOM_SCHEMA, ClassicHistogram, Combined, Histogram, HistogramError, Indexed,
    MAX_SCHEMA, MIN_SCHEMA, ResetHint, WireCounts, WireHistogram,
};
pub use identity::{IdHasher, IdMap};
pub use labels::{Label, Labels, LabelsBuilder, METRIC_NAME, hash_pairs, is_label_name, is_metric_name, unescape_name};
pub use level::{LEVEL_FIELDS, LevelFinder, UNKNOWN_LEVEL, known_level, level_of_severity};
pub use matcher::{MatchOp, Matcher, MatcherError, matches_all};
pub use relabel::{RelabelAction, RelabelConfig, relabel};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_marker};
pub use size::{ByteSize, parse_bytes};
pub use time::{MS_PER_DAY, NS_PER_MS, format_rfc3339_ms, now_ms, now_ns, parse_rfc3339_ns};

/// The tenant of data that named none (header `X-Scope-OrgID` absent).
pub const DEFAULT_TENANT: &str = "default";
/// A tailed or pushed line longer than this is cut here and marked as truncated.
pub const MAX_LINE_BYTES: usize = 512 * 1024;
