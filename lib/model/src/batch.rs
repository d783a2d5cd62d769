//! Batches: what one bus record says. Columnar where it is large.
//!
//! `lib/bus` encodes them; producers fill them; stores consume them behind an `Arc`, never copied.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{Histogram, Labels, Matcher, Sample};

/// The content of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Batch {
    Metrics(MetricBatch),
    Logs(LogBatch),
    /// Tailed files that no longer exist: a store may drop the byte ranges it kept for them.
    ForgetFiles(ForgetFiles),
    Alerts(AlertEvents),
    /// Samples to be forgotten that came before this record.
    Deletes(Deletes),
    /// Lines to be forgotten that came before this record.
    LineDeletes(LineDeletes),
}

/// What a label costs in memory beside its text: two shared strings with their counts.
const LABEL_BYTES: usize = 80;
/// What a label set, or a series, costs beside its labels and samples.
const SET_BYTES: usize = 64;

impl Batch {
    /// Roughly what it holds in memory, for limits.
    pub fn memory_bytes(&self) -> usize {
        let sets = |sets: &[Labels]| sets.iter().map(set_bytes).sum::<usize>();
        match self {
            Batch::Metrics(batch) => {
                let metadata = |one: &MetricMetadata| SET_BYTES + one.name.len() + one.unit.len() + one.help.len();
                batch.series.iter().map(SeriesSamples::memory_bytes).sum::<usize>()
                    + batch.metadata.iter().map(metadata).sum::<usize>()
            }
            Batch::Logs(batch) => {
                let columns = 2 * size_of::<u64>() + 3 * size_of::<u32>();
                batch.text_bytes() + batch.len() * columns + sets(&batch.streams) + sets(&batch.metadata)
            }
            Batch::ForgetFiles(batch) => batch.files.len() * size_of::<FileId>(),
            Batch::Alerts(batch) => batch.events.iter().map(|event| SET_BYTES + event.len()).sum(),
            Batch::Deletes(batch) => {
                let matcher = |one: &Matcher| SET_BYTES + one.name.len() + one.value.len();
                SET_BYTES + batch.selectors.iter().flatten().map(matcher).sum::<usize>()
            }
            Batch::LineDeletes(batch) => SET_BYTES + batch.id.len() + batch.query.len(),
        }
    }
}

/// Without the strings, which label sets share.
fn set_bytes(labels: &Labels) -> usize {
    SET_BYTES + LABEL_BYTES * labels.len()
}

/// Samples of some series of one tenant.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricBatch {
    pub tenant: String,
    pub series: Vec<SeriesSamples>,
    /// What is known of metrics, by their names.
    pub metadata: Vec<MetricMetadata>,
}

/// Float samples of one series in one batch: mostly one, which then needs no memory of its own.
pub type Floats = SmallVec<[Sample; 1]>;

/// Samples of one series, in the order they were sent (not sorted, duplicates possible: the later wins, and of a float and
/// a histogram of one instant the histogram).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeriesSamples {
    pub labels: Labels,
    pub samples: Floats,
    /// When the counting of each sample began (0: unknown), or empty where none is known.
    pub starts_ms: Vec<i64>,
    pub histograms: Vec<HistogramSample>,
    pub exemplars: Vec<Exemplar>,
}

/// One native histogram of a series at an instant.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    pub t_ms: i64,
    /// When its counting began; 0: unknown.
    pub start_ms: i64,
    pub histogram: Arc<Histogram>,
}

/// A single observation behind a sample, with labels of its own (a trace id).
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub t_ms: i64,
}

/// What a metric is, as its source says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetricMetadata {
    /// Of the metric family: without `_bucket`, `_count` and `_sum` of a histogram.
    pub name: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricKind {
    /// In the order of the numbers that protocols and records give them.
    pub const ALL: [MetricKind; 8] = [
        MetricKind::Unknown,
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Histogram,
        MetricKind::GaugeHistogram,
        MetricKind::Summary,
        MetricKind::Info,
        MetricKind::StateSet,
    ];

    /// As Prometheus' API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }
}

impl MetricBatch {
    pub fn new(tenant: impl Into<String>, series: Vec<SeriesSamples>) -> MetricBatch {
        MetricBatch { tenant: tenant.into(), series, metadata: Vec::new() }
    }

    pub fn sample_count(&self) -> usize {
        self.series.iter().map(SeriesSamples::len).sum()
    }
}

