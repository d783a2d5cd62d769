//! Writes a part, series by series in rising order of labels; memory is one frame and the directory.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, DiskFile};
use model::{Exemplar, Labels};

use super::codec::{EXEMPLARS, block_end, encode, encode_exemplars, in_one_block};
use super::index::{Block, Frame, Index, KnownPairs};
use super::values::Packing;
use super::{FOOTER_BYTES, HEADER, MAGIC, Summary};
use crate::store::StoreError;
use crate::store::columns::Samples;

/// A frame past this is closed: large enough to compress, small enough to read one series of.
const FRAME_BYTES: usize = 64 << 10;
const ZSTD_LEVEL: i32 = 3;
const MAX_BLOCK_EXEMPLARS: usize = 240;

pub struct PartWriter {
    path: PathBuf,
    packing: Packing,
    file: Box<dyn DiskFile>,
    bytes: u64,
    frame: Vec<u8>,
    /// Symbols in order of appearance; the directory's order is made at the end.
    symbols: Vec<Arc<str>>,
    symbol_ids: HashMap<Arc<str>, u32>,
    pairs: KnownPairs,
    index: Index,
    last: Option<Labels>,
    summary: Summary,
}

impl PartWriter {
    pub fn create(disk: &dyn Disk, path: &Path, packing: Packing) -> Result<PartWriter, StoreError> {
        let created = disk.create(path).and_then(|mut file| {
            file.append(&HEADER)?;
            Ok(file)
        });
        let file = created.map_err(|source| StoreError::io("cannot write a part", path, source))?;
        Ok(PartWriter {
            path: path.to_owned(),
            packing,
            file,
            bytes: HEADER.len() as u64,
            frame: Vec::with_capacity(2 * FRAME_BYTES),
            symbols: Vec::new(),
            symbol_ids: HashMap::new(),
            pairs: KnownPairs::default(),
            index: Index::default(),
            last: None,
            summary: Summary { min_ms: i64::MAX, max_ms: i64::MIN, ..Summary::default() },
        })
    }

    /// Adds a series that has samples or exemplars.
    pub fn add(&mut self, labels: &Labels, columns: &Samples, exemplars: &[Exemplar]) -> Result<(), StoreError> {
        assert!(self.last.as_ref().is_none_or(|last| last < labels), "series come in rising order");
        assert!(!columns.is_empty() || !exemplars.is_empty(), "a series in a part has something");
        for label in labels {
            let pair = (self.symbol(&label.name), self.symbol(&label.value));
            let number = self.pairs.number(pair, &mut self.index.pairs);
            self.index.labels.push(number);
        }
        self.index.label_ends.push(self.index.labels.len() as u32);
        let added = self.add_blocks(columns, exemplars);
        added.map_err(|source| StoreError::io("cannot write a part", &self.path, source))?;
        self.index.block_ends.push(self.index.blocks.len() as u32);
        self.last = Some(labels.clone());
        self.summary.series += 1;
        self.summary.samples += columns.len() as u64;
        Ok(())
    }

    fn add_blocks(&mut self, columns: &Samples, exemplars: &[Exemplar]) -> io::Result<()> {
        let mut start = 0;
        while start < columns.len() {
            let range = start..block_end(columns, start);
            let offset = self.frame.len();
            let flags = encode(columns, range.clone(), self.packing, &mut self.frame);
            let (min_ms, max_ms) = (columns.timestamps_ms[range.start], columns.timestamps_ms[range.end - 1]);
            self.summary.min_ms = self.summary.min_ms.min(min_ms);
            self.summary.max_ms = self.summary.max_ms.max(max_ms);
            self.close_block(offset, range.len(), flags, (min_ms, max_ms))?;
            start = range.end;
        }
        let mut rest = exemplars;
        while let Some(first) = rest.first() {
            let near =
                rest.iter().take(MAX_BLOCK_EXEMPLARS).take_while(|one| in_one_block(first.t_ms, one.t_ms)).count();
            let (block, later) = rest.split_at(near);
            let offset = self.frame.len();
            encode_exemplars(block, &mut self.frame);
            self.close_block(offset, near, EXEMPLARS, (first.t_ms, block[near - 1].t_ms))?;
            rest = later;
        }
        Ok(())
    }

