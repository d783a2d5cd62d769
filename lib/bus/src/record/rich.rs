//! What version 2 adds to metrics (histograms, start times, exemplars, metadata), and deletes.

use std::sync::Arc;

use model::{
    BucketSpan, Buckets, Deletes, Exemplar, Histogram, HistogramSample, MatchOp, Matcher, MetricBatch, MetricKind,
    MetricMetadata, ResetHint,
};

use super::wire::{Malformed, Reader, Writer};

const HINTS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

/// Bits of a histogram's first byte beside its hint (the lowest two).
const SAME_LAYOUT: u8 = 4;
const INTEGRAL: u8 = 8;

/// Integers below this are exact in a double.
const MAX_INTEGER: f64 = (1u64 << 53) as f64;

pub fn is_rich(batch: &MetricBatch) -> bool {
    let is_rich = |series: &model::SeriesSamples| {
        !series.histograms.is_empty()
            || !series.exemplars.is_empty()
            || series.starts_ms.iter().any(|start_ms| *start_ms != 0)
    };
    !batch.metadata.is_empty() || batch.series.iter().any(is_rich)
}

pub fn write(batch: &MetricBatch, writer: &mut Writer) {
    write_starts(batch, writer);
    write_histograms(batch, writer);
    write_exemplars(batch, writer);
    writer.unsigned(batch.metadata.len() as u64);
    for one in &batch.metadata {
        writer.raw(&[MetricKind::ALL.iter().position(|kind| *kind == one.kind).unwrap_or(0) as u8]);
        [&one.name, &one.help, &one.unit].into_iter().for_each(|text| writer.string(text));
    }
}

/// Completes a batch of floats.
pub fn read(batch: &mut MetricBatch, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    read_starts(batch, reader)?;
    read_histograms(batch, reader)?;
    read_exemplars(batch, reader)?;
    for _ in 0..reader.count(4)? {
        let [kind] = reader.array()?;
        let kind = *MetricKind::ALL.get(usize::from(kind)).ok_or("the kind of metric is not known")?;
        let [name, help, unit] = [reader.string()?, reader.string()?, reader.string()?].map(str::to_owned);
        batch.metadata.push(MetricMetadata { name, kind, help, unit });
    }
    Ok(())
}

fn write_starts(batch: &MetricBatch, writer: &mut Writer) {
    let starts = batch
        .series
        .iter()
        .flat_map(|series| (0..series.samples.len()).map(|i| series.starts_ms.get(i).copied().unwrap_or(0)));
    writer.runs(starts);
}

fn read_starts(batch: &mut MetricBatch, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let floats = batch.sample_count();
    let mut starts = Vec::with_capacity(floats);
    reader.runs(floats, |start_ms| {
        starts.push(start_ms);
        Ok(())
    })?;
    let mut starts = starts.as_slice();
    for series in &mut batch.series {
        let (own, rest) = starts.split_at(series.samples.len());
        starts = rest;
        if own.iter().any(|start_ms| *start_ms != 0) {
            series.starts_ms = own.to_vec();
        }
    }
    Ok(())
}

fn write_histograms(batch: &MetricBatch, writer: &mut Writer) {
    writer.runs(batch.series.iter().map(|series| series.histograms.len() as i64));
    let mut before: Option<&HistogramSample> = None;
    for sample in batch.series.iter().flat_map(|series| &series.histograms) {
        writer.signed(sample.t_ms.wrapping_sub(before.map_or(0, |before| before.t_ms)));
        writer.signed(sample.start_ms.wrapping_sub(before.map_or(0, |before| before.start_ms)));
        write_histogram(&sample.histogram, before.map(|before| before.histogram.as_ref()), writer);
        before = Some(sample);
    }
}

fn read_histograms(batch: &mut MetricBatch, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let counts = read_counts(batch.series.len(), reader)?;
    let (mut t_ms, mut start_ms) = (0i64, 0i64);
    let mut before: Option<Arc<Histogram>> = None;
    for (series, count) in batch.series.iter_mut().zip(counts) {
        for _ in 0..count {
            t_ms = t_ms.wrapping_add(reader.signed()?);
            start_ms = start_ms.wrapping_add(reader.signed()?);
            let histogram = Arc::new(read_histogram(before.as_deref(), reader)?);
            before = Some(histogram.clone());
            series.histograms.push(HistogramSample { t_ms, start_ms, histogram });
        }
    }
    Ok(())
}