impl SeriesSamples {
    /// A series of floats.
    pub fn new(labels: Labels, samples: impl Into<Floats>) -> SeriesSamples {
        SeriesSamples { labels, samples: samples.into(), ..SeriesSamples::default() }
    }

    /// Samples of both kinds.
    pub fn len(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn memory_bytes(&self) -> usize {
        let histograms = self.histograms.iter().map(|one| SET_BYTES + one.histogram.size_bytes()).sum::<usize>();
        let exemplars = self.exemplars.iter().map(|one| SET_BYTES + set_bytes(&one.labels)).sum::<usize>();
        let floats = self.samples.len() * size_of::<Sample>() + self.starts_ms.len() * size_of::<i64>();
        set_bytes(&self.labels) + floats + histograms + exemplars
    }
}

/// Samples of one tenant that are to be forgotten: those of series that a selector accepts, within an inclusive range,
/// which came before this record in its partition. Every partition gets one, for its own series.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletes {
    pub tenant: String,
    pub selectors: Vec<Vec<Matcher>>,
    pub start_ms: i64,
    pub end_ms: i64,
    /// How many partitions there were when it was written, and for the series of which one it is.
    pub partitions: u32,
    pub partition: u32,
}

/// Lines of one tenant that are to be forgotten: those that a query gives within an inclusive range, which came before this
/// record. Every partition gets one.
#[derive(Debug, Clone, PartialEq)]
pub struct LineDeletes {
    /// Which request it was, the same in every partition.
    pub id: String,
    pub tenant: String,
    /// A stream selector and filters, in LogQL.
    pub query: String,
    pub start_ns: i64,
    pub end_ns: i64,
    pub created_ms: i64,
}

/// A tailed file's identity: random, minted once, durable in the agent's checkpoint before its first record ships.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u128);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a batch of lines came from, which decides how repeats are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Lines that a client pushed. Repeats are recognised by stream, timestamp, text and metadata.
    Pushed,
    /// One contiguous byte range `start..end` of one file. Repeats are recognised by their bytes' place: what overlaps a
    /// range that a store has covered is cut, line by line. The range covers separators, blank lines and bytes that
    /// yielded no line, so consecutive records of a file have touching ranges.
    Tailed { file: FileId, start: u64, end: u64 },
}

/// Lines of some streams of one tenant. Columns, one entry per line.
#[derive(Debug, Clone, PartialEq)]
pub struct LogBatch {
    pub tenant: String,
    pub origin: Origin,
    /// The streams that lines name by index.
    pub streams: Vec<Labels>,
    /// Structured metadata sets that lines name by index; entry 0 is the empty set.
    pub metadata: Vec<Labels>,
    columns: LogColumns,
}

/// The columns of a [`LogBatch`], one entry per line, as encoders see them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogColumns {
    pub stream: Vec<u32>,
    pub t_ns: Vec<i64>,
    pub metadata: Vec<u32>,
    pub text: String,
    /// Where each line's text ends in `text`.
    pub text_end: Vec<u32>,
    /// Where each line's bytes end in the file, from the origin's start; a line's range starts where the one before ends.
    pub source_end: Vec<u32>,
}

/// One line of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineRef<'a> {
    pub stream: u32,
    pub t_ns: i64,
    pub text: &'a str,
    pub metadata: u32,
    /// The line's bytes in its file, absolute; empty ranges for pushed lines.
    pub source: (u64, u64),
}

impl LogBatch {
    pub fn new(tenant: impl Into<String>, origin: Origin) -> LogBatch {
        LogBatch {
            tenant: tenant.into(),
            origin,
            streams: Vec::new(),
            metadata: vec![Labels::default()],
            columns: LogColumns::default(),
        }
    }

