//! Chunks as Prometheus encodes them (its `tsdb/docs/format/chunks.md`), for streamed remote reads: XOR chunks of floats,
//! and float histogram chunks.

use model::{CUSTOM_SCHEMA, Histogram, ResetHint, Sample};

/// Samples in one chunk, as in Prometheus.
pub const MAX_CHUNK_SAMPLES: usize = 120;

/// Bits from the highest to the lowest of each byte.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Free bits in the last byte.
    free: u32,
}

impl Bits {
    fn put(&mut self, value: u64, count: u32) {
        for shift in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            let bit = (value >> shift) as u8 & 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << self.free;
            }
        }
    }

    /// Whole bytes wherever the last bit is.
    fn put_bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.put(u64::from(*byte), 8));
    }

    /// 1 to 9 bytes by the size of the value; `fits` says whether it fits into so many bits.
    fn put_varbit(&mut self, value: u64, fits: impl Fn(u32) -> bool) {
        const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];
        if value == 0 {
            return self.put(0, 1);
        }
        match WIDTHS.iter().zip(2u32..).find(|(width, _)| fits(**width)) {
            Some((width, mark)) => {
                self.put((1 << mark) - 2, mark);
                self.put(value, *width);
            }
            None => {
                self.put(0xff, 8);
                self.put(value, 64);
            }
        }
    }

    fn put_varbit_signed(&mut self, value: i64) {
        self.put_varbit(value as u64, |width| -((1i64 << (width - 1)) - 1) <= value && value <= 1 << (width - 1));
    }

    fn put_varbit_unsigned(&mut self, value: u64) {
        self.put_varbit(value, |width| value < 1 << width);
    }

    fn put_float(&mut self, value: f64) {
        self.put(value.to_bits(), 64);
    }

    fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }
}

/// The window of meaningful bits of the XOR before.
struct Window {
    leading: u32,
    trailing: u32,
}

/// Encodes at most 65,535 samples.
pub fn encode_xor(samples: &[Sample]) -> Vec<u8> {
    let count = u16::try_from(samples.len()).unwrap_or(u16::MAX);
    let mut bits = Bits::default();
    bits.put_bytes(&count.to_be_bytes());
    let (mut before, mut delta, mut window) = (Sample { t_ms: 0, value: 0.0 }, 0u64, None);
    for (i, sample) in samples.iter().take(usize::from(count)).enumerate() {
        match i {
            0 => {
                bits.put_uvarint(model::varint::zigzag(sample.t_ms));
                bits.put(sample.value.to_bits(), 64);
            }
            1 => {
                delta = sample.t_ms.wrapping_sub(before.t_ms) as u64;
                bits.put_uvarint(delta);
                put_value(&mut bits, before.value, sample.value, &mut window);
            }
            _ => {
                let now = sample.t_ms.wrapping_sub(before.t_ms) as u64;
                put_time(&mut bits, now.wrapping_sub(delta) as i64);
                delta = now;
                put_value(&mut bits, before.value, sample.value, &mut window);
            }
        }
        before = *sample;
    }
    bits.bytes
}

/// Whether a histogram may stand behind others in their chunk, of which readers take every one but the first for no counter
/// reset.
pub fn continues(run: &[(i64, &Histogram)], next: &Histogram) -> bool {
    let [.., (_, last)] = run else { return false };
    let layout = |of: &Histogram| (of.schema, of.zero_threshold.to_bits());
    let is_alike = layout(last) == layout(next)
        && last.positive.spans == next.positive.spans
        && last.negative.spans == next.negative.spans
        && last.custom_bounds == next.custom_bounds;
    let goes_on = match (last.reset_hint, next.reset_hint) {
        (ResetHint::Gauge, ResetHint::Gauge) => true,
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => false,
        _ => !last.is_stale() && !next.is_stale() && !next.detect_reset(last),
    };
    run.len() < MAX_CHUNK_SAMPLES && is_alike && goes_on
}

/// What of a histogram changes within a chunk.
fn numbers(histogram: &Histogram) -> impl Iterator<Item = f64> {
    let Histogram { count, zero_count, sum, positive, negative, .. } = histogram;
    [*count, *zero_count, *sum]
        .into_iter()
        .chain(positive.counts.iter().copied())
        .chain(negative.counts.iter().copied())
}

