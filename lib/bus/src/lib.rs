//! The write path: topics of records on a durable log.
//!
//! Two implementations stand behind the trait [`Bus`]: [`EmbeddedBus`], a segmented log in this process, and
//! [`KafkaBus`], a producer and consumers on Apache Kafka. One conformance suite runs against both.
//!
//! # The promise
//! [`Bus::append`] returning `Ok(offset)` is the only acknowledgement there is. It means that the record is durable:
//! embedded, appended and fsynced (group commit); Kafka, acknowledged by all in-sync replicas from an idempotent
//! producer. It holds after `kill -9` of anything and, with the disk, after a power cut. Consumers see a record only
//! after it is durable, in offset order, without gaps that they would have to mend: offsets rise, and on the embedded bus
//! they are dense.
//!
//! # What the bus does not do
//! It keeps no consumer positions. A store writes the next offset into its own manifest together with the data and
//! subscribes from there; [`Bus::release`] only says that records below an offset are not needed any more.

mod embedded;
mod error;
mod held;
mod kafka;
#[cfg(feature = "mock")]
mod mock;
mod record;
mod route;

use std::sync::Arc;

use futures::future::BoxFuture;
use model::Batch;

pub use embedded::{EmbeddedBus, EmbeddedOptions, TopicStats};
pub use error::BusError;
pub use held::HeldBus;
pub use kafka::{KafkaBus, KafkaLine, KafkaLines, KafkaOptions};
#[cfg(feature = "mock")]
pub use mock::MockKafka;
pub use record::{MAX_RECORD_BYTES, decode, encode, split};
pub use route::{append_all, file_partition, route};

/// What a record is about. Its name on Kafka is `binnacle.<name>` with a configurable prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    Metrics,
    Logs,
    Alerts,
}

impl Topic {
    pub const ALL: [Topic; 3] = [Topic::Metrics, Topic::Logs, Topic::Alerts];

    pub fn name(self) -> &'static str {
        match self {
            Topic::Metrics => "metrics",
            Topic::Logs => "logs",
            Topic::Alerts => "alerts",
        }
    }
}

/// Position of a record in its partition.
pub type Offset = u64;

/// One record as a consumer sees it.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub offset: Offset,
    pub batch: Arc<Batch>,
}

/// The producing side: all that an agent or an ingest endpoint needs. Cheap to share; callable from any task.
pub trait Producer: Send + Sync {
    /// Partitions of a topic; at least one, never falling.
    fn partitions(&self, topic: Topic) -> u32;

    /// Makes one record durable and returns its offset. Waits under pressure. The batch must encode to at most
    /// [`MAX_RECORD_BYTES`]; [`split`] sees to that.
    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>>;
}

/// The whole log: what a store needs.
pub trait Bus: Producer {
    /// Names the log itself: a store whose manifest names another bus replays from the start.
    fn id(&self) -> String;

    /// The offset after the last acknowledged record: a reader that has applied everything below it has seen every
    /// acknowledgement given before the call.
    fn end_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>>;

    /// The first offset that can still be read.
    fn start_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>>;

    /// Reads a partition from an offset on. An offset outside the log is [`BusError::OutOfRange`].
    fn subscribe(
        &self,
        topic: Topic,
        partition: u32,
        from: Offset,
    ) -> BoxFuture<'_, Result<Box<dyn Consumer>, BusError>>;

    /// The store behind a partition has published everything below `upto`; the embedded log deletes whole segments
    /// below it, Kafka has its own retention.
    fn release(&self, topic: Topic, partition: u32, upto: Offset);

    /// Puts what a reader of a topic cannot use where people find it: a dead letter. Durable when this returns. Kafka has
    /// a topic for it, `<topic>.dead`; nobody but us writes to a log of our own, so there it is only said.
    fn put_aside(&self, topic: Topic, letter: String) -> BoxFuture<'_, Result<(), BusError>> {
        tracing::error!(topic = topic.name(), letter, "a message cannot be used");
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An open reading position.
pub trait Consumer: Send {
    /// The next durable record; waits for one to be appended. Cancelling loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Delivery, BusError>>;
}

/// The partition for a key, by the key's hash ([`model::Labels::partition_hash`], [`model::FileId`]).
pub fn partition_for(hash: u64, partitions: u32) -> u32 {
    assert!(partitions > 0);
    (hash % u64::from(partitions)) as u32
}
