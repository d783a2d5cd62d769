//! What the writer of a topic shares with its consumers.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use disk::Disk;
use model::Batch;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::TopicStats;
use crate::{BusError, Offset, Topic};

/// A segment file with the durable records `first..end`.
#[derive(Debug, Clone)]
pub struct Segment {
    pub first: Offset,
    pub end: Offset,
    /// Its durable length.
    pub bytes: u64,
    pub path: PathBuf,
}

pub struct TopicLog {
    pub disk: Arc<dyn Disk>,
    pub topic: Topic,
    pub dir: PathBuf,
    /// Everything below is published by its store.
    pub released: AtomicU64,
    /// Wakes consumers with the new end; closed when the writer ends.
    pub published: watch::Receiver<Offset>,
    /// Never held during I/O.
    pub state: Mutex<TopicState>,
}

/// All of it covers durable records only.
pub struct TopicState {
    /// By rising offset, without gaps.
    pub segments: VecDeque<Segment>,
    pub end: Offset,
    /// The newest records that some consumer waits for, `end - tail.len()..end`, each with its weight.
    tail: VecDeque<(Arc<Batch>, usize)>,
    tail_bytes: usize,
    max_tail_bytes: usize,
    /// Where each open consumer goes on.
    readers: BTreeMap<u64, Offset>,
    next_reader: u64,
    pub records: u64,
    pub bytes: u64,
    pub fsyncs: u64,
    pub refused: u64,
}

impl TopicLog {
    pub fn new(
        disk: Arc<dyn Disk>,
        topic: Topic,
        dir: PathBuf,
        segments: Vec<Segment>,
        max_tail_bytes: usize,
    ) -> (Arc<TopicLog>, watch::Sender<Offset>) {
        let end = segments.last().map_or(0, |segment| segment.end);
        let (sender, published) = watch::channel(end);
        let state = TopicState {
            segments: segments.into(),
            end,
            tail: VecDeque::new(),
            tail_bytes: 0,
            max_tail_bytes,
            readers: BTreeMap::new(),
            next_reader: 0,
            records: 0,
            bytes: 0,
            fsyncs: 0,
            refused: 0,
        };
        let log = TopicLog { disk, topic, dir, released: AtomicU64::new(0), published, state: Mutex::new(state) };
        (Arc::new(log), sender)
    }

    pub fn stats(&self) -> TopicStats {
        let state = self.state.lock();
        TopicStats {
            topic: self.topic,
            records: state.records,
            bytes: state.bytes,
            retained_bytes: state.retained_bytes(),
            fsyncs: state.fsyncs,
            refused: state.refused,
            start_offset: state.start(),
            end_offset: state.end,
        }
    }
}

impl TopicState {
    pub fn start(&self) -> Offset {
        self.segments.front().map_or(self.end, |segment| segment.first)
    }

    pub fn retained_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub fn check_range(&self, topic: Topic, wanted: Offset) -> Result<(), BusError> {
        let (start, end) = (self.start(), self.end);
        if (start..=end).contains(&wanted) { Ok(()) } else { Err(BusError::OutOfRange { topic, wanted, start, end }) }
    }

    /// Makes the next record visible.
    pub fn publish(&mut self, batch: Arc<Batch>) {
        let weight_bytes = batch.memory_bytes();
        self.tail.push_back((batch, weight_bytes));
        self.tail_bytes += weight_bytes;
        self.end += 1;
        while self.tail_bytes > self.max_tail_bytes {
            let Some((_, weight_bytes)) = self.tail.pop_front() else { break };
            self.tail_bytes -= weight_bytes;
        }
    }

    /// Notes a consumer that goes on at `next`; answers its number.
    pub fn open_reader(&mut self, next: Offset) -> u64 {
        self.next_reader += 1;
        self.readers.insert(self.next_reader, next);
        self.next_reader
    }

    pub fn close_reader(&mut self, reader: u64) {
        self.readers.remove(&reader);
    }

    /// Notes that a consumer has done with what is before `next`. Answers what nobody waits for any more: the memory is
    /// used again while it is warm.
    pub fn advance(&mut self, reader: u64, next: Offset) -> Vec<Arc<Batch>> {
        self.readers.insert(reader, next);
        let awaited = self.readers.values().copied().min().unwrap_or(next);
        let mut done = Vec::new();
        while self.end - (self.tail.len() as u64) < awaited
            && let Some((batch, weight_bytes)) = self.tail.pop_front()
        {
            self.tail_bytes -= weight_bytes;
            done.push(batch);
        }
        done
    }

    /// A record, if it is recent.
    pub fn recent(&self, offset: Offset) -> Option<Arc<Batch>> {
        let first = self.end - self.tail.len() as u64;
        let at = usize::try_from(offset.checked_sub(first)?).ok()?;
        self.tail.get(at).map(|(batch, _)| batch.clone())
    }

    pub fn segment_of(&self, offset: Offset) -> Option<&Segment> {
        let at = self.segments.partition_point(|segment| segment.end <= offset);
        self.segments.get(at).filter(|segment| segment.first <= offset)
    }
}
