//! Classic histograms (`_bucket`, `_count`, `_sum`) as native ones with custom bounds.

use super::display::shortest;
use super::{BucketSpan, Buckets, CUSTOM_SCHEMA, Histogram, HistogramError};

/// Collects the series of one classic histogram at one instant, in any order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassicHistogram {
    /// Upper bounds and cumulative counts, by rising bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl ClassicHistogram {
    /// A `_bucket` series: `count` observations at or below `bound`. A bound that is there already is ignored.
    pub fn set_bucket(&mut self, bound: f64, count: f64) -> Result<(), HistogramError> {
        if bound.is_nan() {
            return invalid("bucket boundary must not be NaN".to_owned());
        }
        if count < 0.0 {
            let (bound, count) = (shortest(bound), shortest(count));
            return invalid(format!("bucket count must be non-negative: le={bound}, count={count}"));
        }
        let at = self.buckets.partition_point(|(other, _)| *other < bound);
        if self.buckets.get(at).is_some_and(|(other, _)| *other == bound) {
            return Ok(());
        }
        if let Some((_, before)) = at.checked_sub(1).map(|before| self.buckets[before])
            && count < before
        {
            return invalid(format!("count is not cumulative: {} < {}", shortest(count), shortest(before)));
        }
        if let Some((_, behind)) = self.buckets.get(at)
            && count > *behind
        {
            return invalid(format!("count is not cumulative: {} > {}", shortest(count), shortest(*behind)));
        }
        self.buckets.insert(at, (bound, count));
        Ok(())
    }

    /// The `_count` series.
    pub fn set_count(&mut self, count: f64) -> Result<(), HistogramError> {
        if count < 0.0 {
            return invalid(format!("count must be non-negative: count={}", shortest(count)));
        }
        self.count = Some(count);
        Ok(())
    }

    /// The `_sum` series.
    pub fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The native histogram. Without a `_count` the last bucket has the count; without a bucket to +Inf the count is it.
    pub fn convert(mut self) -> Result<Histogram, HistogramError> {
        let count = self.count.or(self.buckets.last().map(|(_, count)| *count)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if let Some((bound, last)) = self.buckets.last()
            && *last != count
        {
            let (bound, last, count) = (shortest(*bound), shortest(*last), shortest(count));
            return invalid(format!("count mismatch: count={count} != le={bound} count={last}"));
        }
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, count)| count - std::mem::replace(&mut before, *count)).collect();
        let spans = vec![BucketSpan { offset: 0, length: self.buckets.len() as u32 }];
        let mut histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive: Buckets { spans, counts },
            custom_bounds: self
                .buckets
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|bound| *bound != f64::INFINITY)
                .collect(),
            ..Histogram::default()
        };
        histogram.compact();
        Ok(histogram)
    }
}

fn invalid<T>(text: String) -> Result<T, HistogramError> {
    Err(HistogramError::Invalid(text))
}
