//! Values of a block, exact for every bit pattern: a constant, decimals, or XOR, whichever is smallest ([`super::codec`]).

use super::wire::{Reader, put_number, put_signed};

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

/// Appends values that are not empty in the smallest way.
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
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
pub fn decode(reader: &mut Reader<'_>, samples: usize, values: &mut Vec<f64>) -> Option<()> {
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
