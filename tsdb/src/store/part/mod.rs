//! A part: series of one tenant and day in one immutable file, described in `docs/format/part.md`.
//!
//! The directory is read when the part is opened; frames of blocks are read, and checked, when a query wants them. What
//! is damaged gives an error that names the file, never a panic and never other samples.

mod codec;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod histograms;
mod index;
mod values;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use disk::{Disk, DiskReader};
use model::{Exemplar, Labels};
use query::Wants;

use super::StoreError;
use super::columns::{self, Samples};
use super::postings::Postings;
#[cfg(any(test, feature = "fuzz"))]
pub use fuzz::read_any_part;
use index::{Block, Index};
pub use values::Packing;
pub use writer::PartWriter;

const MAGIC: [u8; 4] = *b"BNPT";
/// The one that is written. Older ones are read.
const VERSION: u8 = 3;
const HEADER: [u8; 8] = [b'B', b'N', b'P', b'T', VERSION, 0, 0, 0];
/// Where the version is in the header.
const HEADER_VERSION: usize = 4;
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
    lookup: OnceLock<Lookup>,
}

struct Lookup {
    postings: Postings,
    /// Of each series' labels.
    hashes: Vec<u64>,
}

/// The unpacked bytes of a frame.
pub type FrameBytes = Arc<Vec<u8>>;

/// The frame that was read last: neighbours in label order share frames.
#[derive(Default)]
pub struct Cursor {
    frame: Option<(u32, FrameBytes)>,
}

impl Cursor {
    /// A frame of a part, which is always the same part.
    pub fn frame(&mut self, part: &Part, number: u32) -> Result<FrameBytes, StoreError> {
        match &self.frame {
            Some((held, frame)) if *held == number => Ok(frame.clone()),
            _ => {
                let frame = Arc::new(part.load_frame(number)?);
                self.frame = Some((number, frame.clone()));
                Ok(frame)
            }
        }
    }
}

/// What of a series is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Inclusive.
    pub start_ms: i64,
    pub end_ms: i64,
    pub wants: Wants,
}

impl Reading {
    pub const ALL: Reading = Reading { start_ms: i64::MIN, end_ms: i64::MAX, wants: Wants::Values };

    fn reaches(&self, block: &Block) -> bool {
        block.min_ms <= self.end_ms && block.max_ms >= self.start_ms
    }
}

impl Part {
    /// Opens the file that a manifest describes.
    pub fn open(disk: &dyn Disk, path: &Path, expected: &Summary) -> Result<Part, StoreError> {
        let io = |source| StoreError::io("cannot read a part", path, source);
        let corrupt_at = |offset, reason| StoreError::Corrupt { path: path.to_owned(), offset, reason };
        let corrupt = |reason| corrupt_at(0, reason);
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
        let version = header[HEADER_VERSION];
        let is_known = header[..HEADER_VERSION] == HEADER[..HEADER_VERSION] && (1..=VERSION).contains(&version);
        if magic != MAGIC || !is_known || header[HEADER_VERSION + 1..] != HEADER[HEADER_VERSION + 1..] {
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
            return Err(corrupt_at(offset, "the directory's checksum does not match"));
        }
        let corrupt = |reason| corrupt_at(offset, reason);
        let raw = unpack(stored, raw_bytes as usize).ok_or_else(|| corrupt("the directory does not unpack"))?;
        let index =
            Index::decode(&raw, version, HEADER.len() as u64).ok_or_else(|| corrupt("the directory is malformed"))?;
        Ok(Part { path: path.to_owned(), reader, index, lookup: OnceLock::new() })
    }

    pub fn series(&self) -> u32 {
        self.index.series() as u32
    }

    pub fn labels(&self, id: u32) -> Labels {
        self.index.labels(id)
    }

