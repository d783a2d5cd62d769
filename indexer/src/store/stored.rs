//! Blocks as segments hold them: sections that are read one by one, each with a checksum of its own.
//!
//! Encoded (`docs/format/log-store.md`): version 2, for each [`Section`] its length and stored length (LEB128; equal where it
//! is not compressed) and the CRC-32 of the stored bytes, the CRC-32 of all that, and the sections in their order. Times,
//! metadata and structure come first, because counting needs no more ([`BlockPlace::head_bytes`]).

use std::cell::{OnceCell, RefCell};
use std::ops::Range;

use model::{Labels, varint};
use zstd::bulk::{Compressor, Decompressor};

use super::block::{Block, BlockLine, Reader, put_sets};
use super::text::{Malformed, Needle, Texts, Values, pack};

const VERSION: u8 = 2;
const LEVEL: i32 = 1;
const SECTIONS: usize = 5;
const CRC_BYTES: usize = size_of::<u32>();
/// No section is longer; decoding refuses what claims to be.
const MAX_SECTION_BYTES: usize = 64 << 20;

#[derive(Clone, Copy)]
enum Section {
    Times,
    Metadata,
    Structure,
    Digits,
    Others,
}

/// Encodes blocks; keeps its compressor.
pub struct Encoder {
    compressor: Compressor<'static>,
}

impl Encoder {
    pub fn new() -> std::io::Result<Encoder> {
        Ok(Encoder { compressor: Compressor::new(LEVEL)? })
    }

    /// A block, and how long it is without the values of its texts. `visit` sees the words of its texts.
    pub fn encode(&mut self, block: &Block, visit: impl FnMut(&[u8])) -> std::io::Result<(Vec<u8>, usize)> {
        let packed = pack(block.texts(), visit);
        let sections = [times(block), metadata(block), packed.structure, packed.digits, packed.others];
        let (mut header, mut body, mut head_bytes) = (vec![VERSION], Vec::new(), 0);
        for (number, section) in sections.iter().enumerate() {
            let compressed = self.compressor.compress(section)?;
            let stored = if compressed.len() < section.len() { &compressed } else { section };
            varint::put(&mut header, section.len() as u64);
            varint::put(&mut header, stored.len() as u64);
            header.extend_from_slice(&crc32fast::hash(stored).to_le_bytes());
            body.extend_from_slice(stored);
            if number <= Section::Structure as usize {
                head_bytes = body.len();
            }
        }
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        let head_bytes = head_bytes + header.len();
        header.append(&mut body);
        Ok((header, head_bytes))
    }
}

/// The count and the scale, then each time as its distance from the one before, in that scale.
fn times(block: &Block) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() * 3);
    let distances = || block.times().windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let scale = distances().fold(0, |scale, distance| gcd(scale, distance.unsigned_abs()));
    let scale = i64::try_from(scale).unwrap_or(1).max(1);
    varint::put(&mut out, block.len() as u64);
    varint::put(&mut out, scale as u64);
    varint::put(&mut out, varint::zigzag(block.times().first().copied().unwrap_or(0)));
    distances().for_each(|distance| varint::put(&mut out, varint::zigzag(distance / scale)));
    out
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn read_times(bytes: &[u8]) -> Result<Vec<i64>, Malformed> {
    let mut reader = Reader { rest: bytes };
    let count = reader.varint()? as usize;
    if count > bytes.len() {
        return Err("more times than bytes");
    }
    let scale = reader.varint()? as i64;
    let mut t_ns = varint::unzigzag(reader.varint()?);
    let mut times = Vec::with_capacity(count);
    times.extend((count > 0).then_some(t_ns));
    let mut rest = reader.rest;
    for _ in 1..count {
        let distance = varint::take(&mut rest).ok_or("a time that is cut short or too large")?;
        t_ns = t_ns.wrapping_add(varint::unzigzag(distance).wrapping_mul(scale));
        times.push(t_ns);
    }
    Ok(times)
}

/// The sets; where there is more than the empty one, the set of each line.
fn metadata(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    put_sets(block.metadata_sets(), &mut out);
    if block.has_metadata() {
        block.put_metadata(&mut out);
    }
    out
}

#[derive(Debug, Default)]
struct Metadata {
    /// Entry 0 is the empty set.
    sets: Vec<Labels>,
    /// For each line, or none where no line has any; read where it is asked for.
    of_line: OnceCell<Vec<u32>>,
    of_line_bytes: Vec<u8>,
}

fn read_metadata(bytes: &[u8]) -> Result<Metadata, Malformed> {
    let mut reader = Reader { rest: bytes };
    let sets = reader.metadata_sets()?;
    if sets.is_empty() {
        return Err("no metadata set, not even the empty one");
    }
    Ok(Metadata { sets, of_line: OnceCell::new(), of_line_bytes: reader.rest.to_vec() })
}

impl Metadata {
    fn of_line(&self, lines: usize) -> Result<&[u32], Malformed> {
        if let Some(of_line) = self.of_line.get() {
            return Ok(of_line);
        }
        let mut reader = Reader { rest: &self.of_line_bytes };
        let read = if self.sets.len() > 1 { reader.metadata(lines, self.sets.len())? } else { Vec::new() };
        Ok(self.of_line.get_or_init(|| read))
    }
}

