//! Ranges that reach beyond their edges: `anchored` takes the last sample before the window as its beginning, `smoothed`
//! interpolates at both edges.

use std::sync::Arc;

use model::{Histogram, HistogramError, ResetHint};

use super::column::Item;
use super::notes::{Combining, Note, Notes};
use super::rate::{Kind, Subject, add, subtract};
use super::window::{Floats, Histograms, Window};
use crate::Samples;
use crate::promql::ExtendedRange;

/// The histogram at a part (between 0 and 1) of the way from one to the next, and whether bounds had to be reconciled. A
/// counter that was reset is taken to have begun at zero.
pub(super) fn interpolated(
    from: &Histogram,
    to: &Histogram,
    part: f64,
    is_counter: bool,
) -> Result<(Histogram, bool), HistogramError> {
    if part <= 0.0 {
        return Ok((from.clone(), false));
    }
    let mut result = to.clone();
    if part >= 1.0 {
        return Ok((result, false));
    }
    if is_counter && to.detect_reset(from) {
        result.mul(part);
        return Ok((result, false));
    }
    let subtracted = result.sub(from)?;
    result.mul(part);
    let added = result.add(from)?;
    Ok((result, subtracted.bounds_reconciled || added.bounds_reconciled))
}

fn interpolated_float(times: &[i64], values: &[f64], before: usize, at_ms: i64, is_counter: bool) -> f64 {
    let (mut from, to) = (values[before], values[before + 1]);
    if is_counter && to < from {
        from = 0.0;
    }
    from + (to - from) * (at_ms - times[before]) as f64 / (times[before + 1] - times[before]) as f64
}

/// The samples that matter to a window: from the last at or before its start to the last within it, or to the first at or
/// beyond its end where it is smoothed. `None` where nothing lies within.
fn edges(times: &[i64], start_ms: i64, end_ms: i64, is_smoothed: bool) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|t| *t <= start_ms).saturating_sub(1);
    if is_smoothed {
        last = times[..last].partition_point(|t| *t < end_ms);
    }
    let is_outside = times[last] <= start_ms || is_smoothed && times[first] > end_ms;
    (!is_outside).then_some((first, last))
}

pub(super) fn change(window: &Window<'_>, kind: Kind, notes: &mut Notes) -> Item {
    if window.histograms.values.is_empty() { float_change(window, kind) } else { histogram_change(window, kind, notes) }
}

fn float_change(window: &Window<'_>, kind: Kind) -> Item {
    let Floats { times, values, .. } = window.floats;
    let is_smoothed = window.extended == Some(ExtendedRange::Smoothed);
    let (start_ms, end_ms) = (window.start_ms, window.end_ms);
    let Some((mut first, last)) = edges(times, start_ms, end_ms, is_smoothed) else { return Item::Absent };
    let left = edge_before(window.floats, first, start_ms, is_smoothed, kind.is_counter);
    let right = edge_after(window.floats, last, end_ms, is_smoothed, kind.is_counter);
    let mut change = right - left;
    if kind.is_counter {
        // Resets within the interpolated stretches are in the edges' values already.
        first += usize::from(times[first] <= start_ms);
        let past = last + usize::from(times[last] < end_ms);
        let mut before = left;
        for value in values.get(first..past).unwrap_or(&[]).iter().copied().chain([right]) {
            if value < before {
                change += before;
            }
            before = value;
        }
    }
    Item::Float(if kind.is_rate { change / window.range_s() } else { change })
}

fn edge_before(floats: Floats<'_>, first: usize, start_ms: i64, is_smoothed: bool, is_counter: bool) -> f64 {
    let Floats { times, values, .. } = floats;
    if is_smoothed && times[first] < start_ms {
        return interpolated_float(times, values, first, start_ms, is_counter);
    }
    values[first]
}

fn edge_after(floats: Floats<'_>, last: usize, end_ms: i64, is_smoothed: bool, is_counter: bool) -> f64 {
    let Floats { times, values, .. } = floats;
    if is_smoothed && last > 0 && times[last] > end_ms {
        return interpolated_float(times, values, last - 1, end_ms, is_counter);
    }
    values[last]
}

