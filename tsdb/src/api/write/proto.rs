//! The messages of remote write (Prometheus' `prompb/remote.proto`, `prompb/types.proto` and
//! `prompb/io/prometheus/write/v2/types.proto`), and what they say as a batch.

use std::sync::Arc;

use model::{
    BucketSpan, Exemplar, HistogramError, HistogramSample, Labels, MetricBatch, MetricKind, MetricMetadata, ResetHint,
    Sample, SeriesSamples, WireCounts, WireHistogram,
};
use prost::{Message, Oneof};

use crate::ingest::Refusals;

/// A native histogram; both versions share it, 1.0 without a start time.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub t_ms: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub start_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum Count {
    #[prost(uint64, tag = "1")]
    Integer(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Integer(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

impl Histogram {
    fn read(self) -> Result<HistogramSample, HistogramError> {
        let counts = match self.count {
            Some(Count::Float(count)) => WireCounts::Float {
                count,
                zero_count: match self.zero_count {
                    Some(ZeroCount::Float(zero_count)) => zero_count,
                    Some(ZeroCount::Integer(_)) | None => 0.0,
                },
                positive: self.positive_counts,
                negative: self.negative_counts,
            },
            count => WireCounts::Integer {
                count: if let Some(Count::Integer(count)) = count { count } else { 0 },
                zero_count: if let Some(ZeroCount::Integer(zero_count)) = self.zero_count { zero_count } else { 0 },
                positive_deltas: self.positive_deltas,
                negative_deltas: self.negative_deltas,
            },
        };
        let spans =
            |spans: Vec<Span>| spans.into_iter().map(|Span { offset, length }| BucketSpan { offset, length }).collect();
        let wire = WireHistogram {
            schema: self.schema,
            reset_hint: match self.reset_hint {
                1 => ResetHint::Reset,
                2 => ResetHint::NotReset,
                3 => ResetHint::Gauge,
                _ => ResetHint::Unknown,
            },
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            counts,
            positive_spans: spans(self.positive_spans),
            negative_spans: spans(self.negative_spans),
            custom_bounds: self.custom_values,
        };
        Ok(HistogramSample { t_ms: self.t_ms, start_ms: self.start_ms, histogram: Arc::new(wire.convert()?) })
    }
}

/// The good histograms of a series.
fn read_histograms(histograms: Vec<Histogram>, labels: &Labels, refusals: &mut Refusals) -> Vec<HistogramSample> {
    let read = histograms.into_iter().map(Histogram::read);
    let mut good = Vec::with_capacity(read.len());
    for one in read {
        match one {
            Ok(sample) => good.push(sample),
            Err(error) => refusals.add("malformed histogram", 1, || format!("{error}, of {labels}")),
        }
    }
    good
}

/// Labels from pairs in any order, unless a name repeats.
fn read_labels(pairs: &[(&str, &str)], samples: usize, refusals: &mut Refusals) -> Option<Labels> {
    let labels = Labels::from_pairs(pairs.iter().copied());
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    if let Some(two) = names.windows(2).find(|two| two[0] == two[1]) {
        refusals.add("a label name repeats", samples as u64, || format!("{} in {labels}", two[0]));
        return None;
    }
    Some(labels)
}

fn kind_of(number: i32) -> MetricKind {
    usize::try_from(number).ok().and_then(|at| MetricKind::ALL.get(at)).copied().unwrap_or_default()
}

pub mod v1 {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<Metadata>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<LabelPair>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<SamplePair>,
        #[prost(message, repeated, tag = "3")]
        pub exemplars: Vec<ExemplarPair>,
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct LabelPair {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct SamplePair {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub t_ms: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct ExemplarPair {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<LabelPair>,
        #[prost(double, tag = "2")]
        pub value: f64,
        #[prost(int64, tag = "3")]
        pub t_ms: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(string, tag = "4")]
        pub help: String,
        #[prost(string, tag = "5")]
        pub unit: String,
    }

    impl Request {
        /// The batch, of no tenant yet, and what of it cannot be taken.
        pub fn read(self, refusals: &mut Refusals) -> MetricBatch {
            let series = self.timeseries.into_iter().filter_map(|series| series.read(refusals)).collect();
            let metadata = self.metadata.into_iter().map(|one| {
                let Metadata { kind, name, help, unit } = one;
                MetricMetadata { name, kind: kind_of(kind), help, unit }
            });
            MetricBatch { metadata: metadata.collect(), ..MetricBatch::new("", series) }
        }
    }

    impl TimeSeries {
        fn read(self, refusals: &mut Refusals) -> Option<SeriesSamples> {
            let count = self.samples.len() + self.histograms.len();
            let pairs: Vec<_> = self.labels.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
            let labels = read_labels(&pairs, count, refusals)?;
            let histograms = read_histograms(self.histograms, &labels, refusals);
            let samples = self.samples.into_iter().map(|SamplePair { t_ms, value }| Sample { t_ms, value }).collect();
            let exemplar = |one: ExemplarPair| {
                let labels = Labels::from_pairs(one.labels.into_iter().map(|pair| (pair.name, pair.value)));
                Exemplar { labels, value: one.value, t_ms: one.t_ms }
            };
            let exemplars = self.exemplars.into_iter().map(exemplar).collect();
            Some(SeriesSamples { labels, samples, histograms, exemplars, ..SeriesSamples::default() })
        }
    }
}

pub mod v2 {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        #[prost(string, repeated, tag = "4")]
        pub symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct TimeSeries {
        /// Symbols of name, value, name, value and so on.
        #[prost(uint32, repeated, tag = "1")]
        pub labels: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<SamplePair>,
        #[prost(message, repeated, tag = "3")]
        pub histograms: Vec<Histogram>,
        #[prost(message, repeated, tag = "4")]
        pub exemplars: Vec<ExemplarPair>,
        #[prost(message, optional, tag = "5")]
        pub metadata: Option<Metadata>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct SamplePair {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub t_ms: i64,
        #[prost(int64, tag = "3")]
        pub start_ms: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct ExemplarPair {
        #[prost(uint32, repeated, tag = "1")]
        pub labels: Vec<u32>,
        #[prost(double, tag = "2")]
        pub value: f64,
        #[prost(int64, tag = "3")]
        pub t_ms: i64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(uint32, tag = "3")]
        pub help: u32,
        #[prost(uint32, tag = "4")]
        pub unit: u32,
    }

    impl Request {
        /// The batch, of no tenant yet, and what of it cannot be taken.
        pub fn read(self, refusals: &mut Refusals) -> MetricBatch {
            let mut batch = MetricBatch::default();
            for series in self.timeseries {
                let metadata = series.metadata;
                let Some(series) = series.read(&self.symbols, refusals) else { continue };
                if let Some(described) = metadata.and_then(|one| one.read(&self.symbols, &series.labels))
                    && batch.metadata.last() != Some(&described)
                {
                    batch.metadata.push(described);
                }
                batch.series.push(series);
            }
            batch
        }
    }

    impl TimeSeries {
        fn read(self, symbols: &[String], refusals: &mut Refusals) -> Option<SeriesSamples> {
            let count = self.samples.len() + self.histograms.len();
            let Some(pairs) = pairs_of(&self.labels, symbols) else {
                refusals
                    .add("labels that are not among the symbols", count.max(1) as u64, || format!("{:?}", self.labels));
                return None;
            };
            let labels = read_labels(&pairs, count, refusals)?;
            if count == 0 {
                refusals.add("a series without samples", 1, || {
                    format!("TimeSeries must contain at least one sample or histogram for series {labels}")
                });
                return None;
            }
            let histograms = read_histograms(self.histograms, &labels, refusals);
            let starts_ms: Vec<i64> = self.samples.iter().map(|sample| sample.start_ms).collect();
            let starts_ms = if starts_ms.iter().any(|start_ms| *start_ms != 0) { starts_ms } else { Vec::new() };
            let sample = |one: SamplePair| Sample { t_ms: one.t_ms, value: one.value };
            let samples = self.samples.into_iter().map(sample).collect();
            // An exemplar that is none harms nothing else.
            let exemplar = |one: ExemplarPair| {
                let labels = Labels::from_pairs(pairs_of(&one.labels, symbols)?);
                Some(Exemplar { labels, value: one.value, t_ms: one.t_ms })
            };
            let exemplars = self.exemplars.into_iter().filter_map(exemplar).collect();
            Some(SeriesSamples { labels, samples, starts_ms, histograms, exemplars })
        }
    }

    impl Metadata {
        /// Under the name of the metric's family. `None` where nothing is said.
        fn read(self, symbols: &[String], labels: &Labels) -> Option<MetricMetadata> {
            let text = |symbol: u32| symbols.get(symbol as usize).cloned().unwrap_or_default();
            let (kind, help, unit) = (kind_of(self.kind), text(self.help), text(self.unit));
            if kind == MetricKind::Unknown && help.is_empty() && unit.is_empty() {
                return None;
            }
            let name = labels.metric_name()?;
            let suffixes: &[&str] = match kind {
                MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_count", "_sum"],
                MetricKind::Summary => &["_count", "_sum"],
                _ => &[],
            };
            let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            Some(MetricMetadata { name: family.to_owned(), kind, help, unit })
        }
    }

    fn pairs_of<'s>(references: &[u32], symbols: &'s [String]) -> Option<Vec<(&'s str, &'s str)>> {
        let text = |symbol: u32| symbols.get(symbol as usize).map(String::as_str);
        if !references.len().is_multiple_of(2) {
            return None;
        }
        references.chunks_exact(2).map(|pair| Some((text(pair[0])?, text(pair[1])?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of 2.0 with one series must read as this batch, or refuse for this reason.
    fn check(series: v2::TimeSeries, expected: Result<&MetricBatch, &str>) {
        let symbols = ["", "__name__", "h_bucket", "a", "b", "seconds"].map(str::to_owned).to_vec();
        let mut refusals = Refusals::default();
        let bytes = v2::Request { symbols, timeseries: vec![series] }.encode_to_vec();
        let read = v2::Request::decode(bytes.as_slice()).expect("it decodes").read(&mut refusals);
        let said: String = refusals.lines().collect();
        match expected {
            Ok(batch) => assert_eq!((&read, said.as_str()), (batch, "")),
            Err(reason) => assert!(said.contains(reason), "{said}"),
        }
    }

    fn histogram() -> Histogram {
        Histogram {
            count: Some(Count::Integer(3)),
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_deltas: vec![1, 1],
            t_ms: 5,
            start_ms: 2,
            reset_hint: 2,
            ..Histogram::default()
        }
    }

    #[test]
    fn messages_of_2_0_read_as_batches() {
        let series = v2::TimeSeries {
            labels: vec![1, 2, 3, 4],
            samples: vec![v2::SamplePair { value: 1.5, t_ms: 7, start_ms: 3 }],
            histograms: vec![histogram()],
            exemplars: vec![v2::ExemplarPair { labels: vec![3, 4], value: 0.5, t_ms: 6 }],
            metadata: Some(v2::Metadata { kind: 3, help: 4, unit: 5 }),
        };
        let converted = histogram().read().expect("it is good");
        assert_eq!((converted.histogram.count, converted.histogram.reset_hint), (3.0, ResetHint::NotReset));
        let expected = SeriesSamples {
            labels: Labels::from_pairs([("__name__", "h_bucket"), ("a", "b")]),
            samples: vec![Sample { t_ms: 7, value: 1.5 }],
            starts_ms: vec![3],
            histograms: vec![converted],
            exemplars: vec![Exemplar { labels: Labels::from_pairs([("a", "b")]), value: 0.5, t_ms: 6 }],
        };
        let described =
            MetricMetadata { name: "h".into(), kind: MetricKind::Histogram, help: "b".into(), unit: "seconds".into() };
        let batch = MetricBatch { metadata: vec![described], ..MetricBatch::new("", vec![expected]) };
        check(series.clone(), Ok(&batch));
        check(v2::TimeSeries { labels: vec![1, 99], ..series.clone() }, Err("not among the symbols"));
        check(v2::TimeSeries { labels: vec![1, 2, 3], ..series.clone() }, Err("not among the symbols"));
        check(v2::TimeSeries { labels: vec![3, 4, 3, 4], ..series.clone() }, Err("a label name repeats"));
        let empty = v2::TimeSeries { samples: vec![], histograms: vec![], ..series.clone() };
        check(empty, Err("at least one sample or histogram"));
        let bad = Histogram { positive_deltas: vec![1], ..histogram() };
        check(v2::TimeSeries { histograms: vec![bad], ..series }, Err("spans need 2 buckets, have 1 buckets"));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), histogram in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut refusals = Refusals::default();
            let _ = v1::Request::decode(bytes.as_slice()).map(|request| request.read(&mut refusals));
            let _ = v2::Request::decode(bytes.as_slice()).map(|request| request.read(&mut refusals));
            let _ = Histogram::decode(histogram.as_slice()).map(Histogram::read);
        }
    }
}
