//! Which file is this? Device and inode say it while a descriptor is open; across restarts, rotations and copies the
//! first bytes say it too.
//!
//! A fingerprint is the hash of the first up to [`HEAD_BYTES`] bytes together with how many those were. It grows with a
//! young file, and a shorter fingerprint still matches: it is compared with as many bytes as it was made of.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The most bytes that a fingerprint is made of.
pub const HEAD_BYTES: usize = 1024;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileKey {
    pub dev: u64,
    pub ino: u64,
}

impl FileKey {
    pub fn of(meta: &Metadata) -> FileKey {
        FileKey { dev: meta.dev(), ino: meta.ino() }
    }
}

/// Length and xxh3 of a file's first bytes; the hash is hexadecimal in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    pub len: u32,
    #[serde(with = "hex_u128")]
    pub hash: u128,
}

impl Fingerprint {
    pub fn of(head: &[u8]) -> Fingerprint {
        let head = &head[..head.len().min(HEAD_BYTES)];
        Fingerprint { len: head.len() as u32, hash: xxh3_128(head) }
    }

    /// Whether a file that begins with `head` may be the one this was taken from. The empty fingerprint says nothing
    /// and matches all.
    pub fn matches(&self, head: &[u8]) -> bool {
        let len = self.len as usize;
        len == 0 || (head.len() >= len && xxh3_128(&head[..len]) == self.hash)
    }
}

/// The first bytes of a file.
pub fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let len = read_full_at(file, &mut head, 0)?;
    head.truncate(len);
    Ok(head)
}

/// Reads until the buffer is full or the file ends.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A 128-bit number as hexadecimal text: JSON numbers are not that wide.
pub mod hex_u128 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(first: &[u8], later: &[u8], expected: bool) {
        assert_eq!(Fingerprint::of(first).matches(later), expected);
    }

    #[test]
    fn a_fingerprint_recognises_the_grown_file_and_no_other() {
        check(b"one\n", b"one\ntwo\n", true);
        check(b"one\n", b"onx\ntwo\n", false);
        check(b"one\n", b"on", false);
        check(b"", b"anything", true);
        check(&[b'x'; 2000], &[b'x'; 1024], true);
        check(&[b'x'; 2000], &[b'x'; 1023], false);
    }
}
