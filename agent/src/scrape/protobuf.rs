//! The exposition in protobuf: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! A family becomes the samples that its text would have, under series written as text (which is how
//! [`super::series`] knows them again), and native histograms, which the text formats do not have.

use std::sync::Arc;

use model::{
    BucketSpan, Exemplar, HistogramError, Labels, MetricKind, MetricMetadata, ResetHint, WireCounts, WireHistogram,
};
use prost::Message;

use super::history::{Scraped, Value};

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Simple {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<ExemplarMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<ExemplarMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(double, tag = "8")]
    zero_count_float: f64,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "10")]
    negative_delta: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "14")]
    positive_count: Vec<f64>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<ExemplarMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Simple>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Simple>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Simple>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<HistogramMessage>,
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

/// Which form of histograms is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub native: bool,
    /// Classic series also of histograms that have a native form.
    pub classic: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    #[error("protobuf: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("invalid histogram {1}: {0}")]
    Histogram(HistogramError, String),
}

/// Reads all families of a body.
pub fn parse(body: &[u8], wanted: Wanted) -> Result<(Vec<Scraped>, Vec<MetricMetadata>), ProtobufError> {
    let (mut samples, mut metadata, mut rest) = (Vec::new(), Vec::new(), body);
    while !rest.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut rest)?;
        let kind = match family.kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Summary,
            4 => MetricKind::Histogram,
            5 => MetricKind::GaugeHistogram,
            _ => MetricKind::Unknown,
        };
        let (name, help, unit) = (family.name, family.help, family.unit);
        for metric in family.metric {
            let mut reading = Reading { name: &name, kind, label: metric.label, t_ms: metric.timestamp_ms, samples };
            for simple in [metric.gauge, metric.counter, metric.untyped].into_iter().flatten() {
                reading.add("", None, simple.value, simple.exemplar);
            }
            if let Some(summary) = metric.summary {
                reading.summary(&summary);
            }
            if let Some(histogram) = metric.histogram {
                reading.histogram(histogram, wanted)?;
            }
            samples = reading.samples;
        }
        metadata.push(MetricMetadata { name, kind, help, unit });
    }
    Ok((samples, metadata))
}

/// One metric of a family.
struct Reading<'a> {
    name: &'a str,
    kind: MetricKind,
    label: Vec<LabelPair>,
    t_ms: Option<i64>,
    samples: Vec<Scraped>,
}

impl Reading<'_> {
    fn add(&mut self, suffix: &str, more: Option<(&str, f64)>, value: f64, exemplar: Option<ExemplarMessage>) {
        self.push(suffix, more, Value::Float(value), exemplar.into_iter().collect());
    }

    fn push(&mut self, suffix: &str, more: Option<(&str, f64)>, value: Value, exemplars: Vec<ExemplarMessage>) {
        let exemplars = exemplars.into_iter().map(exemplar_of).collect();
        let series = series_text(self.name, suffix, &self.label, more);
        self.samples.push(Scraped { series, value, t_ms: self.t_ms, exemplars });
    }

    fn summary(&mut self, summary: &Summary) {
        self.add("_count", None, summary.count as f64, None);
        self.add("_sum", None, summary.sum, None);
        for Quantile { quantile, value } in &summary.quantile {
            self.add("", Some(("quantile", *quantile)), *value, None);
        }
    }

    fn histogram(&mut self, mut histogram: HistogramMessage, wanted: Wanted) -> Result<(), ProtobufError> {
        let is_native = wanted.native && histogram.is_native();
        if !is_native || wanted.classic {
            self.classic(&histogram);
        }
        if is_native {
            let mut exemplars = std::mem::take(&mut histogram.exemplars);
            if exemplars.is_empty() {
                exemplars = histogram.bucket.iter_mut().filter_map(|bucket| bucket.exemplar.take()).collect();
            }
            // Without a time an exemplar of a native histogram cannot be put in order.
            exemplars.retain(|exemplar| exemplar.timestamp.is_some());
            let converted = histogram.wire(self.kind == MetricKind::GaugeHistogram).convert();
            let converted =
                converted.map_err(|error| ProtobufError::Histogram(error, self.name.chars().take(100).collect()))?;
            self.push("", None, Value::Histogram(Arc::new(converted)), exemplars);
        }
        Ok(())
    }

    fn classic(&mut self, histogram: &HistogramMessage) {
        let (count, is_float) = match histogram.count_float {
            0.0 => (histogram.count as f64, false),
            count => (count, true),
        };
        self.add("_count", None, count, None);
        self.add("_sum", None, histogram.sum, None);
        for bucket in &histogram.bucket {
            let count = if is_float { bucket.count_float } else { bucket.count as f64 };
            self.add("_bucket", Some(("le", bucket.upper_bound)), count, bucket.exemplar.clone());
        }
        if histogram.bucket.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
            self.add("_bucket", Some(("le", f64::INFINITY)), count, None);
        }
    }
}

