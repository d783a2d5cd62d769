//! Reading: the blocks that a request may need, and a merge of them in time order.
//!
//! A [`Snapshot`] is the store at one moment: references, no locks. Blocks are opened when the merge reaches their time,
//! a few at once, so a query that stops early has read little. Ties keep one order: segments by their order, then the
//! frozen head, then the head; within those by block and line. A backward query is the reverse. Copies of a pushed line
//! (same stream, instant, text and metadata) come out once, as the first that the query meets. What needs no order is read by
//! [`super::unordered`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::sync::Arc;

use model::{Labels, matches_all};
use query::{LineSelect, LineVisitor, Lines, QueryError, SelectedLine, Tally, Visit};

use super::block::BlockLine;
use super::candidate::{Budget, Candidate, check_deadline};
use super::erasure::{Erasure, reaching};
use super::head::{HeadBlock, line_hash};
use super::opened::{OpenBlock, Place, Sought};
use super::retention::Kept;
use super::segment::{Segment, StreamKey};
use super::tally::{Asked, tally};
use super::unordered;

/// Text that the open blocks of one query may stand for.
const MAX_OPEN_BYTES: u64 = 1 << 30;
/// Blocks that are opened side by side.
const OPENED_AT_ONCE: usize = 24;
const LINES_PER_DEADLINE_CHECK: u32 = 4096;

/// The blocks of one tenant at one moment.
#[derive(Default)]
pub struct Snapshot {
    /// Batches applied when it was taken.
    pub applied: u64,
    pub head: Vec<HeadRun>,
    pub segments: Vec<Arc<Segment>>,
    /// What of the tenant is not beyond retention.
    pub kept: Kept,
    /// Of the tenant, by their numbers.
    pub erasures: Vec<Arc<Erasure>>,
    pub budget: Arc<Budget>,
}

/// The head blocks of one stream.
pub struct HeadRun {
    pub labels: Labels,
    pub pushed: bool,
    /// Heads come after all segments: the frozen one, then the one that grows.
    pub order: u64,
    pub blocks: Vec<Arc<HeadBlock>>,
    /// Erasures with lower numbers are carried out in it.
    pub erased_below: u64,
}

/// A block being read.
struct Cursor {
    candidate: Candidate,
    labels_hash: u64,
    opened: OpenBlock,
    at: usize,
}

/// Orders by time, then rank, then line; everything flipped for a backward query.
type Key = (i64, (u64, u64), u32);

impl Cursor {
    fn key(&self, backward: bool) -> Option<Key> {
        let line = *self.opened.lines.get(self.at)?;
        let t_ns = self.opened.times()[line as usize];
        let (a, b) = self.candidate.rank;
        Some(if backward { (!t_ns, (!a, !b), !line) } else { (t_ns, (a, b), line) })
    }
}

/// Sizes of what a selector covers, by whole blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    pub streams: u64,
    pub chunks: u64,
    pub entries: u64,
    pub bytes: u64,
}

impl Snapshot {
    /// The same, of which no more text may be read; 0 for no limit.
    pub fn within(self, limit_bytes: u64) -> Snapshot {
        Snapshot { budget: Arc::new(Budget::new(limit_bytes)), ..self }
    }

