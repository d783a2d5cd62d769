//! The embedded bus: one segmented log per topic in this process. Bytes on disk: `docs/format/bus-segment.md`.
//!
//! # Contracts
//! - **Acknowledgement.** One writer thread per topic takes all that is queued, appends it, calls fsync once and only then
//!   answers the producers and shows the records to consumers. What was answered with an offset is therefore on the disk.
//! - **Refusal.** [`BusError::Full`] means that the record is not in the log and never will be: nothing of it was written,
//!   or the segment was cut back to its last fsynced record and that cut was itself fsynced. [`BusError::Unavailable`]
//!   says nothing either way.
//! - **Failure.** A failed write or fsync poisons its segment: it is cut back as above, closed for good, and a new one is
//!   begun. While cutting fails, every append is answered `Unavailable` and nothing is written.
//! - **Order.** Offsets are dense and given in the order of writing. Consumers see each once, from their offset on.
//! - **Pressure.** Queued bytes are bounded; [`Producer::append`] waits for room. Once retained bytes reach the topic's
//!   bound, or free space the reserve, appends answer `Full` until [`Bus::release`] or somebody else makes room.
//!
//! Topics have one partition. One process at a time: the directory is locked.

mod consumer;
mod frame;
mod recovery;
mod topic;
mod writer;

#[cfg(test)]
mod crash_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use disk::{Disk, DiskLock};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::record::{Packing, encode_bounded};
use crate::{Bus, BusError, Consumer, Offset, Producer, Topic};
use consumer::EmbeddedConsumer;
use topic::TopicLog;
use writer::{Command, Pending, Writer};

/// Bounds of the embedded log; all of them per topic but the reserve.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// A segment past this is closed and another begun.
    pub segment_bytes: u64,
    /// Appends are refused rather than retaining more than this.
    pub max_topic_bytes: u64,
    /// Free space that the bus leaves to the stores, so that they can publish and release what it holds.
    pub reserve_bytes: u64,
    /// Encoded bytes of records that wait for the writer.
    pub queue_bytes: usize,
    /// Memory (by [`Batch::memory_bytes`]) of recent records kept for consumers.
    pub tail_bytes: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions {
            segment_bytes: 64 << 20,
            max_topic_bytes: 8 << 30,
            reserve_bytes: 512 << 20,
            queue_bytes: 16 << 20,
            tail_bytes: 32 << 20,
        }
    }
}

/// Gauges and counters of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicStats {
    pub topic: Topic,
    /// Records and bytes acknowledged since the start of this process.
    pub records: u64,
    pub bytes: u64,
    /// Bytes of all segments on disk.
    pub retained_bytes: u64,
    pub fsyncs: u64,
    /// Records refused: full, or poisoned.
    pub refused: u64,
    pub start_offset: Offset,
    pub end_offset: Offset,
}

/// Queued records are counted at no less than this, which bounds their number.
const MIN_QUEUED_BYTES: usize = 1024;

pub struct EmbeddedBus {
    id: String,
    /// Indexed by `Topic as usize`.
    topics: Vec<TopicHandle>,
    _lock: Box<dyn DiskLock>,
}

struct TopicHandle {
    log: Arc<TopicLog>,
    commands: Option<mpsc::Sender<Command>>,
    queue_room: Arc<Semaphore>,
    queue_bytes: usize,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedBus {
    /// Opens the log in a directory, or begins one. Verifies the last segment of each topic and cuts its torn end.
    pub fn open(disk: Arc<dyn Disk>, dir: impl AsRef<Path>, options: EmbeddedOptions) -> Result<EmbeddedBus, BusError> {
        let dir = dir.as_ref();
        disk.create_dir_all(dir).map_err(io_error("cannot create the bus directory", dir))?;
        let lock_path = dir.join("lock");
        let lock = disk.lock(&lock_path).map_err(io_error("another process has the bus open", &lock_path))?;
        let id = read_id(disk.as_ref(), &dir.join("bus-id"))?;
        let open = |topic| TopicHandle::open(disk.clone(), dir, topic, options.clone());
        let topics = Topic::ALL.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(EmbeddedBus { id, topics, _lock: lock })
    }

    pub fn stats(&self) -> Vec<TopicStats> {
        self.topics.iter().map(|handle| handle.log.stats()).collect()
    }

    fn topic(&self, topic: Topic, partition: u32) -> &TopicHandle {
        assert_eq!(partition, 0, "embedded topics have one partition");
        &self.topics[topic as usize]
    }
}

fn io_error<'a>(context: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> BusError + use<'a> {
    move |source| BusError::Io { context, path: PathBuf::from(path), source }
}

/// The log's identity, minted when the directory is new.
fn read_id(disk: &dyn Disk, path: &Path) -> Result<String, BusError> {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = uuid::Uuid::new_v4().to_string();
            disk::write_atomically(disk, path, id.as_bytes()).map_err(io_error("cannot write the bus id", path))?;
            return Ok(id);
        }
        // Not readable is not absent: a new id would make every store start over.
        Err(error) => return Err(io_error("cannot read the bus id", path)(error)),
    };
    let id = uuid::Uuid::try_parse_ascii(bytes.trim_ascii());
    Ok(id.map_err(|error| BusError::Corrupt(format!("{}: no bus id: {error}", path.display())))?.to_string())
}