impl HistogramMessage {
    fn is_native(&self) -> bool {
        !self.positive_span.is_empty()
            || !self.negative_span.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
            || self.zero_count_float > 0.0
    }

    fn wire(self, is_gauge: bool) -> WireHistogram {
        let spans =
            |spans: Vec<Span>| spans.into_iter().map(|Span { offset, length }| BucketSpan { offset, length }).collect();
        let counts = if self.count_float > 0.0 || self.zero_count_float > 0.0 {
            WireCounts::Float {
                count: self.count_float,
                zero_count: self.zero_count_float,
                positive: self.positive_count,
                negative: self.negative_count,
            }
        } else {
            WireCounts::Integer {
                count: self.count,
                zero_count: self.zero_count,
                positive_deltas: self.positive_delta,
                negative_deltas: self.negative_delta,
            }
        };
        WireHistogram {
            schema: self.schema,
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            counts,
            positive_spans: spans(self.positive_span),
            negative_spans: spans(self.negative_span),
            custom_bounds: Vec::new(),
        }
    }
}

/// Its time is 0 where it has none.
fn exemplar_of(message: ExemplarMessage) -> Exemplar {
    let t_ms =
        message.timestamp.map_or(0, |t| t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000));
    Exemplar {
        labels: Labels::from_pairs(message.label.into_iter().map(|l| (l.name, l.value))),
        value: message.value,
        t_ms,
    }
}

/// A series as the text format writes it.
fn series_text(name: &str, suffix: &str, labels: &[LabelPair], more: Option<(&str, f64)>) -> String {
    let mut text = String::with_capacity(name.len() + suffix.len() + 24 * (labels.len() + 1));
    let (is_plain, full) = (model::is_metric_name(name), [name, suffix].concat());
    if is_plain {
        text += &full;
    }
    text.push('{');
    if !is_plain {
        quote(&full, &mut text);
        text.push(',');
    }
    for label in labels {
        match model::is_label_name(&label.name) {
            true => text += &label.name,
            false => quote(&label.name, &mut text),
        }
        text.push('=');
        quote(&label.value, &mut text);
        text.push(',');
    }
    if let Some((name, value)) = more {
        text += &format!("{name}=\"{}\",", float_text(value));
    }
    text.push('}');
    text
}

pub fn quote(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => *text += "\\\"",
            '\\' => *text += "\\\\",
            '\n' => *text += "\\n",
            c => text.push(c),
        }
    }
    text.push('"');
}

