//! `rate`, `increase`, `delta`, `irate`, `idelta`: changes over a window (Prometheus `promql/functions.go`).

use std::sync::Arc;

use model::{Histogram, ResetHint};

use super::column::Item;
use super::extended;
use super::notes::{Combining, Note, Notes};
use super::window::{Floats, Function, Histograms, Resets, Window};
use crate::promql::ExtendedRange;
use crate::{Samples, Span};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "rate" => |window, _, notes| change(window, Kind { is_counter: true, is_rate: true }, notes),
        "increase" => |window, _, notes| change(window, Kind { is_counter: true, is_rate: false }, notes),
        "delta" => |window, _, notes| change(window, Kind { is_counter: false, is_rate: false }, notes),
        "irate" => |window, _, notes| last_change(window, true, notes),
        "idelta" => |window, _, notes| last_change(window, false, notes),
        _ => return None,
    })
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub is_counter: bool,
    pub is_rate: bool,
}

/// What annotations name, and where they point.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub metric: &'a str,
    pub span: Span,
}

fn change(window: &Window<'_>, kind: Kind, notes: &mut Notes) -> Item {
    if window.is_mixed() {
        notes.add(Note::mixed_kinds(window.metric, window.span));
        return Item::Absent;
    }
    match window.extended {
        None if window.histograms.values.is_empty() => float_change(window, kind, notes),
        None => histogram_change(window, kind, notes),
        Some(ExtendedRange::Anchored | ExtendedRange::Smoothed) => extended::change(window, kind, notes),
    }
}

/// Where in a series the counter begins anew: it falls, or the start of its counting says so.
pub(super) fn resets(samples: &Samples) -> Vec<usize> {
    let (times, values, starts) = (&samples.timestamps_ms, &samples.values, &samples.starts_ms);
    let falls = values.windows(2).enumerate().filter(|(_, pair)| pair[1] < pair[0]).map(|(before, _)| before + 1);
    if starts.is_empty() {
        return falls.collect();
    }
    let restarts = |i: usize| is_restart(starts[i - 1], times[i - 1], starts[i], times[i]);
    (1..values.len()).filter(|i| values[*i] < values[*i - 1] || restarts(*i)).collect()
}

/// Whether the start of counting tells that a counter began anew between two samples. A start that is not before its sample
/// says nothing. One at the sample before is a reset only if that sample's own start was known: then it is a delta.
pub(super) fn is_restart(start_before_ms: i64, before_ms: i64, start_ms: i64, t_ms: i64) -> bool {
    if start_ms == 0 || start_ms >= t_ms || start_ms < before_ms {
        return false;
    }
    start_ms > before_ms || (start_before_ms != 0 && start_before_ms < before_ms)
}

fn overlaps(times: &[i64], starts: &[i64]) -> bool {
    let is_overlap = |i: usize| starts[i] != 0 && starts[i] < times[i - 1] && starts[i] != starts[i - 1];
    (1..starts.len()).any(is_overlap)
}

/// How a change between the first and the last sample becomes one over the whole window: it is extended to the edges where
/// they are no farther than 1.1 times the samples' average distance, and by half that distance otherwise; a counter is
/// never extended below zero. Where counting is known to have begun within the window, it is extended to there.
pub(super) struct Stretch<'a> {
    pub kind: Kind,
    /// The window's edges.
    pub start_ms: i64,
    pub end_ms: i64,
    pub times: &'a [i64],
    pub counts_from_ms: Option<i64>,
}

impl<'a> Stretch<'a> {
    fn new(window: &Window<'a>, kind: Kind, times: &'a [i64], starts: &[i64]) -> Stretch<'a> {
        let Window { start_ms, end_ms, .. } = *window;
        let from_ms = starts.first().copied().filter(|_| kind.is_counter);
        let counts_from_ms = from_ms.filter(|from| *from != 0 && *from > start_ms && *from < times[0]);
        Stretch { kind, start_ms, end_ms, times, counts_from_ms }
    }

    /// Whether a counter could be extended below zero: then the factor depends on its values. With three samples it is not
    /// extended by more than they last.
    pub fn may_reach_zero(&self, first: f64, change: f64) -> bool {
        let is_rising = self.kind.is_counter && change > 0.0 && first >= 0.0;
        is_rising && !(first >= change && self.times.len() > 2)
    }

    /// The factor; `first` and `change` are the first value and the whole change of a counter, or of a histogram's count.
    pub fn factor(&self, first: f64, change: f64) -> f64 {
        let seconds = |from_ms: i64, to_ms: i64| (to_ms - from_ms) as f64 / 1000.0;
        let last = self.times.len() - 1;
        let mut to_start = seconds(self.start_ms, self.times[0]);
        let mut to_end = seconds(self.times[last], self.end_ms);
        let mut sampled = seconds(self.times[0], self.times[last]);
        let between = if last > 0 { sampled / last as f64 } else { 0.0 };
        let threshold = between * 1.1;
        if let Some(from_ms) = self.counts_from_ms {
            to_start = 0.0;
            sampled = seconds(from_ms, self.times[last]);
        } else {
            if to_start >= threshold {
                to_start = between / 2.0;
            }
            if self.kind.is_counter && change > 0.0 && first >= 0.0 {
                to_start = to_start.min(sampled * (first / change));
            }
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        if self.kind.is_rate { factor / seconds(self.start_ms, self.end_ms) } else { factor }
    }
}