    fn symbol(&mut self, text: &Arc<str>) -> u32 {
        if let Some(id) = self.symbol_ids.get(text) {
            return *id;
        }
        let id = self.symbols.len() as u32;
        self.symbols.push(text.clone());
        self.symbol_ids.insert(text.clone(), id);
        id
    }

    /// Names the bytes from `offset` of the frame on as a block.
    fn close_block(&mut self, offset: usize, samples: usize, flags: u8, times: (i64, i64)) -> io::Result<()> {
        let span_ms = times.1.checked_sub(times.0).and_then(|span| u32::try_from(span).ok());
        let span_ms = span_ms.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "times are out of order"))?;
        self.index.blocks.push(Block {
            min_ms: times.0,
            span_ms,
            frame: self.index.frames.len() as u32,
            offset: offset as u32,
            bytes: (self.frame.len() - offset) as u32,
            samples: u16::try_from(samples).expect("a block is short"),
            flags,
        });
        if self.frame.len() >= FRAME_BYTES { self.close_frame() } else { Ok(()) }
    }

    fn close_frame(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let compressed = compress(&self.frame)?;
        let stored = compressed.as_deref().unwrap_or(&self.frame);
        self.index.frames.push(Frame {
            offset: self.bytes,
            stored_bytes: stored.len() as u32,
            raw_bytes: self.frame.len() as u32,
            crc: crc32fast::hash(stored),
        });
        self.file.append(stored)?;
        self.bytes += stored.len() as u64;
        self.frame.clear();
        Ok(())
    }

    /// Writes the directory and makes all of it durable; the file's name is for the caller to sync.
    pub fn finish(mut self) -> Result<Summary, StoreError> {
        let finished = self.write_directory();
        finished.map_err(|source| StoreError::io("cannot write a part", &self.path, source))?;
        Ok(self.summary)
    }

    fn write_directory(&mut self) -> io::Result<()> {
        self.close_frame()?;
        self.sort_symbols();
        let raw = self.index.encode();
        let compressed = compress(&raw)?;
        let stored = compressed.as_deref().unwrap_or(&raw);
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        footer.extend_from_slice(&self.bytes.to_le_bytes());
        footer.extend_from_slice(&(raw.len() as u64).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(stored);
        crc.update(&footer);
        self.summary.crc = crc.finalize();
        footer.extend_from_slice(&self.summary.crc.to_le_bytes());
        footer.extend_from_slice(&MAGIC);
        self.file.append(stored)?;
        self.file.append(&footer)?;
        self.file.sync()?;
        self.summary.bytes = self.bytes + stored.len() as u64 + FOOTER_BYTES as u64;
        Ok(())
    }

    fn sort_symbols(&mut self) {
        let mut order: Vec<u32> = (0..self.symbols.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.symbols[*a as usize].cmp(&self.symbols[*b as usize]));
        let mut places = vec![0; order.len()];
        for (place, id) in order.iter().enumerate() {
            places[*id as usize] = place as u32;
        }
        self.index.symbols = order.iter().map(|id| self.symbols[*id as usize].clone()).collect();
        for (name, value) in &mut self.index.pairs {
            (*name, *value) = (places[*name as usize], places[*value as usize]);
        }
    }
}

/// The compressed bytes, where that saves a thirty-second part: packed blocks leave little, constants beside them much.
fn compress(raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let compressed = zstd::bulk::compress(raw, ZSTD_LEVEL)?;
    Ok((compressed.len() < raw.len() / 32 * 31).then_some(compressed))
}
