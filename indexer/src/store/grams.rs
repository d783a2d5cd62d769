//! The filter: which blocks may hold a text that is longer than a few bytes, by some of its grams.
//!
//! A gram is [`GRAM_BYTES`] bytes of a line, ASCII letters in lower case. Of each [`WINDOW`] neighbouring grams the one with
//! the least hash is kept, wherever it stands: so every text of `GRAM_BYTES + WINDOW - 1` bytes keeps at least one gram that all lines
//! with it keep, and a filter needs to hold two grams in five. The filter is a table of bits, a row for each hash and a
//! column for so many kept grams that about two bits in five are set: blocks with many have several columns, blocks with few
//! share one. A query reads one row for each gram of its needle, however many blocks there are.
//!
//! On disk (`docs/format/log-store.md`): the header of [`Filter::encode`], then the rows.

use std::io;
use std::sync::Arc;

use disk::DiskReader;
use model::varint;

use super::header::{self, malformed};

const GRAM_BYTES: usize = 5;
const WINDOW: usize = 4;
const HASH_BITS: u32 = 20;
/// Bits of a hash that choose the row; the others choose among a block's columns.
const MAX_ROW_BITS: u32 = 15;
const MIN_ROW_BITS: u32 = 6;
const MAX_COLUMNS_BITS: u32 = HASH_BITS - MAX_ROW_BITS;
const MAX_BLOCKS: usize = 1 << 24;

/// Hands the grams that a text keeps to `keep`, neighbours once.
#[inline]
fn kept_grams(text: &[u8], mut keep: impl FnMut(u32)) {
    const GRAM: u64 = (1 << (8 * GRAM_BYTES)) - 1;
    let Some((first, rest)) = text.split_at_checked(GRAM_BYTES - 1) else { return };
    let with = |gram: u64, byte: &u8| (gram << 8 | u64::from(byte.to_ascii_lowercase())) & GRAM;
    let mut gram = first.iter().fold(0, with);
    // The three hashes before, the oldest first; a window is full when all are known.
    let (mut before, mut last): ([u32; WINDOW - 1], _) = ([NONE; WINDOW - 1], NONE);
    for byte in rest {
        gram = with(gram, byte);
        let hash = (gram.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - HASH_BITS)) as u32;
        let [a, b, c] = before;
        before = [b, c, hash];
        let least = a.min(b).min(c.min(hash));
        if least != last && a != NONE {
            keep(least);
            last = least;
        }
    }
}

/// No hash.
const NONE: u32 = u32::MAX;

/// The hashes whose bits every block with this text has; none where the text is too short.
pub fn hashes_of(needle: &[u8]) -> Vec<u32> {
    let mut hashes = Vec::new();
    kept_grams(needle, |hash| hashes.push(hash));
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Gathers the grams of blocks, one after the other.
pub struct FilterBuilder {
    /// Grams of the blocks since the last column was closed, as bits and as a list.
    seen: Vec<u64>,
    open: Vec<u32>,
    blocks: Vec<Place>,
    /// Bits by row.
    columns: Vec<Column>,
    /// Of the column with most.
    most_grams: usize,
}

type Column = Box<[u64]>;

/// The columns of a block: the first, and the binary logarithm of their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    first: u32,
    bits: u32,
}

/// A column is about full with so many grams.
const FULL_COLUMN: usize = 1 << (MAX_ROW_BITS - 1);

impl Default for FilterBuilder {
    fn default() -> FilterBuilder {
        FilterBuilder {
            seen: vec![0; 1 << (HASH_BITS - 6)],
            open: Vec::new(),
            blocks: Vec::new(),
            columns: Vec::new(),
            most_grams: 0,
        }
    }
}

impl FilterBuilder {
    pub fn add_block<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        let FilterBuilder { seen, open, .. } = &mut *self;
        for line in lines {
            kept_grams(line.as_bytes(), |hash| {
                let (word, bit) = (&mut seen[hash as usize >> 6], 1u64 << (hash & 63));
                if *word & bit == 0 {
                    *word |= bit;
                    open.push(hash);
                }
            });
        }
        self.blocks.push(Place { first: self.columns.len() as u32, bits: u32::MAX });
        if self.open.len() >= FULL_COLUMN {
            self.close();
        }
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        let bits = (open.len().div_ceil(FULL_COLUMN).max(1)).next_power_of_two().trailing_zeros().min(MAX_COLUMNS_BITS);
        let place = Place { first: self.columns.len() as u32, bits };
        self.columns.resize_with(self.columns.len() + (1 << bits), || vec![0; 1 << (MAX_ROW_BITS - 6)].into());
        for hash in &open {
            self.seen[*hash as usize >> 6] = 0;
            let (row, column) = place_of(*hash, MAX_ROW_BITS, place);
            self.columns[column][row >> 6] |= 1 << (row & 63);
        }
        self.most_grams = self.most_grams.max(open.len() >> bits);
        let ended = self.blocks.iter_mut().rev().take_while(|place| place.bits == u32::MAX);
        ended.for_each(|place| place.bits = bits);
    }

    pub fn encode(mut self) -> Vec<u8> {
        if self.blocks.last().is_some_and(|place| place.bits == u32::MAX) {
            self.close();
        }
        let row_bits = (self.most_grams * 2).next_power_of_two().trailing_zeros().clamp(MIN_ROW_BITS, MAX_ROW_BITS);
        let row_bytes = self.columns.len().div_ceil(8);
        let mut header = Vec::new();
        varint::put(&mut header, u64::from(row_bits));
        varint::put(&mut header, self.columns.len() as u64);
        varint::put(&mut header, self.blocks.len() as u64);
        let mut before = 0;
        for place in &self.blocks {
            varint::put(&mut header, u64::from(place.first - before));
            varint::put(&mut header, u64::from(place.bits));
            before = place.first;
        }
        let mut bytes = vec![0; row_bytes << row_bits];
        for (column, rows) in self.columns.iter().enumerate() {
            for (place, bits) in rows.iter().enumerate() {
                let mut bits = *bits;
                while bits != 0 {
                    let row = (place << 6 | bits.trailing_zeros() as usize) & ((1 << row_bits) - 1);
                    bytes[row * row_bytes + column / 8] |= 1 << (column % 8);
                    bits &= bits - 1;
                }
            }
        }
        header::with_rows(&header, &bytes)
    }
}