/// Encodes histograms of which each [`continues`] those before it.
pub fn encode_histograms(run: &[(i64, &Histogram)]) -> Vec<u8> {
    let mut bits = Bits::default();
    let count = u16::try_from(run.len()).unwrap_or(u16::MAX);
    bits.put_bytes(&count.to_be_bytes());
    let [(first_ms, first), rest @ ..] = run else { return bits.bytes };
    put_layout(&mut bits, first);
    bits.put_varbit_signed(*first_ms);
    numbers(first).for_each(|number| bits.put_float(number));
    let mut windows: Vec<Option<Window>> = numbers(first).map(|_| None).collect();
    let (mut before, mut delta) = ((*first_ms, *first), 0i64);
    for (i, (t_ms, histogram)) in rest.iter().enumerate() {
        let now = t_ms.wrapping_sub(before.0);
        bits.put_varbit_signed(if i == 0 { now } else { now.wrapping_sub(delta) });
        let pairs = numbers(before.1).zip(numbers(histogram));
        pairs.zip(&mut windows).for_each(|((before, number), window)| put_value(&mut bits, before, number, window));
        (before, delta) = ((*t_ms, *histogram), now);
    }
    bits.bytes
}

/// What all histograms of a chunk have in common, and whether its first one is behind a reset.
fn put_layout(bits: &mut Bits, histogram: &Histogram) {
    bits.put(
        match histogram.reset_hint {
            ResetHint::Unknown => 0b00,
            ResetHint::NotReset => 0b01,
            ResetHint::Reset => 0b10,
            ResetHint::Gauge => 0b11,
        } << 6,
        8,
    );
    if histogram.zero_threshold == 0.0 {
        bits.put(0, 8);
    } else {
        bits.put(255, 8);
        bits.put_float(histogram.zero_threshold);
    }
    bits.put_varbit_signed(i64::from(histogram.schema));
    for buckets in [&histogram.positive, &histogram.negative] {
        bits.put_varbit_unsigned(buckets.spans.len() as u64);
        for span in &buckets.spans {
            bits.put_varbit_unsigned(u64::from(span.length));
            bits.put_varbit_signed(i64::from(span.offset));
        }
    }
    if histogram.schema == CUSTOM_SCHEMA {
        bits.put_varbit_unsigned(histogram.custom_bounds.len() as u64);
        for bound in &histogram.custom_bounds {
            bits.put(0, 1);
            bits.put_float(*bound);
        }
    }
}

/// The difference of differences, in 14, 17, 20 or 64 bits.
fn put_time(bits: &mut Bits, change: i64) {
    let fits = |width: u32| -((1i64 << (width - 1)) - 1) <= change && change <= 1 << (width - 1);
    match () {
        () if change == 0 => bits.put(0, 1),
        () if fits(14) => {
            bits.put(0b10, 2);
            bits.put(change as u64, 14);
        }
        () if fits(17) => {
            bits.put(0b110, 3);
            bits.put(change as u64, 17);
        }
        () if fits(20) => {
            bits.put(0b1110, 4);
            bits.put(change as u64, 20);
        }
        () => {
            bits.put(0b1111, 4);
            bits.put(change as u64, 64);
        }
    }
}

fn put_value(bits: &mut Bits, before: f64, value: f64, window: &mut Option<Window>) {
    let changed = before.to_bits() ^ value.to_bits();
    if changed == 0 {
        bits.put(0, 1);
        return;
    }
    bits.put(1, 1);
    let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
    if let Some(old) = window.as_ref().filter(|old| leading >= old.leading && trailing >= old.trailing) {
        bits.put(0, 1);
        bits.put(changed >> old.trailing, 64 - old.leading - old.trailing);
        return;
    }
    let meaningful = 64 - leading - trailing;
    bits.put(1, 1);
    bits.put(u64::from(leading), 5);
    // 64 does not fit in six bits and is written as 0, which cannot be meant.
    bits.put(u64::from(meaningful & 63), 6);
    bits.put(changed >> trailing, meaningful);
    *window = Some(Window { leading, trailing });
}

#[cfg(test)]
mod tests {
    use model::Buckets;

    use super::*;

