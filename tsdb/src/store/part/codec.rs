//! A block: at most [`MAX_BLOCK_SAMPLES`] samples of one series, as bytes. Exact for every bit pattern of a float.
//!
//! Times are a first instant and differences of differences, of which a constant interval needs none. Values take the
//! smallest of: one constant; decimals (`v·10ᵉ` is an integer and `integer / 10ᵉ` gives `v` back to the bit: the idea of
//! ALP, Afroozeh, Kuffó and Boncz 2023) as deltas or deltas of deltas with exceptions beside them; XOR with the value
//! before, without its zero bytes (after Gorilla, Pelkonen et al. 2015). The format is in `docs/format/part.md`.

use std::ops::Range;

use model::{Exemplar, Labels, is_stale};
use query::Wants;

use super::values::Packing;
use super::wire::{Reader, put_number, put_signed};
use super::{histograms, values};
use crate::store::columns::Samples;

pub const MAX_BLOCK_SAMPLES: usize = 8192;

const STEADY: u8 = 0;
const VARYING: u8 = 1;

/// What a block holds, and what beside floats.
pub const STALE: u8 = 1;
pub const HISTOGRAMS: u8 = 2;
pub const STARTS: u8 = 4;
pub const EXEMPLARS: u8 = 8;

/// Appends the block of a range that is not empty, and answers what it holds.
pub fn encode(columns: &Samples, range: Range<usize>, packing: Packing, out: &mut Vec<u8>) -> u8 {
    assert!(!range.is_empty() && range.len() <= MAX_BLOCK_SAMPLES);
    let values = &columns.values[range.clone()];
    let mut flags = 0;
    encode_times(&columns.timestamps_ms[range.clone()], out);
    values::encode(values, packing, out);
    if values.iter().any(|value| is_stale(*value)) {
        flags |= STALE;
    }
    if let Some(starts_ms) = columns.starts_ms.get(range.clone()).filter(|starts| starts.iter().any(|t| *t != 0)) {
        flags |= STARTS;
        encode_starts(starts_ms, out);
    }
    let place = |at: usize| columns.histograms.partition_point(|(i, _)| (*i as usize) < at);
    let own = &columns.histograms[place(range.start)..place(range.end)];
    if !own.is_empty() {
        flags |= HISTOGRAMS;
        let moved: Vec<_> = own.iter().map(|(i, one)| (*i - range.start as u32, one.clone())).collect();
        histograms::encode(&moved, packing, out);
    }
    flags
}

/// Whether a block that begins at the first instant may hold the other: always in a part, which is of one day.
pub fn in_one_block(first_ms: i64, t_ms: i64) -> bool {
    t_ms.abs_diff(first_ms) <= u64::from(u32::MAX)
}

/// Where the block that begins at `start` ends: at a number of samples, or of their histograms' counts.
pub fn block_end(columns: &Samples, start: usize) -> usize {
    let times = columns.timestamps_ms[start..].iter().take(MAX_BLOCK_SAMPLES);
    let end = start + times.take_while(|t_ms| in_one_block(columns.timestamps_ms[start], **t_ms)).count();
    let first = columns.histograms.partition_point(|(i, _)| (*i as usize) < start);
    let mut counts = 0;
    for (i, histogram) in &columns.histograms[first..] {
        counts += histograms::counts_of(histogram);
        let at = *i as usize;
        if at >= end {
            break;
        }
        if counts > histograms::MAX_BLOCK_COUNTS && at > start {
            return at;
        }
    }
    end
}

