//! Histograms as protocols carry them, and what makes them well formed.

use super::display::shortest;
use super::{BucketSpan, Buckets, CUSTOM_SCHEMA, Histogram, HistogramError, MAX_SCHEMA, MIN_SCHEMA, ResetHint};

/// Schemas that are reserved for exponential buckets; those above [`MAX_SCHEMA`] are taken at its resolution.
const MIN_RESERVED_SCHEMA: i32 = -9;
const MAX_RESERVED_SCHEMA: i32 = 52;

const NEGATIVE_OFFSET: &str = "histogram has a span whose offset is negative";
const SPANS_MISMATCH: &str = "histogram spans specify different number of buckets than provided";
const NEGATIVE_BUCKET: &str = "histogram has a bucket whose observation count is negative";

/// A histogram from a protocol (protobuf scrapes, remote write), not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct WireHistogram {
    pub schema: i32,
    pub reset_hint: ResetHint,
    pub zero_threshold: f64,
    pub sum: f64,
    pub counts: WireCounts,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    pub custom_bounds: Vec<f64>,
}

/// Integers come as differences between buckets, the first to 0; floats as they are.
#[derive(Debug, Clone, PartialEq)]
pub enum WireCounts {
    Integer { count: u64, zero_count: u64, positive_deltas: Vec<i64>, negative_deltas: Vec<i64> },
    Float { count: f64, zero_count: f64, positive: Vec<f64>, negative: Vec<f64> },
}

impl WireHistogram {
    /// The histogram, if it is one. A stale marker needs no more than its sum.
    pub fn convert(self) -> Result<Histogram, HistogramError> {
        if crate::is_stale(self.sum) {
            return Ok(Histogram { reset_hint: self.reset_hint, ..Histogram::stale() });
        }
        let is_custom = self.schema == i32::from(CUSTOM_SCHEMA);
        if !is_custom && !(MIN_RESERVED_SCHEMA..=MAX_RESERVED_SCHEMA).contains(&self.schema) {
            return invalid(format!(
                "histogram has an unknown schema, which must be between {MIN_RESERVED_SCHEMA} and {MAX_RESERVED_SCHEMA} \
                 for exponential buckets, or {CUSTOM_SCHEMA} for custom buckets, got schema {}",
                self.schema
            ));
        }
        let integers = match &self.counts {
            WireCounts::Integer { count, zero_count, .. } => Some((*count, *zero_count)),
            WireCounts::Float { .. } => None,
        };
        let (count, zero_count, positive, negative) = match self.counts {
            WireCounts::Integer { count, zero_count, positive_deltas, negative_deltas } => {
                (count as f64, zero_count as f64, absolute(&positive_deltas), absolute(&negative_deltas))
            }
            WireCounts::Float { count, zero_count, positive, negative } => (count, zero_count, positive, negative),
        };
        let mut histogram = Histogram {
            schema: self.schema as i8,
            reset_hint: self.reset_hint,
            zero_threshold: self.zero_threshold,
            zero_count,
            count,
            sum: self.sum,
            positive: Buckets { spans: self.positive_spans, counts: positive },
            negative: Buckets { spans: self.negative_spans, counts: negative },
            custom_bounds: self.custom_bounds,
        };
        if histogram.schema > MAX_SCHEMA {
            for buckets in [&histogram.positive, &histogram.negative] {
                check_spans(buckets)?;
            }
            histogram.reduce_resolution(MAX_SCHEMA);
        }
        validate(&histogram)?;
        integers.map_or(Ok(()), |(count, zero_count)| check_count(&histogram, count, zero_count))?;
        Ok(histogram)
    }
}

/// Counts of buckets from their differences.
fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0i64;
    deltas
        .iter()
        .map(|delta| {
            count = count.saturating_add(*delta);
            count as f64
        })
        .collect()
}

fn invalid<T>(text: impl Into<String>) -> Result<T, HistogramError> {
    Err(HistogramError::Invalid(text.into()))
}

