//! Selectors: from the samples of a source to columns, series by series.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{Scope, ScopedJoinHandle};

use model::{Histogram, Labels, ResetHint, is_stale};

use super::column::{Column, Grid, Item, absent};
use super::eval::{Eval, Sink};
use super::extended::interpolated;
use super::notes::{Note, Notes};
use crate::promql::{ExtendedRange, Shift, VectorSelector};
use crate::{QueryError, Samples, SeriesSelect, SeriesSet, Wants};

/// More threads than this do not help one query.
const MAX_THREADS: usize = 64;
/// Values for which starting a thread pays.
const MIN_SHARE: usize = if cfg!(test) { 10 } else { 100_000 };
/// Values that a thread computes before it hands them on: 256 KiB, so that they are still in the processor's cache then.
const CHUNK_VALUES: usize = if cfg!(test) { 40 } else { 32 << 10 };
/// Chunks of one thread that wait for their turn.
const WAITING_CHUNKS: usize = 2;

/// Where the window of each step lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    offset_ms: i64,
    at_ms: Option<i64>,
    pub range_ms: i64,
}

impl Frame {
    /// Windows that end at their step.
    #[cfg(test)]
    pub fn plain(range_ms: i64) -> Frame {
        Frame { offset_ms: 0, at_ms: None, range_ms }
    }

    /// The last instant that the window of a step includes.
    pub fn end_ms(&self, t_ms: i64) -> i64 {
        self.at_ms.unwrap_or(t_ms).saturating_sub(self.offset_ms)
    }
}

/// What becomes of a selector's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They stay until the operator that wants them has all of them.
    Kept,
    /// They go into something smaller, one by one.
    Passed,
}

/// What a selector's samples are looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Value,
    /// When the sample was taken, in seconds.
    Time,
    /// When its counting began, in seconds.
    Start,
    /// As [`Look::Time`], of a series that must hold floats only.
    InfoTime,
}

/// How much of histograms is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Unknown,
    /// `histogram_count` and its kin ask for count and sum alone, and nothing within asks for buckets.
    Totals,
    /// Something around needs the buckets.
    Buckets,
}

impl Depth {
    /// Within a call or operator that asks for totals or for buckets.
    pub fn within(self, inner: Depth) -> Depth {
        if self == Depth::Buckets || inner == Depth::Unknown { self } else { inner }
    }

    pub fn prepare(self, samples: &mut Samples) {
        if self == Depth::Totals {
            only_totals(samples);
        }
    }
}

/// Leaves of histograms what `histogram_count` and its kin need. Counter resets are told from the buckets before those go.
fn only_totals(samples: &mut Samples) {
    let mut before: Option<Arc<Histogram>> = None;
    for (_, histogram) in samples.histograms.iter_mut().filter(|(_, histogram)| !histogram.is_stale()) {
        let reset_hint = match &before {
            Some(before) if histogram.reset_hint == ResetHint::Unknown => {
                if histogram.detect_reset(before) {
                    ResetHint::Reset
                } else {
                    ResetHint::NotReset
                }
            }
            _ => histogram.reset_hint,
        };
        let Histogram { schema, count, sum, .. } = **histogram;
        let totals = Histogram { schema, reset_hint, count, sum, ..Histogram::default() };
        before = Some(std::mem::replace(histogram, Arc::new(totals)));
    }
}

/// Columns in the order of their series, and what was noted of them.
type Chunk = Result<(Vec<Column>, Notes), QueryError>;

/// Computes a column from the series of this number. Any thread may call it.
pub(super) type Compute<'c> =
    &'c (dyn Fn(usize, &mut Samples, &mut Notes) -> Result<Option<Column>, QueryError> + Sync);

impl<'a> Eval<'a> {
    pub fn frame(&self, shift: &Shift, range_ms: i64) -> Result<Frame, QueryError> {
        let offset_ms = shift.offset.as_ref().map_or(Ok(0), |offset| self.duration_ms(offset))?;
        Ok(Frame { offset_ms, at_ms: self.at_ms(shift.at), range_ms })
    }

