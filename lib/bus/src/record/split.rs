//! Cutting a batch into records. Sizes are upper bounds of the body before compression, so a cut never has to be redone.

use std::collections::HashMap;

use model::{
    AlertEvents, Batch, Exemplar, Floats, ForgetFiles, HistogramSample, Labels, LogBatch, MetricBatch, Origin,
    SeriesSamples,
};

use super::MAX_BODY_BYTES;

/// Counts, origin and lengths that every body has.
const FIXED_BYTES: usize = 128;
/// The longest varint of a count, a length or a symbol.
const NUMBER_BYTES: usize = 5;
/// Time (10), text length (5) and three columns of runs (10 and 5, 5 and 5, 5 and 5), the worst case.
const LINE_BYTES: usize = 50;
/// Time with how often it repeats, and value.
const SAMPLE_BYTES: usize = 19;
/// A start time and how often it repeats.
const START_BYTES: usize = 11;
/// The mask of its labels, and counts of histograms and exemplars, each with how often it repeats.
const SERIES_BYTES: usize = 34;

/// Cuts a batch so that each part is one record. Parts keep the order; the ranges of a tailed batch stay contiguous and
/// together are the original one.
pub fn split(batch: Batch) -> Vec<Batch> {
    match batch {
        Batch::Metrics(batch) => split_metrics(batch).into_iter().map(Batch::Metrics).collect(),
        Batch::Logs(batch) => split_logs(batch).into_iter().map(Batch::Logs).collect(),
        Batch::ForgetFiles(ForgetFiles { tenant, files }) => {
            let room = MAX_BODY_BYTES.saturating_sub(FIXED_BYTES + tenant.len()).max(16);
            let parts = files.chunks(room / 16).map(|files| files.to_vec());
            parts.map(|files| Batch::ForgetFiles(ForgetFiles { tenant: tenant.clone(), files })).collect()
        }
        Batch::Alerts(AlertEvents { tenant, events }) => {
            let mut parts: Vec<Vec<String>> = Vec::new();
            let mut meter = Meter::new(tenant.len());
            for event in events {
                if meter.add(event.len() + NUMBER_BYTES) || parts.is_empty() {
                    parts.push(Vec::new());
                }
                parts.extend_last(event);
            }
            parts.into_iter().map(|events| Batch::Alerts(AlertEvents { tenant: tenant.clone(), events })).collect()
        }
        Batch::Deletes(_) | Batch::LineDeletes(_) => vec![batch],
    }
}

/// Adds to the part that is being filled.
trait ExtendLast<T> {
    fn extend_last(&mut self, item: T);
}

impl<T> ExtendLast<T> for Vec<Vec<T>> {
    fn extend_last(&mut self, item: T) {
        self.last_mut().expect("a part was begun").push(item);
    }
}

/// Measures the part that is being filled.
struct Meter {
    start_bytes: usize,
    bytes: usize,
}

impl Meter {
    fn new(tenant_bytes: usize) -> Meter {
        let start_bytes = FIXED_BYTES + tenant_bytes;
        Meter { start_bytes, bytes: start_bytes }
    }

    fn fits(&self, bytes: usize) -> bool {
        self.bytes + bytes <= MAX_BODY_BYTES
    }

    /// Counts an item; true when a new part has to begin with it.
    fn add(&mut self, bytes: usize) -> bool {
        let begins = !self.fits(bytes);
        self.bytes = bytes + if begins { self.start_bytes } else { self.bytes };
        begins
    }
}

/// A label set with its symbols, as if no symbol were shared.
fn set_bytes(labels: &Labels) -> usize {
    let pair = |label: &model::Label| label.name.len() + label.value.len() + 4 * NUMBER_BYTES;
    2 * NUMBER_BYTES + labels.iter().map(pair).sum::<usize>()
}

fn split_metrics(batch: MetricBatch) -> Vec<MetricBatch> {
    let tenant = batch.tenant;
    let mut parts: Vec<MetricBatch> = Vec::new();
    let mut meter = Meter::new(tenant.len());
    let begin = |parts: &mut Vec<MetricBatch>| parts.push(MetricBatch::new(tenant.clone(), Vec::new()));
    for series in batch.series {
        for cut in cut_series(series, MAX_BODY_BYTES.saturating_sub(meter.start_bytes)) {
            if meter.add(series_bytes(&cut)) || parts.is_empty() {
                begin(&mut parts);
            }
            parts.last_mut().expect("one was begun").series.push(cut);
        }
    }
    for one in batch.metadata {
        let bytes = one.name.len() + one.help.len() + one.unit.len() + 4 * NUMBER_BYTES;
        if meter.add(bytes) || parts.is_empty() {
            begin(&mut parts);
        }
        parts.last_mut().expect("one was begun").metadata.push(one);
    }
    parts
}

fn series_bytes(series: &SeriesSamples) -> usize {
    let exemplars = series.exemplars.iter().map(exemplar_bytes).sum::<usize>();
    let histograms = series.histograms.iter().map(histogram_bytes).sum::<usize>();
    SERIES_BYTES + set_bytes(&series.labels) + series.samples.len() * float_bytes(series) + histograms + exemplars
}

fn float_bytes(series: &SeriesSamples) -> usize {
    if series.starts_ms.is_empty() { SAMPLE_BYTES } else { SAMPLE_BYTES + START_BYTES }
}

fn exemplar_bytes(one: &Exemplar) -> usize {
    set_bytes(&one.labels) + SAMPLE_BYTES
}

