//! Numbers in a part ([`model::varint`]), and a reader that answers `None` where bytes run out.

use model::varint;

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    varint::put(out, number);
}

/// Appends a signed number, zigzag.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    varint::put(out, varint::zigzag(number));
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

    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        // Most numbers are differences of a byte.
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Some(u64::from(*byte))
            }
            _ => varint::take(&mut self.rest),
        }
    }

    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        self.number().map(varint::unzigzag)
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