    /// The series of a selector, with their samples in the windows of all steps; `margins_ms` beyond those before and after.
    pub fn select(
        &self,
        selector: &VectorSelector,
        frame: Frame,
        grid: Grid,
        margins_ms: (i64, i64),
        wants: Wants,
    ) -> Result<Box<dyn SeriesSet + 'a>, QueryError> {
        let before_ms = frame.range_ms.saturating_add(margins_ms.0);
        let request = SeriesSelect {
            tenant: self.tenant,
            matchers: &selector.matchers,
            start_ms: frame.end_ms(grid.start_ms).saturating_sub(before_ms).saturating_add(1),
            end_ms: frame.end_ms(grid.end_ms()).saturating_add(margins_ms.1),
            wants,
            deadline: self.deadline,
        };
        self.source.select(&request)
    }

    /// Hands out the columns of the series `0..count`, in order. Threads take turns with chunks of the series and go on while
    /// the chunks before are taken in; what comes out does not depend on how many there are.
    pub fn columns_of(
        &mut self,
        count: usize,
        steps: usize,
        fate: Fate,
        compute: Compute<'_>,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        if fate == Fate::Kept {
            self.check_estimate(count, steps)?;
        }
        let threads = self.engine.threads.clamp(1, MAX_THREADS).min(count.saturating_mul(steps) / MIN_SHARE + 1);
        if threads == 1 {
            let notes = self.share(0..count, &mut Samples::default(), compute, sink)?;
            self.notes.append(notes);
            return Ok(());
        }
        let chunk = (CHUNK_VALUES / steps.max(1)).clamp(1, count.div_ceil(threads));
        let (this, mut notes) = (&*self, Notes::default());
        let taken = std::thread::scope(|scope| {
            let mut lanes: Vec<_> =
                (0..threads).map(|lane| this.lane(scope, (lane, threads), chunk, count, compute)).collect();
            for number in 0..count.div_ceil(chunk) {
                let lane = number % threads;
                let Ok(computed) = lanes[lane].0.recv() else {
                    let panic = lanes.swap_remove(lane).1.join().expect_err("a lane ends early by a panic alone");
                    std::panic::resume_unwind(panic)
                };
                let (columns, of_chunk) = computed?;
                notes.append(of_chunk);
                columns.into_iter().try_for_each(&mut *sink)?;
            }
            Ok(())
        });
        self.notes.append(notes);
        taken
    }

    /// A thread that computes every so-many-th chunk, until one fails or nobody takes them any more.
    fn lane<'scope, 'env: 'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        (lane, lanes): (usize, usize),
        chunk: usize,
        count: usize,
        compute: Compute<'env>,
    ) -> (Receiver<Chunk>, ScopedJoinHandle<'scope, ()>) {
        let (sender, receiver) = mpsc::sync_channel(WAITING_CHUNKS);
        let work = move || {
            let mut samples = Samples::default();
            for first in (lane * chunk..count).step_by(lanes * chunk) {
                let mut columns = Vec::with_capacity(chunk);
                let mut keep = |column| {
                    columns.push(column);
                    Ok(())
                };
                let notes = self.share(first..(first + chunk).min(count), &mut samples, compute, &mut keep);
                let has_failed = notes.is_err();
                if sender.send(notes.map(|notes| (columns, notes))).is_err() || has_failed {
                    return;
                }
            }
        };
        (receiver, scope.spawn(work))
    }

    /// One thread's share of the work.
    fn share(
        &self,
        series: Range<usize>,
        samples: &mut Samples,
        compute: Compute<'_>,
        sink: Sink<'_>,
    ) -> Result<Notes, QueryError> {
        let mut notes = Notes::default();
        for i in series {
            self.check_room(samples.len())?;
            if let Some(column) = compute(i, samples, &mut notes)? {
                sink(column)?;
            }
        }
        Ok(notes)
    }

    /// The latest value within the lookback at each step.
    pub fn stream_selector(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        fate: Fate,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        if selector.extended == Some(ExtendedRange::Smoothed) {
            return self.stream_smoothed(selector, grid, fate, sink);
        }
        self.stream_latest(selector, grid, Look::Value, fate, sink)
    }

    pub fn stream_latest(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        look: Look,
        fate: Fate,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let frame = self.frame(&selector.shift, self.engine.lookback_ms)?;
        let wants = if look == Look::Time { Wants::Presence } else { Wants::Values };
        let set = self.select(selector, frame, grid, (0, 0), wants)?;
        let (mut held, limit) = (0, self.engine.max_samples);
        let (depth, counted) = (self.depth, self.counted.clone());
        let compute = |i: usize, samples: &mut Samples, _: &mut Notes| {
            set.read(i, samples)?;
            counted.add(samples, grid, frame, true);
            depth.prepare(samples);
            let column = latest(set.labels(i), samples, grid, frame, look);
            if look == Look::InfoTime && !samples.histograms.is_empty() && !column.is_empty() {
                let message = format!("this should be an info metric, with float samples: {}", set.labels(i));
                return Err(QueryError::Execution(message));
            }
            Ok((!column.is_empty()).then_some(column))
        };
        self.columns_of(set.len(), grid.steps, fate, &compute, &mut |column| {
            held += column.weight();
            if held > limit { Err(super::room::too_many_samples()) } else { sink(column) }
        })
    }

    /// `m smoothed`: values between samples lie on the line through their neighbours, within the lookback on both sides.
    fn stream_smoothed(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        fate: Fate,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let lookback_ms = self.engine.lookback_ms;
        let frame = self.frame(&selector.shift, lookback_ms)?;
        let set = self.select(selector, frame, grid, (0, lookback_ms), Wants::Values)?;
        let (span, depth) = (selector.span, self.depth);
        let compute = |i: usize, samples: &mut Samples, notes: &mut Notes| {
            set.read(i, samples)?;
            depth.prepare(samples);
            without_stale(samples);
            let labels = set.labels(i);
            let mut column = Column::empty(labels.clone(), grid.steps);
            for (step, t_ms) in grid.times().enumerate() {
                let at_ms = frame.end_ms(t_ms);
                let window = (at_ms.saturating_sub(lookback_ms), at_ms.saturating_add(lookback_ms));
                match smoothed_at(samples, at_ms, window) {
                    Ok(item) => column.set(step, item),
                    Err(problem) => problem(labels.metric_name().unwrap_or(""), notes, span),
                }
            }
            Ok((!column.is_empty()).then_some(column))
        };
        self.columns_of(set.len(), grid.steps, fate, &compute, sink)
    }
}

