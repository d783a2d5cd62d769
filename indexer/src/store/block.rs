//! Blocks: lines of one stream, the unit of the head, of compression and of the index.
//!
//! Encoded (`docs/format/log-store.md`): a version byte, the length of the content as `u32` little-endian, and the
//! content compressed by zstd. Content, with LEB128 varints: the number of lines; timestamps, each as the zigzag distance
//! from the one before; text lengths; metadata sets (their number, then for each the number of labels and names and values
//! with their lengths); the metadata set of each line; the texts.

use model::Labels;
use model::varint;

/// A block takes no more lines once it has this much text, this much metadata, or this many.
const FULL_TEXT_BYTES: usize = 64 * 1024;
const FULL_METADATA_BYTES: usize = 256 * 1024;
const FULL_LINES: usize = 512;
/// What a label takes in memory besides its name and value.
const LABEL_BYTES: usize = 64;
/// No block's content is longer (a full block and one more line stay far below); decoding refuses what claims to be.
const MAX_CONTENT_BYTES: usize = 64 << 20;
const VERSION: u8 = 1;
const ZSTD_LEVEL: i32 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    t_ns: Vec<i64>,
    text: String,
    text_end: Vec<u32>,
    /// Entry 0 is the empty set.
    metadata_sets: Vec<Labels>,
    metadata: Vec<u32>,
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
            metadata_bytes: 0,
            min_ns: i64::MAX,
            max_ns: i64::MIN,
            is_sorted: true,
        }
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

    /// Neighbouring lines mostly share their set.
    fn metadata_set(&mut self, labels: &Labels) -> u32 {
        let same = |set: &u32| self.metadata_sets[*set as usize] == *labels;
        if let Some(last) = self.metadata.last().copied().filter(same) {
            return last;
        }
        let found = self.metadata_sets.iter().position(|set| set == labels);
        found.unwrap_or_else(|| {
            self.metadata_bytes += label_bytes(labels);
            self.metadata_sets.push(labels.clone());
            self.metadata_sets.len() - 1
        }) as u32
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

    pub fn lines(&self) -> impl Iterator<Item = BlockLine<'_>> {
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

    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.text.len() + self.len() * 8);
        varint::put(&mut content, self.len() as u64);
        let mut before = 0i64;
        for t_ns in &self.t_ns {
            let distance = t_ns.wrapping_sub(before);
            varint::put(&mut content, varint::zigzag(distance));
            before = *t_ns;
        }
        self.lines().for_each(|line| varint::put(&mut content, line.text.len() as u64));
        varint::put(&mut content, self.metadata_sets.len() as u64);
        for set in &self.metadata_sets {
            varint::put(&mut content, set.len() as u64);
            for part in set.iter().flat_map(|label| [&label.name, &label.value]) {
                varint::put(&mut content, part.len() as u64);
                content.extend_from_slice(part.as_bytes());
            }
        }
        self.metadata.iter().for_each(|set| varint::put(&mut content, u64::from(*set)));
        content.extend_from_slice(self.text.as_bytes());
        let mut encoded = vec![VERSION];
        encoded.extend_from_slice(&(content.len() as u32).to_le_bytes());
        let compressed =
            zstd::bulk::compress(&content, ZSTD_LEVEL).expect("compressing memory to memory does not fail");
        encoded.extend_from_slice(&compressed);
        encoded
    }

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

/// What a label set takes in memory.
pub fn label_bytes(labels: &Labels) -> usize {
    labels.iter().map(|label| label.name.len() + label.value.len() + LABEL_BYTES).sum()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, &'static str> {
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
        let sets = self.count()?;
        block.metadata_sets.clear();
        for _ in 0..sets {
            let labels = self.count()?;
            let pairs = (0..labels).map(|_| Ok((self.text()?, self.text()?))).collect::<Result<Vec<_>, &str>>()?;
            let set = Labels::from_pairs(pairs);
            block.metadata_bytes += label_bytes(&set);
            block.metadata_sets.push(set);
        }
        for _ in 0..count {
            let set = self.varint()?;
            if set >= sets as u64 {
                return Err("a line of no metadata set");
            }
            block.metadata.push(set as u32);
        }
        if self.rest.len() as u64 != end {
            return Err("texts of another length than they say");
        }
        block.text = String::from_utf8(self.rest.to_vec()).map_err(|_| "a text that is not UTF-8")?;
        let at_boundary = |end: &u32| block.text.is_char_boundary(*end as usize);
        if block.text_end.iter().all(at_boundary) { Ok(block) } else { Err("a text that ends inside a character") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &[(i64, &str, &str)]) -> Block {
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
        assert_eq!(Block::decode(&golden), Ok(expected.clone()));
        assert_eq!(Block::decode(&expected.encode()), Ok(expected));
    }

    /// 512 lines of much metadata made blocks that were written, released on the bus, and could not be decoded.
    #[test]
    fn metadata_fills_a_block() {
        let mut block = Block::default();
        for n in 0..FULL_LINES {
            let metadata = Labels::from_pairs([("trace", format!("{n}-{}", "x".repeat(256 * 1024)))]);
            block.push(BlockLine { t_ns: 1, text: "a line", metadata: &metadata });
            if block.is_full() {
                break;
            }
        }
        assert_eq!(Block::decode(&block.encode()), Ok(block));
    }

    #[test]
    fn order_is_by_time_then_arrival() {
        let block = block(&[(5, "a", ""), (3, "b", ""), (5, "c", ""), (9, "d", "")]);
        let texts: Vec<_> = block.in_order(3, 9).into_iter().map(|i| block.line(i as usize).text).collect();
        assert_eq!(texts, ["b", "a", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn round_trip(lines in proptest::collection::vec((proptest::num::i64::ANY, "\\PC{0,20}", "[a-c]{0,2}"), 0..40)) {
            let lines: Vec<_> = lines.iter().map(|(t, text, level)| (*t, text.as_str(), level.as_str())).collect();
            let block = block(&lines);
            proptest::prop_assert_eq!(Block::decode(&block.encode()), Ok(block));
        }

        #[test]
        fn any_content_is_read_or_refused(content in proptest::collection::vec(0u8..20, 0..60)) {
            let _ = (Reader { rest: &content }.block(), Block::decode(&content));
        }
    }
}
