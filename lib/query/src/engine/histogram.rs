//! `histogram_quantile` over classic buckets (Prometheus `promql/quantile.go`, `bucketQuantile`).

use std::collections::HashMap;

use model::{Labels, METRIC_NAME};

use super::column::{Column, Grid, is_present};
use super::eval::Eval;
use crate::QueryError;
use crate::literal::parse_number;
use crate::promql::Expr;

/// A bucket's upper bound and the count of observations up to it.
type Bucket = (f64, f64);

struct Histogram {
    labels: Labels,
    /// Upper bound and place among the columns.
    bounds: Vec<(f64, usize)>,
}

impl Eval<'_> {
    /// For each group of buckets that differ in `le` only, the quantile at each step.
    pub fn classic_quantile(
        &mut self,
        quantiles: &[f64],
        buckets: &[Column],
        expr: &Expr,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let histograms = self.histograms(buckets, expr);
        let mut result = Vec::with_capacity(histograms.len());
        let mut was_fixed = false;
        for Histogram { labels, bounds } in histograms {
            self.check_room(0)?;
            let mut column = Column::empty(labels, grid.steps);
            for (step, q) in quantiles.iter().enumerate() {
                let at_step = bounds.iter().map(|(bound, place)| (*bound, buckets[*place].values[step]));
                let mut present: Vec<Bucket> = at_step.filter(|(_, count)| is_present(*count)).collect();
                if !present.is_empty() {
                    column.values[step] = bucket_quantile(*q, &mut present, &mut was_fixed);
                }
            }
            result.push(column);
        }
        if was_fixed {
            let message = "input to histogram_quantile needed to be fixed for monotonicity \
                           (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
            self.inform(message, expr.span);
        }
        result.retain(|column| !column.is_empty());
        Ok(result)
    }

    fn histograms(&mut self, buckets: &[Column], expr: &Expr) -> Vec<Histogram> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut histograms: Vec<Histogram> = Vec::new();
        for (i, bucket) in buckets.iter().enumerate() {
            let le = bucket.labels.get("le").unwrap_or("");
            let Some(bound) = parse_number(le) else {
                let message = format!("bucket label \"le\" is missing or has a malformed value of {le:?}");
                self.warn(&message, expr.span);
                continue;
            };
            let labels = bucket.labels.without(&[METRIC_NAME, "le"]);
            let place = *places.entry(labels.clone()).or_insert(histograms.len());
            if place == histograms.len() {
                histograms.push(Histogram { labels, bounds: Vec::new() });
            }
            histograms[place].bounds.push((bound, i));
        }
        for histogram in &mut histograms {
            histogram.bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        histograms
    }
}

/// Sorted buckets in; interpolates linearly within the bucket that holds the rank. `was_fixed` is set where counts fell
/// by more than rounding explains.
fn bucket_quantile(q: f64, buckets: &mut Vec<Bucket>, was_fixed: &mut bool) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    let mut highest = f64::NEG_INFINITY;
    for bucket in buckets.iter_mut() {
        let tolerance = 1e-12 * highest.abs().max(bucket.1.abs());
        if bucket.1 < highest {
            *was_fixed |= highest - bucket.1 > tolerance;
            bucket.1 = highest;
        }
        highest = bucket.1;
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if buckets[last].0 != f64::INFINITY || last == 0 || observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let mut rank = q * observations;
    let at = buckets[..last].partition_point(|(_, count)| *count < rank);
    if at == last {
        return buckets[last - 1].0;
    }
    let (end, mut count) = buckets[at];
    if at == 0 && end <= 0.0 {
        return end;
    }
    let mut start = 0.0;
    if at > 0 {
        let below = buckets[at - 1];
        start = below.0;
        count -= below.1;
        rank -= below.1;
    }
    start + (end - start) * (rank / count)
}
