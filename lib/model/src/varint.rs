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
        for number in [0, 1, -1, 63, 64, -65, 300, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put(&mut bytes, zigzag(number));
            put(&mut bytes, number as u64);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest).map(unzigzag), Some(number));
            assert_eq!((take(&mut rest), rest.len()), (Some(number as u64), 0));
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
