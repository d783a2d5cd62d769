//! Functions of range vectors: from the samples in a step's window to a value.

use super::column::Grid;
use super::eval::{Eval, Sink, without_name};
use super::math::{mean, quantile, regression, sum, variance};
use crate::QueryError;
use crate::promql::{Call, Expr, ExprKind, ValueType};

/// The samples of one series in `(start_ms, end_ms]`, at least one, for the step at `t_ms`.
pub(super) struct Window<'a> {
    pub timestamps_ms: &'a [i64],
    pub values: &'a [f64],
    pub start_ms: i64,
    pub end_ms: i64,
    pub t_ms: i64,
}

type Compute = fn(&Window<'_>, params: &[f64]) -> Option<f64>;

/// What computes a function of a range; `params` are its scalar arguments at the step.
fn compute(name: &str) -> Option<Compute> {
    Some(match name {
        "rate" => |window, _| extrapolated(window, true, true),
        "increase" => |window, _| extrapolated(window, true, false),
        "delta" => |window, _| extrapolated(window, false, false),
        "irate" => |window, _| last_change(window, true),
        "idelta" => |window, _| last_change(window, false),
        "sum_over_time" => |window, _| Some(sum(window.values.iter().copied())),
        "avg_over_time" => |window, _| Some(mean(window.values)),
        "count_over_time" => |window, _| Some(window.values.len() as f64),
        "min_over_time" => |window, _| Some(window.values[extreme(window.values, |a, b| a < b)]),
        "max_over_time" => |window, _| Some(window.values[extreme(window.values, |a, b| a > b)]),
        "ts_of_min_over_time" => |window, _| window.seconds(extreme(window.values, |a, b| a <= b)),
        "ts_of_max_over_time" => |window, _| window.seconds(extreme(window.values, |a, b| a >= b)),
        "first_over_time" => |window, _| window.values.first().copied(),
        "last_over_time" => |window, _| window.values.last().copied(),
        "ts_of_first_over_time" => |window, _| window.seconds(0),
        "ts_of_last_over_time" => |window, _| window.seconds(window.values.len() - 1),
        "present_over_time" => |_, _| Some(1.0),
        "quantile_over_time" => |window, params| Some(quantile(params[0], &mut window.values.to_vec())),
        "stddev_over_time" => |window, _| Some(variance(window.values).sqrt()),
        "stdvar_over_time" => |window, _| Some(variance(window.values)),
        "mad_over_time" => |window, _| Some(median_deviation(window.values)),
        "changes" => |window, _| Some(pairs(window.values, |a, b| a != b && !(a.is_nan() && b.is_nan()))),
        "resets" => |window, _| Some(pairs(window.values, |a, b| b < a)),
        "deriv" => |window, _| {
            let enough = window.values.len() >= 2;
            enough.then(|| regression(window.timestamps_ms, window.values, window.timestamps_ms[0]).0)
        },
        "predict_linear" => |window, params| {
            let enough = window.values.len() >= 2;
            let (slope, now) = enough.then(|| regression(window.timestamps_ms, window.values, window.t_ms))?;
            Some(slope * params[0] + now)
        },
        "double_exponential_smoothing" => |window, params| smoothed(window.values, params[0], params[1]),
        _ => return None,
    })
}

/// Names kept: the value is one of the series' own.
fn keeps_name(function: &str) -> bool {
    matches!(function, "last_over_time" | "first_over_time")
}

impl Window<'_> {
    fn seconds(&self, i: usize) -> Option<f64> {
        Some(self.timestamps_ms[i] as f64 / 1000.0)
    }
}

