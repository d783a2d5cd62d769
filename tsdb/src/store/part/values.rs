//! Values of a block, exact for every bit pattern: a constant, decimals, or XOR, whichever is smallest ([`super::codec`]).
//! Parts that will stay are packed: their decimals and floats by pco (binned, entropy-coded latents) where that is smaller.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};

use super::wire::{Reader, put_number, put_signed};

const CONSTANT: u8 = 0;
const DELTA: u8 = 1;
const DELTA_OF_DELTA: u8 = 2;
const XOR: u8 = 3;
const PACKED_DECIMALS: u8 = 4;
const PACKED_FLOATS: u8 = 5;

/// Powers of ten up to here are exact in a double.
const MAX_EXPONENT: u8 = 18;
/// Integers below this are exact in a double.
const MAX_INTEGER: f64 = (1u64 << 53) as f64;
/// An exponent is chosen by this many values.
const PROBED_VALUES: usize = 64;
/// Fewer values are not packed: what pco says of its bins would outweigh them.
const MIN_PACKED_VALUES: usize = 128;
/// Each level more costs half as much time again; past this one it saves less than a hundredth.
const PACKING_LEVEL: usize = 6;

/// How much work a part is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It will be merged soon.
    Quick,
    /// It will stay.
    Small,
}

/// Appends values that are not empty in the smallest way that the packing knows.
pub fn encode(values: &[f64], packing: Packing, out: &mut Vec<u8>) {
    if values.iter().all(|value| value.to_bits() == values[0].to_bits()) {
        out.push(CONSTANT);
        out.extend_from_slice(&values[0].to_bits().to_le_bytes());
        return;
    }
    let is_packed = packing == Packing::Small && values.len() >= MIN_PACKED_VALUES;
    let smallest = |plain: Vec<u8>, packed: Option<Vec<u8>>| match packed {
        Some(packed) if packed.len() < plain.len() => packed,
        _ => plain,
    };
    let decimals =
        Decimals::of(values).map(|decimals| smallest(decimals.encode(), is_packed.then(|| decimals.encode_packed())));
    let floats = match &decimals {
        // What is decimal is never smaller as floats.
        Some(decimals) if decimals.len() < 2 * values.len() => None,
        _ => Some(smallest(encode_xor(values), is_packed.then(|| encode_packed_floats(values)))),
    };
    let encoded = match (decimals, floats) {
        (Some(decimals), Some(floats)) if decimals.len() <= floats.len() => decimals,
        (Some(decimals), None) => decimals,
        (_, floats) => floats.unwrap_or_default(),
    };
    out.extend_from_slice(&encoded);
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
        PACKED_DECIMALS => decode_packed_decimals(reader, samples, values),
        PACKED_FLOATS => {
            let before = values.len();
            values.resize(before + samples, 0.0);
            unpack(reader, &mut values[before..])
        }
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

    /// What stands before the integers.
    fn header(&self, kind: u8) -> Vec<u8> {
        let mut out = vec![kind, self.exponent];
        put_number(&mut out, self.exceptions.len() as u64);
        for (i, value) in &self.exceptions {
            put_number(&mut out, *i as u64);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        out
    }

    fn encode_packed(&self) -> Vec<u8> {
        let mut out = self.header(PACKED_DECIMALS);
        pack(&self.integers, &mut out);
        out
    }

    fn encode_as(&self, kind: u8) -> Vec<u8> {
        let mut out = self.header(kind);
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
    let (exponent, exact) = decode_header(reader, samples)?;
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

/// The exponent of decimals, and what is none, by its place.
fn decode_header(reader: &mut Reader<'_>, samples: usize) -> Option<(u8, Vec<(usize, f64)>)> {
    let exponent = reader.byte().filter(|exponent| *exponent <= MAX_EXPONENT)?;
    let exceptions = reader.count().filter(|count| *count <= samples)?;
    let mut exact = Vec::with_capacity(exceptions);
    for _ in 0..exceptions {
        let at = usize::try_from(reader.number()?).ok().filter(|at| *at < samples)?;
        exact.push((at, f64::from_bits(u64::from_le_bytes(reader.array()?))));
    }
    Some((exponent, exact))
}

fn decode_packed_decimals(reader: &mut Reader<'_>, samples: usize, values: &mut Vec<f64>) -> Option<()> {
    let (exponent, exact) = decode_header(reader, samples)?;
    let mut integers = vec![0i64; samples];
    unpack(reader, &mut integers)?;
    let (before, power) = (values.len(), power_of_ten(exponent));
    values.extend(integers.iter().map(|integer| *integer as f64 / power));
    for (at, value) in exact {
        values[before + at] = value;
    }
    Some(())
}

fn encode_packed_floats(values: &[f64]) -> Vec<u8> {
    let mut out = vec![PACKED_FLOATS];
    pack(values, &mut out);
    out
}

/// Appends a number of bytes and pco's wrapped format: header, one chunk's description, its one page.
fn pack<T: Number>(numbers: &[T], out: &mut Vec<u8>) {
    let packed = || -> pco::errors::PcoResult<Vec<u8>> {
        let file = FileCompressor::default();
        let header = file.write_header(Vec::with_capacity(numbers.len() * 2))?;
        let config = ChunkConfig::default().with_compression_level(PACKING_LEVEL);
        let mut chunk = file.chunk_compressor(numbers, &config)?;
        let described = chunk.write_meta(header)?;
        chunk.write_page(0, described)
    };
    let packed = packed().expect("a block is within pco's bounds, and memory takes what is written");
    put_number(out, packed.len() as u64);
    out.extend_from_slice(&packed);
}

fn unpack<T: Number>(reader: &mut Reader<'_>, numbers: &mut [T]) -> Option<()> {
    let bytes = reader.count()?;
    let packed = reader.take(bytes)?;
    let (file, rest) = FileDecompressor::new(packed).ok()?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, &[u8]>(rest).ok()?;
    let mut page = chunk.page_decompressor(rest, numbers.len()).ok()?;
    let read = page.read(numbers).ok()?;
    (read.finished && read.n_processed == numbers.len()).then_some(())
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
