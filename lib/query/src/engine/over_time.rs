//! `*_over_time` and the other functions of a window that are no rates.

use std::sync::Arc;

use model::{Histogram, ResetHint};

use super::column::Item;
use super::math::{mean, quantile, regression, sum, variance};
use super::notes::{Combining, Note, Notes};
use super::rate::is_restart;
use super::window::{Floats, Function, Window};
use crate::promql::ExtendedRange;

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sum_over_time" => |window, _, notes| total(window, false, notes),
        "avg_over_time" => |window, _, notes| total(window, true, notes),
        "count_over_time" => {
            |window, _, _| Item::Float((window.floats.values.len() + window.histograms.values.len()) as f64)
        }
        "present_over_time" | "absent_over_time" => |_, _, _| Item::Float(1.0),
        "min_over_time" => {
            |window, _, notes| of_floats(window, notes, |f, _| f.values[extreme(f.values, |a, b| a < b)])
        }
        "max_over_time" => {
            |window, _, notes| of_floats(window, notes, |f, _| f.values[extreme(f.values, |a, b| a > b)])
        }
        "ts_of_min_over_time" => {
            |window, _, notes| of_floats(window, notes, |f, _| seconds(f.times[extreme(f.values, |a, b| a <= b)]))
        }
        "ts_of_max_over_time" => {
            |window, _, notes| of_floats(window, notes, |f, _| seconds(f.times[extreme(f.values, |a, b| a >= b)]))
        }
        "stddev_over_time" => |window, _, notes| of_floats(window, notes, |f, _| variance(f.values).sqrt()),
        "stdvar_over_time" => |window, _, notes| of_floats(window, notes, |f, _| variance(f.values)),
        "mad_over_time" => |window, _, notes| of_floats(window, notes, |f, _| median_deviation(f.values)),
        "quantile_over_time" => quantile_over_time,
        "first_over_time" => |window, _, _| first(window).1,
        "last_over_time" => |window, _, _| last(window).1,
        "ts_of_first_over_time" => |window, _, _| Item::Float(seconds(first(window).0)),
        "ts_of_last_over_time" => |window, _, _| Item::Float(seconds(last(window).0)),
        "changes" => |window, _, _| {
            pairs(window, |before, after| match (before.histogram, after.histogram) {
                (None, None) => before.value != after.value && !(before.value.is_nan() && after.value.is_nan()),
                (Some(before), Some(after)) => !after.equals(before),
                _ => true,
            })
        },
        "resets" => |window, _, _| {
            pairs(window, |before, after| {
                let restarts = || is_restart(before.start_ms, before.t_ms, after.start_ms, after.t_ms);
                match (before.histogram, after.histogram) {
                    (None, None) => after.value < before.value || restarts(),
                    (Some(before), Some(after)) => restarts() || after.detect_reset(before),
                    _ => true,
                }
            })
        },
        "deriv" => |window, _, notes| trend(window, notes, |f| regression(f.times, f.values, f.times[0]).0),
        "predict_linear" => |window, params, notes| {
            trend(window, notes, |f| {
                let (slope, now) = regression(f.times, f.values, window.t_ms);
                slope * params[0] + now
            })
        },
        "double_exponential_smoothing" => {
            |window, params, notes| trend(window, notes, |f| smoothed(f.values, params[0], params[1]))
        }
        _ => return None,
    })
}

fn seconds(t_ms: i64) -> f64 {
    t_ms as f64 / 1000.0
}

/// A value of the floats of a window; histograms among them are noted.
fn of_floats(window: &Window<'_>, notes: &mut Notes, compute: impl Fn(&Floats<'_>, &mut Notes) -> f64) -> Item {
    if window.floats.values.is_empty() {
        return Item::Absent;
    }
    if !window.histograms.values.is_empty() {
        notes.add(Note::ignored_in_range(window.metric, window.span));
    }
    Item::Float(compute(&window.floats, notes))
}

