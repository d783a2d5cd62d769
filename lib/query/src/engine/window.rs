//! Ranges: the samples of one series as the windows of a grid's steps, and the functions that make a value of a window.

use std::sync::Arc;

use model::{Histogram, Labels, ResetHint};

use super::column::{Column, Grid, Item};
use super::eval::{Eval, Sink};
use super::notes::{Note, Notes};
use super::select::{Depth, Fate, Frame, without_stale};
use super::{over_time, rate, sliding};
use crate::promql::{Call, Expr, ExprKind, ExtendedRange, Subquery, ValueType};
use crate::{QueryError, Samples, SeriesSet, Span, Wants};

/// The floats of a window, in `(start_ms, end_ms]`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Floats<'a> {
    pub times: &'a [i64],
    pub values: &'a [f64],
    /// When counting began, per sample; empty where that is unknown or does not matter.
    pub starts: &'a [i64],
    /// Places, from the window's first sample, at which the counter began anew since the sample before.
    pub resets: Resets<'a>,
}

/// A slice of the places of resets in a whole series.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Resets<'a> {
    places: &'a [usize],
    base: usize,
}

impl<'a> Resets<'a> {
    /// Those of a window that is all of its series.
    pub fn all(places: &'a [usize]) -> Resets<'a> {
        Resets { places, base: 0 }
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + 'a {
        let base = self.base;
        self.places.iter().map(move |place| place - base)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Histograms<'a> {
    pub times: &'a [i64],
    pub values: &'a [Arc<Histogram>],
    pub starts: &'a [i64],
}

/// What one series has for the step at `t_ms`: at least one sample. Beyond `(start_ms, end_ms]` there are samples only for
/// extended ranges.
pub(super) struct Window<'a> {
    pub floats: Floats<'a>,
    pub histograms: Histograms<'a>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub t_ms: i64,
    pub extended: Option<ExtendedRange>,
    /// What annotations name, and where they point.
    pub metric: &'a str,
    pub span: Span,
}

impl Window<'_> {
    pub fn is_mixed(&self) -> bool {
        !self.floats.values.is_empty() && !self.histograms.values.is_empty()
    }

    pub fn range_s(&self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / 1000.0
    }
}

/// Makes a value of a window; `params` are the function's scalar arguments at the step.
pub(super) type Function = fn(&Window<'_>, params: &[f64], notes: &mut Notes) -> Item;

fn function(name: &str) -> Option<Function> {
    rate::function(name).or_else(|| over_time::function(name))
}

/// The functions that know what to do with samples beyond a range.
const TAKE_ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const TAKE_SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];
/// The functions to which the start of counting matters.
const TAKE_STARTS: [&str; 4] = ["rate", "irate", "increase", "resets"];

/// A range vector: its series, and where the windows lie.
pub(super) struct Ranges<'a> {
    pub set: Box<dyn SeriesSet + 'a>,
    /// Whether a series' name is to go, for those that were computed; otherwise empty.
    drop_names: Vec<bool>,
    pub frame: Frame,
    pub extended: Option<ExtendedRange>,
    /// How far beyond its window a step sees.
    margins_ms: (i64, i64),
}

impl Ranges<'_> {
    pub fn drops_name(&self, i: usize) -> bool {
        self.drop_names.get(i).copied().unwrap_or(false)
    }
}

/// The histograms of a series.
#[derive(Debug, Default)]
pub(super) struct HistogramTrack {
    pub times: Vec<i64>,
    pub values: Vec<Arc<Histogram>>,
    pub starts: Vec<i64>,
}

