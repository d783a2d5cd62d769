//! Pushes in protobuf: `io.prometheus.client.MetricFamily` messages, each after its length, as Go's client sends them.
//!
//! A family becomes the samples that its text would have; of a histogram its classic buckets. One that has native buckets
//! alone is refused: a group holds floats.

use model::exposition::{Exposition, TextSample};
use model::{Labels, METRIC_NAME, MetricKind, MetricMetadata};
use prost::Message;

use super::super::write::LabelPair;

pub const CONTENT_TYPE: &str = "application/vnd.google.protobuf";
const NATIVE_ALONE: &str = "has native buckets alone, which cannot be pushed";

/// A gauge, a counter or what has no type.
#[derive(Clone, Copy, PartialEq, Message)]
struct Simple {
    #[prost(double, tag = "1")]
    value: f64,
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
    quantiles: Vec<Quantile>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(double, tag = "4")]
    cumulative_count_float: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Simple>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Simple>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Simple>,
    #[prost(int64, optional, tag = "6")]
    t_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
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
    metrics: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

/// All families of a body, or why they are none.
pub fn read(body: &[u8]) -> Result<Exposition, String> {
    let (mut exposition, mut rest) = (Exposition::default(), body);
    while !rest.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut rest).map_err(|error| format!("protobuf: {error}"))?;
        if !model::is_metric_name(&family.name) {
            return Err(format!("invalid metric name {:?}", family.name));
        }
        for metric in &family.metrics {
            Reading { name: &family.name, metric, samples: &mut exposition.samples }.read()?;
        }
        let MetricFamily { name, help, kind, unit, .. } = family;
        exposition.metadata.push(MetricMetadata { name, kind: kind_of(kind), help, unit });
    }
    Ok(exposition)
}

fn kind_of(kind: i32) -> MetricKind {
    match kind {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        2 => MetricKind::Summary,
        4 => MetricKind::Histogram,
        5 => MetricKind::GaugeHistogram,
        _ => MetricKind::Unknown,
    }
}

/// One metric of a family.
struct Reading<'a> {
    name: &'a str,
    metric: &'a Metric,
    samples: &'a mut Vec<TextSample>,
}