    /// Reads a chunk back, from the format's description.
    fn decode(bytes: &[u8]) -> Vec<(i64, u64)> {
        let mut at = 16usize;
        let mut take = |count: u32| {
            (0..count).fold(0u64, |value, _| {
                let bit = bytes[at / 8] >> (7 - at % 8) & 1;
                at += 1;
                value << 1 | u64::from(bit)
            })
        };
        fn uvarint(take: &mut impl FnMut(u32) -> u64) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = take(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
        let count = u16::from_be_bytes([bytes[0], bytes[1]]);
        let (mut t, mut v, mut delta, mut window) = (0i64, 0u64, 0u64, (0, 0));
        let mut out = Vec::new();
        for i in 0..count {
            if i == 0 {
                let zigzag = uvarint(&mut take);
                t = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                v = take(64);
            } else {
                if i == 1 {
                    delta = uvarint(&mut take);
                } else {
                    let width = match () {
                        () if take(1) == 0 => 0,
                        () if take(1) == 0 => 14,
                        () if take(1) == 0 => 17,
                        () if take(1) == 0 => 20,
                        () => 64,
                    };
                    let raw = take(width);
                    let change = if (1..64).contains(&width) && raw > 1 << (width - 1) {
                        raw.wrapping_sub(1 << width)
                    } else {
                        raw
                    };
                    delta = delta.wrapping_add(change);
                }
                t = t.wrapping_add(delta as i64);
                if take(1) == 1 {
                    if take(1) == 1 {
                        let leading = take(5) as u32;
                        let meaningful = match take(6) as u32 {
                            0 => 64,
                            bits => bits,
                        };
                        window = (leading, 64 - leading - meaningful);
                    }
                    v ^= take(64 - window.0 - window.1) << window.1;
                }
            }
            out.push((t, v));
        }
        out
    }

    fn check(samples: &[(i64, f64)]) -> usize {
        let samples: Vec<Sample> = samples.iter().map(|(t_ms, value)| Sample { t_ms: *t_ms, value: *value }).collect();
        let bytes = encode_xor(&samples);
        let expected: Vec<_> = samples.iter().map(|sample| (sample.t_ms, sample.value.to_bits())).collect();
        assert_eq!(decode(&bytes), expected);
        bytes.len()
    }

    #[test]
    fn a_histogram_is_one_chunk() {
        let buckets = Buckets { spans: vec![model::BucketSpan { offset: -2, length: 1 }], counts: vec![1.0] };
        let histogram = Histogram { schema: 1, count: 2.0, positive: buckets, ..Histogram::default() };
        let expected = [
            // One sample, hint unknown, no zero threshold.
            "00000000 00000001 00000000 00000000",
            // Schema 1; one span of length 1 at -2; no negative span; the time 5.
            "10001 10001 10001 10110 0 110000101",
            &format!("{:064b}{:064b}{:064b}{:064b}", 2f64.to_bits(), 0, 0, 1f64.to_bits()),
        ];
        let expected: String = expected.concat().chars().filter(|c| *c != ' ').collect();
        let bits: String = encode_histograms(&[(5, &histogram)]).iter().map(|byte| format!("{byte:08b}")).collect();
        assert_eq!(bits[..expected.len()], expected);
        assert!(bits.len() - expected.len() < 8 && !bits[expected.len()..].contains('1'));
    }

    fn growing(count: f64) -> Histogram {
        let buckets = Buckets { spans: vec![model::BucketSpan { offset: 3, length: 2 }], counts: vec![count, 1.0] };
        Histogram { schema: 2, count: count + 1.0, sum: count * 1.5, positive: buckets, ..Histogram::default() }
    }

    #[test]
    fn histograms_share_a_chunk_until_their_layout_changes_or_they_are_reset() {
        let first = growing(4.0);
        let check =
            |next: Histogram, expected: bool| assert_eq!(continues(&[(0, &first)], &next), expected, "{next:?}");
        check(growing(5.0), true);
        check(growing(3.0), false);
        check(Histogram { reset_hint: ResetHint::NotReset, ..growing(3.0) }, true);
        check(Histogram { reset_hint: ResetHint::Reset, ..growing(5.0) }, false);
        check(Histogram { reset_hint: ResetHint::Gauge, ..growing(5.0) }, false);
        check(Histogram { zero_threshold: 1e-9, ..growing(5.0) }, false);
        check(Histogram::stale(), false);
        let full: Vec<_> = (0..MAX_CHUNK_SAMPLES).map(|_| (0, &first)).collect();
        assert!(!continues(&full, &growing(5.0)) && !continues(&[], &first));
    }

    /// The bytes were read back by Prometheus 3.14's own `chunkenc`, which gave these three histograms.
    #[test]
    fn a_run_of_histograms_is_what_prometheus_reads() {
        let (a, b, c) = (growing(4.0), growing(5.0), growing(5.5));
        let bytes = encode_histograms(&[(1_700_000_000_000, &a), (1_700_000_015_000, &b), (1_700_000_030_001, &c)]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "00030000946537f0000c5e7f2b400200a0000000000000000000000000000200c00000000000020080000000000001ff8000",
            "0000000007c1d4c6c0b6d0bda0d1dc0da87fbb8180"
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn chunks_can_be_read_back() {
        assert_eq!(check(&[]), 2);
        check(&[(-5, 1.0)]);
        let steady: Vec<_> = (0..120).map(|i| (1_700_000_000_000 + i * 15_000, 42.0)).collect();
        assert!(check(&steady) < 60);
        check(&[(0, 0.0), (1, f64::NAN), (8193, -0.0), (8193 + 65536, 1e300), (1 << 40, 5e-324), (i64::MAX, f64::MAX)]);
    }

    proptest::proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::btree_map(proptest::prelude::any::<i64>(), proptest::prelude::any::<u64>(), 0..50)) {
            check(&samples.into_iter().map(|(t_ms, bits)| (t_ms, f64::from_bits(bits))).collect::<Vec<_>>());
        }
    }
}
