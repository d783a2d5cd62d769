//! The writer thread of a topic: group commit, closing of segments, refusal and repair, release.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use disk::DiskFile;
use model::Batch;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::EmbeddedOptions;
use super::frame::{self, FRAME_HEADER_BYTES, Frame, HEADER_BYTES};
use super::topic::{Segment, TopicLog};
use crate::record::Encoded;
use crate::{BusError, Offset, Topic};

/// A group is written in one piece of memory of about this size.
const MAX_GROUP_BYTES: usize = 8 << 20;

pub enum Command {
    Append(Pending),
    /// `TopicLog::released` has moved.
    Release,
}

/// A record that waits for its acknowledgement.
pub struct Pending {
    pub batch: Arc<Batch>,
    pub encoded: Encoded,
    pub answer: oneshot::Sender<Result<Offset, BusError>>,
    /// Its place in the queue, given back with the answer.
    pub _room: OwnedSemaphorePermit,
}

impl Pending {
    fn disk_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.encoded.frame.len()) as u64
    }
}

pub struct Writer {
    log: Arc<TopicLog>,
    published: watch::Sender<Offset>,
    options: EmbeddedOptions,
    /// The open end of the last segment; none after a start, a failure, or when it was full.
    active: Option<Box<dyn DiskFile>>,
    /// The last segment may hold bytes past its durable length.
    poisoned: bool,
    /// A segment that left the log and whose file may still be there.
    leaving: Option<PathBuf>,
}

impl Writer {
    pub fn new(log: Arc<TopicLog>, published: watch::Sender<Offset>, options: EmbeddedOptions) -> Writer {
        Writer { log, published, options, active: None, poisoned: false, leaving: None }
    }

