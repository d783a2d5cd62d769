//! Segments: immutable, of one tenant and one UTC day.
//!
//! Blocks lie one after the other in `blocks` ([`super::stored`]), the streams in `streams`. A tantivy document is a block:
//! its stream, times, counts and place (fast fields) and its words (postings without positions, frequencies or norms;
//! [`super::words`]). What words cannot find, the filter in `grams` can ([`super::grams`]); what counting needs is mostly in
//! `counts` ([`super::counts`]). tantivy builds in memory; every
//! byte reaches the disk through [`Disk`] and is fsynced before the manifest names it. tantivy's own `meta.json` is read to
//! open an index and is never the truth.
//!
//! All files but `blocks` are checked against the manifest when a segment is opened; blocks carry checksums and are checked
//! as they are read. A block that is not what was written is reported, counted and left out; the others answer.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use disk::{Disk, DiskFile, DiskReader};
use model::Labels;
use query::AnyOf;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use tantivy::directory::{Directory, RamDirectory};
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions, Value};
use tantivy::store::{Compressor, StoreReader};
use tantivy::{
    DocSet, Index, IndexSettings, SegmentReader, SingleSegmentIndexWriter, TERMINATED, TantivyDocument, Term,
};

use super::block::Block;
use super::counts::{Counts, CountsBuilder};
use super::directory::ReadOnly;
use super::error::StoreError;
use super::grams::{Filter, FilterBuilder, hashes_of};
use super::manifest::{FileEntry, SegmentEntry};
use super::stored::{Encoder, StoredBlock};
use super::words::{Asked, Dictionary, LONG, asked, words};

const STREAMS: &str = "streams";
const BLOCKS: &str = "blocks";
const GRAMS: &str = "grams";
const COUNTS: &str = "counts";
/// Of the first format, whose blocks are in tantivy's doc store and whose words keep their case.
const STREAMS_V1: &str = "streams.json";
/// What tantivy may use while it builds one segment.
const BUILD_BYTES: usize = 16 << 20;
const STREAMS_LEVEL: i32 = 3;
/// Blocks of less text are joined by merges.
const COPIED_TEXT_BYTES: u64 = 128 * 1024;
/// The streams of a segment take no more than this.
const MAX_STREAMS_BYTES: usize = 1 << 30;
const VERIFY_CHUNK_BYTES: usize = 1 << 20;
/// Doc store blocks that a segment of the first format keeps decoded.
const CACHED_STORE_BLOCKS: usize = 4;

/// A stream of a segment; pushed and tailed lines are kept apart, because only pushed ones collapse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamKey {
    pub labels: Labels,
    pub pushed: bool,
}

/// Numbers of a document.
const NUMBERS: [&str; 8] = ["stream", "min_ns", "max_ns", "lines", "text_bytes", "at", "bytes", "head_bytes"];
const WORDS: &str = "words";

fn schema() -> (Schema, [Field; 8], Field) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("whitespace")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let numbers = NUMBERS.map(|name| match name {
        "min_ns" | "max_ns" => schema.add_i64_field(name, FAST),
        _ => schema.add_u64_field(name, FAST),
    });
    let words = schema.add_text_field(WORDS, TextOptions::default().set_indexing_options(indexing));
    (schema.build(), numbers, words)
}

/// The distinct words of a block, their case as it is.
#[derive(Default)]
struct Found(HashSet<Vec<u8>>);

impl Found {
    fn take(&mut self, text: &[u8]) {
        for word in words(text) {
            if !self.0.contains(word) {
                self.0.insert(word.to_vec());
            }
        }
    }
}

/// Builds a segment: takes the blocks stream by stream, and writes them as they come.
pub struct SegmentBuilder<'d> {
    disk: &'d dyn Disk,
    entry: SegmentEntry,
    dir: std::path::PathBuf,
    streams: Vec<StreamKey>,
    blocks: Box<dyn DiskFile>,
    written: FileEntry,
    crc: crc32fast::Hasher,
    encoder: Encoder,
    filter: FilterBuilder,
    counts: CountsBuilder,
    ram: RamDirectory,
    index: SingleSegmentIndexWriter,
    fields: ([Field; 8], Field),
}