/// Integer histograms count every observation in a bucket, but for NaN, which only the count has.
fn check_count(histogram: &Histogram, count: u64, zero_count: u64) -> Result<(), HistogramError> {
    let counts = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    let found = counts.fold(zero_count, |sum, count| sum.saturating_add(*count as u64));
    let saw_nan = histogram.sum.is_nan();
    if if saw_nan { found <= count } else { found == count } {
        return Ok(());
    }
    let reason = if saw_nan {
        "histogram's observation count should be at least the number of observations found in the buckets"
    } else {
        "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    };
    invalid(format!("{found} observations found in buckets, but the Count field is {count}: {reason}"))
}

pub(super) fn validate(histogram: &Histogram) -> Result<(), HistogramError> {
    if histogram.uses_custom_buckets() {
        validate_custom(histogram)?;
    } else if (MIN_SCHEMA..=MAX_SCHEMA).contains(&histogram.schema) {
        on_side("positive", check_spans(&histogram.positive))?;
        on_side("negative", check_spans(&histogram.negative))?;
        on_side("negative", check_counts(&histogram.negative))?;
        if histogram.zero_count < 0.0 {
            let count = shortest(histogram.zero_count);
            return invalid(format!("zero bucket has observation count of {count}: {NEGATIVE_BUCKET}"));
        }
        if !histogram.custom_bounds.is_empty() {
            return invalid("histogram with exponential schema must not have custom bounds");
        }
    } else {
        return invalid(format!(
            "histogram has an invalid schema, which must be between {MIN_SCHEMA} and {MAX_SCHEMA} for exponential \
             buckets, or {CUSTOM_SCHEMA} for custom buckets, got schema {}",
            histogram.schema
        ));
    }
    if histogram.count < 0.0 {
        let count = shortest(histogram.count);
        return invalid(format!("observation count is  {count}: histogram's observation count is negative"));
    }
    on_side("positive", check_counts(&histogram.positive))
}

fn validate_custom(histogram: &Histogram) -> Result<(), HistogramError> {
    if let Err(HistogramError::Invalid(reason)) = check_custom_bounds(&histogram.custom_bounds, &histogram.positive) {
        return invalid(format!("custom buckets: {reason}"));
    }
    let reason = if histogram.zero_count != 0.0 {
        "custom buckets: must have zero count of 0"
    } else if histogram.zero_threshold != 0.0 {
        "custom buckets: must have zero threshold of 0"
    } else if !histogram.negative.spans.is_empty() {
        "custom buckets: must not have negative spans"
    } else if !histogram.negative.counts.is_empty() {
        "custom buckets: must not have negative buckets"
    } else {
        return Ok(());
    };
    invalid(reason)
}

fn on_side(side: &str, checked: Result<(), HistogramError>) -> Result<(), HistogramError> {
    match checked {
        Err(HistogramError::Invalid(reason)) => invalid(format!("{side} side: {reason}")),
        other => other,
    }
}

fn check_spans(buckets: &Buckets) -> Result<(), HistogramError> {
    if let Some((i, span)) = buckets.spans.iter().enumerate().skip(1).find(|(_, span)| span.offset < 0) {
        return invalid(format!("span number {} with offset {}: {NEGATIVE_OFFSET}", i + 1, span.offset));
    }
    check_lengths(buckets)
}

fn check_lengths(buckets: &Buckets) -> Result<(), HistogramError> {
    let needed: u64 = buckets.spans.iter().map(|span| u64::from(span.length)).sum();
    let found = buckets.counts.len();
    if needed == found as u64 {
        return Ok(());
    }
    invalid(format!("spans need {needed} buckets, have {found} buckets: {SPANS_MISMATCH}"))
}

fn check_counts(buckets: &Buckets) -> Result<(), HistogramError> {
    match buckets.counts.iter().enumerate().find(|(_, count)| **count < 0.0) {
        Some((i, count)) => {
            let count = shortest(*count);
            invalid(format!("bucket number {} has observation count of {count}: {NEGATIVE_BUCKET}", i + 1))
        }
        None => Ok(()),
    }
}

fn check_custom_bounds(bounds: &[f64], buckets: &Buckets) -> Result<(), HistogramError> {
    for (i, bound) in bounds.iter().enumerate() {
        if bound.is_nan() {
            return invalid("histogram custom bounds must not be NaN");
        }
        if i > 0 && *bound <= bounds[i - 1] {
            return invalid(format!(
                "previous bound is {:.6} and current is {bound:.6}: histogram custom bounds must be in strictly increasing order",
                bounds[i - 1]
            ));
        }
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return invalid("last +Inf bound must not be explicitly defined: histogram custom bounds must be finite");
    }
    if let Some((i, span)) = buckets.spans.iter().enumerate().find(|(_, span)| span.offset < 0) {
        return invalid(format!("span number {} with offset {}: {NEGATIVE_OFFSET}", i + 1, span.offset));
    }
    check_lengths(buckets)?;
    let reach: u64 =
        buckets.spans.iter().map(|span| u64::from(span.length) + u64::from(span.offset.unsigned_abs())).sum();
    if bounds.len() as u64 + 1 < reach {
        return invalid(format!(
            "only {} custom bounds defined which is insufficient to cover total span length of {reach}: \
             histogram custom bounds are too few",
            bounds.len()
        ));
    }
    Ok(())
}