fn histogram_change(window: &Window<'_>, kind: Kind, notes: &mut Notes) -> Item {
    let Histograms { times, values, .. } = window.histograms;
    let is_smoothed = window.extended == Some(ExtendedRange::Smoothed);
    let (start_ms, end_ms) = (window.start_ms, window.end_ms);
    let Some((first, last)) = edges(times, start_ms, end_ms, is_smoothed) else { return Item::Absent };
    let subject = Subject { metric: window.metric, span: window.span };
    if !fit(&values[first..=last], kind.is_counter, subject, notes) {
        return Item::Absent;
    }
    let mut edge = |before: usize, at_ms: i64| -> Option<Histogram> {
        let part = (at_ms - times[before]) as f64 / (times[before + 1] - times[before]) as f64;
        match interpolated(&values[before], &values[before + 1], part, kind.is_counter) {
            Ok((histogram, was_reconciled)) => {
                if was_reconciled {
                    notes.add(Note::bounds_reconciled(Combining::Subtraction, subject.span));
                    notes.add(Note::bounds_reconciled(Combining::Addition, subject.span));
                }
                Some(histogram)
            }
            Err(_) => {
                notes.add(Note::mixed_schemas(subject.metric, subject.span));
                None
            }
        }
    };
    let starts_before = is_smoothed && times[first] < start_ms;
    let ends_after = is_smoothed && last > 0 && times[last] > end_ms;
    let left = if starts_before { edge(first, start_ms) } else { Some((*values[first]).clone()) };
    let Some(left) = left else { return Item::Absent };
    let right = if ends_after { edge(last - 1, end_ms) } else { Some((*values[last]).clone()) };
    let Some(right) = right else { return Item::Absent };
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    if !kind.is_counter && (!is_gauge(&left) || !is_gauge(&right)) {
        notes.add(Note::not_a_gauge(subject.metric, subject.span));
    }
    let mut change = right.clone();
    if !subtract(&mut change, &left, subject, notes) {
        return Item::Absent;
    }
    if kind.is_counter {
        let lost = lost_in_resets(&values[first..=last], &left, &right, starts_before, subject, notes);
        let Ok(lost) = lost else { return Item::Absent };
        if lost.is_some_and(|lost| !add(&mut change, &lost, subject, notes)) {
            return Item::Absent;
        }
    }
    if kind.is_rate {
        change.div(window.range_s());
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    change.into()
}

/// Whether histograms go together; notes gauges where a counter is wanted.
fn fit(histograms: &[Arc<Histogram>], is_counter: bool, subject: Subject<'_>, notes: &mut Notes) -> bool {
    let is_custom = histograms[0].uses_custom_buckets();
    for histogram in histograms {
        if histogram.uses_custom_buckets() != is_custom {
            notes.add(Note::mixed_schemas(subject.metric, subject.span));
            return false;
        }
        if is_counter && histogram.reset_hint == ResetHint::Gauge {
            notes.add(Note::not_a_counter(subject.metric, subject.span));
        }
    }
    true
}

/// What a counter had counted before each of its resets between the edges.
fn lost_in_resets(
    histograms: &[Arc<Histogram>],
    left: &Histogram,
    right: &Histogram,
    starts_before: bool,
    subject: Subject<'_>,
    notes: &mut Notes,
) -> Result<Option<Histogram>, ()> {
    let last = histograms.len() - 1;
    let (mut first, mut before) = (1, left);
    if starts_before && histograms[1].detect_reset(&histograms[0]) {
        // The left edge was interpolated across this reset.
        (first, before) = (2, &*histograms[1]);
    }
    // The last one is the right edge or gave it its hint: it would find its own reset again.
    if first > last {
        return Ok(None);
    }
    let mut lost: Option<Histogram> = None;
    for histogram in histograms[first..last].iter().map(|histogram| &**histogram).chain([right]) {
        if histogram.detect_reset(before) {
            match &mut lost {
                None => lost = Some(before.clone()),
                Some(lost) => {
                    if !add(lost, before, subject, notes) {
                        return Err(());
                    }
                }
            }
        }
        before = histogram;
    }
    Ok(lost)
}

/// The floats of an extended range as an instant query shows them: one at each edge, and those between.
pub(super) fn shown(samples: &Samples, kind: ExtendedRange, start_ms: i64, end_ms: i64) -> Vec<(i64, f64)> {
    let is_smoothed = kind == ExtendedRange::Smoothed;
    let floats = Floats { times: &samples.timestamps_ms, values: &samples.values, ..Floats::default() };
    let Some((first, last)) = edges(floats.times, start_ms, end_ms, is_smoothed) else { return Vec::new() };
    let left = edge_before(floats, first, start_ms, is_smoothed, false);
    let right = edge_after(floats, last, end_ms, is_smoothed, false);
    let between = floats.times.iter().copied().zip(floats.values.iter().copied()).take(last + 1).skip(first);
    let between = between.filter(|(t_ms, _)| *t_ms > start_ms && *t_ms < end_ms);
    [(start_ms, left)].into_iter().chain(between).chain([(end_ms, right)]).collect()
}