impl<'d> SegmentBuilder<'d> {
    pub fn new(disk: &'d dyn Disk, store_dir: &Path, entry: SegmentEntry) -> Result<SegmentBuilder<'d>, StoreError> {
        let dir = store_dir.join(entry.dir_name());
        disk.remove_dir_all(&dir).map_err(StoreError::io("clearing a segment's directory", &dir))?;
        disk.create_dir_all(&dir).map_err(StoreError::io("creating a segment's directory", &dir))?;
        let path = dir.join(BLOCKS);
        let blocks = disk.create(&path).map_err(StoreError::io("creating a segment's blocks", &path))?;
        let settings = IndexSettings {
            docstore_compression: Compressor::None,
            docstore_compress_dedicated_thread: false,
            ..IndexSettings::default()
        };
        let ram = RamDirectory::create();
        let (schema, numbers, words) = schema();
        let index = Index::builder().schema(schema).settings(settings);
        let index = index.single_segment_index_writer::<TantivyDocument>(ram.clone(), BUILD_BYTES)?;
        Ok(SegmentBuilder {
            disk,
            entry,
            streams: Vec::new(),
            blocks,
            written: FileEntry { name: BLOCKS.to_owned(), len: 0, crc: 0 },
            crc: crc32fast::Hasher::new(),
            encoder: Encoder::new().map_err(StoreError::io("starting a compressor", &dir))?,
            dir,
            filter: FilterBuilder::default(),
            counts: CountsBuilder::default(),
            ram,
            index,
            fields: (numbers, words),
        })
    }

    /// Whether it has no line.
    pub fn is_empty(&self) -> bool {
        self.entry.lines == 0
    }

    /// Begins a stream; its number is for the blocks that follow.
    pub fn add_stream(&mut self, key: StreamKey) -> u64 {
        self.streams.push(key);
        self.streams.len() as u64 - 1
    }

    pub fn add_block(&mut self, stream: u64, block: &Block) -> Result<(), StoreError> {
        let mut found = Found::default();
        let encoded = self.encoder.encode(block, |text| found.take(text));
        let encoded = encoded.map_err(|error| StoreError::io("compressing a block", &self.dir)(error))?;
        self.append(stream, block, encoded, found)
    }

    /// Takes a block of another segment as it is.
    pub fn copy_block(&mut self, stream: u64, segment: &Segment, number: u32) -> Result<(), StoreError> {
        let bytes = segment.tail(number, 0)?;
        let mut found = Found::default();
        let read = StoredBlock::open(bytes.clone()).and_then(|stored| {
            stored.each_word(|text| found.take(text))?;
            stored.block()
        });
        let block = read.map_err(|reason| segment.corrupt(number, reason))?;
        let head_bytes = segment.blocks[number as usize].head_bytes as usize;
        self.append(stream, &block, (bytes, head_bytes), found)
    }

    fn append(
        &mut self,
        stream: u64,
        block: &Block,
        (bytes, head_bytes): (Vec<u8>, usize),
        Found(found): Found,
    ) -> Result<(), StoreError> {
        let text: BTreeSet<String> =
            found.iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
        let numbers = [
            stream,
            block.min_ns as u64,
            block.max_ns as u64,
            block.len() as u64,
            block.text().len() as u64,
            self.written.len,
            bytes.len() as u64,
            head_bytes as u64,
        ];
        let (fields, words) = self.fields;
        let mut document = TantivyDocument::new();
        for ((field, name), number) in fields.into_iter().zip(NUMBERS).zip(numbers) {
            match name {
                "min_ns" | "max_ns" => document.add_i64(field, number as i64),
                _ => document.add_u64(field, number),
            }
        }
        document.add_text(words, text.into_iter().collect::<Vec<_>>().join(" "));
        self.index.add_document(document)?;
        self.filter.add_block(block.texts());
        self.counts.add_block(block);
        self.blocks.append(&bytes).map_err(StoreError::io("writing a segment", &self.dir.join(BLOCKS)))?;
        self.crc.update(&bytes);
        self.written.len += bytes.len() as u64;
        self.entry.min_ns = self.entry.min_ns.min(block.min_ns);
        self.entry.max_ns = self.entry.max_ns.max(block.max_ns);
        self.entry.lines += block.len() as u64;
        self.entry.text_bytes += block.text().len() as u64;
        Ok(())
    }

    /// Completes the segment and makes it durable.
    pub fn finish(mut self) -> Result<SegmentEntry, StoreError> {
        let path = self.dir.join(BLOCKS);
        self.blocks.sync().map_err(StoreError::io("syncing a segment", &path))?;
        self.written.crc = self.crc.finalize();
        self.entry.files.push(self.written);
        let streams =
            serde_json::to_vec(&self.streams).map_err(|error| StoreError::corrupt(&self.dir, error.to_string()))?;
        let streams = zstd::bulk::compress(&streams, STREAMS_LEVEL);
        let streams = streams.map_err(StoreError::io("compressing the streams", &self.dir))?;
        let built = [(STREAMS, streams), (GRAMS, self.filter.encode()), (COUNTS, self.counts.encode())];
        let mut files: Vec<(String, Vec<u8>)> = built.map(|(name, bytes)| (name.to_owned(), bytes)).into();
        files.extend(index_files(&self.ram, &self.index.finalize()?)?);
        for (name, bytes) in files {
            let path = self.dir.join(&name);
            let written = self.disk.create(&path).and_then(|mut file| {
                file.append(&bytes)?;
                file.sync()
            });
            written.map_err(StoreError::io("writing a segment", &path))?;
            self.entry.files.push(FileEntry { name, len: bytes.len() as u64, crc: crc32fast::hash(&bytes) });
        }
        self.disk.sync_dir(&self.dir).map_err(StoreError::io("syncing a segment's directory", &self.dir))?;
        Ok(self.entry)
    }
}

/// The files of a built index.
fn index_files(ram: &RamDirectory, index: &Index) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut files = Vec::new();
    let meta = Path::new("meta.json");
    files.push(("meta.json".to_owned(), ram.atomic_read(meta).map_err(tantivy::TantivyError::from)?));
    for path in index.load_metas()?.list_segment_files() {
        if !ram.exists(&path).map_err(tantivy::TantivyError::from)? {
            continue;
        }
        let slice = ram.open_read(&path).map_err(tantivy::TantivyError::from)?;
        let bytes = slice.read_bytes().map_err(StoreError::io("reading a built segment", &path))?;
        files.push((path.to_string_lossy().into_owned(), bytes.as_slice().to_vec()));
    }
    Ok(files)
}

