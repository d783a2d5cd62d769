//! Blocks: lines of one stream, the unit of the head, of compression and of the index.
//!
//! Segments hold them encoded ([`super::stored`]). Version 1, which is still read (`docs/format/log-store.md`): a version
//! byte, the length of the content as `u32` little-endian, and the content compressed by zstd. Content, with LEB128 varints:
//! the number of lines; timestamps, each as the zigzag distance from the one before; text lengths; metadata sets (their
//! number, then for each the number of labels and names and values with their lengths); the metadata set of each line; the
//! texts.

use std::collections::HashMap;

use model::{Labels, varint};

/// A block takes no more lines once it has this much text, this much metadata, or this many.
const FULL_TEXT_BYTES: usize = 64 * 1024;
const FULL_METADATA_BYTES: usize = 256 * 1024;
const FULL_LINES: usize = 512;
/// The same of blocks in segments.
const LARGE_TEXT_BYTES: usize = 256 * 1024;
const LARGE_LINES: usize = 8192;
/// Sets of metadata that are compared one by one.
const FEW_SETS: usize = 8;
/// What a label takes in memory besides its name and value.
const LABEL_BYTES: usize = 64;
/// No block's content is longer (a full block and one more line stay far below); decoding refuses what claims to be.
const MAX_CONTENT_BYTES: usize = 64 << 20;
const VERSION: u8 = 1;

#[derive(Debug, Clone)]
pub struct Block {
    t_ns: Vec<i64>,
    text: String,
    text_end: Vec<u32>,
    /// Entry 0 is the empty set.
    metadata_sets: Vec<Labels>,
    metadata: Vec<u32>,
    /// Places of the sets, but for the empty one.
    places: HashMap<Labels, u32>,
    metadata_bytes: usize,
    pub min_ns: i64,
    pub max_ns: i64,
    is_sorted: bool,
}

impl Default for Block {
    fn default() -> Block {
        Block {
            t_ns: Vec::new(),
            text: String::new(),
            text_end: Vec::new(),
            metadata_sets: vec![Labels::default()],
            metadata: Vec::new(),
            places: HashMap::new(),
            metadata_bytes: 0,
            min_ns: i64::MAX,
            max_ns: i64::MIN,
            is_sorted: true,
        }
    }
}

/// Blocks are equal that have the same lines.
#[cfg(test)]
impl PartialEq for Block {
    fn eq(&self, other: &Block) -> bool {
        self.lines().eq(other.lines()) && (self.min_ns, self.max_ns) == (other.min_ns, other.max_ns)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockLine<'a> {
    pub t_ns: i64,
    pub text: &'a str,
    pub metadata: &'a Labels,
}

impl Block {
    /// Appends a line and returns the bytes of memory that its text took, and its metadata where that was new.
    pub fn push(&mut self, line: BlockLine<'_>) -> usize {
        let before_bytes = self.text.len() + self.metadata_bytes;
        self.is_sorted &= self.t_ns.last().is_none_or(|last| *last <= line.t_ns);
        self.min_ns = self.min_ns.min(line.t_ns);
        self.max_ns = self.max_ns.max(line.t_ns);
        self.t_ns.push(line.t_ns);
        self.text.push_str(line.text);
        self.text_end.push(u32::try_from(self.text.len()).expect("a block stays far below 4 GiB"));
        let set = self.metadata_set(line.metadata);
        self.metadata.push(set);
        self.text.len() + self.metadata_bytes - before_bytes
    }

    /// Neighbouring lines mostly share their set, and most blocks have few: their levels.
    fn metadata_set(&mut self, labels: &Labels) -> u32 {
        let same = |set: &Labels| set.address() == labels.address() || *set == *labels;
        if let Some(last) = self.metadata.last().copied().filter(|last| same(&self.metadata_sets[*last as usize])) {
            return last;
        }
        if labels.is_empty() {
            return 0;
        }
        if self.metadata_sets.len() <= FEW_SETS
            && let Some(set) = self.metadata_sets.iter().position(same)
        {
            return set as u32;
        }
        if let Some(set) = self.places.get(labels) {
            return *set;
        }
        let set = self.metadata_sets.len() as u32;
        self.metadata_bytes += label_bytes(labels);
        self.metadata_sets.push(labels.clone());
        self.places.insert(labels.clone(), set);
        set
    }