impl Eval<'_> {
    pub fn is_window_function(name: &str) -> bool {
        compute(name).is_some()
    }

    /// Whether a call's columns can go to an aggregation one by one: its series cannot collide once they lose their name.
    pub fn can_stream(&self, call: &Call) -> bool {
        let named = |expr: &Expr| match &expr.unwrapped().kind {
            ExprKind::Range { selector, .. } => selector.name.is_some(),
            _ => false,
        };
        compute(call.function.name).is_some() && range_arg(call).is_some_and(named)
    }

    pub fn stream_windows(&mut self, expr: &Expr, call: &Call, grid: Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let name = call.function.name;
        let compute = compute(name).unwrap_or_else(|| unreachable!("only window functions come here"));
        let params = self.window_params(call, grid)?;
        let range = range_arg(call).unwrap_or_else(|| unreachable!("a window function has a range"));
        self.annotate_window(name, expr, range, &params);
        let mut at_step = vec![0.0; params.len()];
        self.each_range(range, grid, &mut |samples, frame| {
            let mut column = samples.slide(grid, frame, |step, window| {
                for (slot, param) in at_step.iter_mut().zip(&params) {
                    *slot = param[step];
                }
                compute(window, &at_step)
            });
            if column.is_empty() {
                return Ok(());
            }
            if !keeps_name(name) {
                column.labels = without_name(&column.labels);
            }
            sink(column)
        })
    }

    fn window_params(&mut self, call: &Call, grid: Grid) -> Result<Vec<Vec<f64>>, QueryError> {
        let mut params = Vec::new();
        for (arg, kind) in call.args.iter().zip(call.function.args) {
            if *kind == ValueType::Scalar {
                params.push(self.scalar(arg, grid)?);
            }
        }
        if call.function.name == "double_exponential_smoothing" {
            for (values, what, symbol) in [(&params[0], "smoothing", "sf"), (&params[1], "trend", "tf")] {
                if let Some(wrong) = values.iter().find(|value| !(**value > 0.0 && **value < 1.0)) {
                    let message = format!("invalid {what} factor. Expected: 0 < {symbol} < 1, got: {wrong:.6}");
                    return Err(QueryError::Execution(message));
                }
            }
        }
        Ok(params)
    }

    fn annotate_window(&mut self, name: &str, expr: &Expr, range: &Expr, params: &[Vec<f64>]) {
        if name == "quantile_over_time" {
            self.check_quantiles(&params[0], expr);
        }
        let is_counter = matches!(name, "rate" | "increase");
        if let (true, ExprKind::Range { selector, .. }) = (is_counter, &range.unwrapped().kind)
            && let Some(metric) = &selector.name
            && !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix))
        {
            let message =
                format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}");
            self.inform(&message, range.span);
        }
    }

    pub fn check_quantiles(&mut self, quantiles: &[f64], expr: &Expr) {
        if let Some(wrong) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            let value = crate::literal::format_number(*wrong);
            self.warn(&format!("quantile value should be between 0 and 1, got {value}"), expr.span);
        }
    }
}

fn range_arg(call: &Call) -> Option<&Expr> {
    let at = call.function.args.iter().position(|kind| *kind == ValueType::Matrix)?;
    call.args.get(at)
}

/// `rate`, `increase`, `delta` (Prometheus `promql/functions.go`, `extrapolatedRate`): the change between first and last
/// sample, extended to the window's edges where they are no farther than 1.1 times the samples' average distance, and
/// by half that distance otherwise; a counter is never extended below zero.
fn extrapolated(window: &Window<'_>, is_counter: bool, is_rate: bool) -> Option<f64> {
    let (values, times) = (window.values, window.timestamps_ms);
    if values.len() < 2 {
        return None;
    }
    let last = values.len() - 1;
    let mut change = values[last] - values[0];
    if is_counter {
        for pair in values.windows(2).filter(|pair| pair[1] < pair[0]) {
            change += pair[0];
        }
    }
    let seconds = |from_ms: i64, to_ms: i64| (to_ms - from_ms) as f64 / 1000.0;
    let mut to_start = seconds(window.start_ms, times[0]);
    let mut to_end = seconds(times[last], window.end_ms);
    let sampled = seconds(times[0], times[last]);
    let between = sampled / last as f64;
    let threshold = between * 1.1;
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    if is_counter && change > 0.0 && values[0] >= 0.0 {
        to_start = to_start.min(sampled * (values[0] / change));
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if is_rate {
        factor /= seconds(window.start_ms, window.end_ms);
    }
    Some(change * factor)
}

/// The rate of a counter's samples over `(start_ms, end_ms]`, as `rate` computes it.
pub(crate) fn counter_rate(timestamps_ms: &[i64], values: &[f64], start_ms: i64, end_ms: i64) -> Option<f64> {
    extrapolated(&Window { timestamps_ms, values, start_ms, end_ms, t_ms: end_ms }, true, true)
}

/// `irate` (per second, a fall is a reset to zero) and `idelta`: the change between the last two samples.
fn last_change(window: &Window<'_>, is_rate: bool) -> Option<f64> {
    let n = window.values.len();
    let (before, after) = (*window.values.get(n.checked_sub(2)?)?, window.values[n - 1]);
    let change = if is_rate && after < before { after } else { after - before };
    let seconds = (window.timestamps_ms[n - 1] - window.timestamps_ms[n - 2]) as f64 / 1000.0;
    Some(if is_rate { change / seconds } else { change })
}

/// The place of the value that beats all others; any number beats NaN.
fn extreme(values: &[f64], beats: fn(f64, f64) -> bool) -> usize {
    let better = |best: usize, i: usize| beats(values[i], values[best]) || values[best].is_nan();
    (1..values.len()).fold(0, |best, i| if better(best, i) { i } else { best })
}

fn pairs(values: &[f64], counts: fn(f64, f64) -> bool) -> f64 {
    values.windows(2).filter(|pair| counts(pair[0], pair[1])).count() as f64
}

fn median_deviation(values: &[f64]) -> f64 {
    let median = quantile(0.5, &mut values.to_vec());
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    quantile(0.5, &mut deviations)
}

/// Holt's double exponential smoothing.
fn smoothed(values: &[f64], smoothing: f64, trend_factor: f64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mut level, mut trend) = (values[0], values[1] - values[0]);
    let mut before = level;
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        before = level;
        level = smoothing * value + (1.0 - smoothing) * (level + trend);
    }
    Some(level)
}
