//! Segments: immutable tantivy indexes of one tenant and one UTC day.
//!
//! A tantivy document is a [`Block`]: its stream, times, counts (fast fields), its tokens (postings without positions,
//! frequencies or norms) and its encoded content (stored; the doc store compresses nothing, blocks are compressed). The
//! streams lie beside the index in `streams.json`. tantivy builds in memory; every byte reaches the disk through [`Disk`]
//! and is fsynced before the manifest names it. tantivy's own `meta.json` is read to open an index and is never the
//! truth.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::Disk;
use model::Labels;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use tantivy::directory::{Directory, RamDirectory};
use tantivy::schema::{FAST, Field, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value};
use tantivy::store::{Compressor, StoreReader};
use tantivy::{DocSet, Index, IndexSettings, SegmentReader, TERMINATED, TantivyDocument, Term};

use super::block::Block;
use super::directory::ReadOnly;
use super::error::StoreError;
use super::manifest::{FileEntry, SegmentEntry};
use super::tokens::{inner_tokens, tokens};

const STREAMS: &str = "streams.json";
/// What tantivy may use while it builds one segment.
const BUILD_BYTES: usize = 128 << 20;
const VERIFY_CHUNK_BYTES: usize = 1 << 20;
/// Doc store blocks of 16 KiB that a segment keeps decoded.
const CACHED_STORE_BLOCKS: usize = 4;

/// A stream of a segment; pushed and tailed lines are kept apart, because only pushed ones collapse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamKey {
    pub labels: Labels,
    pub pushed: bool,
}

#[derive(Clone, Copy)]
struct Fields {
    stream: Field,
    min_ns: Field,
    max_ns: Field,
    lines: Field,
    text_bytes: Field,
    tokens: Field,
    block: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("whitespace")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let fields = Fields {
        stream: schema.add_u64_field("stream", FAST),
        min_ns: schema.add_i64_field("min_ns", FAST),
        max_ns: schema.add_i64_field("max_ns", FAST),
        lines: schema.add_u64_field("lines", FAST),
        text_bytes: schema.add_u64_field("text_bytes", FAST),
        tokens: schema.add_text_field("tokens", TextOptions::default().set_indexing_options(indexing)),
        block: schema.add_bytes_field("block", STORED),
    };
    (schema.build(), fields)
}

/// Gathers encoded blocks of one tenant and day.
#[derive(Default)]
pub struct SegmentBuilder {
    streams: Vec<StreamKey>,
    blocks: Vec<Pending>,
}

struct Pending {
    stream: u64,
    min_ns: i64,
    max_ns: i64,
    lines: u64,
    text_bytes: u64,
    tokens: String,
    encoded: Vec<u8>,
}

impl SegmentBuilder {
    pub fn add_stream(&mut self, key: StreamKey, blocks: &[Block]) {
        let stream = self.streams.len() as u64;
        self.streams.push(key);
        for block in blocks {
            let unique: BTreeSet<&str> = tokens(block.text()).collect();
            self.blocks.push(Pending {
                stream,
                min_ns: block.min_ns,
                max_ns: block.max_ns,
                lines: block.len() as u64,
                text_bytes: block.text().len() as u64,
                tokens: unique.into_iter().collect::<Vec<_>>().join(" "),
                encoded: block.encode(),
            });
        }
    }

    /// Builds the index, writes it into a directory of its own and makes it durable.
    pub fn write(
        mut self,
        disk: &dyn Disk,
        store_dir: &Path,
        id: u64,
        order: u64,
        tenant: &str,
        day: i64,
    ) -> Result<SegmentEntry, StoreError> {
        self.blocks.sort_by_key(|block| block.min_ns);
        let mut entry = SegmentEntry {
            id,
            order,
            tenant: tenant.to_owned(),
            day,
            min_ns: self.blocks.iter().map(|block| block.min_ns).min().unwrap_or(0),
            max_ns: self.blocks.iter().map(|block| block.max_ns).max().unwrap_or(0),
            lines: self.blocks.iter().map(|block| block.lines).sum(),
            text_bytes: self.blocks.iter().map(|block| block.text_bytes).sum(),
            files: Vec::new(),
        };
        let dir = store_dir.join(entry.dir_name());
        disk.remove_dir_all(&dir).map_err(StoreError::io("clearing a segment's directory", &dir))?;
        disk.create_dir_all(&dir).map_err(StoreError::io("creating a segment's directory", &dir))?;
        let streams =
            serde_json::to_vec(&self.streams).map_err(|error| StoreError::corrupt(&dir, error.to_string()))?;
        let mut files = vec![(STREAMS.to_owned(), streams)];
        files.extend(build(self.blocks)?);
        for (name, bytes) in files {
            let path = dir.join(&name);
            let written = disk.create(&path).and_then(|mut file| {
                file.append(&bytes)?;
                file.sync()
            });
            written.map_err(StoreError::io("writing a segment", &path))?;
            entry.files.push(FileEntry { name, len: bytes.len() as u64, crc: crc32fast::hash(&bytes) });
        }
        disk.sync_dir(&dir).map_err(StoreError::io("syncing a segment's directory", &dir))?;
        Ok(entry)
    }
}

