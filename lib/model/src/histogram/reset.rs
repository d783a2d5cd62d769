//! Counter resets.

use super::arithmetic::{common_bounds, place_among};
use super::bounds::exponential_bound;
use super::buckets::index_at;
use super::{Buckets, Histogram, ResetHint};

impl Histogram {
    /// Whether the counter began anew between `previous` and this one: a count fell, or a filled bucket is gone. What the
    /// hint says is believed. A finer resolution or a narrower zero bucket comes only with a new counter; a coarser or
    /// wider one is compared at what this one has.
    pub fn detect_reset(&self, previous: &Histogram) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_bounds != previous.custom_bounds {
                return self.falls_at_common_bounds(previous);
            }
            return falls(self.positive.indexed(), previous.positive.indexed());
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero_count, _, threshold) = previous.zero_count_within(self.zero_threshold, None);
        if threshold != self.zero_threshold || self.zero_count < previous_zero_count {
            return true;
        }
        let sides = [(&self.positive, &previous.positive), (&self.negative, &previous.negative)];
        sides.into_iter().any(|(now, before)| self.falls_outside_zero(now, before, previous.schema))
    }

    fn falls_outside_zero(&self, now: &Buckets, before: &Buckets, before_schema: i8) -> bool {
        let shift = (i32::from(before_schema) - i32::from(self.schema)).clamp(0, 31) as u32;
        let is_outside = |(index, _): &(i32, f64)| exponential_bound(*index, self.schema) > self.zero_threshold;
        if shift == 0 {
            return falls(now.indexed().filter(is_outside), before.indexed().filter(is_outside));
        }
        let mut merged: Vec<(i32, f64)> = Vec::with_capacity(before.counts.len());
        for (index, count) in before.indexed() {
            let index = index_at(index, shift);
            match merged.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => merged.push((index, count)),
            }
        }
        falls(now.indexed().filter(is_outside), merged.into_iter().filter(is_outside))
    }

    /// Compares two with different custom bounds at the bounds that both have.
    fn falls_at_common_bounds(&self, previous: &Histogram) -> bool {
        let bounds = common_bounds(&self.custom_bounds, &previous.custom_bounds);
        let at_common = |histogram: &Histogram| {
            let mut counts = vec![0.0; bounds.len() + 1];
            for (index, count) in histogram.positive.indexed() {
                counts[place_among(&bounds, &histogram.custom_bounds, index)] += count;
            }
            counts
        };
        at_common(self).iter().zip(at_common(previous)).any(|(now, before)| *now < before)
    }
}

/// Whether a bucket of `before` has more than the same of `now`, or is filled and not there.
fn falls(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(other, _)| *other < index).is_some() {}
        let is_fallen = match now.peek() {
            Some((other, now)) if *other == index => *now < count,
            _ => count != 0.0,
        };
        if is_fallen {
            return true;
        }
    }
    false
}