/// What a segment knows of a block without reading it.
#[derive(Debug, Clone, Copy)]
pub struct BlockInfo {
    pub stream: u32,
    pub min_ns: i64,
    pub max_ns: i64,
    pub lines: u64,
    pub text_bytes: u64,
    at: u64,
    bytes: u64,
    head_bytes: u64,
}

/// A block of a segment, opened.
pub enum Opened {
    Stored(Box<StoredBlock>),
    /// Of the first format.
    Whole(Box<Block>),
}

enum Content {
    Stored { blocks: Arc<dyn DiskReader>, filter: Filter, counts: Option<Counts> },
    DocStore { store: Box<StoreReader>, field: Field },
}

/// An open segment. Stays readable while anybody holds it, also after its files were removed.
pub struct Segment {
    pub entry: SegmentEntry,
    pub streams: Vec<StreamKey>,
    pub blocks: Vec<BlockInfo>,
    /// Reads that failed. A segment with any is not merged any more.
    failures: AtomicU64,
    reader: SegmentReader,
    words: Field,
    dictionary: OnceLock<Dictionary>,
    content: Content,
}

impl Segment {
    /// Opens a segment after checking its files against their manifest entries.
    pub fn open(disk: &Arc<dyn Disk>, store_dir: &Path, entry: SegmentEntry) -> Result<Segment, StoreError> {
        let dir = store_dir.join(entry.dir_name());
        let to_check = entry.files.iter().filter(|file| file.name != BLOCKS);
        to_check.into_iter().try_for_each(|file| verify(disk.as_ref(), &dir, file))?;
        let streams = read_streams(disk.as_ref(), &dir, &entry)?;
        let index = Index::open(ReadOnly { disk: disk.clone(), dir: dir.clone() })?;
        let segments = index.searchable_segments()?;
        let [segment] = segments.as_slice() else {
            return Err(StoreError::corrupt(&dir, format!("{} tantivy segments instead of one", segments.len())));
        };
        let reader = SegmentReader::open(segment)?;
        let schema = index.schema();
        let content = match schema.get_field("block") {
            Ok(field) => {
                let store = reader.get_store_reader(CACHED_STORE_BLOCKS);
                let store = store.map_err(StoreError::io("opening a segment's doc store", &dir))?;
                Content::DocStore { store: Box::new(store), field }
            }
            Err(_) => {
                let open = |name: &str| disk.open(&dir.join(name)).map_err(StoreError::io("opening a segment", &dir));
                let filter = Filter::open(open(GRAMS)?).map_err(StoreError::io("opening a segment's filter", &dir))?;
                // Segments of earlier versions have none.
                let counts = match entry.files.iter().any(|file| file.name == COUNTS) {
                    true => Some(Counts::open(open(COUNTS)?)),
                    false => None,
                };
                let counts = counts.transpose().map_err(StoreError::io("opening a segment's counts", &dir))?;
                Content::Stored { blocks: open(BLOCKS)?, filter, counts }
            }
        };
        let blocks = infos(&reader, matches!(content, Content::Stored { .. }))?;
        if blocks.iter().any(|block| block.stream as usize >= streams.len()) {
            return Err(StoreError::corrupt(&dir, "a block of no stream"));
        }
        let words = schema.get_field(WORDS).or_else(|_| schema.get_field("tokens"))?;
        let (failures, dictionary) = Default::default();
        Ok(Segment { entry, streams, blocks, failures, reader, words, dictionary, content })
    }

