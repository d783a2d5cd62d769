//! LEB128 and zigzag: how every binary format of ours writes integers.

/// Appends a number, seven bits a byte, the lowest first.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front. `None`, and nothing taken, where it is cut short or does not fit 64 bits.
#[inline]
pub fn take(rest: &mut &[u8]) -> Option<u64> {
    let (first, behind) = rest.split_first()?;
    if *first < 0x80 {
        *rest = behind;
        return Some(u64::from(*first));
    }
    match rest.first_chunk::<8>().and_then(|bytes| of_eight(u64::from_le_bytes(*bytes))) {
        Some((value, length)) => {
            *rest = &rest[length..];
            Some(value)
        }
        None => take_long(rest),
    }
}

/// The number at the front of eight bytes and its length, if it ends there.
#[inline]
fn of_eight(bytes: u64) -> Option<(u64, usize)> {
    let ends = !bytes & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let bits = ends.trailing_zeros() + 1;
    let sevens = bytes & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
    // Pairs of bytes, of pairs, of fours move together.
    let pairs = sevens & 0x007f_007f_007f_007f | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    let value = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
    Some((value, (bits / 8) as usize))
}

/// One byte after the other: for numbers near the end, and for those of more than eight bytes.
fn take_long(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Small magnitudes of either sign become small numbers.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_come_back() {
        let powers =
            (0..64).map(|bit| 1i64 << bit).flat_map(|power| [power.wrapping_sub(1), power, power.wrapping_neg()]);
        for (number, behind) in powers.chain([0, 300]).flat_map(|number| [(number, 0), (number, 9)]) {
            let mut bytes = Vec::new();
            put(&mut bytes, zigzag(number));
            put(&mut bytes, number as u64);
            bytes.resize(bytes.len() + behind, 0xff);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest).map(unzigzag), Some(number));
            assert_eq!((take(&mut rest), rest.len()), (Some(number as u64), behind));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_large_is_refused() {
        let overflow = [[0xff; 9].as_slice(), &[2]].concat();
        for bad in [&[0xff; 12][..], &[0x80], &[], &overflow] {
            let mut rest = bad;
            assert_eq!((take(&mut rest), rest.len()), (None, bad.len()), "{bad:?}");
        }
    }
}