    pub fn len(&self) -> usize {
        self.t_ns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.t_ns.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.text.len() >= FULL_TEXT_BYTES || self.metadata_bytes >= FULL_METADATA_BYTES || self.len() >= FULL_LINES
    }

    /// Whether it is large enough for a segment, where larger blocks take fewer bytes.
    pub fn is_large(&self) -> bool {
        self.text.len() >= LARGE_TEXT_BYTES || self.metadata_bytes >= FULL_METADATA_BYTES || self.len() >= LARGE_LINES
    }

    /// Gives back the room for more.
    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.t_ns.shrink_to_fit();
        self.text_end.shrink_to_fit();
        self.metadata.shrink_to_fit();
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn line(&self, i: usize) -> BlockLine<'_> {
        let start = if i == 0 { 0 } else { self.text_end[i - 1] };
        BlockLine {
            t_ns: self.t_ns[i],
            text: &self.text[start as usize..self.text_end[i] as usize],
            metadata: &self.metadata_sets[self.metadata[i] as usize],
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = BlockLine<'_>> + Clone {
        (0..self.len()).map(|i| self.line(i))
    }

    /// The lines in `start_ns..end_ns` in time order, ties in order of arrival.
    pub fn in_order(&self, start_ns: i64, end_ns: i64) -> Vec<u32> {
        let wanted = |i: &u32| (start_ns..end_ns).contains(&self.t_ns[*i as usize]);
        let mut order: Vec<u32> = (0..self.len() as u32).filter(wanted).collect();
        if !self.is_sorted {
            order.sort_by_key(|i| self.t_ns[*i as usize]);
        }
        order
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> + Clone {
        self.lines().map(|line| line.text)
    }

    pub fn times(&self) -> &[i64] {
        &self.t_ns
    }

    /// Whether a line has any.
    pub fn has_metadata(&self) -> bool {
        self.metadata_sets.len() > 1
    }

    /// All that lines have, the empty one too.
    pub fn metadata_sets(&self) -> &[Labels] {
        &self.metadata_sets
    }

    /// For each line the place of its set.
    pub fn metadata(&self) -> &[u32] {
        &self.metadata
    }

    pub fn put_metadata(&self, out: &mut Vec<u8>) {
        self.metadata.iter().for_each(|set| varint::put(out, u64::from(*set)));
    }

    /// Reads a block of version 1, as segments held them once.
    pub fn decode(encoded: &[u8]) -> Result<Block, &'static str> {
        let (header, compressed) = encoded.split_at_checked(5).ok_or("a block of less than five bytes")?;
        if header[0] != VERSION {
            return Err("a block of an unknown version");
        }
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > MAX_CONTENT_BYTES {
            return Err("a block that claims to be too long");
        }
        let content = zstd::bulk::decompress(compressed, length).map_err(|_| "a block that does not decompress")?;
        if content.len() != length {
            return Err("a block of another length than it says");
        }
        Reader { rest: &content }.block()
    }
}

/// Writes sets for [`Reader::metadata_sets`].
pub fn put_sets(sets: &[Labels], out: &mut Vec<u8>) {
    varint::put(out, sets.len() as u64);
    for set in sets {
        varint::put(out, set.len() as u64);
        for part in set.iter().flat_map(|label| [&label.name, &label.value]) {
            varint::put(out, part.len() as u64);
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// What a label set takes in memory.
pub fn label_bytes(labels: &Labels) -> usize {
    labels.iter().map(|label| label.name.len() + label.value.len() + LABEL_BYTES).sum()
}

pub struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn varint(&mut self) -> Result<u64, &'static str> {
        varint::take(&mut self.rest).ok_or("a number that is cut short or too large")
    }

    /// A count of things that take at least a byte each.
    fn count(&mut self) -> Result<usize, &'static str> {
        let count = self.varint()? as usize;
        if count > self.rest.len() { Err("a count beyond the block") } else { Ok(count) }
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        let length = self.varint()? as usize;
        let (text, rest) = self.rest.split_at_checked(length).ok_or("a block cut short")?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| "a text that is not UTF-8")
    }

