//! A part: series of one tenant and day in one immutable file, described in `docs/format/part.md`.
//!
//! The directory is read when the part is opened; frames of blocks are read, and checked, when a query wants them. What
//! is damaged gives an error that names the file, never a panic and never other samples.

mod codec;
mod index;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use disk::{Disk, DiskReader};
use model::Labels;

use super::StoreError;
use super::columns::Columns;
use super::postings::Postings;
use index::Index;
pub use writer::PartWriter;

const MAGIC: [u8; 4] = *b"BNPT";
const VERSION: u8 = 1;
const HEADER: [u8; 8] = [b'B', b'N', b'P', b'T', VERSION, 0, 0, 0];
/// Offset and raw length of the directory, its CRC, the magic.
const FOOTER_BYTES: usize = 24;
/// No directory unpacks to more.
const MAX_INDEX_BYTES: u64 = 4 << 30;

/// What the manifest says of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub bytes: u64,
    /// Of the directory, which holds the frames' own.
    pub crc: u32,
    pub series: u64,
    pub samples: u64,
    pub min_ms: i64,
    pub max_ms: i64,
}

pub struct Part {
    path: PathBuf,
    reader: Arc<dyn DiskReader>,
    index: Index,
    /// Made when the first query asks.
    postings: OnceLock<Postings>,
}

/// The frame that was read last: neighbours in label order share frames.
#[derive(Default)]
pub struct Cursor {
    frame: Option<(u32, Vec<u8>)>,
}

impl Part {
    /// Opens the file that a manifest describes.
    pub fn open(disk: &dyn Disk, path: &Path, expected: &Summary) -> Result<Part, StoreError> {
        let io = |source| StoreError::io("cannot read a part", path, source);
        let corrupt = |reason: &'static str| StoreError::Corrupt { path: path.to_owned(), reason };
        let reader = disk.open(path).map_err(io)?;
        let length = reader.len().map_err(io)?;
        if length != expected.bytes || length < (HEADER.len() + FOOTER_BYTES) as u64 {
            return Err(corrupt("the file's length is not the manifest's"));
        }
        let footer_offset = length - FOOTER_BYTES as u64;
        let footer = read_exactly(reader.as_ref(), footer_offset, FOOTER_BYTES).map_err(io)?;
        let mut fields = wire::Reader::new(&footer);
        let footer_fields = (fields.array(), fields.array(), fields.array(), fields.array());
        let (Some(offset), Some(raw), Some(crc), Some(magic)) = footer_fields else {
            return Err(corrupt("the footer is cut short"));
        };
        let (offset, raw_bytes) = (u64::from_le_bytes(offset), u64::from_le_bytes(raw));
        let header = read_exactly(reader.as_ref(), 0, HEADER.len()).map_err(io)?;
        if magic != MAGIC || header != HEADER {
            return Err(corrupt("this is no part of a known version"));
        }
        let stored_bytes = footer_offset.checked_sub(offset).filter(|bytes| *bytes <= MAX_INDEX_BYTES);
        let Some(stored_bytes) = stored_bytes.filter(|_| raw_bytes <= MAX_INDEX_BYTES) else {
            return Err(corrupt("the footer's offsets are wrong"));
        };
        let stored = read_exactly(reader.as_ref(), offset, stored_bytes as usize).map_err(io)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&stored);
        hasher.update(&footer[..16]);
        if hasher.finalize() != u32::from_le_bytes(crc) || expected.crc != u32::from_le_bytes(crc) {
            return Err(corrupt("the directory's checksum does not match"));
        }
        let raw = unpack(stored, raw_bytes as usize).ok_or_else(|| corrupt("the directory does not unpack"))?;
        let index = Index::decode(&raw, HEADER.len() as u64).ok_or_else(|| corrupt("the directory is malformed"))?;
        Ok(Part { path: path.to_owned(), reader, index, postings: OnceLock::new() })
    }

    pub fn series(&self) -> u32 {
        self.index.series() as u32
    }

    pub fn labels(&self, id: u32) -> Labels {
        self.index.labels(id)
    }

    /// The inverted index; ids rise with the labels.
    pub fn postings(&self) -> &Postings {
        self.postings.get_or_init(|| {
            let mut postings = Postings::default();
            (0..self.series()).for_each(|id| drop(postings.add(&self.labels(id))));
            postings
        })
    }

    /// Whether a block of the series reaches into the inclusive range.
    pub fn reaches(&self, id: u32, start_ms: i64, end_ms: i64) -> bool {
        self.index.blocks(id).iter().any(|block| block.min_ms <= end_ms && block.max_ms >= start_ms)
    }

    /// A series' samples within the inclusive range.
    pub fn read(&self, id: u32, start_ms: i64, end_ms: i64, cursor: &mut Cursor) -> Result<Columns, StoreError> {
        let mut columns = Columns::default();
        for block in self.index.blocks(id) {
            if block.max_ms < start_ms || block.min_ms > end_ms {
                continue;
            }
            let frame = self.frame(block.frame, cursor)?;
            let bytes = frame.get(block.offset as usize..(block.offset + block.bytes) as usize);
            let samples = block.samples as usize;
            let Some(decoded) = bytes.and_then(|bytes| codec::decode(bytes, samples)) else {
                return Err(StoreError::Corrupt { path: self.path.clone(), reason: "a block is malformed" });
            };
            let is_whole = start_ms <= block.min_ms && block.max_ms <= end_ms;
            columns.merge_later(if is_whole { decoded } else { decoded.slice(start_ms, end_ms) });
        }
        Ok(columns)
    }

    fn frame<'c>(&self, number: u32, cursor: &'c mut Cursor) -> Result<&'c [u8], StoreError> {
        if cursor.frame.as_ref().is_none_or(|(held, _)| *held != number) {
            let frame = self.index.frames[number as usize];
            let stored = read_exactly(self.reader.as_ref(), frame.offset, frame.stored_bytes as usize);
            let stored = stored.map_err(|source| StoreError::io("cannot read a part", &self.path, source))?;
            let corrupt = |reason| StoreError::Corrupt { path: self.path.clone(), reason };
            if crc32fast::hash(&stored) != frame.crc {
                return Err(corrupt("a frame's checksum does not match"));
            }
            let raw = unpack(stored, frame.raw_bytes as usize).ok_or_else(|| corrupt("a frame does not unpack"))?;
            cursor.frame = Some((number, raw));
        }
        Ok(cursor.frame.as_ref().map_or(&[], |(_, raw)| raw))
    }
}

fn read_exactly(reader: &dyn DiskReader, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let read = reader.read_at(offset, &mut buffer)?;
    if read == bytes { Ok(buffer) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// The raw bytes of what is compressed exactly where it is shorter than raw.
fn unpack(stored: Vec<u8>, raw_bytes: usize) -> Option<Vec<u8>> {
    if stored.len() == raw_bytes {
        return Some(stored);
    }
    zstd::bulk::decompress(&stored, raw_bytes).ok().filter(|raw| raw.len() == raw_bytes)
}