/// The latest of plain floats at each step.
fn latest_floats(samples: &Samples, grid: Grid, frame: Frame) -> Vec<f64> {
    let (times, values) = (&samples.timestamps_ms[..], &samples.values[..]);
    let mut past = 0;
    let mut found = Vec::with_capacity(grid.steps);
    for t_ms in grid.times() {
        let end_ms = frame.end_ms(t_ms);
        while past < times.len() && times[past] <= end_ms {
            past += 1;
        }
        let is_recent = past > 0 && times[past - 1] > end_ms.saturating_sub(frame.range_ms);
        found.push(if is_recent { values[past - 1] } else { absent() });
    }
    found
}

fn latest(labels: &Labels, samples: &Samples, grid: Grid, frame: Frame, look: Look) -> Column {
    if look == Look::Value && samples.histograms.is_empty() {
        return Column::of_floats(labels.clone(), latest_floats(samples, grid, frame));
    }
    let mut column = Column::empty(labels.clone(), grid.steps);
    let times = &samples.timestamps_ms;
    let (mut past, mut histogram) = (0, 0);
    for (step, t_ms) in grid.times().enumerate() {
        let end_ms = frame.end_ms(t_ms);
        while past < times.len() && times[past] <= end_ms {
            past += 1;
        }
        let Some(at) = past.checked_sub(1) else { continue };
        if times[at] <= end_ms.saturating_sub(frame.range_ms) || is_stale(samples.values[at]) {
            continue;
        }
        match look {
            Look::Time | Look::InfoTime => column.values[step] = times[at] as f64 / 1000.0,
            Look::Start => column.values[step] = samples.starts_ms.get(at).map_or(0.0, |start| *start as f64 / 1000.0),
            Look::Value => {
                let histograms = &samples.histograms;
                while histogram < histograms.len() && (histograms[histogram].0 as usize) < at {
                    histogram += 1;
                }
                let found = histograms.get(histogram).filter(|(index, _)| *index as usize == at);
                let item = found.map_or(Item::Float(samples.values[at]), |(_, found)| Item::Histogram(found.clone()));
                column.set(step, item);
            }
        }
    }
    column
}