    /// Blocks that could not be read, counted each time.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Says and counts that a block could not be read.
    pub fn report(&self, block: u32, error: &StoreError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, segment = self.entry.dir_name(), block, "a block cannot be read; it is left out");
    }

    /// Opens a block as far as its head.
    pub fn open_block(&self, block: u32) -> Result<Opened, StoreError> {
        match &self.content {
            Content::Stored { .. } => {
                let head = self.read(block, 0, self.blocks[block as usize].head_bytes)?;
                let opened = StoredBlock::open(head).map_err(|reason| self.corrupt(block, reason))?;
                match opened.len() as u64 == self.blocks[block as usize].lines {
                    true => Ok(Opened::Stored(Box::new(opened))),
                    false => Err(self.corrupt(block, "a block of another number of lines")),
                }
            }
            Content::DocStore { store, field } => {
                let document: TantivyDocument = store.get(block)?;
                let bytes = document.get_first(*field).and_then(|value| value.as_bytes());
                let bytes = bytes.ok_or_else(|| self.corrupt(block, "a document without a block"))?;
                let decoded = Block::decode(bytes).map_err(|reason| self.corrupt(block, reason))?;
                Ok(Opened::Whole(Box::new(decoded)))
            }
        }
    }

    /// What is counted of its blocks beforehand.
    pub fn counts(&self) -> Option<&Counts> {
        match &self.content {
            Content::Stored { counts, .. } => counts.as_ref(),
            Content::DocStore { .. } => None,
        }
    }

    /// All of a block.
    pub fn block(&self, block: u32) -> Result<Block, StoreError> {
        if let Content::DocStore { .. } = self.content
            && let Opened::Whole(whole) = self.open_block(block)?
        {
            return Ok(*whole);
        }
        let bytes = self.read(block, 0, self.blocks[block as usize].bytes)?;
        let read = StoredBlock::open(bytes).and_then(|stored| stored.block());
        read.map_err(|reason| self.corrupt(block, reason))
    }

    /// Whether a block may go into another segment as it is.
    pub fn is_copyable(&self, block: u32) -> bool {
        let is_stored = matches!(self.content, Content::Stored { .. });
        is_stored && self.blocks[block as usize].text_bytes >= COPIED_TEXT_BYTES
    }

    /// The bytes of a block from some place on.
    pub fn tail(&self, block: u32, from: usize) -> Result<Vec<u8>, StoreError> {
        self.read(block, from as u64, self.blocks[block as usize].bytes)
    }

    fn read(&self, block: u32, from: u64, to: u64) -> Result<Vec<u8>, StoreError> {
        let Content::Stored { blocks, .. } = &self.content else { return Ok(Vec::new()) };
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(MAX_STREAMS_BYTES);
        let mut bytes = vec![0; length];
        let read = blocks.read_at(self.blocks[block as usize].at + from, &mut bytes);
        let read = read.map_err(StoreError::io("reading a block", Path::new(&self.entry.dir_name())))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub fn corrupt(&self, block: u32, reason: &str) -> StoreError {
        let at = self.blocks[block as usize].at;
        StoreError::corrupt(&Path::new(&self.entry.dir_name()).join(BLOCKS), format!("block {block} at {at}: {reason}"))
    }

    /// The blocks that may hold a text of each of these; `None` where the index cannot tell.
    pub fn candidates(&self, contains: &[AnyOf]) -> Result<Option<RoaringBitmap>, StoreError> {
        let mut kept: Option<RoaringBitmap> = None;
        for any in contains {
            let mut union = Some(RoaringBitmap::new());
            for text in &any.texts {
                let found = self.candidates_of(text)?;
                union = union.zip(found).map(|(union, found)| union | found);
            }
            kept = match (kept, union) {
                (Some(before), Some(found)) => Some(before & found),
                (before, found) => before.or(found),
            };
        }
        Ok(kept)
    }

    fn candidates_of(&self, text: &str) -> Result<Option<RoaringBitmap>, StoreError> {
        let Content::Stored { filter, .. } = &self.content else { return Ok(None) };
        let hashes = hashes_of(text.as_bytes());
        let mut found = match asked(text) {
            Asked::Words(words) => {
                let mut found = self.postings(&words[0])?;
                for word in &words[1..] {
                    found &= self.postings(word)?;
                }
                Some(found)
            }
            // The filter is quicker than a walk through the dictionary.
            Asked::Part(part) if hashes.is_empty() => Some(self.postings_of_part(&part)?),
            Asked::Part(_) | Asked::Nothing => None,
        };
        if !hashes.is_empty() {
            let mut blocks: Vec<u32> = match &found {
                Some(found) => found.iter().collect(),
                None => (0..self.blocks.len() as u32).collect(),
            };
            let dir = self.entry.dir_name();
            filter.narrow(&hashes, &mut blocks).map_err(StoreError::io("reading a filter", Path::new(&dir)))?;
            found = Some(blocks.into_iter().collect());
        }
        Ok(found)
    }

    fn postings(&self, word: &str) -> Result<RoaringBitmap, StoreError> {
        let term = Term::from_field_text(self.words, word);
        let index = self.reader.inverted_index(self.words)?;
        let mut found = RoaringBitmap::new();
        let postings = index.read_postings(&term, IndexRecordOption::Basic);
        if let Some(mut postings) = postings.map_err(StoreError::io("reading postings", Path::new(word)))? {
            while postings.doc() != TERMINATED {
                found.insert(postings.doc());
                postings.advance();
            }
        }
        Ok(found)
    }

    /// The blocks with a word that holds this, or with one that is not indexed.
    fn postings_of_part(&self, part: &str) -> Result<RoaringBitmap, StoreError> {
        let words = self.dictionary()?.with(part);
        words.map(|word| self.postings(word)).try_fold(self.postings(LONG)?, |found, of_word| Ok(found | of_word?))
    }

    /// All words, read at the first search for a part of one.
    fn dictionary(&self) -> Result<&Dictionary, StoreError> {
        if let Some(dictionary) = self.dictionary.get() {
            return Ok(dictionary);
        }
        let index = self.reader.inverted_index(self.words)?;
        let mut dictionary = Dictionary::default();
        let terms = index.terms().stream();
        let mut terms = terms.map_err(StoreError::io("reading words", Path::new(&self.entry.dir_name())))?;
        while terms.advance() {
            dictionary.add(std::str::from_utf8(terms.key()).unwrap_or(""));
        }
        Ok(self.dictionary.get_or_init(|| dictionary))
    }
}

