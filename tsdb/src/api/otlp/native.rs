//! Histograms of OpenTelemetry as native histograms.

use model::{BucketSpan, CUSTOM_SCHEMA, Histogram, MIN_SCHEMA, ResetHint, WireCounts, WireHistogram};

use super::message::{Buckets, ExponentialPoint, HistogramPoint, has_no_value};

/// The zero bucket of a point that names none.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Up to so many empty buckets stay in a span: shorter than another span.
const MAX_GAP: i64 = 2;

/// Buckets of base 2^(2^-scale). A scale that is too fine is merged.
pub fn of_exponential(point: ExponentialPoint) -> Result<Histogram, String> {
    if has_no_value(point.flags) {
        return Ok(Histogram::stale());
    }
    if point.scale < i32::from(MIN_SCHEMA) {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {MIN_SCHEMA}, was {}",
            point.scale
        ));
    }
    // Bucket 0 begins above 1 there and ends with 1 here.
    let layout = |buckets: Option<Buckets>| {
        let Buckets { offset, bucket_counts } = buckets.unwrap_or_default();
        spans_of(i64::from(offset) + 1, &bucket_counts)
    };
    let ((positive_spans, positive_deltas), (negative_spans, negative_deltas)) =
        (layout(point.positive)?, layout(point.negative)?);
    let zero_threshold = if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD };
    let counts =
        WireCounts::Integer { count: point.count, zero_count: point.zero_count, positive_deltas, negative_deltas };
    let wire = WireHistogram {
        schema: point.scale,
        reset_hint: ResetHint::Unknown,
        zero_threshold,
        sum: point.sum.unwrap_or(0.0),
        counts,
        positive_spans,
        negative_spans,
        custom_bounds: Vec::new(),
    };
    wire.convert().map_err(|error| error.to_string())
}

/// Buckets with bounds of their own.
pub fn of_explicit(point: &HistogramPoint) -> Result<Histogram, String> {
    if has_no_value(point.flags) {
        return Ok(Histogram::stale());
    }
    let (positive_spans, positive_deltas) = spans_of(0, &point.bucket_counts)?;
    let counts =
        WireCounts::Integer { count: point.count, zero_count: 0, positive_deltas, negative_deltas: Vec::new() };
    let wire = WireHistogram {
        schema: i32::from(CUSTOM_SCHEMA),
        reset_hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        sum: point.sum.unwrap_or(0.0),
        counts,
        positive_spans,
        negative_spans: Vec::new(),
        custom_bounds: point.explicit_bounds.clone(),
    };
    wire.convert().map_err(|error| error.to_string())
}

/// Spans and differences of the filled buckets, the first of which has this index.
fn spans_of(first: i64, counts: &[u64]) -> Result<(Vec<BucketSpan>, Vec<i64>), String> {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    let (mut next, mut before) = (0i64, 0i64);
    for (index, count) in (first..).zip(counts).filter(|(_, count)| **count > 0) {
        let count = i64::try_from(*count).map_err(|_| "a bucket's count is over the range of integers".to_owned())?;
        let gap = index - next;
        match spans.last_mut() {
            Some(span) if gap <= MAX_GAP => {
                for _ in 0..gap {
                    deltas.push(-before);
                    before = 0;
                }
                // No span is longer than the counts, which a body bounds.
                span.length += gap as u32 + 1;
            }
            _ => {
                let offset = i32::try_from(gap).map_err(|_| "a bucket's index is over the range of integers")?;
                spans.push(BucketSpan { offset, length: 1 });
            }
        }
        deltas.push(count - before);
        (before, next) = (count, index + 1);
    }
    Ok((spans, deltas))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialPoint {
        let positive = Some(Buckets { offset, bucket_counts: counts.to_vec() });
        let count = counts.iter().fold(1u64, |sum, count| sum.saturating_add(*count));
        ExponentialPoint { scale, positive, count, zero_count: 1, sum: Some(1.5), ..ExponentialPoint::default() }
    }

    /// Schema, and the filled buckets.
    type Layout<'a> = (i8, &'a [(i32, f64)]);

    fn check(scale: i32, offset: i32, counts: &[u64], expected: Result<Layout<'_>, &str>) {
        match (of_exponential(point(scale, offset, counts)), expected) {
            (Ok(histogram), Ok((schema, buckets))) => {
                let found: Vec<_> = histogram.positive.indexed().filter(|(_, count)| *count > 0.0).collect();
                assert_eq!((histogram.schema, found.as_slice()), (schema, buckets));
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn buckets_move_by_one_and_merge_where_they_are_too_fine() {
        check(0, 0, &[1, 2], Ok((0, &[(1, 1.0), (2, 2.0)])));
        check(3, -5, &[0, 1, 0, 0, 0, 0, 2, 0], Ok((3, &[(-3, 1.0), (2, 2.0)])));
        check(10, 0, &[1, 2, 3, 4, 5], Ok((8, &[(1, 10.0), (2, 5.0)])));
        check(-5, 0, &[1], Err("Scale must be >= -4, was -5"));
        check(0, i32::MAX, &[1], Err("index"));
        check(0, 0, &[u64::MAX], Err("count"));
    }

    #[test]
    fn explicit_buckets_keep_their_bounds() {
        let point = HistogramPoint {
            count: 6,
            sum: Some(9.0),
            bucket_counts: vec![0, 1, 0, 0, 0, 5],
            explicit_bounds: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            ..HistogramPoint::default()
        };
        let histogram = of_explicit(&point).expect("it is one");
        assert_eq!(
            histogram.positive.indexed().filter(|(_, count)| *count > 0.0).collect::<Vec<_>>(),
            [(1, 1.0), (5, 5.0)]
        );
        assert_eq!((histogram.positive.spans.len(), histogram.custom_bounds.len()), (2, 5));
        let unordered = HistogramPoint { explicit_bounds: vec![2.0, 1.0, 3.0, 4.0, 5.0], ..point };
        assert!(of_explicit(&unordered).is_err());
    }

    proptest! {
        #[test]
        fn any_layout_is_a_histogram_or_none(scale in -12i32..60, offset in any::<i32>(), counts in prop::collection::vec(0u64..3, 0..40)) {
            if let Ok(histogram) = of_exponential(point(scale, offset, &counts)) {
                prop_assert!(histogram.validate().is_ok());
                let filled: f64 = histogram.positive.counts.iter().sum();
                prop_assert_eq!(filled, counts.iter().sum::<u64>() as f64);
            }
        }
    }
}
