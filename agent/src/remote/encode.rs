//! Requests of remote write: 1.0 (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`), written by hand,
//! since a request has thousands of small messages.

use std::collections::HashMap;

use model::varint::{self, zigzag};
use model::{
    BucketSpan, Exemplar, Histogram, HistogramSample, Label, Labels, MetricKind, MetricMetadata, ResetHint, Sample,
    SeriesSamples,
};

/// Above this floats do not tell neighbouring integers apart.
const MAX_INTEGER: f64 = (1u64 << 53) as f64;

/// What is left out of a request.
#[derive(Debug, Clone, Copy)]
pub struct Contents {
    pub exemplars: bool,
    pub histograms: bool,
}

/// One series of a request.
pub struct Entry<'a> {
    pub labels: &'a Labels,
    pub samples: &'a SeriesSamples,
    /// Samples before this are not sent.
    pub oldest_ms: i64,
}

impl<'a> Entry<'a> {
    fn floats(&self) -> impl Iterator<Item = (usize, &'a Sample)> + use<'a> {
        let oldest_ms = self.oldest_ms;
        self.samples.samples.iter().enumerate().filter(move |(_, sample)| sample.t_ms >= oldest_ms)
    }

    fn histograms(&self, contents: Contents) -> impl Iterator<Item = &'a HistogramSample> + use<'a> {
        let oldest_ms = self.oldest_ms;
        let histograms = if contents.histograms { &self.samples.histograms[..] } else { &[] };
        histograms.iter().filter(move |histogram| histogram.t_ms >= oldest_ms)
    }

    /// Whether all that is sent of it is one float.
    fn is_one_float(&self, contents: Contents) -> bool {
        let SeriesSamples { samples, histograms, exemplars, .. } = self.samples;
        let has_others =
            (contents.histograms && !histograms.is_empty()) || (contents.exemplars && !exemplars.is_empty());
        !has_others && matches!(samples.as_slice(), [one] if one.t_ms >= self.oldest_ms)
    }

    fn exemplars(&self, contents: Contents) -> &'a [Exemplar] {
        if contents.exemplars { &self.samples.exemplars } else { &[] }
    }
}

/// Most numbers here are short.
#[inline]
fn put(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 { out.push(value as u8) } else { varint::put(out, value) }
}

#[inline]
fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    put(out, field << 3 | wire);
}

#[inline]
fn integer(out: &mut Vec<u8>, field: u64, value: i64) {
    if value != 0 {
        key(out, field, 0);
        put(out, value as u64);
    }
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    if value.to_bits() != 0 {
        double_always(out, field, value);
    }
}

fn double_always(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

#[inline]
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    put(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn text(out: &mut Vec<u8>, field: u64, value: &str) {
    if !value.is_empty() {
        bytes(out, field, value.as_bytes());
    }
}

/// A message within a message, written into a buffer of its own first.
fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

#[inline]
fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// How long a text is as a field.
#[inline]
fn field_bytes(text: &str) -> usize {
    1 + varint_bytes(text.len() as u64) + text.len()
}

/// How long labels are as messages.
fn labels_bytes(labels: &Labels) -> usize {
    let of = |label: &Label| {
        let inner = field_bytes(&label.name) + field_bytes(&label.value);
        1 + varint_bytes(inner as u64) + inner
    };
    labels.iter().map(of).sum()
}

/// A label as a message: its length is known beforehand.
#[inline]
fn label(out: &mut Vec<u8>, field: u64, name: &str, value: &str) {
    key(out, field, 2);
    put(out, (field_bytes(name) + field_bytes(value)) as u64);
    bytes(out, 1, name.as_bytes());
    bytes(out, 2, value.as_bytes());
}

#[inline]
fn sample_bytes(sample: &Sample, start_ms: i64) -> usize {
    let of = |value: i64| if value == 0 { 0 } else { 1 + varint_bytes(value as u64) };
    9 + of(sample.t_ms) + of(start_ms)
}

/// A sample: a value and a time, and in 2.0 a start.
#[inline]
fn sample(out: &mut Vec<u8>, field: u64, sample: &Sample, start_ms: i64) {
    key(out, field, 2);
    put(out, sample_bytes(sample, start_ms) as u64);
    double_always(out, 1, sample.value);
    integer(out, 2, sample.t_ms);
    integer(out, 3, start_ms);
}

/// A request of 1.0.
pub fn v1<'a>(entries: impl Iterator<Item = Entry<'a>>, metadata: &[MetricMetadata], contents: Contents) -> Vec<u8> {
    let (mut out, mut series) = (Vec::new(), Vec::new());
    for entry in entries {
        if let [one] = entry.samples.samples.as_slice()
            && entry.is_one_float(contents)
        {
            // As most are: written at once, its length known.
            key(&mut out, 1, 2);
            put(&mut out, (labels_bytes(entry.labels) + 2 + sample_bytes(one, 0)) as u64);
            entry.labels.iter().for_each(|one| label(&mut out, 1, &one.name, &one.value));
            sample(&mut out, 2, one, 0);
            continue;
        }
        series.clear();
        entry.labels.iter().for_each(|one| label(&mut series, 1, &one.name, &one.value));
        entry.floats().for_each(|(_, one)| sample(&mut series, 2, one, 0));
        for exemplar in entry.exemplars(contents) {
            message(&mut series, 3, |out| {
                exemplar.labels.iter().for_each(|one| label(out, 1, &one.name, &one.value));
                double(out, 2, exemplar.value);
                integer(out, 3, exemplar.t_ms);
            });
        }
        entry.histograms(contents).for_each(|one| message(&mut series, 4, |out| histogram(out, one, false)));
        bytes(&mut out, 1, &series);
    }
    for one in metadata {
        message(&mut out, 3, |out| {
            integer(out, 1, kind_number(one.kind));
            text(out, 2, &one.name);
            text(out, 4, &one.help);
            text(out, 5, &one.unit);
        });
    }
    out
}

fn kind_number(kind: MetricKind) -> i64 {
    MetricKind::ALL.iter().position(|one| *one == kind).unwrap_or(0) as i64
}

/// Texts of a request, each once; the first is empty.
struct Symbols<'a> {
    texts: Vec<&'a str>,
    places: HashMap<&'a str, u64>,
}

