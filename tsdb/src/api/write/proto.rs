//! The messages of remote write (Prometheus' `prompb/remote.proto`, `prompb/types.proto` and
//! `prompb/io/prometheus/write/v2/types.proto`), and what they say as a batch.

use std::sync::Arc;

use model::{
    BucketSpan, Exemplar, HistogramError, HistogramSample, Labels, MetricKind, MetricMetadata, ResetHint, WireCounts,
    WireHistogram,
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
pub fn read_histograms(histograms: Vec<Histogram>, labels: &Labels, refusals: &mut Refusals) -> Vec<HistogramSample> {
    if histograms.is_empty() {
        return Vec::new();
    }
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

pub fn kind_of(number: i32) -> MetricKind {
    usize::try_from(number).ok().and_then(|at| MetricKind::ALL.get(at)).copied().unwrap_or_default()
}

pub mod v1 {
    use super::*;

    #[cfg(test)]
    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<Metadata>,
    }

    #[cfg(test)]
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

    impl Metadata {
        pub fn read(self) -> MetricMetadata {
            let Metadata { kind, name, help, unit } = self;
            MetricMetadata { name, kind: kind_of(kind), help, unit }
        }
    }

    impl ExemplarPair {
        pub fn read(self) -> Exemplar {
            let labels = Labels::from_pairs(self.labels.into_iter().map(|pair| (pair.name, pair.value)));
            Exemplar { labels, value: self.value, t_ms: self.t_ms }
        }
    }
}

pub mod v2 {
    use super::*;

    #[cfg(test)]
    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        #[prost(string, repeated, tag = "4")]
        pub symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeries>,
    }

    #[cfg(test)]
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

    #[cfg(test)]
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
}