fn float_change(window: &Window<'_>, kind: Kind, notes: &mut Notes) -> Item {
    let Floats { times, values, starts, resets } = window.floats;
    let last = values.len() - 1;
    let stretch = Stretch::new(window, kind, times, starts);
    if last == 0 && stretch.counts_from_ms.is_none() {
        return Item::Absent;
    }
    let mut change = values[last] - values[0];
    if kind.is_counter {
        resets.iter().for_each(|place| change += values[place - 1]);
        if !starts.is_empty() && overlaps(times, starts) {
            notes.add(Note::start_overlap(window.metric, window.span));
        }
    }
    if stretch.counts_from_ms.is_some() {
        change += values[0];
    }
    Item::Float(change * stretch.factor(values[0], change))
}

/// The rate of a counter's samples over `(start_ms, end_ms]`, as `rate` computes it.
pub(crate) fn counter_rate(timestamps_ms: &[i64], values: &[f64], start_ms: i64, end_ms: i64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let falls: Vec<usize> = (1..values.len()).filter(|i| values[*i] < values[*i - 1]).collect();
    let floats = Floats { times: timestamps_ms, values, starts: &[], resets: Resets::all(&falls) };
    let (histograms, span) = (Histograms::default(), Span::default());
    let window = Window { floats, histograms, start_ms, end_ms, t_ms: end_ms, extended: None, metric: "", span };
    let kind = Kind { is_counter: true, is_rate: true };
    match float_change(&window, kind, &mut Notes::default()) {
        Item::Float(value) => Some(value),
        Item::Absent | Item::Histogram(_) => None,
    }
}

fn histogram_change(window: &Window<'_>, kind: Kind, notes: &mut Notes) -> Item {
    let Histograms { times, values, starts } = window.histograms;
    let subject = Subject { metric: window.metric, span: window.span };
    let stretch = Stretch::new(window, kind, times, starts);
    let mut change = None;
    if values.len() > 1 {
        change = difference(window.histograms, kind.is_counter, subject, notes);
        if change.is_none() {
            return Item::Absent;
        }
    }
    let mut change = match (change, stretch.counts_from_ms) {
        (change, None) => match change {
            Some(change) => change,
            None => return Item::Absent,
        },
        (None, Some(_)) => (*values[0]).clone(),
        (Some(mut change), Some(_)) => {
            if !add(&mut change, &values[0], subject, notes) {
                return Item::Absent;
            }
            change
        }
    };
    change.mul(stretch.factor(values[0].count, change.count));
    change.into()
}

/// Adds, and notes what is to be said of it. Answers whether they go together.
pub(super) fn add(into: &mut Histogram, other: &Histogram, subject: Subject<'_>, notes: &mut Notes) -> bool {
    combined(into.add(other), Combining::Addition, subject, notes)
}

pub(super) fn subtract(from: &mut Histogram, other: &Histogram, subject: Subject<'_>, notes: &mut Notes) -> bool {
    combined(from.sub(other), Combining::Subtraction, subject, notes)
}

fn combined(
    result: Result<model::Combined, model::HistogramError>,
    combining: Combining,
    subject: Subject<'_>,
    notes: &mut Notes,
) -> bool {
    match result {
        Ok(combined) if combined.bounds_reconciled => notes.add(Note::bounds_reconciled(combining, subject.span)),
        Ok(_) => {}
        Err(_) => {
            notes.add(Note::mixed_schemas(subject.metric, subject.span));
            return false;
        }
    }
    true
}

