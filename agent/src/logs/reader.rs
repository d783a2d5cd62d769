//! One read of one file: from an offset to a batch with its range.

use std::io;

use memchr::memchr_iter;
use model::{FileId, LogBatch, Origin};

use super::chain::{Chain, Next};
use super::discover::is_text;
use super::identity::read_full_at;
use super::lines::{Context, Framed, MAX_READ_BYTES, Skipping, frame};
use super::parse::Format;

/// An ordinary read; a longer one is tried when it holds no whole line.
const READ_BYTES: usize = 512 * 1024;
/// Lines that decide a file's format.
const FORMAT_LINES: usize = 10;

/// A batch ready to ship, and what becomes true once it is acknowledged.
#[derive(Debug)]
pub struct Prepared {
    pub batch: LogBatch,
    pub file: FileId,
    pub end: u64,
    pub skipping: Skipping,
    pub last_t_ns: i64,
    /// The file had more than this read took.
    pub has_more: bool,
    /// The file's identity must be saved first.
    pub needs_save: bool,
    pub truncated: u64,
    pub invalid_utf8: u64,
}

/// What a read found.
#[derive(Debug)]
pub enum Read {
    Batch(Box<Prepared>),
    /// No whole line yet.
    Nothing,
    /// The file does not hold any more what was read of it before.
    Truncated,
    /// Not a text file: left alone from now on.
    Binary,
}

/// Reads what is next. Memory is the caller's buffer, reused.
pub fn read(chain: &mut Chain, next: Next, buffer: &mut Vec<u8>, now_ns: i64) -> io::Result<Read> {
    let mut want = READ_BYTES;
    loop {
        buffer.resize(MAX_READ_BYTES, 0);
        let tracked = &mut chain.files[next.index];
        let offset = tracked.entry.offset;
        let Some(file) = &tracked.file else { return Ok(Read::Nothing) };
        let len = read_full_at(file, &mut buffer[..want], offset)?;
        // Looked at after the read: had the file been cut before it, these would not match.
        let is_cut = tracked.size().is_none_or(|size| size < offset + len as u64);
        if is_cut || !tracked.refresh_fingerprint()? {
            return Ok(Read::Truncated);
        }
        let input = &buffer[..len];
        if offset == 0 && !is_text(&input[..len.min(4096)]) {
            tracked.entry.left_alone = true;
            tracked.file = None;
            return Ok(Read::Binary);
        }
        let (is_end, is_full) = (next.is_past && len < want, len == MAX_READ_BYTES);
        let Some(format) = format_of(chain, input, is_end || is_full, now_ns) else {
            if len < want {
                return Ok(Read::Nothing);
            }
            want = MAX_READ_BYTES;
            continue;
        };
        let skipping = chain.files[next.index].entry.skipping;
        let context = Context { format, skipping, last_t_ns: chain.last_t_ns, now_ns, is_end, is_full };
        let framed = frame(input, &context);
        if framed.consumed > 0 {
            let has_more = framed.consumed < len || len == want;
            return Ok(Read::Batch(Box::new(prepared(chain, next, framed, has_more))));
        }
        if len < want || want == MAX_READ_BYTES {
            return Ok(Read::Nothing);
        }
        want = MAX_READ_BYTES;
    }
}

/// The path's format, decided by the first whole lines that it ever has.
fn format_of(chain: &mut Chain, input: &[u8], is_final: bool, now_ns: i64) -> Option<Format> {
    if chain.format.is_none() {
        let mut lines: Vec<&[u8]> = Vec::new();
        let mut start = 0;
        for newline in memchr_iter(b'\n', input).take(FORMAT_LINES) {
            let line = &input[start..newline];
            lines.push(line.strip_suffix(b"\r").unwrap_or(line));
            start = newline + 1;
        }
        if is_final && lines.is_empty() {
            lines.push(&input[..input.len().min(model::MAX_LINE_BYTES)]);
        }
        lines.retain(|line| !line.is_empty());
        match (lines.is_empty(), start > 0) {
            (false, _) => chain.format = Some(Format::detect(&lines, now_ns)),
            // Blank lines so far: taken as plain, and decided later.
            (true, true) => return Some(Format::Plain),
            (true, false) => return None,
        }
    }
    chain.format
}

fn prepared(chain: &Chain, next: Next, framed: Framed, has_more: bool) -> Prepared {
    let tracked = &chain.files[next.index];
    let (file, start) = (tracked.id(), tracked.entry.offset);
    let end = start + framed.consumed as u64;
    let mut columns = framed.columns;
    let mut streams = Vec::new();
    let mut places = [None; 3];
    for stream in &mut columns.stream {
        let place = places[*stream as usize].get_or_insert_with(|| {
            streams.push(chain.streams[*stream as usize].clone());
            (streams.len() - 1) as u32
        });
        *stream = *place;
    }
    let origin = Origin::Tailed { file, start, end };
    let batch = LogBatch::from_columns(chain.tenant.clone(), origin, streams, framed.metadata, columns)
        .unwrap_or_else(|fault| panic!("framing made a batch that is none: {fault}"));
    Prepared {
        batch,
        file,
        end,
        skipping: framed.skipping,
        last_t_ns: framed.last_t_ns,
        has_more,
        needs_save: tracked.needs_save(end),
        truncated: framed.truncated,
        invalid_utf8: framed.invalid_utf8,
    }
}