    /// The blocks that a request may need, in no order.
    pub fn candidates(&self, request: &LineSelect<'_>) -> Result<Vec<Candidate>, QueryError> {
        let overlaps = |min_ns: i64, max_ns: i64| min_ns < request.end_ns && max_ns >= request.start_ns;
        let mut found = Vec::new();
        for segment in self.segments.iter().filter(|segment| overlaps(segment.entry.min_ns, segment.entry.max_ns)) {
            // From when on the lines of each stream are wanted.
            let wanted =
                |key: &StreamKey| matches_all(request.matchers, &key.labels).then(|| self.kept.oldest_ns(&key.labels));
            let wanted: Vec<Option<i64>> = segment.streams.iter().map(wanted).collect();
            if wanted.iter().all(Option::is_none) {
                continue;
            }
            let indexed =
                segment.candidates(request.contains).map_err(|error| QueryError::Storage(error.to_string()))?;
            for (number, info) in (0u32..).zip(&segment.blocks) {
                let is_indexed = indexed.as_ref().is_none_or(|indexed| indexed.contains(number));
                let Some(oldest_ns) = wanted[info.stream as usize] else { continue };
                if !is_indexed || !overlaps(info.min_ns, info.max_ns) || info.max_ns < oldest_ns {
                    continue;
                }
                let key = &segment.streams[info.stream as usize];
                let bounds = (info.min_ns, info.max_ns);
                let erasures = reaching(&self.erasures, segment.entry.erased_below, &key.labels, bounds);
                if erasures.iter().any(|erasure| erasure.covers(info.min_ns, info.max_ns)) {
                    continue;
                }
                found.push(Candidate {
                    labels: key.labels.clone(),
                    pushed: key.pushed,
                    min_ns: info.min_ns,
                    max_ns: info.max_ns,
                    rank: (segment.entry.order, u64::from(number)),
                    lines: info.lines,
                    text_bytes: info.text_bytes,
                    place: Place::Segment(segment.clone(), number),
                    oldest_ns,
                    erasures,
                    budget: self.budget.clone(),
                });
            }
        }
        for run in self.head.iter().filter(|run| matches_all(request.matchers, &run.labels)) {
            let in_time = |head: &&Arc<HeadBlock>| overlaps(head.block.min_ns, head.block.max_ns);
            let erasures = |head: &HeadBlock| {
                let bounds = (head.block.min_ns, head.block.max_ns);
                reaching(&self.erasures, run.erased_below, &run.labels, bounds)
            };
            let oldest_ns = self.kept.oldest_ns(&run.labels);
            found.extend(run.blocks.iter().filter(in_time).map(|head| Candidate {
                oldest_ns,
                erasures: erasures(head),
                labels: run.labels.clone(),
                pushed: run.pushed,
                min_ns: head.block.min_ns,
                max_ns: head.block.max_ns,
                rank: (run.order, head.number),
                lines: head.block.len() as u64,
                text_bytes: head.block.text().len() as u64,
                place: Place::Head(head.clone()),
                budget: self.budget.clone(),
            }));
        }
        Ok(found)
    }

    /// The label sets of streams with a block in the request's time.
    pub fn streams(&self, request: &LineSelect<'_>) -> Result<BTreeSet<Labels>, QueryError> {
        Ok(self.candidates(request)?.into_iter().map(|candidate| candidate.labels).collect())
    }

    pub fn volume(&self, request: &LineSelect<'_>) -> Result<Volume, QueryError> {
        let candidates = self.candidates(request)?;
        let streams: HashSet<&Labels> = candidates.iter().map(|candidate| &candidate.labels).collect();
        Ok(Volume {
            streams: streams.len() as u64,
            chunks: candidates.len() as u64,
            entries: candidates.iter().map(|candidate| candidate.lines).sum(),
            bytes: candidates.iter().map(|candidate| candidate.text_bytes).sum(),
        })
    }
}

impl Lines for Snapshot {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        let mut waiting = self.candidates(request)?;
        // The next one to open is the last.
        match request.backward {
            false => waiting.sort_by_key(|candidate| Reverse(candidate.min_ns)),
            true => waiting.sort_by_key(|candidate| candidate.max_ns),
        }
        let sought = Sought::new(request);
        let queue = BinaryHeap::new();
        let mut merge = Merge { request, sought, waiting, cursors: Vec::new(), queue, open_bytes: 0 };
        let (mut emitted, mut buffer) = (Emitted::default(), String::new());
        let mut countdown = LINES_PER_DEADLINE_CHECK;
        while let Some(slot) = merge.next()? {
            let Some(cursor) = &mut merge.cursors[slot] else { continue };
            // As long as this block stays in front, the queue rests.
            let limit = merge.queue.peek().map(|Reverse((key, _))| *key);
            let edge = merge.waiting.last().map(|candidate| edge(candidate, request.backward));
            while let Some(key) = cursor.key(request.backward) {
                if limit.is_some_and(|limit| key > limit) || edge.is_some_and(|edge| key.0 >= edge) {
                    break;
                }
                let line = cursor.opened.lines[cursor.at];
                cursor.at += 1;
                let (metadata, text) = match cursor.opened.line(line, &mut buffer) {
                    Ok(read) => read,
                    Err(error) => {
                        cursor.candidate.report(&error);
                        cursor.at = usize::MAX;
                        break;
                    }
                };
                let t_ns = cursor.opened.times()[line as usize];
                if cursor.candidate.pushed && !emitted.is_new(BlockLine { t_ns, text, metadata }, cursor.labels_hash) {
                    continue;
                }
                let labels = &cursor.candidate.labels;
                if visit(SelectedLine { labels, metadata, t_ns, text }).is_break() {
                    return Ok(());
                }
                countdown -= 1;
                if countdown == 0 {
                    countdown = LINES_PER_DEADLINE_CHECK;
                    check_deadline(request.deadline)?;
                }
            }
            merge.put_back(slot);
        }
        Ok(())
    }

    fn tally(
        &self,
        request: &LineSelect<'_>,
        edges: &[i64],
        with_bytes: bool,
        visit: &mut (dyn FnMut(Tally<'_>) -> Visit + Send),
    ) -> Result<(), QueryError> {
        tally(self.candidates(request)?, request, &Asked { edges, with_bytes }, visit)
    }

    fn scan(&self, request: &LineSelect<'_>, visitors: &mut [LineVisitor<'_>]) -> Result<(), QueryError> {
        unordered::scan(self.candidates(request)?, request, visitors)
    }
}

