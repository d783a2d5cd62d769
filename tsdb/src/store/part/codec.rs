//! A block: at most [`MAX_BLOCK_SAMPLES`] samples of one series, as bytes. Exact for every bit pattern of a float.
//!
//! Times are a first instant and differences of differences, of which a constant interval needs none. Values take the
//! smallest of: one constant; decimals (`v·10ᵉ` is an integer and `integer / 10ᵉ` gives `v` back to the bit: the idea of
//! ALP, Afroozeh, Kuffó and Boncz 2023) as deltas or deltas of deltas with exceptions beside them; XOR with the value
//! before, without its zero bytes (after Gorilla, Pelkonen et al. 2015). The format is in `docs/format/part.md`.

use std::ops::Range;

use model::{Exemplar, Labels, is_stale};
use query::Wants;

use super::histograms;
use super::wire::{Reader, put_number, put_signed};
use crate::store::columns::Samples;

pub const MAX_BLOCK_SAMPLES: usize = 8192;

const STEADY: u8 = 0;
const VARYING: u8 = 1;

const CONSTANT: u8 = 0;
const DELTA: u8 = 1;
const DELTA_OF_DELTA: u8 = 2;
const XOR: u8 = 3;

/// Powers of ten up to here are exact in a double.
const MAX_EXPONENT: u8 = 18;
/// Integers below this are exact in a double.
const MAX_INTEGER: f64 = (1u64 << 53) as f64;
/// An exponent is chosen by this many values.
const PROBED_VALUES: usize = 64;

/// What a block holds, and what beside floats.
pub const STALE: u8 = 1;
pub const HISTOGRAMS: u8 = 2;
pub const STARTS: u8 = 4;
pub const EXEMPLARS: u8 = 8;

/// Appends the block of a range that is not empty, and answers what it holds.
pub fn encode(columns: &Samples, range: Range<usize>, out: &mut Vec<u8>) -> u8 {
    assert!(!range.is_empty() && range.len() <= MAX_BLOCK_SAMPLES);
    let values = &columns.values[range.clone()];
    let mut flags = 0;
    encode_times(&columns.timestamps_ms[range.clone()], out);
    encode_values(values, out);
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
        histograms::encode(&moved, out);
    }
    flags
}

/// Where the block that begins at `start` ends: at a number of samples, or of their histograms' counts.
pub fn block_end(columns: &Samples, start: usize) -> usize {
    let end = columns.len().min(start + MAX_BLOCK_SAMPLES);
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
    decode_values(&mut reader, samples, &mut into.values)?;
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

/// Appends values that are not empty in the smallest way.
pub fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    if values.iter().all(|value| value.to_bits() == values[0].to_bits()) {
        out.push(CONSTANT);
        out.extend_from_slice(&values[0].to_bits().to_le_bytes());
        return;
    }
    let xor = encode_xor(values);
    let decimals = Decimals::of(values).map(|decimals| decimals.encode());
    let smallest = decimals.filter(|bytes| bytes.len() < xor.len()).unwrap_or(xor);
    out.extend_from_slice(&smallest);
}

/// Reads so many values behind those there.
pub fn decode_values(reader: &mut Reader<'_>, samples: usize, values: &mut Vec<f64>) -> Option<()> {
    match reader.byte()? {
        CONSTANT => {
            let value = f64::from_bits(u64::from_le_bytes(reader.array()?));
            values.resize(values.len() + samples, value);
            Some(())
        }
        DELTA => decode_decimals(reader, samples, false, values),
        DELTA_OF_DELTA => decode_decimals(reader, samples, true, values),
        XOR => decode_xor(reader, samples, values),
        _ => None,
    }
}

/// Values as integers over a power of ten, and those that are none.
struct Decimals {
    exponent: u8,
    integers: Vec<i64>,
    exceptions: Vec<(usize, f64)>,
}

impl Decimals {
    /// `None` where more than an eighth of the values are no such decimals.
    fn of(values: &[f64]) -> Option<Decimals> {
        let probed = values.iter().filter(|value| value.is_finite()).take(PROBED_VALUES);
        let exponent = probed.map(|value| exponent_of(*value).unwrap_or(0)).max()?;
        let mut decimals = Decimals { exponent, integers: Vec::with_capacity(values.len()), exceptions: Vec::new() };
        for (i, value) in values.iter().enumerate() {
            let integer = to_integer(*value, exponent).unwrap_or_else(|| {
                decimals.exceptions.push((i, *value));
                decimals.integers.last().copied().unwrap_or(0)
            });
            decimals.integers.push(integer);
            if decimals.exceptions.len() > values.len() / 8 + 1 {
                return None;
            }
        }
        Some(decimals)
    }

