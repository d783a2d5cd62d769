//! A part's directory: symbols, frames, series with their labels and blocks. Held in memory while the part is open.

use std::sync::Arc;

use model::{IdMap, Label, Labels, hash_pairs};
use roaring::RoaringBitmap;

use super::codec::{MAX_BLOCK_SAMPLES, STALE};
use super::wire::{Reader, put_number, put_signed};
use crate::store::postings::Postings;

/// Since this version of parts blocks say what they hold.
const FLAGS_VERSION: u8 = 2;
/// No frame unpacks to more.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Some blocks compressed together. Frames lie one after the other, from the end of the header on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    pub offset: u64,
    pub stored_bytes: u32,
    /// Equal to `stored_bytes` where the frame is not compressed.
    pub raw_bytes: u32,
    pub crc: u32,
}

/// One block of one series within a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    pub frame: u32,
    pub offset: u32,
    pub bytes: u32,
    /// Exemplars in a block of those.
    pub samples: u32,
    /// What it holds: `codec::STALE` and the others.
    pub flags: u8,
    pub min_ms: i64,
    pub max_ms: i64,
}

#[derive(Debug, Default, PartialEq)]
pub struct Index {
    /// Sorted, unique.
    pub symbols: Vec<Arc<str>>,
    pub frames: Vec<Frame>,
    /// Pairs of symbols, series after series.
    pub labels: Vec<(u32, u32)>,
    /// Where each series' labels and blocks end; series are sorted by labels.
    pub label_ends: Vec<u32>,
    pub block_ends: Vec<u32>,
    /// Series after series, in rising time.
    pub blocks: Vec<Block>,
}

impl Index {
    pub fn series(&self) -> usize {
        self.label_ends.len()
    }

    pub fn labels(&self, id: u32) -> Labels {
        let pairs = &self.labels[range(&self.label_ends, id)];
        let symbol = |at: u32| self.symbols[at as usize].clone();
        Labels::from_sorted(pairs.iter().map(|(name, value)| Label { name: symbol(*name), value: symbol(*value) }))
    }

    /// The inverted index.
    pub fn postings(&self) -> Postings {
        // By name and value in one number.
        let mut ids: IdMap<u64, RoaringBitmap> = IdMap::default();
        for id in 0..self.series() as u32 {
            for (name, value) in &self.labels[range(&self.label_ends, id)] {
                // Ids rise; one that is there already is no news.
                let _ = ids.entry(u64::from(*name) << 32 | u64::from(*value)).or_default().try_push(id);
            }
        }
        let symbol = |at: u64| self.symbols[at as usize].clone();
        let pairs = ids.into_iter().map(|(pair, ids)| (symbol(pair >> 32), symbol(pair & 0xFFFF_FFFF), ids));
        Postings::from_pairs(pairs, self.series() as u32)
    }

    /// The hash of a series' labels, without a tenant.
    pub fn hash(&self, id: u32) -> u64 {
        let symbol = |at: u32| self.symbols[at as usize].as_ref();
        hash_pairs("", self.labels[range(&self.label_ends, id)].iter().map(|pair| (symbol(pair.0), symbol(pair.1))))
    }

