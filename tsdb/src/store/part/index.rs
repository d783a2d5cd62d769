//! A part's directory, decoded: symbols, frames, series with their labels and blocks. Parts of a day hold millions of
//! series, so each is a few numbers: a pair of name and value is written once and then named.

use std::mem::size_of;
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
    pub min_ms: i64,
    /// To the last instant.
    pub span_ms: u32,
    pub frame: u32,
    pub offset: u32,
    pub bytes: u32,
    /// Exemplars in a block of those.
    pub samples: u16,
    /// What it holds: `codec::STALE` and the others.
    pub flags: u8,
}

impl Block {
    pub fn max_ms(&self) -> i64 {
        self.min_ms + i64::from(self.span_ms)
    }
}

#[derive(Debug, Default, PartialEq)]
pub struct Index {
    /// Sorted, unique.
    pub symbols: Vec<Arc<str>>,
    pub frames: Vec<Frame>,
    /// Symbols of a name and a value, each pair once.
    pub pairs: Vec<(u32, u32)>,
    /// Which pairs, series after series.
    pub labels: Vec<u32>,
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

    /// Memory held, roughly.
    pub fn bytes(&self) -> usize {
        // A text is counted with the lengths and counts before it, and the pointer to it.
        let texts: usize = self.symbols.iter().map(|text| text.len() + 2 * size_of::<Arc<str>>()).sum();
        let numbers = self.labels.len() + self.label_ends.len() + self.block_ends.len() + 2 * self.pairs.len();
        texts + numbers * size_of::<u32>() + self.blocks.len() * size_of::<Block>()
    }

    /// Names and values of a series.
    fn pairs_of(&self, id: u32) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<str>)> {
        self.labels[range(&self.label_ends, id)].iter().map(|pair| {
            let (name, value) = self.pairs[*pair as usize];
            (&self.symbols[name as usize], &self.symbols[value as usize])
        })
    }

    pub fn labels(&self, id: u32) -> Labels {
        Labels::from_sorted(self.pairs_of(id).map(|(name, value)| Label { name: name.clone(), value: value.clone() }))
    }

    /// The inverted index.
    pub fn postings(&self) -> Postings {
        let mut ids: Vec<RoaringBitmap> = vec![RoaringBitmap::new(); self.pairs.len()];
        for id in 0..self.series() as u32 {
            for pair in &self.labels[range(&self.label_ends, id)] {
                // Ids rise; one that is there already is no news.
                let _ = ids[*pair as usize].try_push(id);
            }
        }
        let symbol = |at: u32| self.symbols[at as usize].clone();
        let pairs = self.pairs.iter().zip(ids).map(|((name, value), ids)| (symbol(*name), symbol(*value), ids));
        Postings::from_pairs(pairs, self.series() as u32)
    }

    /// The hash of a series' labels, without a tenant.
    pub fn hash(&self, id: u32) -> u64 {
        hash_pairs("", self.pairs_of(id).map(|(name, value)| (name.as_ref(), value.as_ref())))
    }

    /// Whether a series has these labels.
    pub fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        let pairs = self.pairs_of(id);
        pairs.len() == labels.len()
            && pairs.zip(labels).all(|((name, value), label)| *name == label.name && *value == label.value)
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
            for pair in labels {
                let (name, value) = self.pairs[*pair as usize];
                put_number(&mut out, u64::from(name));
                put_number(&mut out, u64::from(value));
            }
            put_number(&mut out, self.blocks(id).len() as u64);
            for block in self.blocks(id) {
                put_number(&mut out, u64::from(block.frame - frame));
                put_number(&mut out, u64::from(block.bytes));
                put_number(&mut out, u64::from(block.samples));
                out.push(block.flags);
                put_signed(&mut out, block.min_ms.wrapping_sub(t_ms));
                put_number(&mut out, u64::from(block.span_ms));
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
        let mut decoding = Decoding { place: Place { version, ..Place::default() }, ..Decoding::default() };
        let series = reader.count()?;
        index.label_ends.reserve_exact(series);
        index.block_ends.reserve_exact(series);
        index.blocks.reserve_exact(series);
        for _ in 0..series {
            index.read_series(&mut reader, &mut decoding)?;
        }
        index.labels.shrink_to_fit();
        index.pairs.shrink_to_fit();
        index.blocks.shrink_to_fit();
        (reader.remaining() == 0).then_some(index)
    }

    fn read_series(&mut self, reader: &mut Reader<'_>, decoding: &mut Decoding) -> Option<()> {
        let Decoding { place, known, last, labels } = decoding;
        std::mem::swap(last, labels);
        labels.clear();
        for _ in 0..reader.count()? {
            let symbol = |number: u64| u32::try_from(number).ok().filter(|at| (*at as usize) < self.symbols.len());
            let pair = (symbol(reader.number()?)?, symbol(reader.number()?)?);
            // Symbols are sorted, and so are the labels of a series; an empty value is none.
            let is_next = labels.last().is_none_or(|last| last.0 < pair.0);
            if !is_next || self.symbols[pair.1 as usize].is_empty() {
                return None;
            }
            labels.push(pair);
            self.labels.push(known.number(pair, &mut self.pairs));
        }
        // Merges rely on the order of the series.
        if self.series() > 0 && last >= labels {
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

/// Numbers of pairs.
#[derive(Default)]
pub struct KnownPairs {
    /// By name and value in one number.
    numbers: IdMap<u64, u32>,
}

impl KnownPairs {
    /// The number of a pair, which is added where it is new.
    pub fn number(&mut self, pair: (u32, u32), pairs: &mut Vec<(u32, u32)>) -> u32 {
        *self.numbers.entry(u64::from(pair.0) << 32 | u64::from(pair.1)).or_insert_with(|| {
            pairs.push(pair);
            pairs.len() as u32 - 1
        })
    }
}

/// What is known while series are read.
#[derive(Default)]
struct Decoding {
    place: Place,
    known: KnownPairs,
    /// Symbols of the labels of the series before, and of the one at hand.
    last: Vec<(u32, u32)>,
    labels: Vec<(u32, u32)>,
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
        let samples = u16::try_from(reader.number()?).ok();
        let samples = samples.filter(|samples| usize::from(*samples) <= MAX_BLOCK_SAMPLES)?;
        // Version 1 holds floats, and does not say which of its blocks have a stale one.
        let flags = if self.version < FLAGS_VERSION { STALE } else { reader.byte()? };
        let min_ms = self.min_ms.wrapping_add(reader.signed()?);
        let span_ms =
            u32::try_from(reader.number()?).ok().filter(|span| min_ms.checked_add((*span).into()).is_some())?;
        let (frame, offset) = (self.frame, self.offset);
        let end = offset.checked_add(bytes)?;
        if end > frames.get(frame as usize)?.raw_bytes || samples == 0 {
            return None;
        }
        (self.offset, self.min_ms) = (end, min_ms);
        Some(Block { min_ms, span_ms, frame, offset, bytes, samples, flags })
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
        let check = |pairs: &[(u32, u32)], is_good: bool| {
            let symbols = ["a", "b", "c"].map(Arc::from).to_vec();
            let label_ends: Vec<u32> = (1..=pairs.len() as u32).collect();
            let (labels, block_ends) = ((0..pairs.len() as u32).collect(), vec![0; pairs.len()]);
            let index = Index { symbols, pairs: pairs.to_vec(), labels, label_ends, block_ends, ..Index::default() };
            assert_eq!(Index::decode(&index.encode(), FLAGS_VERSION, 8).is_some(), is_good, "{pairs:?}");
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
