//! Trimming: the operators `</` (keep what lies below) and `>/` (keep what lies above).
//!
//! Within a bucket observations are taken to be spread evenly: by distance in custom buckets and the zero bucket, by ratio
//! in exponential ones. Of a bucket without an end nothing is known, so mostly it is kept or dropped as a whole. The sum is
//! estimated anew from the middles of what is kept, as soon as anything is cut.

use super::{Bucket, Histogram};

/// What is kept of a bucket: its count, and the value in its middle.
type Kept = (f64, f64);

impl Histogram {
    /// Keeps what lies below a value.
    pub fn trim_upper(&mut self, value: f64) {
        self.trim(value, true);
    }

    /// Keeps what lies above a value.
    pub fn trim_lower(&mut self, value: f64) {
        self.trim(value, false);
    }

    fn trim(&mut self, value: f64, is_upper: bool) {
        let is_linear = self.uses_custom_buckets();
        let keep = |buckets: &mut dyn Iterator<Item = Bucket>, is_positive: bool| -> Vec<Kept> {
            buckets.map(|bucket| keep_of(&bucket, value, is_upper, is_positive, is_linear)).collect()
        };
        let positive = keep(&mut self.positive_buckets(), true);
        let negative = keep(&mut self.negative_buckets(), false);
        let has = |counts: &[f64]| counts.iter().any(|count| *count != 0.0);
        let (has_positive, has_negative) = (has(&self.positive.counts), has(&self.negative.counts));
        let (mut count, mut sum, mut is_cut) = (0.0, 0.0, false);
        for (counts, kept) in [(&mut self.positive.counts, positive), (&mut self.negative.counts, negative)] {
            for (old, (new, middle)) in counts.iter_mut().zip(kept) {
                if *old == 0.0 {
                    continue;
                }
                count += new;
                sum += middle * new;
                is_cut |= *old != new;
                *old = new;
            }
        }
        if self.zero_count > 0.0 {
            let lower = if has_positive && !has_negative { 0.0 } else { -self.zero_threshold };
            let upper = if has_negative && !has_positive { 0.0 } else { self.zero_threshold };
            let (new, middle) = keep_of_zero(self.zero_count, (lower, upper), value, is_upper);
            is_cut |= self.zero_count != new;
            self.zero_count = new;
            sum += middle * new;
            count += new;
        }
        if is_cut {
            (self.count, self.sum) = (count, sum);
            self.compact();
        }
    }
}

fn keep_of(bucket: &Bucket, value: f64, is_upper: bool, is_positive: bool, is_linear: bool) -> Kept {
    let (is_inside, is_cut) = if is_upper {
        (bucket.upper <= value, bucket.lower < value)
    } else {
        (bucket.lower >= value, bucket.upper > value)
    };
    let middle = |lower, upper| middle_of(lower, upper, is_positive, is_linear);
    if is_inside {
        return (bucket.count, middle(bucket.lower, bucket.upper));
    }
    if !is_cut {
        return (0.0, 0.0);
    }
    if bucket.lower == f64::NEG_INFINITY {
        return keep_of_first(bucket, value, is_upper);
    }
    if bucket.upper == f64::INFINITY {
        return if is_upper { (0.0, 0.0) } else { keep_of_last(bucket, value) };
    }
    let below = if value <= bucket.lower {
        0.0
    } else if value >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(value, is_linear)
    };
    if is_upper { (below, middle(bucket.lower, value)) } else { (bucket.count - below, middle(value, bucket.upper)) }
}

/// A cut bucket that begins at −Inf. One with a positive end is taken to begin at 0.
fn keep_of_first(bucket: &Bucket, value: f64, is_upper: bool) -> Kept {
    let has_end = bucket.upper.is_finite();
    if is_upper {
        if value > 0.0 && bucket.upper > 0.0 && has_end {
            return (bucket.count * value / bucket.upper, value / 2.0);
        }
        return if bucket.upper <= 0.0 { (bucket.count, value) } else { (0.0, 0.0) };
    }
    if value == f64::NEG_INFINITY {
        return (bucket.count, 0.0);
    }
    if value >= 0.0 && bucket.upper > value && has_end {
        return (bucket.count * (1.0 - value / bucket.upper), (value + bucket.upper) / 2.0);
    }
    (0.0, 0.0)
}

/// A bucket that ends at +Inf, of which the lower part is cut off.
fn keep_of_last(bucket: &Bucket, value: f64) -> Kept {
    if value >= bucket.lower { (bucket.count, value) } else { (0.0, 0.0) }
}

fn keep_of_zero(count: f64, (lower, upper): (f64, f64), value: f64, is_upper: bool) -> Kept {
    let whole = (count, (lower + upper) / 2.0);
    match (is_upper, value <= lower, value >= upper) {
        (true, true, _) | (false, false, true) => (0.0, 0.0),
        (true, false, true) | (false, true, _) => whole,
        (true, false, false) => (count * ((value - lower) / (upper - lower)), (lower + value) / 2.0),
        (false, false, false) => (count * ((upper - value) / (upper - lower)), (value + upper) / 2.0),
    }
}

/// The value that stands for what lies between two.
fn middle_of(lower: f64, upper: f64, is_positive: bool, is_linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if is_linear => (lower + upper) / 2.0,
        (false, false) => {
            let middle = (lower * upper).abs().sqrt();
            if is_positive { middle } else { -middle }
        }
    }
}