/// The row and column of a gram of a block.
fn place_of(hash: u32, row_bits: u32, place: Place) -> (usize, usize) {
    let row = hash & ((1 << row_bits) - 1);
    let column = place.first + (hash >> MAX_ROW_BITS & ((1 << place.bits) - 1));
    (row as usize, column as usize)
}

/// A segment's filter, its rows on disk.
pub struct Filter {
    reader: Arc<dyn DiskReader>,
    row_bits: u32,
    row_bytes: usize,
    rows_at: u64,
    blocks: Vec<Place>,
}

impl Filter {
    /// Reads the header; the file's checksum is the caller's matter.
    pub fn open(reader: Arc<dyn DiskReader>) -> io::Result<Filter> {
        let (header, rows_at) = header::read(reader.as_ref())?;
        let mut rest = header.as_slice();
        let mut number = |max: u64| {
            varint::take(&mut rest).filter(|number| *number <= max).ok_or_else(|| malformed("a filter's header"))
        };
        let row_bits = number(u64::from(MAX_ROW_BITS))? as u32;
        let columns = number(1 << 31)?;
        let count = number(MAX_BLOCKS as u64)? as usize;
        let (mut blocks, mut first) = (Vec::with_capacity(count.min(header.len())), 0);
        for _ in 0..count {
            first += number(columns)?;
            let bits = number(u64::from(MAX_COLUMNS_BITS))? as u32;
            if first + (1 << bits) > columns {
                return Err(malformed("a filter's column that is none"));
            }
            blocks.push(Place { first: first as u32, bits });
        }
        let row_bytes = columns.div_ceil(8) as usize;
        if reader.len()? != rows_at + ((row_bytes as u64) << row_bits) {
            return Err(malformed("a filter of another length than it says"));
        }
        Ok(Filter { reader, row_bits, row_bytes, rows_at, blocks })
    }

    /// Leaves of `blocks` those that may hold a text with these grams.
    pub fn narrow(&self, hashes: &[u32], blocks: &mut Vec<u32>) -> io::Result<()> {
        let mut row = vec![0; self.row_bytes];
        for hash in hashes {
            let at = (u64::from(*hash) & ((1 << self.row_bits) - 1)) * self.row_bytes as u64;
            self.reader.read_exact_at(self.rows_at + at, &mut row)?;
            blocks.retain(|block| {
                self.blocks.get(*block as usize).is_none_or(|place| {
                    let (_, column) = place_of(*hash, self.row_bits, *place);
                    row[column / 8] >> (column % 8) & 1 == 1
                })
            });
            if blocks.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use disk::Disk;
    use proptest::prelude::*;

    use super::*;

    fn filter(blocks: &[Vec<String>]) -> Filter {
        let mut builder = FilterBuilder::default();
        blocks.iter().for_each(|lines| builder.add_block(lines.iter().map(String::as_str)));
        let disk = disk::FakeDisk::default();
        disk.create_dir_all(Path::new("/f")).expect("created");
        let path = Path::new("/f/grams");
        disk.create(path).and_then(|mut file| file.append(&builder.encode())).expect("written");
        Filter::open(disk.open(path).expect("opened")).expect("it is a filter")
    }

    fn candidates(filter: &Filter, needle: &str) -> Vec<u32> {
        let mut blocks = (0..filter.blocks.len() as u32).collect();
        filter.narrow(&hashes_of(needle.as_bytes()), &mut blocks).expect("read");
        blocks
    }

    #[test]
    fn an_identifier_leads_to_few_blocks() {
        let line = |block: usize, i: usize| {
            let id = xxhash_rust::xxh3::xxh3_64(format!("{block}/{i}").as_bytes());
            format!("request id={id:016x} done in {i} ms")
        };
        let blocks: Vec<Vec<String>> = (0..200)
            .map(|block| (0..if block % 10 == 0 { 4_000 } else { 30 }).map(|i| line(block, i)).collect())
            .collect();
        let filter = filter(&blocks);
        let shared = candidates(&filter, "request id=");
        assert_eq!(shared.len(), 200, "all have it");
        for block in [0, 5, 70, 199] {
            let found = candidates(&filter, &line(block, 7)[11..27].to_uppercase());
            assert!(found.contains(&(block as u32)), "{block}");
            assert!(found.len() < 60, "{block}: {}", found.len());
        }
        assert_eq!(candidates(&filter, "short").len(), 200);
    }

    proptest! {
        #[test]
        fn no_block_with_the_text_is_left_out(texts in prop::collection::vec("[a-dXé1 ]{0,30}", 1..30), from in 0usize..20, length in 0usize..20) {
            let blocks: Vec<Vec<String>> = texts.chunks(2).map(<[String]>::to_vec).collect();
            let filter = filter(&blocks);
            for (i, block) in blocks.iter().enumerate() {
                for line in block {
                    let needle: String = line.chars().skip(from).take(length).collect();
                    prop_assert!(candidates(&filter, &needle).contains(&(i as u32)), "{needle:?}");
                }
            }
        }
    }
}