/// The files of an index of these blocks.
fn build(blocks: Vec<Pending>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let (schema, fields) = schema();
    let settings = IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    let ram = RamDirectory::create();
    let builder = Index::builder().schema(schema).settings(settings);
    let mut writer = builder.single_segment_index_writer::<TantivyDocument>(ram.clone(), BUILD_BYTES)?;
    for block in blocks {
        let mut document = TantivyDocument::new();
        document.add_u64(fields.stream, block.stream);
        document.add_i64(fields.min_ns, block.min_ns);
        document.add_i64(fields.max_ns, block.max_ns);
        document.add_u64(fields.lines, block.lines);
        document.add_u64(fields.text_bytes, block.text_bytes);
        document.add_text(fields.tokens, &block.tokens);
        document.add_bytes(fields.block, &block.encoded);
        writer.add_document(document)?;
    }
    let index = writer.finalize()?;
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
}

/// An open segment. Stays readable while anybody holds it, also after its files were removed.
pub struct Segment {
    pub entry: SegmentEntry,
    pub streams: Vec<StreamKey>,
    pub blocks: Vec<BlockInfo>,
    /// A block could not be read: not merged any more.
    is_damaged: AtomicBool,
    reader: SegmentReader,
    store: StoreReader,
    fields: Fields,
}

impl Segment {
    /// Opens a segment after checking every file against its manifest entry.
    pub fn open(disk: &Arc<dyn Disk>, store_dir: &Path, entry: SegmentEntry) -> Result<Segment, StoreError> {
        let dir = store_dir.join(entry.dir_name());
        entry.files.iter().try_for_each(|file| verify(disk.as_ref(), &dir, file))?;
        let path = dir.join(STREAMS);
        let streams = disk.read(&path).map_err(StoreError::io("reading a segment's streams", &path))?;
        let streams: Vec<StreamKey> =
            serde_json::from_slice(&streams).map_err(|error| StoreError::corrupt(&path, error.to_string()))?;
        let index = Index::open(ReadOnly { disk: disk.clone(), dir: dir.clone() })?;
        let segments = index.searchable_segments()?;
        let [segment] = segments.as_slice() else {
            return Err(StoreError::corrupt(&dir, format!("{} tantivy segments instead of one", segments.len())));
        };
        let reader = SegmentReader::open(segment)?;
        let store = reader
            .get_store_reader(CACHED_STORE_BLOCKS)
            .map_err(StoreError::io("opening a segment's doc store", &dir))?;
        let blocks = infos(&reader)?;
        if blocks.iter().any(|block| block.stream as usize >= streams.len()) {
            return Err(StoreError::corrupt(&dir, "a block of no stream"));
        }
        let (_, fields) = schema();
        let is_damaged = AtomicBool::new(false);
        Ok(Segment { entry, streams, blocks, is_damaged, reader, store, fields })
    }

    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    pub fn block(&self, block: u32) -> Result<Block, StoreError> {
        let read = self.read_block(block);
        if read.is_err() {
            self.is_damaged.store(true, Ordering::Relaxed);
        }
        read
    }

    fn read_block(&self, block: u32) -> Result<Block, StoreError> {
        let document: TantivyDocument = self.store.get(block)?;
        let bytes = document.get_first(self.fields.block).and_then(|value| value.as_bytes());
        let decoded = Block::decode(bytes.ok_or_else(|| self.corrupt(block, "a document without a block"))?);
        decoded.map_err(|reason| self.corrupt(block, reason))
    }

    fn corrupt(&self, block: u32, reason: &str) -> StoreError {
        StoreError::corrupt(Path::new(&self.entry.dir_name()), format!("block {block}: {reason}"))
    }

    /// The blocks that may hold all the substrings; `None` where the index cannot tell.
    pub fn candidates(&self, needles: &[String]) -> Result<Option<RoaringBitmap>, StoreError> {
        let mut kept: Option<RoaringBitmap> = None;
        for token in needles.iter().flat_map(|needle| inner_tokens(needle)) {
            let term = Term::from_field_text(self.fields.tokens, token);
            let index = self.reader.inverted_index(self.fields.tokens)?;
            let postings = index.read_postings(&term, IndexRecordOption::Basic);
            let mut found = RoaringBitmap::new();
            if let Some(mut postings) = postings.map_err(StoreError::io("reading postings", Path::new(token)))? {
                while postings.doc() != TERMINATED {
                    found.insert(postings.doc());
                    postings.advance();
                }
            }
            kept = Some(match kept {
                Some(before) => before & found,
                None => found,
            });
        }
        Ok(kept)
    }
}

fn verify(disk: &dyn Disk, dir: &Path, file: &FileEntry) -> Result<(), StoreError> {
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

fn infos(reader: &SegmentReader) -> Result<Vec<BlockInfo>, StoreError> {
    let fast = reader.fast_fields();
    let (stream, lines, text_bytes) = (fast.u64("stream")?, fast.u64("lines")?, fast.u64("text_bytes")?);
    let (min_ns, max_ns) = (fast.i64("min_ns")?, fast.i64("max_ns")?);
    let info = |block: u32| BlockInfo {
        stream: stream.first(block).and_then(|stream| u32::try_from(stream).ok()).unwrap_or(u32::MAX),
        min_ns: min_ns.first(block).unwrap_or(i64::MIN),
        max_ns: max_ns.first(block).unwrap_or(i64::MAX),
        lines: lines.first(block).unwrap_or(0),
        text_bytes: text_bytes.first(block).unwrap_or(0),
    };
    Ok((0..reader.max_doc()).map(info).collect())
}