/// As [`of_floats`], of at least two.
fn trend(window: &Window<'_>, notes: &mut Notes, compute: impl Fn(&Floats<'_>) -> f64) -> Item {
    let has_two = window.floats.values.len() > 1;
    match of_floats(window, notes, |floats, _| if has_two { compute(floats) } else { 0.0 }) {
        item if has_two => item,
        _ => Item::Absent,
    }
}

fn quantile_over_time(window: &Window<'_>, params: &[f64], notes: &mut Notes) -> Item {
    let (q, span) = (params[0], window.span);
    of_floats(window, notes, |floats, notes| {
        if !(0.0..=1.0).contains(&q) {
            notes.add(Note::invalid_quantile(q, span));
        }
        quantile(q, &mut floats.values.to_vec())
    })
}

/// `sum_over_time` and `avg_over_time`.
fn total(window: &Window<'_>, is_mean: bool, notes: &mut Notes) -> Item {
    if window.is_mixed() {
        notes.add(Note::mixed_kinds(window.metric, window.span));
        return Item::Absent;
    }
    if window.histograms.values.is_empty() {
        let values = window.floats.values;
        return Item::Float(if is_mean { mean(values) } else { sum(values.iter().copied()) });
    }
    let mut total = HistogramTotal::default();
    for histogram in window.histograms.values {
        if !total.add(histogram, is_mean) {
            notes.add(Note::mixed_schemas(window.metric, window.span));
            return Item::Absent;
        }
    }
    if total.hints_collide() {
        notes.add(Note::resets_collide(Combining::Aggregation, window.span));
    }
    if total.was_reconciled {
        notes.add(Note::bounds_reconciled(Combining::Aggregation, window.span));
    }
    total.result(is_mean).map_or(Item::Absent, Item::from)
}

/// A sum or mean of histograms: the mean of the sum while that is finite, of weighted means once it is not.
#[derive(Debug, Clone, Default)]
pub(super) struct HistogramTotal {
    total: Option<Histogram>,
    lost: Option<Histogram>,
    count: f64,
    is_weighted: bool,
    saw_reset: bool,
    saw_no_reset: bool,
    pub was_reconciled: bool,
}

impl HistogramTotal {
    /// Whether one said that it comes after a reset and another that it does not.
    pub fn hints_collide(&self) -> bool {
        self.saw_reset && self.saw_no_reset
    }

    /// Adds one more. Answers whether it goes together with those before.
    pub fn add(&mut self, histogram: &Histogram, is_mean: bool) -> bool {
        self.saw_reset |= histogram.reset_hint == ResetHint::Reset;
        self.saw_no_reset |= histogram.reset_hint == ResetHint::NotReset;
        self.count += 1.0;
        let Some(total) = &mut self.total else {
            self.total = Some(histogram.clone());
            return true;
        };
        if !is_mean {
            let combined = total.add_compensated(histogram, &mut self.lost);
            self.was_reconciled |= combined.as_ref().is_ok_and(|combined| combined.bounds_reconciled);
            return combined.is_ok();
        }
        if !self.is_weighted {
            let (mut next, mut lost) = (total.clone(), self.lost.clone());
            let Ok(combined) = next.add_compensated(histogram, &mut lost) else { return false };
            self.was_reconciled |= combined.bounds_reconciled;
            if !next.has_overflow() {
                (self.total, self.lost) = (Some(next), lost);
                return true;
            }
            self.is_weighted = true;
            total.div(self.count - 1.0);
            self.lost.iter_mut().for_each(|lost| lost.div(self.count - 1.0));
        }
        let weight = (self.count - 1.0) / self.count;
        total.mul(weight);
        self.lost.iter_mut().for_each(|lost| lost.mul(weight));
        let mut share = histogram.clone();
        share.div(self.count);
        let combined = total.add_compensated(&share, &mut self.lost);
        self.was_reconciled |= combined.as_ref().is_ok_and(|combined| combined.bounds_reconciled);
        combined.is_ok()
    }

    /// `None` when nothing was added.
    pub fn result(self, is_mean: bool) -> Option<Histogram> {
        let (mut total, mut lost) = (self.total?, self.lost);
        if is_mean && !self.is_weighted {
            total.div(self.count);
            lost.iter_mut().for_each(|lost| lost.div(self.count));
        }
        if let Some(lost) = &lost {
            // They have been combined before: they go together.
            let _ = total.add(lost);
        }
        Some(total)
    }
}