    /// Whether a series has these labels.
    pub fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        self.index.has_labels(id, labels)
    }

    /// The inverted index; ids rise with the labels.
    pub fn postings(&self) -> &Postings {
        &self.lookup().postings
    }

    /// The hash of a series' labels, without a tenant.
    pub fn hash(&self, id: u32) -> u64 {
        self.lookup().hashes[id as usize]
    }

    fn lookup(&self) -> &Lookup {
        self.lookup.get_or_init(|| {
            let hashes = (0..self.series()).map(|id| self.index.hash(id)).collect();
            Lookup { postings: self.index.postings(), hashes }
        })
    }

    /// The inclusive times of a series' blocks of samples.
    pub fn block_times(&self, id: u32) -> impl Iterator<Item = (i64, i64)> + '_ {
        let blocks = self.index.blocks(id).iter().filter(|block| block.flags & codec::EXEMPLARS == 0);
        blocks.map(|block| (block.min_ms, block.max_ms))
    }

    /// Whether a block of the series reaches into the inclusive range.
    pub fn reaches(&self, id: u32, start_ms: i64, end_ms: i64) -> bool {
        self.block_times(id).any(|(min_ms, max_ms)| min_ms <= end_ms && max_ms >= start_ms)
    }

    /// Adds a series' samples to those that `into` holds, over which they win. `frame` gives the frames of this part.
    pub fn read(
        &self,
        id: u32,
        reading: &Reading,
        mut frame: impl FnMut(u32) -> Result<FrameBytes, StoreError>,
        into: &mut Samples,
    ) -> Result<(), StoreError> {
        for block in self.index.blocks(id) {
            if block.flags & codec::EXEMPLARS != 0 || !reading.reaches(block) {
                continue;
            }
            let frame = frame(block.frame)?;
            if into.timestamps_ms.last().is_none_or(|last| *last < block.min_ms) {
                self.read_block(block, &frame, reading, into)?;
            } else {
                let mut later = Samples::default();
                self.read_block(block, &frame, reading, &mut later)?;
                columns::merge_later(into, &later);
            }
        }
        Ok(())
    }

    /// Adds the samples of a block that lie in the range behind those that `into` holds.
    fn read_block(
        &self,
        block: &Block,
        frame: &FrameBytes,
        reading: &Reading,
        into: &mut Samples,
    ) -> Result<(), StoreError> {
        let before = into.len();
        let decoded = block.bytes_in(frame).and_then(|bytes| {
            codec::decode(bytes, block.samples as usize, block.flags, reading.wants, into)?;
            let times = &into.timestamps_ms[before..];
            (times.first() == Some(&block.min_ms) && times.last() == Some(&block.max_ms)).then_some(())
        });
        if decoded.is_none() {
            return Err(self.damaged(block.frame, "a block is malformed"));
        }
        if block.min_ms < reading.start_ms || block.max_ms > reading.end_ms {
            columns::keep(into, before, reading.start_ms, reading.end_ms);
        }
        Ok(())
    }

    pub fn has_exemplars(&self, id: u32) -> bool {
        self.index.blocks(id).iter().any(|block| block.flags & codec::EXEMPLARS != 0)
    }

    /// The exemplars of a series within the inclusive range.
    pub fn exemplars(
        &self,
        id: u32,
        reading: &Reading,
        mut frame: impl FnMut(u32) -> Result<FrameBytes, StoreError>,
    ) -> Result<Vec<Exemplar>, StoreError> {
        let mut found = Vec::new();
        let is_wanted = |block: &&Block| block.flags & codec::EXEMPLARS != 0 && reading.reaches(block);
        for block in self.index.blocks(id).iter().filter(is_wanted) {
            let frame = frame(block.frame)?;
            let decoded =
                block.bytes_in(&frame).and_then(|bytes| codec::decode_exemplars(bytes, block.samples as usize));
            let is_in_time = |found: &Vec<Exemplar>| {
                found.is_sorted_by_key(|one| one.t_ms)
                    && found.first().is_some_and(|one| one.t_ms == block.min_ms)
                    && found.last().is_some_and(|one| one.t_ms == block.max_ms)
            };
            let Some(decoded) = decoded.filter(is_in_time) else {
                return Err(self.damaged(block.frame, "exemplars are malformed"));
            };
            found.extend(decoded.into_iter().filter(|one| (reading.start_ms..=reading.end_ms).contains(&one.t_ms)));
        }
        Ok(found)
    }

    fn damaged(&self, frame: u32, reason: &'static str) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), offset: self.index.frames[frame as usize].offset, reason }
    }

    /// Reads all of it, and answers what is damaged.
    pub fn verify(&self) -> Vec<StoreError> {
        let mut damage: Vec<StoreError> =
            (0..self.index.frames.len() as u32).filter_map(|number| self.load_frame(number).err()).collect();
        if damage.is_empty() {
            let mut cursor = Cursor::default();
            for id in 0..self.series() {
                let read = self.read(id, &Reading::ALL, |number| cursor.frame(self, number), &mut Samples::default());
                let exemplars = self.exemplars(id, &Reading::ALL, |number| cursor.frame(self, number));
                damage.extend(read.err().into_iter().chain(exemplars.err()));
            }
        }
        damage
    }

    /// Reads and checks a frame.
    pub fn load_frame(&self, number: u32) -> Result<Vec<u8>, StoreError> {
        let frame = self.index.frames[number as usize];
        let stored = read_exactly(self.reader.as_ref(), frame.offset, frame.stored_bytes as usize);
        let stored = stored.map_err(|source| StoreError::io("cannot read a part", &self.path, source))?;
        let corrupt = |reason| self.damaged(number, reason);
        if crc32fast::hash(&stored) != frame.crc {
            return Err(corrupt("a frame's checksum does not match"));
        }
        unpack(stored, frame.raw_bytes as usize).ok_or_else(|| corrupt("a frame does not unpack"))
    }
}

impl Block {
    fn bytes_in<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        frame.get(self.offset as usize..(self.offset + self.bytes) as usize)
    }
}

fn read_exactly(reader: &dyn DiskReader, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    reader.read_exact_at(offset, &mut buffer)?;
    Ok(buffer)
}

/// The raw bytes of what is compressed exactly where it is shorter than raw.
fn unpack(stored: Vec<u8>, raw_bytes: usize) -> Option<Vec<u8>> {
    if stored.len() == raw_bytes {
        return Some(stored);
    }
    zstd::bulk::decompress(&stored, raw_bytes).ok().filter(|raw| raw.len() == raw_bytes)
}