    /// Works until every sender is gone and all that was queued is answered.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let (mut group, mut group_bytes, mut next) = (Vec::new(), 0, Some(first));
            while let Some(command) = next.take() {
                if let Command::Append(pending) = command {
                    group_bytes += pending.encoded.frame.len();
                    group.push(pending);
                }
                if group_bytes < MAX_GROUP_BYTES {
                    next = commands.try_recv().ok();
                }
            }
            // First, because the group may need the room.
            if let Err(error) = self.release() {
                tracing::warn!(topic = self.log.topic.name(), %error, "cannot delete released bus segments yet");
            }
            if !group.is_empty() {
                self.commit(group);
            }
        }
    }

    /// Makes a group durable and answers it, or refuses it.
    fn commit(&mut self, group: Vec<Pending>) {
        if let Err(error) = self.repair() {
            let reason = format!("the log is being repaired: {error}");
            return self.refuse(group, || BusError::Unavailable(reason.clone()));
        }
        let (admitted, refused, reason) = self.admit(group);
        if !refused.is_empty() {
            let topic = self.log.topic;
            self.refuse(refused, || BusError::Full { topic, reason: reason.clone() });
        }
        if admitted.is_empty() {
            return;
        }
        match self.write(&admitted) {
            Ok(written_bytes) => self.publish(admitted, written_bytes),
            Err(error) => self.fail(admitted, &error),
        }
    }

    /// Parts what there is room for from what there is not, in order; nothing passes a record that was refused.
    fn admit(&self, mut group: Vec<Pending>) -> (Vec<Pending>, Vec<Pending>, String) {
        let retained_bytes = self.log.state.lock().retained_bytes();
        let topic_room = self.options.max_topic_bytes.saturating_sub(retained_bytes + HEADER_BYTES as u64);
        // Where free space cannot be asked, the write itself will tell.
        let free_bytes = self.log.disk.free_bytes(&self.log.dir).unwrap_or(u64::MAX);
        let reserve_bytes = self.reserve_bytes();
        let disk_room = free_bytes.saturating_sub(reserve_bytes);
        let room = topic_room.min(disk_room);
        let mut bytes = 0;
        let fitting = group.iter().take_while(|pending| {
            bytes += pending.disk_bytes();
            bytes <= room
        });
        let fitting = fitting.count();
        let refused = group.split_off(fitting);
        let reason = if disk_room < topic_room {
            format!("{free_bytes} bytes are free on disk, {reserve_bytes} are reserved")
        } else {
            format!("{retained_bytes} bytes wait for the store, the limit is {}", self.options.max_topic_bytes)
        };
        (group, refused, reason)
    }

    /// Free space that is kept for publishing. Alerts may use half of it: their records are small, and "the disk is full"
    /// is one of them.
    fn reserve_bytes(&self) -> u64 {
        match self.log.topic {
            Topic::Alerts => self.options.reserve_bytes / 2,
            Topic::Metrics | Topic::Logs => self.options.reserve_bytes,
        }
    }

    fn refuse(&self, group: Vec<Pending>, error: impl Fn() -> BusError) {
        self.log.state.lock().refused += group.len() as u64;
        for pending in group {
            let _ = pending.answer.send(Err(error()));
        }
    }

    /// Appends a group and syncs it; returns the bytes it takes.
    fn write(&mut self, group: &[Pending]) -> io::Result<u64> {
        let end = self.log.state.lock().end;
        let mut buffer = Vec::with_capacity(group.iter().map(|pending| pending.disk_bytes() as usize).sum());
        for (offset, pending) in (end..).zip(group) {
            frame::write_frame(&mut buffer, &Frame { offset, synced: end, record: &pending.encoded.frame });
        }
        if self.active.is_none() {
            self.begin_segment()?;
        }
        let file = self.active.as_mut().ok_or_else(|| io::Error::other("no segment is open"))?;
        file.append(&buffer)?;
        file.sync()?;
        Ok(buffer.len() as u64)
    }

    /// Begins a segment at the end of the log, durable with its name, or goes on with an empty one that is there.
    fn begin_segment(&mut self) -> io::Result<()> {
        let log = &self.log;
        let (first, last) = {
            let state = log.state.lock();
            (state.end, state.segments.back().cloned())
        };
        if let Some(empty) = last.filter(|last| last.first == first) {
            self.active = Some(log.disk.append(&empty.path)?);
            return Ok(());
        }
        let path = log.dir.join(frame::segment_name(first));
        let mut file = log.disk.create(&path)?;
        let begun = file.append(&frame::segment_header(log.topic, first)).and_then(|()| file.sync());
        if let Err(error) = begun.and_then(|()| log.disk.sync_dir(&log.dir)) {
            // Without a whole header it is no segment; a start would remove it too.
            let _ = log.disk.remove(&path);
            return Err(error);
        }
        let mut state = log.state.lock();
        state.fsyncs += 1;
        state.segments.push_back(Segment { first, end: first, bytes: HEADER_BYTES as u64, path });
        self.active = Some(file);
        Ok(())
    }

    /// Shows a durable group to consumers, then answers its producers.
    fn publish(&mut self, group: Vec<Pending>, written_bytes: u64) {
        let mut state = self.log.state.lock();
        let first = state.end;
        for pending in &group {
            state.publish(pending.batch.clone());
        }
        let end = state.end;
        state.records += group.len() as u64;
        state.bytes += written_bytes;
        state.fsyncs += 1;
        let segment = state.segments.back_mut().expect("a group was written to a segment");
        segment.end = end;
        segment.bytes += written_bytes;
        if segment.bytes >= self.options.segment_bytes {
            self.active = None;
        }
        drop(state);
        self.published.send_replace(end);
        for (offset, pending) in (first..).zip(group) {
            let _ = pending.answer.send(Ok(offset));
        }
    }

    /// A write or a sync failed: closes the segment, cuts it back, and answers what is then true.
    fn fail(&mut self, group: Vec<Pending>, error: &io::Error) {
        tracing::warn!(topic = self.log.topic.name(), %error, "a bus write failed; its segment is closed");
        self.active = None;
        self.poisoned = true;
        let (topic, reason) = (self.log.topic, error.to_string());
        match (self.repair(), error.kind()) {
            (Ok(()), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                self.refuse(group, || BusError::Full { topic, reason: reason.clone() });
            }
            _ => self.refuse(group, || BusError::Unavailable(reason.clone())),
        }
    }

    /// Cuts the last segment back to its durable length, durably.
    fn repair(&mut self) -> io::Result<()> {
        if !self.poisoned {
            return Ok(());
        }
        let last = self.log.state.lock().segments.back().cloned();
        if let Some(Segment { path, bytes, .. }) = last {
            self.log.disk.truncate(&path, bytes)?;
            self.log.disk.append(&path)?.sync()?;
        }
        self.poisoned = false;
        Ok(())
    }

    /// Deletes segments that are published as a whole, oldest first, each durably, so that no crash leaves a gap.
    fn release(&mut self) -> io::Result<()> {
        loop {
            if let Some(path) = &self.leaving {
                match self.log.disk.remove(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => self.log.disk.sync_dir(&self.log.dir)?,
                }
                self.leaving = None;
            }
            let released = self.log.released.load(Ordering::Acquire);
            let (oldest, is_last) = {
                let state = self.log.state.lock();
                let Some(oldest) = state.segments.front() else { return Ok(()) };
                if oldest.end > released || oldest.first == oldest.end {
                    return Ok(());
                }
                (oldest.path.clone(), state.segments.len() == 1)
            };
            if is_last {
                // The next offset must outlive the segment, so an empty one takes over first.
                self.repair()?;
                self.begin_segment()?;
            }
            self.log.state.lock().segments.pop_front();
            self.leaving = Some(oldest);
        }
    }
}