/// The place of the value that beats all others; any number beats NaN.
fn extreme(values: &[f64], beats: fn(f64, f64) -> bool) -> usize {
    let better = |best: usize, i: usize| beats(values[i], values[best]) || values[best].is_nan();
    (1..values.len()).fold(0, |best, i| if better(best, i) { i } else { best })
}

fn median_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, &mut values.to_vec());
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    quantile(0.5, &mut deviations)
}

/// Holt's double exponential smoothing of at least two values.
fn smoothed(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let (mut level, mut trend) = (values[0], values[1] - values[0]);
    let mut before = level;
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + trend);
    }
    level
}

fn first(window: &Window<'_>) -> (i64, Item) {
    let (floats, histograms) = (&window.floats, &window.histograms);
    let float = floats.times.first().map(|t_ms| (*t_ms, Item::Float(floats.values[0])));
    let histogram = histograms.times.first().map(|t_ms| (*t_ms, Item::Histogram(histograms.values[0].clone())));
    match (float, histogram) {
        (Some(float), Some(histogram)) => {
            if float.0 < histogram.0 {
                float
            } else {
                histogram
            }
        }
        (float, histogram) => float.or(histogram).unwrap_or((0, Item::Absent)),
    }
}

fn last(window: &Window<'_>) -> (i64, Item) {
    let (floats, histograms) = (&window.floats, &window.histograms);
    let float = floats.times.last().map(|t_ms| (*t_ms, Item::Float(floats.values[floats.values.len() - 1])));
    let last_histogram = || Item::Histogram(histograms.values[histograms.values.len() - 1].clone());
    let histogram = histograms.times.last().map(|t_ms| (*t_ms, last_histogram()));
    match (float, histogram) {
        (Some(float), Some(histogram)) => {
            if histogram.0 < float.0 {
                float
            } else {
                histogram
            }
        }
        (float, histogram) => float.or(histogram).unwrap_or((0, Item::Absent)),
    }
}

/// One sample of either kind.
#[derive(Clone, Copy)]
struct Sample<'a> {
    t_ms: i64,
    start_ms: i64,
    value: f64,
    histogram: Option<&'a Arc<Histogram>>,
}

/// How many pairs of neighbours, of either kind, count. An anchored range begins with the last sample before it, and
/// measures nothing where nothing is within it.
fn pairs(window: &Window<'_>, counts: impl Fn(Sample<'_>, Sample<'_>) -> bool) -> Item {
    let (floats, histograms) = (&window.floats, &window.histograms);
    let (mut f, mut h) = (0, 0);
    let mut next = || {
        let (float_ms, histogram_ms) = (floats.times.get(f), histograms.times.get(h));
        let is_float = match (float_ms, histogram_ms) {
            (Some(float_ms), Some(histogram_ms)) => float_ms < histogram_ms,
            (float_ms, _) => float_ms.is_some(),
        };
        if is_float {
            f += 1;
            let start_ms = floats.starts.get(f - 1).copied().unwrap_or(0);
            return Some(Sample { t_ms: floats.times[f - 1], start_ms, value: floats.values[f - 1], histogram: None });
        }
        let t_ms = *histogram_ms?;
        h += 1;
        let start_ms = histograms.starts.get(h - 1).copied().unwrap_or(0);
        Some(Sample { t_ms, start_ms, value: 0.0, histogram: Some(&histograms.values[h - 1]) })
    };
    let is_anchored = window.extended == Some(ExtendedRange::Anchored);
    let (mut count, mut saw_inside) = (0.0, !is_anchored);
    let mut before: Option<Sample<'_>> = None;
    while let Some(sample) = next() {
        let is_inside = !is_anchored || sample.t_ms > window.start_ms;
        saw_inside |= is_inside;
        if is_inside && before.is_some_and(|before| counts(before, sample)) {
            count += 1.0;
        }
        before = Some(sample);
    }
    if saw_inside { Item::Float(count) } else { Item::Absent }
}