    /// Whether a series has these labels.
    pub fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        let pairs = &self.labels[range(&self.label_ends, id)];
        let symbol = |at: u32| &self.symbols[at as usize];
        pairs.len() == labels.len()
            && pairs
                .iter()
                .zip(labels)
                .all(|(pair, label)| *symbol(pair.0) == label.name && *symbol(pair.1) == label.value)
    }

    pub fn blocks(&self, id: u32) -> &[Block] {
        &self.blocks[range(&self.block_ends, id)]
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, self.symbols.len() as u64);
        for symbol in &self.symbols {
            put_number(&mut out, symbol.len() as u64);
            out.extend_from_slice(symbol.as_bytes());
        }
        put_number(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put_number(&mut out, u64::from(frame.stored_bytes));
            put_number(&mut out, u64::from(frame.raw_bytes));
            out.extend_from_slice(&frame.crc.to_le_bytes());
        }
        put_number(&mut out, self.series() as u64);
        let (mut frame, mut t_ms) = (0, 0);
        for id in 0..self.series() as u32 {
            let labels = &self.labels[range(&self.label_ends, id)];
            put_number(&mut out, labels.len() as u64);
            for (name, value) in labels {
                put_number(&mut out, u64::from(*name));
                put_number(&mut out, u64::from(*value));
            }
            put_number(&mut out, self.blocks(id).len() as u64);
            for block in self.blocks(id) {
                put_number(&mut out, u64::from(block.frame - frame));
                put_number(&mut out, u64::from(block.bytes));
                put_number(&mut out, u64::from(block.samples));
                out.push(block.flags);
                put_signed(&mut out, block.min_ms.wrapping_sub(t_ms));
                put_number(&mut out, block.max_ms.wrapping_sub(block.min_ms) as u64);
                (frame, t_ms) = (block.frame, block.min_ms);
            }
        }
        out
    }

    /// `None`: the bytes are no directory.
    pub fn decode(bytes: &[u8], version: u8, first_frame_offset: u64) -> Option<Index> {
        let mut reader = Reader::new(bytes);
        let mut index = Index::default();
        for _ in 0..reader.count()? {
            let symbol = reader.string()?;
            if index.symbols.last().is_some_and(|last| last.as_ref() >= symbol) {
                return None;
            }
            index.symbols.push(symbol.into());
        }
        let mut offset = first_frame_offset;
        for _ in 0..reader.count()? {
            let [stored_bytes, raw_bytes] = [reader.number()?, reader.number()?];
            if stored_bytes > raw_bytes || raw_bytes > MAX_FRAME_BYTES as u64 {
                return None;
            }
            let crc = u32::from_le_bytes(reader.array()?);
            let (stored_bytes, raw_bytes) = (stored_bytes as u32, raw_bytes as u32);
            index.frames.push(Frame { offset, stored_bytes, raw_bytes, crc });
            offset += u64::from(stored_bytes);
        }
        let mut place = Place { version, ..Place::default() };
        for _ in 0..reader.count()? {
            index.read_series(&mut reader, &mut place)?;
        }
        (reader.remaining() == 0).then_some(index)
    }

    fn read_series(&mut self, reader: &mut Reader<'_>, place: &mut Place) -> Option<()> {
        let first = self.labels.len();
        for _ in 0..reader.count()? {
            let symbol = |number: u64| u32::try_from(number).ok().filter(|at| (*at as usize) < self.symbols.len());
            let pair = (symbol(reader.number()?)?, symbol(reader.number()?)?);
            // Symbols are sorted, and so are the labels of a series; an empty value is none.
            let is_next = self.labels.get(first..).and_then(<[_]>::last).is_none_or(|last| last.0 < pair.0);
            if !is_next || self.symbols[pair.1 as usize].is_empty() {
                return None;
            }
            self.labels.push(pair);
        }
        // Merges rely on the order of the series.
        let last = self.series().checked_sub(1).map(|last| range(&self.label_ends, last as u32));
        if last.is_some_and(|last| self.labels[last] >= self.labels[first..]) {
            return None;
        }
        self.label_ends.push(u32::try_from(self.labels.len()).ok()?);
        for _ in 0..reader.count()? {
            let block = place.read_block(reader, &self.frames)?;
            self.blocks.push(block);
        }
        self.block_ends.push(u32::try_from(self.blocks.len()).ok()?);
        Some(())
    }
}

/// Where the next block lies: after the one before it, or at the start of a later frame.
#[derive(Default)]
struct Place {
    version: u8,
    frame: u32,
    offset: u32,
    min_ms: i64,
}

impl Place {
    fn read_block(&mut self, reader: &mut Reader<'_>, frames: &[Frame]) -> Option<Block> {
        let skipped = u32::try_from(reader.number()?).ok()?;
        if skipped > 0 {
            (self.frame, self.offset) = (self.frame.checked_add(skipped)?, 0);
        }
        let bytes = u32::try_from(reader.number()?).ok()?;
        let samples = u32::try_from(reader.number()?).ok().filter(|samples| *samples as usize <= MAX_BLOCK_SAMPLES)?;
        // Version 1 holds floats, and does not say which of its blocks have a stale one.
        let flags = if self.version < FLAGS_VERSION { STALE } else { reader.byte()? };
        let min_ms = self.min_ms.wrapping_add(reader.signed()?);
        let max_ms = min_ms.wrapping_add(reader.number()? as i64);
        let (frame, offset) = (self.frame, self.offset);
        let end = offset.checked_add(bytes)?;
        if end > frames.get(frame as usize)?.raw_bytes || max_ms < min_ms || samples == 0 {
            return None;
        }
        (self.offset, self.min_ms) = (end, min_ms);
        Some(Block { frame, offset, bytes, samples, flags, min_ms, max_ms })
    }
}

fn range(ends: &[u32], id: u32) -> std::ops::Range<usize> {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    start..ends[id] as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A merge of parts whose series were out of order panicked.
    #[test]
    fn series_out_of_order_are_no_directory() {
        let check = |labels: &[(u32, u32)], is_good: bool| {
            let symbols = ["a", "b", "c"].map(Arc::from).to_vec();
            let ends: Vec<u32> = (1..=labels.len() as u32).collect();
            let block_ends = vec![0; labels.len()];
            let index = Index { symbols, labels: labels.to_vec(), label_ends: ends, block_ends, ..Index::default() };
            assert_eq!(Index::decode(&index.encode(), FLAGS_VERSION, 8).is_some(), is_good, "{labels:?}");
        };
        check(&[(0, 1), (0, 2), (1, 0)], true);
        check(&[(0, 2), (0, 1)], false);
        check(&[(0, 1), (0, 1)], false);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 1u8..3) {
            let _ = Index::decode(&bytes, version, 8);
        }

        /// Small numbers make structures that hold together more often.
        #[test]
        fn small_bytes_never_panic(bytes in prop::collection::vec(0u8..4, 0..100), version in 1u8..3) {
            if let Some(index) = Index::decode(&bytes, version, 8) {
                for id in 0..index.series() as u32 {
                    let _ = (index.labels(id), index.blocks(id).len());
                }
            }
        }
    }
}
