//! A part: series of one tenant and day in one immutable file, described in `docs/format/part.md`.
//!
//! A part is three things, each larger than the one before: [`Part`], the open file, whose directory was read through for
//! its checksum; [`Directory`], its series and where their blocks lie, loaded when somebody asks
//! ([`super::directories`] keeps those that queries use); and its frames of blocks, read and checked one by one. What is
//! damaged gives an error that names the file, never a panic and never other samples.

mod codec;
mod directory;
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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::{Disk, DiskReader};
use query::Wants;

use super::StoreError;
pub use directory::{Directory, Frames};
#[cfg(any(test, feature = "fuzz"))]
pub use fuzz::read_any_part;
pub use index::Block;
use index::Index;
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
/// A checksum is made of so much at a time.
const CHECK_BYTES: usize = 256 << 10;

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

/// A part whose file is open and whole, as far as its checksums say. Small: one is held for each part of the store.
pub struct Part {
    path: PathBuf,
    reader: Arc<dyn DiskReader>,
    version: u8,
    /// Where the directory lies, as it is stored.
    offset: u64,
    stored_bytes: u64,
    raw_bytes: u64,
    crc: u32,
    /// No manifest names it any more; who reads it still may.
    is_gone: AtomicBool,
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
    pub fn frame(&mut self, frames: &Frames, number: u32) -> Result<FrameBytes, StoreError> {
        match &self.frame {
            Some((held, frame)) if *held == number => Ok(frame.clone()),
            _ => {
                let frame = Arc::new(frames.load(number)?);
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
        block.min_ms <= self.end_ms && block.max_ms() >= self.start_ms
    }
}

impl Part {
    /// Opens the file that a manifest describes. Its directory is read through, for its checksum, and not kept.
    pub fn open(disk: &dyn Disk, path: &Path, expected: &Summary) -> Result<Part, StoreError> {
        let io = |source| StoreError::io("cannot read a part", path, source);
        let corrupt = |reason| StoreError::Corrupt { path: path.to_owned(), offset: 0, reason };
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
        let crc = u32::from_le_bytes(crc);
        let (path, is_gone) = (path.to_owned(), AtomicBool::new(false));
        let part = Part { path, reader, version, offset, stored_bytes, raw_bytes, crc, is_gone };
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; CHECK_BYTES.min(stored_bytes as usize)];
        for at in (offset..footer_offset).step_by(CHECK_BYTES) {
            let chunk = &mut buffer[..CHECK_BYTES.min((footer_offset - at) as usize)];
            part.reader.read_exact_at(at, chunk).map_err(io)?;
            hasher.update(chunk);
        }
        if expected.crc != crc || part.is_other(hasher) {
            return Err(part.damaged(offset, "the directory's checksum does not match"));
        }
        Ok(part)
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    pub fn set_gone(&self) {
        self.is_gone.store(true, Ordering::Release);
    }

    /// Whether the checksum is that of another directory than was read.
    fn is_other(&self, mut read: crc32fast::Hasher) -> bool {
        read.update(&self.offset.to_le_bytes());
        read.update(&self.raw_bytes.to_le_bytes());
        read.finalize() != self.crc
    }

    /// Reads the directory, and checks it again.
    pub fn load(self: &Arc<Part>) -> Result<Directory, StoreError> {
        let stored = read_exactly(self.reader.as_ref(), self.offset, self.stored_bytes as usize);
        let stored = stored.map_err(|source| StoreError::io("cannot read a part", &self.path, source))?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&stored);
        let damaged = |reason| self.damaged(self.offset, reason);
        if self.is_other(hasher) {
            return Err(damaged("the directory's checksum does not match"));
        }
        let raw = unpack(stored, self.raw_bytes as usize).ok_or_else(|| damaged("the directory does not unpack"))?;
        let index = Index::decode(&raw, self.version, HEADER.len() as u64);
        Ok(Directory::new(self.clone(), index.ok_or_else(|| damaged("the directory is malformed"))?))
    }

    fn damaged(&self, offset: u64, reason: &'static str) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), offset, reason }
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