    fn encode(&self) -> Vec<u8> {
        let (deltas, deltas_of_deltas) = (self.encode_as(DELTA), self.encode_as(DELTA_OF_DELTA));
        if deltas_of_deltas.len() < deltas.len() { deltas_of_deltas } else { deltas }
    }

    fn encode_as(&self, kind: u8) -> Vec<u8> {
        let mut out = vec![kind, self.exponent];
        put_number(&mut out, self.exceptions.len() as u64);
        for (i, value) in &self.exceptions {
            put_number(&mut out, *i as u64);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        let (mut before, mut step) = (0i64, 0i64);
        for integer in &self.integers {
            let delta = integer.wrapping_sub(before);
            put_signed(&mut out, if kind == DELTA { delta } else { delta.wrapping_sub(step) });
            (before, step) = (*integer, delta);
        }
        out
    }
}

/// The smallest power of ten that makes a value an integer and gives it back.
fn exponent_of(value: f64) -> Option<u8> {
    (0..=MAX_EXPONENT).find(|exponent| to_integer(value, *exponent).is_some())
}

fn to_integer(value: f64, exponent: u8) -> Option<i64> {
    let scaled = (value * power_of_ten(exponent)).round();
    let is_exact = scaled.abs() < MAX_INTEGER && from_integer(scaled as i64, exponent).to_bits() == value.to_bits();
    is_exact.then_some(scaled as i64)
}

fn from_integer(integer: i64, exponent: u8) -> f64 {
    integer as f64 / power_of_ten(exponent)
}

fn power_of_ten(exponent: u8) -> f64 {
    const POWERS: [f64; MAX_EXPONENT as usize + 1] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
    POWERS[usize::from(exponent)]
}

fn decode_decimals(
    reader: &mut Reader<'_>,
    samples: usize,
    is_second_order: bool,
    values: &mut Vec<f64>,
) -> Option<()> {
    let before = values.len();
    let exponent = reader.byte().filter(|exponent| *exponent <= MAX_EXPONENT)?;
    let exceptions = reader.count().filter(|count| *count <= samples)?;
    let mut exact = Vec::with_capacity(exceptions);
    for _ in 0..exceptions {
        let at = usize::try_from(reader.number()?).ok().filter(|at| *at < samples)?;
        exact.push((at, f64::from_bits(u64::from_le_bytes(reader.array()?))));
    }
    let (mut integer, mut step) = (0i64, 0i64);
    let power = power_of_ten(exponent);
    values.reserve(samples);
    for _ in 0..samples {
        let read = reader.signed()?;
        step = if is_second_order { step.wrapping_add(read) } else { read };
        integer = integer.wrapping_add(step);
        values.push(integer as f64 / power);
    }
    for (at, value) in exact {
        values[before + at] = value;
    }
    Some(())
}

/// Per value one byte of counts (zero bytes above, zero bytes below), and the bytes between them.
fn encode_xor(values: &[f64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * 4 + 1);
    out.push(XOR);
    let mut before = 0u64;
    for value in values {
        let changed = value.to_bits() ^ before;
        before = value.to_bits();
        let above = changed.leading_zeros() / 8;
        let below = if changed == 0 { 0 } else { changed.trailing_zeros() / 8 };
        out.push((above << 4 | below) as u8);
        let bytes = changed.to_le_bytes();
        out.extend_from_slice(&bytes[below as usize..8 - above as usize]);
    }
    out
}

fn decode_xor(reader: &mut Reader<'_>, samples: usize, values: &mut Vec<f64>) -> Option<()> {
    let mut before = 0u64;
    values.reserve(samples);
    for _ in 0..samples {
        let counts = reader.byte()?;
        let (above, below) = (usize::from(counts >> 4), usize::from(counts & 15));
        let length = 8usize.checked_sub(above)?.checked_sub(below)?;
        let mut bytes = [0u8; 8];
        bytes[below..below + length].copy_from_slice(reader.take(length)?);
        before ^= u64::from_le_bytes(bytes);
        values.push(f64::from_bits(before));
    }
    Some(())
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
        let mut bytes = Vec::new();
        let flags = encode(columns, 0..columns.len(), &mut bytes);
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
            let values: Vec<f64> = values.into_iter().map(|(n, e)| n as f64 / power_of_ten(e)).collect();
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
            encode(&columns, 0..samples, &mut block);
            block.extend(bytes);
            let _ = decode(&block, samples, HISTOGRAMS, Wants::Values, &mut Samples::default());
        }
    }
}
