//! Segment headers and frames: `docs/format/bus-segment.md`.

use crate::record::MAX_RECORD_BYTES;
use crate::{Offset, Topic};

pub const HEADER_BYTES: usize = 20;
pub const FRAME_HEADER_BYTES: usize = 24;

const SEGMENT_MAGIC: [u8; 4] = *b"BNLS";
const FRAME_MAGIC: [u8; 4] = *b"BNFR";
const VERSION: u8 = 1;

/// The name of the segment whose first record has this offset.
pub fn segment_name(first: Offset) -> String {
    format!("{first:020}.log")
}

pub fn parse_segment_name(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn topic_number(topic: Topic) -> u8 {
    match topic {
        Topic::Metrics => 0,
        Topic::Logs => 1,
        Topic::Alerts => 2,
    }
}

pub fn segment_header(topic: Topic, first: Offset) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&SEGMENT_MAGIC);
    header[4] = VERSION;
    header[5] = topic_number(topic);
    header[8..16].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// A frame as it lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame<'a> {
    pub offset: Offset,
    /// Every record below this was fsynced when the frame was written.
    pub synced: Offset,
    pub record: &'a [u8],
}

impl Frame<'_> {
    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.record.len()
    }
}

fn frame_checksum(header: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(record);
    hasher.finalize()
}

pub fn write_frame(buffer: &mut Vec<u8>, frame: &Frame<'_>) {
    let start = buffer.len();
    let unsynced = u32::try_from(frame.offset - frame.synced).expect("a group is small");
    buffer.extend_from_slice(&FRAME_MAGIC);
    buffer.extend_from_slice(&(frame.record.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&frame.offset.to_le_bytes());
    buffer.extend_from_slice(&unsynced.to_le_bytes());
    let crc = frame_checksum(&buffer[start..], frame.record);
    buffer.extend_from_slice(&crc.to_le_bytes());
    buffer.extend_from_slice(frame.record);
}

/// The length of the record of the frame that these bytes begin, where they begin one.
pub fn record_bytes(header: &[u8]) -> Option<usize> {
    if header.len() < FRAME_HEADER_BYTES || header[..4] != FRAME_MAGIC {
        return None;
    }
    let len = u32::from_le_bytes(*header[4..].first_chunk()?) as usize;
    (1..=MAX_RECORD_BYTES).contains(&len).then_some(len)
}

/// The frame at the front of these bytes, if it is whole and its checksum holds.
pub fn read_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let len = record_bytes(bytes)?;
    let record = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + len)?;
    let crc = u32::from_le_bytes(*bytes[20..].first_chunk()?);
    if frame_checksum(&bytes[..20], record) != crc {
        return None;
    }
    let offset = u64::from_le_bytes(*bytes[8..].first_chunk()?);
    let unsynced = u64::from(u32::from_le_bytes(*bytes[16..].first_chunk()?));
    Some(Frame { offset, synced: offset.checked_sub(unsynced)?, record })
}

/// The next place after `from` where a frame may begin.
pub fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(FRAME_MAGIC.len()).position(|window| window == FRAME_MAGIC).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_sort_as_offsets() {
        assert_eq!(parse_segment_name(&segment_name(42)), Some(42));
        assert!(segment_name(9) < segment_name(10));
        for bad in ["1.log", "00000000000000000001.tmp", "99999999999999999999.log", "+0000000000000000001.log"] {
            assert_eq!(parse_segment_name(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_and_damage_shows(record in prop::collection::vec(any::<u8>(), 1..99), offset in 5u64.., flip in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            let frame = Frame { offset, synced: offset - 5, record: &record };
            write_frame(&mut bytes, &frame);
            prop_assert_eq!(read_frame(&bytes), Some(frame));
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x10;
            prop_assert_eq!(read_frame(&bytes), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..99), len in 0u32..99) {
            let _ = read_frame(&bytes);
            let framed = [FRAME_MAGIC.as_slice(), &len.to_le_bytes(), &bytes].concat();
            let _ = read_frame(&framed);
        }
    }
}
