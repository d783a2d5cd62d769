//! Quantiles and fractions of single histograms (Prometheus `promql/quantile.go`).

use model::{Bucket, Histogram};

use super::column::is_present;
use super::notes::{Fixed, Note, Notes};
use crate::Span;

/// How much two counts may differ, in relation to their size, and still be taken for the same.
pub(super) const ROUNDING: f64 = 1e-12;

/// The buckets of one classic histogram at one instant: upper bounds, rising, and how many observations lie up to them.
#[derive(Debug, Default)]
pub(super) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Takes what sorted buckets have at a step; those of the same bound are added up.
    pub fn fill(&mut self, buckets: &[(f64, &[f64])], step: usize) {
        self.0.clear();
        for (bound, counts) in buckets {
            let count = counts[step];
            match self.0.last_mut() {
                _ if !is_present(count) => {}
                Some(last) if last.0 == *bound => last.1 += count,
                _ => self.0.push((*bound, count)),
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has_infinity(&self) -> bool {
        self.0.last().is_some_and(|(bound, _)| *bound == f64::INFINITY)
    }

    /// Makes counts rise. What rounding explains is changed silently.
    fn make_monotonic(&mut self, t_ms: i64) -> Option<Fixed> {
        let (min_bucket, max_bucket) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut fixed = Fixed { from_ms: t_ms, to_ms: t_ms, min_bucket, max_bucket, max_diff: 0.0, samples: 1 };
        let mut was_fixed = false;
        let mut before = self.0[0].1;
        for (bound, count) in self.0.iter_mut().skip(1) {
            let difference = before - *count;
            if is_about(before, *count) {
                *count = before;
            } else if *count < before {
                *count = before;
                was_fixed = true;
                fixed.min_bucket = fixed.min_bucket.min(*bound);
                fixed.max_bucket = fixed.max_bucket.max(*bound);
                fixed.max_diff = fixed.max_diff.max(difference);
            } else {
                before = *count;
            }
        }
        was_fixed.then_some(fixed)
    }

    /// Interpolates linearly within the bucket that holds the rank; and says how counts had to be fixed.
    pub fn quantile(&mut self, q: f64, t_ms: i64) -> (f64, Option<Fixed>) {
        if let Some(value) = trivial_quantile(q) {
            return (value, None);
        }
        if !self.has_infinity() {
            return (f64::NAN, None);
        }
        let fixed = self.make_monotonic(t_ms);
        let buckets = &self.0;
        let last = buckets.len() - 1;
        let observations = buckets[last].1;
        if last == 0 || observations == 0.0 {
            return (f64::NAN, fixed);
        }
        let rank = q * observations;
        let reaches = |count: f64| count >= rank;
        let at = buckets[..last].partition_point(|(_, count)| !reaches(*count));
        (at_rank(rank, at, last, |i| buckets[i]), fixed)
    }

    /// Which part of the observations lies between two bounds.
    pub fn fraction(&self, lower: f64, upper: f64) -> f64 {
        let count = self.0[self.0.len() - 1].1;
        if !self.has_infinity() || count == 0.0 || lower.is_nan() || upper.is_nan() {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        let first = if self.0[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let mut start = first;
        let mut below = 0.0;
        let (mut low, mut high) = (Rank::new(lower), Rank::new(upper));
        for (end, total) in &self.0 {
            let between = |v: f64| {
                if start == f64::NEG_INFINITY { *total } else { below + (total - below) * (v - start) / (end - start) }
            };
            low.pass(start, *end, below, between);
            high.pass(start, *end, below, between);
            (start, below) = (*end, *total);
        }
        (high.at_most(count) - low.at_most(count)) / count
    }
}

/// The value at a rank that falls in the bucket `at` of those up to `last`, whose upper bound is infinite. `bucket` gives
/// an upper bound, and how many observations lie up to it.
pub(super) fn at_rank(rank: f64, at: usize, last: usize, bucket: impl Fn(usize) -> (f64, f64)) -> f64 {
    if at == last {
        return bucket(last - 1).0;
    }
    let (end, count) = bucket(at);
    if at == 0 && end <= 0.0 {
        return end;
    }
    let (start, below) = if at > 0 { bucket(at - 1) } else { (0.0, 0.0) };
    start + (end - start) * ((rank - below) / (count - below))
}

/// How many observations lie below a value, found while buckets pass in rising order.
struct Rank {
    value: f64,
    found: Option<f64>,
}

impl Rank {
    fn new(value: f64) -> Rank {
        Rank { value, found: None }
    }

    /// The bucket from `start` to `end`, `below` observations being below it.
    fn pass(&mut self, start: f64, end: f64, below: f64, between: impl Fn(f64) -> f64) {
        if self.found.is_some() {
            return;
        }
        if start >= self.value {
            self.found = Some(below);
        } else if end > self.value {
            self.found = Some(between(self.value));
        }
    }

    fn at_most(&self, count: f64) -> f64 {
        self.found.map_or(count, |found| if found > count { count } else { found })
    }
}

pub(super) fn is_about(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (size, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return difference < ROUNDING * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < ROUNDING
}

fn trivial_quantile(q: f64) -> Option<f64> {
    match () {
        () if q.is_nan() => Some(f64::NAN),
        () if q < 0.0 => Some(f64::NEG_INFINITY),
        () if q > 1.0 => Some(f64::INFINITY),
        () => None,
    }
}

/// The zero bucket reaches only to the side on which there are observations.
fn cut_at_zero(mut bucket: Bucket, histogram: &Histogram) -> Bucket {
    let (negative, positive) = (histogram.negative.counts.is_empty(), histogram.positive.counts.is_empty());
    match (negative, positive) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
    bucket
}

/// The bucket in which a rank falls, how many observations are counted up to its end from the side that is counted from,
/// and how many there are in all buckets.
fn find_bucket(buckets: &mut dyn Iterator<Item = Bucket>, rank: f64) -> (Option<Bucket>, f64) {
    let (mut found, mut count) = (None, 0.0);
    for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
        count += bucket.count;
        found = Some(bucket);
        if count >= rank {
            break;
        }
    }
    (found, count)
}

/// Interpolates within the bucket that holds the rank: linearly in custom buckets and around zero, else exponentially.
/// Observations of NaN are in no bucket: they lie above all.
pub(super) fn native_quantile(q: f64, histogram: &Histogram, metric: &str, span: Span, notes: &mut Notes) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if histogram.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    let has_nan = histogram.sum.is_nan();
    let from_below = has_nan || q < 0.5;
    let mut rank = if from_below { q } else { 1.0 - q } * histogram.count;
    let mut rising = histogram.all_buckets();
    let mut falling = histogram.all_buckets().rev();
    let buckets: &mut dyn Iterator<Item = Bucket> = if from_below { &mut rising } else { &mut falling };
    let (found, mut count) = find_bucket(buckets, rank);
    let Some(mut bucket) = found else {
        if has_nan && rank > 0.0 {
            notes.add(Note::quantile_is_nan(metric, span));
        }
        return f64::NAN;
    };
    let is_custom = histogram.uses_custom_buckets();
    if !is_custom && bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = cut_at_zero(bucket, histogram);
    } else if is_custom && bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return bucket.upper;
        }
        bucket.lower = 0.0;
    } else if is_custom && bucket.upper == f64::INFINITY {
        return bucket.lower;
    }
    count = count.min(histogram.count);
    if count < rank {
        if has_nan {
            notes.add(Note::quantile_is_nan(metric, span));
            return f64::NAN;
        }
        return bucket.upper;
    }
    rank = if from_below { rank - (count - bucket.count) } else { count - rank };
    if has_nan && count + buckets.map(|bucket| bucket.count).sum::<f64>() < histogram.count {
        notes.add(Note::quantile_is_skewed(metric, span));
    }
    let part = rank / bucket.count;
    if is_custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * part;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * part).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - part)).exp2()
    }
}

/// Which part of the observations lies between two values.
pub(super) fn native_fraction(
    lower: f64,
    upper: f64,
    histogram: &Histogram,
    metric: &str,
    span: Span,
    notes: &mut Notes,
) -> f64 {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut low, mut high) = (Rank::new(lower), Rank::new(upper));
    let mut below = 0.0;
    for mut bucket in histogram.all_buckets() {
        let is_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if is_zero {
            bucket = cut_at_zero(bucket, histogram);
        }
        let is_linear = histogram.uses_custom_buckets() || is_zero;
        let between = |v: f64| {
            if is_linear && bucket.lower == f64::NEG_INFINITY {
                return bucket.count;
            }
            below + bucket.count * bucket.fraction_below(v, is_linear)
        };
        low.pass(bucket.lower, bucket.upper, below, between);
        high.pass(bucket.lower, bucket.upper, below, between);
        below += bucket.count;
    }
    let mut count = histogram.count;
    if histogram.sum.is_nan() {
        count = below;
        if count < histogram.count {
            notes.add(Note::fraction_without_nan(metric, span));
        }
    }
    (high.at_most(count) - low.at_most(count)) / histogram.count
}
