//! The head: lines that no segment holds yet, per tenant and stream, in blocks that queries share.
//!
//! A query takes references to blocks and reads without a lock. The last block of a stream takes more lines in place; while
//! a query holds it, it is copied first (at most one block's bytes per stream and query).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use model::{LogBatch, Origin};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::block::{Block, BlockLine, label_bytes};
use super::erasure::{Erasers, Erasure};
use super::ranges::{Ranges, is_covered};
use super::segment::StreamKey;

/// What a line takes in memory besides its text and metadata.
const LINE_BYTES: usize = 24;
/// What a stream takes besides its labels.
const STREAM_BYTES: usize = 512;

#[derive(Debug, Clone)]
pub struct HeadBlock {
    /// Blocks are numbered as they are begun.
    pub number: u64,
    pub block: Block,
}

#[derive(Debug, Default)]
pub struct HeadStream {
    pub blocks: Vec<Arc<HeadBlock>>,
    /// Hashes of pushed lines, so that one sent again collapses at once.
    seen: HashSet<u128>,
}

#[derive(Debug, Default)]
pub struct Head {
    pub tenants: BTreeMap<String, HashMap<StreamKey, HeadStream>>,
    pub bytes: usize,
    pub lines: u64,
    next_number: u64,
}

/// The identity of a pushed line within its stream: its instant, text and structured metadata.
pub fn line_hash(line: BlockLine<'_>) -> u128 {
    let metadata = if line.metadata.is_empty() { 0 } else { line.metadata.hash("") };
    xxh3_128_with_seed(line.text.as_bytes(), line.t_ns as u64 ^ metadata)
}

impl Head {
    /// Takes a batch's lines but those that `ranges` covers or that were pushed before; returns the ones it took.
    pub fn apply(&mut self, batch: &LogBatch, ranges: &Ranges) -> Vec<u32> {
        let (pushed, covered) = match batch.origin {
            Origin::Pushed => (true, &[][..]),
            Origin::Tailed { file, .. } => (false, ranges.of(file)),
        };
        let mut by_stream: Vec<Vec<u32>> = vec![Vec::new(); batch.streams.len()];
        for (i, line) in batch.lines().enumerate() {
            if pushed || !is_covered(covered, line.source) {
                by_stream[line.stream as usize].push(i as u32);
            }
        }
        let mut taken = Vec::with_capacity(batch.len());
        for (stream, mut lines) in by_stream.into_iter().enumerate().filter(|(_, lines)| !lines.is_empty()) {
            self.append(batch, stream, pushed, &mut lines);
            taken.append(&mut lines);
        }
        taken.sort_unstable();
        self.lines += taken.len() as u64;
        taken
    }

    /// Forgets what is erased; the same line may be pushed again.
    pub fn erase(&mut self, erasure: &Arc<Erasure>) {
        let Some(streams) = self.tenants.get_mut(&erasure.request.tenant) else { return };
        for (key, stream) in streams.iter_mut() {
            let erasures = std::slice::from_ref(erasure);
            let mut erasers = Erasers::new(&key.labels, erasures);
            for head in &mut stream.blocks {
                if !erasure.reaches(&key.labels, head.block.min_ns, head.block.max_ns) {
                    continue;
                }
                let block = erasers.remains(&head.block);
                let gone = head.block.len() - block.len();
                if gone == 0 {
                    continue;
                }
                if key.pushed {
                    let kept: HashSet<u128> = block.lines().map(line_hash).collect();
                    for hash in head.block.lines().map(line_hash).filter(|hash| !kept.contains(hash)) {
                        stream.seen.remove(&hash);
                    }
                }
                let fixed_bytes = LINE_BYTES + if key.pushed { size_of::<u128>() } else { 0 };
                self.bytes =
                    self.bytes.saturating_sub(gone * fixed_bytes + head.block.text().len() - block.text().len());
                self.lines -= gone as u64;
                *head = Arc::new(HeadBlock { number: head.number, block });
            }
            stream.blocks.retain(|head| !head.block.is_empty());
        }
        streams.retain(|_, stream| !stream.blocks.is_empty());
    }

    /// Appends the numbered lines to their stream and drops from `lines` those that were there.
    fn append(&mut self, batch: &LogBatch, stream: usize, pushed: bool, lines: &mut Vec<u32>) {
        if !self.tenants.contains_key(&batch.tenant) {
            self.tenants.insert(batch.tenant.clone(), HashMap::new());
        }
        let Some(tenant) = self.tenants.get_mut(&batch.tenant) else { return };
        let key = StreamKey { labels: batch.streams[stream].clone(), pushed };
        let head = tenant.entry(key).or_insert_with(|| {
            self.bytes += STREAM_BYTES + label_bytes(&batch.streams[stream]);
            HeadStream::default()
        });
        lines.retain(|i| {
            let line = batch.line(*i as usize);
            let metadata = &batch.metadata[line.metadata as usize];
            let line = BlockLine { t_ns: line.t_ns, text: line.text, metadata };
            if pushed && !head.seen.insert(line_hash(line)) {
                return false;
            }
            if head.blocks.last().is_none_or(|last| last.block.is_full()) {
                if let Some(full) = head.blocks.last_mut().and_then(Arc::get_mut) {
                    full.block.shrink();
                }
                head.blocks.push(Arc::new(HeadBlock { number: self.next_number, block: Block::default() }));
                self.next_number += 1;
            }
            let last = head.blocks.last_mut().unwrap_or_else(|| unreachable!("pushed above"));
            let bytes = Arc::make_mut(last).block.push(line);
            self.bytes += bytes + LINE_BYTES + if pushed { size_of::<u128>() } else { 0 };
            true
        });
    }
}