    /// A batch from decoded columns; says what is wrong with them where they do not fit together.
    pub fn from_columns(
        tenant: String,
        origin: Origin,
        streams: Vec<Labels>,
        metadata: Vec<Labels>,
        columns: LogColumns,
    ) -> Result<LogBatch, &'static str> {
        let lines = columns.t_ns.len();
        let lengths = [columns.stream.len(), columns.metadata.len(), columns.text_end.len(), columns.source_end.len()];
        if lengths != [lines; 4] {
            return Err("columns of different lengths");
        }
        if !metadata.first().is_some_and(Labels::is_empty) {
            return Err("the first metadata set is not the empty one");
        }
        let inside = |column: &[u32], sets: usize| column.iter().all(|index| (*index as usize) < sets);
        if !inside(&columns.stream, streams.len()) || !inside(&columns.metadata, metadata.len()) {
            return Err("a line of no stream or metadata set");
        }
        if !columns.text_end.is_sorted() || columns.text_end.last().map_or(0, |end| *end as usize) != columns.text.len()
        {
            return Err("texts that do not fill the text");
        }
        if !columns.text_end.iter().all(|end| columns.text.is_char_boundary(*end as usize)) {
            return Err("a text that ends inside a character");
        }
        let range_bytes = match origin {
            Origin::Pushed => 0,
            Origin::Tailed { start, end, .. } => end.checked_sub(start).ok_or("a range that ends before it starts")?,
        };
        let last = columns.source_end.last().map_or(0, |end| u64::from(*end));
        if !columns.source_end.is_sorted() || last > range_bytes {
            return Err("lines outside their range");
        }
        Ok(LogBatch { tenant, origin, streams, metadata, columns })
    }

    pub fn columns(&self) -> &LogColumns {
        &self.columns
    }

    /// Appends a line. `source_end` is relative to the origin's start (0 for pushed lines); for tailed lines it never
    /// falls and never passes the origin's end.
    pub fn push(&mut self, stream: u32, t_ns: i64, text: &str, metadata: u32, source_end: u32) {
        assert!((stream as usize) < self.streams.len() && (metadata as usize) < self.metadata.len());
        assert!(self.columns.source_end.last().is_none_or(|last| *last <= source_end), "source ranges never fall");
        self.columns.stream.push(stream);
        self.columns.t_ns.push(t_ns);
        self.columns.metadata.push(metadata);
        self.columns.text.push_str(text);
        self.columns
            .text_end
            .push(u32::try_from(self.columns.text.len()).expect("a batch stays below the record limit"));
        self.columns.source_end.push(source_end);
    }

    pub fn len(&self) -> usize {
        self.columns.t_ns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.t_ns.is_empty()
    }

    /// Bytes of all texts together.
    pub fn text_bytes(&self) -> usize {
        self.columns.text.len()
    }

    pub fn line(&self, i: usize) -> LineRef<'_> {
        let before = |column: &[u32]| if i == 0 { 0 } else { column[i - 1] };
        let base = match self.origin {
            Origin::Pushed => 0,
            Origin::Tailed { start, .. } => start,
        };
        LineRef {
            stream: self.columns.stream[i],
            t_ns: self.columns.t_ns[i],
            text: &self.columns.text[before(&self.columns.text_end) as usize..self.columns.text_end[i] as usize],
            metadata: self.columns.metadata[i],
            source: (base + u64::from(before(&self.columns.source_end)), base + u64::from(self.columns.source_end[i])),
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = LineRef<'_>> {
        (0..self.len()).map(|i| self.line(i))
    }

    /// Sets the end of a tailed batch's range, once it is known.
    pub fn close_range(&mut self, new_end: u64) {
        match &mut self.origin {
            Origin::Tailed { start, end, .. } => {
                let last = *start + u64::from(self.columns.source_end.last().copied().unwrap_or(0));
                assert!(new_end >= last, "a range holds its lines");
                *end = new_end;
            }
            Origin::Pushed => panic!("only tailed batches have a range"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetFiles {
    pub tenant: String,
    pub files: Vec<FileId>,
}

/// Events of the alert router, one JSON document each; `alertmanager` owns their schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertEvents {
    pub tenant: String,
    pub events: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bus used to weigh what it keeps in memory by its encoded size, a tenth of this for series of one sample.
    #[test]
    fn short_series_weigh_their_labels() {
        let labels = Labels::from_pairs([("__name__", "m"), ("s", "1")]);
        let series = vec![SeriesSamples::new(labels, vec![Sample { t_ms: 1, value: 1.0 }]); 10];
        let batch = Batch::Metrics(MetricBatch::new("t", series));
        assert!(batch.memory_bytes() > 10 * 200, "{}", batch.memory_bytes());
    }

    #[test]
    fn tailed_lines_know_their_bytes() {
        let file = FileId(7);
        let mut batch = LogBatch::new("t", Origin::Tailed { file, start: 100, end: 100 });
        batch.streams.push(Labels::from_pairs([("a", "b")]));
        batch.push(0, 1, "one", 0, 4);
        batch.push(0, 2, "two", 0, 9);
        batch.close_range(110);
        let lines: Vec<_> = batch.lines().map(|line| (line.text, line.source)).collect();
        assert_eq!(lines, [("one", (100, 104)), ("two", (104, 109))]);
        assert_eq!(batch.origin, Origin::Tailed { file, start: 100, end: 110 });
    }
}
