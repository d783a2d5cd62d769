//! Histograms within a block: which samples they are, their hints, and runs of equal layout with one column per bucket.

use std::sync::Arc;

use model::{BucketSpan, Buckets, Histogram, ResetHint};

use super::values::{self, Packing};
use super::wire::{Reader, put_number, put_signed};

/// A block has at most so many counts of buckets, unless it is one histogram.
pub const MAX_BLOCK_COUNTS: usize = 1 << 16;

const HINTS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];

/// What a histogram adds to [`MAX_BLOCK_COUNTS`].
pub fn counts_of(histogram: &Histogram) -> usize {
    // Count, zero count and sum are columns too.
    3 + histogram.positive.counts.len() + histogram.negative.counts.len()
}

/// Appends the histograms of a block, by the places of their samples.
pub fn encode(histograms: &[(u32, Arc<Histogram>)], packing: Packing, out: &mut Vec<u8>) {
    let groups: Vec<_> = histograms.chunk_by(|a, b| a.0 + 1 == b.0).collect();
    put_number(out, groups.len() as u64);
    let mut behind = 0;
    for group in &groups {
        put_number(out, u64::from(group[0].0 - behind));
        put_number(out, group.len() as u64);
        behind = group[0].0 + group.len() as u32;
    }
    for run in histograms.chunk_by(|a, b| a.1.reset_hint == b.1.reset_hint) {
        out.push(HINTS.iter().position(|hint| *hint == run[0].1.reset_hint).unwrap_or(0) as u8);
        put_number(out, run.len() as u64);
    }
    for run in histograms.chunk_by(|a, b| is_same_layout(&a.1, &b.1)) {
        put_number(out, run.len() as u64);
        encode_layout(&run[0].1, out);
        let mut column = |pick: &dyn Fn(&Histogram) -> f64| {
            values::encode(&run.iter().map(|(_, one)| pick(one)).collect::<Vec<f64>>(), packing, out);
        };
        column(&|one| one.count);
        column(&|one| one.zero_count);
        column(&|one| one.sum);
        for bucket in 0..run[0].1.positive.counts.len() {
            column(&|one| one.positive.counts[bucket]);
        }
        for bucket in 0..run[0].1.negative.counts.len() {
            column(&|one| one.negative.counts[bucket]);
        }
    }
}

fn is_same_layout(a: &Histogram, b: &Histogram) -> bool {
    let bits = |bounds: &[f64]| bounds.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive.spans == b.positive.spans
        && a.negative.spans == b.negative.spans
        && a.positive.counts.len() == b.positive.counts.len()
        && a.negative.counts.len() == b.negative.counts.len()
        && bits(&a.custom_bounds) == bits(&b.custom_bounds)
}

fn encode_layout(histogram: &Histogram, out: &mut Vec<u8>) {
    out.push(histogram.schema as u8);
    out.extend_from_slice(&histogram.zero_threshold.to_bits().to_le_bytes());
    for side in [&histogram.positive, &histogram.negative] {
        put_number(out, side.spans.len() as u64);
        for span in &side.spans {
            put_signed(out, i64::from(span.offset));
            put_number(out, u64::from(span.length));
        }
        put_number(out, side.counts.len() as u64);
    }
    put_number(out, histogram.custom_bounds.len() as u64);
    histogram.custom_bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_bits().to_le_bytes()));
}

/// Reads the histograms of a block of so many samples; `first` is added to their places. `None`: they are none.
pub fn decode(
    reader: &mut Reader<'_>,
    samples: usize,
    first: usize,
    into: &mut Vec<(u32, Arc<Histogram>)>,
) -> Option<()> {
    let mut places = Vec::new();
    let mut behind = 0usize;
    for _ in 0..reader.count()? {
        let start = behind.checked_add(usize::try_from(reader.number()?).ok()?)?;
        let end = start.checked_add(usize::try_from(reader.number()?).ok()?)?;
        if end > samples || end == start {
            return None;
        }
        places.extend(start..end);
        behind = end;
    }
    let hints = decode_hints(reader, places.len())?;
    let mut done = 0;
    let mut counts_left = MAX_BLOCK_COUNTS;
    while done < places.len() {
        let run = usize::try_from(reader.number()?).ok().filter(|run| *run > 0 && *run <= places.len() - done)?;
        let layout = decode_layout(reader)?;
        let columns = counts_of(&layout);
        if run > 1 || done > 0 {
            counts_left = counts_left.checked_sub(columns.checked_mul(run)?)?;
        }
        let mut all = vec![layout; run];
        decode_columns(reader, &mut all)?;
        for (i, mut histogram) in all.into_iter().enumerate() {
            histogram.reset_hint = hints[done + i];
            into.push(((first + places[done + i]) as u32, Arc::new(histogram)));
        }
        done += run;
    }
    Some(())
}

fn decode_hints(reader: &mut Reader<'_>, histograms: usize) -> Option<Vec<ResetHint>> {
    let mut hints = Vec::with_capacity(histograms);
    while hints.len() < histograms {
        let hint = *HINTS.get(usize::from(reader.byte()?))?;
        let run = usize::try_from(reader.number()?).ok().filter(|run| *run > 0 && *run <= histograms - hints.len())?;
        hints.resize(hints.len() + run, hint);
    }
    Some(hints)
}

/// A histogram with all counts 0.
fn decode_layout(reader: &mut Reader<'_>) -> Option<Histogram> {
    let schema = reader.byte()? as i8;
    let zero_threshold = f64::from_bits(u64::from_le_bytes(reader.array()?));
    let mut histogram = Histogram { schema, zero_threshold, ..Histogram::default() };
    for side in [&mut histogram.positive, &mut histogram.negative] {
        *side = decode_buckets(reader)?;
    }
    for _ in 0..reader.count()? {
        histogram.custom_bounds.push(f64::from_bits(u64::from_le_bytes(reader.array()?)));
    }
    Some(histogram)
}

fn decode_buckets(reader: &mut Reader<'_>) -> Option<Buckets> {
    let mut buckets = Buckets::default();
    for _ in 0..reader.count()? {
        let offset = i32::try_from(reader.signed()?).ok()?;
        let length = u32::try_from(reader.number()?).ok()?;
        buckets.spans.push(BucketSpan { offset, length });
    }
    let counts = reader.count()?;
    let needed: u64 = buckets.spans.iter().map(|span| u64::from(span.length)).sum();
    if needed != counts as u64 {
        return None;
    }
    buckets.counts = vec![0.0; counts];
    Some(buckets)
}

fn decode_columns(reader: &mut Reader<'_>, all: &mut [Histogram]) -> Option<()> {
    let samples = all.len();
    let (positive, negative) = all.first().map(|one| (one.positive.counts.len(), one.negative.counts.len()))?;
    let mut column = Vec::with_capacity(samples);
    for at in 0..3 + positive + negative {
        column.clear();
        values::decode(reader, samples, &mut column)?;
        for (one, value) in all.iter_mut().zip(&column) {
            *match at {
                0 => &mut one.count,
                1 => &mut one.zero_count,
                2 => &mut one.sum,
                at if at < 3 + positive => &mut one.positive.counts[at - 3],
                at => &mut one.negative.counts[at - 3 - positive],
            } = *value;
        }
    }
    Some(())
}