#[derive(Debug)]
struct Stored {
    length: usize,
    crc: u32,
    range: Range<usize>,
}

/// An encoded block, opened as far as was needed.
pub struct StoredBlock {
    /// What is at hand: the whole block, or its head.
    bytes: Vec<u8>,
    sections: Vec<Stored>,
    times: Vec<i64>,
    metadata: OnceCell<Metadata>,
    texts: OnceCell<Texts>,
    values: OnceCell<Values>,
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(stored: &[u8], length: usize) -> Result<Vec<u8>, Malformed> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new().map_err(|_| "no decompressor")?),
        };
        let bytes = decompressor.decompress(stored, length).map_err(|_| "a section that does not decompress")?;
        if bytes.len() == length { Ok(bytes) } else { Err("a section of another length than it says") }
    })
}

impl StoredBlock {
    /// Opens the head of a block, or all of it.
    pub fn open(bytes: Vec<u8>) -> Result<StoredBlock, Malformed> {
        let mut reader = Reader { rest: bytes.get(1..).unwrap_or(&[]) };
        if bytes.first() != Some(&VERSION) {
            return Err("a block of an unknown version");
        }
        let (mut sections, mut at) = (Vec::with_capacity(SECTIONS), 0usize);
        for _ in 0..SECTIONS {
            let [length, stored] = [reader.varint()?, reader.varint()?].map(|length| length as usize);
            if length > MAX_SECTION_BYTES || stored > length {
                return Err("a section that claims to be too long");
            }
            let crc = reader.crc()?;
            sections.push(Stored { length, crc, range: at..at + stored });
            at += stored;
        }
        let header_bytes = bytes.len() - reader.rest.len();
        if reader.crc()? != crc32fast::hash(&bytes[..header_bytes]) {
            return Err("a block's header is not what was written");
        }
        let body = header_bytes + CRC_BYTES;
        sections.iter_mut().for_each(|stored| stored.range = stored.range.start + body..stored.range.end + body);
        let (metadata, texts, values) = Default::default();
        let mut block = StoredBlock { bytes, sections, times: Vec::new(), metadata, texts, values };
        block.times = read_times(&block.section(&block.bytes, Section::Times, 0)?)?;
        Ok(block)
    }