/// As if its layout were that of no other.
fn histogram_bytes(one: &HistogramSample) -> usize {
    const FIXED_BYTES: usize = 100;
    let histogram = &one.histogram;
    let spans = histogram.positive.spans.len() + histogram.negative.spans.len();
    let counts = histogram.positive.counts.len() + histogram.negative.counts.len();
    FIXED_BYTES + spans * 2 * NUMBER_BYTES + counts * 10 + histogram.custom_bounds.len() * 8
}

/// Cuts a series that is too long for any record: floats first, then histograms, then exemplars.
fn cut_series(mut series: SeriesSamples, room: usize) -> Vec<SeriesSamples> {
    if series_bytes(&series) <= room {
        return vec![series];
    }
    let room = room.saturating_sub(SERIES_BYTES + set_bytes(&series.labels));
    let mut cuts = Vec::new();
    let at_once = (room / float_bytes(&series)).max(1);
    let mut starts = series.starts_ms.chunks(at_once);
    for samples in series.samples.chunks(at_once) {
        let starts_ms = starts.next().map_or_else(Vec::new, <[i64]>::to_vec);
        cuts.push(SeriesSamples {
            starts_ms,
            ..SeriesSamples::new(series.labels.clone(), Floats::from_slice(samples))
        });
    }
    let empty = || SeriesSamples::new(series.labels.clone(), Vec::new());
    // The first begins a cut of its own, behind the floats.
    let mut used = room;
    let mut adds = |bytes: usize| {
        let begins = used + bytes > room;
        used = bytes + if begins { 0 } else { used };
        begins
    };
    for one in std::mem::take(&mut series.histograms) {
        if adds(histogram_bytes(&one)) || cuts.is_empty() {
            cuts.push(empty());
        }
        cuts.last_mut().expect("one was begun").histograms.push(one);
    }
    for one in std::mem::take(&mut series.exemplars) {
        if adds(exemplar_bytes(&one)) || cuts.is_empty() {
            cuts.push(empty());
        }
        cuts.last_mut().expect("one was begun").exemplars.push(one);
    }
    cuts
}

fn split_logs(batch: LogBatch) -> Vec<LogBatch> {
    let sets: usize = batch.streams.iter().chain(&batch.metadata).map(set_bytes).sum();
    let whole = batch.tenant.len() + sets + batch.text_bytes() + batch.len() * LINE_BYTES;
    if Meter::new(0).fits(whole) {
        return vec![batch];
    }
    let mut parts = Vec::new();
    let mut part = LogPart::new(&batch, None);
    for i in 0..batch.len() {
        if !part.meter.fits(part.line_bytes(i)) && !part.lines.is_empty() {
            let at = part.end;
            let full = std::mem::replace(&mut part, LogPart::new(&batch, Some(at)));
            parts.push(full.lines);
        }
        part.push(i);
    }
    if let Origin::Tailed { end, .. } = batch.origin {
        part.lines.close_range(end);
    }
    parts.push(part.lines);
    parts
}

/// A part of a log batch with the streams and sets it needs.
struct LogPart<'a> {
    from: &'a LogBatch,
    lines: LogBatch,
    streams: HashMap<u32, u32>,
    metadata: HashMap<u32, u32>,
    meter: Meter,
    start: u64,
    end: u64,
}

impl<'a> LogPart<'a> {
    /// A part that begins at a place in the file, or at the whole batch's start.
    fn new(from: &'a LogBatch, start: Option<u64>) -> LogPart<'a> {
        let (origin, start) = match from.origin {
            Origin::Pushed => (Origin::Pushed, 0),
            Origin::Tailed { file, start: first, .. } => {
                let start = start.unwrap_or(first);
                (Origin::Tailed { file, start, end: start }, start)
            }
        };
        let lines = LogBatch::new(from.tenant.clone(), origin);
        let (streams, metadata) = (HashMap::new(), HashMap::from([(0, 0)]));
        LogPart { from, lines, streams, metadata, meter: Meter::new(from.tenant.len()), start, end: start }
    }

    fn line_bytes(&self, i: usize) -> usize {
        let line = self.from.line(i);
        let mut bytes = line.text.len() + LINE_BYTES;
        if !self.streams.contains_key(&line.stream) {
            bytes += set_bytes(&self.from.streams[line.stream as usize]);
        }
        if !self.metadata.contains_key(&line.metadata) {
            bytes += set_bytes(&self.from.metadata[line.metadata as usize]);
        }
        bytes
    }

    fn push(&mut self, i: usize) {
        self.meter.bytes += self.line_bytes(i);
        let line = self.from.line(i);
        let stream = place(&mut self.streams, &mut self.lines.streams, line.stream, &self.from.streams);
        let metadata = place(&mut self.metadata, &mut self.lines.metadata, line.metadata, &self.from.metadata);
        let source_end = match self.from.origin {
            Origin::Pushed => 0,
            Origin::Tailed { .. } => {
                self.end = line.source.1;
                u32::try_from(self.end - self.start).expect("a part is shorter than its batch")
            }
        };
        self.lines.push(stream, line.t_ns, line.text, metadata, source_end);
        if matches!(self.from.origin, Origin::Tailed { .. }) {
            self.lines.close_range(self.end);
        }
    }
}

/// The index of a set within a part, which it joins when it is new.
fn place(known: &mut HashMap<u32, u32>, sets: &mut Vec<Labels>, index: u32, from: &[Labels]) -> u32 {
    *known.entry(index).or_insert_with(|| {
        sets.push(from[index as usize].clone());
        sets.len() as u32 - 1
    })
}