/// Reads a block of so many samples behind what `into` holds. `None`: the bytes are no such block, and what `into` holds
/// means nothing. For [`Wants::Presence`] values are read only where one may be stale; others are 0.
pub fn decode(bytes: &[u8], samples: usize, flags: u8, wants: Wants, into: &mut Samples) -> Option<()> {
    if samples == 0 || samples > MAX_BLOCK_SAMPLES {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let before = into.len();
    decode_times(&mut reader, samples, &mut into.timestamps_ms)?;
    if !into.timestamps_ms[before..].is_sorted_by(|a, b| a < b) {
        return None;
    }
    if wants == Wants::Presence && flags & STALE == 0 {
        into.values.resize(before + samples, 0.0);
        pad_starts(into);
        return Some(());
    }
    values::decode(&mut reader, samples, &mut into.values)?;
    if wants == Wants::Presence {
        pad_starts(into);
        return Some(());
    }
    if flags & STARTS != 0 {
        into.starts_ms.resize(before, 0);
        decode_starts(&mut reader, samples, &mut into.starts_ms)?;
    } else {
        pad_starts(into);
    }
    if flags & HISTOGRAMS != 0 {
        histograms::decode(&mut reader, samples, before, &mut into.histograms)?;
    }
    (reader.remaining() == 0).then_some(())
}

/// Where start times are known of earlier samples, they are unknown for those that were just added.
fn pad_starts(into: &mut Samples) {
    if !into.starts_ms.is_empty() {
        into.starts_ms.resize(into.len(), 0);
    }
}

/// Differences that repeat: start times change when counting begins anew.
fn encode_starts(starts_ms: &[i64], out: &mut Vec<u8>) {
    let mut before = 0i64;
    for run in starts_ms.chunk_by(|a, b| a == b) {
        put_signed(out, run[0].wrapping_sub(before));
        put_number(out, run.len() as u64);
        before = run[0];
    }
}

fn decode_starts(reader: &mut Reader<'_>, samples: usize, into: &mut Vec<i64>) -> Option<()> {
    let end = into.len() + samples;
    let mut start_ms = 0i64;
    while into.len() < end {
        start_ms = start_ms.wrapping_add(reader.signed()?);
        let run = usize::try_from(reader.number()?).ok().filter(|run| *run > 0 && *run <= end - into.len())?;
        into.resize(into.len() + run, start_ms);
    }
    Some(())
}

/// Appends a block of exemplars, in time.
pub fn encode_exemplars(exemplars: &[Exemplar], out: &mut Vec<u8>) {
    let mut before = 0i64;
    for one in exemplars {
        put_signed(out, one.t_ms.wrapping_sub(before));
        out.extend_from_slice(&one.value.to_bits().to_le_bytes());
        put_number(out, one.labels.len() as u64);
        for text in one.labels.iter().flat_map(|label| [&label.name, &label.value]) {
            put_number(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        before = one.t_ms;
    }
}

pub fn decode_exemplars(bytes: &[u8], count: usize) -> Option<Vec<Exemplar>> {
    let mut reader = Reader::new(bytes);
    let mut exemplars = Vec::new();
    let mut t_ms = 0i64;
    for _ in 0..count {
        t_ms = t_ms.wrapping_add(reader.signed()?);
        let value = f64::from_bits(u64::from_le_bytes(reader.array()?));
        let mut pairs = Vec::new();
        for _ in 0..reader.count()? {
            pairs.push((reader.string()?, reader.string()?));
        }
        exemplars.push(Exemplar { labels: Labels::from_pairs(pairs), value, t_ms });
    }
    (reader.remaining() == 0).then_some(exemplars)
}

fn encode_times(timestamps_ms: &[i64], out: &mut Vec<u8>) {
    let first = timestamps_ms[0];
    let step = timestamps_ms.get(1).map_or(0, |second| second.wrapping_sub(first));
    let is_steady = timestamps_ms.windows(2).all(|two| two[1].wrapping_sub(two[0]) == step);
    out.push(if is_steady { STEADY } else { VARYING });
    put_signed(out, first);
    put_signed(out, step);
    if is_steady {
        return;
    }
    let mut before = step;
    for two in timestamps_ms.windows(2).skip(1) {
        let step = two[1].wrapping_sub(two[0]);
        put_signed(out, step.wrapping_sub(before));
        before = step;
    }
}

fn decode_times(reader: &mut Reader<'_>, samples: usize, times: &mut Vec<i64>) -> Option<()> {
    let kind = reader.byte()?;
    let (mut last, mut step) = (reader.signed()?, reader.signed()?);
    times.reserve(samples);
    times.push(last);
    for i in 1..samples {
        if kind == VARYING && i > 1 {
            step = step.wrapping_add(reader.signed()?);
        }
        last = last.wrapping_add(step);
        times.push(last);
    }
    (kind <= VARYING).then_some(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Buckets, Histogram, ResetHint};
    use proptest::prelude::*;

    use super::*;

    /// The bytes that a block needs, which must give its samples back to the bit.
    fn check(timestamps_ms: &[i64], values: &[f64]) -> usize {
        check_columns(&Samples { timestamps_ms: timestamps_ms.to_vec(), values: values.to_vec(), ..Samples::default() })
    }

    fn check_columns(columns: &Samples) -> usize {
        let lengths = [Packing::Small, Packing::Quick].map(|packing| check_packed(columns, packing));
        assert!(lengths[0] <= lengths[1], "{lengths:?}");
        lengths[1]
    }

    fn check_packed(columns: &Samples, packing: Packing) -> usize {
        let mut bytes = Vec::new();
        let flags = encode(columns, 0..columns.len(), packing, &mut bytes);
        let mut back = Samples::default();
        decode(&bytes, columns.len(), flags, Wants::Values, &mut back).expect("it is a block");
        assert_eq!(format!("{back:?}"), format!("{columns:?}"));
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.values), bits(&columns.values));
        back.clear();
        decode(&bytes, columns.len(), flags, Wants::Presence, &mut back).expect("it is a block");
        let stale = |columns: &Samples| columns.values.iter().map(|value| is_stale(*value)).collect::<Vec<_>>();
        assert_eq!((&back.timestamps_ms, stale(&back)), (&columns.timestamps_ms, stale(columns)));
        bytes.len()
    }

    fn steady(samples: usize) -> Vec<i64> {
        (0..samples as i64).map(|i| 1_700_000_000_000 + i * 15_000).collect()
    }

    #[test]
    fn ordinary_series_are_small() {
        let times = steady(1000);
        assert!(check(&times, &[42.0; 1000]) < 25);
        let counter: Vec<f64> = (0..1000).map(|i| 1e6 + 100.0 * f64::from(i)).collect();
        assert!(check(&times, &counter) < 1_050);
        let gauge: Vec<f64> = (0..1000).map(|i| f64::from(i * 7 % 100) / 100.0).collect();
        assert!(check(&times, &gauge) < 2_100);
        let mut ended = gauge;
        ended[999] = model::stale_marker();
        assert!(check(&times, &ended) < 2_120);
    }

    /// A steady series whose samples from `floats` on are histograms of a counter.
    fn columns_of(samples: usize, floats: usize) -> Samples {
        let mut columns = Samples { timestamps_ms: steady(samples), values: vec![0.0; samples], ..Samples::default() };
        for i in floats..samples {
            let counts: Vec<(i32, f64)> = (0..8).map(|b| (b * 2, (i * (b as usize + 1)) as f64)).collect();
            let count = counts.iter().map(|(_, count)| count).sum();
            let histogram = Histogram {
                schema: 3,
                count,
                sum: count * 0.5,
                reset_hint: if i % 100 == 0 { ResetHint::Unknown } else { ResetHint::NotReset },
                positive: Buckets::from_indexed(counts),
                ..Histogram::default()
            };
            columns.histograms.push((i as u32, Arc::new(histogram)));
        }
        columns
    }

    #[test]
    fn histograms_and_start_times_come_back() {
        let mut columns = columns_of(1000, 0);
        let plain = check_columns(&columns);
        assert!(plain < 14_000, "{plain} bytes for 1000 histograms of 8 buckets");
        columns.starts_ms = (0..1000).map(|i| i / 300 * 7).collect();
        assert!(check_columns(&columns) < plain + 30);
        let mut mixed = columns_of(50, 20);
        mixed.values[3] = 7.5;
        mixed.histograms[5].1 = Arc::new(Histogram::stale());
        mixed.values[25] = model::stale_marker();
        mixed.histograms.remove(7);
        check_columns(&mixed);
    }

    #[test]
    fn blocks_end_before_too_many_counts() {
        let columns = columns_of(9000, 0);
        let (mut start, mut blocks) = (0, 0);
        while start < columns.len() {
            let end = block_end(&columns, start);
            assert!(end > start && (end - start) * 11 <= histograms::MAX_BLOCK_COUNTS);
            (start, blocks) = (end, blocks + 1);
        }
        assert_eq!((start, blocks), (9000, 2));
    }

    #[test]
    fn odd_values_come_back_to_the_bit() {
        let odd =
            [0.0, -0.0, f64::NAN, model::stale_marker(), f64::INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX, 0.1 + 0.2];
        check(&steady(odd.len()), &odd);
        check(&[i64::MIN, -1, 0, i64::MAX], &[1.0, 2.0, 3.0, 4.0]);
        check(&[7], &[1e300]);
    }

    proptest! {
        #[test]
        fn any_block_comes_back(samples in prop::collection::btree_map(any::<i64>(), any::<u64>(), 1..200)) {
            let times: Vec<i64> = samples.keys().copied().collect();
            let values: Vec<f64> = samples.values().map(|bits| f64::from_bits(*bits)).collect();
            check(&times, &values);
        }

        #[test]
        fn decimals_come_back(values in prop::collection::vec((-1_000_000i64..1_000_000, 0u8..6), 1..200)) {
            let values: Vec<f64> = values.into_iter().map(|(n, e)| n as f64 / 10f64.powi(i32::from(e))).collect();
            check(&steady(values.len()), &values);
        }

        #[test]
        fn any_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), samples in 0usize..9000, flags in 0u8..16,
        ) {
            let _ = decode(&bytes, samples, flags, Wants::Values, &mut Samples::default());
            let _ = decode_exemplars(&bytes, samples);
        }

        /// Histograms behind a block of times and values that are in order.
        #[test]
        fn any_histograms_never_panic(bytes in prop::collection::vec(0u8..6, 0..300), samples in 1usize..40) {
            let columns = columns_of(samples, 0);
            let mut block = Vec::new();
            encode(&columns, 0..samples, Packing::Small, &mut block);
            block.extend(bytes);
            let _ = decode(&block, samples, HISTOGRAMS, Wants::Values, &mut Samples::default());
        }
    }
}