/// Takes the histograms out of samples; floats remain.
pub(super) fn take_histograms(samples: &mut Samples) -> HistogramTrack {
    let mut track = HistogramTrack::default();
    if samples.histograms.is_empty() {
        return track;
    }
    let mut is_float = vec![true; samples.len()];
    for (index, histogram) in samples.histograms.drain(..) {
        let at = index as usize;
        is_float[at] = false;
        track.times.push(samples.timestamps_ms[at]);
        track.values.push(histogram);
        track.starts.extend(samples.starts_ms.get(at));
    }
    let retain = |times: &mut Vec<i64>| {
        let mut kept = is_float.iter();
        times.retain(|_| *kept.next().unwrap_or(&true));
    };
    retain(&mut samples.timestamps_ms);
    retain(&mut samples.starts_ms);
    let mut kept = is_float.iter();
    samples.values.retain(|_| *kept.next().unwrap_or(&true));
    track
}

/// The places of the samples in `(start_ms, end_ms]`, both rising from call to call.
#[derive(Default)]
struct Cursor {
    first: usize,
    past: usize,
}

impl Cursor {
    fn advance(&mut self, times: &[i64], start_ms: i64, end_ms: i64) -> std::ops::Range<usize> {
        while self.past < times.len() && times[self.past] <= end_ms {
            self.past += 1;
        }
        while self.first < self.past && times[self.first] <= start_ms {
            self.first += 1;
        }
        self.first..self.past
    }
}

/// What is slid over a series.
struct Slide<'a> {
    grid: Grid,
    ranges: &'a Ranges<'a>,
    name: &'a str,
    function: Function,
    params: &'a [Vec<f64>],
    takes_starts: bool,
    span: Span,
}

impl Slide<'_> {
    /// Computes a value per step from the samples in the step's window.
    fn run(&self, labels: &Labels, samples: &mut Samples, notes: &mut Notes) -> Column {
        without_stale(samples);
        if !self.takes_starts {
            samples.starts_ms.clear();
        }
        let is_plain = samples.histograms.is_empty() && self.ranges.extended.is_none();
        let frame = self.ranges.frame;
        if is_plain && let Some(values) = sliding::values(self.name, self.params, samples, self.grid, frame) {
            return Column::of_floats(labels.clone(), values);
        }
        let track = take_histograms(samples);
        let resets = rate::resets(samples);
        let mut column = Column::empty(labels.clone(), self.grid.steps);
        let mut at_step = vec![0.0; self.params.len()];
        let (mut floats, mut histograms) = (Cursor::default(), Cursor::default());
        let (mut first_reset, mut past_reset) = (0, 0);
        let metric = labels.metric_name().unwrap_or("");
        for (step, t_ms) in self.grid.times().enumerate() {
            let end_ms = self.ranges.frame.end_ms(t_ms);
            let start_ms = end_ms.saturating_sub(self.ranges.frame.range_ms);
            let (before, after) = self.ranges.margins_ms;
            let (from_ms, to_ms) = (start_ms.saturating_sub(before), end_ms.saturating_add(after));
            let f = floats.advance(&samples.timestamps_ms, from_ms, to_ms);
            let h = histograms.advance(&track.times, from_ms, to_ms);
            if f.is_empty() && h.is_empty() {
                continue;
            }
            while past_reset < resets.len() && resets[past_reset] < f.end {
                past_reset += 1;
            }
            while first_reset < past_reset && resets[first_reset] <= f.start {
                first_reset += 1;
            }
            self.params.iter().zip(&mut at_step).for_each(|(param, slot)| *slot = param[step]);
            let window = Window {
                floats: Floats {
                    times: &samples.timestamps_ms[f.clone()],
                    values: &samples.values[f.clone()],
                    starts: samples.starts_ms.get(f.clone()).unwrap_or(&[]),
                    resets: Resets { places: &resets[first_reset..past_reset], base: f.start },
                },
                histograms: Histograms {
                    times: &track.times[h.clone()],
                    values: &track.values[h.clone()],
                    starts: track.starts.get(h).unwrap_or(&[]),
                },
                start_ms,
                end_ms,
                t_ms,
                extended: self.ranges.extended,
                metric,
                span: self.span,
            };
            match (self.function)(&window, &at_step, notes) {
                Item::Float(value) => column.values[step] = value,
                item => column.set(step, item),
            }
        }
        column
    }
}