/// Removes staleness markers.
pub(super) fn without_stale(samples: &mut Samples) {
    if !samples.values.iter().any(|value| is_stale(*value)) {
        return;
    }
    let keep: Vec<bool> = samples.values.iter().map(|value| !is_stale(*value)).collect();
    let mut places = Vec::with_capacity(keep.len());
    let mut place = 0u32;
    for kept in &keep {
        places.push(place);
        place += u32::from(*kept);
    }
    let retain = |times: &mut Vec<i64>| {
        let mut kept = keep.iter();
        times.retain(|_| *kept.next().unwrap_or(&true));
    };
    retain(&mut samples.timestamps_ms);
    retain(&mut samples.starts_ms);
    samples.values.retain(|value| !is_stale(*value));
    samples.histograms.retain(|(index, _)| keep[*index as usize]);
    samples.histograms.iter_mut().for_each(|(index, _)| *index = places[*index as usize]);
}

/// Why there is no smoothed value, to be noted.
type Problem = fn(&str, &mut Notes, crate::Span);

fn smoothed_at(samples: &Samples, at_ms: i64, (start_ms, end_ms): (i64, i64)) -> Result<Item, Problem> {
    let times = &samples.timestamps_ms;
    let first = times.partition_point(|t| *t <= start_ms);
    let past = times.partition_point(|t| *t <= end_ms);
    let histogram_at = |i: usize| -> Option<&Arc<Histogram>> {
        let found = samples.histograms.binary_search_by_key(&(i as u32), |(index, _)| *index).ok()?;
        Some(&samples.histograms[found].1)
    };
    let kinds = (first..past).filter(|i| histogram_at(*i).is_some()).count();
    if kinds > 0 && kinds < past - first {
        return Err(|metric, notes, span| notes.add(Note::mixed_kinds(metric, span)));
    }
    let next = first + times[first..past].partition_point(|t| *t < at_ms);
    let is_exact = next < past && times[next] == at_ms;
    if is_exact {
        let histogram = histogram_at(next).cloned();
        return Ok(histogram.map_or(Item::Float(samples.values[next]), Item::Histogram));
    }
    let Some(before) = next.checked_sub(1).filter(|before| *before >= first) else { return Ok(Item::Absent) };
    let Some(histogram) = histogram_at(before) else {
        if next >= past {
            return Ok(Item::Float(samples.values[before]));
        }
        let (from, to) = (samples.values[before], samples.values[next]);
        let part = (at_ms - times[before]) as f64 / (times[next] - times[before]) as f64;
        return Ok(Item::Float(from + (to - from) * part));
    };
    let Some(after) = (next < past).then(|| histogram_at(next)).flatten() else {
        let carried = Histogram { reset_hint: ResetHint::Unknown, ..(**histogram).clone() };
        return Ok(carried.into());
    };
    if histogram.uses_custom_buckets() != after.uses_custom_buckets() {
        return Err(|metric, notes, span| notes.add(Note::mixed_schemas(metric, span)));
    }
    let is_counter = histogram.reset_hint != ResetHint::Gauge || after.reset_hint != ResetHint::Gauge;
    let part = (at_ms - times[before]) as f64 / (times[next] - times[before]) as f64;
    match interpolated(histogram, after, part, is_counter) {
        Ok((histogram, _)) => Ok(histogram.into()),
        Err(_) => Err(|metric, notes, span| notes.add(Note::mixed_schemas(metric, span))),
    }
}