/// The family that a series' metric belongs to.
pub fn family_of(kind: MetricKind, name: &str) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_count", "_sum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::{MetricBatch, Sample, SeriesSamples};
    use proptest::prelude::*;
    use service::config::Limits;

    use super::super::message::{MessageError, Reading, read_v1, read_v2};
    use super::*;
    use crate::ingest::label_fault;
    use crate::known::KnownSeries;
    use crate::pairs::{Pairs, PairsVisit};

    type Read = fn(&[u8], &mut Reading<'_, '_>) -> Result<MetricBatch, MessageError>;

    /// What a message reads as, and what of it is refused.
    fn read_by(read: Read, message: &[u8], known: &KnownSeries) -> (Result<MetricBatch, MessageError>, String) {
        let (mut refusals, mut visit, pairs) = (Refusals::default(), known.visit(), Pairs::default());
        let pairs = PairsVisit::new(&pairs, "t", 0);
        let mut reading =
            Reading { pairs, known: &mut visit, limits: &Limits::default(), refusals: &mut refusals, newest_ms: 0 };
        let batch = read(message, &mut reading);
        visit.end(0);
        (batch, refusals.lines().collect())
    }

    /// A message of 2.0 with one series must read as this batch, or refuse for this reason; and again when it is known.
    fn check(series: v2::TimeSeries, expected: Result<&MetricBatch, &str>) {
        let symbols = ["", "__name__", "h_bucket", "a", "b", "seconds"].map(str::to_owned).to_vec();
        let bytes = v2::Request { symbols, timeseries: vec![series] }.encode_to_vec();
        let known = KnownSeries::default();
        for is_known in [false, true] {
            let (read, said) = read_by(read_v2, &bytes, &known);
            let mut read = read.expect("it decodes");
            match expected {
                Ok(batch) if is_known => assert_eq!((&read.series, read.metadata.len()), (&batch.series, 0)),
                Ok(batch) => {
                    assert_eq!((&read, said.as_str()), (batch, ""));
                    known.passed_on(known.keep_news("t", &mut read.metadata));
                }
                Err(reason) => assert!(said.contains(reason), "{said}"),
            }
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
            samples: vec![Sample { t_ms: 7, value: 1.5 }].into(),
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

    /// The second time it was taken: its fingerprint had been kept before it was looked at.
    #[test]
    fn a_description_that_is_no_text_is_refused_again_and_again() {
        let [symbols, series, metadata, help] = [4 << 3 | 2, 5 << 3 | 2, 5 << 3 | 2, 3 << 3u8];
        let message = [
            &[symbols, 0, symbols, 8][..],
            b"__name__",
            &[symbols, 1, b'x', symbols, 2, 0xff, 0xfe],
            &[series, 12, 1 << 3 | 2, 2, 1, 2, 2 << 3 | 2, 2, 2 << 3, 7, metadata, 2, help, 3],
        ]
        .concat();
        let known = KnownSeries::default();
        for _ in 0..2 {
            let (read, _) = read_by(read_v2, &message, &known);
            assert_eq!(read.map_err(|error| error.to_string()), Err("protobuf: a string is no UTF-8".to_owned()));
        }
    }

    fn batch_of(message: &v1::Request) -> Vec<SeriesSamples> {
        let one = |series: &v1::TimeSeries| {
            let labels = Labels::from_pairs(series.labels.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())));
            let names: BTreeSet<&str> = series.labels.iter().map(|pair| pair.name.as_str()).collect();
            let is_good = names.len() == series.labels.len() && label_fault(&labels, &Limits::default()).is_none();
            let samples: Vec<Sample> =
                series.samples.iter().map(|one| Sample { t_ms: one.t_ms, value: one.value }).collect();
            is_good.then(|| SeriesSamples::new(labels, samples))
        };
        message.timeseries.iter().filter_map(one).collect()
    }

    fn message() -> impl Strategy<Value = v1::Request> {
        let label = ("[ab]|__name__|", "[a-c]{0,2}").prop_map(|(name, value)| v1::LabelPair { name, value });
        let sample = (-9i64..9, 0u32..9).prop_map(|(t_ms, value)| v1::SamplePair { t_ms, value: value.into() });
        let series = (prop::collection::vec(label, 0..4), prop::collection::vec(sample, 0..3))
            .prop_map(|(labels, samples)| v1::TimeSeries { labels, samples, ..v1::TimeSeries::default() });
        prop::collection::vec(series, 0..9).prop_map(|timeseries| v1::Request { timeseries, ..v1::Request::default() })
    }

    proptest! {
        /// What is recognized by its bytes must be what prost would have read from them.
        #[test]
        fn messages_of_1_0_read_as_their_series(messages in prop::collection::vec(message(), 1..4)) {
            let known = KnownSeries::default();
            for message in messages {
                let read = read_by(read_v1, &message.encode_to_vec(), &known).0.expect("it decodes");
                prop_assert_eq!(read.series, batch_of(&message));
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), histogram in prop::collection::vec(any::<u8>(), 0..100)) {
            let known = KnownSeries::default();
            let _ = (read_by(read_v1, &bytes, &known), read_by(read_v2, &bytes, &known));
            let _ = Histogram::decode(histogram.as_slice()).map(Histogram::read);
        }
    }

    /// Labels may stand anywhere in a series: here around its sample.
    #[test]
    fn scattered_labels_are_read_whole() {
        let label = |name: &str, value: &str| v1::TimeSeries {
            labels: vec![v1::LabelPair { name: name.into(), value: value.into() }],
            ..v1::TimeSeries::default()
        };
        let sample =
            v1::TimeSeries { samples: vec![v1::SamplePair { value: 1.5, t_ms: 7 }], ..v1::TimeSeries::default() };
        let series = [label("__name__", "x"), sample, label("a", "b")].map(|piece| piece.encode_to_vec()).concat();
        let mut message = vec![0x0a, series.len() as u8];
        message.extend(series);
        let read = read_by(read_v1, &message, &KnownSeries::default()).0.expect("it decodes");
        let labels = Labels::from_pairs([("__name__", "x"), ("a", "b")]);
        assert_eq!(read.series, [SeriesSamples::new(labels, vec![Sample { t_ms: 7, value: 1.5 }])]);
    }

    /// Two servers that write the same series are one.
    #[test]
    fn one_of_a_pair_is_read() {
        let known = KnownSeries::default();
        let message = |replica: &str| {
            let pairs = [("__name__", "x"), ("__replica__", replica), ("cluster", "c")];
            let label = |(name, value): (&str, &str)| v1::LabelPair { name: name.into(), value: value.into() };
            let samples = vec![v1::SamplePair { value: 1.5, t_ms: 7 }];
            let series = v1::TimeSeries { labels: pairs.map(label).to_vec(), samples, ..v1::TimeSeries::default() };
            v1::Request { timeseries: vec![series], ..v1::Request::default() }.encode_to_vec()
        };
        let both = [message("a"), message("b")].concat();
        for _ in 0..2 {
            let read = read_by(read_v1, &both, &known).0.expect("it decodes");
            let labels = Labels::from_pairs([("__name__", "x"), ("cluster", "c")]);
            assert_eq!(read.series, [SeriesSamples::new(labels, vec![Sample { t_ms: 7, value: 1.5 }])]);
        }
    }
}
