//! Hash maps keyed by numbers that identify something already: hashes, addresses, symbols. Cheaper than hashing bytes,
//! and not for keys that a stranger chooses.

use std::hash::{BuildHasherDefault, Hasher};

/// A map from such numbers.
pub type IdMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads a number over all bits: one multiplication, folded.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers");
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }

    /// Of a fingerprint any half will do.
    #[inline]
    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}
