//! One read of one file: from an offset to a batch with its range.

use std::io;

use memchr::memchr_iter;
use model::{FileId, LogBatch, Origin};

use super::chain::{Chain, Ending, Next};
use super::discover::is_text;
use super::encoding::Encoding;
use super::filter::Dropped;
use super::identity::{HEAD_BYTES, read_full_at};
use super::lines::{Context, Framed, MAX_READ_BYTES, Skipping, frame};
use super::parse::Format;

/// An ordinary read; a longer one is tried when it holds no whole line.
const READ_BYTES: usize = 512 * 1024;
/// Lines that decide a file's format.
const FORMAT_LINES: usize = 10;

/// What time it is, and before when lines are too old.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub now_ns: i64,
    pub oldest_ns: i64,
}

/// A batch ready to ship, and what becomes true once it is acknowledged.
#[derive(Debug)]
pub struct Prepared {
    /// Without lines there is nothing to ship.
    pub batch: LogBatch,
    pub moved: Moved,
    /// The file's identity, or where its messages end, must be saved first.
    pub needs_save: bool,
    pub bytes: u64,
    pub truncated: u64,
    pub invalid_utf8: u64,
    pub dropped: Dropped,
}

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub file: FileId,
    pub end: u64,
    /// Bytes before the end whose message is not over.
    pub held: u64,
    pub skipping: Skipping,
    pub last_t_ns: i64,
    /// How far was read, and whether messages were not over there.
    pub read: u64,
    pub is_holding: bool,
    /// The last messages of files before this one are over.
    pub releases: bool,
    /// The file had more than this read took.
    pub has_more: bool,
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
pub fn read(chain: &mut Chain, next: Next, buffer: &mut Vec<u8>, times: Times) -> io::Result<Read> {
    let (prefix, mut skipping) = match next.prefix {
        Some(first) => (chain.held_bytes(first, next.index)?, chain.files[first].entry.skipping),
        None => (Vec::new(), Skipping::No),
    };
    let held = chain.files[next.index].entry.held;
    let mut want = READ_BYTES.saturating_add(held as usize).min(MAX_READ_BYTES);
    loop {
        buffer.resize(MAX_READ_BYTES, 0);
        let tracked = &mut chain.files[next.index];
        let resume = tracked.entry.resume();
        let Some(file) = &tracked.file else { return Ok(Read::Nothing) };
        let len = read_full_at(file, &mut buffer[..want], resume)?;
        // Looked at after the read: had the file been cut before it, these would not match.
        let is_cut = tracked.size().is_none_or(|size| size < resume + len as u64);
        if is_cut || !tracked.refresh_fingerprint()? {
            return Ok(Read::Truncated);
        }
        let input = &buffer[..len];
        let encoding = encoding_of(tracked, input)?;
        if tracked.entry.offset == 0 && encoding == Encoding::Utf8 && !is_text(&input[..len.min(4096)]) {
            tracked.entry.left_alone = true;
            tracked.file = None;
            return Ok(Read::Binary);
        }
        if next.prefix.is_none() {
            skipping = tracked.entry.skipping;
        }
        let (is_end, is_full) = (next.is_past && len < want, len == MAX_READ_BYTES);
        let Some(format) = format_of(chain, input, encoding, is_end || is_full, times.now_ns) else {
            if len < want {
                return Ok(Read::Nothing);
            }
            want = MAX_READ_BYTES;
            continue;
        };
        let context = Context {
            format,
            encoding,
            skipping,
            is_end,
            prefix: &prefix,
            done: held as usize,
            ..context(chain, next, times)
        };
        let (framed, decided) = framed(input, &context, next.ending, want);
        if let Some(at) = decided {
            chain.files[next.index].entry.ends_at = Some(resume + at as u64);
        }
        if framed.consumed > held as usize {
            let has_more = framed.read < len || len == want;
            let prepared = prepared(chain, next, framed, has_more, decided.is_some());
            return Ok(Read::Batch(Box::new(prepared)));
        }
        if len < want || want == MAX_READ_BYTES {
            chain.files[next.index].waits(resume + framed.read as u64, framed.is_holding);
            return Ok(Read::Nothing);
        }
        want = MAX_READ_BYTES;
    }
}

fn context<'a>(chain: &'a Chain, next: Next, times: Times) -> Context<'a> {
    let entry = &chain.files[next.index].entry;
    let resume = entry.resume();
    Context {
        last_t_ns: chain.last_t_ns,
        oldest_ns: times.oldest_ns,
        bucket: chain.bucket.as_deref(),
        ends_at: entry.ends_at.and_then(|at| at.checked_sub(resume)).map(|at| at as usize),
        ..Context::new(&chain.rules, Format::Plain, times.now_ns)
    }
}

/// Frames; where the time has come for messages that are not over, with a decision where they end.
fn framed(input: &[u8], context: &Context<'_>, ending: Ending, want: usize) -> (Framed, Option<usize>) {
    let framed = frame(input, context);
    let is_read = input.len() < want && framed.read > 0 && context.ends_at.is_none();
    let ends = match ending {
        Ending::No => false,
        Ending::Whole => framed.waits,
        Ending::All => framed.read == input.len(),
    };
    if !(ends && is_read && framed.is_holding) {
        return (framed, None);
    }
    let at = framed.read;
    (frame(input, &Context { ends_at: Some(at), ..*context }), Some(at))
}

fn encoding_of(tracked: &super::chain::Tracked, input: &[u8]) -> io::Result<Encoding> {
    if tracked.entry.resume() == 0 {
        return Ok(Encoding::of(input));
    }
    let Some(file) = &tracked.file else { return Ok(Encoding::Utf8) };
    let mut mark = [0; 2];
    let len = read_full_at(file, &mut mark, 0)?;
    Ok(Encoding::of(&mark[..len]))
}

/// The path's format, decided by the first whole lines that it ever has.
fn format_of(chain: &mut Chain, input: &[u8], encoding: Encoding, is_final: bool, now_ns: i64) -> Option<Format> {
    if chain.format.is_some() || encoding != Encoding::Utf8 {
        return Some(chain.format.or(chain.configured).unwrap_or(Format::Plain));
    }
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
        (false, _) => {
            chain.format = Some(match chain.configured {
                Some(configured) => Format::enveloped(configured, &lines, now_ns),
                None => Format::detect(&lines, now_ns),
            });
        }
        // Blank lines so far: taken as plain, and decided later.
        (true, true) => return Some(Format::Plain),
        (true, false) => return None,
    }
    chain.format
}

fn prepared(chain: &Chain, next: Next, framed: Framed, has_more: bool, is_decided: bool) -> Prepared {
    let tracked = &chain.files[next.index];
    let (file, start) = (tracked.id(), tracked.entry.offset);
    let end = tracked.entry.resume() + framed.consumed as u64;
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
    let read = tracked.entry.resume() + framed.read as u64;
    let moved = Moved {
        file,
        end,
        held: (framed.consumed - framed.resume) as u64,
        skipping: framed.skipping,
        last_t_ns: framed.last_t_ns,
        read,
        is_holding: framed.is_holding,
        releases: next.prefix.is_some() && !framed.needs_prefix,
        has_more,
    };
    Prepared {
        batch,
        moved,
        needs_save: tracked.needs_save(end.min(HEAD_BYTES as u64)) || is_decided,
        bytes: end - start,
        truncated: framed.truncated,
        invalid_utf8: framed.invalid_utf8,
        dropped: framed.dropped,
    }
}