    /// A section, from bytes that begin at `from` of the block.
    fn section(&self, bytes: &[u8], section: Section, from: usize) -> Result<Vec<u8>, Malformed> {
        let Stored { length, crc, range } = &self.sections[section as usize];
        let stored = range.start.checked_sub(from).and_then(|start| bytes.get(start..range.end - from));
        let stored = stored.ok_or("a block that is cut short")?;
        if crc32fast::hash(stored) != *crc {
            return Err("a section is not what was written");
        }
        if stored.len() == *length { Ok(stored.to_vec()) } else { decompress(stored, *length) }
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn times(&self) -> &[i64] {
        &self.times
    }

    fn all_metadata(&self) -> Result<&Metadata, Malformed> {
        if let Some(metadata) = self.metadata.get() {
            return Ok(metadata);
        }
        let read = read_metadata(&self.section(&self.bytes, Section::Metadata, 0)?)?;
        Ok(self.metadata.get_or_init(|| read))
    }

    /// All sets that lines have, the empty one too.
    pub fn metadata_sets(&self) -> Result<&[Labels], Malformed> {
        Ok(&self.all_metadata()?.sets)
    }

    pub fn metadata(&self, line: usize) -> Result<&Labels, Malformed> {
        let metadata = self.all_metadata()?;
        let of_line = metadata.of_line(self.len())?;
        Ok(&metadata.sets[of_line.get(line).map_or(0, |set| *set as usize)])
    }

    pub fn texts(&self) -> Result<&Texts, Malformed> {
        if let Some(texts) = self.texts.get() {
            return Ok(texts);
        }
        let read = Texts::read(self.section(&self.bytes, Section::Structure, 0)?)?;
        if read.len() != self.len() {
            return Err("texts of another number than times");
        }
        Ok(self.texts.get_or_init(|| read))
    }

    /// The values of the texts; `load` brings the bytes of the block from some place on, where they are not at hand.
    fn values<E: From<Malformed>>(&self, load: impl FnOnce(usize) -> Result<Vec<u8>, E>) -> Result<&Values, E> {
        if let Some(values) = self.values.get() {
            return Ok(values);
        }
        let from = self.sections[Section::Digits as usize].range.start;
        let loaded;
        let tail = match self.bytes.len() > from {
            true => &self.bytes[from..],
            false if self.sections[Section::Others as usize].range.end == from => &[][..],
            false => {
                loaded = load(from)?;
                &loaded
            }
        };
        let values = Values {
            digits: self.section(tail, Section::Digits, from)?,
            others: self.section(tail, Section::Others, from)?,
        };
        self.texts()?.check(&values)?;
        Ok(self.values.get_or_init(|| values))
    }

    /// Marks the lines that hold a needle.
    pub fn find<E: From<Malformed>>(
        &self,
        needle: &Needle,
        load: impl Fn(usize) -> Result<Vec<u8>, E>,
        mark: &mut dyn FnMut(u32),
    ) -> Result<(), E> {
        self.texts()?.find(needle, || self.values(&load), mark)
    }

    /// A line's text, into `out`.
    pub fn line<E: From<Malformed>>(
        &self,
        line: usize,
        load: impl Fn(usize) -> Result<Vec<u8>, E>,
        out: &mut String,
    ) -> Result<(), E> {
        let (texts, values) = (self.texts()?, self.values(load)?);
        let mut bytes = std::mem::take(out).into_bytes();
        bytes.clear();
        texts.line(line, values, &mut bytes);
        *out = String::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?;
        Ok(())
    }

    /// Hands all words and verbatim lines to `visit`, mostly once where they repeat. The block must be whole.
    pub fn each_word(&self, visit: impl FnMut(&[u8])) -> Result<(), Malformed> {
        let values = self.values::<Malformed>(|_| Err("a block that is cut short"))?;
        self.texts()?.each_word(values, visit);
        Ok(())
    }

    /// All of it.
    pub fn block(&self) -> Result<Block, Malformed> {
        let (mut block, mut text) = (Block::default(), String::new());
        for line in 0..self.len() {
            self.line::<Malformed>(line, |_| Err("a block that is cut short"), &mut text)?;
            block.push(BlockLine { t_ns: self.times[line], text: &text, metadata: self.metadata(line)? });
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::block::tests::block;
    use super::*;

    fn encoded(block: &Block) -> (Vec<u8>, usize) {
        Encoder::new().and_then(|mut encoder| encoder.encode(block, |_| {})).expect("memory to memory")
    }

    /// A block must come back, whole and from its head on.
    fn check(lines: &[(i64, &str, &str)]) {
        let block = block(lines);
        let (bytes, head_bytes) = encoded(&block);
        let whole = StoredBlock::open(bytes.clone()).expect("it opens");
        assert_eq!((whole.times(), whole.block()), (block.times(), Ok(block.clone())));
        let head = StoredBlock::open(bytes[..head_bytes].to_vec()).expect("its head opens");
        assert_eq!(head.times(), block.times());
        let (load, mut text) = (|from: usize| Ok::<_, Malformed>(bytes[from..].to_vec()), String::new());
        for (i, line) in block.lines().enumerate() {
            assert_eq!(head.metadata(i), Ok(line.metadata));
            head.line(i, load, &mut text).expect("its values load");
            assert_eq!(text, line.text);
        }
    }

    #[test]
    fn blocks_come_back() {
        check(&[]);
        check(&[(1_000, "one", "info"), (900, "zwei é", ""), (i64::MAX, "", "info"), (i64::MIN, "x", "")]);
        let lines: Vec<String> = (0..900).map(|i| format!("line {i} of {}: {:x}", i % 7, i * 7919)).collect();
        let lines: Vec<(i64, &str, &str)> =
            (0i64..).zip(&lines).map(|(i, line)| (i * 1_000_000, line.as_str(), "")).collect();
        check(&lines);
    }

    /// 512 lines of much metadata made blocks that were written, released on the bus, and could not be decoded.
    #[test]
    fn metadata_fills_a_block() {
        let mut block = Block::default();
        while !block.is_full() {
            let metadata = Labels::from_pairs([("trace", format!("{}-{}", block.len(), "x".repeat(256 * 1024)))]);
            block.push(BlockLine { t_ns: 1, text: "a line", metadata: &metadata });
        }
        assert!(block.len() < 9);
        let read = StoredBlock::open(encoded(&block).0).and_then(|stored| stored.block());
        assert_eq!(read, Ok(block));
    }

    /// Version 2, for ever.
    #[test]
    fn golden() {
        let expected = block(&[
            (1_000, "a 1", "info"),
            (2_000, "a 2", ""),
            (3_000, "a 3", ""),
            (5_000, "a x", ""),
            (4_000, "é", ""),
        ]);
        let golden = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/block-v2.bin")).expect("the fixture");
        assert_eq!(StoredBlock::open(golden).and_then(|stored| stored.block()), Ok(expected));
    }

    #[test]
    fn damage_is_noticed() {
        let block = block(&[(1, "one 1", "a"), (2, "one 2", ""), (3, "one 3", ""), (4, "one 44", ""), (9, "x", "")]);
        let (good, _) = encoded(&block);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(StoredBlock::open(bad).and_then(|stored| stored.block()).is_err(), "flipped at {at}");
            assert!(StoredBlock::open(good[..at].to_vec()).and_then(|stored| stored.block()).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_block_comes_back(lines in prop::collection::vec((any::<i64>(), "\\PC{0,20}", "[a-c]{0,2}"), 0..40)) {
            let lines: Vec<_> = lines.iter().map(|(t, text, level)| (*t, text.as_str(), level.as_str())).collect();
            check(&lines);
        }
    }
}