impl<'a> Eval<'a> {
    pub fn is_window_function(name: &str) -> bool {
        function(name).is_some()
    }

    pub fn stream_windows(&mut self, call: &Call, grid: Grid, fate: Fate, sink: Sink<'_>) -> Result<(), QueryError> {
        let name = call.function.name;
        let function = function(name).unwrap_or_else(|| unreachable!("only window functions come here"));
        let params = self.window_params(call, grid)?;
        let range = range_arg(call);
        let ranges = self.ranges(range, grid, Some(name))?;
        if name == "double_exponential_smoothing" && !ranges.set.is_empty() {
            check_smoothing(&params)?;
        }
        let span = call.args[0].unwrapped().span;
        let takes_starts = TAKE_STARTS.contains(&name);
        let slide = Slide { grid, ranges: &ranges, name, function, params: &params, takes_starts, span };
        let is_rate = matches!(name, "rate" | "increase");
        let (depth, counted) = (self.depth, self.counted.clone());
        let keeps_name = matches!(name, "last_over_time" | "first_over_time");
        let compute = |i: usize, samples: &mut Samples, notes: &mut Notes| {
            ranges.set.read(i, samples)?;
            counted.add(samples, grid, ranges.frame, false);
            depth.prepare(samples);
            let mut column = slide.run(ranges.set.labels(i), samples, notes);
            column.drop_name = !keeps_name || ranges.drops_name(i);
            if is_rate {
                note_no_counter(&column, span, notes);
            }
            Ok((!column.is_empty()).then_some(column))
        };
        self.columns_of(ranges.set.len(), grid.steps, fate, &compute, sink)
    }

    fn window_params(&mut self, call: &Call, grid: Grid) -> Result<Vec<Vec<f64>>, QueryError> {
        let mut params = Vec::new();
        for arg in &call.args {
            if crate::promql::type_of(arg) == ValueType::Scalar {
                params.push(self.scalar(arg, grid)?);
            }
        }
        Ok(params)
    }

    /// The series of a range. `function` is what will be asked of them; it may not know extended ranges.
    pub fn ranges(&mut self, expr: &Expr, grid: Grid, function: Option<&str>) -> Result<Ranges<'a>, QueryError> {
        match &expr.unwrapped().kind {
            ExprKind::Range { selector, range } => {
                if let Some(function) = function {
                    check_extended(selector.extended, function)?;
                }
                let frame = self.frame(&selector.shift, self.positive_ms(range)?)?;
                let lookback_ms = self.engine.lookback_ms;
                let margins_ms = match selector.extended {
                    Some(ExtendedRange::Anchored) => (lookback_ms, 0),
                    Some(ExtendedRange::Smoothed) => (lookback_ms, lookback_ms),
                    None => (0, 0),
                };
                let timestamps = ["count_over_time", "present_over_time", "absent_over_time"];
                let is_presence = function.is_some_and(|name| timestamps.contains(&name));
                let wants = if is_presence { Wants::Presence } else { Wants::Values };
                let set = self.select(selector, frame, grid, margins_ms, wants)?;
                Ok(Ranges { set, drop_names: Vec::new(), frame, extended: selector.extended, margins_ms })
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, grid),
            _ => unreachable!("the type check saw a range vector"),
        }
    }

    /// A subquery's steps lie on whole multiples of its step since the epoch. What is known of counter resets between
    /// samples does not hold between these.
    fn subquery(&mut self, subquery: &Subquery, grid: Grid) -> Result<Ranges<'a>, QueryError> {
        let frame = self.frame(&subquery.shift, self.positive_ms(&subquery.range)?)?;
        let step_ms = match &subquery.step {
            Some(step) => self.positive_ms(step)?,
            None => self.engine.subquery_step_ms.max(1),
        };
        let after_ms = frame.end_ms(grid.start_ms).saturating_sub(frame.range_ms);
        let start_ms = (after_ms.div_euclid(step_ms) + 1).saturating_mul(step_ms);
        let end_ms = frame.end_ms(grid.end_ms());
        let (mut rows, mut drop_names) = (Vec::new(), Vec::new());
        if start_ms <= end_ms {
            let steps = ((end_ms - start_ms) / step_ms) as usize + 1;
            self.check_room(steps)?;
            let inner = Grid { start_ms, step_ms, steps };
            let columns = self.deeper(Depth::Buckets, |eval| eval.vector(&subquery.operand, inner))?;
            self.release(columns.iter().map(Column::weight).sum());
            for column in columns {
                drop_names.push(column.drop_name);
                rows.push((column.labels.clone(), samples_of(&column, inner)));
            }
        }
        Ok(Ranges { set: Box::new(rows), drop_names, frame, extended: None, margins_ms: (0, 0) })
    }

    /// Hands out the samples of every series of a range, floats and histograms apart.
    pub fn each_window(
        &mut self,
        ranges: &Ranges<'_>,
        visit: &mut dyn FnMut(usize, &Samples, &HistogramTrack) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (mut samples, mut held) = (Samples::default(), 0);
        for i in 0..ranges.set.len() {
            ranges.set.read(i, &mut samples)?;
            without_stale(&mut samples);
            let track = take_histograms(&mut samples);
            held += samples.len() + track.times.len();
            self.check_room(held)?;
            visit(i, &samples, &track)?;
        }
        Ok(())
    }
}