/// The change from the first to the last of at least two histograms.
fn difference(
    histograms: Histograms<'_>,
    is_counter: bool,
    subject: Subject<'_>,
    notes: &mut Notes,
) -> Option<Histogram> {
    let Histograms { times, values, starts } = histograms;
    let last = &values[values.len() - 1];
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    let restarts = |i: usize| starts.len() > i && is_restart(starts[i - 1], times[i - 1], starts[i], times[i]);
    if is_counter && (is_gauge(&values[0]) || is_gauge(last)) {
        notes.add(Note::not_a_counter(subject.metric, subject.span));
    }
    let mut first = values[0].clone();
    if is_counter && (restarts(1) || values[1].detect_reset(&first)) {
        // Of the first histogram then nothing is needed, not even that it fits to the others.
        let Histogram { schema, ref custom_bounds, .. } = *values[1];
        first = Arc::new(Histogram { schema, custom_bounds: custom_bounds.clone(), ..Histogram::default() });
    }
    let is_custom = first.uses_custom_buckets();
    let middle = if is_counter { &values[1..values.len() - 1] } else { &[] };
    if middle.iter().any(|histogram| is_gauge(histogram)) {
        notes.add(Note::not_a_counter(subject.metric, subject.span));
    }
    if middle.iter().chain([last]).any(|histogram| histogram.uses_custom_buckets() != is_custom) {
        notes.add(Note::mixed_schemas(subject.metric, subject.span));
        return None;
    }
    let schema = middle.iter().map(|histogram| histogram.schema).fold(last.schema.min(first.schema), i8::min);
    let mut change = last.copy_to_schema(schema);
    if !subtract(&mut change, &first, subject, notes) {
        return None;
    }
    if is_counter {
        let mut before = &first;
        for (i, histogram) in values.iter().enumerate().skip(1) {
            if (restarts(i) || histogram.detect_reset(before)) && !add(&mut change, before, subject, notes) {
                return None;
            }
            before = histogram;
        }
        if overlaps(times, starts) {
            notes.add(Note::start_overlap(subject.metric, subject.span));
        }
    } else if !is_gauge(&values[0]) || !is_gauge(last) {
        notes.add(Note::not_a_gauge(subject.metric, subject.span));
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}

/// One sample of either kind.
struct Sample<'a> {
    t_ms: i64,
    start_ms: i64,
    value: f64,
    histogram: Option<&'a Arc<Histogram>>,
}

/// The last two samples of a window.
fn last_two<'a>(window: &Window<'a>) -> Option<[Sample<'a>; 2]> {
    let (floats, histograms) = (window.floats, window.histograms);
    let float = |i: usize| Sample {
        t_ms: floats.times[i],
        start_ms: floats.starts.get(i).copied().unwrap_or(0),
        value: floats.values[i],
        histogram: None,
    };
    let histogram = |i: usize| Sample {
        t_ms: histograms.times[i],
        start_ms: histograms.starts.get(i).copied().unwrap_or(0),
        value: 0.0,
        histogram: Some(&histograms.values[i]),
    };
    let latest = |len: usize| len.saturating_sub(2)..len;
    let mut all: Vec<Sample<'a>> = latest(floats.times.len()).map(float).collect();
    all.extend(latest(histograms.times.len()).map(histogram));
    all.sort_by_key(|sample| sample.t_ms);
    let after = all.pop()?;
    Some([all.pop()?, after])
}

/// `irate` (per second, a fall is a reset to zero) and `idelta`: the change between the last two samples.
fn last_change(window: &Window<'_>, is_rate: bool, notes: &mut Notes) -> Item {
    let Some([before, after]) = last_two(window) else { return Item::Absent };
    let seconds = (after.t_ms - before.t_ms) as f64 / 1000.0;
    let is_restart = is_restart(before.start_ms, before.t_ms, after.start_ms, after.t_ms);
    let (metric, span) = (window.metric, window.span);
    let (old, new) = match (before.histogram, after.histogram) {
        (None, None) => {
            let is_reset = is_rate && (after.value < before.value || is_restart);
            let change = if is_reset { after.value } else { after.value - before.value };
            return Item::Float(if is_rate { change / seconds } else { change });
        }
        (Some(old), Some(new)) => (old, new),
        _ => {
            notes.add(Note::mixed_kinds(metric, span));
            return Item::Absent;
        }
    };
    let gauges = [old, new].iter().filter(|histogram| histogram.reset_hint == ResetHint::Gauge).count();
    if is_rate && gauges > 0 {
        notes.add(Note::not_a_counter(metric, span));
    }
    if !is_rate && gauges < 2 {
        notes.add(Note::not_a_gauge(metric, span));
    }
    let mut change = (**new).clone();
    let is_reset = is_rate && (is_restart || new.detect_reset(old));
    if !is_reset && !subtract(&mut change, old, Subject { metric, span }, notes) {
        return Item::Absent;
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    if is_rate {
        change.div(seconds);
    }
    change.into()
}