/// How many things each series has.
fn read_counts(series: usize, reader: &mut Reader<'_>) -> Result<Vec<usize>, Malformed> {
    let mut counts = Vec::with_capacity(series);
    let mut left = reader.remaining();
    reader.runs(series, |count| {
        let count = usize::try_from(count).map_err(|_| "a negative count")?;
        // Each takes at least a byte.
        left = left.checked_sub(count).ok_or("more than the body can hold")?;
        counts.push(count);
        Ok(())
    })?;
    Ok(counts)
}

fn is_same_layout(a: &Histogram, b: &Histogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive.spans == b.positive.spans
        && a.negative.spans == b.negative.spans
        && a.custom_bounds.iter().map(|bound| bound.to_bits()).eq(b.custom_bounds.iter().map(|bound| bound.to_bits()))
}

fn is_integral(count: f64) -> bool {
    (0.0..MAX_INTEGER).contains(&count) && count.fract() == 0.0 && (count != 0.0 || count.is_sign_positive())
}

fn write_histogram(histogram: &Histogram, before: Option<&Histogram>, writer: &mut Writer) {
    let is_same = before.is_some_and(|before| is_same_layout(before, histogram));
    let sides = [&histogram.positive, &histogram.negative];
    let totals = [histogram.count, histogram.zero_count];
    let is_integral =
        totals.into_iter().chain(sides.iter().flat_map(|side| side.counts.iter().copied())).all(is_integral);
    let hint = HINTS.iter().position(|hint| *hint == histogram.reset_hint).unwrap_or(0) as u8;
    let same = if is_same { SAME_LAYOUT } else { 0 };
    writer.raw(&[hint | same | if is_integral { INTEGRAL } else { 0 }]);
    if !is_same {
        writer.raw(&[histogram.schema as u8]);
        float(writer, histogram.zero_threshold);
        for side in sides {
            writer.unsigned(side.spans.len() as u64);
            for span in &side.spans {
                writer.signed(i64::from(span.offset));
                writer.unsigned(u64::from(span.length));
            }
            writer.unsigned(side.counts.len() as u64);
        }
        writer.unsigned(histogram.custom_bounds.len() as u64);
        histogram.custom_bounds.iter().for_each(|bound| float(writer, *bound));
    }
    float(writer, histogram.sum);
    for total in totals {
        if is_integral { writer.unsigned(total as u64) } else { float(writer, total) }
    }
    for side in sides {
        let mut before = 0i64;
        for count in &side.counts {
            if is_integral {
                writer.signed(*count as i64 - before);
                before = *count as i64;
            } else {
                float(writer, *count);
            }
        }
    }
}

fn float(writer: &mut Writer, value: f64) {
    writer.raw(&value.to_bits().to_le_bytes());
}

fn read_float(reader: &mut Reader<'_>) -> Result<f64, Malformed> {
    Ok(f64::from_bits(u64::from_le_bytes(reader.array()?)))
}

fn read_histogram(before: Option<&Histogram>, reader: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let [flags] = reader.array()?;
    let reset_hint = HINTS[usize::from(flags & 3)];
    let mut histogram = if flags & SAME_LAYOUT != 0 {
        before.ok_or("a histogram laid out like none before")?.clone()
    } else {
        read_layout(reader)?
    };
    histogram.reset_hint = reset_hint;
    histogram.sum = read_float(reader)?;
    let is_integral = flags & INTEGRAL != 0;
    let total = |reader: &mut Reader<'_>| match is_integral {
        true => Ok(reader.unsigned()? as f64),
        false => read_float(reader),
    };
    (histogram.count, histogram.zero_count) = (total(reader)?, total(reader)?);
    for side in [&mut histogram.positive, &mut histogram.negative] {
        let mut before = 0i64;
        for count in &mut side.counts {
            if is_integral {
                before = before.wrapping_add(reader.signed()?);
                *count = before as f64;
            } else {
                *count = read_float(reader)?;
            }
        }
    }
    if !histogram.is_stale() && histogram.validate().is_err() {
        return Err("a histogram is malformed");
    }
    Ok(histogram)
}