/// As OpenMetrics writes bounds: `0.5`, `1.0`, `1e+06`, `+Inf`.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..21).contains(&exponent) || (exponent >= 21) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn family(name: &str, kind: i32, metric: Metric) -> Vec<u8> {
        let family =
            MetricFamily { name: name.into(), help: "h".into(), kind, metric: vec![metric], unit: String::new() };
        family.encode_length_delimited_to_vec()
    }

    /// A counter with an exemplar, a summary, and a histogram in both forms.
    pub fn body() -> Vec<u8> {
        let label = vec![LabelPair { name: "a".into(), value: "x\"y".into() }];
        let trace = LabelPair { name: "trace_id".into(), value: "t".into() };
        let exemplar = |at| ExemplarMessage { label: vec![trace.clone()], value: 0.5, timestamp: at };
        let counter = Simple { value: 3.0, exemplar: Some(exemplar(None)) };
        let mut body = family("c_total", 0, Metric { label, counter: Some(counter), ..Metric::default() });
        let quantile = vec![Quantile { quantile: 0.9, value: 7.0 }];
        let summary = Summary { count: 2, sum: 3.5, quantile };
        body.extend(family("s", 2, Metric { summary: Some(summary), timestamp_ms: Some(5), ..Metric::default() }));
        let bucket = |upper_bound, count| Bucket { count, upper_bound, ..Bucket::default() };
        let histogram = HistogramMessage {
            count: 4,
            sum: 9.0,
            bucket: vec![bucket(1.0, 1), bucket(2.5, 4)],
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 1,
            positive_span: vec![Span { offset: 1, length: 2 }],
            positive_delta: vec![1, 1],
            exemplars: vec![exemplar(None), exemplar(Some(Timestamp { seconds: 2, nanos: 5_000_000 }))],
            ..HistogramMessage::default()
        };
        body.extend(family("h", 4, Metric { histogram: Some(histogram), ..Metric::default() }));
        body
    }

    fn check(wanted: Wanted, expected: &[&str]) {
        let (samples, metadata) = parse(&body(), wanted).expect("good messages");
        let shown = samples.iter().map(|sample| match &sample.value {
            Value::Float(value) => format!("{} {value}", sample.series),
            Value::Histogram(histogram) => {
                format!("{} {} {}", sample.series, histogram.count, histogram.positive.counts.len())
            }
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        let kinds: Vec<_> = metadata.iter().map(|one| (one.name.as_str(), one.kind.as_str())).collect();
        assert_eq!(kinds, [("c_total", "counter"), ("s", "summary"), ("h", "histogram")]);
    }

    #[test]
    fn both_forms_of_histograms() {
        let common = [r#"c_total{a="x\"y",} 3"#, "s_count{} 2", "s_sum{} 3.5", r#"s{quantile="0.9",} 7"#];
        let classic = [
            "h_count{} 4",
            "h_sum{} 9",
            r#"h_bucket{le="1.0",} 1"#,
            r#"h_bucket{le="2.5",} 4"#,
            r#"h_bucket{le="+Inf",} 4"#,
        ];
        let native = ["h{} 4 2"];
        check(Wanted::default(), &[&common[..], &classic[..]].concat());
        check(Wanted { native: true, classic: false }, &[&common[..], &native[..]].concat());
        check(Wanted { native: true, classic: true }, &[&common[..], &classic[..], &native[..]].concat());
    }

    #[test]
    fn exemplars_keep_their_times() {
        let (samples, _) = parse(&body(), Wanted { native: true, classic: false }).expect("good messages");
        let times: Vec<Vec<i64>> =
            samples.iter().map(|sample| sample.exemplars.iter().map(|exemplar| exemplar.t_ms).collect()).collect();
        assert_eq!((&times[0], &times[4]), (&vec![0], &vec![2005]));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let body = body();
        assert!(parse(&body[..body.len() - 1], Wanted::default()).is_err());
        assert!(parse(b"", Wanted::default()).expect("nothing").0.is_empty());
    }

    #[test]
    fn bounds_are_written_as_openmetrics_does() {
        for (value, text) in [(1.0, "1.0"), (0.005, "0.005"), (1e-7, "1e-07"), (2.5e21, "2.5e+21"), (100.0, "100.0")] {
            assert_eq!(float_text(value), text);
        }
    }
}