    pub fn crc(&mut self) -> Result<u32, &'static str> {
        let (crc, rest) = self.rest.split_first_chunk().ok_or("a block cut short")?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*crc))
    }

    pub fn metadata_sets(&mut self) -> Result<Vec<Labels>, &'static str> {
        let sets = self.count()?;
        let mut read = Vec::with_capacity(sets);
        for _ in 0..sets {
            let labels = self.count()?;
            let pairs = (0..labels).map(|_| Ok((self.text()?, self.text()?))).collect::<Result<Vec<_>, &str>>()?;
            read.push(Labels::from_pairs(pairs));
        }
        Ok(read)
    }

    /// For each line the place of its set.
    pub fn metadata(&mut self, lines: usize, sets: usize) -> Result<Vec<u32>, &'static str> {
        let set =
            |_| self.varint()?.try_into().ok().filter(|set| (*set as usize) < sets).ok_or("a line of no metadata set");
        (0..lines).map(set).collect()
    }

    fn block(&mut self) -> Result<Block, &'static str> {
        let count = self.count()?;
        let (mut block, mut before) = (Block::default(), 0i64);
        for _ in 0..count {
            let t_ns = before.wrapping_add(varint::unzigzag(self.varint()?));
            block.is_sorted &= block.t_ns.is_empty() || before <= t_ns;
            block.min_ns = block.min_ns.min(t_ns);
            block.max_ns = block.max_ns.max(t_ns);
            block.t_ns.push(t_ns);
            before = t_ns;
        }
        let mut end = 0u64;
        for _ in 0..count {
            end = end
                .checked_add(self.varint()?)
                .filter(|end| *end <= MAX_CONTENT_BYTES as u64)
                .ok_or("a text too long")?;
            block.text_end.push(end as u32);
        }
        block.metadata_sets = self.metadata_sets()?;
        block.metadata_bytes = block.metadata_sets.iter().map(label_bytes).sum();
        block.metadata = self.metadata(count, block.metadata_sets.len())?;
        if self.rest.len() as u64 != end {
            return Err("texts of another length than they say");
        }
        block.text = String::from_utf8(self.rest.to_vec()).map_err(|_| "a text that is not UTF-8")?;
        let at_boundary = |end: &u32| block.text.is_char_boundary(*end as usize);
        if block.text_end.iter().all(at_boundary) { Ok(block) } else { Err("a text that ends inside a character") }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A block of lines with times, texts and levels.
    pub fn block(lines: &[(i64, &str, &str)]) -> Block {
        let mut block = Block::default();
        for (t_ns, text, level) in lines {
            block.push(BlockLine { t_ns: *t_ns, text, metadata: &Labels::from_pairs([("level", *level)]) });
        }
        block
    }

    /// Version 1, for ever.
    #[test]
    fn golden() {
        let expected = block(&[(1_000, "one", "info"), (900, "zwei é", ""), (i64::MAX, "", "info")]);
        let golden = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/block-v1.bin")).expect("the fixture");
        assert_eq!(Block::decode(&golden), Ok(expected));
    }

    #[test]
    fn order_is_by_time_then_arrival() {
        let block = block(&[(5, "a", ""), (3, "b", ""), (5, "c", ""), (9, "d", "")]);
        let texts: Vec<_> = block.in_order(3, 9).into_iter().map(|i| block.line(i as usize).text).collect();
        assert_eq!(texts, ["b", "a", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn any_content_is_read_or_refused(content in proptest::collection::vec(0u8..20, 0..60)) {
            let _ = (Reader { rest: &content }.block(), Block::decode(&content));
        }
    }
}