/// A histogram with all counts 0.
fn read_layout(reader: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let [schema] = reader.array()?;
    let mut histogram = Histogram { schema: schema as i8, zero_threshold: read_float(reader)?, ..Histogram::default() };
    for side in [&mut histogram.positive, &mut histogram.negative] {
        *side = read_buckets(reader)?;
    }
    let bounds = reader.count(8)?;
    histogram.custom_bounds = (0..bounds).map(|_| read_float(reader)).collect::<Result<_, _>>()?;
    Ok(histogram)
}

fn read_buckets(reader: &mut Reader<'_>) -> Result<Buckets, Malformed> {
    let mut buckets = Buckets::default();
    for _ in 0..reader.count(2)? {
        let offset = i32::try_from(reader.signed()?).map_err(|_| "a span is out of range")?;
        let length = u32::try_from(reader.unsigned()?).map_err(|_| "a span is out of range")?;
        buckets.spans.push(BucketSpan { offset, length });
    }
    buckets.counts = vec![0.0; reader.count(1)?];
    Ok(buckets)
}

fn write_exemplars(batch: &MetricBatch, writer: &mut Writer) {
    writer.runs(batch.series.iter().map(|series| series.exemplars.len() as i64));
    let exemplars = || batch.series.iter().flat_map(|series| &series.exemplars);
    writer.label_sets(exemplars().map(|one| &one.labels));
    let mut before = 0;
    for one in exemplars() {
        writer.signed(one.t_ms.wrapping_sub(before));
        float(writer, one.value);
        before = one.t_ms;
    }
}

fn read_exemplars(batch: &mut MetricBatch, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let counts = read_counts(batch.series.len(), reader)?;
    let sets = reader.label_sets()?;
    if sets.len() != counts.iter().sum::<usize>() {
        return Err("exemplars of no series");
    }
    let (mut sets, mut t_ms) = (sets.into_iter(), 0i64);
    for (series, count) in batch.series.iter_mut().zip(counts) {
        for labels in sets.by_ref().take(count) {
            t_ms = t_ms.wrapping_add(reader.signed()?);
            series.exemplars.push(Exemplar { labels, t_ms, value: read_float(reader)? });
        }
    }
    Ok(())
}

pub fn write_deletes(batch: &Deletes, writer: &mut Writer) {
    writer.string(&batch.tenant);
    writer.signed(batch.start_ms);
    writer.signed(batch.end_ms);
    writer.unsigned(u64::from(batch.partitions));
    writer.unsigned(u64::from(batch.partition));
    writer.unsigned(batch.selectors.len() as u64);
    for matchers in &batch.selectors {
        writer.unsigned(matchers.len() as u64);
        for matcher in matchers {
            writer.raw(&[OPS.iter().position(|op| *op == matcher.op).unwrap_or(0) as u8]);
            writer.string(&matcher.name);
            writer.string(&matcher.value);
        }
    }
}

pub fn read_deletes(tenant: String, reader: &mut Reader<'_>) -> Result<Deletes, Malformed> {
    let (start_ms, end_ms) = (reader.signed()?, reader.signed()?);
    let number = |number: u64| u32::try_from(number).map_err(|_| "a partition is out of range");
    let (partitions, partition) = (number(reader.unsigned()?)?, number(reader.unsigned()?)?);
    if partition >= partitions {
        return Err("a partition is out of range");
    }
    let mut selectors = Vec::new();
    for _ in 0..reader.count(1)? {
        let mut matchers = Vec::new();
        for _ in 0..reader.count(3)? {
            let [op] = reader.array()?;
            let op = *OPS.get(usize::from(op)).ok_or("the operator of a matcher is not known")?;
            let matcher = Matcher::new(reader.string()?, op, reader.string()?);
            matchers.push(matcher.map_err(|_| "a matcher's expression is malformed")?);
        }
        selectors.push(matchers);
    }
    Ok(Deletes { tenant, selectors, start_ms, end_ms, partitions, partition })
}