/// The first instant at which a candidate may have a line, in the order of the query.
fn edge(candidate: &Candidate, backward: bool) -> i64 {
    if backward { !candidate.max_ns } else { candidate.min_ns }
}

struct Merge<'a> {
    request: &'a LineSelect<'a>,
    sought: Sought,
    waiting: Vec<Candidate>,
    cursors: Vec<Option<Cursor>>,
    queue: BinaryHeap<Reverse<(Key, usize)>>,
    open_bytes: u64,
}

impl Merge<'_> {
    /// The cursor whose line comes next, taken out of the queue.
    fn next(&mut self) -> Result<Option<usize>, QueryError> {
        loop {
            let front = self.queue.peek().map(|Reverse((key, _))| key.0);
            let must_open = |candidate: &Candidate| front.is_none_or(|t| edge(candidate, self.request.backward) <= t);
            match self.waiting.last().is_some_and(must_open) {
                true => self.open_some()?,
                false => return Ok(self.queue.pop().map(|Reverse((_, slot))| slot)),
            }
        }
    }

    /// Opens the next ones, side by side.
    fn open_some(&mut self) -> Result<(), QueryError> {
        let some = self.waiting.split_off(self.waiting.len().saturating_sub(OPENED_AT_ONCE));
        some.iter().try_for_each(|candidate| candidate.check(self.request))?;
        for (candidate, opened) in unordered::open_all(some, self.request, &self.sought) {
            let Some(opened) = opened.filter(|opened| !opened.lines.is_empty()) else { continue };
            self.take(candidate, opened)?;
        }
        Ok(())
    }

    fn take(&mut self, candidate: Candidate, mut opened: OpenBlock) -> Result<(), QueryError> {
        if self.request.backward {
            opened.lines.reverse();
        }
        self.open_bytes += candidate.text_bytes;
        if self.open_bytes > MAX_OPEN_BYTES {
            return Err(QueryError::Limit("read too many streams at once: narrow the selector or the time".to_owned()));
        }
        let labels_hash = if candidate.pushed { candidate.labels.hash("") } else { 0 };
        self.cursors.push(Some(Cursor { candidate, labels_hash, opened, at: 0 }));
        self.put_back(self.cursors.len() - 1);
        Ok(())
    }

    /// Queues a cursor by its next line, or closes it.
    fn put_back(&mut self, slot: usize) {
        let Some(cursor) = &self.cursors[slot] else { return };
        match cursor.key(self.request.backward) {
            Some(key) => self.queue.push(Reverse((key, slot))),
            None => {
                self.open_bytes -= cursor.candidate.text_bytes;
                self.cursors[slot] = None;
            }
        }
    }
}

/// The pushed lines that came out at the current instant.
#[derive(Default)]
struct Emitted {
    t_ns: i64,
    hashes: HashSet<u128>,
}

impl Emitted {
    fn is_new(&mut self, line: BlockLine<'_>, labels_hash: u64) -> bool {
        if self.t_ns != line.t_ns {
            self.t_ns = line.t_ns;
            self.hashes.clear();
        }
        self.hashes.insert(line_hash(line) ^ u128::from(labels_hash))
    }
}
