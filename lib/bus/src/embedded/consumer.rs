//! Reading a topic: recent records from memory, as the producer made them; older ones from the segments.

use std::collections::VecDeque;
use std::sync::Arc;

use disk::DiskReader;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::frame::{self, FRAME_HEADER_BYTES, HEADER_BYTES};
use super::recovery::corrupt;
use super::topic::{Segment, TopicLog};
use crate::record::{MAX_RECORD_BYTES, decode};
use crate::{BusError, Consumer, Delivery, Offset};

/// What one read from disk takes at a time; a record always fits.
const READ_BYTES: usize = 1 << 20;
const _: () = assert!(READ_BYTES > MAX_RECORD_BYTES + FRAME_HEADER_BYTES);

pub struct EmbeddedConsumer {
    log: Arc<TopicLog>,
    published: watch::Receiver<Offset>,
    next: Offset,
    /// Its number among the readers of the log.
    reader: u64,
    read_ahead: VecDeque<Delivery>,
    cursor: Option<Cursor>,
}

/// A place in a segment; the file stays readable when it is deleted under it.
struct Cursor {
    segment: Segment,
    reader: Arc<dyn DiskReader>,
    /// Where the frame of the record `offset` begins.
    at: u64,
    offset: Offset,
}

impl EmbeddedConsumer {
    pub fn open(log: Arc<TopicLog>, from: Offset) -> Result<EmbeddedConsumer, BusError> {
        let reader = {
            let mut state = log.state.lock();
            state.check_range(log.topic, from)?;
            state.open_reader(from)
        };
        let published = log.published.clone();
        Ok(EmbeddedConsumer { log, published, next: from, reader, read_ahead: VecDeque::new(), cursor: None })
    }

    async fn next_delivery(&mut self) -> Result<Delivery, BusError> {
        loop {
            while let Some(delivery) = self.read_ahead.pop_front() {
                // Read twice only after a cancelled read; the second time it is not news.
                if delivery.offset == self.next {
                    self.next += 1;
                    return Ok(delivery);
                }
            }
            // What all readers have passed is freed after the lock.
            let (passed, recent, in_range, end) = {
                let mut state = self.log.state.lock();
                let passed = state.advance(self.reader, self.next);
                (passed, state.recent(self.next), state.check_range(self.log.topic, self.next), state.end)
            };
            drop(passed);
            if let Some(batch) = recent {
                self.cursor = None;
                self.next += 1;
                return Ok(Delivery { offset: self.next - 1, batch });
            }
            in_range?;
            if self.next < end {
                self.read_from_disk(end).await?;
                continue;
            }
            let next = self.next;
            let waited = self.published.wait_for(|end| *end > next).await.map(|_| ());
            // The writer may have published its last records right before it ended.
            if waited.is_err() && self.log.state.lock().end <= next {
                return Err(BusError::Closed);
            }
        }
    }

    /// Fills `read_ahead`. When this is cancelled the cursor is lost and found again by the next call.
    async fn read_from_disk(&mut self, end: Offset) -> Result<(), BusError> {
        let (log, next) = (self.log.clone(), self.next);
        let mut cursor = self.cursor.take().filter(|cursor| cursor.offset == next);
        if let Some(cursor) = &mut cursor {
            // The segment may have grown since.
            let current = log.state.lock().segment_of(next).cloned();
            cursor.segment =
                current.filter(|current| current.first == cursor.segment.first).unwrap_or(cursor.segment.clone());
        }
        let cursor = cursor.filter(|cursor| cursor.segment.end > next);
        let read = tokio::task::spawn_blocking(move || {
            let mut cursor = match cursor {
                Some(cursor) => cursor,
                None => Cursor::open(&log, next)?,
            };
            let mut deliveries = VecDeque::new();
            while deliveries.is_empty() {
                cursor.read_chunk(next, end, &mut deliveries)?;
            }
            Ok::<_, BusError>((cursor, deliveries))
        });
        let (cursor, deliveries) = read.await.map_err(|error| BusError::Unavailable(error.to_string()))??;
        self.cursor = Some(cursor);
        self.read_ahead = deliveries;
        Ok(())
    }
}

impl Cursor {
    fn open(log: &TopicLog, next: Offset) -> Result<Cursor, BusError> {
        let segment = {
            let state = log.state.lock();
            state.check_range(log.topic, next)?;
            state.segment_of(next).cloned()
        };
        let segment = segment.ok_or_else(|| BusError::Corrupt(format!("no segment holds record {next}")))?;
        let reader = match log.disk.open(&segment.path) {
            Ok(reader) => reader,
            Err(source) => {
                // Deleted since: then the offset is below the start by now.
                log.state.lock().check_range(log.topic, next)?;
                return Err(BusError::Io { context: "cannot open a bus segment", path: segment.path, source });
            }
        };
        let mut header = [0; HEADER_BYTES];
        let read = reader.read_at(0, &mut header);
        read.map_err(|source| BusError::Io {
            context: "cannot read a bus segment",
            path: segment.path.clone(),
            source,
        })?;
        if header != frame::segment_header(log.topic, segment.first) {
            return Err(corrupt(&segment.path, 0, "the segment header is damaged"));
        }
        Ok(Cursor { offset: segment.first, reader, segment, at: HEADER_BYTES as u64 })
    }

    /// Reads whole frames and decodes those in `next..end`. Stops at the durable end as the segment was known.
    fn read_chunk(&mut self, next: Offset, end: Offset, out: &mut VecDeque<Delivery>) -> Result<(), BusError> {
        let path = &self.segment.path;
        let mut buffer = vec![0; READ_BYTES];
        let read = self.reader.read_at(self.at, &mut buffer);
        let count =
            read.map_err(|source| BusError::Io { context: "cannot read a bus segment", path: path.clone(), source })?;
        let (mut rest, before) = (&buffer[..count], self.offset);
        while self.offset < end.min(self.segment.end) {
            let Some(frame) = frame::read_frame(rest).filter(|frame| frame.offset == self.offset) else {
                let is_cut = frame::record_bytes(rest)
                    .map_or(rest.len() < FRAME_HEADER_BYTES, |len| rest.len() < FRAME_HEADER_BYTES + len);
                if is_cut && self.offset > before {
                    return Ok(());
                }
                return Err(corrupt(path, self.at as usize, &format!("record {} is damaged", self.offset)));
            };
            if frame.offset >= next {
                let batch =
                    decode(frame.record).map_err(|error| corrupt(path, self.at as usize, &error.to_string()))?;
                out.push_back(Delivery { offset: frame.offset, batch: Arc::new(batch) });
            }
            self.offset += 1;
            self.at += frame.bytes() as u64;
            rest = &rest[frame.bytes()..];
        }
        Ok(())
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.log.state.lock().close_reader(self.reader);
    }
}

impl Consumer for EmbeddedConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, BusError>> {
        self.next_delivery().boxed()
    }
}