impl TopicHandle {
    fn open(disk: Arc<dyn Disk>, dir: &Path, topic: Topic, options: EmbeddedOptions) -> Result<TopicHandle, BusError> {
        let dir = dir.join(topic.name());
        disk.create_dir_all(&dir).map_err(io_error("cannot create the topic directory", &dir))?;
        let segments = recovery::recover(disk.as_ref(), &dir, topic)?;
        let queue_bytes = options.queue_bytes.clamp(crate::MAX_RECORD_BYTES, Semaphore::MAX_PERMITS.min(1 << 30));
        let (commands, receiver) = mpsc::channel(queue_bytes / MIN_QUEUED_BYTES + 1);
        let (log, published) = TopicLog::new(disk, topic, dir, segments, options.tail_bytes);
        let writer = Writer::new(log.clone(), published, options);
        let writer = std::thread::Builder::new()
            .name(format!("bus-{}", topic.name()))
            .spawn(move || writer.run(receiver))
            .map_err(|error| BusError::Unavailable(format!("cannot start the writer thread: {error}")))?;
        let queue_room = Arc::new(Semaphore::new(queue_bytes));
        Ok(TopicHandle { log, commands: Some(commands), queue_room, queue_bytes, writer: Some(writer) })
    }

    async fn append(&self, batch: Arc<Batch>) -> Result<Offset, BusError> {
        let encoded = encode_bounded(&batch, Packing::Quick)?;
        let permits = encoded.frame.len().clamp(MIN_QUEUED_BYTES, self.queue_bytes) as u32;
        let room = self.queue_room.clone().acquire_many_owned(permits).await.map_err(|_| BusError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { batch, encoded, answer, _room: room };
        let commands = self.commands.as_ref().ok_or(BusError::Closed)?;
        commands.send(Command::Append(pending)).await.map_err(|_| BusError::Closed)?;
        answered.await.map_err(|_| BusError::Closed)?
    }
}

impl Drop for TopicHandle {
    /// Lets the writer finish what is queued, so that a lock released after this covers nothing still moving.
    fn drop(&mut self) {
        self.commands = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(topic = self.log.topic.name(), "the bus writer panicked");
        }
    }
}

impl Producer for EmbeddedBus {
    fn partitions(&self, _topic: Topic) -> u32 {
        1
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.topic(topic, partition).append(batch).boxed()
    }
}

impl Bus for EmbeddedBus {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn end_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        let end = self.topic(topic, partition).log.state.lock().end;
        futures::future::ready(Ok(end)).boxed()
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        let start = self.topic(topic, partition).log.state.lock().start();
        futures::future::ready(Ok(start)).boxed()
    }

    fn subscribe(
        &self,
        topic: Topic,
        partition: u32,
        from: Offset,
    ) -> BoxFuture<'_, Result<Box<dyn Consumer>, BusError>> {
        let opened = EmbeddedConsumer::open(self.topic(topic, partition).log.clone(), from);
        futures::future::ready(opened.map(|consumer| Box::new(consumer) as Box<dyn Consumer>)).boxed()
    }

    fn release(&self, topic: Topic, partition: u32, upto: Offset) {
        let handle = self.topic(topic, partition);
        handle.log.released.fetch_max(upto, Ordering::AcqRel);
        // A full queue is no loss: the writer looks at `released` before every commit.
        let _ = handle.commands.as_ref().map(|commands| commands.try_send(Command::Release));
    }
}