impl Reading<'_> {
    fn read(mut self) -> Result<(), String> {
        let Metric { gauge, counter, untyped, summary, histogram, .. } = self.metric;
        for simple in [gauge, counter, untyped].into_iter().flatten() {
            self.add("", None, simple.value)?;
        }
        if let Some(summary) = summary {
            self.add("_count", None, summary.count as f64)?;
            self.add("_sum", None, summary.sum)?;
            for Quantile { quantile, value } in &summary.quantiles {
                self.add("", Some(("quantile", *quantile)), *value)?;
            }
        }
        histogram.as_ref().map_or(Ok(()), |histogram| self.histogram(histogram))
    }

    fn histogram(&mut self, histogram: &Histogram) -> Result<(), String> {
        if histogram.buckets.is_empty() && histogram.zero_threshold > 0.0 {
            return Err(format!("{} {NATIVE_ALONE}", self.name));
        }
        let is_float = histogram.count_float > 0.0;
        let count = if is_float { histogram.count_float } else { histogram.count as f64 };
        self.add("_count", None, count)?;
        self.add("_sum", None, histogram.sum)?;
        for bucket in &histogram.buckets {
            let below = if is_float { bucket.cumulative_count_float } else { bucket.cumulative_count as f64 };
            self.add("_bucket", Some(("le", bucket.upper_bound)), below)?;
        }
        match histogram.buckets.last().is_some_and(|last| last.upper_bound == f64::INFINITY) {
            true => Ok(()),
            false => self.add("_bucket", Some(("le", f64::INFINITY)), count),
        }
    }

    fn add(&mut self, suffix: &str, more: Option<(&str, f64)>, value: f64) -> Result<(), String> {
        let mut labels = Labels::default().to_builder();
        for LabelPair { name, value } in &self.metric.labels {
            if !model::is_label_name(name) || labels.get(name).is_some() {
                return Err(format!("{}: invalid or repeated label {name:?}", self.name));
            }
            labels.set(name.as_str(), value.as_str());
        }
        if let Some((name, number)) = more {
            labels.set(name, query::format_number(number));
        }
        labels.set(METRIC_NAME, [self.name, suffix].concat());
        self.samples.push(TextSample { labels: labels.build(), value, t_ms: self.metric.t_ms, exemplar: None });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::exposition::{TextFormat, parse};

    use super::*;

    fn family(name: &str, kind: i32, metric: Metric) -> Vec<u8> {
        let labels =
            vec![LabelPair { name: "b".into(), value: "2".into() }, LabelPair { name: "a".into(), value: "é".into() }];
        let metrics = vec![Metric { labels, ..metric }];
        MetricFamily { name: name.into(), help: "some".into(), kind, metrics, unit: String::new() }
            .encode_length_delimited_to_vec()
    }

    /// A body must say what a text does.
    #[track_caller]
    fn check(body: &[u8], text: &str) {
        let expected = parse(text, TextFormat::Prometheus).expect("a good text");
        assert_eq!(read(body), Ok(expected));
    }

    #[test]
    fn families_are_those_of_their_text() {
        let simple = Some(Simple { value: 1.5 });
        let counter = family("c_total", 0, Metric { counter: simple, ..Metric::default() });
        let gauge = family("g", 1, Metric { gauge: simple, ..Metric::default() });
        let both = [counter, gauge].concat();
        check(
            &both,
            "# TYPE c_total counter\n# HELP c_total some\nc_total{a=\"é\",b=\"2\"} 1.5\n# TYPE g gauge\n# HELP g some\ng{a=\"é\",b=\"2\"} 1.5\n",
        );
        let summary = Some(Summary { count: 2, sum: 3.0, quantiles: vec![Quantile { quantile: 0.5, value: 1.0 }] });
        let summary = family("s", 2, Metric { summary, ..Metric::default() });
        check(
            &summary,
            "# TYPE s summary\n# HELP s some\ns_count{a=\"é\",b=\"2\"} 2\ns_sum{a=\"é\",b=\"2\"} 3\ns{a=\"é\",b=\"2\",quantile=\"0.5\"} 1\n",
        );
        let buckets = vec![Bucket { cumulative_count: 1, upper_bound: 0.25, cumulative_count_float: 0.0 }];
        let histogram = Some(Histogram { count: 2, sum: 3.0, buckets, count_float: 0.0, zero_threshold: 0.0 });
        let histogram = family("h", 4, Metric { histogram, ..Metric::default() });
        check(
            &histogram,
            "# TYPE h histogram\n# HELP h some\nh_count{a=\"é\",b=\"2\"} 2\nh_sum{a=\"é\",b=\"2\"} 3\nh_bucket{a=\"é\",b=\"2\",le=\"0.25\"} 1\nh_bucket{a=\"é\",b=\"2\",le=\"+Inf\"} 2\n",
        );
    }

    #[test]
    fn what_cannot_be_pushed_is_said() {
        let refused = |body: &[u8], part: &str| {
            let error = read(body).expect_err("no families");
            assert!(error.contains(part), "{error}");
        };
        let gauge = || Metric { gauge: Some(Simple { value: 1.0 }), ..Metric::default() };
        let good = family("g", 1, gauge());
        (1..good.len()).for_each(|length| refused(&good[..length], "protobuf: "));
        refused(&family("1g", 1, gauge()), "invalid metric name");
        let histogram = Some(Histogram { count: 2, zero_threshold: 0.001, ..Histogram::default() });
        refused(&family("h", 4, Metric { histogram, ..Metric::default() }), NATIVE_ALONE);
        let labels = vec![LabelPair { name: "a".into(), value: "1".into() }; 2];
        let repeated =
            MetricFamily { name: "g".into(), metrics: vec![Metric { labels, ..gauge() }], ..MetricFamily::default() };
        refused(&repeated.encode_length_delimited_to_vec(), "repeated label");
    }
}