fn samples_of(column: &Column, grid: Grid) -> Samples {
    let mut samples = Samples::default();
    for (step, t_ms) in grid.times().enumerate() {
        let value = match column.item(step) {
            Item::Absent => continue,
            Item::Float(value) => value,
            Item::Histogram(mut histogram) => {
                if matches!(histogram.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
                    Arc::make_mut(&mut histogram).reset_hint = ResetHint::Unknown;
                }
                let sum = histogram.sum;
                samples.histograms.push((samples.timestamps_ms.len() as u32, histogram));
                sum
            }
        };
        samples.timestamps_ms.push(t_ms);
        samples.values.push(value);
    }
    samples
}

pub(super) fn range_arg(call: &Call) -> &Expr {
    let is_range = |arg: &&Expr| crate::promql::type_of(arg) == ValueType::Matrix;
    call.args.iter().find(is_range).unwrap_or_else(|| unreachable!("a window function has a range"))
}

fn check_extended(extended: Option<ExtendedRange>, function: &str) -> Result<(), QueryError> {
    let (name, takers): (_, &[&str]) = match extended {
        None => return Ok(()),
        Some(ExtendedRange::Anchored) => ("anchored", &TAKE_ANCHORED),
        Some(ExtendedRange::Smoothed) => ("smoothed", &TAKE_SMOOTHED),
    };
    if takers.contains(&function) {
        return Ok(());
    }
    let message = format!("{name} modifier can only be used with: {} - not with {function}", takers.join(", "));
    Err(QueryError::Execution(message))
}

fn check_smoothing(params: &[Vec<f64>]) -> Result<(), QueryError> {
    for (values, what, symbol) in [(&params[0], "smoothing", "sf"), (&params[1], "trend", "tf")] {
        if let Some(wrong) = values.iter().find(|value| **value <= 0.0 || **value >= 1.0) {
            let message = format!("invalid {what} factor. Expected: 0 < {symbol} < 1, got: {wrong:.6}");
            return Err(QueryError::Execution(message));
        }
    }
    Ok(())
}

fn note_no_counter(column: &Column, span: Span, notes: &mut Notes) {
    let Some(metric) = column.labels.metric_name() else { return };
    let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix));
    if !is_counter && column.values.iter().any(|value| super::column::is_present(*value)) {
        notes.add(Note::perhaps_no_counter(metric, span));
    }
}
