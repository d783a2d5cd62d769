//! Newest samples as delimited `io.prometheus.client.MetricFamily` messages: the only form in which native histograms
//! travel to a Prometheus that federates.

use axum::http::{HeaderMap, header};
use model::{Histogram, Labels, METRIC_NAME, ResetHint};
use prost::Message;

use super::super::write::LabelPair;
use super::{Newest, below, with_external};

pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const UNTYPED: i32 = 3;
const HISTOGRAM: i32 = 4;
const GAUGE_HISTOGRAM: i32 = 5;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Untyped>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<HistogramMessage>,
    #[prost(int64, tag = "6")]
    t_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Untyped {
    /// Present also at zero: the field is optional in the schema.
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

/// Counts are floats throughout, as in Prometheus' own federation.
#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(double, optional, tag = "4")]
    count: Option<f64>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(double, optional, tag = "8")]
    zero_count: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    negative_spans: Vec<Span>,
    #[prost(double, repeated, tag = "11")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<Span>,
    #[prost(double, repeated, tag = "14")]
    positive_counts: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(double, optional, tag = "4")]
    cumulative_count: Option<f64>,
}

/// Whether `Accept` prefers delimited protobuf to text.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let weighed = accepted.flat_map(|value| value.split(',')).filter_map(|one| {
        let mut parts = one.split(';').map(str::trim);
        let kind = parts.next()?.to_owned();
        let parts: Vec<&str> = parts.collect();
        let weight = parts.iter().find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f64);
        let is_protobuf = kind == "application/vnd.google.protobuf"
            && parts.contains(&"proto=io.prometheus.client.MetricFamily")
            && parts.contains(&"encoding=delimited");
        (is_protobuf || kind == "text/plain").then_some((weight, is_protobuf))
    });
    // Of equal weights the first counts.
    let best = weighed.reduce(|best, one| if one.0 > best.0 { one } else { best });
    best.is_some_and(|(_, is_protobuf)| is_protobuf)
}

/// `newest` is sorted by name; a family ends where name or kind change.
pub fn encode(newest: &[Newest], external: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    let named = newest.iter().filter_map(|one| Some((one.labels.get(METRIC_NAME)?, kind(one), one)));
    let named: Vec<_> = named.collect();
    for family in named.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (name, kind, _) = family[0];
        let metrics = family.iter().map(|(_, _, one)| metric(one, external)).collect();
        out.extend(MetricFamily { name: name.to_owned(), kind, metrics }.encode_length_delimited_to_vec());
    }
    out
}

fn kind(newest: &Newest) -> i32 {
    match newest.histogram.as_deref() {
        None => UNTYPED,
        Some(histogram) if histogram.reset_hint == ResetHint::Gauge => GAUGE_HISTOGRAM,
        Some(_) => HISTOGRAM,
    }
}

fn metric(newest: &Newest, external: &Labels) -> Metric {
    let labels = with_external(&newest.labels, external).into_iter().map(|(name, value)| LabelPair { name, value });
    let histogram = newest.histogram.as_deref().map(|histogram| match histogram.uses_custom_buckets() {
        true => classic(histogram),
        false => native(histogram),
    });
    let untyped = histogram.is_none().then_some(Untyped { value: Some(newest.value) });
    Metric { labels: labels.collect(), untyped, histogram, t_ms: newest.t_ms }
}

fn classic(histogram: &Histogram) -> HistogramMessage {
    let buckets =
        below(histogram).map(|(bound, count)| Bucket { upper_bound: Some(bound), cumulative_count: Some(count) });
    HistogramMessage {
        sum: Some(histogram.sum),
        count: Some(histogram.count),
        buckets: buckets.collect(),
        ..HistogramMessage::default()
    }
}

fn native(histogram: &Histogram) -> HistogramMessage {
    let spans = |spans: &[model::BucketSpan]| {
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect::<Vec<_>>()
    };
    HistogramMessage {
        sum: Some(histogram.sum),
        buckets: Vec::new(),
        count: Some(histogram.count),
        schema: Some(i32::from(histogram.schema)),
        zero_threshold: Some(histogram.zero_threshold),
        zero_count: Some(histogram.zero_count),
        negative_spans: spans(&histogram.negative.spans),
        negative_counts: histogram.negative.counts.clone(),
        positive_spans: spans(&histogram.positive.spans),
        positive_counts: histogram.positive.counts.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{BucketSpan, Buckets};

    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: bool) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a value"))]);
        assert_eq!(is_wanted(&headers), expected, "{accept}");
    }

    #[test]
    fn accept_is_weighed() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        check(
            &format!("{protobuf};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4,*/*;q=0.1"),
            true,
        );
        check(&format!("text/plain;version=0.0.4;q=0.5,{protobuf};q=0.4"), false);
        check(protobuf, true);
        check("application/vnd.google.protobuf;encoding=text", false);
        check("*/*", false);
    }

    #[test]
    fn native_histograms_and_numbers_travel() {
        let positive = Buckets { spans: vec![BucketSpan { offset: -1, length: 2 }], counts: vec![2.0, 1.0] };
        let histogram = Histogram { schema: 3, count: 3.0, sum: 1.5, positive, ..Histogram::default() };
        let one = |name: &str, value, histogram: Option<Histogram>| Newest {
            labels: Labels::from_pairs([(METRIC_NAME, name), ("job", "j")]),
            t_ms: 7,
            value,
            histogram: histogram.map(Arc::new),
        };
        let newest = [one("h", 0.0, Some(histogram)), one("up", 0.0, None)];
        let bytes = encode(&newest, &Labels::from_pairs([("dc", "x")]));
        let mut rest = &bytes[..];
        let families: Vec<MetricFamily> =
            std::iter::from_fn(|| MetricFamily::decode_length_delimited(&mut rest).ok()).collect();
        let kinds: Vec<_> = families.iter().map(|family| (family.name.as_str(), family.kind)).collect();
        assert_eq!(kinds, [("h", HISTOGRAM), ("up", UNTYPED)]);
        let labels: Vec<_> = families[1].metrics[0].labels.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
        assert_eq!(labels, [("job", "j"), ("dc", "x"), ("instance", "")]);
        assert_eq!(families[1].metrics[0].untyped, Some(Untyped { value: Some(0.0) }));
        let histogram = families[0].metrics[0].histogram.as_ref().expect("a histogram");
        assert_eq!(
            (histogram.schema, histogram.count, &histogram.positive_counts[..]),
            (Some(3), Some(3.0), &[2.0, 1.0][..])
        );
        assert_eq!(histogram.positive_spans, [Span { offset: -1, length: 2 }]);
    }
}