impl<'a> Symbols<'a> {
    fn place(&mut self, text: &'a str) -> u64 {
        *self.places.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u64 - 1
        })
    }

    fn labels(&mut self, out: &mut Vec<u8>, labels: &'a Labels) {
        let mut places = Vec::with_capacity(labels.len() * 3);
        for label in labels {
            put(&mut places, self.place(&label.name));
            put(&mut places, self.place(&label.value));
        }
        bytes(out, 1, &places);
    }
}

/// A request of 2.0. `about` tells what is known of a series' metric.
pub fn v2<'a>(
    entries: impl Iterator<Item = Entry<'a>>,
    about: impl Fn(&str) -> Option<&'a MetricMetadata>,
    contents: Contents,
) -> Vec<u8> {
    let mut symbols = Symbols { texts: vec![""], places: HashMap::from([("", 0)]) };
    let (mut all, mut series) = (Vec::new(), Vec::new());
    for entry in entries {
        series.clear();
        symbols.labels(&mut series, entry.labels);
        for (at, one) in entry.floats() {
            sample(&mut series, 2, one, entry.samples.starts_ms.get(at).copied().unwrap_or(0));
        }
        entry.histograms(contents).for_each(|one| message(&mut series, 3, |out| histogram(out, one, true)));
        for exemplar in entry.exemplars(contents) {
            message(&mut series, 4, |out| {
                symbols.labels(out, &exemplar.labels);
                double(out, 2, exemplar.value);
                integer(out, 3, exemplar.t_ms);
            });
        }
        if let Some(one) = entry.labels.metric_name().and_then(&about) {
            message(&mut series, 5, |out| {
                integer(out, 1, kind_number(one.kind));
                integer(out, 3, symbols.place(&one.help) as i64);
                integer(out, 4, symbols.place(&one.unit) as i64);
            });
        }
        bytes(&mut all, 5, &series);
    }
    let mut out = Vec::with_capacity(all.len());
    symbols.texts.iter().for_each(|text| bytes(&mut out, 4, text.as_bytes()));
    out.extend(all);
    out
}

fn histogram(out: &mut Vec<u8>, one: &HistogramSample, has_start: bool) {
    let histogram = &one.histogram;
    let is_whole = is_integer(histogram);
    if is_whole {
        key(out, 1, 0);
        put(out, histogram.count as u64);
    } else {
        double_always(out, 2, histogram.count);
    }
    double(out, 3, histogram.sum);
    if histogram.schema != 0 {
        key(out, 4, 0);
        put(out, zigzag(i64::from(histogram.schema)));
    }
    double(out, 5, histogram.zero_threshold);
    if is_whole {
        key(out, 6, 0);
        put(out, histogram.zero_count as u64);
    } else {
        double_always(out, 7, histogram.zero_count);
    }
    for (buckets, first) in [(&histogram.negative, 8), (&histogram.positive, 11)] {
        buckets.spans.iter().for_each(|one| message(out, first, |out| span(out, one)));
        if is_whole {
            let (mut before, mut packed) = (0, Vec::new());
            for count in &buckets.counts {
                let count = *count as i64;
                put(&mut packed, zigzag(count - before));
                before = count;
            }
            (!packed.is_empty()).then(|| bytes(out, first + 1, &packed));
        } else {
            doubles(out, first + 2, &buckets.counts);
        }
    }
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    integer(out, 14, hint);
    integer(out, 15, one.t_ms);
    doubles(out, 16, &histogram.custom_bounds);
    if has_start {
        integer(out, 17, one.start_ms);
    }
}

fn span(out: &mut Vec<u8>, span: &BucketSpan) {
    if span.offset != 0 {
        key(out, 1, 0);
        put(out, zigzag(i64::from(span.offset)));
    }
    integer(out, 2, i64::from(span.length));
}

fn doubles(out: &mut Vec<u8>, field: u64, values: &[f64]) {
    if !values.is_empty() {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes(out, field, &packed);
    }
}

/// Whether it counts whole observations, all of them: then it goes as integers, which is what it was.
fn is_integer(histogram: &Histogram) -> bool {
    let counts = || histogram.positive.counts.iter().chain(&histogram.negative.counts);
    let all = counts().chain([&histogram.count, &histogram.zero_count]);
    let are_whole = all.into_iter().all(|count| count.fract() == 0.0 && (0.0..MAX_INTEGER).contains(count));
    are_whole && (histogram.sum.is_nan() || counts().sum::<f64>() + histogram.zero_count == histogram.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_numbers() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(varint_bytes(value), out.len(), "{value}");
        }
    }
}
