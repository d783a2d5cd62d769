//! Records of the bus, their checksum mended: a batch or an error; a batch is written and read as itself.

#![no_main]

use bus::{decode, encode};
use libfuzzer_sys::fuzz_target;

/// Where the checksum is: behind version, kind and compression.
const CHECKSUM: std::ops::Range<usize> = 3..7;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(bytes);
    if bytes.len() < CHECKSUM.end {
        return;
    }
    let mut frame = bytes.to_vec();
    let checked = [&frame[..CHECKSUM.start], &frame[CHECKSUM.end..]].concat();
    frame[CHECKSUM].copy_from_slice(&crc32fast::hash(&checked).to_le_bytes());
    let Ok(batch) = decode(&frame) else { return };
    let written = encode(&batch);
    let again = decode(&written).expect("what was written is read");
    assert!(encode(&again) == written, "{batch:?} became {again:?}");
});
