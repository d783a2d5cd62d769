//! A block: at most [`MAX_BLOCK_SAMPLES`] samples of one series, as bytes. Exact for every bit pattern of a float.
//!
//! Times are a first instant and differences of differences, of which a constant interval needs none. Values take the
//! smallest of: one constant; decimals (`v·10ᵉ` is an integer and `integer / 10ᵉ` gives `v` back to the bit: the idea of
//! ALP, Afroozeh, Kuffó and Boncz 2023) as deltas or deltas of deltas with exceptions beside them; XOR with the value
//! before, without its zero bytes (after Gorilla, Pelkonen et al. 2015). The format is in `docs/format/part.md`.

use super::wire::{Reader, put_number, put_signed};
use crate::store::columns::Columns;

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

/// Appends the block of columns that are not empty.
pub fn encode(timestamps_ms: &[i64], values: &[f64], out: &mut Vec<u8>) {
    assert!(!values.is_empty() && values.len() <= MAX_BLOCK_SAMPLES && values.len() == timestamps_ms.len());
    encode_times(timestamps_ms, out);
    encode_values(values, out);
}

/// Reads a block of so many samples. `None`: the bytes are no such block.
pub fn decode(bytes: &[u8], samples: usize) -> Option<Columns> {
    if samples == 0 || samples > MAX_BLOCK_SAMPLES {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let timestamps_ms = decode_times(&mut reader, samples)?;
    let values = decode_values(&mut reader, samples)?;
    let is_rising = timestamps_ms.windows(2).all(|two| two[0] < two[1]);
    (reader.remaining() == 0 && is_rising).then_some(Columns { timestamps_ms, values })
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

fn decode_times(reader: &mut Reader<'_>, samples: usize) -> Option<Vec<i64>> {
    let kind = reader.byte()?;
    let (mut last, mut step) = (reader.signed()?, reader.signed()?);
    let mut times = Vec::with_capacity(samples);
    times.push(last);
    for i in 1..samples {
        if kind == VARYING && i > 1 {
            step = step.wrapping_add(reader.signed()?);
        }
        last = last.wrapping_add(step);
        times.push(last);
    }
    (kind <= VARYING).then_some(times)
}

fn encode_values(values: &[f64], out: &mut Vec<u8>) {
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

fn decode_values(reader: &mut Reader<'_>, samples: usize) -> Option<Vec<f64>> {
    match reader.byte()? {
        CONSTANT => Some(vec![f64::from_bits(u64::from_le_bytes(reader.array()?)); samples]),
        DELTA => decode_decimals(reader, samples, false),
        DELTA_OF_DELTA => decode_decimals(reader, samples, true),
        XOR => decode_xor(reader, samples),
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

fn decode_decimals(reader: &mut Reader<'_>, samples: usize, is_second_order: bool) -> Option<Vec<f64>> {
    let exponent = reader.byte().filter(|exponent| *exponent <= MAX_EXPONENT)?;
    let exceptions = reader.count().filter(|count| *count <= samples)?;
    let mut exact = Vec::with_capacity(exceptions);
    for _ in 0..exceptions {
        let at = usize::try_from(reader.number()?).ok().filter(|at| *at < samples)?;
        exact.push((at, f64::from_bits(u64::from_le_bytes(reader.array()?))));
    }
    let (mut integer, mut step) = (0i64, 0i64);
    let mut values = Vec::with_capacity(samples);
    for _ in 0..samples {
        let read = reader.signed()?;
        step = if is_second_order { step.wrapping_add(read) } else { read };
        integer = integer.wrapping_add(step);
        values.push(from_integer(integer, exponent));
    }
    for (at, value) in exact {
        values[at] = value;
    }
    Some(values)
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

fn decode_xor(reader: &mut Reader<'_>, samples: usize) -> Option<Vec<f64>> {
    let mut before = 0u64;
    let mut values = Vec::with_capacity(samples);
    for _ in 0..samples {
        let counts = reader.byte()?;
        let (above, below) = (usize::from(counts >> 4), usize::from(counts & 15));
        let length = 8usize.checked_sub(above)?.checked_sub(below)?;
        let mut bytes = [0u8; 8];
        bytes[below..below + length].copy_from_slice(reader.take(length)?);
        before ^= u64::from_le_bytes(bytes);
        values.push(f64::from_bits(before));
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that a block needs, which must give its samples back to the bit.
    fn check(timestamps_ms: &[i64], values: &[f64]) -> usize {
        let mut bytes = Vec::new();
        encode(timestamps_ms, values, &mut bytes);
        let back = decode(&bytes, values.len()).expect("it is a block");
        assert_eq!(back.timestamps_ms, timestamps_ms);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.values), bits(values));
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
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), samples in 0usize..9000) {
            let _ = decode(&bytes, samples);
        }
    }
}
