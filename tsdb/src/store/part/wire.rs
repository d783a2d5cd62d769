//! Numbers in a part: LEB128, signed ones zigzag, and a reader that answers `None` where bytes run out.

/// Appends a number in LEB128.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number, zigzag.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Reads from bytes that may be anything.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number that counts things of at least one byte each in what follows.
    pub fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.remaining()).then_some(count)
    }

    pub fn string(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: i64) {
        let mut bytes = Vec::new();
        put_signed(&mut bytes, number);
        put_number(&mut bytes, number as u64);
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.signed(), reader.number(), reader.remaining()), (Some(number), Some(number as u64), 0));
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        for number in [0, 1, -1, 63, 64, -65, 300, i64::MAX, i64::MIN] {
            check(number);
        }
        assert_eq!(Reader::new(&[0xff; 12]).number(), None);
        assert_eq!(Reader::new(&[0x80]).number(), None);
    }
}
