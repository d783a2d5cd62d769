//! A part's directory while it is in memory, and the frames that it names.

use std::mem::size_of;
use std::sync::{Arc, OnceLock};

use model::{Exemplar, Labels};

use super::codec::{self, EXEMPLARS};
use super::index::{Block, Frame, Index};
use super::{Cursor, FrameBytes, Part, Reading, read_exactly, unpack};
use crate::store::StoreError;
use crate::store::columns::{self, Samples};
use crate::store::postings::Postings;

/// The series of a part, and where their blocks lie.
pub struct Directory {
    frames: Arc<Frames>,
    /// Its frames are in `frames`.
    index: Index,
    /// Made when the first query asks.
    lookup: OnceLock<Lookup>,
}

struct Lookup {
    postings: Postings,
    /// Of each series' labels.
    hashes: Vec<u64>,
}

/// The frames of a part: what reads blocks once it is known which.
pub struct Frames {
    part: Arc<Part>,
    table: Vec<Frame>,
}

impl Directory {
    pub(super) fn new(part: Arc<Part>, mut index: Index) -> Directory {
        let table = std::mem::take(&mut index.frames);
        Directory { frames: Arc::new(Frames { part, table }), index, lookup: OnceLock::new() }
    }

    pub fn frames(&self) -> &Arc<Frames> {
        &self.frames
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

    /// Memory held with all that queries need, roughly.
    pub fn bytes(&self) -> usize {
        let Lookup { postings, hashes } = self.lookup();
        let frames = self.frames.table.len() * size_of::<Frame>();
        self.index.bytes() + frames + postings.bytes() + hashes.len() * size_of::<u64>()
    }

    /// The blocks of samples of a series that reach into the inclusive range, in rising time.
    pub fn blocks(&self, id: u32, start_ms: i64, end_ms: i64) -> impl Iterator<Item = &Block> {
        let reaches = move |block: &&Block| block.min_ms <= end_ms && block.max_ms() >= start_ms;
        self.index.blocks(id).iter().filter(|block| block.flags & EXEMPLARS == 0).filter(reaches)
    }

    /// Adds a series' samples to those that `into` holds, over which they win.
    pub fn read(&self, id: u32, reading: &Reading, cursor: &mut Cursor, into: &mut Samples) -> Result<(), StoreError> {
        self.frames.read(self.index.blocks(id), reading, |number| cursor.frame(&self.frames, number), into)
    }

    pub fn has_exemplars(&self, id: u32) -> bool {
        self.index.blocks(id).iter().any(|block| block.flags & EXEMPLARS != 0)
    }

    /// The exemplars of a series within the inclusive range.
    pub fn exemplars(&self, id: u32, reading: &Reading, cursor: &mut Cursor) -> Result<Vec<Exemplar>, StoreError> {
        let mut found = Vec::new();
        let is_wanted = |block: &&Block| block.flags & EXEMPLARS != 0 && reading.reaches(block);
        for block in self.index.blocks(id).iter().filter(is_wanted) {
            let frame = cursor.frame(&self.frames, block.frame)?;
            let decoded =
                block.bytes_in(&frame).and_then(|bytes| codec::decode_exemplars(bytes, usize::from(block.samples)));
            let is_in_time = |found: &Vec<Exemplar>| {
                found.is_sorted_by_key(|one| one.t_ms)
                    && found.first().is_some_and(|one| one.t_ms == block.min_ms)
                    && found.last().is_some_and(|one| one.t_ms == block.max_ms())
            };
            let Some(decoded) = decoded.filter(is_in_time) else {
                return Err(self.frames.damaged(block.frame, "exemplars are malformed"));
            };
            found.extend(decoded.into_iter().filter(|one| (reading.start_ms..=reading.end_ms).contains(&one.t_ms)));
        }
        Ok(found)
    }

    /// Reads all of it, and answers what is damaged.
    pub fn verify(&self) -> Vec<StoreError> {
        let numbers = 0..self.frames.table.len() as u32;
        let mut damage: Vec<StoreError> = numbers.filter_map(|number| self.frames.load(number).err()).collect();
        if damage.is_empty() {
            let mut cursor = Cursor::default();
            for id in 0..self.series() {
                let read = self.read(id, &Reading::ALL, &mut cursor, &mut Samples::default());
                let exemplars = self.exemplars(id, &Reading::ALL, &mut cursor);
                damage.extend(read.err().into_iter().chain(exemplars.err()));
            }
        }
        damage
    }
}

impl Frames {
    pub fn part(&self) -> &Arc<Part> {
        &self.part
    }

    /// Adds the samples of blocks of one series, in rising time, to those that `into` holds, over which they win. `frame`
    /// gives the frames of this part.
    pub fn read(
        &self,
        blocks: &[Block],
        reading: &Reading,
        mut frame: impl FnMut(u32) -> Result<FrameBytes, StoreError>,
        into: &mut Samples,
    ) -> Result<(), StoreError> {
        for block in blocks.iter().filter(|block| block.flags & EXEMPLARS == 0 && reading.reaches(block)) {
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
            codec::decode(bytes, usize::from(block.samples), block.flags, reading.wants, into)?;
            let times = &into.timestamps_ms[before..];
            (times.first() == Some(&block.min_ms) && times.last() == Some(&block.max_ms())).then_some(())
        });
        if decoded.is_none() {
            return Err(self.damaged(block.frame, "a block is malformed"));
        }
        if block.min_ms < reading.start_ms || block.max_ms() > reading.end_ms {
            columns::keep(into, before, reading.start_ms, reading.end_ms);
        }
        Ok(())
    }

    /// Reads and checks a frame.
    pub fn load(&self, number: u32) -> Result<Vec<u8>, StoreError> {
        let frame = self.table[number as usize];
        let stored = read_exactly(self.part.reader.as_ref(), frame.offset, frame.stored_bytes as usize);
        let stored = stored.map_err(|source| StoreError::io("cannot read a part", &self.part.path, source))?;
        if crc32fast::hash(&stored) != frame.crc {
            return Err(self.damaged(number, "a frame's checksum does not match"));
        }
        unpack(stored, frame.raw_bytes as usize).ok_or_else(|| self.damaged(number, "a frame does not unpack"))
    }

    fn damaged(&self, frame: u32, reason: &'static str) -> StoreError {
        self.part.damaged(self.table[frame as usize].offset, reason)
    }
}

impl Block {
    fn bytes_in<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        frame.get(self.offset as usize..(self.offset + self.bytes) as usize)
    }
}