fn read_streams(disk: &dyn Disk, dir: &Path, entry: &SegmentEntry) -> Result<Vec<StreamKey>, StoreError> {
    let is_first_format = entry.files.iter().any(|file| file.name == STREAMS_V1);
    let path = dir.join(if is_first_format { STREAMS_V1 } else { STREAMS });
    let mut json = disk.read(&path).map_err(StoreError::io("reading a segment's streams", &path))?;
    if !is_first_format {
        let length = zstd::zstd_safe::get_frame_content_size(&json).ok().flatten().unwrap_or(0) as usize;
        let unpacked = zstd::bulk::decompress(&json, length.min(MAX_STREAMS_BYTES));
        json = unpacked.map_err(|error| StoreError::corrupt(&path, error.to_string()))?;
    }
    serde_json::from_slice(&json).map_err(|error| StoreError::corrupt(&path, error.to_string()))
}

/// Checks a file against what the manifest says of it.
pub fn verify(disk: &dyn Disk, dir: &Path, file: &FileEntry) -> Result<(), StoreError> {
    let path = dir.join(&file.name);
    let reader = disk.open(&path).map_err(StoreError::io("opening a segment's file", &path))?;
    let (mut hasher, mut at) = (crc32fast::Hasher::new(), 0u64);
    let mut buffer = vec![0; VERIFY_CHUNK_BYTES];
    loop {
        let read = reader.read_at(at, &mut buffer).map_err(StoreError::io("reading a segment's file", &path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
    if (at, hasher.finalize()) != (file.len, file.crc) {
        return Err(StoreError::corrupt(&path, "not the length and checksum that the manifest names"));
    }
    Ok(())
}

fn infos(reader: &SegmentReader, has_places: bool) -> Result<Vec<BlockInfo>, StoreError> {
    let fast = reader.fast_fields();
    let (stream, lines, text_bytes) = (fast.u64("stream")?, fast.u64("lines")?, fast.u64("text_bytes")?);
    let (min_ns, max_ns) = (fast.i64("min_ns")?, fast.i64("max_ns")?);
    let places = match has_places {
        true => Some([fast.u64("at")?, fast.u64("bytes")?, fast.u64("head_bytes")?]),
        false => None,
    };
    let info = |block: u32| {
        let [at, bytes, head_bytes] = places
            .as_ref()
            .map_or([0; 3], |places| [0, 1, 2].map(|place: usize| places[place].first(block).unwrap_or(0)));
        BlockInfo {
            stream: stream.first(block).and_then(|stream| u32::try_from(stream).ok()).unwrap_or(u32::MAX),
            min_ns: min_ns.first(block).unwrap_or(i64::MIN),
            max_ns: max_ns.first(block).unwrap_or(i64::MAX),
            lines: lines.first(block).unwrap_or(0),
            text_bytes: text_bytes.first(block).unwrap_or(0),
            at,
            bytes,
            head_bytes,
        }
    };
    Ok((0..reader.max_doc()).map(info).collect())
}
